"""What happened, as events: one row for each change that a partner or an operator cares about.

The row is written in the transaction of its cause, under the subscription's lock, so that the numbering has no gaps
and no event tells what the tables do not hold.
"""

from __future__ import annotations

import logging
from typing import Any

from invoice.clock import utc_now
from invoice.store.db import db
from invoice.store.models import Event, Subscription

logger = logging.getLogger(__name__)

# type -> what it tells
EVENTS = {
    "subscription.requested": "A partner asked for a subscription.",
    "subscription.refused": "Vipps refused the first draft; the partner was told.",
    "subscription.activated": "The person accepted.",
    "subscription.cancelling": "A cancel was accepted; nothing is created any more.",
    "subscription.cancelled": "Vipps has confirmed the end.",
    "subscription.stopped": "Ended at Vipps: by the person in the app, or with the person's profile.",
    "subscription.expired": "The link ran out before anybody accepted.",
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


def record(subscription: Subscription, event_type: str, **data: Any) -> None:
    """Add an event to a subscription's timeline. The caller holds the subscription's lock."""
    if event_type not in EVENTS:
        raise LookupError(f"{event_type} stands in no table of events.")
    subscription.event_count += 1
    event = Event(
        subscription_id=subscription.id,
        seq=subscription.event_count,
        type=event_type,
        occurred_at=utc_now(),
        data=data,
    )
    db.session.add(event)
    logger.info("%s: subscription %s", event_type, subscription.id, extra={"subscription_id": subscription.id, **data})
