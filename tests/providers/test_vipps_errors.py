"""What the Vipps client says when Vipps does not do as asked: one of four errors, without a secret or a number."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.providers.vipps import VippsClient
from tests.conftest import StandingClock
from tests.providers.calls import (
    A_DRAFT,
    AGREEMENT,
    AGREEMENTS,
    CALLS,
    CHARGE,
    CONTEXT,
    KEY,
    REFUND,
    a_charge,
    a_drafted,
    an_agreement,
)
from tests.providers.conftest import TOKEN_PATH, UNIT, FakeVipps

PROBLEMS = "https://developer.vippsmobilepay.com/docs/APIs/recurring-api/recurring-api-problems"

PROBLEM = {
    "type": f"{PROBLEMS}#charge-amount-too-high",
    "title": "Bad Request",
    "status": 400,
    "detail": "The amount is too high.",
    "instance": "/vipps-recurring-merchant-api/v3/agreements/agr_1/charges",
    "contextId": CONTEXT,
    "extraDetails": [{"name": "amount", "reason": "must be at most 5 times the price"}],
}
GATEWAY = {
    "responseInfo": {"responseCode": 401, "responseMessage": "Unauthorized"},
    "result": {"message": "Access denied due to invalid subscription key"},
}
VERSION_2 = [
    {
        "field": "amount",
        "message": "Too much.",
        "code": "recurring.core.charges.refund.too_much",
        "contextId": CONTEXT,
    },
    {"field": "other", "message": "Not this one.", "code": "x", "contextId": "y"},
]
# What stands in an error's body, and the words that we make of it.
SHAPES: dict[str, tuple[Any, str]] = {
    "problem": (PROBLEM, "The amount is too high.; amount: must be at most 5 times the price"),
    "gateway": (GATEWAY, "Access denied due to invalid subscription key"),
    "version 2": (VERSION_2, "Too much."),
    "empty": (None, "without a reason"),
    "page": (b"<html><h1>Bad Request</h1></html>", "without a reason"),
    "empty array": ([], "without a reason"),
    "array of texts": (["no"], "without a reason"),
    "keys": ({"error": "invalid_client", "error_description": "No such client."}, "No such client."),
}


def refusal(vipps: VippsClient) -> ProviderError:
    """Make a call that fails, and return how."""
    with pytest.raises(ProviderError) as caught:
        CALLS["refund"][2](vipps)
    return caught.value


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [400, 404, 406, 409, 415, 422])
def test_a_no_is_a_refusal_in_the_words_of_vipps(
    vipps: VippsClient, fake_vipps: FakeVipps, status: int, shape: str
) -> None:
    body, words = SHAPES[shape]
    fake_vipps.on("POST", REFUND, body, status)

    error = refusal(vipps)

    assert isinstance(error, ProviderRefused)
    assert (error.status, error.message) == (status, f"Vipps refused: {words}")
    assert error.problem == ("charge-amount-too-high" if shape == "problem" else "")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_are_denied_in_the_words_of_vipps(
    vipps: VippsClient, fake_vipps: FakeVipps, status: int, shape: str
) -> None:
    body, words = SHAPES[shape]
    fake_vipps.on("POST", REFUND, body, status)

    error = refusal(vipps)

    assert isinstance(error, ProviderDenied)
    assert error.message == f"Vipps refused our keys ({status}: {words})"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [302, 408, 425, 500, 502, 503, 504])
def test_an_answer_that_says_nothing_of_what_was_asked_is_uncertain(
    vipps: VippsClient, fake_vipps: FakeVipps, status: int, shape: str
) -> None:
    fake_vipps.on("POST", REFUND, SHAPES[shape][0], status)

    error = refusal(vipps)

    assert isinstance(error, ProviderUncertain)
    assert error.message == f"Vipps answered {status}"


@pytest.mark.parametrize("name", CALLS)
def test_a_failure_of_vipps_is_uncertain_in_every_call(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, None, 500)

    with pytest.raises(ProviderUncertain):
        make(vipps)

    assert len(fake_vipps.calls) == 1  # whoever called decides whether it is sent again


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "Tue, 10 Nov 2026 11:00:30 GMT"}, 30.0),
        ({"Retry_After": "Tue, 10 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"Retry_After": "soon"}, None),
        ({}, None),
    ],
)
def test_too_many_calls_are_to_be_made_later_in_every_call(
    vipps: VippsClient,
    fake_vipps: FakeVipps,
    time: StandingClock,
    name: str,
    header: dict[str, str],
    seconds: float | None,
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, GATEWAY, 429, **header)

    with pytest.raises(ProviderUnavailable) as caught:
        make(vipps)

    assert (caught.value.is_throttled, caught.value.retry_after_s) == (True, seconds)
    assert len(fake_vipps.calls) == 1


def test_a_connection_that_was_not_made_is_not_a_call_too_many(refusing_url: str) -> None:
    client = VippsClient(refusing_url, UNIT, ())

    with pytest.raises(ProviderUnavailable) as caught:
        client.find_agreement("agr_1")

    assert not caught.value.is_throttled


def test_fields_and_words_of_next_year_harm_nothing(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    odd = {"status": "OF_NEXT_YEAR", "nested": {"deep": [[{}]]}, "number": 1.5, "nothing": None}
    fake_vipps.on("GET", AGREEMENT, an_agreement(**odd, campaign={"type": "FULL_FLEX_CAMPAIGN"}, interval=None))
    fake_vipps.on("GET", CHARGE, a_charge(**odd, type="OF_NEXT_YEAR", processingMode="OF_NEXT_YEAR"))

    agreement, charge = vipps.find_agreement("agr_1"), vipps.find_charge("agr_1", "name-1")

    assert agreement is not None
    assert charge is not None
    assert (agreement.status, charge.status, charge.is_initial) == (None, None, False)


# The log


def lines_of_ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "invoice.providers.http"]


@pytest.mark.parametrize(
    ("body", "context"),
    [
        (PROBLEM, CONTEXT),
        ({"title": "Bad Request", "traceId": "00-bb841c551513e233de8a01472013fa9f-542c71e40916a6ce-00"}, None),
        (VERSION_2, CONTEXT),
        ({"contextId": "a\nb" + "c" * 100}, "a b" + "c" * 57),
        (GATEWAY, ""),
        (None, ""),
        (b"<html>", ""),
    ],
)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_log_line_of_a_failed_call_carries_the_id_that_vipps_support_asks_for(
    vipps: VippsClient,
    fake_vipps: FakeVipps,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: Any,
    context: str | None,
) -> None:
    caplog.set_level(logging.DEBUG, "invoice.providers.http")
    fake_vipps.on("POST", REFUND, body, status)
    expected = body["traceId"] if context is None else context

    refusal(vipps)

    line = lines_of_ours(caplog)[-1]
    assert line.getMessage().startswith(f"Vipps POST {REFUND}: {status} in ")
    assert line.getMessage().endswith(f", context {expected}" if expected else " s")
    assert line.__dict__["context_id"] == expected
    assert (line.__dict__["provider"], line.__dict__["outcome"]) == ("Vipps", str(status))
    assert line.levelno == logging.INFO


def test_the_log_line_of_a_success_is_for_debugging_only_and_has_no_id(
    vipps: VippsClient, fake_vipps: FakeVipps, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "invoice.providers.http")
    fake_vipps.on("GET", AGREEMENT, an_agreement(contextId=CONTEXT))

    vipps.find_agreement("agr_1")

    line = lines_of_ours(caplog)[-1]
    assert (line.levelno, line.__dict__["context_id"]) == (logging.DEBUG, "")
    assert CONTEXT not in line.getMessage()


# Secrets


def test_the_keys_do_not_show_when_they_are_printed() -> None:
    shown = f"{UNIT!r} {UNIT}"

    assert shown == "SalesUnit(123456) SalesUnit(123456)"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Invalid phone number 4791234567", "Invalid phone number …"),
        ("+4791234567 is unknown", "… is unknown"),
        ("91234567", "…"),
        ("+358401234567, 4512345678", "…, …"),
        ("at most 2000000", "at most 2000000"),  # an amount, not a number
        ("agr_5kSeqz", "agr_5kSeqz"),
        ("x" * 290 + " 4791234567", "x" * 290 + " …"),
        ("x" * 295 + "4791234567", "x" * 295 + "…"),
    ],
)
@pytest.mark.parametrize("place", ["detail", "reason", "message", "gateway", "error_description"])
@pytest.mark.parametrize("status", [400, 403])
def test_an_error_holds_no_phone_number(
    vipps: VippsClient, fake_vipps: FakeVipps, status: int, place: str, said: str, told: str
) -> None:
    bodies: dict[str, Any] = {
        "detail": {"detail": said},
        "reason": {"extraDetails": [{"name": "", "reason": said}]},
        "message": [{"message": said}],
        "gateway": {"result": {"message": said}},
        "error_description": {"error_description": said},
    }
    fake_vipps.on("POST", REFUND, bodies[place], status)

    error = refusal(vipps)

    shown = f": {told}" if place == "reason" else told
    assert shown in error.message
    assert "1234567" not in error.message


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 429, 500])
def test_no_log_and_no_message_holds_a_key_a_token_or_a_number(
    vipps: VippsClient, fake_vipps: FakeVipps, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    url = "https://evil.example.com/?token=a-landing-token"
    told = a_drafted(vippsConfirmationUrl=url, detail="Nobody has 4791234567", contextId=CONTEXT)
    fake_vipps.on("POST", AGREEMENTS, told, status, X_Answer="an-answer-header")

    with pytest.raises(ProviderError) as caught:
        vipps.draft_agreement(A_DRAFT, key=KEY)

    records = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    keys = (UNIT.client_id, UNIT.client_secret, UNIT.subscription_key, "token-1", "token-2", KEY)
    secrets = (*keys, "a-landing-token", "91234567", "an-answer-header", "Avisen", "01JD3")
    assert records
    for text in (*records, str(caught.value), repr(caught.value)):
        assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_token_that_is_refused_is_told_without_any_key(
    vipps: VippsClient, fake_vipps: FakeVipps, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    fake_vipps.on("POST", TOKEN_PATH, {"error_description": "No such client."}, status)

    with pytest.raises(ProviderError) as caught:
        vipps.check_keys()

    records = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    keys = (UNIT.client_id, UNIT.client_secret, UNIT.subscription_key)
    assert not [key for key in keys for text in (*records, str(caught.value)) if key in text]


def test_a_frozen_draft_holds_no_key() -> None:
    assert set(json.loads(A_DRAFT)) == {
        *("pricing", "interval", "merchantRedirectUrl", "merchantAgreementUrl"),
        *("phoneNumber", "productName", "productDescription", "externalId"),
    }
