"""The tables, a file for each noun.

Amounts are integer minor units. `_at` is an instant (UTC), `_on` a market date. Every status column is checked
against its enum.
"""

from invoice.store.models.charges import Charge, Refund
from invoice.store.models.inbox import InboundEvent, WebhookRegistration
from invoice.store.models.messages import Message
from invoice.store.models.partners import Partner, PartnerSecret, ProviderAccount
from invoice.store.models.subscriptions import Agreement, Change, Event, Subscription
from invoice.store.models.work import JobRun, Operation, RateLimit

__all__ = [
    "Agreement",
    "Change",
    "Charge",
    "Event",
    "InboundEvent",
    "JobRun",
    "Message",
    "Operation",
    "Partner",
    "PartnerSecret",
    "ProviderAccount",
    "RateLimit",
    "Refund",
    "Subscription",
    "WebhookRegistration",
]
