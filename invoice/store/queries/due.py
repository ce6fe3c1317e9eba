"""What is due, as conditions. The claims and `is_anything_due` read the same ones, so that neither sees more."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select

from invoice.lifecycle import ChargeStatus, DeliveryStatus, OperationStatus, SubscriptionStatus
from invoice.schedule import LANE_PATIENCE
from invoice.store.db import db
from invoice.store.models import (
    Agreement,
    Charge,
    Delivery,
    Event,
    InboundEvent,
    Lane,
    Operation,
    Subscription,
)

# Calls under way at once by one lane.
LANE_WIDTH = 4


def operation_is_due(now: datetime) -> ColumnElement[bool]:
    """Staged or put off until now, or left behind by a worker whose lease has run out."""
    status = OperationStatus
    due = and_(Operation.status.in_([status.READY, status.UNKNOWN]), Operation.next_at <= now)
    left = and_(Operation.status == status.INFLIGHT, Operation.lease_until <= now)
    return or_(due, left)


def is_unread(now: datetime) -> ColumnElement[bool]:
    return and_(InboundEvent.read_at.is_(None), InboundEvent.next_at <= now)


def is_to_plan(today: date) -> ColumnElement[bool]:
    is_ours = and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.is_scheduled)
    return and_(is_ours, Subscription.next_plan_on <= today)


def is_to_submit(today: date) -> ColumnElement[bool]:
    # An initial charge is made at signing and never by us, whatever became of its row.
    is_renewal = and_(Charge.period != 0, ~Charge.is_surplus)
    return and_(Charge.status == ChargeStatus.PLANNED, Charge.submit_on <= today, is_renewal)


def is_to_expire(now: datetime) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.PENDING, Subscription.link_expires_at <= now)


def is_to_end(today: date) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.stop_on <= today)


def delivery_is_due(now: datetime) -> ColumnElement[bool]:
    """First in its row, and its time has come."""
    return and_(Delivery.status == DeliveryStatus.READY, Delivery.next_at <= now)


def delivery_is_left(now: datetime) -> ColumnElement[bool]:
    """Left behind by a worker whose lease has run out. Asked apart: with "or", no index gives the order."""
    return and_(Delivery.status == DeliveryStatus.INFLIGHT, Delivery.lease_until <= now)


def lane_width() -> ColumnElement[int]:
    """How many calls at once a lane may have: one, once it fails and fails."""
    return case((Lane.failures >= LANE_PATIENCE, 1), else_=LANE_WIDTH)


def calls_under_way(now: datetime) -> ColumnElement[int]:
    held = (Delivery.status == DeliveryStatus.INFLIGHT, Delivery.lease_until > now)
    mine = select(func.count()).select_from(Delivery).where(Delivery.lane_id == Lane.id, *held)
    return mine.correlate(Lane).scalar_subquery()


def lane_has_work(now: datetime) -> ColumnElement[bool]:
    """Not paused, with room for a call, and something due."""
    is_open = or_(Lane.paused_until.is_(None), Lane.paused_until <= now)
    mine = select(Delivery.id).where(Delivery.lane_id == Lane.id).correlate(Lane)
    is_due = or_(mine.where(delivery_is_due(now)).exists(), mine.where(delivery_is_left(now)).exists())
    return and_(is_open, is_due, calls_under_way(now) < lane_width())


def is_anything_due(now: datetime, today: date) -> bool:
    """Tell whether any job may have something to do; today: the latest date of all markets."""
    conditions = (
        operation_is_due(now),
        is_unread(now),
        Agreement.check_at <= now,
        Charge.check_at <= now,
        is_to_plan(today),
        is_to_submit(today),
        is_to_expire(now),
        is_to_end(today),
        Charge.warn_at <= now,
        Event.position.is_(None),
        lane_has_work(now),
    )
    return bool(db.session.scalar(select(or_(*(exists().where(condition) for condition in conditions)))))
