"""Charges: the books."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from invoice.lifecycle import CHARGE_OPEN, ChargeStatus, SubscriptionStatus
from invoice.store.db import db
from invoice.store.models import Agreement, Charge, Partner, Subscription
from invoice.store.queries.due import is_braked, is_to_submit


def _can_be_submitted(market: str, today: date, since: date) -> ColumnElement[bool]:
    """A planned charge to create today, of a subscription that is still active; joined to it and to its partner.

    One that is late waits until those before it are settled; for one at the provider only while it fell due at or
    after `since`, so that one that was set aside holds nobody up for ever.
    """
    earlier, unsent = aliased(Charge), [ChargeStatus.PLANNED, ChargeStatus.SUBMITTING]
    must_wait = and_(
        Charge.due_on <= today,
        exists().where(
            earlier.subscription_id == Charge.subscription_id,
            earlier.period > 0,
            earlier.period < Charge.period,
            earlier.status.in_(CHARGE_OPEN),
            or_(earlier.status.in_(unsent), earlier.due_on >= since),
        ),
    )
    return and_(
        is_to_submit(today),
        Subscription.status == SubscriptionStatus.ACTIVE,
        Partner.market == market,
        Partner.suspended_at.is_(None),
        ~is_braked(Partner.id),
        ~must_wait,
    )


def is_any_to_submit(market: str, today: date, since: date) -> bool:
    """Tell whether `lock_charges_to_submit` would find one, or somebody else has it in hand; locks nothing."""
    found = (
        select(Charge.id)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Partner, Partner.id == Subscription.partner_id)
        .where(_can_be_submitted(market, today, since))
    )
    return db.session.scalar(found.limit(1)) is not None


def lock_charges_to_submit(
    market: str, today: date, since: date, limit: int
) -> Sequence[tuple[Charge, Agreement, Subscription]]:
    """Planned charges that may be created today, locked; those in other hands are skipped."""
    rows = db.session.execute(
        select(Charge, Agreement, Subscription)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Agreement, Agreement.id == Charge.agreement_id)
        .join(Partner, Partner.id == Subscription.partner_id)
        .where(_can_be_submitted(market, today, since))
        .order_by(Charge.submit_on, Charge.id)
        .limit(limit)
        .with_for_update(of=Charge, skip_locked=True)
    )
    return [(c, a, s) for c, a, s in rows]


def charge_by_name(account: str, name: str) -> Charge | None:
    """The charge that is named so in an account at the provider."""
    return db.session.scalar(select(Charge).where(Charge.account == account, Charge.name == name))


def lock_charges_named(account: str, names: Sequence[str]) -> dict[str, Charge]:
    """Those charges of an account that have one of these names, by name; locked in the order that everybody takes."""
    found: list[Charge] = []
    for start in range(0, len(names), 500):
        chosen = (Charge.account == account, Charge.name.in_(names[start : start + 500]))
        locked = select(Charge).where(*chosen).order_by(Charge.id).with_for_update()
        found += db.session.scalars(locked.execution_options(populate_existing=True))
    return {charge.name: charge for charge in found}


def bells_of(agreement_id: int) -> dict[str, datetime | None]:
    """When each charge of an agreement is to be looked at, by name."""
    rows = db.session.execute(select(Charge.name, Charge.check_at).where(Charge.agreement_id == agreement_id))
    return {row.name: row.check_at for row in rows}


def last_capture(agreement_id: int) -> datetime | None:
    """When money was last taken under an agreement, or None if it never was."""
    return db.session.scalar(select(func.max(Charge.captured_at)).where(Charge.agreement_id == agreement_id))


def charge_of(subscription_id: int, name: str) -> Charge | None:
    """The charge of a subscription that is named so."""
    mine = (Charge.subscription_id == subscription_id, Charge.name == name)
    return db.session.scalar(select(Charge).where(*mine).order_by(Charge.id).limit(1))


def charges_of(subscription_id: int) -> Sequence[Charge]:
    """All charges of a subscription, newest first."""
    return db.session.scalars(
        select(Charge)
        .where(Charge.subscription_id == subscription_id)
        .order_by(Charge.due_on.desc(), Charge.id.desc())
        .limit(1000)
    ).all()


def next_due_dates(subscription_ids: Sequence[int]) -> dict[int, date]:
    """For each of these subscriptions the earliest due date that is still on its way."""
    rows = db.session.execute(
        select(Charge.subscription_id, func.min(Charge.due_on).label("due_on"))
        .where(Charge.subscription_id.in_(subscription_ids), Charge.status.in_(CHARGE_OPEN), Charge.period > 0)
        .group_by(Charge.subscription_id)
    )
    return {row.subscription_id: row.due_on for row in rows}


def has_open_charge(subscription_id: int, since: date) -> bool:
    """Tell whether a renewal is still on its way: one at Vipps that fell due at or after `since`, or any that waits."""
    unsent = Charge.status.in_([ChargeStatus.PLANNED, ChargeStatus.SUBMITTING])
    is_open = (Charge.period > 0, Charge.status.in_(CHARGE_OPEN), or_(unsent, Charge.due_on >= since))
    found = select(Charge.id).where(Charge.subscription_id == subscription_id, *is_open).limit(1)
    return db.session.scalar(found) is not None


def due_dates(subscription_id: int, *, except_for: int | None = None) -> Sequence[date]:
    """The due dates of a subscription's charges, sent or planned, extra ones aside; `except_for` is a charge's id."""
    never = [ChargeStatus.VOID, ChargeStatus.REFUSED]
    mine = (Charge.subscription_id == subscription_id, Charge.id != (except_for or 0))
    held = (*mine, Charge.status.not_in(never), ~Charge.is_extra)
    return db.session.scalars(select(Charge.due_on).where(*held).order_by(Charge.due_on)).all()


def has_unsent_renewal(subscription_id: int, first_on: date, end_on: date) -> bool:
    """Tell whether a renewal that falls due from `first_on` on and before `end_on` may still have to leave."""
    unsent = Charge.status.in_([ChargeStatus.PLANNED, ChargeStatus.SUBMITTING])
    mine = (Charge.subscription_id == subscription_id, Charge.period > 0, unsent)
    span = (Charge.due_on >= first_on, Charge.due_on < end_on)
    return db.session.scalar(select(Charge.id).where(*mine, *span).limit(1)) is not None


def sum_due_between(subscription_id: int, first_on: date, end_on: date) -> int:
    """What a subscription's renewals and extra charges come to that fall due from `first_on` on and before `end_on`."""
    never = [ChargeStatus.VOID, ChargeStatus.REFUSED, ChargeStatus.FAILED, ChargeStatus.CANCELLED]
    held = (Charge.subscription_id == subscription_id, Charge.period != 0, Charge.status.not_in(never))
    span = (Charge.due_on >= first_on, Charge.due_on < end_on)
    return int(db.session.scalar(select(func.coalesce(func.sum(Charge.amount), 0)).where(*held, *span)) or 0)


def charges_to_warn_of(now: datetime, limit: int) -> Sequence[int]:
    """Reservations whose deadline comes near."""
    return db.session.scalars(select(Charge.id).where(Charge.warn_at <= now).order_by(Charge.id).limit(limit)).all()


def lock_subscriptions_of(operation_id: int) -> None:
    """Lock the subscriptions of a batch's members, before the members: subscriptions come first everywhere."""
    members = select(Charge.subscription_id).where(Charge.operation_id == operation_id)
    found = select(Subscription).where(Subscription.id.in_(members)).order_by(Subscription.id).with_for_update()
    db.session.scalars(found.execution_options(populate_existing=True)).all()


def members_of(operation_id: int) -> Sequence[tuple[Charge, Agreement, Subscription]]:
    """The charges that wait for a batch, locked, with what they hang on."""
    rows = db.session.execute(
        select(Charge, Agreement, Subscription)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Agreement, Agreement.id == Charge.agreement_id)
        .where(Charge.operation_id == operation_id, Charge.status == ChargeStatus.SUBMITTING)
        .order_by(Charge.id)
        .with_for_update(of=Charge)
    )
    return [(c, a, s) for c, a, s in rows]


def lock_charges_due_from(subscription_id: int, day: date) -> Sequence[Charge]:
    """The renewals and extra charges that fall due on that day or later and may still be taken, locked."""
    held = (Charge.subscription_id == subscription_id, Charge.period != 0, Charge.due_on >= day)
    found = select(Charge).where(*held, Charge.status.in_(CHARGE_OPEN)).order_by(Charge.id).with_for_update()
    return db.session.scalars(found).all()


def charges_called_off(subscription_id: int, day: date) -> Sequence[Charge]:
    """The renewals from that day on that we asked not to be taken, locked: the newest attempt of each period."""
    newer = aliased(Charge)
    is_newest = ~exists().where(
        newer.subscription_id == Charge.subscription_id,
        newer.period == Charge.period,
        newer.attempt > Charge.attempt,
    )
    asked = (Charge.period > 0, Charge.due_on >= day, Charge.cancel_requested_at.is_not(None), is_newest)
    found = select(Charge).where(Charge.subscription_id == subscription_id, *asked).order_by(Charge.id)
    return db.session.scalars(found.with_for_update(of=Charge)).all()


def reprice_planned(subscription_id: int, amount: int) -> int | None:
    """Give every renewal behind the last that has left the house this amount; return the first such period.

    One that is late, and behind which another has left, stays as it was: what comes after a change costs the same.
    """
    mine = (Charge.subscription_id == subscription_id, Charge.period > 0)
    planned = (*mine, Charge.status == ChargeStatus.PLANNED)
    db.session.execute(select(Charge.id).where(*planned).order_by(Charge.id).with_for_update())  # none leaves meanwhile
    # One that is planned again and was sent before may still turn up at Vipps, as it was sent.
    has_left = or_(Charge.sends > 0, Charge.status.not_in([ChargeStatus.PLANNED, ChargeStatus.VOID]))
    last = db.session.scalar(select(func.max(Charge.period)).where(*mine, has_left)) or 0
    statement = update(Charge).where(*planned, Charge.period > last).values(amount=amount).returning(Charge.period)
    return min(db.session.scalars(statement.execution_options(synchronize_session=False)).all(), default=None)


def void_planned_charges(subscription_id: int) -> None:
    """Take out of the books what was never sent."""
    db.session.execute(
        update(Charge)
        .where(Charge.subscription_id == subscription_id, Charge.status == ChargeStatus.PLANNED)
        .values(status=ChargeStatus.VOID, check_at=None)
    )


def chargeable_members(operation_id: int) -> int:
    """How many members of a batch wait for its outcome, belong to an active subscription, and may be charged now."""
    return db.session.scalars(
        select(func.count())
        .select_from(Charge)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .where(
            Charge.operation_id == operation_id,
            Subscription.status == SubscriptionStatus.ACTIVE,
            Charge.status == ChargeStatus.SUBMITTING,
            Charge.cancel_requested_at.is_(None),
            ~is_braked(Subscription.partner_id),
        )
    ).one()


def ring_charges(condition: ColumnElement[bool], now: datetime) -> None:
    """Have charges that are still on their way looked at now."""
    is_open = Charge.status.in_(CHARGE_OPEN - {ChargeStatus.PLANNED})
    db.session.execute(update(Charge).where(condition, is_open).values(check_at=now))


def charge_by_guid(partner_id: int, guid: str) -> tuple[Charge, Subscription] | None:
    """A partner's charge under the id that it knows, with its subscription."""
    return _one_of(partner_id, Charge.guid == guid)


def charge_by_reference(partner_id: int, reference: str) -> tuple[Charge, Subscription] | None:
    """A partner's charge of that name, or else the first payment of the subscription with that order number."""
    is_order = and_(
        Subscription.order_number == reference,
        Subscription.status != SubscriptionStatus.REFUSED,
        ~Charge.is_surplus,
        ~Charge.is_extra,
    )
    return _one_of(partner_id, Charge.name == reference) or _one_of(partner_id, is_order)


def _one_of(partner_id: int, which: ColumnElement[bool]) -> tuple[Charge, Subscription] | None:
    found = (
        select(Charge, Subscription)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .where(Subscription.partner_id == partner_id, which)
        .order_by(Charge.period, Charge.attempt.desc())
        .limit(1)
    )
    row = db.session.execute(found).first()
    return None if row is None else (row[0], row[1])


def charges_created_since(
    partner_id: int, since: datetime, after_id: int, limit: int
) -> Sequence[tuple[Charge, Subscription]]:
    """A page of a partner's charges, oldest first."""
    rows = db.session.execute(
        select(Charge, Subscription)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .where(Subscription.partner_id == partner_id, Charge.created_at >= since, Charge.id > after_id)
        .order_by(Charge.id)
        .limit(limit)
    )
    return [(charge, subscription) for charge, subscription in rows]


def charges_after(subscription_id: int, after_id: int, limit: int) -> Sequence[Charge]:
    """A page of a subscription's charges, oldest first."""
    mine = (Charge.subscription_id == subscription_id, Charge.id > after_id)
    return db.session.scalars(select(Charge).where(*mine).order_by(Charge.id).limit(limit)).all()
