"""What partners pull and have sent again: their events in one order that never changes behind a reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, NotFound
from invoice.lifecycle import Channel
from invoice.services import deliveries, outbox
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Delivery, Event, EventEndpoint

MAX_REPLAY = 1000  # events in one request
_ROWS = 1000
_NO_EVENT = "There is no such event."


@dataclass(frozen=True)
class Page:
    """A page of events, and the cursor of the next."""

    events: Sequence[dict[str, Any]]
    next_after: str | None
    has_more: bool


@dataclass(frozen=True)
class Fate:
    """How one event fared by one channel."""

    channel: str
    status: str
    tries: int
    next_at: datetime | None
    last_fault: str | None
    settled_at: datetime | None


def place() -> int:
    """Give committed events their places in what is pulled; return how many.

    A row's number is drawn before its commit, so a higher one may show first: who reads "after" it would never see
    the lower. Places are given to what has been committed, by one worker at a time.
    """
    with reading():
        if not queries.is_any_unplaced():
            return 0
    with transaction():
        return queries.place_events(utc_now(), _ROWS)


def page(partner_id: int, after: str | None, limit: int) -> Page:
    """Return a partner's events after the one with the id `after`, or from the first. Raises Invalid for no such id."""
    with reading():
        position: int | None = 0
        if after is not None:
            last = queries.event_by_public_id(partner_id, after)
            if last is None:
                raise Invalid({"after": ["after must be the id of an event."]})
            position = last.position
        # One that has no place yet has nothing behind it either.
        found = [] if position is None else queries.events_after(partner_id, position, limit + 1)
        shown = [outbox.payload(event) for event in found[:limit]]
    return Page(shown, shown[-1]["id"] if shown else after, len(found) > limit)


def find(partner_id: int, public_id: str) -> tuple[dict[str, Any], list[Fate]]:
    """Return a partner's event and how it fared. Raises NotFound."""
    with reading():
        event = _event(partner_id, public_id)
        return outbox.payload(event), [_fate(*row) for row in queries.deliveries_of(event.id)]


def replay(partner_id: int, public_id: str) -> int:
    """Send an event again wherever it went, and to the endpoint; return to how many. Raises NotFound, Conflict."""
    with reading():
        event = _event(partner_id, public_id)
        chosen = (event.subscription_id, event.id)
    count = _send_again(*chosen)
    if not count:
        raise Conflict("There is nowhere to send this event to, or it is on its way already.")
    return count


def replay_between(partner_id: int, since: datetime, until: datetime) -> int:
    """Send again what happened from `since` until before `until`; return how many events that is.

    Raises Invalid when they are more than can be asked for at once.
    """
    with reading():
        found = queries.events_between(partner_id, since, until, MAX_REPLAY + 1)
        chosen = [(event.subscription_id, event.id) for event in found]
    if len(chosen) > MAX_REPLAY:
        raise Invalid({"to": [f"to must leave at most {MAX_REPLAY} events: ask for a shorter time."]})
    return sum(_send_again(*event) > 0 for event in chosen)


def _send_again(subscription_id: int, event_id: int) -> int:
    with transaction():
        queries.lock_subscription(subscription_id)
        event = db.session.get_one(Event, event_id)
        has_endpoint = db.session.get(EventEndpoint, event.partner_id) is not None
        rows = queries.deliveries_of(event_id)
        count = sum(deliveries.send_again(d) for d, channel in rows if channel != Channel.EVENTS or has_endpoint)
        if has_endpoint and not any(channel == Channel.EVENTS for _, channel in rows):
            deliveries.add(event, Channel.EVENTS, body=outbox.body_of(event))
            count += 1
        return count


def _event(partner_id: int, public_id: str) -> Event:
    event = queries.event_by_public_id(partner_id, public_id)
    if event is None:
        raise NotFound(_NO_EVENT)
    return event


def _fate(delivery: Delivery, channel: Channel) -> Fate:
    is_open = delivery.settled_at is None
    return Fate(
        channel=channel.value,
        status=delivery.status.value,
        tries=delivery.tries,
        next_at=delivery.next_at if is_open else None,
        last_fault=delivery.last_fault,
        settled_at=delivery.settled_at,
    )
