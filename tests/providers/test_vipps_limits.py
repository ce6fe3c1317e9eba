"""The Vipps client's share of calls: what each call takes, and that one too many is never sent."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from flask import Flask

from invoice.errors import ProviderError, ProviderUnavailable
from invoice.lifecycle import AgreementStatus
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_caller import SalesUnit
from invoice.providers.vipps_limits import RATES
from invoice.services.limits import SharedRates
from tests.conftest import NOON, StandingClock
from tests.providers.calls import (
    A_CAPTURE,
    AGREEMENT,
    CALLS,
    CHARGES,
    KEY,
    NEW_TERMS,
    PAGE_2,
    SINCE,
    FakeRates,
    a_charge,
    an_agreement,
    counting,
    page_of_agreements,
)
from tests.providers.conftest import FakeVipps

# What each call takes from, and how much there is of it in a minute. The vendor limits no others.
TAKEN: dict[str, list[tuple[str, int]]] = {
    "draft": [("123456:draft", 300)],
    "find agreement": [("123456:fetch_agreement:agr_1", 120)],
    "show agreement": [("123456:fetch_agreement:agr_1", 120)],
    "list agreements": [("123456:list_agreements", 5)],
    "page of agreements": [("123456:list_agreements", 5)],
    "update": [("123456:update_agreement:agr_1", 5)],
    "stop": [("123456:update_agreement:agr_1", 5)],
    "accept": [],
    "batch": [("123456:create_charge", 500)],
    "charge": [("123456:create_charge", 500)],
    "find charge": [("123456:fetch_charge:agr_1:name-1", 10)],
    "find charge by name": [("123456:fetch_charge_by_id", 100)],
    "list charges": [("123456:list_charges:agr_1", 10)],
    "show charges": [("123456:list_charges:agr_1", 10)],
    "cancel": [("123456:cancel_charge:agr_1:name-1", 5)],
    "capture": [("123456:capture:agr_1:name-1", 5)],
    "refund": [("123456:refund:agr_1:name-1", 5)],
    "register": [],
    "list webhooks": [],
    "delete webhook": [],
}


@pytest.fixture
def rates() -> FakeRates:
    return FakeRates()


@pytest.fixture
def counted(fake_vipps: FakeVipps, rates: FakeRates) -> VippsClient:
    """Our client, with a share of calls."""
    return counting(fake_vipps, rates)


def tried(client: VippsClient, name: str) -> None:
    with suppress(ProviderError):
        CALLS[name][2](client)


def test_every_call_and_every_rate_stands_in_the_table() -> None:
    assert set(TAKEN) == set(CALLS)
    named = {bucket.split(":")[1] for taken in TAKEN.values() for bucket, _ in taken}
    assert named == set(RATES)


@pytest.mark.parametrize("name", CALLS)
def test_every_call_takes_from_its_own_bucket(counted: VippsClient, rates: FakeRates, name: str) -> None:
    tried(counted, name)

    assert rates.taken == TAKEN[name]
    assert rates.held == []


@pytest.mark.parametrize("name", [name for name, taken in TAKEN.items() if taken])
def test_a_call_over_the_share_is_not_sent(
    counted: VippsClient, fake_vipps: FakeVipps, rates: FakeRates, name: str
) -> None:
    rates.is_used_up = True

    with pytest.raises(ProviderUnavailable) as caught:
        CALLS[name][2](counted)

    assert fake_vipps.calls == []
    assert (caught.value.retry_after_s, caught.value.is_throttled) == (12.0, False)
    assert rates.held == []  # it was we who said no


@pytest.mark.parametrize("name", [name for name, taken in TAKEN.items() if not taken])
def test_a_call_that_vipps_does_not_limit_needs_no_share(
    counted: VippsClient, fake_vipps: FakeVipps, rates: FakeRates, name: str
) -> None:
    rates.is_used_up = True

    tried(counted, name)

    assert len(fake_vipps.calls) == 1


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "Tue, 10 Nov 2026 11:00:30 GMT"}, 30.0),
        ({"Retry_After": "soon"}, 10.0),
        ({}, 10.0),
    ],
)
def test_a_call_that_vipps_turns_away_holds_its_bucket(
    counted: VippsClient,
    fake_vipps: FakeVipps,
    rates: FakeRates,
    time: StandingClock,
    name: str,
    header: dict[str, str],
    seconds: float,
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, None, 429, **header)

    with pytest.raises(ProviderUnavailable):
        make(counted)

    assert rates.held == [(bucket, seconds) for bucket, _ in TAKEN[name]]


@pytest.mark.parametrize("name", [name for name, taken in TAKEN.items() if taken])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 408, 409, 500, 503])
def test_no_other_outcome_holds_a_bucket(
    counted: VippsClient, fake_vipps: FakeVipps, rates: FakeRates, name: str, status: int
) -> None:
    method, path, _ = CALLS[name]
    fake_vipps.on(method, path, None, status)

    tried(counted, name)

    assert rates.held == []


def test_a_connection_that_is_not_made_holds_no_bucket(refusing_url: str, fake_vipps: FakeVipps) -> None:
    rates = FakeRates()
    client = counting(fake_vipps, rates)
    client._caller.fetch_token()
    client._caller._pipe._base_url = refusing_url

    with pytest.raises(ProviderUnavailable):
        client.find_agreement("agr_1")

    assert (rates.taken, rates.held) == (TAKEN["find agreement"], [])


def test_a_token_takes_no_share_and_none_is_taken_without_one(
    counted: VippsClient, fake_vipps: FakeVipps, rates: FakeRates
) -> None:
    fake_vipps.on_token(None, 500)

    with pytest.raises(ProviderUnavailable):
        counted.find_agreement("agr_1")

    assert rates.taken == []


def test_a_call_that_is_made_again_with_a_new_token_is_two(
    counted: VippsClient, fake_vipps: FakeVipps, rates: FakeRates
) -> None:
    fake_vipps.on("GET", AGREEMENT, None, 401)
    fake_vipps.on("GET", AGREEMENT, an_agreement())

    assert counted.find_agreement("agr_1") is not None

    assert rates.taken == TAKEN["find agreement"] * 2


def test_each_page_takes_a_share(counted: VippsClient, fake_vipps: FakeVipps, rates: FakeRates) -> None:
    fake_vipps.on("GET", CHARGES, [a_charge()], Continuation_Token=PAGE_2)
    fake_vipps.on("GET", CHARGES, [])
    fake_vipps.on("GET", page_of_agreements(1), [an_agreement()] * 2000)
    fake_vipps.on("GET", page_of_agreements(2), [])

    tried(counted, "list charges")
    tried(counted, "list agreements")

    assert rates.taken == TAKEN["list charges"] * 2 + TAKEN["list agreements"] * 2


@pytest.mark.parametrize(
    "pairs",
    [
        [("agr_1", "a"), ("agr_1", "b"), ("agr_2", "a")],
        [("a:b", "c"), ("a", "b:c"), ("a:b:c", "c")],
        [("a/charges/b", "c"), ("a", "b/charges/c"), ("a", "b")],
        [("a", "b%2Fc"), ("a", "b/c"), ("a%2Fb", "c")],
    ],
)
def test_each_charge_of_each_agreement_has_a_bucket_of_its_own(
    counted: VippsClient, rates: FakeRates, pairs: list[tuple[str, str]]
) -> None:
    for agreement_id, name in pairs:
        with suppress(ProviderError):
            counted.capture_charge(agreement_id, name, A_CAPTURE, key=KEY)

    assert len({bucket for bucket, _ in rates.taken}) == len(pairs)


def test_each_agreement_has_a_bucket_of_its_own(counted: VippsClient, rates: FakeRates) -> None:
    for agreement_id in ("agr_1", "agr_2"):
        with suppress(ProviderError):
            counted.update_agreement(agreement_id, NEW_TERMS, key=KEY)

    assert [bucket for bucket, _ in rates.taken] == [
        "123456:update_agreement:agr_1",
        "123456:update_agreement:agr_2",
    ]


def test_each_sales_unit_has_buckets_of_its_own(fake_vipps: FakeVipps, rates: FakeRates) -> None:
    for number in ("123456", "234567"):
        tried(VippsClient(fake_vipps.url, SalesUnit("a", "b", "c", number), (), rates=rates), "draft")

    assert rates.taken == [("123456:draft", 300), ("234567:draft", 300)]


# With the share that all workers have together


def test_of_many_lists_at_once_only_a_share_reaches_vipps(app: Flask, fake_vipps: FakeVipps) -> None:
    client = counting(fake_vipps, SharedRates())
    fake_vipps.on("GET", page_of_agreements(1), [])
    refused: list[ProviderUnavailable] = []

    for _ in range(6):
        try:
            CALLS["list agreements"][2](client)
        except ProviderUnavailable as error:
            refused.append(error)

    assert (len(fake_vipps.calls), len(refused)) == (2, 4)
    assert all((error.retry_after_s or 0) > 0 for error in refused)


def test_what_vipps_holds_for_one_worker_it_holds_for_all(
    app: Flask, fake_vipps: FakeVipps, time: StandingClock
) -> None:
    one, another = counting(fake_vipps, SharedRates()), counting(fake_vipps, SharedRates())
    fake_vipps.on("GET", AGREEMENT, None, 429, Retry_After="30")
    fake_vipps.on("GET", AGREEMENT, an_agreement())
    with pytest.raises(ProviderUnavailable):
        one.find_agreement("agr_1")

    with pytest.raises(ProviderUnavailable) as caught:
        another.find_agreement("agr_1")
    time.move(seconds=30)

    assert (caught.value.retry_after_s, len(fake_vipps.calls)) == (30.0, 1)
    assert another.find_agreement("agr_1") is not None


def test_a_list_of_many_pages_is_read_page_by_page_within_the_share(
    app: Flask, fake_vipps: FakeVipps, time: StandingClock
) -> None:
    client = counting(fake_vipps, SharedRates())
    for number in (1, 2, 3):
        fake_vipps.on("GET", page_of_agreements(number), [an_agreement()] * (2000 if number < 3 else 1))

    def read(number: int) -> int:
        try:
            return len(client.page_of_agreements(AgreementStatus.ACTIVE, SINCE, number).views)
        except ProviderUnavailable as error:
            time.move(seconds=error.retry_after_s or 0)
            return read(number)

    assert [read(number) for number in (1, 2, 3)] == [2000, 2000, 1]
    assert [call.path for call in fake_vipps.calls] == [page_of_agreements(number) for number in (1, 2, 3)]
    assert time.at == NOON + timedelta(seconds=20)
