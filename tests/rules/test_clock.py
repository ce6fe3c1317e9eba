"""The one clock: it can be moved, and each market has its own calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from invoice.clock import MARKET_ZONES, business_date, follow, stopwatch, utc_now
from tests.conftest import NOON, StandingClock


def test_the_time_is_that_of_the_source(time: StandingClock) -> None:
    time.move(hours=2)

    assert utc_now() == NOON + timedelta(hours=2)


def test_without_a_source_the_time_is_the_machines_in_utc(time: StandingClock) -> None:
    follow(None)

    now = utc_now()

    assert now.utcoffset() == timedelta()
    assert now != NOON


@pytest.mark.parametrize(
    ("market", "at", "day"),
    [
        ("NO", datetime(2026, 11, 10, 22, 59, tzinfo=UTC), date(2026, 11, 10)),
        ("NO", datetime(2026, 11, 10, 23, 0, tzinfo=UTC), date(2026, 11, 11)),
        ("NO", datetime(2026, 7, 1, 21, 59, tzinfo=UTC), date(2026, 7, 1)),
        ("NO", datetime(2026, 7, 1, 22, 0, tzinfo=UTC), date(2026, 7, 2)),
        ("DK", datetime(2026, 11, 10, 23, 0, tzinfo=UTC), date(2026, 11, 11)),
        ("FI", datetime(2026, 11, 10, 22, 0, tzinfo=UTC), date(2026, 11, 11)),
        ("FI", datetime(2026, 11, 10, 21, 59, tzinfo=UTC), date(2026, 11, 10)),
        ("NO", datetime(2026, 12, 31, 23, 30, tzinfo=UTC), date(2027, 1, 1)),
    ],
)
def test_a_day_begins_at_midnight_in_the_market(market: str, at: datetime, day: date) -> None:
    assert business_date(market, at) == day


def test_the_day_is_todays_by_default(time: StandingClock) -> None:
    time.move_to(datetime(2026, 11, 10, 22, 30, tzinfo=UTC))

    assert [business_date(market) for market in ("NO", "DK", "FI")] == [
        date(2026, 11, 10),
        date(2026, 11, 10),
        date(2026, 11, 11),
    ]


def test_there_are_three_markets() -> None:
    assert sorted(MARKET_ZONES) == ["DK", "FI", "NO"]


def test_the_stopwatch_runs_while_the_time_stands(time: StandingClock) -> None:
    readings = [stopwatch() for _ in range(1000)]

    assert readings == sorted(readings)
    assert utc_now() == NOON
