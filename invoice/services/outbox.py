"""What happened, as events: one row for each change that a partner or an operator cares about.

The row is written in the transaction of its cause, under the subscription's lock, so that the numbering has no gaps
and no event tells what the tables do not hold. In the same transaction goes what we owe the partner for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from invoice import request_ids
from invoice.clock import utc_now
from invoice.money import to_major
from invoice.names import event_id, transaction_id
from invoice.services import deliveries
from invoice.store.db import db
from invoice.store.models import Event, Subscription

logger = logging.getLogger(__name__)

# type -> what it tells
EVENTS = {
    "subscription.requested": "A partner asked for a subscription.",
    "subscription.adopted": "An agreement that was signed elsewhere is used here from now on.",
    "subscription.refused": "Vipps refused the first draft; the partner was told.",
    "subscription.activated": "The person accepted.",
    "subscription.cancelling": "A cancel was accepted; nothing is created any more.",
    "subscription.cancelled": "Vipps has confirmed the end.",
    "subscription.stopped": "Ended at Vipps: by the person in the app, or with the person's profile.",
    "subscription.expired": "The link ran out before anybody accepted.",
    "consent.opened": "The person pressed the button and was led to Vipps.",
    "consent.declined": "The person turned the request down in the app.",
    "consent.expired": "The request in the app ran out of time.",
    "consent.refused": "Vipps refused to draft a further request.",
    "consent.surplus": "An agreement was accepted that must not be; it is stopped and its money given back.",
    "message.accepted": "The SMS provider took the text.",
    "message.sent": "The text is on its way to the phone.",
    "message.delivered": "The phone has the text.",
    "message.undelivered": "The text did not reach the phone.",
    "message.failed": "The text could not be sent.",
    "charge.reserved": "The money is reserved.",
    "charge.capture_due": "Money that is set aside must be captured soon, or Vipps lets it go.",
    "charge.charged": "A period was paid.",
    "charge.failed": "The last retry at Vipps is over.",
    "charge.cancelled": "Vipps cancelled a charge.",
    "charge.cancel_failed": "A charge was taken before it could be called off.",
    "charge.refused": "Vipps would not create a charge; an operator must look.",
    "charge.quarantined": "Vipps' charge of this name is not ours; an operator must look.",
    "charge.partially_refunded": "A part was given back.",
    "charge.refunded": "All was given back.",
    "capture.failed": "Vipps refused to capture; the reservation may be over.",
    "subscription.change_requested": "A new price or new words are on their way to the app.",
    "subscription.changed": "The app shows the new price or words; what is not submitted yet is charged so.",
    "subscription.change_failed": "Vipps refused the new price or words; everything stays as it was.",
    "subscription.ending": "It ends with the period that is paid for; until then that can be taken back.",
    "subscription.kept": "The end was taken back.",
    "refund.failed": "Vipps refused to give money back; an operator must look.",
}


# fact as it is recorded -> (its name for partners, how it is written). Phone numbers and names are none of them.
FACTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "amount": ("amount", to_major),
    "anchor": ("startDate", str),
    "attempt": ("attempt", int),
    "by": ("captureBeforeUtc", str),
    "charge": ("referenceId", str),
    "currency": ("currency", str),
    "error": ("errorCode", str),
    "from_period": ("fromPeriod", int),
    "goes_at": ("changeUtc", str),
    "message": ("messageId", int),
    "on": ("endDate", str),
    "order": ("orderNumber", str),
    "period": ("period", int),
    "reason": ("reason", str),
    "segments": ("smsNotificationParts", int),
    "sms": ("sendSMS", bool),
}


def record(subscription: Subscription, event_type: str, **data: Any) -> None:
    """Add an event to a subscription's timeline, and to what its partner is told. The caller holds the lock.

    Raises LookupError for a type or a fact that partners have no name for: it belongs into EVENTS or FACTS.
    """
    unknown = {event_type} - EVENTS.keys() | data.keys() - FACTS.keys()
    if unknown:
        raise LookupError(f"{', '.join(sorted(unknown))}: not in the tables of events and facts.")
    if data.get("amount") is not None:
        data.setdefault("currency", subscription.currency)
    subscription.event_count += 1
    facts = json.dumps(data, sort_keys=True)
    event = Event(
        public_id=event_id(subscription.ulid, subscription.event_count, event_type, facts),
        partner_id=subscription.partner_id,
        subscription_id=subscription.id,
        seq=subscription.event_count,
        type=event_type,
        occurred_at=utc_now(),
        request_id=request_ids.current(),
        data=data,
    )
    db.session.add(event)
    db.session.flush()
    deliveries.owe(subscription, event, body_of(event))
    # In a dictionary of their own: a fact may be called what logging itself calls something ("message").
    extra = {"subscription_id": subscription.id, "facts": data}
    logger.info("%s: subscription %s", event_type, subscription.id, extra=extra)


def payload(event: Event) -> dict[str, Any]:
    """Return an event as partners read it, pushed or pulled."""
    known = {name: value for name, value in event.data.items() if value is not None}
    data = {FACTS[name][0]: FACTS[name][1](value) for name, value in known.items()}
    if "charge" in known:
        data["transactionId"] = transaction_id(known["charge"])
    return {
        "id": event.public_id,
        "type": event.type,
        "occurredAt": instant(event.occurred_at),
        "sequence": event.seq,
        "subscriptionId": event.subscription_id,
        "requestId": event.request_id,
        "data": data,
    }


def body_of(event: Event) -> str:
    """Return the very text of a signed event."""
    return json.dumps(payload(event), ensure_ascii=False, separators=(",", ":"))


def instant(at: datetime) -> str:
    """Return an instant as partners read it: 2026-11-10T11:00:00.000Z."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
