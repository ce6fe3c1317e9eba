"""The Vipps client before a fake Vipps: what it sends, what it understands, and what it does not believe."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import pytest
from werkzeug.wrappers import Response

from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval
from invoice.providers.base import AgreementView, ChargeView, Draft, Drafted, NewCharge, WebhookAddress
from invoice.providers.vipps import VippsClient
from invoice.providers.vipps_shapes import cut
from invoice.providers.vipps_webhooks import EVENTS
from tests.conftest import StandingClock
from tests.providers.conftest import UNIT, Call, FakeVipps

AGREEMENTS = "/recurring/v3/agreements"
BATCH = "/recurring/v3/agreements/charges"
AGREEMENT = "/recurring/v3/agreements/agr_1"
CHARGES = "/recurring/v3/agreements/agr_1/charges"
CHARGE = "/recurring/v3/agreements/agr_1/charges/name-1"
REFUND = "/recurring/v3/agreements/agr_1/charges/name-1/refund"
WEBHOOKS = "/webhooks/v1/webhooks"

THUMBS = "\U0001f44d"


def a_draft(**changes: Any) -> Draft:
    defaults: dict[str, Any] = {
        "external_id": "01JD3000000000000000000000",
        "product_name": "Avisen",
        "description": "Avisen hver dag",
        "amount": 9900,
        "currency": "NOK",
        "interval": Interval.MONTH,
        "phone": "+4791234567",
        "redirect_url": "https://pay.example.com/return/1",
        "manage_url": "https://pay.example.com/manage/1",
        "initial_amount": 0,
        "initial_name": "01JD3000000000000000000000-p0000-a0",
    }
    return Draft(**{**defaults, **changes})


def a_new_charge(**changes: Any) -> NewCharge:
    defaults: dict[str, Any] = {
        "agreement_id": "agr_1",
        "name": "01JD3000000000000000000000-p0012-a0",
        "amount": 9900,
        "description": "Avisen",
        "due_on": date(2026, 12, 1),
        "retry_days": 5,
    }
    return NewCharge(**{**defaults, **changes})


def an_agreement(**changes: Any) -> dict[str, Any]:
    """An answer with the fields that were seen live, and one that nobody has seen yet."""
    return {
        "id": "agr_1",
        "uuid": "5e2a6b7c-0000-4000-8000-000000000000",
        "externalId": "01JD3000000000000000000000",
        "status": "ACTIVE",
        "start": "2026-11-10T11:00:00Z",
        "stop": None,
        "created": "2026-11-10T10:55:00Z",
        "pricing": {"type": "LEGACY", "amount": 9900, "currency": "NOK"},
        "interval": {"unit": "MONTH", "count": 1, "text": "every month"},
        "countryCode": "NO",
        "fieldOfNextYear": {"a": [1]},
        **changes,
    }


def a_charge(**changes: Any) -> dict[str, Any]:
    return {
        "id": "name-1",
        "agreementId": "agr_1",
        "amount": 9900,
        "currency": "NOK",
        "description": "Avisen",
        "due": "2026-12-01T00:00:00Z",
        "status": "CHARGED",
        "type": "RECURRING",
        "transactionType": "DIRECT_CAPTURE",
        "summary": {"captured": 9900, "refunded": 0, "cancelled": 0},
        "history": [
            {"occurred": "2026-11-20T08:00:00Z", "event": "CREATE", "amount": 9900, "success": True},
            {"occurred": "2026-12-01T08:00:00.123456789Z", "event": "CAPTURE", "amount": 9900, "success": True},
        ],
        "fieldOfNextYear": "x",
        **changes,
    }


# Every call of the client, and what it does on the wire.
CALLS: dict[str, tuple[str, str, Callable[[VippsClient], Any]]] = {
    "draft": ("POST", AGREEMENTS, lambda c: c.draft_agreement("{}", key="key-1")),
    "find agreement": ("GET", AGREEMENT, lambda c: c.find_agreement("agr_1")),
    "stop": ("PATCH", AGREEMENT, lambda c: c.stop_agreement("agr_1", key="key-1")),
    "batch": ("POST", BATCH, lambda c: c.create_charges("[]", key="key-1")),
    "find charge": ("GET", CHARGE, lambda c: c.find_charge("agr_1", "name-1")),
    "list charges": ("GET", CHARGES, lambda c: c.list_charges("agr_1")),
    "refund": ("POST", REFUND, lambda c: c.refund_charge("agr_1", "name-1", "{}", key="key-1")),
    "register": ("POST", WEBHOOKS, lambda c: c.register_webhook("https://pay.example.com/hooks/1")),
    "list webhooks": ("GET", WEBHOOKS, lambda c: c.list_webhooks()),
    "delete webhook": ("DELETE", f"{WEBHOOKS}/w1", lambda c: c.delete_webhook("w1")),
}
KEYED = ("draft", "stop", "batch", "refund")
SILENT = ("stop", "refund", "delete webhook")  # calls whose answer says nothing


def only_call(fake_vipps: FakeVipps) -> Call:
    [call] = fake_vipps.calls
    return call


def try_call(client: VippsClient, name: str) -> None:
    """Make a call of which only the request matters."""
    with suppress(ProviderError):
        CALLS[name][2](client)


# Bodies


def test_a_draft_is_frozen_exactly(vipps: VippsClient) -> None:
    request = vipps.draft_request(a_draft(product_name="Blåbær", description="Ærlig og øm"))

    assert request == (
        '{"pricing":{"type":"LEGACY","amount":9900,"currency":"NOK"},'
        '"interval":{"unit":"MONTH","count":1},'
        '"merchantRedirectUrl":"https://pay.example.com/return/1",'
        '"merchantAgreementUrl":"https://pay.example.com/manage/1",'
        '"phoneNumber":"4791234567",'
        '"productName":"Blåbær",'
        '"productDescription":"Ærlig og øm",'
        '"externalId":"01JD3000000000000000000000"}'
    )


def test_a_draft_with_an_initial_charge_names_it(vipps: VippsClient) -> None:
    request = vipps.draft_request(a_draft(initial_amount=100))

    assert json.loads(request)["initialCharge"] == {
        "amount": 100,
        "description": "Avisen",
        "transactionType": "DIRECT_CAPTURE",
        "orderId": "01JD3000000000000000000000-p0000-a0",
    }


@pytest.mark.parametrize("interval", Interval)
def test_a_draft_is_for_one_interval(vipps: VippsClient, interval: Interval) -> None:
    request = vipps.draft_request(a_draft(interval=interval))

    assert json.loads(request)["interval"] == {"unit": interval.value, "count": 1}


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("a" * 45, 45, "a" * 45),
        ("a" * 46, 45, "a" * 44 + "…"),
        ("æøå" * 15, 45, "æøå" * 15),
        ("æøå" * 15 + "x", 45, "æøå" * 14 + "æø…"),
        (THUMBS * 45, 45, THUMBS * 45),
        (THUMBS * 46, 45, THUMBS * 44 + "…"),
        ("", 45, ""),
    ],
)
def test_a_text_is_cut_by_characters(text: str, limit: int, expected: str) -> None:
    assert cut(text, limit) == expected


@pytest.mark.parametrize("letter", ["a", "å", THUMBS])
def test_a_draft_keeps_within_the_lengths_of_vipps(vipps: VippsClient, letter: str) -> None:
    draft = a_draft(product_name=letter * 46, description=letter * 101, initial_amount=100)

    body = json.loads(vipps.draft_request(draft))

    assert body["productName"] == body["initialCharge"]["description"] == letter * 44 + "…"
    assert body["productDescription"] == letter * 99 + "…"


def test_a_batch_is_frozen_exactly(vipps: VippsClient) -> None:
    request = vipps.charges_request([a_new_charge(description="Blåbær"), a_new_charge(name="b", description="x" * 46)])

    assert request == (
        '[{"agreementId":"agr_1","orderId":"01JD3000000000000000000000-p0012-a0","amount":9900,'
        '"description":"Blåbær","transactionType":"DIRECT_CAPTURE","due":"2026-12-01","retryDays":5},'
        '{"agreementId":"agr_1","orderId":"b","amount":9900,'
        f'"description":"{"x" * 44}…","transactionType":"DIRECT_CAPTURE","due":"2026-12-01","retryDays":5}}]'
    )


def test_a_refund_is_frozen_exactly(vipps: VippsClient) -> None:
    request = vipps.refund_request(500, "å" * 101)

    assert request == f'{{"amount":500,"description":"{"å" * 99}…"}}'


@pytest.mark.parametrize(
    ("path", "send"),
    [
        (AGREEMENTS, lambda c, body: c.draft_agreement(body, key="k")),
        (BATCH, lambda c, body: c.create_charges(body, key="k")),
        (REFUND, lambda c, body: c.refund_charge("agr_1", "name-1", body, key="k")),
    ],
)
def test_a_frozen_body_is_sent_as_it_is(
    vipps: VippsClient, fake_vipps: FakeVipps, path: str, send: Callable[[VippsClient, str], Any]
) -> None:
    frozen = '{"b":1,  "a":"Blåbær"}'

    with suppress(ProviderError):
        send(vipps, frozen)

    call = only_call(fake_vipps)
    assert (call.method, call.path, call.body) == ("POST", path, frozen)


def test_a_stop_says_nothing_but_stopped(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("PATCH", AGREEMENT, status=204)

    vipps.stop_agreement("agr_1", key="key-1")

    assert only_call(fake_vipps).json == {"status": "STOPPED"}


@pytest.mark.parametrize("status", [202, 204])
@pytest.mark.parametrize("name", ["stop", "refund"])
def test_a_change_that_is_accepted_for_later_is_a_success(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str, status: int
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, status=status)

    made = make(vipps)

    assert made is None


def test_a_registration_asks_for_all_events(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("POST", WEBHOOKS, {"id": "w1", "secret": "s3cret"}, 201)

    registered = vipps.register_webhook("https://pay.example.com/hooks/1")

    assert registered == (WebhookAddress("w1", "https://pay.example.com/hooks/1"), "s3cret")
    assert only_call(fake_vipps).json == {"url": "https://pay.example.com/hooks/1", "events": list(EVENTS)}


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

    expected = "key-1" if name in KEYED else None
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
    fake_vipps.on(method, path, {"agreementId": "agr_1", "vippsConfirmationUrl": f"{fake_vipps.url}/dwo"}, 200)

    make(vipps)

    first, second = fake_vipps.calls
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == "key-1"
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
        vipps.stop_agreement("agr_1", key="key-1")

    assert fake_vipps.calls == []


def test_a_failed_token_is_not_kept(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on_token(None, 500)
    fake_vipps.on_token({"access_token": "a", "expires_in": 3600})
    fake_vipps.on("GET", AGREEMENT, an_agreement())
    with suppress(ProviderError):
        vipps.find_agreement("agr_1")

    found = vipps.find_agreement("agr_1")

    assert found is not None


def test_a_client_without_neighbour_is_unavailable(refusing_url: str) -> None:
    client = VippsClient(refusing_url, UNIT, ())

    with pytest.raises(ProviderUnavailable):
        client.find_agreement("agr_1")


# Drafts


@pytest.mark.parametrize(
    "url",
    [
        "https://pay.vipps.no/x?token=a.b.c",
        "https://api.vipps.no/dwo-api-application/v1/deeplink/vippsgateway?v=2&token=a",
        "https://pay.mobilepay.dk/x",
        "https://PAY.VIPPS.NO/x",
    ],
)
def test_a_draft_returns_where_the_person_is_to_go(vipps: VippsClient, fake_vipps: FakeVipps, url: str) -> None:
    fake_vipps.on("POST", AGREEMENTS, {"agreementId": "agr_1", "vippsConfirmationUrl": url, "chargeId": None}, 201)

    drafted = vipps.draft_agreement("{}", key="key-1")

    assert drafted == Drafted("agr_1", url)


def test_a_confirmation_on_the_host_of_the_api_is_taken(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    url = f"{fake_vipps.url}/landing/1"
    fake_vipps.on("POST", AGREEMENTS, {"agreementId": "agr_1", "vippsConfirmationUrl": url}, 201)

    drafted = vipps.draft_agreement("{}", key="key-1")

    assert drafted.confirmation_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/",
        "https://evilvipps.no/",
        "https://pay.vipps.no.evil.example.com/",
        "https://evil.example.com/pay.vipps.no",
        "https://evil.example.com?.vipps.no",
        "https://evil.example.com#.vipps.no",
        "https://pay.vipps.no@evil.example.com/",
        "https://evil.example.com\\.vipps.no/",
        "https://evil.example.com\\@pay.vipps.no/",
        "//evil.example.com/",
        "/relative",
        "pay.vipps.no/x",
        "http://pay.vipps.no/x",
        "javascript://pay.vipps.no/%0aalert(1)",
        "javascript:alert(1)",
        "https://[pay.vipps.no/",
        "https://",
        "",
    ],
)
def test_a_confirmation_on_a_foreign_host_is_not_believed(vipps: VippsClient, fake_vipps: FakeVipps, url: str) -> None:
    fake_vipps.on("POST", AGREEMENTS, {"agreementId": "agr_1", "vippsConfirmationUrl": url}, 201)

    with pytest.raises(ProviderUncertain):
        vipps.draft_agreement("{}", key="key-1")


# Agreements


def test_an_agreement_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement())

    found = vipps.find_agreement("agr_1")

    assert found == AgreementView(
        agreement_id="agr_1",
        external_id="01JD3000000000000000000000",
        status=AgreementStatus.ACTIVE,
        started_at=datetime(2026, 11, 10, 11, 0, tzinfo=UTC),
    )


@pytest.mark.parametrize("missing", [{"externalId": None, "start": None}, {"start": ""}])
def test_an_agreement_without_what_is_not_there_yet_is_read(
    vipps: VippsClient, fake_vipps: FakeVipps, missing: dict[str, Any]
) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement(status="PENDING", **missing))

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert (found.status, found.started_at) == (AgreementStatus.PENDING, None)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", AgreementStatus.PENDING),
        ("ACTIVE", AgreementStatus.ACTIVE),
        ("STOPPED", AgreementStatus.STOPPED),
        ("EXPIRED", AgreementStatus.EXPIRED),
        ("PAUSED", None),
        ("active", None),
        ("", None),
    ],
)
def test_an_agreement_has_the_status_that_we_have_a_word_for(
    vipps: VippsClient, fake_vipps: FakeVipps, word: str, status: AgreementStatus | None
) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement(status=word))

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert found.status is status


@pytest.mark.parametrize("name", ["find agreement", "find charge"])
def test_what_vipps_does_not_know_is_none(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, {"type": "about:blank", "detail": "Agreement not found."}, 404)

    found = make(vipps)

    assert found is None


@pytest.mark.parametrize("name", ["find agreement", "find charge"])
def test_a_refusal_to_look_is_not_an_absence(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, {}, 400)

    with pytest.raises(ProviderRefused):
        make(vipps)


# Charges


def test_a_charge_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGE, a_charge(summary={"captured": 9900, "refunded": 500}))

    found = vipps.find_charge("agr_1", "name-1")

    assert found == ChargeView(
        name="name-1",
        agreement_id="agr_1",
        amount=9900,
        currency="NOK",
        status=ChargeStatus.CHARGED,
        captured=9900,
        refunded=500,
        captured_at=datetime(2026, 12, 1, 8, 0, 0, 123456, tzinfo=UTC),
        failure_reason=None,
        is_initial=False,
    )


def test_a_charge_without_the_optional_fields_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGE, {"id": "name-1", "amount": 1, "currency": "DKK", "status": "DUE"})

    found = vipps.find_charge("agr_1", "name-1")

    assert found == ChargeView(
        name="name-1",
        agreement_id="agr_1",
        amount=1,
        currency="DKK",
        status=ChargeStatus.SUBMITTED,
        captured=0,
        refunded=0,
        captured_at=None,
        failure_reason=None,
        is_initial=False,
    )


def found_charge(vipps: VippsClient, fake_vipps: FakeVipps, **changes: Any) -> ChargeView:
    fake_vipps.on("GET", CHARGE, a_charge(**changes))
    found = vipps.find_charge("agr_1", "name-1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", ChargeStatus.SUBMITTED),
        ("DUE", ChargeStatus.SUBMITTED),
        ("PROCESSING", ChargeStatus.SUBMITTED),
        ("UNKNOWN", ChargeStatus.SUBMITTED),
        ("RESERVED", ChargeStatus.RESERVED),
        ("PARTIALLY_CAPTURED", ChargeStatus.RESERVED),
        ("CHARGED", ChargeStatus.CHARGED),
        ("PARTIALLY_REFUNDED", ChargeStatus.PARTIALLY_REFUNDED),
        ("REFUNDED", ChargeStatus.REFUNDED),
        ("FAILED", ChargeStatus.FAILED),
        ("CANCELLED", ChargeStatus.CANCELLED),
        ("SCHEDULED", None),
        ("", None),
    ],
)
def test_a_charge_has_the_status_that_we_have_a_word_for(
    vipps: VippsClient, fake_vipps: FakeVipps, word: str, status: ChargeStatus | None
) -> None:
    assert found_charge(vipps, fake_vipps, status=word).status is status


@pytest.mark.parametrize(("word", "is_initial"), [("INITIAL", True), ("RECURRING", False), ("UNSCHEDULED", False)])
def test_an_initial_charge_is_told_from_the_others(
    vipps: VippsClient, fake_vipps: FakeVipps, word: str, is_initial: bool
) -> None:
    assert found_charge(vipps, fake_vipps, type=word).is_initial is is_initial


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            {"failureReason": "user_action_required", "failureDescription": "User action required"},
            "user_action_required",
        ),
        ({"failureReason": None, "failureDescription": "User action required"}, "User action required"),
        ({"failureReason": "r" * 300}, "r" * 200),
        ({"failureReason": None, "failureDescription": None}, None),
        ({"failureReason": ""}, None),
    ],
)
def test_a_failed_charge_tells_why(
    vipps: VippsClient, fake_vipps: FakeVipps, failure: dict[str, Any], reason: str | None
) -> None:
    assert found_charge(vipps, fake_vipps, status="FAILED", **failure).failure_reason == reason


@pytest.mark.parametrize(
    ("history", "captured_at"),
    [
        ([], None),
        (None, None),
        ([{"event": "RESERVE", "occurred": "2026-12-01T08:00:00Z", "success": True}], None),
        ([{"event": "CAPTURE", "occurred": "2026-12-01T08:00:00Z", "success": False}], None),
        ([{"event": "CAPTURE", "occurred": "2026-12-01T09:00:00+01:00"}], datetime(2026, 12, 1, 8, tzinfo=UTC)),
        (
            [
                {"event": "CAPTURE", "occurred": "2026-12-03T08:00:00Z", "success": True},
                {"event": "CAPTURE", "occurred": "2026-12-02T08:00:00Z", "success": True},
                {"event": "CAPTURE", "occurred": "2026-12-01T08:00:00Z", "success": False},
                {"event": "REFUND", "occurred": "2026-11-01T08:00:00Z", "success": True},
            ],
            datetime(2026, 12, 2, 8, tzinfo=UTC),
        ),
    ],
)
def test_a_charge_tells_when_the_first_money_was_taken(
    vipps: VippsClient, fake_vipps: FakeVipps, history: object, captured_at: datetime | None
) -> None:
    assert found_charge(vipps, fake_vipps, history=history).captured_at == captured_at


NOT_AMOUNTS = [99.0, 99.5, "9900", True, "NaN", {"value": 9900}]


@pytest.mark.parametrize(
    "changes",
    [
        *({"amount": amount} for amount in (*NOT_AMOUNTS, None)),
        *({"summary": {place: amount}} for place in ("captured", "refunded") for amount in NOT_AMOUNTS),
    ],
    ids=str,
)
def test_an_amount_that_is_no_integer_is_not_believed(
    vipps: VippsClient, fake_vipps: FakeVipps, changes: dict[str, Any]
) -> None:
    fake_vipps.on("GET", CHARGE, a_charge(**changes))

    with pytest.raises(ProviderUncertain):
        vipps.find_charge("agr_1", "name-1")


def test_all_pages_of_charges_are_fetched(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [a_charge(id="a"), a_charge(id="b")], Continuation_Token="page-2")
    fake_vipps.on("GET", CHARGES, [a_charge(id="c")], Continuation_Token="page-3")
    fake_vipps.on("GET", CHARGES, [a_charge(id="d")], Continuation_Token="")

    charges = vipps.list_charges("agr_1")

    assert [charge.name for charge in charges] == ["a", "b", "c", "d"]
    sent = [call.headers.get("Continuation-Token") for call in fake_vipps.calls]
    assert sent == [None, "page-2", "page-3"]


def test_an_agreement_without_charges_has_an_empty_list(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [])

    charges = vipps.list_charges("agr_1")

    assert charges == []


def test_a_list_without_end_is_given_up(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [], Continuation_Token="again")

    with pytest.raises(ProviderUncertain):
        vipps.list_charges("agr_1")


def test_a_page_that_fails_fails_the_list(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [a_charge()], Continuation_Token="page-2")
    fake_vipps.on("GET", CHARGES, None, 500)

    with pytest.raises(ProviderUncertain):
        vipps.list_charges("agr_1")


# Batches


def an_invalid(name: str, *errors: str) -> dict[str, Any]:
    return {"chargeBatchItemDto": {"orderId": name, "amount": 1}, "errors": list(errors)}


@pytest.mark.parametrize(
    ("body", "accepted", "refused"),
    [
        ({"validCharges": ["a", "b"], "invalidCharges": []}, {"a", "b"}, {}),
        ({"validCharges": ["a"], "invalidCharges": [an_invalid("b", "too soon")]}, {"a"}, {"b": "too soon"}),
        (
            {"validCharges": [], "invalidCharges": [an_invalid("a", "one", "two"), an_invalid("b")]},
            set(),
            {"a": "one; two", "b": "no reason given"},
        ),
        ({"validCharges": None, "invalidCharges": None}, set(), {}),
        ({"validCharges": ["a"], "fieldOfNextYear": 1}, {"a"}, {}),
    ],
    ids=["all are taken", "some are taken", "none is taken", "silence", "no word on invalid ones"],
)
def test_a_batch_is_sorted(
    vipps: VippsClient, fake_vipps: FakeVipps, body: object, accepted: set[str], refused: dict[str, str]
) -> None:
    fake_vipps.on("POST", BATCH, body, 202)

    answer = vipps.create_charges("[]", key="key-1")

    assert (answer.accepted, answer.refused) == (accepted, refused)


# Shapes that nobody promised

WRONG_SHAPES: list[tuple[str, object]] = [
    *((name, body) for name in CALLS if name not in SILENT for body in (None, [1], 7, "text", True)),
    ("draft", {}),
    ("draft", {"agreementId": "agr_1"}),
    ("draft", {"vippsConfirmationUrl": "https://pay.vipps.no/"}),
    ("draft", {"agreementId": "agr_1", "vippsConfirmationUrl": None}),
    ("draft", {"agreementId": None, "vippsConfirmationUrl": "https://pay.vipps.no/"}),
    ("draft", {"agreementId": {}, "vippsConfirmationUrl": "https://pay.vipps.no/"}),
    ("find agreement", {}),
    ("find agreement", {"id": "agr_1"}),
    ("find agreement", an_agreement(id=None)),
    ("find agreement", an_agreement(status=["ACTIVE"])),
    ("find agreement", an_agreement(start="yesterday")),
    ("find agreement", an_agreement(start="2026-11-10T11:00:00")),  # in which zone?
    ("find agreement", an_agreement(start=1700000000)),
    ("find charge", {}),
    ("find charge", a_charge(id=None)),
    ("find charge", a_charge(status={})),
    ("find charge", a_charge(summary="none")),
    ("find charge", a_charge(summary=[9900])),
    ("find charge", a_charge(history={"event": "CAPTURE"})),
    ("find charge", a_charge(history=[{"event": "CAPTURE"}])),
    ("find charge", a_charge(history=[{"occurred": "2026-12-01T08:00:00Z"}])),
    ("find charge", a_charge(history=[{"event": "CAPTURE", "occurred": "noon"}])),
    ("list charges", {}),
    ("list charges", {"charges": []}),
    ("list charges", [a_charge(), {}]),
    ("batch", {"validCharges": 7}),
    ("batch", {"validCharges": "name-1"}),
    ("batch", {"invalidCharges": [{}]}),
    ("batch", {"invalidCharges": [{"chargeBatchItemDto": {}, "errors": []}]}),
    ("batch", {"invalidCharges": ["name-1"]}),
    ("register", {}),
    ("register", {"id": "w1"}),
    ("register", {"id": "w1", "secret": None}),
    ("register", {"id": "w1", "secret": ""}),
    ("register", {"id": None, "secret": "s3cret"}),
    ("list webhooks", {}),
    ("list webhooks", {"webhooks": None}),
    ("list webhooks", {"webhooks": [{"id": "w1"}]}),
]


@pytest.mark.parametrize(("name", "body"), WRONG_SHAPES)
def test_an_answer_of_the_wrong_shape_is_uncertain(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str, body: object
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, body, 200)

    with pytest.raises(ProviderUncertain):
        make(vipps)


@pytest.mark.parametrize("name", CALLS)
def test_a_failure_of_vipps_is_uncertain_in_every_call(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, None, 500)

    with pytest.raises(ProviderUncertain):
        make(vipps)


# Ids in paths


@pytest.mark.parametrize(
    ("identifier", "part"),
    [
        ("agr_1/charges/x", "agr_1%2Fcharges%2Fx"),
        ("../../v2", "..%2F..%2Fv2"),
        ("a b?c=d#e", "a%20b%3Fc%3Dd%23e"),
        ("a%2Fb", "a%252Fb"),
        ("a\\b;c", "a%5Cb%3Bc"),
        ("å\r\n", "%C3%A5%0D%0A"),
    ],
)
@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda c, i: c.find_agreement(i), "/recurring/v3/agreements/{}"),
        (lambda c, i: c.stop_agreement(i, key="k"), "/recurring/v3/agreements/{}"),
        (lambda c, i: c.list_charges(i), "/recurring/v3/agreements/{}/charges"),
        (lambda c, i: c.find_charge(i, "name-1"), "/recurring/v3/agreements/{}/charges/name-1"),
        (lambda c, i: c.find_charge("agr_1", i), "/recurring/v3/agreements/agr_1/charges/{}"),
        (lambda c, i: c.refund_charge(i, "n", "{}", key="k"), "/recurring/v3/agreements/{}/charges/n/refund"),
        (lambda c, i: c.refund_charge("a", i, "{}", key="k"), "/recurring/v3/agreements/a/charges/{}/refund"),
        (lambda c, i: c.delete_webhook(i), "/webhooks/v1/webhooks/{}"),
    ],
)
def test_an_id_is_one_part_of_its_path(
    vipps: VippsClient,
    fake_vipps: FakeVipps,
    make: Callable[[VippsClient, str], Any],
    path: str,
    identifier: str,
    part: str,
) -> None:
    with suppress(ProviderError):
        make(vipps, identifier)

    assert only_call(fake_vipps).path == path.format(part)


@pytest.mark.parametrize("identifier", ["..", ".", ""])
@pytest.mark.parametrize(
    "make",
    [
        lambda c, i: c.stop_agreement(i, key="k"),
        lambda c, i: c.find_agreement(i),
        lambda c, i: c.find_charge("agr_1", i),
        lambda c, i: c.find_charge(i, "name-1"),
        lambda c, i: c.refund_charge("agr_1", i, "{}", key="k"),
        lambda c, i: c.delete_webhook(i),
    ],
)
def test_an_id_that_would_name_another_path_is_not_sent(
    vipps: VippsClient, fake_vipps: FakeVipps, make: Callable[[VippsClient, str], Any], identifier: str
) -> None:
    with suppress(ProviderError):
        make(vipps, identifier)

    assert fake_vipps.calls == []


# Webhook registrations


def test_the_registrations_are_listed(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    listed = {"webhooks": [{"id": "w1", "url": "https://a/1", "events": []}, {"id": "w2", "url": "https://a/2"}]}
    fake_vipps.on("GET", WEBHOOKS, listed)

    webhooks = vipps.list_webhooks()

    assert webhooks == [WebhookAddress("w1", "https://a/1"), WebhookAddress("w2", "https://a/2")]


@pytest.mark.parametrize("status", [204, 404])
def test_a_registration_that_is_gone_counts_as_ended(vipps: VippsClient, fake_vipps: FakeVipps, status: int) -> None:
    fake_vipps.on("DELETE", f"{WEBHOOKS}/w1", None, status)

    vipps.delete_webhook("w1")

    assert only_call(fake_vipps).method == "DELETE"


def test_a_refused_end_of_a_registration_is_told(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("DELETE", f"{WEBHOOKS}/w1", {"detail": "No."}, 400)

    with pytest.raises(ProviderRefused):
        vipps.delete_webhook("w1")


# Secrets


def test_the_keys_do_not_show_when_they_are_printed() -> None:
    shown = f"{UNIT!r} {UNIT}"

    assert shown == "SalesUnit(123456) SalesUnit(123456)"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_no_log_and_no_message_holds_a_key_a_token_or_a_number(
    vipps: VippsClient, fake_vipps: FakeVipps, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    url = "https://evil.example.com/?token=a-landing-token"
    fake_vipps.on("POST", AGREEMENTS, {"agreementId": "agr_1", "vippsConfirmationUrl": url}, status)

    with pytest.raises(ProviderError) as caught:
        vipps.draft_agreement(vipps.draft_request(a_draft()), key="key-1")

    records = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    secrets = (UNIT.client_secret, UNIT.subscription_key, "token-1", "token-2", "a-landing-token", "91234567")
    for text in (*records, str(caught.value)):
        assert not [secret for secret in secrets if secret in text]
