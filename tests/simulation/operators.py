"""What goes on around the house: outages, and the operators, who hold the charging now and then or restore a backup."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from sqlalchemy import func, select

from invoice.clock import MARKET_ZONES
from invoice.services import brakes, journal
from invoice.store.db import db, reading
from invoice.store.models import Charge
from invoice.web import services as reach
from tests.simulation.databases import SQLite
from tests.simulation.house import House
from tests.simulation.network import Weather
from tests.simulation.people import People


class Operators:
    """Those who run it. held: from when until when nothing new was to be charged, and whose (None: everybody's).

    strangers: agreements that were read back, and of which no partner has ever heard either.
    """

    def __init__(self, house: House, people: People, *, days: int) -> None:
        self._house, self._people, self._days = house, people, days
        self._dice = house.dice
        self.strangers: set[str] = set()
        self.held: list[tuple[datetime, datetime, int | None]] = []
        house.spawn("outages", lambda: self._outages(house.weather))
        house.spawn("partner's outages", lambda: self._outages(house.partner.weather))
        house.spawn("operator", self._hold if house.lost is None else self._set_back)

    def _outages(self, weather: Weather) -> None:
        """Be away for a while, now and then."""
        for _ in range(self._dice.choice([0, 1, 1, 2])):
            self._wait(hours=self._dice.uniform(0, 24 * self._days / 3))
            weather.is_out = weather.weight > 0
            self._house.tell("an outage begins")
            self._wait(hours=min(self._dice.choice([0.5, 6, 30, 96]), 8 * self._days))
            weather.is_out = False
            self._house.tell("the outage is over")

    def _hold(self) -> None:
        """Hold all charging, best of all in the minute in which the day's charges leave, and let go again."""
        for _ in range(self._dice.choice([0, 1, 2, 4])):
            self._wait(hours=self._dice.uniform(0, 24 * self._days / 4))
            if self._dice.random() < 0.8:
                self._wait_for_charges()
            whose = self._dice.choice([None, *self._house.partners])
            if not self._house.at_home(lambda: brakes.stop(whose, "a drill")):  # noqa: B023 - called at once
                continue
            since = self._house.time.at
            self._wait(hours=self._dice.choice([0.2, 5, 30]))
            self.held.append((since, self._house.time.at, whose))
            self._house.at_home(lambda: brakes.start(whose))  # noqa: B023 - called at once

    def _wait_for_charges(self) -> None:
        """Wait for the next day on which charges leave, if one is known, and for some steps of what begins with it."""
        now = self._house.time.at.astimezone(MARKET_ZONES["NO"])
        planned = select(func.min(Charge.submit_on)).where(Charge.status == "PLANNED", Charge.submit_on > now.date())
        with self._house.app.app_context(), reading():
            day = db.session.scalar(planned) or now.date() + timedelta(days=1)
        midnight = datetime.combine(day, time(), MARKET_ZONES["NO"])
        self._house.rest(midnight - now)
        for _ in range(self._dice.randrange(12)):
            self._wait(seconds=0)

    def _set_back(self) -> None:
        """Back the books up, lose what came after, read it back, and ask again for what only they had known."""
        assert isinstance(self._house.database, SQLite)
        assert self._house.lost is not None
        self._wait(hours=self._dice.uniform(24, 24 * self._days * 0.4))
        self._house.database.back_up()
        kept_at = self._house.time.at
        self._house.tell("the books are backed up")
        self._house.rest(self._house.lost)
        self._house.set_back()
        self._house.tell(f"the books go back to {kept_at}")
        self._wait(minutes=self._dice.uniform(1, 60))
        self._house.at_home(lambda: self._house.tell(f"held: {[brake.reason for brake in brakes.list_all()]}"))
        while not self._house.at_home(self._read_back):
            self._wait(minutes=30)
        self._house.at_home(lambda: brakes.start(None))
        for life in self._people.lives:
            if life.cancel_accepted_at is not None and life.cancel_accepted_at >= kept_at:
                self._people.cancel(life)

    def _read_back(self) -> None:
        paths = self._house.folder.glob("worker*.json")
        noted = [marks for path in sorted(paths) if (marks := journal.read(path, self._house.database.url))]
        last = max(noted, key=lambda marks: marks.operations, default=None)
        reconcile = self._house.app.extensions[reach.SERVICES].reconcile
        report = reconcile.run(last, self._wait_s)
        self._house.tell(f"read back: {dict(report.counts)}")
        # Nobody here can say whose these are: their partners can.
        whose = {life.ulid: life.partner for life in self._people.lives if life.ulid}
        owners = {v.agreement_id: whose[v.external_id] for v in report.strangers if v.external_id in whose}
        if owners:
            report = reconcile.run(last, self._wait_s, owners)
            self._house.tell(f"read back again: {owners}")
        self.strangers.update(view.agreement_id for view in report.strangers)

    def _wait(self, **by: float) -> None:
        self._house.rest(timedelta(**by))

    def _wait_s(self, seconds: float) -> None:
        self._wait(seconds=seconds)
