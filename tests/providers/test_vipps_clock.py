"""How far our clock is from Vipps', as its answers date themselves: nothing is charged while they disagree."""

from __future__ import annotations

from datetime import timedelta

import pytest

from invoice.providers.vipps import VippsClient
from tests.conftest import StandingClock
from tests.providers.calls import AGREEMENT, an_agreement
from tests.providers.conftest import TOKEN_PATH, FakeVipps

A_TOKEN = {"access_token": "mine", "expires_in": 3600}


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Tue, 10 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("Tue, 10 Nov 2026 10:59:30 GMT", timedelta(seconds=30)),
        ("Tue, 10 Nov 2026 11:10:00 GMT", timedelta(minutes=-10)),
        ("Tue, 10 Nov 2026 12:00:00 +0100", timedelta(0)),
    ],
)
def test_our_clock_is_compared_with_the_date_of_an_answer(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock, date: str, skew: timedelta
) -> None:
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date=date)

    assert vipps.clock_skew() == skew
    assert (len(fake_vipps.token_calls), fake_vipps.calls) == (1, [])


def test_the_newest_answer_counts(vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock) -> None:
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date="Tue, 10 Nov 2026 11:00:00 GMT")
    fake_vipps.on("GET", AGREEMENT, an_agreement(), Date="Tue, 10 Nov 2026 10:59:20 GMT")
    vipps.check_keys()

    vipps.find_agreement("agr_1")

    assert vipps.clock_skew() == timedelta(seconds=40)
    assert len(fake_vipps.all_calls) == 2  # nobody is asked once an answer has come


def test_clocks_that_differ_much_are_compared_anew(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock
) -> None:
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date="Tue, 10 Nov 2026 10:40:00 GMT")
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date="Tue, 10 Nov 2026 10:59:59 GMT")
    vipps.check_keys()

    assert vipps.clock_skew() == timedelta(seconds=1)  # it has been put right
    assert vipps.clock_skew() == timedelta(seconds=1)
    assert len(fake_vipps.token_calls) == 2


@pytest.mark.parametrize("by", [timedelta(seconds=61), timedelta(days=2), timedelta(days=-2)])
def test_an_answer_of_another_time_is_asked_for_anew(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock, by: timedelta
) -> None:
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date="Tue, 10 Nov 2026 11:00:00 GMT")
    vipps.check_keys()

    time.move_to(time.at + by)

    assert vipps.clock_skew() == by
    assert len(fake_vipps.token_calls) == 2


@pytest.mark.parametrize(
    "date",
    [
        "now",
        "",
        "Tue, 31 Feb 2026 11:00:00 GMT",
        "Tue, 10 Nov 2026 10:40:00 -0000",  # which is to say: of no zone
        "Tue, 10 Nov 99999 11:00:00 GMT",
        "Tue, 10 Nov 2026 11:00:00 +99999999",
        f"Tue, 10 Nov {'9' * 30} 11:00:00 GMT",
    ],
)
def test_an_answer_without_a_date_that_can_be_read_changes_nothing(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock, date: str
) -> None:
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date="Tue, 10 Nov 2026 10:58:00 GMT")
    fake_vipps.on("GET", AGREEMENT, an_agreement(), Date=date)

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert vipps.clock_skew() == timedelta(minutes=2)


def test_without_any_date_the_clocks_are_taken_to_agree(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock
) -> None:
    fake_vipps.on("POST", TOKEN_PATH, A_TOKEN, Date="now")

    assert vipps.clock_skew() == timedelta(0)
