"""The three markets: their calendars, currencies and limits; when charges are tried, seen and given up. Pure."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

# A charge is shown to the person, and has the status DUE, when less than this is left.
# Source: Vipps agent-toolkit, recurring skill, 2026-08-21.
VISIBLE_DAYS = 30
EARLIEST_DAYS = 1  # "due" at least one day ahead. Source: Vipps changelog, 2025-10.
LATEST_YEARS = 2  # Source: Vipps Recurring v3, 2025-10.

LATE_CAPTURE_DAYS = 180  # in any market, for a sales unit that has it. Source: agent-toolkit, 2026-08-21.
# From this date on MobilePay is called Vipps. Source: technical update, 2026-10.
_ONE_BRAND = date(2027, 1, 12)


@dataclass(frozen=True)
class Market:
    """One market. `batches` in local time, the main one first; amounts in minor units (øre, cent)."""

    country: str
    currency: str
    dial_code: str
    zone: ZoneInfo
    batches: tuple[time, ...]
    least: int
    most: int
    capture_days: int
    needs_manage_url: bool = False
    old_brand: str = "MobilePay"

    def local_date(self, at: datetime) -> date:
        """Return the date here at the instant `at`."""
        return at.astimezone(self.zone).date()

    def instant(self, day: date, clock: time = time(0)) -> datetime:
        """Return the instant (UTC) at which clocks here show `clock` on `day`."""
        return datetime.combine(day, clock, self.zone).astimezone(UTC)

    def is_visible(self, due: date, at: datetime) -> bool:
        """Whether a charge due on `due` is DUE rather than PENDING at `at`."""
        return (due - self.local_date(at)).days < VISIBLE_DAYS

    def visible_at(self, due: date) -> datetime:
        """Return the instant at which a charge due on `due` turns from PENDING to DUE."""
        return self.instant(due - timedelta(days=VISIBLE_DAYS - 1))

    def first_batch(self, due: date) -> datetime:
        """Return the instant of the first attempt: the main batch on the due date."""
        return self.instant(due, self.batches[0])

    def batch_after(self, at: datetime, last_day: date) -> datetime | None:
        """Return the first batch after `at` that is not later than `last_day` (local date), or None."""
        today = self.local_date(at)
        for day in (today, today + timedelta(days=1)):
            for clock in self.batches:
                if self.instant(day, clock) > at and day <= last_day:
                    return self.instant(day, clock)
        return None

    def end_of(self, day: date) -> datetime:
        """Return the instant at which `day` is over here."""
        return self.instant(day + timedelta(days=1))

    def brand(self, at: datetime) -> str:
        """Return the name under which people know the app at `at`."""
        return self.old_brand if self.local_date(at) < _ONE_BRAND else "Vipps"


_NIGHT = (time(3), time(13), time(18), time(20), time(22), time(23))

# Source of batches, amounts and deadlines: Vipps agent-toolkit, recurring skill, 2026-08-21.
MARKETS = {
    "NO": Market(
        country="NO",
        currency="NOK",
        dial_code="47",
        zone=ZoneInfo("Europe/Oslo"),
        batches=(time(9), time(17)),
        least=100,
        most=2_000_000,
        capture_days=180,
        needs_manage_url=True,
        old_brand="Vipps",
    ),
    "DK": Market("DK", "DKK", "45", ZoneInfo("Europe/Copenhagen"), _NIGHT, least=1, most=30_000_000, capture_days=14),
    "FI": Market("FI", "EUR", "358", ZoneInfo("Europe/Helsinki"), _NIGHT, least=1, most=200_000, capture_days=14),
}


def market_of_phone(msisdn: str) -> Market:
    """Return the market that a number (digits only) belongs to; Norway for all others."""
    found = [market for market in MARKETS.values() if msisdn.startswith(market.dial_code)]
    return found[0] if found else MARKETS["NO"]


def latest_due(today: date) -> date:
    """Return the last date that a charge made `today` may be due on."""
    return add_months(today, 12 * LATEST_YEARS)


def add_months(day: date, months: int) -> date:
    """Return `day` moved by whole months, held at the end of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def add_interval(day: date, unit: str, count: int) -> date:
    """Return `day` moved by `count` of `unit` ("DAY", "WEEK", "MONTH" or "YEAR")."""
    if unit in ("MONTH", "YEAR"):
        return add_months(day, count * (12 if unit == "YEAR" else 1))
    return day + timedelta(days=count * (7 if unit == "WEEK" else 1))


def interval_around(day: date, anchor: date, unit: str, count: int) -> tuple[date, date]:
    """Return (first day, day after the last) of the interval that holds `day`; intervals are counted from `anchor`."""
    length = {"DAY": 1, "WEEK": 7, "MONTH": 30, "YEAR": 365}[unit] * count
    number = (day - anchor).days // length  # near enough; the loops below make it exact
    while add_interval(anchor, unit, count * number) > day:
        number -= 1
    while add_interval(anchor, unit, count * (number + 1)) <= day:
        number += 1
    return add_interval(anchor, unit, count * number), add_interval(anchor, unit, count * (number + 1))


def utc_midnight(day: date) -> datetime:
    """Return 00:00 UTC on `day`: how Vipps writes a due date as a timestamp."""
    return datetime.combine(day, time(0), UTC)
