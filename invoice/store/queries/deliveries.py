"""Events on their way to partners: lanes, heads of rows, the claim, and what partners pull."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from invoice.lifecycle import Channel, DeliveryStatus
from invoice.store.db import db
from invoice.store.models import Delivery, Event, JobRun, Lane
from invoice.store.queries.due import calls_under_way, delivery_is_due, delivery_is_left, lane_has_work, lane_width
from invoice.store.queries.work import insert_ignoring

_HEADS = (DeliveryStatus.READY, DeliveryStatus.INFLIGHT)
_OPEN = (*_HEADS, DeliveryStatus.WAITING)


def lane_of(partner_id: int, channel: Channel) -> int:
    """The number of a partner's lane, which begins with its first delivery."""
    mine = select(Lane.id).where(Lane.partner_id == partner_id, Lane.channel == channel)
    found = db.session.scalar(mine)
    if found is None:
        insert_ignoring(Lane, [{"partner_id": partner_id, "channel": channel, "failures": 0, "alarms": 0}])
        found = db.session.scalars(mine).one()
    return found


def lanes_with_work(now: datetime, limit: int) -> Sequence[int]:
    """Lanes that something can be sent by now, in no order."""
    return db.session.scalars(select(Lane.id).where(lane_has_work(now)).limit(limit)).all()


def claim_deliveries(lane_id: int, now: datetime, lease: timedelta, most: int) -> Sequence[Delivery]:
    """Take what is due longest of one lane, as far as its width goes; nothing when another worker is at it."""
    locked = select(Lane).where(Lane.id == lane_id).with_for_update(skip_locked=True)
    lane = db.session.scalar(locked.execution_options(populate_existing=True))
    if lane is None or (lane.paused_until is not None and lane.paused_until > now):
        return []
    room = db.session.scalars(select(lane_width() - calls_under_way(now)).where(Lane.id == lane_id)).one()
    wanted: list[int] = []
    for condition in (delivery_is_left(now), delivery_is_due(now)):
        due = select(Delivery.id).where(Delivery.lane_id == lane_id, condition)
        first = due.order_by(Delivery.next_at, Delivery.id).limit(max(min(room, most) - len(wanted), 0))
        wanted += db.session.scalars(first.with_for_update(skip_locked=True))
    values = {
        "status": DeliveryStatus.INFLIGHT,
        "tries": Delivery.tries + 1,
        "fence": Delivery.fence + 1,
        "lease_until": now + lease,
    }
    mine = Delivery.id.in_(wanted)
    db.session.execute(update(Delivery).where(mine).values(**values).execution_options(synchronize_session=False))
    return db.session.scalars(select(Delivery).where(mine).order_by(Delivery.id)).all()


def has_head(subscription_id: int, lane_id: int) -> bool:
    """Tell whether something of this subscription and lane is to be sent before all else."""
    mine = (Delivery.subscription_id == subscription_id, Delivery.lane_id == lane_id, Delivery.status.in_(_HEADS))
    return db.session.scalar(select(Delivery.id).where(*mine).limit(1)) is not None


def promote_next(subscription_id: int, lane_id: int, now: datetime) -> None:
    """Make the earliest that waits the first of its row. The caller holds the subscription's lock."""
    mine = (Delivery.subscription_id == subscription_id, Delivery.lane_id == lane_id)
    behind = select(Delivery.id).where(*mine, Delivery.status == DeliveryStatus.WAITING)
    first = behind.order_by(Delivery.seq).limit(1).scalar_subquery()
    db.session.execute(
        update(Delivery)
        .where(Delivery.id == first)
        .values(status=DeliveryStatus.READY, next_at=now)
        .execution_options(synchronize_session=False)
    )


def change_open(lane_id: int, **values: Any) -> None:
    """Change everything of a lane that is still to be delivered."""
    statement = update(Delivery).where(Delivery.lane_id == lane_id, Delivery.status.in_(_OPEN)).values(**values)
    db.session.execute(statement.execution_options(synchronize_session=False))


def hurry(lane_id: int, now: datetime) -> None:
    """Have what waits for its next try sent now."""
    mine = (Delivery.lane_id == lane_id, Delivery.status == DeliveryStatus.READY, Delivery.next_at > now)
    db.session.execute(update(Delivery).where(*mine).values(next_at=now).execution_options(synchronize_session=False))


def deliveries_of(event_id: int) -> Sequence[tuple[Delivery, Channel]]:
    """How an event fared, by channel."""
    wanted = select(Delivery, Lane.channel).join(Lane).where(Delivery.event_id == event_id).order_by(Lane.channel)
    return [(delivery, channel) for delivery, channel in db.session.execute(wanted)]


def delivery_counts(lane_id: int) -> dict[DeliveryStatus, int]:
    """How many of a lane stand where, those that are delivered left out."""
    wanted = (
        select(Delivery.status, func.count())
        .where(Delivery.lane_id == lane_id, Delivery.status.in_([*_OPEN, DeliveryStatus.PARKED]))
        .group_by(Delivery.status)
    )
    return {row[0]: row[1] for row in db.session.execute(wanted)}


def event_by_public_id(partner_id: int, public_id: str) -> Event | None:
    """A partner's event."""
    return db.session.scalar(select(Event).where(Event.partner_id == partner_id, Event.public_id == public_id))


def events_after(partner_id: int, position: int, limit: int) -> Sequence[Event]:
    """A page of what a partner pulls."""
    return db.session.scalars(
        select(Event)
        .where(Event.partner_id == partner_id, Event.position > position)
        .order_by(Event.position)
        .limit(limit)
    ).all()


def events_between(partner_id: int, since: datetime, until: datetime, limit: int) -> Sequence[Event]:
    """A partner's events of a span of time."""
    return db.session.scalars(
        select(Event)
        .where(Event.partner_id == partner_id, Event.occurred_at >= since, Event.occurred_at < until)
        .order_by(Event.id)
        .limit(limit)
    ).all()


def is_any_unplaced() -> bool:
    """Tell whether an event has no place yet."""
    return db.session.scalar(select(Event.id).where(Event.position.is_(None)).limit(1)) is not None


def place_events(now: datetime, limit: int) -> int:
    """Give committed events their places, each after all that were ever given; return how many.

    One worker at a time: a later place can then never be seen before an earlier one.
    """
    insert_ignoring(JobRun, [{"name": "feed", "next_at": now, "failures": 0}])
    db.session.execute(select(JobRun.name).where(JobRun.name == "feed").with_for_update())
    last = db.session.scalar(select(func.max(Event.position))) or 0
    unplaced = select(Event.id).where(Event.position.is_(None)).order_by(Event.id).limit(limit)
    found = db.session.scalars(unplaced).all()
    if found:
        places = [{"id": event_id, "position": last + place} for place, event_id in enumerate(found, 1)]
        db.session.execute(update(Event), places)
    return len(found)
