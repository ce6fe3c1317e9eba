"""What one person may ask for, known by a phone number: everything that is held, and to be forgotten.

A number that was forgotten is still found, by what stands in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

from invoice.errors import Conflict
from invoice.lifecycle import SUBSCRIPTION_MOVES
from invoice.services.drafts import DRAFT
from invoice.services.messages import SEND
from invoice.services.privacy import RULES, forget
from invoice.store import queries
from invoice.store.db import Base, pseudonyms, reading, transaction
from invoice.store.models import (
    Agreement,
    Change,
    Charge,
    Delivery,
    Event,
    Message,
    Operation,
    Refund,
    Subscription,
)

logger = logging.getLogger(__name__)

# In the order in which they are told.
TABLES: tuple[type[Base], ...] = (Agreement, Change, Charge, Refund, Message, Event, Delivery, Operation)
# The kinds that hold a number while they are under way.
_TOLD_NUMBERS = (DRAFT, SEND)


@dataclass(frozen=True)
class Erased:
    """What was forgotten of a subscription: class of data -> rows; empty when nothing was left."""

    subscription_id: int
    rows: dict[str, int]


def export(number: str) -> dict[str, Any]:
    """Return everything held about a phone number (E.164): its subscriptions, each with all that hangs on it.

    Amounts are minor units, instants ISO 8601. Links that open something are left out wherever they stand.
    """
    with reading():
        found = queries.subscriptions_known_as(_known_as(number))
        return {"number": number, "subscriptions": [_everything(subscription) for subscription in found]}


def erase(number: str) -> list[Erased]:
    """Forget a person's number and all that leads to it; the books stay, under a pseudonym. Again, nothing happens.

    Raises Conflict while a subscription is not over, or a text or a draft that holds the number is under way.
    """
    with reading():
        found = queries.subscriptions_known_as(_known_as(number))
        alive = [subscription.id for subscription in found if SUBSCRIPTION_MOVES[subscription.status]]
        under_way = [s.id for s in found if any(queries.is_under_way(s.id, kind) for kind in _TOLD_NUMBERS)]
        numbers = [subscription.id for subscription in found]
    if alive:
        raise Conflict(f"Not over yet, to be cancelled first: {_listed(alive)}. Nothing was erased.")
    if under_way:
        raise Conflict(f"Something is still on its way for {_listed(under_way)}: try again in some minutes.")
    return [_erase(subscription_id, number) for subscription_id in numbers]


def _known_as(number: str) -> Sequence[str]:
    return [number, *pseudonyms(number)]


def _listed(subscription_ids: Sequence[int]) -> str:
    return f"subscription {', '.join(map(str, subscription_ids))}"


def _erase(subscription_id: int, number: str) -> Erased:
    """Forget one subscription's person. What is over stays so: its status is the last one."""
    rows: dict[str, int] = {}
    with transaction():
        queries.lock_subscription(subscription_id)
        for name, rule in RULES.items():
            model: Any = rule.began.class_
            if model in (Subscription, *TABLES) and rule.becomes:
                held = [row for row in queries.rows_of(model, subscription_id) if _is_held(row)]
                rows[name] = sum(forget(rule, row, but=rule.on_time_only) for row in held)
        rows["callback"] += _take_out(number, queries.rows_of(Delivery, subscription_id))
    forgotten = {name: count for name, count in rows.items() if count}
    if forgotten:
        logger.info("Subscription %s is erased.", subscription_id, extra={"subscription_id": subscription_id})
    return Erased(subscription_id, forgotten)


def _is_held(row: Any) -> bool:
    """Tell whether a row is one that its rule is about: of operations some kinds, of deliveries what is done."""
    if isinstance(row, Operation):
        return row.kind in _TOLD_NUMBERS
    return not isinstance(row, Delivery) or row.settled_at is not None


def _take_out(number: str, deliveries: Sequence[Delivery]) -> int:
    """Have callbacks that are still owed go out without the number; return how many held it."""
    written = quote(number, safe="")
    held = [each for each in deliveries if each.url is not None and written in each.url]
    for each in held:
        each.url = str(each.url).replace(written, "")
    return len(held)


def _everything(subscription: Subscription) -> dict[str, Any]:
    rows = {model.__tablename__: queries.rows_of(model, subscription.id) for model in TABLES}
    # What opens a door is no news about a person, and a file that is sent to somebody must open none.
    tokens = {subscription.link_token, subscription.manage_token, *(each.return_id for each in rows["agreements"])}
    told = {name: [_facts(row, tokens) for row in held] for name, held in rows.items()}
    return {**_facts(subscription, tokens), **told}


def _facts(row: Any, tokens: set[str]) -> dict[str, Any]:
    """Return a row as JSON takes it, without digests: they say nothing."""
    values = {column.name: getattr(row, column.name) for column in row.__table__.columns}
    return {name: _told(value, tokens) for name, value in values.items() if not isinstance(value, bytes)}


def _told(value: Any, tokens: set[str]) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    for token in tokens:
        value = value.replace(token, "...")
    return value
