"""When things fall due, against a calendar that is worked out here without any library."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoice.clock import MARKET_ZONES
from invoice.lifecycle import Interval
from invoice.schedule import (
    CATCH_UP_GAP_DAYS,
    backoff,
    due_date,
    next_charge_look,
    next_consent_look,
    plan_date,
    planned_due,
    submit_date,
)

# Due dates


def days_in(year: int, month: int) -> int:
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (31, 29 if is_leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def weeks_later(anchor: date, count: int) -> date:
    return date.fromordinal(anchor.toordinal() + 7 * count)


def months_later(anchor: date, count: int) -> date:
    months = anchor.year * 12 + anchor.month - 1 + count
    year, month = months // 12, months % 12 + 1
    return date(year, month, min(anchor.day, days_in(year, month)))


def years_later(anchor: date, count: int) -> date:
    return months_later(anchor, 12 * count)


@pytest.mark.parametrize(
    ("interval", "later", "periods"),
    [
        (Interval.WEEK, weeks_later, 522),
        (Interval.MONTH, months_later, 120),
        (Interval.YEAR, years_later, 10),
    ],
)
def test_every_day_of_a_leap_year_falls_due_right_for_ten_years(
    interval: Interval, later: Callable[[date, int], date], periods: int
) -> None:
    anchors = [date(2024, 1, 1) + timedelta(days=day) for day in range(366)]

    wrong = [
        (anchor, period)
        for anchor in anchors
        for period in range(1, periods + 1)
        if due_date(anchor, interval, period) != later(anchor, period)
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("anchor", "interval", "period", "due_on"),
    [
        (date(2027, 1, 31), Interval.MONTH, 1, date(2027, 2, 28)),
        (date(2027, 1, 31), Interval.MONTH, 2, date(2027, 3, 31)),  # back on the 31st: counted from the anchor
        (date(2028, 1, 31), Interval.MONTH, 1, date(2028, 2, 29)),
        (date(2027, 1, 29), Interval.MONTH, 1, date(2027, 2, 28)),
        (date(2027, 8, 31), Interval.MONTH, 1, date(2027, 9, 30)),
        (date(2028, 2, 29), Interval.YEAR, 1, date(2029, 2, 28)),
        (date(2028, 2, 29), Interval.YEAR, 4, date(2032, 2, 29)),
        (date(2096, 2, 29), Interval.YEAR, 4, date(2100, 2, 28)),  # no leap year
        (date(2027, 12, 31), Interval.MONTH, 1, date(2028, 1, 31)),
        (date(2027, 12, 31), Interval.WEEK, 1, date(2028, 1, 7)),
        (date(2028, 2, 26), Interval.WEEK, 1, date(2028, 3, 4)),
    ],
)
def test_a_day_that_the_month_lacks_becomes_its_last(
    anchor: date, interval: Interval, period: int, due_on: date
) -> None:
    assert due_date(anchor, interval, period) == due_on


@given(st.dates(date(2020, 1, 1), date(2060, 1, 1)), st.sampled_from(Interval), st.integers(1, 600))
def test_periods_fall_due_one_after_the_other(anchor: date, interval: Interval, period: int) -> None:
    assert due_date(anchor, interval, period) < due_date(anchor, interval, period + 1)


# What the provider is asked for

TODAY = date(2026, 11, 10)


@pytest.mark.parametrize(
    ("scheduled_on", "taken", "due_on"),
    [
        (date(2026, 12, 1), [], date(2026, 12, 1)),
        (date(2026, 12, 1), [date(2026, 12, 2)], date(2026, 12, 1)),  # one in good time is moved by nobody
        (date(2026, 11, 11), [], date(2026, 11, 11)),  # tomorrow is early enough
        (date(2026, 11, 10), [], date(2026, 11, 11)),
        (date(2026, 8, 1), [], date(2026, 11, 11)),
        (date(2026, 11, 10), [date(2026, 10, 10)], date(2026, 11, 11)),
        (date(2026, 9, 10), [date(2026, 11, 11)], date(2026, 11, 14)),
        (date(2026, 9, 10), [date(2026, 11, 8)], date(2026, 11, 11)),
        (date(2026, 9, 10), [date(2026, 11, 9)], date(2026, 11, 12)),
        (date(2026, 9, 10), [date(2026, 11, 13)], date(2026, 11, 16)),  # the one to come counts too
        (date(2026, 9, 10), [date(2026, 11, 14)], date(2026, 11, 11)),
        (date(2026, 9, 10), [date(2026, 11, 13), date(2026, 11, 10)], date(2026, 11, 16)),
        (date(2026, 9, 10), [date(2026, 11, 11), date(2026, 11, 16)], date(2026, 11, 19)),
    ],
)
def test_a_late_charge_is_due_as_early_as_may_be(scheduled_on: date, taken: list[date], due_on: date) -> None:
    assert planned_due(scheduled_on, TODAY, taken) == due_on


NEAR = st.dates(date(2026, 10, 1), date(2026, 12, 31))
SOME = st.lists(NEAR, max_size=12)


@given(NEAR, NEAR, SOME)
def test_a_charge_is_never_due_today_nor_before_its_time(scheduled_on: date, today: date, taken: list[date]) -> None:
    due_on = planned_due(scheduled_on, today, taken)

    assert due_on > today
    assert due_on >= scheduled_on


@given(NEAR, SOME)
def test_a_late_charge_keeps_its_distance_from_every_other(today: date, taken: list[date]) -> None:
    due_on = planned_due(today, today, taken)

    assert all(abs(due_on - other) >= timedelta(days=CATCH_UP_GAP_DAYS) for other in taken)


def test_planning_and_submitting_come_before_the_due_date() -> None:
    due_on = date(2028, 3, 1)

    assert plan_date(due_on, 7) == date(2028, 2, 23)
    assert submit_date(due_on, 3) == date(2028, 2, 27)


# When to look again


@pytest.mark.parametrize(
    ("now", "look_at"),
    [
        (datetime(2026, 11, 1, 12, tzinfo=UTC), datetime(2026, 11, 10, 9, tzinfo=UTC)),  # 10:00 in Oslo in winter
        (datetime(2026, 11, 10, 8, 59, tzinfo=UTC), datetime(2026, 11, 10, 9, tzinfo=UTC)),
        (datetime(2026, 11, 10, 9, 0, tzinfo=UTC), datetime(2026, 11, 10, 17, tzinfo=UTC)),
        (datetime(2026, 11, 10, 17, 0, tzinfo=UTC), datetime(2026, 11, 11, 9, tzinfo=UTC)),
        (datetime(2026, 11, 10, 23, 30, tzinfo=UTC), datetime(2026, 11, 11, 9, tzinfo=UTC)),
        (datetime(2026, 11, 13, 16, 59, tzinfo=UTC), datetime(2026, 11, 13, 17, tzinfo=UTC)),  # a day after the last
        (datetime(2026, 11, 13, 17, 0, tzinfo=UTC), datetime(2026, 11, 13, 23, tzinfo=UTC)),
        (datetime(2027, 5, 1, 0, 0, tzinfo=UTC), datetime(2027, 5, 1, 6, tzinfo=UTC)),
    ],
)
def test_a_charge_is_looked_at_after_each_batch(now: datetime, look_at: datetime) -> None:
    assert next_charge_look(date(2026, 11, 10), 2, "NO", now) == look_at


@pytest.mark.parametrize(
    ("market", "due_on", "look_at"),
    [
        ("NO", date(2026, 7, 1), datetime(2026, 7, 1, 8, tzinfo=UTC)),  # in summer
        ("FI", date(2026, 11, 10), datetime(2026, 11, 10, 8, tzinfo=UTC)),
        ("DK", date(2026, 10, 25), datetime(2026, 10, 25, 9, tzinfo=UTC)),  # the night in which the clocks go back
        ("DK", date(2026, 3, 29), datetime(2026, 3, 29, 8, tzinfo=UTC)),  # and forward
    ],
)
def test_a_charge_is_looked_at_by_the_clock_of_its_market(market: str, due_on: date, look_at: datetime) -> None:
    assert next_charge_look(due_on, 2, market, datetime(2026, 1, 1, tzinfo=UTC)) == look_at


@given(
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    st.integers(0, 14),
    st.sampled_from(sorted(MARKET_ZONES)),
    st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - zone beside
)
def test_the_next_look_at_a_charge_lies_ahead(due_on: date, retry_days: int, market: str, now: datetime) -> None:
    look_at = next_charge_look(due_on, retry_days, market, now)

    assert look_at > now
    assert look_at.astimezone(MARKET_ZONES[market]).date() >= due_on
    assert look_at.utcoffset() == timedelta()


def test_a_charge_is_looked_at_at_least_daily_from_its_due_date_on() -> None:
    now = datetime(2026, 11, 10, 0, 0, tzinfo=UTC)
    looks = []
    for _ in range(50):
        now = next_charge_look(date(2026, 11, 10), 14, "NO", now)
        looks.append(now)

    gaps = [later - earlier for earlier, later in zip(looks, looks[1:], strict=False)]
    assert max(gaps) <= timedelta(hours=16)
    assert min(gaps) >= timedelta(hours=6)


DRAFTED = datetime(2026, 11, 10, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age_s", "look_s"),
    [(0, 15), (14, 15), (15, 30), (31, 60), (479, 480), (480, 660), (659, 660), (660, 1560), (9000, 9900)],
)
def test_a_pending_consent_is_looked_at_ever_more_rarely(age_s: int, look_s: int) -> None:
    look_at = next_consent_look(DRAFTED, DRAFTED + timedelta(seconds=age_s))

    assert look_at == DRAFTED + timedelta(seconds=look_s)


# Waiting after a failure


@pytest.mark.parametrize(
    ("attempts", "step_s"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 900), (17, 900), (1000, 900), (10**9, 900)]
)
def test_the_wait_doubles_up_to_its_cap(attempts: int, step_s: float) -> None:
    waits = [backoff(attempts).total_seconds() for _ in range(50)]

    assert all(step_s / 2 <= wait <= step_s for wait in waits)


def test_waits_are_spread() -> None:
    assert len({backoff(5) for _ in range(50)}) > 40


def test_the_wait_has_the_base_and_the_cap_that_are_asked_for() -> None:
    assert timedelta(seconds=5) <= backoff(1, base_s=10) <= timedelta(seconds=10)
    assert timedelta(seconds=30) <= backoff(20, cap_s=60) <= timedelta(seconds=60)
