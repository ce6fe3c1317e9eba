"""The Norwegian market's calendar: when charges are tried, seen and given up. Pure."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Oslo")

# Main batch and retry batch, local time. Source: Vipps agent-toolkit, recurring skill, 2026-08-21.
BATCHES = (time(9), time(17))
# A charge is shown to the person, and has the status DUE, when less than this is left. Source: as above.
VISIBLE_DAYS = 30
EARLIEST_DAYS = 1  # "due" at least one day ahead. Source: Vipps changelog, 2025-10.
LATEST_YEARS = 2  # Source: Vipps Recurring v3, 2025-10.


def local_date(at: datetime) -> date:
    """Return the date in Norway at the instant `at`."""
    return at.astimezone(ZONE).date()


def instant(day: date, clock: time = time(0)) -> datetime:
    """Return the instant (UTC) at which Norwegian clocks show `clock` on `day`."""
    return datetime.combine(day, clock, ZONE).astimezone(UTC)


def is_visible(due: date, at: datetime) -> bool:
    """Whether a charge due on `due` is DUE rather than PENDING at `at`."""
    return (due - local_date(at)).days < VISIBLE_DAYS


def visible_at(due: date) -> datetime:
    """Return the instant at which a charge due on `due` turns from PENDING to DUE."""
    return instant(due - timedelta(days=VISIBLE_DAYS - 1))


def first_batch(due: date) -> datetime:
    """Return the instant of the first attempt: 09:00 on the due date."""
    return instant(due, BATCHES[0])


def batch_after(at: datetime, last_day: date) -> datetime | None:
    """Return the first batch after `at` that is not later than `last_day` (Norwegian date), or None."""
    for day in (local_date(at), local_date(at) + timedelta(days=1)):
        for clock in BATCHES:
            if instant(day, clock) > at and day <= last_day:
                return instant(day, clock)
    return None


def end_of(day: date) -> datetime:
    """Return the instant at which `day` is over in Norway."""
    return instant(day + timedelta(days=1))


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
