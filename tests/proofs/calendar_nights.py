"""The nights in which the clocks change: which date it is, and that each run does what is due, once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import date

from sqlalchemy import select, update

from invoice import clock
from invoice.clock import business_date
from invoice.lifecycle import Interval
from invoice.services.jobs import Services
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Subscription
from tests.conftest import NOON, StandingClock
from tests.proofs.calendar_years import LEAD_DAYS, PLAN_DAYS, first_second
from tests.proofs.days import DAY_S, market_day, switches
from tests.proofs.figures import Figure
from tests.proofs.ground import MARKETS, Recorder, Subscriber, a_file, as_date, as_instant, enter, opened

FIRST_YEAR = 2026
YEARS = 10
# How many days before its due date a subscriber is found by a run: to be planned only, to be created on that very
# day, and on the last day of all.
_AHEAD = (PLAN_DAYS, LEAD_DAYS, 1)


def live(size: float) -> Figure:
    """Ask for the date and run the schedulers at every instant that might be taken for another, in every market."""
    began, checked, wrong = time.perf_counter(), 0, 0
    years = range(FIRST_YEAR, FIRST_YEAR + max(1, round(YEARS * size)))
    nights = [(market, second) for year in years for second in switches(year) for market in MARKETS]
    with a_file() as address, opened(address, payments := Recorder()) as services:
        night = Night(services, payments)
        for market, second in nights:
            instants = list(_around(market, second))
            wrong += sum(business_date(market, as_instant(s)) != as_date(market_day(market, s)) for s in instants)
            wrong += night.live(market, second)
            checked += len(instants)
    notes = f"{len(nights)} nights, {night.runs} runs, {night.count} subscribers"
    what = "instants around the changes of the clocks"
    return Figure("calendar", what, checked, checked, wrong, time.perf_counter() - began, notes)


def _around(market: str, second: int) -> Iterator[int]:
    """Yield the first and the last second of each quarter of an hour, from the day before to the day after."""
    midnight = first_second(market, market_day(market, second))
    for quarter in range(midnight - DAY_S, midnight + 2 * DAY_S, 900):
        yield from (quarter - 1, quarter)


class Night:
    """Runs at odd hours; at each there is somebody new, and all from before."""

    def __init__(self, services: Services, payments: Recorder) -> None:
        self._services, self._payments = services, payments
        self.count = self.runs = 0

    def live(self, market: str, second: int) -> int:
        """Run at each instant of the day of a change; return what is not as it should be."""
        today, standing, wrong = market_day(market, second), StandingClock(NOON), 0
        first, midnight = self.count + 1, first_second(market, today)
        day_ends = first_second(market, today + 1)
        odd = [second + hours * 1800 + shift for hours in range(-2, 5) for shift in (-1, 0)]
        clock.follow(standing.now)
        try:
            for instant in (midnight - 1, midnight, *odd, day_ends - 1):
                standing.move_to(as_instant(instant))
                self._arrive(market, today)
                for run in (self._services.plans.plan, self._services.batches.submit):
                    run()
                self.runs += 1
                wrong += instant < midnight and self._held(first) != {}
        finally:
            clock.follow(None)
        wrong += self._judge(first, today)
        self._leave()
        return wrong

    def _arrive(self, market: str, today: int) -> None:
        with transaction():
            enter(
                Subscriber(
                    number=self.count + place,
                    anchor_on=as_date(today + ahead - 7),
                    plan_on=as_date(today),
                    interval=Interval.WEEK,
                    market=market,
                )
                for place, ahead in enumerate(_AHEAD, 1)
            )
        self.count += len(_AHEAD)

    def _judge(self, first: int, today: int) -> int:
        """Count who is not in the books once and on the right day, or at the provider, or not there, as is due."""
        held, asked = self._held(first), Counter(item["name"] for item, _ in self._payments.asked)
        wrong = 0
        for number in range(first, self.count + 1):
            ahead = _AHEAD[(number - first) % len(_AHEAD)]
            due_on = as_date(today + ahead)
            wrong += held.pop(number, None) != [(1, due_on)]
            wrong += asked[f"{number:026d}-p0001-a0"] != (ahead <= LEAD_DAYS)
        return wrong + len(held)

    def _held(self, first: int) -> dict[int, list[tuple[int, date]]]:
        found: dict[int, list[tuple[int, date]]] = {}
        with reading():
            for charge in db.session.scalars(select(Charge).where(Charge.subscription_id >= first)):
                found.setdefault(charge.subscription_id, []).append((charge.period, charge.due_on))
        return found

    def _leave(self) -> None:
        with transaction():
            db.session.execute(update(Subscription).values(next_plan_on=None))  # the next night is other people's
