"""The tables, a file for each noun.

Amounts are integer minor units. `_at` is an instant (UTC), `_on` a market date. Every status column is checked
against its enum.
"""

from invoice.store.models.charges import Charge, Refund
from invoice.store.models.control import EVERYONE, Brake, Break, PartnerDay
from invoice.store.models.deliveries import CallbackLogin, Delivery, EventEndpoint, Lane
from invoice.store.models.idempotency import IdempotencyKey
from invoice.store.models.inbox import InboundEvent, WebhookRegistration
from invoice.store.models.messages import Message
from invoice.store.models.partners import Partner, PartnerSecret, ProviderAccount, UsedNonce
from invoice.store.models.subscriptions import Agreement, Change, Event, Subscription
from invoice.store.models.work import JobRun, Operation, RateLimit

__all__ = [
    "EVERYONE",
    "Agreement",
    "Brake",
    "Break",
    "CallbackLogin",
    "Change",
    "Charge",
    "Delivery",
    "Event",
    "EventEndpoint",
    "IdempotencyKey",
    "InboundEvent",
    "JobRun",
    "Lane",
    "Message",
    "Operation",
    "Partner",
    "PartnerDay",
    "PartnerSecret",
    "ProviderAccount",
    "RateLimit",
    "Refund",
    "Subscription",
    "UsedNonce",
    "WebhookRegistration",
]
