"""What must never be, continued: what stands still, what was not told, and what hangs on somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, and_, case, cast, exists, func, literal, or_, select
from sqlalchemy.orm import aliased

from invoice.lifecycle import (
    CHARGE_OPEN,
    AgreementStatus,
    ChargeStatus,
    DeliveryStatus,
    Interval,
    MessageStatus,
    OperationStatus,
    SubscriptionStatus,
)
from invoice.store.db import db
from invoice.store.models import (
    EVERYONE,
    Agreement,
    Break,
    Charge,
    Delivery,
    Event,
    InboundEvent,
    Lane,
    Message,
    Operation,
    Partner,
    Subscription,
)
from invoice.store.queries.due import is_braked, is_frozen
from invoice.store.queries.proof import Found, ago, days_ago, of_charge, of_subscription

_C, _S, _O = ChargeStatus, SubscriptionStatus, OperationStatus
_OPEN = (_O.READY, _O.INFLIGHT, _O.UNKNOWN)
_LATE = timedelta(minutes=5)
_TEXT_LIFE, _EVENT_LIFE, _LIFE = timedelta(hours=72), timedelta(days=31), timedelta(days=7)
_STOP_LIFE = timedelta(minutes=15)
_MOST_TRIES = 100  # a quarter of an hour apart at the end: more than a day

# what a charge became -> what its partner was told
TOLD = {
    _C.CHARGED: "charge.charged",
    _C.FAILED: "charge.failed",
    _C.CANCELLED: "charge.cancelled",
    _C.PARTIALLY_REFUNDED: "charge.partially_refunded",
    _C.REFUNDED: "charge.refunded",
    _C.RESERVED: "charge.reserved",
}
_ENDS = {_S.CANCELLED: "subscription.cancelled", _S.STOPPED: "subscription.stopped", _S.EXPIRED: "subscription.expired"}


def _times_told(of: type[Charge] | type[Subscription], *which: ColumnElement[bool]) -> ColumnElement[int]:
    found = select(func.count()).select_from(Event).where(*which)
    return found.correlate(of, Subscription).scalar_subquery()


def not_told_once() -> Found:
    """E1: a payment that stands in a state that its partner was not told, or was told twice."""
    told = case(*((Charge.status == status, literal(name)) for status, name in TOLD.items()))
    mine = and_(Event.subscription_id == Charge.subscription_id, Event.data["charge"].as_string() == Charge.name)
    times = _times_told(Charge, mine, Event.type == told)
    return of_charge(Charge.status.in_(list(TOLD)), Subscription.is_scheduled, times != 1)


def end_not_told_once() -> Found:
    """E1: an end or a beginning that was not told, or was told twice, or was told and is not so."""
    mine = Event.subscription_id == Subscription.id
    end = case(*((Subscription.status == status, literal(name)) for status, name in _ENDS.items()))
    ends = _times_told(Subscription, mine, Event.type == end)
    begins = _times_told(Subscription, mine, Event.type == "subscription.activated")
    wrong_end = and_(Subscription.status.in_(list(_ENDS)), ends != 1)
    wrong_begin = begins != case((Subscription.activated_at.is_(None), 0), else_=1)
    return of_subscription(Subscription.is_scheduled, or_(wrong_end, wrong_begin))


def gaps() -> Found:
    """E2: a timeline with a gap."""
    numbers = select(func.count(), func.max(Event.seq)).where(Event.subscription_id == Subscription.id)
    count = numbers.with_only_columns(func.count()).scalar_subquery()
    last = numbers.with_only_columns(func.coalesce(func.max(Event.seq), 0)).scalar_subquery()
    return of_subscription(or_(count != last, count != Subscription.event_count))


def out_of_order() -> Found:
    """E3: an event that was delivered before an earlier one of the same subscription and lane."""
    later = aliased(Delivery)
    is_later = and_(later.subscription_id == Delivery.subscription_id, later.lane_id == Delivery.lane_id)
    # One that is replayed after it was given up is owed anew, after those that have overtaken it.
    is_told = and_(later.status == DeliveryStatus.DELIVERED, later.settled_at > Delivery.owed_since)
    overtaken = exists().where(is_later, later.seq > Delivery.seq, is_told)
    waiting = Delivery.status.in_([DeliveryStatus.WAITING, DeliveryStatus.READY, DeliveryStatus.INFLIGHT])
    found = select(literal("delivery ") + cast(Delivery.id, String), Lane.partner_id)
    return found.join(Lane, Lane.id == Delivery.lane_id).where(waiting, overtaken)


def told_and_not_so() -> Found:
    """E4: a partner was told that something was paid, and the books hold no such money."""
    mine = and_(Event.subscription_id == Charge.subscription_id, Event.data["charge"].as_string() == Charge.name)
    is_told = exists().where(mine, Event.type == TOLD[_C.CHARGED])
    return of_charge(Charge.captured == 0, is_told)


def texts_at_odds() -> Found:
    """E5, L4: a text that was sent a third time, or of which nothing is known after three days."""
    known = [MessageStatus.DELIVERED, MessageStatus.UNDELIVERED, MessageStatus.FAILED, MessageStatus.VOID]
    lost = and_(Message.status == MessageStatus.QUEUED, Message.created_at < ago(_TEXT_LIFE))
    found = select(literal("message ") + cast(Message.id, String), Message.partner_id)
    return found.where(or_(Message.sends > 2, and_(Message.status.not_in(known), lost)))


def unread() -> Found:
    """E6: what we were told and nobody reads."""
    found = select(literal("inbound ") + cast(InboundEvent.id, String), literal(EVERYONE))
    return found.where(InboundEvent.read_at.is_(None), InboundEvent.next_at < ago(_LATE))


def not_looked_at() -> Found:
    """L1: an agreement that may live and that nobody will look at, or whose look is late."""
    is_live = Agreement.status.in_([AgreementStatus.PENDING, AgreementStatus.ACTIVE])
    is_late = or_(Agreement.check_at.is_(None), Agreement.check_at < ago(timedelta(minutes=15)))
    running = exists().where(
        Operation.kind == "STOP", Operation.subject_id == Agreement.id, Operation.status.in_(_OPEN)
    )
    found = select(literal("agreement ") + cast(Agreement.id, String), Subscription.partner_id)
    found = found.join(Subscription, Subscription.id == Agreement.subscription_id)
    return found.where(is_live, Agreement.provider_agreement_id.is_not(None), is_late, ~running)


def not_planned() -> Found:
    """L2: a period whose row is late, or that was skipped."""
    periods = select(func.count(Charge.period.distinct())).where(
        Charge.subscription_id == Subscription.id, Charge.period > 0, ~Charge.is_surplus
    )
    skipped = periods.scalar_subquery() != Subscription.next_period - 1
    is_ours = and_(Subscription.status == _S.ACTIVE, Subscription.is_scheduled)
    return of_subscription(is_ours, or_(Subscription.next_plan_on < days_ago(1), skipped))


def not_sent() -> Found:
    """L2: a planned charge that should have left the day before yesterday, and that nothing holds."""
    waits = aliased(Charge)
    held_up = exists().where(
        waits.subscription_id == Charge.subscription_id,
        waits.period > 0,
        waits.period < Charge.period,
        waits.status.in_([_C.PLANNED, _C.SUBMITTING, _C.SUBMITTED]),
    )
    suspended = exists().where(Partner.id == Subscription.partner_id, Partner.suspended_at.is_not(None))
    is_waiting = and_(Charge.status == _C.PLANNED, Charge.submit_on < days_ago(2), Charge.period > 0)
    is_ours = and_(Subscription.status == _S.ACTIVE, ~is_braked(Subscription.partner_id), ~suspended)
    return of_charge(is_waiting, ~held_up, is_ours)


def in_flight_for_ever() -> Found:
    """L3, L4: an act whose lease ran out long ago, or that is uncertain for a day, or open for a week."""
    stuck = and_(Operation.status == _O.INFLIGHT, Operation.lease_until < ago(_LATE))
    doubtful = and_(Operation.status == _O.UNKNOWN, Operation.first_sent_at < ago(timedelta(hours=24)))
    old = and_(Operation.status.in_(_OPEN), Operation.created_at < ago(_LIFE), Operation.next_at < ago(-_LIFE))
    return _of_operation(or_(stuck, doubtful, and_(old, Operation.kind != "CHANGE")), ~is_frozen())


def idle_or_storming() -> Found:
    """L6: work that is due and that nobody does, or that was tried a hundred times."""
    idle = and_(Operation.status.in_([_O.READY, _O.UNKNOWN]), Operation.next_at < ago(_LATE))
    return _of_operation(or_(idle, and_(Operation.status.in_(_OPEN), Operation.attempts > _MOST_TRIES)), ~is_frozen())


def cancel_hangs() -> Found:
    """L5: a cancel that Vipps has not confirmed within a quarter of an hour."""
    return of_subscription(Subscription.status == _S.CANCELLING, Subscription.cancel_requested_at < ago(_STOP_LIFE))


def not_delivered() -> Found:
    """L4: an event that was given up, or that is owed for longer than a month."""
    is_open = Delivery.status.in_([DeliveryStatus.READY, DeliveryStatus.INFLIGHT, DeliveryStatus.WAITING])
    is_old = and_(is_open, Delivery.owed_since < ago(_EVENT_LIFE + _LIFE))
    found = select(literal("delivery ") + cast(Delivery.id, String), Lane.partner_id)
    return found.join(Lane, Lane.id == Delivery.lane_id).where(or_(Delivery.status == DeliveryStatus.PARKED, is_old))


def of_another_partner() -> Found:
    """T1: an event or a text that is filed under another partner than its subscription."""
    found = select(literal("event ") + cast(Event.id, String), Event.partner_id)
    return found.join(Subscription, Subscription.id == Event.subscription_id).where(
        Event.partner_id != Subscription.partner_id
    )


def asked_elsewhere() -> Found:
    """T2: an act for a charge or an agreement that went out under another account than its own."""
    wrong = and_(Operation.kind.in_(["STOP", "DRAFT"]), Operation.account != Agreement.account)
    found = select(Operation.name, Subscription.partner_id).join(Agreement, Agreement.id == Operation.subject_id)
    return found.join(Subscription, Subscription.id == Agreement.subscription_id).where(wrong)


def drafted_by_nobody() -> Found:
    """S13: a further attempt at consent without anybody having pressed the button."""
    mine = and_(Event.subscription_id == Subscription.id, Event.type == "consent.opened")
    pressed = exists().where(mine, Event.data["attempt"].as_integer() == Agreement.attempt)
    found = select(literal("agreement ") + cast(Agreement.id, String), Subscription.partner_id)
    found = found.join(Subscription, Subscription.id == Agreement.subscription_id)
    is_drafted = exists().where(Operation.kind == "DRAFT", Operation.subject_id == Agreement.id)
    return found.where(Agreement.attempt > 0, is_drafted, ~pressed)


@dataclass(frozen=True)
class Renewal:
    """A renewal, and what its due date hangs on."""

    name: str
    partner_id: int
    market: str
    anchor_on: date
    interval: Interval
    period: int
    due_on: date
    created_at: datetime
    sent_at: datetime | None


def renewals_since(since: datetime) -> list[Renewal]:
    """The renewals that were planned since, or that may still leave or be taken."""
    wanted = (
        select(
            Charge.name,
            Subscription.partner_id,
            Partner.market,
            Subscription.anchor_on,
            Subscription.interval,
            Charge.period,
            Charge.due_on,
            Charge.created_at,
            Charge.sent_at,
        )
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Partner, Partner.id == Subscription.partner_id)
        .where(
            Charge.period > 0,
            Subscription.anchor_on.is_not(None),
            or_(Charge.created_at >= since, Charge.status.in_(CHARGE_OPEN)),
        )
        .order_by(Charge.id)
    )
    rows: Sequence[Any] = db.session.execute(wanted).all()
    return [Renewal(*row) for row in rows]


def open_breaks() -> Sequence[Break]:
    """What is broken as of the last check, oldest first."""
    return db.session.scalars(select(Break).where(Break.cleared_at.is_(None)).order_by(Break.id)).all()


def _of_operation(*wrong: ColumnElement[bool]) -> Found:
    found = select(Operation.name, func.coalesce(Subscription.partner_id, EVERYONE))
    return found.outerjoin(Subscription, Subscription.id == Operation.subscription_id).where(*wrong)
