"""What every call of the Vipps client carries, and the token in it: asked for once, kept, dropped, renewed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from werkzeug.wrappers import Response

from invoice.errors import ProviderDenied, ProviderError, ProviderUnavailable
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_caller import SalesUnit
from tests.conftest import StandingClock
from tests.providers.calls import A_BATCH, AGREEMENT, CALLS, KEY, KEYED, a_drafted, an_agreement, only_call, try_call
from tests.providers.conftest import TOKEN_PATH, UNIT, FakeVipps

# Headers


@pytest.mark.parametrize("name", CALLS)
def test_every_call_goes_to_its_path(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    try_call(vipps, name)

    call = only_call(fake_vipps)
    assert (call.method, call.path) == CALLS[name][:2]


@pytest.mark.parametrize("name", CALLS)
def test_every_call_names_our_keys_and_our_system(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    try_call(vipps, name)

    headers = only_call(fake_vipps).headers
    assert headers["Authorization"] == "Bearer token-1"
    assert headers["Ocp-Apim-Subscription-Key"] == UNIT.subscription_key
    assert headers["Merchant-Serial-Number"] == UNIT.merchant_serial_number
    system = [value for header, value in headers.items() if header.lower().startswith("vipps-system-")]
    assert len(system) == 4
    assert all(1 <= len(value) <= 30 for value in system)


@pytest.mark.parametrize("name", CALLS)
def test_only_changes_carry_an_idempotency_key(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    try_call(vipps, name)

    expected = KEY if name in KEYED else None
    assert only_call(fake_vipps).headers.get("Idempotency-Key") == expected


@pytest.mark.parametrize("name", CALLS)
def test_only_bodies_carry_a_content_type(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    try_call(vipps, name)

    call = only_call(fake_vipps)
    assert call.headers.get("Content-Type") == ("application/json" if call.body else None)


@pytest.mark.parametrize("name", CALLS)
def test_only_the_token_call_carries_the_client_secret(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    try_call(vipps, name)

    assert UNIT.client_secret not in str(only_call(fake_vipps))


# The token


def test_the_token_is_asked_for_with_our_keys_in_headers(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    try_call(vipps, "find agreement")

    [call] = fake_vipps.token_calls
    assert (call.method, call.body) == ("POST", "")
    assert call.headers["client_id"] == UNIT.client_id
    assert call.headers["client_secret"] == UNIT.client_secret
    assert call.headers["Ocp-Apim-Subscription-Key"] == UNIT.subscription_key
    assert call.headers["Merchant-Serial-Number"] == UNIT.merchant_serial_number
    assert "Authorization" not in call.headers


@pytest.mark.parametrize("life", [3600, "3600"])
def test_the_token_is_kept_until_a_minute_before_its_end(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock, life: object
) -> None:
    fake_vipps.on_token({"access_token": "mine", "expires_in": life, "expires_on": "1", "token_type": "Bearer"})
    try_call(vipps, "find agreement")
    time.move(seconds=3539)

    try_call(vipps, "find charge")

    assert len(fake_vipps.token_calls) == 1
    assert {call.headers["Authorization"] for call in fake_vipps.calls} == {"Bearer mine"}


@pytest.mark.parametrize("life", [3600, "3600"])
def test_a_new_token_is_fetched_before_the_old_one_ends(
    vipps: VippsClient, fake_vipps: FakeVipps, time: StandingClock, life: object
) -> None:
    fake_vipps.on_token({"access_token": "old", "expires_in": life})
    fake_vipps.on_token({"access_token": "new", "expires_in": life})
    try_call(vipps, "find agreement")
    time.move(seconds=3540)

    try_call(vipps, "find agreement")

    assert [call.headers["Authorization"] for call in fake_vipps.calls] == ["Bearer old", "Bearer new"]


def test_each_sales_unit_has_a_token_of_its_own(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    other = VippsClient(fake_vipps.url, SalesUnit("another", "secret-2", "key-2", "234567"), ())

    for client in (vipps, other, vipps, other):
        try_call(client, "find agreement")

    assert [call.headers["client_id"] for call in fake_vipps.token_calls] == [UNIT.client_id, "another"]
    sent = [(call.headers["Merchant-Serial-Number"], call.headers["Authorization"]) for call in fake_vipps.calls]
    assert sent == [("123456", "Bearer token-1"), ("234567", "Bearer token-2")] * 2


def at_once(count: int, act: Callable[[], object]) -> None:
    """Have so many threads do something together; raise what any of them raised."""
    gate = threading.Barrier(count)

    def wait_and_act() -> object:
        gate.wait()
        return act()

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(wait_and_act) for _ in range(count)]:
            done.result()


def test_only_one_of_many_threads_fetches_the_token(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement())

    at_once(20, lambda: vipps.find_agreement("agr_1"))

    assert len(fake_vipps.token_calls) == 1
    assert len(fake_vipps.calls) == 20


def test_many_threads_whose_token_is_refused_fetch_one_new_token(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    refusals = threading.Barrier(20)

    def refuse() -> Response:
        refusals.wait()  # all 20 hold the old token before the first is told that it is refused
        return Response("", 401)

    for _ in range(20):
        fake_vipps.act("GET", AGREEMENT, refuse)
    fake_vipps.on("GET", AGREEMENT, an_agreement())

    at_once(20, lambda: vipps.find_agreement("agr_1"))

    assert len(fake_vipps.token_calls) == 2
    assert len(fake_vipps.calls) == 40


@pytest.mark.parametrize("name", KEYED)
def test_a_refused_token_is_dropped_and_the_same_call_made_once_more(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, status=401)
    fake_vipps.on(method, path, a_drafted(vippsConfirmationUrl=f"{fake_vipps.url}/dwo"), 200)

    make(vipps)

    first, second = fake_vipps.calls
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == KEY
    assert [c.headers["Authorization"] for c in (first, second)] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("name", CALLS)
def test_a_second_refused_token_is_denied(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, {"result": {"message": "Unauthorized"}}, 401)

    with pytest.raises(ProviderDenied):
        make(vipps)

    assert len(fake_vipps.calls) == 2


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_token_that_is_refused_is_about_our_keys_and_not_about_the_call(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str, status: int
) -> None:
    fake_vipps.on_token({"error": "unauthorized_client", "error_description": "No such client."}, status)

    with pytest.raises(ProviderDenied):
        CALLS[name][2](vipps)

    assert fake_vipps.calls == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (None, 500),
        (b"<html>502</html>", 502),
        (b"<html>Sign in</html>", 200),
        (None, 200),
        (None, 429),
        ([], 200),
        ({}, 200),
        ({"access_token": "a"}, 200),
        ({"access_token": "a", "expires_in": None}, 200),
        ({"access_token": "a", "expires_in": "soon"}, 200),
        ({"expires_in": 3600}, 200),
        ({"access_token": None, "expires_in": 3600}, 200),
        ({"access_token": "", "expires_in": 3600}, 200),
        ({"access_token": {}, "expires_in": 3600}, 200),
        (b'{"access_token": "a", "expires_in": 1e999}', 200),
        ({"access_token": "a", "expires_in": 10**15}, 200),
    ],
)
def test_without_a_token_nothing_has_happened(
    vipps: VippsClient, fake_vipps: FakeVipps, body: object, status: int
) -> None:
    fake_vipps.on_token(body, status)

    with pytest.raises(ProviderUnavailable):
        vipps.stop_agreement("agr_1", key=KEY)

    assert fake_vipps.calls == []


def test_a_failed_token_is_not_kept(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on_token(None, 500)
    fake_vipps.on_token({"access_token": "a", "expires_in": 3600})
    fake_vipps.on("GET", AGREEMENT, an_agreement())
    with suppress(ProviderError):
        vipps.find_agreement("agr_1")

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert [call.headers["Authorization"] for call in fake_vipps.calls] == ["Bearer a"]


def test_a_token_that_comes_too_often_is_waited_for_as_long_as_vipps_says(
    vipps: VippsClient, fake_vipps: FakeVipps
) -> None:
    fake_vipps.on("POST", TOKEN_PATH, None, 429, Retry_After="7")

    with pytest.raises(ProviderUnavailable) as caught:
        vipps.create_charges(A_BATCH, key=KEY)

    assert (caught.value.retry_after_s, fake_vipps.calls) == (7.0, [])


def test_keys_are_checked_by_the_token_alone(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    vipps.check_keys()

    assert [call.path for call in fake_vipps.all_calls] == [TOKEN_PATH]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_keys_that_are_wrong_are_denied(vipps: VippsClient, fake_vipps: FakeVipps, status: int) -> None:
    fake_vipps.on_token({"error": "invalid_client", "error_description": "No such client."}, status)

    with pytest.raises(ProviderDenied, match="No such client"):
        vipps.check_keys()


def test_a_client_without_neighbour_is_unavailable(refusing_url: str) -> None:
    client = VippsClient(refusing_url, UNIT, ())

    with pytest.raises(ProviderUnavailable):
        client.find_agreement("agr_1")
