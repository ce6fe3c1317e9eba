"""What is due, as conditions. The claims and `work_due` read the same ones, so that neither sees more."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BindParameter, ColumnElement, Date, and_, bindparam, case, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from invoice.lifecycle import ChargeStatus, DeliveryStatus, OperationStatus, SubscriptionStatus
from invoice.schedule import LANE_PATIENCE
from invoice.store.db import UTCDateTime, db
from invoice.store.models import (
    EVERYONE,
    Agreement,
    Brake,
    Charge,
    Delivery,
    Event,
    InboundEvent,
    Lane,
    Operation,
    Subscription,
)

Instant = datetime | BindParameter[datetime]
Day = date | BindParameter[date]

# Calls under way at once by one lane.
LANE_WIDTH = 4


def operation_is_due(now: Instant) -> ColumnElement[bool]:
    """Staged or put off until now, or left behind by a worker whose lease has run out."""
    status = OperationStatus
    due = and_(Operation.status.in_([status.READY, status.UNKNOWN]), Operation.next_at <= now)
    left = and_(Operation.status == status.INFLIGHT, Operation.lease_until <= now)
    return and_(or_(due, left), ~is_frozen())


def is_frozen() -> ColumnElement[bool]:
    """The books may be behind what has happened: nothing may leave."""
    return exists().where(Brake.partner_id == EVERYONE, Brake.is_frozen, Brake.released_at.is_(None))


def is_braked(partner_id: ColumnElement[int] | InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """A partner's brake is pulled, or everyone's."""
    return exists().where(Brake.partner_id.in_([EVERYONE, partner_id]), Brake.released_at.is_(None))


def is_unread(now: Instant) -> ColumnElement[bool]:
    return and_(InboundEvent.read_at.is_(None), InboundEvent.next_at <= now)


def is_to_plan(today: Day) -> ColumnElement[bool]:
    is_ours = and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.is_scheduled)
    return and_(is_ours, Subscription.next_plan_on <= today)


def is_to_submit(today: Day) -> ColumnElement[bool]:
    # An initial charge is made at signing and never by us, whatever became of its row.
    is_renewal = and_(Charge.period != 0, ~Charge.is_surplus)
    return and_(Charge.status == ChargeStatus.PLANNED, Charge.submit_on <= today, is_renewal)


def is_to_expire(now: Instant) -> ColumnElement[bool]:
    # While the books may be behind, it may have been accepted long ago, and nobody here knows.
    is_over = and_(Subscription.status == SubscriptionStatus.PENDING, Subscription.link_expires_at <= now)
    return and_(is_over, ~is_frozen())


def is_to_end(today: Day) -> ColumnElement[bool]:
    is_over = and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.stop_on <= today)
    return and_(is_over, ~is_frozen())


def delivery_is_due(now: Instant) -> ColumnElement[bool]:
    """First in its row, and its time has come."""
    return and_(Delivery.status == DeliveryStatus.READY, Delivery.next_at <= now)


def delivery_is_left(now: Instant) -> ColumnElement[bool]:
    """Left behind by a worker whose lease has run out. Asked apart: with "or", no index gives the order."""
    return and_(Delivery.status == DeliveryStatus.INFLIGHT, Delivery.lease_until <= now)


def lane_width() -> ColumnElement[int]:
    """How many calls at once a lane may have: one, once it fails and fails."""
    return case((Lane.failures >= LANE_PATIENCE, 1), else_=LANE_WIDTH)


def calls_under_way(now: Instant) -> ColumnElement[int]:
    held = (Delivery.status == DeliveryStatus.INFLIGHT, Delivery.lease_until > now)
    mine = select(func.count()).select_from(Delivery).where(Delivery.lane_id == Lane.id, *held)
    return mine.correlate(Lane).scalar_subquery()


def lane_has_work(now: Instant) -> ColumnElement[bool]:
    """Not paused, with room for a call, and something due."""
    is_open = or_(Lane.paused_until.is_(None), Lane.paused_until <= now)
    mine = select(Delivery.id).where(Delivery.lane_id == Lane.id).correlate(Lane)
    is_due = or_(mine.where(delivery_is_due(now)).exists(), mine.where(delivery_is_left(now)).exists())
    return and_(is_open, is_due, calls_under_way(now) < lane_width())


_NOW = bindparam("now", type_=UTCDateTime())
_TODAY = bindparam("today", type_=Date())
# kind of work -> when there is any
_WORK: dict[str, ColumnElement[bool]] = {
    "operations": operation_is_due(_NOW),
    "inbox": is_unread(_NOW),
    "consents": Agreement.check_at <= _NOW,
    "charges": Charge.check_at <= _NOW,
    "read_back": Agreement.read_back_at <= _NOW,
    "plan": is_to_plan(_TODAY),
    "submit": is_to_submit(_TODAY),
    "expire": is_to_expire(_NOW),
    "endings": is_to_end(_TODAY),
    "reservations": Charge.warn_at <= _NOW,
    "feed": Event.position.is_(None),
    "deliveries": lane_has_work(_NOW),
}
WORK = frozenset(_WORK)
# Put together once: it is asked four times a second.
_LOOK = select(*(exists().where(condition).label(kind) for kind, condition in _WORK.items()))


def work_due(now: datetime, today: date) -> frozenset[str]:
    """Return the kinds of work of which there may be some, of WORK; today: the latest date of all markets."""
    found = db.session.execute(_LOOK, {"now": now, "today": today}).one()
    return frozenset(kind for kind, is_due in found._mapping.items() if is_due)
