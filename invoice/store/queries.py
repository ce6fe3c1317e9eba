"""Every SELECT that needs a name, the claims, and the rings. Each is bounded and ordered.

All of them run inside the caller's `transaction()` or `reading()`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, aliased

from invoice.lifecycle import (
    AGREEMENT_LIVE,
    CHARGE_OPEN,
    ChargeStatus,
    OperationStatus,
    SubscriptionStatus,
)
from invoice.store.db import Base, db
from invoice.store.models import (
    Agreement,
    Charge,
    Event,
    InboundEvent,
    JobRun,
    Operation,
    Partner,
    PartnerSecret,
    Subscription,
)

# Partners


def partner_by_secret(partner_id: int, digest: bytes) -> Partner | None:
    """The partner whose living secret this is."""
    return db.session.scalar(
        select(Partner)
        .join(PartnerSecret)
        .where(Partner.id == partner_id, PartnerSecret.digest == digest, PartnerSecret.revoked_at.is_(None))
    )


def living_secrets(partner_id: int) -> Sequence[PartnerSecret]:
    """A partner's secrets that still work, oldest first."""
    return db.session.scalars(
        select(PartnerSecret)
        .where(PartnerSecret.partner_id == partner_id, PartnerSecret.revoked_at.is_(None))
        .order_by(PartnerSecret.id)
    ).all()


# Subscriptions


def lock_subscription(subscription_id: int) -> Subscription:
    """The subscription, locked: whoever changes it or what hangs on it holds this first."""
    statement = select(Subscription).where(Subscription.id == subscription_id).with_for_update()
    return db.session.execute(statement.execution_options(populate_existing=True)).scalar_one()


def subscription_by_order(partner_id: int, order_number: str) -> Subscription | None:
    """The subscription that holds an order number."""
    return db.session.scalar(
        select(Subscription).where(
            Subscription.partner_id == partner_id,
            Subscription.order_number == order_number,
            Subscription.status != SubscriptionStatus.REFUSED,
        )
    )


def subscription_by_link(token: str) -> Subscription | None:
    """The subscription that a texted link opens."""
    return db.session.scalar(select(Subscription).where(Subscription.link_token == token))


def subscription_by_manage_link(token: str) -> Subscription | None:
    """The subscription that a manage link opens."""
    return db.session.scalar(select(Subscription).where(Subscription.manage_token == token))


def subscription_by_ulid(ulid: str) -> Subscription | None:
    """The subscription behind an external id."""
    return db.session.scalar(select(Subscription).where(Subscription.ulid == ulid))


def subscriptions_to_cancel(partner_id: int, number: int | None, member_id: str) -> Sequence[Subscription]:
    """A partner's subscription of that number, or else those of that member, newest first."""
    own = select(Subscription).where(Subscription.partner_id == partner_id)
    if number is not None:
        found = db.session.scalars(own.where(Subscription.id == number)).all()
        if found:
            return found
    members = own.where(Subscription.member_id == member_id).order_by(Subscription.id.desc()).limit(100)
    return db.session.scalars(members).all()


def subscriptions_created_since(partner_id: int, since: datetime, after_id: int, limit: int) -> Sequence[Subscription]:
    """A page of a partner's subscriptions, by number."""
    return db.session.scalars(
        select(Subscription)
        .where(Subscription.partner_id == partner_id, Subscription.created_at >= since, Subscription.id > after_id)
        .order_by(Subscription.id)
        .limit(limit)
    ).all()


def subscriptions_to_plan(market: str, today: date, limit: int) -> Sequence[Subscription]:
    """Active subscriptions whose next period is to enter the books, locked; those in other hands are skipped."""
    return db.session.scalars(
        select(Subscription)
        .join(Partner)
        .where(_is_to_plan(today), Partner.market == market)
        .order_by(Subscription.next_plan_on, Subscription.id)
        .limit(limit)
        .with_for_update(of=Subscription, skip_locked=True)
    ).all()


def subscriptions_to_expire(now: datetime, limit: int) -> Sequence[int]:
    """Subscriptions whose link has run out and which nobody can accept any more."""
    live = exists().where(Agreement.subscription_id == Subscription.id, Agreement.status.in_(AGREEMENT_LIVE))
    return db.session.scalars(
        select(Subscription.id).where(_is_to_expire(now), ~live).order_by(Subscription.id).limit(limit)
    ).all()


def timeline(subscription_id: int, limit: int = 1000) -> Sequence[Event]:
    """What happened to a subscription, in order."""
    return db.session.scalars(
        select(Event).where(Event.subscription_id == subscription_id).order_by(Event.seq).limit(limit)
    ).all()


# Agreements


def latest_agreement(subscription_id: int) -> Agreement | None:
    """The newest attempt at consent."""
    return db.session.scalar(
        select(Agreement)
        .where(Agreement.subscription_id == subscription_id)
        .order_by(Agreement.attempt.desc())
        .limit(1)
    )


def adopted_agreement(subscription_id: int) -> Agreement | None:
    """The attempt that the subscription stands on."""
    return db.session.scalar(
        select(Agreement).where(Agreement.subscription_id == subscription_id, Agreement.is_adopted)
    )


def live_agreements(subscription_id: int) -> Sequence[Agreement]:
    """Attempts that somebody may still accept, or has accepted."""
    return db.session.scalars(
        select(Agreement)
        .where(Agreement.subscription_id == subscription_id, Agreement.status.in_(AGREEMENT_LIVE))
        .order_by(Agreement.attempt)
    ).all()


def agreement_by_provider_id(provider_agreement_id: str) -> Agreement | None:
    """The attempt that the provider calls so."""
    return db.session.scalar(select(Agreement).where(Agreement.provider_agreement_id == provider_agreement_id))


def agreement_by_return(partner_id: int, return_id: str) -> Agreement | None:
    """The attempt from which a person comes back."""
    return db.session.scalar(
        select(Agreement)
        .join(Subscription, Subscription.id == Agreement.subscription_id)
        .where(Agreement.return_id == return_id, Subscription.partner_id == partner_id)
    )


# Charges


def lock_charges_to_submit(
    market: str, today: date, since: date, limit: int
) -> Sequence[tuple[Charge, Agreement, Subscription]]:
    """Planned charges to create today, of subscriptions that are still active; locked, others' are skipped.

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
    rows = db.session.execute(
        select(Charge, Agreement, Subscription)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Agreement, Agreement.id == Charge.agreement_id)
        .join(Partner, Partner.id == Subscription.partner_id)
        .where(
            _is_to_submit(today),
            Subscription.status == SubscriptionStatus.ACTIVE,
            Partner.market == market,
            Partner.suspended_at.is_(None),
            ~must_wait,
        )
        .order_by(Charge.submit_on, Charge.id)
        .limit(limit)
        .with_for_update(of=Charge, skip_locked=True)
    )
    return [(c, a, s) for c, a, s in rows]


def charge_by_name(name: str) -> Charge | None:
    """The charge that we named so."""
    return db.session.scalar(select(Charge).where(Charge.name == name))


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
    """Tell whether a renewal that fell due at or after `since` is still on its way."""
    is_open = (Charge.period > 0, Charge.due_on >= since, Charge.status.in_(CHARGE_OPEN))
    found = select(Charge.id).where(Charge.subscription_id == subscription_id, *is_open).limit(1)
    return db.session.scalar(found) is not None


def due_dates(subscription_id: int, *, except_for: int | None = None) -> Sequence[date]:
    """The due dates of a subscription's charges, sent or planned; `except_for` is a charge's id."""
    never = [ChargeStatus.VOID, ChargeStatus.REFUSED]
    held = (Charge.subscription_id == subscription_id, Charge.status.not_in(never), Charge.id != (except_for or 0))
    return db.session.scalars(select(Charge.due_on).where(*held).order_by(Charge.due_on)).all()


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


def void_planned_charges(subscription_id: int) -> None:
    """Take out of the books what was never sent."""
    db.session.execute(
        update(Charge)
        .where(Charge.subscription_id == subscription_id, Charge.status == ChargeStatus.PLANNED)
        .values(status=ChargeStatus.VOID, check_at=None)
    )


def chargeable_members(operation_id: int) -> int:
    """How many members of a batch still belong to an active subscription and wait for its outcome."""
    return db.session.scalars(
        select(func.count())
        .select_from(Charge)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .where(
            Charge.operation_id == operation_id,
            Subscription.status == SubscriptionStatus.ACTIVE,
            Charge.status == ChargeStatus.SUBMITTING,
        )
    ).one()


# What is due. The claims below and `is_anything_due` read the same conditions, so that neither sees more.


def _operation_is_due(now: datetime) -> ColumnElement[bool]:
    """Staged or put off until now, or left behind by a worker whose lease has run out."""
    status = OperationStatus
    due = and_(Operation.status.in_([status.READY, status.UNKNOWN]), Operation.next_at <= now)
    left = and_(Operation.status == status.INFLIGHT, Operation.lease_until <= now)
    return or_(due, left)


def _is_unread(now: datetime) -> ColumnElement[bool]:
    return and_(InboundEvent.read_at.is_(None), InboundEvent.next_at <= now)


def _is_to_plan(today: date) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.next_plan_on <= today)


def _is_to_submit(today: date) -> ColumnElement[bool]:
    # An initial charge is made at signing and never by us, whatever became of its row.
    is_renewal = and_(Charge.period > 0, ~Charge.is_surplus)
    return and_(Charge.status == ChargeStatus.PLANNED, Charge.submit_on <= today, is_renewal)


def _is_to_expire(now: datetime) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.PENDING, Subscription.link_expires_at <= now)


def is_anything_due(now: datetime, today: date) -> bool:
    """Tell whether any job may have something to do; today: the latest date of all markets."""
    conditions = (
        _operation_is_due(now),
        _is_unread(now),
        Agreement.check_at <= now,
        Charge.check_at <= now,
        _is_to_plan(today),
        _is_to_submit(today),
        _is_to_expire(now),
    )
    return bool(db.session.scalar(select(or_(*(exists().where(condition) for condition in conditions)))))


# Claims: one conditional UPDATE each. On PostgreSQL rows in other hands are skipped; SQLite has one writer.


def take_job(name: str, now: datetime, lease: timedelta) -> bool:
    """Take the right to run a job whose time has come."""
    insert_ignoring(JobRun, [{"name": name, "next_at": now, "failures": 0}])
    statement = update(JobRun).where(JobRun.name == name, JobRun.next_at <= now).values(next_at=now + lease)
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def claim_to_check(model: type[Agreement | Charge], now: datetime, lease: timedelta, limit: int) -> Sequence[int]:
    """Take rows whose `check_at` has come and put it off by a lease, so that one that fails comes back by itself."""
    due = select(model.id).where(model.check_at <= now).order_by(model.check_at, model.id).limit(limit)
    return _claim(model, due, {"check_at": now + lease}, model.id)


def claim_operation(kinds: Collection[str], now: datetime, lease: timedelta) -> Operation | None:
    """Take the operation that is due longest, or was left behind; `in_doubt` tells whether it may have been sent."""
    status = OperationStatus
    is_ours = and_(Operation.kind.in_(kinds), _operation_is_due(now))
    wanted = select(Operation.id).where(is_ours).order_by(Operation.next_at, Operation.id).limit(1)
    values = {
        "status": status.INFLIGHT,
        "in_doubt": case((Operation.status == status.READY, False), else_=True),
        "attempts": Operation.attempts + 1,
        "fence": Operation.fence + 1,
        "lease_until": now + lease,
        "first_sent_at": func.coalesce(Operation.first_sent_at, now),
    }
    ids = _claim(Operation, wanted, values, Operation.id)
    return db.session.get_one(Operation, ids[0]) if ids else None


def claim_unread(now: datetime, lease: timedelta, limit: int) -> Sequence[int]:
    """Take inbound events that nobody could place yet."""
    due = select(InboundEvent.id).where(_is_unread(now)).order_by(InboundEvent.next_at, InboundEvent.id).limit(limit)
    return _claim(InboundEvent, due, {"next_at": now + lease}, InboundEvent.id)


def _claim(
    model: type[Base], wanted: Select[Any], values: dict[str, Any], key: InstrumentedAttribute[int]
) -> list[int]:
    locked = wanted.with_for_update(skip_locked=True)
    statement = update(model).where(key.in_(locked)).values(**values).returning(key)
    return sorted(db.session.scalars(statement.execution_options(synchronize_session=False)).all())


def release_leases(now: datetime) -> None:
    """End all leases: for a process that knows that it is the only one left."""
    statement = update(Operation).where(Operation.status == OperationStatus.INFLIGHT).values(lease_until=now)
    db.session.execute(statement)


def is_under_way(subscription_id: int, kind: str) -> bool:
    """Tell whether an operation of that kind is still to be settled for a subscription."""
    open_ones = [OperationStatus.READY, OperationStatus.INFLIGHT, OperationStatus.UNKNOWN]
    mine = (Operation.subscription_id == subscription_id, Operation.kind == kind, Operation.status.in_(open_ones))
    return db.session.scalar(select(Operation.id).where(*mine).limit(1)) is not None


# Rings


def ring_charges(condition: ColumnElement[bool], now: datetime) -> None:
    """Have charges that are still on their way looked at now."""
    is_open = Charge.status.in_(CHARGE_OPEN - {ChargeStatus.PLANNED})
    db.session.execute(update(Charge).where(condition, is_open).values(check_at=now))


def take_ring(agreement_id: int, now: datetime, before: datetime) -> bool:
    """Take the right to look at an agreement for a waiting person, if nobody has since `before`."""
    statement = (
        update(Agreement)
        .where(Agreement.id == agreement_id, or_(Agreement.rung_at.is_(None), Agreement.rung_at <= before))
        .values(rung_at=now)
    )
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def insert_ignoring(model: type[Base], rows: list[dict[str, Any]]) -> int:
    """Insert rows; those that a unique constraint forbids exist already. Return how many were new."""
    if not rows:
        return 0
    dialect = sqlite if db.session.get_bind().dialect.name == "sqlite" else postgresql
    key = next(iter(model.__table__.primary_key))
    statement = dialect.insert(model).values(rows).on_conflict_do_nothing().returning(key)
    return len(db.session.execute(statement).all())


def market_of(partner_id: int) -> str:
    """Whose calendar a partner's charges follow."""
    return db.session.scalars(select(Partner.market).where(Partner.id == partner_id)).one()
