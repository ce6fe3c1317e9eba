"""The ways to ask the time: `utc_now` for instants, `business_date` for the market's calendar.

`stopwatch` measures how long something takes and `glances` waits for another; they tell no time of day.

Nothing else in the house reads a clock (`tests/test_house.py`), so that the demo and the tests can move time for
everything at once. Outside them the source is the machine's clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

# Each market counts its days at home: a charge is due on a date there.
MARKET_ZONES = {
    "NO": ZoneInfo("Europe/Oslo"),
    "DK": ZoneInfo("Europe/Copenhagen"),
    "FI": ZoneInfo("Europe/Helsinki"),
}


def _machine_time() -> datetime:
    return datetime.now(UTC)


_source: Callable[[], datetime] = _machine_time


def follow(source: Callable[[], datetime] | None) -> None:
    """Take the time from `source` (aware UTC) from now on; None goes back to the machine's clock."""
    global _source  # noqa: PLW0603 - one process has one time
    _source = source or _machine_time


def utc_now() -> datetime:
    """Return this instant, aware, in UTC."""
    return _source()


def business_date(market: str, at: datetime | None = None) -> date:
    """Return the calendar date in `market` ("NO", "DK" or "FI") at the instant `at`, by default now."""
    return (at or utc_now()).astimezone(MARKET_ZONES[market]).date()


def stopwatch() -> float:
    """Return seconds on a clock that only runs: for deadlines and durations, never for dates."""
    return time.monotonic()


def glances(seconds: float) -> Iterator[None]:
    """Yield at once and then ever more rarely, for about so many seconds: to see whether another is done."""
    end, pause = stopwatch() + seconds, 0.02
    yield
    while stopwatch() < end:
        # Nobody sets it: the one who works may be another process.
        threading.Event().wait(pause)
        pause = min(pause * 1.5, 0.25)
        yield
