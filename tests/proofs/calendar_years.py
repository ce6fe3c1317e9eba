"""Years lived day by day: people sign, and what is due is planned and submitted at each noon."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select, update

from invoice import clock
from invoice.clock import business_date
from invoice.lifecycle import Interval
from invoice.services import partners
from invoice.services.jobs import Services
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Subscription
from tests.conftest import NOON, StandingClock
from tests.factories import a_wish, accept
from tests.proofs.days import DAY_S, WINTER_S, dues, market_day
from tests.proofs.figures import Figure
from tests.proofs.ground import MARKETS, Recorder, a_file, as_date, as_instant, as_number, opened

LEAD_DAYS = 3  # as the settings are by default: created at the provider so long before the due date,
PLAN_DAYS = 7  # and in the books four days before that
_WEEKS_APART = 7  # days between the weekly ones: they have ten times the periods, and are all alike
_FEWEST_YEARS = 2
_STOPS_APART = 6  # days between those that end at an appointed day
_STOP_AT = 5  # the period that they do not pay, or the last that they do


@dataclass(frozen=True)
class Life:
    """Somebody signs at the first or the last second of a day, and stays, or ends at an appointed day."""

    anchor: int
    interval: Interval
    market: str
    is_late: bool
    stop: int | None = None

    @property
    def signs_at(self) -> int:
        """The second since 1970, by the clocks of the market."""
        begins = first_second(self.market, self.anchor)
        return first_second(self.market, self.anchor + 1) - 1 if self.is_late else begins

    def expected(self, last: int) -> dict[int, tuple[date, date, date]]:
        """Return period -> (due, created, entered in the books) of all that is in the books on the day `last`."""
        found = {}
        for period, due in enumerate(dues(self.anchor, self.interval.value, last + PLAN_DAYS), 1):
            # Who signs in the evening is in the next day's run.
            entered = max(due - PLAN_DAYS, self.anchor + self.is_late)
            if entered <= last and (self.stop is None or due < self.stop):
                found[period] = (as_date(due), as_date(due - LEAD_DAYS), as_date(entered))
        return found


def first_second(market: str, number: int) -> int:
    """Return the second since 1970 at which a day begins in a market: the clocks never change at midnight."""
    begins = number * DAY_S - WINTER_S[market]
    return begins if market_day(market, begins - 1) < number else begins - 3600


def live(anchors: Sequence[int], years: int, size: float) -> Figure:
    """Live through a share of the years of who signs on a share of the days.

    Every period must be on its day: entered in the books, created at the provider, and due.
    """
    began, years = time.perf_counter(), max(_FEWEST_YEARS, round(years * size))
    chosen = _share(anchors, size)
    lives = list(_lives(chosen))
    last = chosen[-1] + 366 * years
    with a_file() as address, opened(address, payments := Recorder()) as services:
        ids = _walk(services, payments, lives, last)
        checked, wrong = _judge(ids, payments, last)
    notes = f"{len(lives)} people, {len(chosen)} days of signing x {len(Interval)} intervals x {years} years, on SQLite"
    what = "periods planned and created on their days, years long"
    return Figure("calendar", what, checked, checked, wrong, time.perf_counter() - began, notes)


def _share(anchors: Sequence[int], size: float) -> list[int]:
    """Choose days all over the year; the fewer, the rather a month's last ones, that not every month has."""
    by_rank = sorted(anchors, key=lambda number: (-min(as_date(number).day, 29), -number))
    return sorted(by_rank[: max(1, round(len(anchors) * size))])


def _lives(anchors: Sequence[int]) -> Iterator[Life]:
    for place, anchor in enumerate(anchors):
        market, is_late = list(MARKETS)[place % 3], place % 2 == 1
        for interval in Interval:
            if interval != Interval.WEEK or place % _WEEKS_APART == 0:
                yield Life(anchor, interval, market, is_late)
            if place % _STOPS_APART == 0:
                due = dues(anchor, interval.value, anchor + 366 * (_STOP_AT + 1))[_STOP_AT - 1]
                yield Life(anchor, interval, market, is_late, stop=due)
                yield Life(anchor, interval, market, is_late, stop=due + 1)


def _walk(services: Services, payments: Recorder, lives: Sequence[Life], last: int) -> dict[Life, int]:
    """Live day by day; return everyone's subscription.

    There is a run on each day on which something is to happen, and on the day before it: too early is seen there.
    """
    standing, ids = StandingClock(NOON), {}
    signing = defaultdict(list)
    for life in lives:
        signing[life.anchor].append(life)
    awaited = {as_number(at) for life in lives for days in life.expected(last).values() for at in days[1:]}
    awaited = {number for number in awaited if number <= last}
    clock.follow(standing.now)
    try:
        for number in sorted(signing.keys() | awaited | {at - 1 for at in awaited}):
            for life in signing[number]:
                if not life.is_late:
                    ids[life] = _sign(services, payments, life, standing)
            standing.move_to(as_instant(number * DAY_S + 11 * 3600))
            services.plans.plan()
            services.batches.submit()
            for life in signing[number]:
                if life.is_late:
                    ids[life] = _sign(services, payments, life, standing)
    finally:
        clock.follow(None)
    return ids


def _sign(services: Services, payments: Recorder, life: Life, standing: StandingClock) -> int:
    standing.move_to(as_instant(life.signs_at))
    partner_id, currency = MARKETS[life.market]
    wish = a_wish(currency=currency, interval=life.interval)
    found = services.subscriptions.request(partners.get(partner_id), wish).subscription_id
    accept(services, payments, found)
    if life.stop is not None:
        with transaction():
            ends = update(Subscription).where(Subscription.id == found)
            db.session.execute(ends.values(stop_on=as_date(life.stop)))
    return found


def _judge(ids: dict[Life, int], payments: Recorder, last: int) -> tuple[int, int]:
    """Return how many periods were looked at, and how many are not as the calendar has them."""
    books: dict[int, dict[int, Charge]] = defaultdict(dict)
    asked: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    for item, asked_at in payments.asked:
        asked[item["name"]].append((item["due_on"], asked_at))
    with reading():
        for charge in db.session.scalars(select(Charge).where(Charge.period > 0)):
            books[charge.subscription_id][charge.period] = charge
        checked = wrong = 0
        for life, number in ids.items():
            expected, held = life.expected(last), books[number]
            checked += len(expected)
            for period in expected.keys() | held.keys():
                seen = _seen(life, held[period], asked, last) if period in held else None
                wrong += seen is None or seen != expected.get(period)
    return checked, wrong


def _seen(
    life: Life, charge: Charge, asked: dict[str, list[tuple[str, datetime]]], last: int
) -> tuple[date, date, date] | None:
    """Return (due, created, entered in the books), or None when our row and what was asked for do not agree."""
    there = [(due, business_date(life.market, asked_at)) for due, asked_at in asked[charge.name]]
    is_out = charge.submit_on <= as_date(last)
    if there != ([(charge.due_on.isoformat(), charge.submit_on)] if is_out else []):
        return None
    return charge.due_on, charge.submit_on, business_date(life.market, charge.created_at)
