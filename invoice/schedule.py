"""When things fall due: period k's date, when to plan it, when to submit it, when to look again, when to retry.

Pure: dates are market dates, instants are aware UTC, and nothing here asks the time.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

from dateutil.relativedelta import relativedelta

from invoice.clock import MARKET_ZONES
from invoice.lifecycle import Interval

_UNITS = {Interval.WEEK: "weeks", Interval.MONTH: "months", Interval.YEAR: "years"}

# A charge can be created until midnight before its due date. Source: Vipps Recurring v3, since October 2025.
MINIMUM_LEAD_DAYS = 1
# How long reserved money waits to be captured. Source: Vipps MobilePay agent-toolkit, 2026-08-21.
_CAPTURE_LIFE = {"NO": timedelta(days=180), "DK": timedelta(days=14), "FI": timedelta(days=14)}
# Late periods are made up for one at a time, never two within this many days.
CATCH_UP_GAP_DAYS = 3
_OVERLOOKED = timedelta(days=60)  # further ahead than any late one is moved
# Batches run at 09:00 and 17:00 in Norway (agent-toolkit, 2026-08-21); we look when each is over.
_LOOK_HOURS = (10, 18)
# Between tries to tell a partner something; the last is repeated. After thirty days it is given up.
_DELIVERY_WAITS_S = (5, 60, 300, 1800, *(3600 * hours for hours in (2, 5, 10, 14, 20, 24)))
DELIVERY_LIFE = timedelta(days=30)
# What waited behind another for all that time still gets some tries of its own.
DELIVERY_MINIMUM_TRIES = 5
# From so many failures in a row on an address gets one call at a time, and pauses between them.
LANE_PATIENCE = 3
# A pending consent ends within 10 minutes of its draft; it is looked at this long after it, then every quarter hour.
_CONSENT_LOOKS_S = (15, 30, 60, 120, 240, 480, 660)
_CONSENT_IDLE = timedelta(minutes=15)


def due_date(anchor: date, interval: Interval, period: int) -> date:
    """Return the date on which `period` (1, 2, ...) falls, counted from the anchor every time.

    A day that the month lacks becomes its last: 31 January, 28 February, 31 March; 29 February yearly likewise.
    """
    return anchor + relativedelta(**{_UNITS[interval]: period})  # type: ignore[arg-type]


def interval_around(anchor: date, interval: Interval, day: date) -> tuple[date, date]:
    """Return the first day of the interval that `day` lies in, counted from the anchor, and the day after its last."""
    days = {Interval.WEEK: 7, Interval.MONTH: 31, Interval.YEAR: 366}[interval]
    period = max((day - anchor).days // days, 0)  # at most the right one, and near it
    while due_date(anchor, interval, period + 1) <= day:
        period += 1
    return due_date(anchor, interval, period), due_date(anchor, interval, period + 1)


def coming_dues(anchor: date, interval: Interval, period: int, today: date) -> list[date]:
    """Return the dates of `period` and those after it that are still in time, for the next weeks.

    What is late keeps its distance from them.
    """
    earliest, latest = today + timedelta(days=MINIMUM_LEAD_DAYS), today + _OVERLOOKED
    dues = []
    while (due_on := due_date(anchor, interval, period)) <= latest:
        dues.append(due_on)
        period += 1
    return [due_on for due_on in dues if due_on >= earliest]


def planned_due(scheduled_on: date, today: date, taken: Collection[date]) -> date:
    """Return the date to ask the provider for: the scheduled one, or when that is too late the earliest that may be.

    taken: the other due dates of the subscription; a late one keeps its distance from each.
    """
    due_on = today + timedelta(days=MINIMUM_LEAD_DAYS)
    if scheduled_on >= due_on:
        return scheduled_on
    gap = timedelta(days=CATCH_UP_GAP_DAYS)
    for other in sorted(taken):
        if abs(due_on - other) < gap:
            due_on = other + gap
    return due_on


def plan_date(due_on: date, plan_days: int) -> date:
    """Return the date from which a charge due on `due_on` stands in the books."""
    return due_on - timedelta(days=plan_days)


def submit_date(due_on: date, lead_days: int) -> date:
    """Return the date on which a charge due on `due_on` is created at the provider."""
    return due_on - timedelta(days=lead_days)


def capture_life(market: str) -> timedelta:
    """Return how long after its reservation money can be captured in `market`; then it is let go of."""
    return _CAPTURE_LIFE[market]


def next_charge_look(due_on: date, retry_days: int, market: str, now: datetime) -> datetime:
    """Return when to ask about an unfinished charge again if nobody rings before.

    Before the due date: on it. From then on after each batch; when the last retry is past, every six hours.
    """
    zone = MARKET_ZONES[market]
    last_on = due_on + timedelta(days=retry_days)
    day = max(due_on, now.astimezone(zone).date())
    while day <= last_on + timedelta(days=1):
        for hour in _LOOK_HOURS:
            look_at = datetime.combine(day, time(hour), zone).astimezone(UTC)
            if look_at > now:
                return look_at
        day += timedelta(days=1)
    return now + timedelta(hours=6)


def next_consent_look(drafted_at: datetime, now: datetime) -> datetime:
    """Return when to ask about a pending agreement again if nobody rings before."""
    for seconds in _CONSENT_LOOKS_S:
        look_at = drafted_at + timedelta(seconds=seconds)
        if look_at > now:
            return look_at
    return now + _CONSENT_IDLE


def backoff(attempts: int, *, base_s: float = 2.0, cap_s: float = 900.0) -> timedelta:
    """Return how long to wait after the given number of failed attempts (at least 1): doubling, with jitter.

    Between half and the whole of the step, so that a thousand rows that failed together do not come back together.
    """
    step = min(cap_s, base_s * 2 ** min(attempts - 1, 16))
    return timedelta(seconds=random.uniform(step / 2, step))  # noqa: S311 - spread, not secrecy


def delivery_wait(tries: int) -> timedelta:
    """Return how long to wait after the given number of failed tries (at least 1), up to a tenth longer for spread."""
    step = _DELIVERY_WAITS_S[min(tries, len(_DELIVERY_WAITS_S)) - 1]
    return timedelta(seconds=step * random.uniform(1, 1.1))  # noqa: S311 - spread, not secrecy


def lane_pause(failures: int) -> timedelta:
    """Return how long to leave a partner's address alone after so many failures in a row: none for one or two."""
    step = 0 if failures < LANE_PATIENCE else min(300, 15 * 2 ** min(failures - LANE_PATIENCE, 10))
    return timedelta(seconds=step * random.uniform(0.9, 1.0))  # noqa: S311 - spread, not secrecy
