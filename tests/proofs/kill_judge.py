"""What must hold after a death: Vipps' ledger, our tables, the partner's server and the phones tell one story."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.journeys.agreeing import disagreements
from tests.proofs.kill_driver import Driver
from tests.proofs.kill_world import World

Essence = dict[str, Counter[Any]]
# Nothing of this may be left when both sides have come to rest.
_LEFT = {
    "operations under way": "SELECT kind, name, status, last_error FROM operations"
    " WHERE status IN ('READY', 'INFLIGHT', 'UNKNOWN')",
    # News of what others sign under the same account is laid aside after a week.
    "webhooks unread": "SELECT id, source FROM inbound_events WHERE read_at IS NULL AND body NOT LIKE '%another%'",
    "callbacks undelivered": "SELECT id, status, last_fault FROM deliveries WHERE status <> 'DELIVERED'"
    " AND status <> 'VOID'",
    "texts unsent": "SELECT id FROM messages WHERE status = 'QUEUED'",
    "rules that the service itself finds broken": "SELECT rule, subject FROM breaks WHERE cleared_at IS NULL",
    "brakes that are pulled": "SELECT partner_id, reason FROM brakes WHERE released_at IS NULL",
    # Claimed by somebody who was killed, they come back a minute later.
    "payments to be looked at": "SELECT name FROM charges"
    " WHERE status IN ('CHARGED', 'PARTIALLY_REFUNDED', 'REFUNDED') AND check_at IS NOT NULL",
    "cancels that hang": "SELECT id FROM subscriptions WHERE status = 'CANCELLING'",
    "events out of the feed": "SELECT id FROM events WHERE position IS NULL",
}
_ONCE = ("subscription.", "charge.charged", "charge.refunded", "charge.partially_refunded", "charge.reserved")


def is_quiet(world: World) -> bool:
    """Tell whether nothing is owed at this moment, but what Vipps is to answer in its own time."""
    return not any(world.rows(query) for query in _LEFT.values())


def judge(d: Driver, usual: Essence | None, strangers: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong. usual: what comes of the flow when nobody dies; None: not known yet."""
    world = d.world
    ledger = world.look("ledger")
    with world.books.app_context():
        wrong = disagreements(_known(ledger), strangers=strangers)
    for what, query in _LEFT.items():
        wrong += [f"{what}: {tuple(row)}" for row in world.rows(query)]
    for query, number, order in d.acknowledged:
        wrong += [] if world.rows(query, id=number, order=order) else [f"acknowledged and missing: {number} {order}"]
    wrong += [*_gaps(world), *_texts(world), *_untold(world), *d.strange]
    if usual is not None:
        wrong += [*_differences(usual, essence(d))]
    return wrong


def _known(ledger: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Leave out the agreements of others, and what stands under them: the flows make some."""
    others = {a["id"] for a in ledger["agreements"] if a["externalId"] == "another"}
    return {
        "agreements": [a for a in ledger["agreements"] if a["id"] not in others],
        "charges": [c for c in ledger["charges"] if c["agreementId"] not in others],
        "refunds": ledger["refunds"],
    }


def essence(d: Driver) -> Essence:
    """Return what matters of a flow's end, without names, dates and attempts: it is the same whoever died on the way.

    What nobody is sure to have asked for is left out.
    """
    world = d.world
    money = (
        "SELECT s.order_number, c.period, c.amount, c.captured, c.refunded FROM charges c"
        " JOIN subscriptions s ON s.id = c.subscription_id WHERE c.captured > c.refunded OR c.refunded > 0"
    )
    told = (
        "SELECT s.order_number, e.type, e.data FROM events e JOIN subscriptions s ON s.id = e.subscription_id"
        " ORDER BY e.id"
    )
    sure = [tuple(row) for row in world.rows(money) if row[2] not in d.doubtful]
    events = [(order, kind) for order, kind, data in world.rows(told) if _is_sure(kind, data, d.doubtful)]
    return {
        "subscriptions": Counter(
            tuple(r) for r in world.rows("SELECT order_number, status, amount FROM subscriptions")
        ),
        "money": Counter(sure),
        "events": Counter(event for event in events if event[1].startswith(_ONCE)),
        "partners": Counter(map(tuple, world.rows("SELECT id, name, account FROM partners"))),
    }


def _is_sure(kind: str, data: Any, doubtful: set[int]) -> bool:
    facts = json.loads(data) if isinstance(data, str) else data
    return not (kind.startswith("charge.") and facts.get("amount") in doubtful)


def _differences(usual: Essence, found: Essence) -> Iterator[str]:
    for what, counted in usual.items():
        yield from (f"{what} lost: {thing}" for thing in counted - found[what])
        yield from (f"{what} too often: {thing}" for thing in found[what] - counted)


def _gaps(world: World) -> Iterator[str]:
    """Every period up to the newest has its payment, under way or made, unless it was called off."""
    rows = world.rows("SELECT subscription_id, period FROM charges WHERE period >= 0 AND is_surplus = false")
    newest: dict[int, set[int]] = {}
    for subscription, period in rows:
        newest.setdefault(subscription, set()).add(period)
    for subscription, periods in newest.items():
        missing = set(range(max(periods) + 1)) - periods - {0}
        if missing:
            yield f"subscription {subscription} lacks the periods {sorted(missing)}"


def _texts(world: World) -> Iterator[str]:
    """Each text has come once, or twice when the answer to its sending was lost; who is forgotten has no number.

    One that was to go out a second time, and shows nowhere, is told as failed: nobody knows whether it will come.
    """
    given_up = (
        "m.status = 'FAILED' AND m.sends = 2 AND EXISTS"
        " (SELECT 1 FROM events e WHERE e.subscription_id = m.subscription_id AND e.type = 'message.failed')"
    )
    query = (
        f"SELECT m.recipient, m.body, count(*), sum(CASE WHEN {given_up} THEN 1 ELSE 0 END) FROM messages m"  # noqa: S608
        " WHERE m.status NOT IN ('VOID', 'QUEUED') AND m.recipient LIKE '+%' GROUP BY 1, 2"
    )
    for recipient, body, meant, lost in world.rows(query):
        came = sum(m["body"] == body for m in world.look("messages", to=recipient)["messages"])
        if not meant - lost <= came <= 2 * meant:
            yield f"a text that was meant {meant} times came {came} times"


def _untold(world: World) -> Iterator[str]:
    """What is marked as delivered has been at the partner's server."""
    query = (
        "SELECT e.public_id, e.type FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.status = 'DELIVERED'"
    )
    came = {got.headers.get("webhook-id") for got in world.receiver.got}
    yield from (f"{kind} was never told" for event, kind in world.rows(query) if event not in came)
