"""What is past its time, and everything that is held about one person."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute

from invoice.lifecycle import CHARGE_OPEN, OperationStatus, RefundStatus
from invoice.store.db import Base, db
from invoice.store.models import Charge, Event, Operation, Refund, Subscription

OPERATION_OPEN = (OperationStatus.READY, OperationStatus.INFLIGHT, OperationStatus.UNKNOWN)


def is_any_over(began: InstrumentedAttribute[Any], over: ColumnElement[bool]) -> bool:
    """Tell whether `lock_over` would find a row, or somebody else has it in hand; locks nothing."""
    # In the order of the lock, so that no database thinks of reading the whole table.
    found = select(began.class_.id).where(over).order_by(began, began.class_.id).limit(1)
    return db.session.scalar(found) is not None


def lock_over(began: InstrumentedAttribute[Any], over: ColumnElement[bool], limit: int) -> Sequence[Any]:
    """Rows whose time is over, the oldest first, locked; those in other hands are skipped and come next time."""
    model: Any = began.class_
    found = select(model).where(over).order_by(began, model.id).limit(limit)
    return db.session.scalars(found.with_for_update(of=model, skip_locked=True)).all()


def count_over(began: InstrumentedAttribute[Any], over: ColumnElement[bool]) -> int:
    """How many rows there are whose time is over."""
    return db.session.scalars(select(func.count()).select_from(began.class_).where(over)).one()


def books_are_closed(before: datetime) -> ColumnElement[bool]:
    """Nothing of the subscription has happened since then, and nothing is under way."""
    charges = select(Charge.id).where(Charge.subscription_id == Subscription.id).correlate(Subscription)
    return and_(
        ~exists().where(Event.subscription_id == Subscription.id, Event.occurred_at >= before),
        ~exists().where(Charge.subscription_id == Subscription.id, Charge.status.in_(CHARGE_OPEN)),
        ~exists().where(Refund.charge_id.in_(charges), Refund.status == RefundStatus.REQUESTED),
        ~exists().where(Operation.subscription_id == Subscription.id, Operation.status.in_(OPERATION_OPEN)),
    )


def drop(rows: Sequence[Any]) -> None:
    """Delete rows; subscriptions with everything that hangs on them."""
    model, ids = type(rows[0]), [row.id for row in rows]
    if model is Subscription:
        charges = select(Charge.id).where(Charge.subscription_id.in_(ids))
        db.session.execute(delete(Refund.__table__).where(Refund.charge_id.in_(charges)))  # type: ignore[arg-type]
        for table in reversed(Base.metadata.sorted_tables):
            if "subscription_id" in table.c:
                db.session.execute(delete(table).where(table.c.subscription_id.in_(ids)))
    db.session.execute(delete(model.__table__).where(model.id.in_(ids)))


def subscriptions_known_as(numbers: Collection[str]) -> Sequence[Subscription]:
    """All subscriptions of a phone number, or of what stands for it."""
    return db.session.scalars(
        select(Subscription).where(Subscription.msisdn.in_(numbers)).order_by(Subscription.id)
    ).all()


def rows_of(model: type[Any], subscription_id: int) -> Sequence[Any]:
    """All rows of a table that hang on a subscription, or its own; in the order of their making."""
    if model is Subscription:
        found = select(model).where(model.id == subscription_id)
    elif model is Refund:
        found = (
            select(model).join(Charge, Charge.id == model.charge_id).where(Charge.subscription_id == subscription_id)
        )
    else:
        found = select(model).where(model.subscription_id == subscription_id)
    return db.session.scalars(found.order_by(*model.__table__.primary_key)).all()
