"""A subscription that ends with the period that is paid for; until then that can be taken back.

Nothing may fall due on the day of the end or later. What was due before it is still collected: the agreement is
stopped only when no such charge is under way any more, because a stop would call it off.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import select

from invoice.clock import MARKET_ZONES, business_date, utc_now
from invoice.errors import Conflict
from invoice.lifecycle import CHARGE_OPEN, ChargeStatus, SubscriptionStatus
from invoice.names import charge_name
from invoice.schedule import interval_around
from invoice.services import cancels, outbox, stops
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Event, Subscription

ENDING = "subscription.ending"


def end_with_period(subscription_id: int) -> date:
    """Have a subscription end with the period that is paid for; return the first day that is not.

    A second time changes nothing. Raises Conflict when it is not active.
    """
    with transaction():
        subscription = queries.lock_subscription(subscription_id)
        if subscription.status != SubscriptionStatus.ACTIVE or subscription.anchor_on is None:
            raise Conflict("Only an active subscription can be ended with its period.")
        if subscription.stop_on is not None:
            return subscription.stop_on
        today = business_date(queries.market_of(subscription.partner_id))
        _, subscription.stop_on = interval_around(subscription.anchor_on, subscription.interval, today)
        # Told first: what is called off from this instant on is called off for it, and comes back with `keep`.
        outbox.record(subscription, ENDING, on=subscription.stop_on.isoformat())
        for charge in queries.lock_charges_due_from(subscription.id, subscription.stop_on):
            cancels.request_cancel(subscription, charge)
        return subscription.stop_on


def keep(subscription_id: int) -> None:
    """Take the end back, and have the periods paid that were called off for it.

    Raises Conflict when it is too late, or while Vipps is still calling them off.
    """
    with transaction():
        subscription = queries.lock_subscription(subscription_id)
        today = business_date(queries.market_of(subscription.partner_id))
        stop_on = subscription.stop_on
        if subscription.status != SubscriptionStatus.ACTIVE or stop_on is None or today >= stop_on:
            raise Conflict("There is no end that could be taken back.")
        called_off = _called_off_for(subscription, stop_on)
        if any(charge.status in CHARGE_OPEN for charge in called_off):
            raise Conflict("A payment is just being called off; ask again in a minute.")
        subscription.stop_on = None
        # Only where planning had come to the end it goes on at once.
        subscription.next_plan_on = subscription.next_plan_on or today
        rows = [row for charge in called_off if (row := _revive(subscription, charge))]
        queries.insert_ignoring(Charge, rows)
        outbox.record(subscription, "subscription.kept")
        unsent = [charge.period for charge in called_off if charge.status == ChargeStatus.PLANNED and not charge.sends]
        _tell_price_from(subscription, [*unsent, *(row["period"] for row in rows)])


def _tell_price_from(subscription: Subscription, periods: Sequence[int]) -> None:
    """A price that changed while these periods were called off counts from them on, which is earlier than was told."""
    if periods and queries.bring_changes_forward(subscription.id, min(periods)):
        facts = {"amount": subscription.amount, "from_period": min(periods)}
        outbox.record(subscription, "subscription.changed", **facts)


def _called_off_for(subscription: Subscription, stop_on: date) -> list[Charge]:
    """Return the periods that were called off for this end; what was called off before for its own sake stays so."""
    mine = (Event.subscription_id == subscription.id, Event.type == ENDING)
    asked_at = db.session.scalars(select(Event.occurred_at).where(*mine).order_by(Event.seq.desc()).limit(1)).one()
    called_off = queries.charges_called_off(subscription.id, stop_on)
    return [c for c in called_off if c.cancel_requested_at is not None and c.cancel_requested_at >= asked_at]


def _revive(subscription: Subscription, charge: Charge) -> dict[str, Any] | None:
    """Put a period back into the books: under its old name if Vipps never had it, else as the next attempt."""
    charge.cancel_requested_at = None
    if charge.status == ChargeStatus.VOID:
        charge.status = ChargeStatus.PLANNED
        if not charge.sends:  # what has left the house keeps its price: it may turn up at Vipps
            charge.amount = subscription.amount
        return None
    if charge.status != ChargeStatus.CANCELLED:
        return None  # taken all the same, or failed: the period has had its payment
    kept = (
        "subscription_id",
        "agreement_id",
        "account",
        "period",
        "currency",
        "due_on",
        "submit_on",
        "retry_days",
        "is_reserved",
    )
    return {
        **{name: getattr(charge, name) for name in kept},
        "attempt": charge.attempt + 1,
        "name": charge_name(subscription.ulid, charge.period, charge.attempt + 1),
        "amount": subscription.amount,
        "status": ChargeStatus.PLANNED,
        "is_surplus": False,
        "sends": 0,
        "captured": 0,
        "refunded": 0,
        "created_at": utc_now(),
    }


def over() -> Sequence[int]:
    """Return the subscriptions whose paid period is over, and with it everything that was due in it."""
    with reading():
        return [
            subscription_id
            for market in MARKET_ZONES
            for subscription_id in queries.subscriptions_to_end(market, business_date(market), 200)
        ]


def end(subscription_id: int) -> None:
    """Cancel a subscription whose paid period is over, unless its end was taken back."""
    with transaction():
        subscription = queries.lock_subscription(subscription_id)
        today = business_date(queries.market_of(subscription.partner_id))
        is_over = subscription.stop_on is not None and subscription.stop_on <= today
        if subscription.status == SubscriptionStatus.ACTIVE and is_over:
            stops.begin_cancel(subscription)
