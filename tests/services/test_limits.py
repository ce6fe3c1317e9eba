"""How often we call: no minute sees more than the provider allows, whoever counts and whatever the clock does."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from invoice.errors import ProviderUnavailable
from invoice.providers.vipps_limits import RATES
from invoice.services.jobs import Jobs
from invoice.services.limits import SharedRates
from invoice.store.db import db, reading
from invoice.store.models import RateLimit
from tests.conftest import NOON, StandingClock

MINUTE = timedelta(minutes=1)
SHARES = sorted({rate.per_minute for rate in RATES.values()})
WORKERS = 4


@pytest.fixture
def rates(app: Flask) -> SharedRates:
    return SharedRates()


def wait_s(rates: SharedRates, bucket: str, per_minute: int) -> float:
    """Try to take a call; return 0 when it was granted, else the seconds that we are told to wait."""
    try:
        rates.take(bucket, per_minute)
    except ProviderUnavailable as error:
        if not error.retry_after_s:
            raise AssertionError("A refusal says how long to wait.") from error
        return error.retry_after_s
    return 0.0


def is_granted(rates: SharedRates, bucket: str = "a", per_minute: int = 5) -> bool:
    return wait_s(rates, bucket, per_minute) == 0


def fullest_minute(granted: list[datetime]) -> int:
    """Return the most calls in any minute, wherever it begins; one that is a minute later to the tick counts too."""
    return max(sum(begin <= at <= begin + MINUTE for at in granted) for begin in granted)


def use_up(rates: SharedRates, bucket: str = "a", per_minute: int = 5) -> int:
    """Take all that there is at this moment; return how much it was."""
    taken = 0
    while is_granted(rates, bucket, per_minute):
        taken += 1
    return taken


def buckets() -> set[str]:
    with reading():
        return set(db.session.scalars(select(RateLimit.bucket)))


# No minute sees more


@pytest.mark.parametrize("per_minute", [2, 3, 7, 11, 13, *SHARES])
def test_whoever_takes_all_he_can_keeps_within_every_minute(
    rates: SharedRates, time: StandingClock, per_minute: int
) -> None:
    granted: list[datetime] = []

    while time.at < NOON + 1.25 * MINUTE:
        wait = wait_s(rates, "a", per_minute)
        if wait:
            time.move(seconds=wait)
        else:
            granted.append(time.at)

    assert fullest_minute(granted) <= per_minute
    # And the share is really to be had: half of it at once, the rest over the minute.
    assert granted.count(NOON) == max(per_minute // 2, 1)
    assert sum(at < NOON + MINUTE for at in granted) >= per_minute - 1


@pytest.mark.parametrize("seed", range(12))
def test_no_pattern_of_calls_gets_more_through_than_a_share(rates: SharedRates, time: StandingClock, seed: int) -> None:
    chance = random.Random(seed)
    per_minute = chance.choice([3, 5, 10])
    gaps = chance.choice([[0, 0, 0, 61, 119.999], [0.001, 7, 20], [0, 29.9, 30.1, 60], [5.9, 6, 12.0, 12.1], [0.2]])
    granted: list[datetime] = []

    for _ in range(120):
        if is_granted(rates, "a", per_minute):
            granted.append(time.at)
        time.move(seconds=chance.choice(gaps) * chance.choice([1, 1, 1, chance.random()]))

    assert fullest_minute(granted) <= per_minute
    assert len(granted) >= per_minute // 2


@pytest.mark.parametrize("per_minute", SHARES)
def test_the_wait_that_is_told_is_enough_and_not_too_long(
    rates: SharedRates, time: StandingClock, per_minute: int
) -> None:
    use_up(rates, "a", per_minute)
    wait = wait_s(rates, "a", per_minute)

    time.move(seconds=wait - 0.001)
    assert not is_granted(rates, "a", per_minute)
    time.move(seconds=0.001)
    assert is_granted(rates, "a", per_minute)


def test_a_call_that_was_not_granted_is_not_counted(rates: SharedRates, time: StandingClock) -> None:
    use_up(rates)

    waits = {wait_s(rates, "a", 5) for _ in range(50)}
    time.move(seconds=waits.pop())

    assert not waits
    assert is_granted(rates)


def test_a_bucket_is_whole_again_when_its_calls_are_a_minute_old(rates: SharedRates, time: StandingClock) -> None:
    assert use_up(rates) == 2
    time.move(minutes=1)

    assert use_up(rates) == 2


def test_buckets_are_independent(rates: SharedRates) -> None:
    use_up(rates, "123456:refund:agr_1:a")
    rates.hold("123456:refund:agr_1:b", 60)

    assert not is_granted(rates, "123456:refund:agr_1:a")
    assert not is_granted(rates, "123456:refund:agr_1:b")
    assert is_granted(rates, "123456:refund:agr_1:c")
    assert is_granted(rates, "234567:refund:agr_1:a")


# Held


def test_a_held_bucket_gives_nothing_until_its_time(rates: SharedRates, time: StandingClock) -> None:
    rates.hold("a", 30)

    assert wait_s(rates, "a", 5) == 30.0
    time.move(seconds=29.9)
    assert not is_granted(rates)
    time.move(seconds=0.1)
    assert is_granted(rates)


def test_a_bucket_that_is_in_use_can_be_held(rates: SharedRates, time: StandingClock) -> None:
    use_up(rates)

    rates.hold("a", 50)

    assert wait_s(rates, "a", 5) == 50.0
    time.move(seconds=50)
    assert is_granted(rates)


def test_a_short_hold_does_not_shorten_what_the_share_asks_for(rates: SharedRates) -> None:
    use_up(rates)

    rates.hold("a", 1)

    assert wait_s(rates, "a", 5) == 20.0


@pytest.mark.parametrize("seconds", [3601, 86400, 999999.0, 2.5e11])
def test_nothing_is_held_for_longer_than_an_hour(rates: SharedRates, time: StandingClock, seconds: float) -> None:
    rates.hold("a", seconds)

    assert wait_s(rates, "a", 5) == 3600.0
    time.move(hours=1)
    assert is_granted(rates)


def test_a_second_hold_does_not_end_the_first(rates: SharedRates, time: StandingClock) -> None:
    rates.hold("a", 60)

    rates.hold("a", 10)

    time.move(seconds=59)
    assert not is_granted(rates)


# Clocks that went wrong


def freed_after(rates: SharedRates, time: StandingClock) -> timedelta | None:
    """Ask every minute for two hours, as workers do; return after how long a call is granted, or None."""
    began = time.at
    for _ in range(120):
        if is_granted(rates):
            return time.at - began
        time.move(minutes=1)
    return None


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(minutes=59), timedelta(hours=1)])
def test_a_clock_that_jumped_back_a_little_freezes_no_bucket_for_longer_than_that(
    rates: SharedRates, time: StandingClock, ahead: timedelta
) -> None:
    time.move_to(NOON + ahead)
    use_up(rates)
    time.move_to(NOON)

    freed = freed_after(rates, time)

    assert freed is not None
    assert freed <= ahead + MINUTE


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=2), timedelta(days=3650)])
@pytest.mark.parametrize("use", [use_up, lambda rates: rates.hold("a", 10)], ids=["used up", "held while it is new"])
def test_a_clock_that_jumped_back_far_freezes_no_bucket_for_longer_than_an_hour(
    rates: SharedRates, time: StandingClock, use: Callable[[SharedRates], object], ahead: timedelta
) -> None:
    time.move_to(NOON + ahead)
    use(rates)
    time.move_to(NOON)

    freed = freed_after(rates, time)

    assert freed is not None
    assert freed <= timedelta(hours=1)


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(hours=2), timedelta(days=2), timedelta(days=3650)])
def test_a_clock_that_jumped_back_holds_no_bucket_for_longer_than_an_hour(
    rates: SharedRates, time: StandingClock, ahead: timedelta
) -> None:
    assert is_granted(rates)
    time.move_to(NOON + ahead)
    rates.hold("a", 10)
    time.move_to(NOON)

    freed = freed_after(rates, time)

    assert freed is not None
    assert freed <= timedelta(hours=1)


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=3650)])
def test_a_clock_that_jumps_ahead_finds_every_bucket_whole(
    rates: SharedRates, time: StandingClock, ahead: timedelta
) -> None:
    use_up(rates)
    rates.hold("a", 3600)

    time.move(seconds=ahead.total_seconds())

    assert use_up(rates) == 2


# Many workers


def together(app: Flask, *tasks: Callable[[], int]) -> list[int]:
    """Run tasks at the same moment, each in a thread with an application context of its own."""
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], int]) -> int:
        with app.app_context():
            start.wait(timeout=30)
            return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.parametrize("per_minute", [5, 10, 100])
def test_workers_at_once_take_no_more_than_one_share(app: Flask, time: StandingClock, per_minute: int) -> None:
    def take() -> int:
        return sum(is_granted(SharedRates(), "a", per_minute) for _ in range(per_minute // 2 + 2))

    at_once = sum(together(app, *[take] * WORKERS))
    time.move(seconds=59.9)
    later = sum(together(app, *[take] * WORKERS))

    assert at_once == per_minute // 2
    assert at_once + later <= per_minute


def test_workers_at_once_take_from_many_new_buckets(app: Flask) -> None:
    def take() -> int:
        return sum(is_granted(SharedRates(), f"bucket {number}", 10) for number in range(20) for _ in range(2))

    granted = together(app, *[take] * WORKERS)

    assert sum(granted) == 20 * 5
    assert len(buckets()) == 20


def test_a_hold_of_one_worker_counts_for_the_others(app: Flask) -> None:
    SharedRates().hold("a", 30)

    assert together(app, *[lambda: int(is_granted(SharedRates()))] * WORKERS) == [0] * WORKERS


# Old ones


def test_job_rates_forgets_the_buckets_that_have_long_been_empty(jobs: Jobs, time: StandingClock) -> None:
    rates = SharedRates()
    use_up(rates, "old")
    rates.hold("held then", 10)
    time.move(minutes=61)
    use_up(rates, "in use")
    rates.hold("old and held now", 10)

    done = next(job for job in jobs.table if job.name == "rates").run_once()

    assert (done, buckets()) == (2, {"in use", "old and held now"})


def test_job_rates_keeps_a_bucket_that_is_still_held(jobs: Jobs, rates: SharedRates, time: StandingClock) -> None:
    use_up(rates)
    time.move(minutes=50)
    rates.hold("a", 3600)
    time.move(minutes=55)

    done = rates.forget_old()

    assert (done, buckets()) == (0, {"a"})
    assert not is_granted(rates)


def test_a_bucket_that_was_forgotten_begins_anew(rates: SharedRates, time: StandingClock) -> None:
    use_up(rates)
    time.move(minutes=62)

    assert rates.forget_old() == 1
    assert rates.forget_old() == 0
    assert use_up(rates) == 2
