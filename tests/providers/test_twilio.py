"""The Twilio client: Twilio's own library sent to a server of ours, and every outcome as one of our errors."""

from __future__ import annotations

import base64
import hmac
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from invoice.errors import (
    Invalid,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import MessageStatus
from invoice.providers.base import Receipt
from invoice.providers.twilio import STATUSES, TwilioClient
from tests.providers.conftest import Wire, falls_silent, says

SID = "AC" + "0" * 32
TOKEN = "the-auth-token"
PATH = f"/2010-04-01/Accounts/{SID}/Messages.json"
NUMBER = "+4791234567"
RECEIPT_URL = "https://pay.example.com/hooks/twilio/7"
SINCE = datetime(2026, 11, 10, 11, 0, tzinfo=UTC)

MakeWire = Callable[..., Wire]


def a_client(url: str) -> TwilioClient:
    return TwilioClient(url, SID, TOKEN)


def a_hasty_client(url: str) -> TwilioClient:
    """A client that waits a fifth of a second, so that a test need not wait for six."""
    client = a_client(url)
    client._client.http_client.timeout = 0.2
    return client


def send(client: TwilioClient) -> Receipt:
    return client.send(to=NUMBER, originator="2119", body="Hei på deg", receipt_url=RECEIPT_URL)


def find(client: TwilioClient) -> Receipt | None:
    return client.find(to=NUMBER, since=SINCE, containing="/s/abc")


def a_message(**changes: Any) -> dict[str, Any]:
    return {
        "sid": "SM1",
        "status": "queued",
        "body": "Hei https://pay.example.com/s/abc",
        "to": NUMBER,
        "date_created": "Tue, 10 Nov 2026 11:00:00 +0000",
        "error_code": None,
        "field_of_next_year": 1,
        **changes,
    }


def a_page(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages), "page": 0, "page_size": 50, "next_page_uri": None}


@pytest.fixture
def twilio(httpserver: HTTPServer) -> TwilioClient:
    return a_client(httpserver.url_for("").rstrip("/"))


# Sending


def test_a_text_is_sent_as_a_form(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    httpserver.expect_request(PATH).respond_with_json(a_message(), 201)

    send(twilio)

    [(request, _)] = httpserver.log
    assert request.method == "POST"
    assert request.form.to_dict() == {
        "To": NUMBER,
        "From": "2119",
        "Body": "Hei på deg",
        "StatusCallback": RECEIPT_URL,
        "ValidityPeriod": "14400",
    }


def test_a_text_is_sent_with_our_keys(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    httpserver.expect_request(PATH).respond_with_json(a_message(), 201)

    send(twilio)

    authorization = httpserver.log[0][0].authorization
    assert authorization is not None
    assert (authorization.username, authorization.password) == (SID, TOKEN)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("accepted", MessageStatus.ACCEPTED),
        ("scheduled", MessageStatus.ACCEPTED),
        ("queued", MessageStatus.ACCEPTED),
        ("sending", MessageStatus.ACCEPTED),
        ("sent", MessageStatus.SENT),
        ("delivered", MessageStatus.DELIVERED),
        ("read", MessageStatus.DELIVERED),
        ("undelivered", MessageStatus.UNDELIVERED),
        ("failed", MessageStatus.FAILED),
        ("canceled", MessageStatus.FAILED),
        ("of-next-year", None),
    ],
)
def test_a_sent_text_has_the_status_that_we_have_a_word_for(
    httpserver: HTTPServer, twilio: TwilioClient, word: str, status: MessageStatus | None
) -> None:
    httpserver.expect_request(PATH).respond_with_json(a_message(status=word), 201)

    receipt = send(twilio)

    assert receipt == Receipt("SM1", status)


# Finding


def test_a_text_is_looked_for_by_number_and_time(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    httpserver.expect_request(PATH).respond_with_json(a_page())

    find(twilio)

    [(request, _)] = httpserver.log
    assert request.method == "GET"
    assert request.args.to_dict() == {"To": NUMBER, "DateSent>": "2026-11-10T11:00:00Z", "PageSize": "50"}


def test_a_text_is_found_by_what_it_holds(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    page = a_page(a_message(sid="SM3", body="Another"), a_message(sid="SM2", body=None), a_message(status="delivered"))
    httpserver.expect_request(PATH).respond_with_json(page)

    found = find(twilio)

    assert found == Receipt("SM1", MessageStatus.DELIVERED)


def test_the_newest_of_two_texts_is_found(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    httpserver.expect_request(PATH).respond_with_json(a_page(a_message(sid="SM2"), a_message(sid="SM1")))

    found = find(twilio)

    assert found == Receipt("SM2", MessageStatus.ACCEPTED)


@pytest.mark.parametrize("messages", [[], [a_message(body="Another")], [a_message(body="/s/ABC")]])
def test_a_text_that_is_not_there_is_none(
    httpserver: HTTPServer, twilio: TwilioClient, messages: list[dict[str, Any]]
) -> None:
    httpserver.expect_request(PATH).respond_with_json(a_page(*messages))

    found = find(twilio)

    assert found is None


# Errors

EITHER = pytest.mark.parametrize("call", [send, find])


def twilio_says(number: int, code: int) -> str:
    return json.dumps({"code": code, "message": f"The number {NUMBER} is not right.", "status": number})


ERRORS: list[tuple[int, str, type[ProviderError], str]] = [
    (400, twilio_says(400, 21211), ProviderRefused, "Twilio refused with error 21211"),
    (404, twilio_says(404, 20404), ProviderRefused, "Twilio refused with error 20404"),
    (400, "<html>Bad</html>", ProviderRefused, "Twilio refused with error 400"),
    (400, "", ProviderRefused, "Twilio refused with error 400"),
    (400, "[1]", ProviderRefused, "Twilio refused with error 400"),
    (401, twilio_says(401, 20003), ProviderDenied, "Twilio refused our keys (20003)"),
    (403, twilio_says(403, 20403), ProviderDenied, "Twilio refused our keys (20403)"),
    (401, "", ProviderDenied, "Twilio refused our keys (401)"),
    (429, twilio_says(429, 20429), ProviderUnavailable, "Twilio has had too many calls"),
    (429, "", ProviderUnavailable, "Twilio has had too many calls"),
    (500, twilio_says(500, 20500), ProviderUncertain, "Twilio answered 500"),
    (502, "<html>Bad Gateway</html>", ProviderUncertain, "Twilio answered 502"),
    (503, "", ProviderUncertain, "Twilio answered 503"),
]


@pytest.mark.parametrize(("status", "body", "expected", "words"), ERRORS)
def test_an_error_in_sending_is_one_of_ours(
    httpserver: HTTPServer,
    twilio: TwilioClient,
    status: int,
    body: str,
    expected: type[ProviderError],
    words: str,
) -> None:
    httpserver.expect_request(PATH).respond_with_data(body, status)

    with pytest.raises(ProviderError) as caught:
        send(twilio)

    assert type(caught.value) is expected
    assert caught.value.message == words


@pytest.mark.parametrize(("status", "body", "expected"), [error[:3] for error in ERRORS])
def test_an_error_in_finding_is_one_of_ours(
    httpserver: HTTPServer, twilio: TwilioClient, status: int, body: str, expected: type[ProviderError]
) -> None:
    httpserver.expect_request(PATH).respond_with_data(body, status)

    with pytest.raises(ProviderError) as caught:
        find(twilio)

    assert type(caught.value) is expected


@EITHER
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, 21211, ProviderRefused),
        (401, 20003, ProviderDenied),
        (429, 20429, ProviderUnavailable),
        (500, 20500, ProviderUncertain),
    ],
)
def test_an_error_in_twilios_newer_shape_is_one_of_ours(
    httpserver: HTTPServer,
    twilio: TwilioClient,
    call: Callable[[TwilioClient], Any],
    status: int,
    code: int,
    expected: type[ProviderError],
) -> None:
    problem = {
        "type": f"https://www.twilio.com/docs/api/errors/{code}",
        "title": "Invalid number",
        "status": status,
        "code": code,
        "detail": f"The number {NUMBER} is not right.",
    }
    httpserver.expect_request(PATH).respond_with_json(problem, status)

    with pytest.raises(ProviderError) as caught:
        call(twilio)

    assert type(caught.value) is expected


def test_a_refusal_keeps_twilios_code(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    httpserver.expect_request(PATH).respond_with_data(twilio_says(400, 21610), 400)

    with pytest.raises(ProviderRefused) as caught:
        send(twilio)

    assert (caught.value.status, caught.value.problem) == (400, "21610")


@EITHER
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_is_uncertain(
    httpserver: HTTPServer, twilio: TwilioClient, call: Callable[[TwilioClient], Any], status: int
) -> None:
    httpserver.expect_request(PATH).respond_with_data("", status, {"Location": "/elsewhere"})

    with pytest.raises(ProviderUncertain):
        call(twilio)

    assert [request.path for request, _ in httpserver.log] == [PATH]


@pytest.mark.parametrize(
    "body",
    [
        "<html>Sign in</html>",
        "",
        "{",
        "null",
        "7",
        '"text"',
        "[]",
        "{}",
        '{"sid": null, "status": "queued"}',
        '{"sid": "", "status": "queued"}',
        "[" * 100_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_sent_text_of_the_wrong_shape_is_uncertain(httpserver: HTTPServer, twilio: TwilioClient, body: str) -> None:
    httpserver.expect_request(PATH).respond_with_data(body, 201)

    with pytest.raises(ProviderUncertain):
        send(twilio)


@pytest.mark.parametrize(
    "body",
    [
        "<html>Sign in</html>",
        "",
        "{",
        "null",
        "7",
        "[]",
        "{}",
        '{"messages": null}',
        '{"messages": [7]}',
        '{"messages": [{"body": "/s/abc"}]}',
        '{"messages": [{"body": 7}]}',
        "[" * 100_000,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_list_of_the_wrong_shape_is_uncertain(httpserver: HTTPServer, twilio: TwilioClient, body: str) -> None:
    httpserver.expect_request(PATH).respond_with_data(body, 200)

    with pytest.raises(ProviderUncertain):
        find(twilio)


@EITHER
def test_a_refused_connection_is_unavailable(refusing_url: str, call: Callable[[TwilioClient], Any]) -> None:
    with pytest.raises(ProviderUnavailable, match=r"^Twilio cannot be reached$"):
        call(a_client(refusing_url))


def test_a_connection_that_nobody_takes_is_unavailable(overrun_url: str) -> None:
    with pytest.raises(ProviderUnavailable, match=r"^Twilio cannot be reached$"):
        send(a_hasty_client(overrun_url))


@EITHER
@pytest.mark.parametrize(
    "script",
    [
        falls_silent(),
        falls_silent(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"),
        says(b""),
        says(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{}"),
    ],
    ids=["silence", "silence in the body", "hangs up before the answer", "hangs up in the body"],
)
def test_a_broken_wire_is_uncertain(wire: MakeWire, call: Callable[[TwilioClient], Any], script: object) -> None:
    broken = wire(script)

    with pytest.raises(ProviderUncertain, match=r"^Twilio did not answer"):
        call(a_hasty_client(broken.url))


# What must not come out


@EITHER
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, json.dumps(a_message())),
        (200, json.dumps(a_page(a_message()))),
        (200, "<html>"),
        (400, twilio_says(400, 21211)),
        (401, twilio_says(401, 20003)),
        (500, twilio_says(500, 20500)),
    ],
)
def test_no_log_and_no_message_holds_a_number_a_text_or_a_key(
    httpserver: HTTPServer,
    twilio: TwilioClient,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[TwilioClient], Any],
    status: int,
    body: str,
) -> None:
    httpserver.expect_request(PATH).respond_with_data(body, status)
    caplog.set_level(logging.DEBUG)

    said = []
    try:
        call(twilio)
    except ProviderError as error:
        said.append(str(error))

    # The server of the test writes its own lines.
    said += [f"{r.getMessage()} {r.__dict__}" for r in caplog.records if r.name != "werkzeug"]
    for text in said:
        assert not [secret for secret in ("91234567", "Hei", "/s/abc", TOKEN) if secret in text]


@EITHER
def test_twilios_library_logs_nothing(
    httpserver: HTTPServer,
    twilio: TwilioClient,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[TwilioClient], Any],
) -> None:
    httpserver.expect_request(PATH, method="POST").respond_with_json(a_message(), 201)
    httpserver.expect_request(PATH, method="GET").respond_with_json(a_page(a_message()))
    caplog.set_level(logging.DEBUG)

    call(twilio)

    assert [record for record in caplog.records if record.name.startswith("twilio")] == []


# Receipts

FORM = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": NUMBER, "From": "2119", "AccountSid": SID}


def signature_of(form: dict[str, str], *, url: str = RECEIPT_URL, token: str = TOKEN) -> str:
    """Sign as Twilio documents: HMAC-SHA1 over the address and the sorted fields, each name before its value."""
    text = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def is_genuine(headers: dict[str, str], form: dict[str, str] | None = None, *, url: str = RECEIPT_URL) -> bool:
    return a_client("").is_genuine(url, headers, FORM if form is None else form)


def test_a_receipt_that_twilio_signed_is_genuine() -> None:
    assert is_genuine({"X-Twilio-Signature": signature_of(FORM)})


def test_a_receipt_with_letters_beyond_ascii_can_be_genuine() -> None:
    form = {**FORM, "Body": "Blåbær \U0001f600"}

    assert is_genuine({"X-Twilio-Signature": signature_of(form)}, form)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {**FORM, "MessageStatus": "failed"},
        {**FORM, "MessageSid": "SM2"},
        {**FORM, "Added": ""},
        {name: value for name, value in FORM.items() if name != "To"},
    ],
)
def test_a_receipt_with_another_form_is_not_genuine(form: dict[str, str]) -> None:
    assert not is_genuine({"X-Twilio-Signature": signature_of(FORM)}, form)


@pytest.mark.parametrize(
    "url",
    ["https://pay.example.com/hooks/twilio/8", "https://pay.example.org/hooks/twilio/7", RECEIPT_URL + "?a=b"],
)
def test_a_receipt_for_another_address_is_not_genuine(url: str) -> None:
    assert not is_genuine({"X-Twilio-Signature": signature_of(FORM)}, url=url)


def test_a_receipt_signed_with_another_key_is_not_genuine() -> None:
    assert not is_genuine({"X-Twilio-Signature": signature_of(FORM, token="another")})


def test_a_signature_with_one_other_character_is_not_genuine() -> None:
    signature = signature_of(FORM)
    others = [signature[:at] + ("x" if signature[at] != "x" else "y") + signature[at + 1 :] for at in range(28)]

    believed = [other for other in others if is_genuine({"X-Twilio-Signature": other})]

    assert believed == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Twilio-Signature": ""},
        {"X-Twilio-Signature": "None"},
        {"X-Twilio-Signature": "é" * 28},
        {"X-Twilio-Signature": "\ud800"},
        {"X-Twilio-Signature": "\x00"},
    ],
)
def test_a_receipt_without_a_proper_signature_is_not_genuine(headers: dict[str, str]) -> None:
    assert not is_genuine(headers)


@given(st.text(max_size=40))
def test_no_signature_breaks_us(signature: str) -> None:
    assert not is_genuine({"X-Twilio-Signature": signature})


@pytest.mark.parametrize("word", STATUSES)
def test_a_receipt_tells_the_status(word: str) -> None:
    receipt = a_client("").read_receipt({"MessageSid": "SM1", "MessageStatus": word})

    assert receipt == Receipt("SM1", STATUSES[word])


@pytest.mark.parametrize("status", [{}, {"MessageStatus": ""}, {"MessageStatus": "of-next-year"}])
def test_a_receipt_with_an_unknown_status_tells_none(status: dict[str, str]) -> None:
    receipt = a_client("").read_receipt({"MessageSid": "SM1", **status})

    assert receipt == Receipt("SM1", None)


def test_a_receipt_tells_the_error() -> None:
    receipt = a_client("").read_receipt({"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": "30008"})

    assert receipt == Receipt("SM1", MessageStatus.FAILED, "30008")


@pytest.mark.parametrize("form", [{}, {"MessageSid": ""}, {"MessageStatus": "sent"}, {"MessageSid": "SM\x00"}])
def test_a_receipt_without_a_message_is_invalid(form: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        a_client("").read_receipt(form)

    assert list(caught.value.errors) == ["MessageSid"]


def test_a_receipt_with_an_unreadable_error_is_invalid() -> None:
    with pytest.raises(Invalid) as caught:
        a_client("").read_receipt({"MessageSid": "SM1", "ErrorCode": "3\x00"})

    assert list(caught.value.errors) == ["ErrorCode"]


# Where it goes


def test_without_an_address_of_ours_twilio_itself_is_asked(wire: MakeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = wire(says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"))
    client = a_client("")
    client._client.http_client.proxy = {"https": proxy.url}

    with pytest.raises(ProviderError):
        send(client)

    assert proxy.requests[0].startswith(b"CONNECT api.twilio.com:443 ")


def test_the_query_goes_along_to_an_address_of_ours(httpserver: HTTPServer, twilio: TwilioClient) -> None:
    first = {**a_page(a_message(body="Another")), "next_page_uri": f"{PATH}?Page=1&PageToken=a%2Fb"}
    httpserver.expect_ordered_request(PATH).respond_with_json(first)
    httpserver.expect_ordered_request(PATH).respond_with_json(a_page(a_message()))

    found = find(twilio)

    assert found == Receipt("SM1", MessageStatus.ACCEPTED)
    query = parse_qs(urlsplit(httpserver.log[1][0].url).query)
    assert query == {"Page": ["1"], "PageToken": ["a/b"]}
