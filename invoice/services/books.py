"""A charge's row moves as the provider says: the one place where it does, forward only.

Both the life of a consent (a stop reads all charges back) and the life of a payment come here; they meet in the
tables and in this file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta

from sqlalchemy import select

from invoice.clock import utc_now
from invoice.lifecycle import CHARGE_MOVES, CHARGE_OPEN, ChargeStatus, may_move
from invoice.providers.base import ChargeView
from invoice.schedule import capture_life, next_charge_look
from invoice.services import brakes, outbox, refunds
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Agreement, Charge, Partner, Subscription

logger = logging.getLogger(__name__)

# What a webhook says of a charge that a batch took in; nobody knows more until it is looked at.
NOT_CREATED = "Vipps took it in and could not create it"
_QUARANTINED = "quarantined: the provider's charge of this name differs"

UNSENT = frozenset({ChargeStatus.PLANNED, ChargeStatus.VOID})

# When each charge is to be looked at, by name: a doorbell sets it to now.
Bells = Mapping[str, datetime | None]

_WARN_BEFORE = timedelta(days=7)
# How often the charges of an agreement are compared with the provider's, for as long as money can go back.
READ_BACK_EVERY = timedelta(days=7)
_RESERVED_LOOK = timedelta(days=1)

# What each state at the provider is told as. The states before it are our own business.
EVENT_OF = {
    ChargeStatus.RESERVED: "charge.reserved",
    ChargeStatus.CHARGED: "charge.charged",
    ChargeStatus.FAILED: "charge.failed",
    ChargeStatus.CANCELLED: "charge.cancelled",
    ChargeStatus.PARTIALLY_REFUNDED: "charge.partially_refunded",
    ChargeStatus.REFUNDED: "charge.refunded",
}


def enter_initial(subscription: Subscription, agreement: Agreement, *, signed_on: date, is_surplus: bool) -> Charge:
    """Write the initial charge of an accepted agreement into the books, under the name that its draft gave it."""
    now = utc_now()
    charge = Charge(
        subscription_id=subscription.id,
        agreement_id=agreement.id,
        account=agreement.account,
        period=0,
        attempt=agreement.attempt,
        name=agreement.initial_name,
        amount=agreement.initial_amount,
        currency=subscription.currency,
        due_on=signed_on,
        submit_on=signed_on,
        retry_days=0,  # it was taken at signing, or the agreement is not active
        status=ChargeStatus.SUBMITTED,
        is_reserved=subscription.reserves_initial,
        is_surplus=is_surplus,
        captured=0,
        refunded=0,
        created_at=now,
        check_at=now,
    )
    db.session.add(charge)
    db.session.flush()
    return charge


def adopt(subscription: Subscription, charge: Charge, view: ChargeView, *, bells: Bells) -> None:
    """Bring a charge up to what the provider says. The caller holds the subscription's lock, and the row's.

    A charge of our name with another agreement, amount or currency is not ours: it is set aside, never written over.

    bells: as they were before the provider was asked. Where one has rung since, or nobody knows, the charge is looked
    at once more: what it rang for may have come after the answer.
    """
    is_due = charge.check_at is not None and charge.check_at <= utc_now()
    was_rung = is_due or charge.name not in bells or charge.check_at != bells[charge.name]
    if _is_ours(charge, view):
        _move(subscription, charge, view)
    else:
        _quarantine(subscription, charge)
    if was_rung:
        charge.check_at = utc_now()


def _move(subscription: Subscription, charge: Charge, view: ChargeView) -> None:
    # Seen at the provider: from now on no silence can make it unsent again.
    charge.operation_id = None
    charge.failure_reason = view.failure_reason
    charge.captured = max(charge.captured, view.captured)
    charge.refunded = max(charge.refunded, view.refunded)
    if charge.captured:
        charge.captured_at = charge.captured_at or view.captured_at or utc_now()
        agreement = db.session.get_one(Agreement, charge.agreement_id)
        agreement.read_back_at = agreement.read_back_at or utc_now() + READ_BACK_EVERY
    if view.status is not None and may_move(CHARGE_MOVES, charge.status, view.status):
        charge.status = view.status
        _watch_deadline(subscription, charge, view)
        _tell(subscription, charge)
    charge.check_at = next_look(charge)
    refunds.give_back_if_due(subscription, charge)


def _watch_deadline(subscription: Subscription, charge: Charge, view: ChargeView) -> None:
    """Know until when a reservation can be captured, and when to say so; nothing of it when it is over."""
    charge.capture_by = charge.warn_at = None
    if charge.status == ChargeStatus.RESERVED:
        market = queries.market_of(subscription.partner_id)
        charge.capture_by = (view.reserved_at or utc_now()) + capture_life(market)
        charge.warn_at = charge.capture_by - min(capture_life(market) / 4, _WARN_BEFORE)


def next_look(charge: Charge) -> datetime | None:
    """Return when to ask about a charge again, or None when nothing more is expected."""
    if charge.status not in CHARGE_OPEN:
        return None
    if charge.status == ChargeStatus.RESERVED:
        return utc_now() + _RESERVED_LOOK
    market = select(Partner.market).join(Subscription).where(Subscription.id == charge.subscription_id)
    return next_charge_look(charge.due_on, charge.retry_days, db.session.scalars(market).one(), utc_now())


def _is_ours(charge: Charge, view: ChargeView) -> bool:
    agreement = db.session.get_one(Agreement, charge.agreement_id)
    ours = (charge.name, agreement.provider_agreement_id, charge.amount, charge.currency)
    is_sane = 0 <= view.refunded <= view.captured <= view.amount
    return is_sane and ours == (view.name, view.agreement_id, view.amount, view.currency)


def _quarantine(subscription: Subscription, charge: Charge) -> None:
    charge.check_at = None
    if charge.failure_reason == _QUARANTINED:
        return
    if charge.sends == 0 and charge.status in UNSENT and brakes.is_frozen():
        return  # it was sent after the backup, at another price: it is read back
    logger.error("Charge %s at the provider is not the one that we named so.", charge.name)
    charge.failure_reason = _QUARANTINED
    if charge.status == ChargeStatus.SUBMITTING:
        charge.status = ChargeStatus.REFUSED  # it holds its period, and nobody up
    outbox.record(subscription, "charge.quarantined", charge=charge.name)


def _tell(subscription: Subscription, charge: Charge) -> None:
    event_type = EVENT_OF.get(charge.status)
    if event_type is None:
        return
    period = None if charge.is_extra else charge.period
    facts = {"charge": charge.name, "period": period, "amount": charge.amount, "currency": charge.currency}
    if charge.failure_reason:
        facts["reason"] = charge.failure_reason
    outbox.record(subscription, event_type, **facts)
