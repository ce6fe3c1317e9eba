"""What is due, as conditions. The claims and `is_anything_due` read the same ones, so that neither sees more."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ColumnElement, and_, exists, or_, select

from invoice.lifecycle import ChargeStatus, OperationStatus, SubscriptionStatus
from invoice.store.db import db
from invoice.store.models import Agreement, Charge, InboundEvent, Operation, Subscription


def operation_is_due(now: datetime) -> ColumnElement[bool]:
    """Staged or put off until now, or left behind by a worker whose lease has run out."""
    status = OperationStatus
    due = and_(Operation.status.in_([status.READY, status.UNKNOWN]), Operation.next_at <= now)
    left = and_(Operation.status == status.INFLIGHT, Operation.lease_until <= now)
    return or_(due, left)


def is_unread(now: datetime) -> ColumnElement[bool]:
    return and_(InboundEvent.read_at.is_(None), InboundEvent.next_at <= now)


def is_to_plan(today: date) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.next_plan_on <= today)


def is_to_submit(today: date) -> ColumnElement[bool]:
    # An initial charge is made at signing and never by us, whatever became of its row.
    is_renewal = and_(Charge.period > 0, ~Charge.is_surplus)
    return and_(Charge.status == ChargeStatus.PLANNED, Charge.submit_on <= today, is_renewal)


def is_to_expire(now: datetime) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.PENDING, Subscription.link_expires_at <= now)


def is_to_end(today: date) -> ColumnElement[bool]:
    return and_(Subscription.status == SubscriptionStatus.ACTIVE, Subscription.stop_on <= today)


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
    )
    return bool(db.session.scalar(select(or_(*(exists().where(condition) for condition in conditions)))))
