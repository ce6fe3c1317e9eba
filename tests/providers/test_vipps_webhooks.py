"""Webhooks of Vipps: only what Vipps signed, for our address, this week, is genuine."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from invoice.errors import Invalid
from invoice.providers.base import Ring
from invoice.providers.vipps_webhooks import EVENTS, Webhooks, sign
from tests.conftest import NOON, StandingClock

# The vendor's published example.
VECTOR_SECRET = "A0+AeKBRG2KRGvnNwJpQlb6IJFk48CKXCIcrLoHncVJKDILsQSxS6NWCccwWm6r6FhGKhiHTBsG2wo/xU6FY/A=="
VECTOR_URL = "https://webhook.site/e2cee29b-012e-4f1d-8ef4-e95fd74a7a63"
VECTOR_BODY = b'{"some-unique-content":"ee6e441b-cc4a-46f8-895d-a5af79bcc233/hello-world"}'
VECTOR_HEADERS = {
    "x-ms-date": "Thu, 30 Mar 2023 08:38:32 GMT",
    "x-ms-content-sha256": "lNlsp1XA03N34HrQsVzPgJKtC+r7l/RBF4V3JQUWMj4=",
    "Authorization": (
        "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256"
        "&Signature=agAiSyogQbDHpeucoNwYz+yAr5nJ+v+zasdkSbqzv+U="
    ),
}

URL = "https://pay.example.com/hooks/vipps/a-registration?b=1"
SECRET = "a-secret"
BODY = b'{"agreementId":"agr_1"}'


def signed(
    body: bytes = BODY, *, url: str = URL, secret: str = SECRET, sent_at: datetime | str = NOON
) -> dict[str, str]:
    """Headers as Vipps makes them."""
    sent = sent_at if isinstance(sent_at, str) else format_datetime(sent_at, usegmt=True)
    content = b64encode(sha256(body).digest()).decode()
    return {
        "x-ms-date": sent,
        "x-ms-content-sha256": content,
        "Authorization": "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
        + sign(url, secret, sent, content),
    }


def is_genuine(headers: Mapping[str, str], body: bytes = BODY, *, url: str = URL, secret: str = SECRET) -> bool:
    return Webhooks().is_genuine(url, secret, CaseInsensitiveDict(headers), body)


# Genuine


def test_the_published_example_is_genuine(time: StandingClock) -> None:
    time.move_to(datetime(2023, 3, 30, 8, 39, tzinfo=UTC))

    assert is_genuine(VECTOR_HEADERS, VECTOR_BODY, url=VECTOR_URL, secret=VECTOR_SECRET)


def test_what_was_signed_for_our_address_is_genuine(time: StandingClock) -> None:
    assert is_genuine(signed())


def test_an_empty_body_can_be_genuine(time: StandingClock) -> None:
    assert is_genuine(signed(b""), b"")


def test_the_port_of_the_registered_address_is_signed(time: StandingClock) -> None:
    url = "http://127.0.0.1:5000/hooks/vipps/1"

    assert is_genuine(signed(url=url), url=url)
    assert not is_genuine(signed(url="http://127.0.0.1/hooks/vipps/1"), url=url)


# Mutations


def other_bits(raw: bytes) -> list[bytes]:
    """All that differ from `raw` in one bit."""
    return [bytes([*raw[:at], raw[at] ^ (1 << bit), *raw[at + 1 :]]) for at in range(len(raw)) for bit in range(8)]


def other_texts(text: str) -> list[str]:
    """What differs from `text` in one character, by one more and by one less."""
    changed = [text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :] for at in range(len(text))]
    return [*changed, text + "x", "x" + text, text[:-1], text[1:], ""]


def test_a_body_with_one_other_bit_is_not_genuine(time: StandingClock) -> None:
    headers = signed()

    believed = [body for body in other_bits(BODY) if is_genuine(headers, body)]

    assert believed == []


def test_a_body_with_one_other_bit_and_its_own_hash_is_not_genuine(time: StandingClock) -> None:
    headers = signed()

    believed = [
        body
        for body in other_bits(BODY)
        if is_genuine({**headers, "x-ms-content-sha256": b64encode(sha256(body).digest()).decode()}, body)
    ]

    assert believed == []


@pytest.mark.parametrize("body", [b"", BODY + b"\n", b" " + BODY, BODY[:-1], BODY * 2])
def test_a_body_that_is_longer_or_shorter_is_not_genuine(time: StandingClock, body: bytes) -> None:
    assert not is_genuine(signed(), body)


@pytest.mark.parametrize("name", ["Authorization", "x-ms-content-sha256", "x-ms-date"])
def test_a_header_with_one_other_character_is_not_genuine(time: StandingClock, name: str) -> None:
    headers = signed()

    believed = [text for text in other_texts(headers[name]) if is_genuine({**headers, name: text})]

    assert believed == []


def test_another_date_of_the_same_meaning_is_not_genuine(time: StandingClock) -> None:
    headers = signed()
    headers["x-ms-date"] = headers["x-ms-date"].replace("GMT", "+0000")

    assert not is_genuine(headers)


@pytest.mark.parametrize("name", ["Authorization", "x-ms-content-sha256", "x-ms-date"])
def test_a_missing_header_is_not_genuine(time: StandingClock, name: str) -> None:
    headers = signed()
    del headers[name]

    assert not is_genuine(headers)


def test_another_secret_is_not_genuine(time: StandingClock) -> None:
    headers = signed()

    believed = [secret for secret in other_texts(SECRET) if is_genuine(headers, secret=secret)]

    assert believed == []


@pytest.mark.parametrize(
    "url",
    [
        "https://pay.example.com/hooks/vipps/another?b=1",
        "https://pay.example.com/hooks/vipps/a-registration?b=2",
        "https://pay.example.com/hooks/vipps/a-registration",
        "https://pay.example.com/hooks/vipps/a-registration/?b=1",
        "https://pay.example.com/Hooks/vipps/a-registration?b=1",
        "https://pay.example.org/hooks/vipps/a-registration?b=1",
        "https://pay.example.com:443/hooks/vipps/a-registration?b=1",
    ],
)
def test_another_address_is_not_genuine(time: StandingClock, url: str) -> None:
    assert not is_genuine(signed(), url=url)


# Dates


@pytest.mark.parametrize("age", [timedelta(), timedelta(days=7), timedelta(days=8), timedelta(minutes=-10)])
def test_a_webhook_of_this_week_is_genuine(time: StandingClock, age: timedelta) -> None:
    assert is_genuine(signed(sent_at=NOON - age))


@pytest.mark.parametrize(
    "age", [timedelta(days=9), timedelta(days=8, seconds=1), timedelta(minutes=-11), timedelta(minutes=-10, seconds=-1)]
)
def test_a_webhook_of_another_time_is_not_genuine(time: StandingClock, age: timedelta) -> None:
    assert not is_genuine(signed(sent_at=NOON - age))


@pytest.mark.parametrize(
    "sent",
    [
        "",
        " ",
        "now",
        "2026-11-10T11:00:00Z",
        "1794308400",
        "Tue, 10 Nov 2026 11:00:00 -0000",  # which is to say: of no zone
        "Tue, 10 Nov 2026 25:61:61 GMT",
        "Tue, 31 Feb 2026 11:00:00 GMT",
        "Tue, 10 Nov 99999 11:00:00 GMT",
        f"Tue, 10 Nov {'9' * 30} 11:00:00 GMT",
        "Sat, 01 Jan 0001 00:00:00 +1200",
        "Fri, 31 Dec 9999 23:59:59 -1200",
        "Tue, 10 Nov 2026 11:00:00 +99999999",
    ],
)
def test_what_is_no_date_of_this_week_is_not_genuine(time: StandingClock, sent: str) -> None:
    assert not is_genuine(signed(sent_at=sent))


PIECES = st.one_of(
    st.sampled_from(["Tue,", "10", "Nov", "2026", "GMT", "-0000", "+9999", "-99999999", "11:00:00", "24:61:61", ":"]),
    st.integers().map(str),
    st.text(max_size=6),
)


@given(st.lists(PIECES, max_size=8).map(" ".join))
def test_no_date_breaks_us(sent: str) -> None:
    assert not is_genuine({**signed(secret="another"), "x-ms-date": sent})


@pytest.mark.parametrize("name", ["Authorization", "x-ms-content-sha256", "x-ms-date"])
@pytest.mark.parametrize("text", ["é", "Ã©", "\u0661\u0662", "\ud800", "\x00", "\U0001f600"])
def test_a_header_beyond_ascii_is_not_genuine(time: StandingClock, name: str, text: str) -> None:
    headers = signed()

    assert not is_genuine({**headers, name: text})
    assert not is_genuine({**headers, name: headers[name] + text})


# What they are about


def test_a_webhook_about_an_agreement_is_read() -> None:
    body = {
        "agreementId": "agr_1",
        "agreementUUID": "5e2a6b7c-0000-4000-8000-000000000000",
        "agreementExternalId": "01JD3000000000000000000000",
        "eventType": "recurring.agreement-activated.v1",
        "occurred": "2026-11-10T11:00:00Z",
        "actor": "USER",
        "msn": "123456",
    }

    ring = Webhooks().read_webhook(json.dumps(body).encode())

    assert ring == Ring("agr_1", "01JD3000000000000000000000", None, account="123456")


def test_a_webhook_about_a_charge_is_read() -> None:
    body = {"agreementId": "agr_1", "chargeId": "name-1", "eventType": "recurring.charge-captured.v1", "amount": 1}

    ring = Webhooks().read_webhook(json.dumps(body).encode())

    assert ring == Ring("agr_1", None, "name-1")


def test_a_webhook_of_an_unknown_kind_still_tells_where_to_look() -> None:
    ring = Webhooks().read_webhook(b'{"agreementId": "agr_1", "eventType": "recurring.of-next-year.v1", "x": [1]}')

    assert ring == Ring("agr_1", None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"7",
        b"true",
        b'"agr_1"',
        b"[]",
        b'["agreementId"]',
        b"{}",
        b'{"chargeId": "name-1"}',
        b'{"agreementId": null}',
        b'{"agreementId": ""}',
        b'{"agreementId": {}}',
        b'{"agreementId": ["agr_1"]}',
        b'{"agreementId": "agr_1", "chargeId": {}}',
        b'{"agreementId": "agr_1", "agreementExternalId": []}',
        b'{"agreementId": "a\\u0000b"}',
        b'{"agreementId": "a\\ud800b"}',
        b"\xff\xfe",
        b'{"agreementId": "\xe6"}',
        b"\x1f\x8b\x08\x00",
        b"agreementId=agr_1",
        b"<xml/>",
        b"[" * 100_000,
        b'{"agreementId":' * 100_000,
        b'{"agreementId":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_garbage_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        Webhooks().read_webhook(body)


@given(st.binary(max_size=40))
def test_no_bytes_break_us(body: bytes) -> None:
    with pytest.raises(Invalid):
        Webhooks().read_webhook(body)


def test_all_events_are_of_the_recurring_api() -> None:
    assert len(set(EVENTS)) == 10
    assert all(event.startswith("recurring.") and event.endswith(".v1") for event in EVENTS)
