"""Four schedulers, each a process of its own, plan and submit the same subscribers at the same moments."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier

from sqlalchemy import select

from invoice import clock
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge
from tests.conftest import StandingClock
from tests.proofs.days import dues
from tests.proofs.figures import Figure
from tests.proofs.ground import MARKETS, Recorder, Server, Subscriber, as_date, as_number, enter, opened, processes

SCHEDULERS = 4
SUBSCRIBERS = 10_000
ROUNDS = 20
_FEWEST_ROUNDS = 3
_PLANNED_AHEAD = 7  # days before the due date at which the first period is to be planned
_PATIENCE_S = 600

_together: list[Barrier] = []


def race(server: Server, size: float) -> Iterator[Figure]:
    """Have every period of every subscriber planned and created; each must be there once, and on its day.

    Rounds are months apart. In each all are due within three days, those who signed on a month's last days too.
    """
    began, rounds = time.perf_counter(), max(_FEWEST_ROUNDS, round(ROUNDS * size))
    count = max(1, round(SUBSCRIBERS * ROUNDS * size / rounds))
    address = server.database("schedulers")
    subscribers = [_subscriber(number) for number in range(1, count + 1)]
    with opened(address):
        for start in range(0, count, 1000):
            with transaction():
                enter(subscribers[start : start + 1000])
    asked = _run(address, _moments(rounds))
    with opened(address):
        books = _books()
    wanted = {(s.number, period): due for s in subscribers for period, due in enumerate(_dues(s.anchor_on, rounds), 1)}
    found = _wrong(books, wanted) + _wrong_names(asked, wanted)
    shares = "/".join(str(len(names)) for names in asked)
    notes = f"{count} subscribers x {rounds} rounds; created by each of {SCHEDULERS}: {shares}"
    what = "periods planned and created by four schedulers at once"
    yield Figure("races", what, len(wanted), len(books), found, time.perf_counter() - began, notes)


def _subscriber(number: int) -> Subscriber:
    anchor_on = date(2027, 1, 29 + number % 3)
    plan_on = _dues(anchor_on, 1)[0] - timedelta(days=_PLANNED_AHEAD)
    return Subscriber(number, anchor_on, plan_on, market=list(MARKETS)[number // 3 % 3])


def _dues(anchor_on: date, count: int) -> list[date]:
    anchor = as_number(anchor_on)
    return [as_date(number) for number in dues(anchor, "MONTH", anchor + 31 * (count + 1))[:count]]


def _moments(rounds: int) -> list[datetime]:
    """Return a noon for each round: on the last day on which all of its periods can still be created in time."""
    days = [due - timedelta(days=1) for due in _dues(date(2027, 1, 29), rounds)]
    return [datetime(day.year, day.month, day.day, 11, tzinfo=UTC) for day in days]


def _run(address: str, moments: list[datetime]) -> list[list[str]]:
    """Return which names each scheduler asked the provider for."""
    context = processes(__name__)
    gate = context.Barrier(SCHEDULERS)
    with ProcessPoolExecutor(SCHEDULERS, context, initializer=_meet, initargs=(gate,)) as pool:
        running = [pool.submit(_schedule, address, moments) for _ in range(SCHEDULERS)]
        return [one.result() for one in running]


def _meet(gate: Barrier) -> None:
    _together.append(gate)


def _schedule(address: str, moments: list[datetime]) -> list[str]:
    """Do in each round what is due, as long as there is any; nobody waits for another within it."""
    gate, payments = _together[0], Recorder()
    with opened(address, payments) as services:
        for number, at in enumerate(moments, 1):
            clock.follow(StandingClock(at).now)
            if gate.wait(_PATIENCE_S) == 0:
                print(f"round {number} of {len(moments)}", file=sys.stderr, flush=True)  # noqa: T201 - shows it lives
            while services.plans.plan():
                pass
            while services.batches.submit():
                pass
    return [item["name"] for item, _ in payments.asked]


def _books() -> list[tuple[int, int, date]]:
    with reading():
        rows = db.session.execute(select(Charge.subscription_id, Charge.period, Charge.due_on))
        return [(row.subscription_id, row.period, row.due_on) for row in rows]


def _wrong(books: list[tuple[int, int, date]], wanted: dict[tuple[int, int], date]) -> int:
    """Count periods that the books lack, have twice, or have on another day than the calendar."""
    times = Counter((number, period) for number, period, _ in books)
    amiss = {(n, p) for n, p, due_on in books if wanted.get((n, p)) != due_on}
    return len(amiss | {key for key in wanted.keys() | times.keys() if times[key] != 1})


def _wrong_names(asked: list[list[str]], wanted: dict[tuple[int, int], date]) -> int:
    """Count periods that the provider was not asked for exactly once, under whatever name."""
    names = [name for one in asked for name in one]
    times = Counter((int(name[:26]), int(name[28:32])) for name in names)
    return sum(times[key] != 1 for key in wanted.keys() | times.keys())
