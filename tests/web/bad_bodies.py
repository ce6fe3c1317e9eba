"""What partners send: the documented payload byte for byte, and a table of bodies that must all be refused.

Each bad body stands with the name that the answer must hold, "body" where no single field is to blame. The helpers at
the end tell whether anything changed and whether an answer gives something away.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from werkzeug.test import TestResponse

from invoice.store.db import Base, db, reading

# Source: the original's wiki page "Vipps Recurring". The no-break spaces are its own.
DOCUMENTED = (
    "{\n"
    '"partnerId":"10295",\n'
    '"msisdn":"+4712457890",\n'
    '"currency":"NOK",\n'
    '"orderNumber":"unique-order-number-12346",\n'
    '"amount":"12.50",\n'
    '"campaignAmount":"10",\u00a0\n'
    '"paymentProvider":"Vipps",\n'
    '"description":"Recurring\u00a0payment\u00a0subscription\u00a0request",\n'
    '"basis":"1",\n'
    '"agreementUrl":"https://www.merchantwebsite.com",\n'
    '"name":"The\u00a0name\u00a0of\u00a0the\u00a0product",\n'
    '"sendSMS":"true",\n'
    '"smsText":"Click\u00a0to\u00a0proceed",\n'
    '"smsNotificationOriginator":"2119"\n'
    "}"
).encode()

# The same in proper types, and with everything that may be left out.
GOOD: dict[str, Any] = {
    "partnerId": 10295,
    "msisdn": "+4791234567",
    "currency": "NOK",
    "orderNumber": "order-1",
    "amount": 99,
    "campaignAmount": 10,
    "paymentProvider": "Vipps",
    "description": "Avisen hver dag",
    "basis": 2,
    "memberId": "member-1",
    "agreementUrl": "https://www.example.com/mine",
    "name": "Avisen",
    "statusCallbackUrl": "https://www.example.com/status",
    "confirmSubscriptionCallbackUrl": "https://www.example.com/confirm",
    "sendSMS": False,
    "smsText": "Click to proceed",
    "smsNotificationOriginator": "2119",
}


@dataclass(frozen=True)
class BadBody:
    """Bytes that must be refused, and the name that the answer must hold."""

    what: str
    raw: bytes
    names: str
    status: int = 400


def body(**changes: Any) -> bytes:
    """Return the good body with other values."""
    return json.dumps({**GOOD, **changes}).encode()


def _literal(field: str, literal: str) -> bytes:
    """Return the good body with `literal` in a field's place, as it stands."""
    mark = "\x01mark\x01"
    return body(**{field: mark}).replace(json.dumps(mark).encode(), literal.encode("utf-8", "surrogatepass"))


def _with(field: str, *values: Any) -> list[BadBody]:
    return [BadBody(f"{field} = {str(v)[:40]!a}", body(**{field: v}), field) for v in values]


def _written(field: str, *literals: str) -> list[BadBody]:
    return [BadBody(f"{field} written {text[:40]!a}", _literal(field, text), field) for text in literals]


def _missing(*fields: str) -> list[BadBody]:
    return [
        BadBody(f"{field} missing", json.dumps({k: v for k, v in GOOD.items() if k != field}).encode(), field)
        for field in fields
    ]


_REQUIRED = ("partnerId", "msisdn", "currency", "amount", "paymentProvider", "description", "basis", "name")
_OPTIONAL = tuple(field for field in GOOD if field not in _REQUIRED)
_NOT_TEXT: tuple[Any, ...] = (["a"], {"a": 1}, False, 1.5)
_HUGE = (2**31, 2**63, 10**400)
# Written as other programs write numbers, and as no contract does.
_ODD_NUMBERS = (" ", "1.9", " 1", "1 ", "1_000", "-5", "+5", "٢", "２", "²", "1e2", "0x1", "NaN", "one", "1\n", "1\x00")
_ODD_AMOUNTS = tuple(n for n in _ODD_NUMBERS if n != "1.9")
_NUL, _HALF_PAIR, _TURNED = "a\x00b", "a\ud800b", "a\u202eb"
_CONTROLS = ("a\x1bb", "a\x7fb", "a\x85b", _TURNED, "a\u2066b", "a\u200fb", "a\u061cb")
_BAD_ADDRESSES = (
    "http://www.example.com",
    "ftp://www.example.com",
    "javascript:alert(1)",
    "data:text/html,x",
    "//www.example.com",
    "/page",
    "www.example.com",
    "https://",
    "https:///page",
    "https://[::1",
    "https://www.example.com:99999/",
    "https://www.example.com:x/",
    "https://a b.example.com",
    "https://www.example.com\\@other.example.com",
    "https://www.example.com/a\r\nX: y",
    "https://www.example.com/\u202e",
    "https://www.example.com/\x00",
    "https://www.example.com/\ud800",
    5,
    *_NOT_TEXT,
)

FIELDS: list[BadBody] = [
    *_missing(*_REQUIRED),
    *[bad for field in _REQUIRED for bad in _with(field, None, "", [], {}, True)],
    *[bad for field in _OPTIONAL for bad in _with(field, [], {})],
    *[bad for field in _OPTIONAL if field != "sendSMS" for bad in _with(field, True)],
    # Whole numbers
    *_with("partnerId", *_ODD_NUMBERS, *_HUGE, 0, -1, 1.5, ["10295"], "2147483648", "99999999999999999999"),
    *_written("partnerId", "1e4", "10295.0", "1.9", "-0.0", "1" + "0" * 300),
    *_with("basis", *_ODD_NUMBERS, *_HUGE, 0, 4, -1, 1.5, "0", "4", "monthly"),
    *_written("basis", "1e0", "2.0", "1.9"),
    # Amounts
    *_with("amount", *_ODD_AMOUNTS, *_HUGE, 0, -5, 1.005, 12.345, False),
    *_with("amount", "12,50", "12.505", "12.", ".5", "1 000", "0.99", "20000.01", "1000000", "9" * 5000, "1.5.0"),
    *_written("amount", "1e2", "1E+2", "1e400", "-0.0", "1e99999999999999999999", "1e-99999999999999999999"),
    *_with("campaignAmount", *_ODD_AMOUNTS, *_HUGE, -5, 1.005, "0.50", "20000.01"),
    *_written("campaignAmount", "1e2", "1e99999999999999999999"),
    # Numbers of phones
    *_with("msisdn", *_NOT_TEXT, " ", "1", "12345678", "+47", "+4712", "+1 202 555 0123", "+47912345678901234567"),
    *_with("msisdn", "٩١٢٣٤٥٦٧", "９１２３４５６７", "+47 9123456a", "+47+91234567", "tel:+4791234567", 4791234567),
    *_with("msisdn", "+4791234567\n", _NUL, _HALF_PAIR, "+47\u202e91234567", 10**400),
    # Texts that must be there
    *_with("currency", *_NOT_TEXT, " ", "SEK", "USD", "kr", "NOKK", "N\x00K", "NO\ud800", 578, 10**400),
    *_with("paymentProvider", *_NOT_TEXT, " ", "Swish", "Vipps ", "vıpps", "v" * 21, _NUL, _HALF_PAIR, 1),
    *_with("name", *_NOT_TEXT, " \t", "n" * 201, "two\nlines", "a\rb", _NUL, _HALF_PAIR, *_CONTROLS, 10**400),
    *_with("description", *_NOT_TEXT, " \n ", "d" * 2001, _NUL, _HALF_PAIR, *_CONTROLS),
    # Texts that may be left out
    *_with("orderNumber", *_NOT_TEXT, "o" * 51, "a\nb", "a\rb", _NUL, _HALF_PAIR, *_CONTROLS, 10**400),
    *_with("memberId", *_NOT_TEXT, "m" * 101, "a\nb", _NUL, _HALF_PAIR, *_CONTROLS, 10**400),
    *_with("smsText", *_NOT_TEXT, "s" * 1001, _NUL, _HALF_PAIR, *_CONTROLS),
    *_with("smsNotificationOriginator", *_NOT_TEXT, "A", "ABCDEFGHIJKL", "Bjørn", "123456789012345", "+012345678"),
    *_with("smsNotificationOriginator", "x" * 17, "A-B", "2119\n", "٢١١٩", _NUL, _HALF_PAIR, "+47 2119", 10**20),
    *_with("sendSMS", "yes", "1", "tru", " true", 1, 0, 1.0, "true\x00"),
    # Addresses
    *_with("agreementUrl", *_BAD_ADDRESSES, "https://www.example.com/" + "a" * 977),
    *_with("statusCallbackUrl", *_BAD_ADDRESSES, "https://www.example.com/" + "a" * 1977),
    *_with("confirmSubscriptionCallbackUrl", *_BAD_ADDRESSES, "https://www.example.com/" + "a" * 1977),
    # What only shows when it is used: a text that the link makes longer than any message
    *_with("smsText", "{{url}}" * 140),
]

# Names that stand there twice are refused, also where only the case tells them apart.
DUPLICATES: list[BadBody] = [
    BadBody("amount twice", body()[:-1] + b', "amount": 1}', "amount"),
    BadBody("amount twice, once as AMOUNT", body()[:-1] + b', "AMOUNT": 99}', "amount"),
    BadBody("partnerId twice, once as PartnerId", b'{"PartnerId": 2, ' + body()[1:], "partnerId"),
    BadBody("an unknown field twice", body()[:-1] + b', "colour": 1, "Colour": 1}', "colour"),
    BadBody("twice inside an unknown field", body()[:-1] + b', "colour": {"hue": 1, "hue": 2}}', "hue"),
    BadBody("NUL in an unknown field", body(colour="a\x00b"), "colour"),
    BadBody("half a pair in an unknown field", body(colour=["a", {"b": "\udc00"}]), "colour"),
    BadBody("NUL in an unknown name", body(**{"col\x00our": 1}), "col"),
    BadBody("half a pair in an unknown name", body(**{"col\ud800our": 1}), "col"),
]

_DEEP = 30_000
SHAPES: list[BadBody] = [
    BadBody("empty", b"", "body"),
    BadBody("blanks", b" \r\n\t ", "body"),
    BadBody("null", b"null", "body"),
    BadBody("true", b"true", "body"),
    BadBody("a number", b"1", "body"),
    BadBody("a huge number", b"1" + b"0" * 5000, "body"),
    BadBody("a number that no decimal holds", b"1e99999999999999999999", "body"),
    BadBody("a text", b'"partnerId"', "body"),
    BadBody("a list", b"[]", "body"),
    BadBody("the object in a list", b"[" + body() + b"]", "body"),
    BadBody("a form", b"partnerId=10295&amount=99", "body"),
    BadBody("XML", b"<subscribe><partnerId>10295</partnerId></subscribe>", "body"),
    BadBody("NaN alone", b"NaN", "body"),
    BadBody("amount = NaN", _literal("amount", "NaN"), "body"),
    BadBody("amount = Infinity", _literal("amount", "Infinity"), "body"),
    BadBody("amount = -Infinity", _literal("amount", "-Infinity"), "body"),
    BadBody("amount = +5", _literal("amount", "+5"), "body"),
    BadBody("amount = 01", _literal("amount", "01"), "body"),
    BadBody("amount = .5", _literal("amount", ".5"), "body"),
    BadBody("amount = 0x63", _literal("amount", "0x63"), "body"),
    BadBody("amount = ten thousand digits", _literal("amount", "9" * 10_000), "body"),
    BadBody("a raw NUL in a text", _literal("name", '"a\x00b"'), "body"),
    BadBody("a raw line break in a text", _literal("name", '"a\nb"'), "body"),
    BadBody("a raw half pair in a text", _literal("name", '"a\ud800b"'), "body"),
    BadBody("an escape that is none", _literal("name", r'"a\xb"'), "body"),
    BadBody("single quotes", body().replace(b'"', b"'"), "body"),
    BadBody("a comma at the end", body()[:-1] + b",}", "body"),
    BadBody("a comment", body() + b" // order", "body"),
    BadBody("cut off", body()[:-1], "body"),
    BadBody("cut off in a text", body()[:40], "body"),
    BadBody("cut off in an escape", b'{"name": "\\', "body"),
    BadBody("two objects", body() + body(), "body"),
    BadBody("garbage behind", body() + b"x", "body"),
    BadBody("NUL behind", body() + b"\x00", "body"),
    BadBody("UTF-16", body().decode().encode("utf-16"), "body"),
    BadBody("UTF-16 without mark", body().decode().encode("utf-16-be"), "body"),
    BadBody("UTF-32", body().decode().encode("utf-32"), "body"),
    BadBody("UTF-8 with mark", b"\xef\xbb\xbf" + body(), "body"),
    BadBody("Latin-1", body().replace(b"Avisen", "Bokmål".encode("latin-1")), "body"),
    BadBody("overlong UTF-8", body().replace(b"Avisen", b"\xc0\x80"), "body"),
    BadBody("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "body"),
    BadBody("21 levels", body()[:-1] + b', "colour": ' + b"[" * 20 + b"]" * 20 + b"}", "body"),
    BadBody("21 levels of objects", b'{"a":' * 20 + b"{}" + b"}" * 20, "body"),
    BadBody("very many levels", b"[" * _DEEP + b"]" * _DEEP, "body"),
    BadBody("very many levels of objects", b'{"a":' * 10_000, "body"),
    BadBody("very many levels, unclosed", b"[" * 60_000, "body"),
]

TOO_LARGE: list[BadBody] = [
    BadBody("one byte more than 64 KiB", body().ljust(64 * 1024 + 1), "", 413),
    BadBody("100,000 levels", b"[" * 100_000, "", 413),
    BadBody("ten megabytes", b" " * 10_000_000, "", 413),
]

BAD_BODIES = [*FIELDS, *DUPLICATES, *SHAPES, *TOO_LARGE]


# What the tests of these bodies share


def basic(user: str = "10295", secret: str | None = None) -> dict[str, str]:
    """Return the headers of HTTP Basic, by default with the partner's own secret."""
    secret = f"a-partner-secret-{user}" if secret is None else secret
    return {"Authorization": "Basic " + b64encode(f"{user}:{secret}".encode()).decode()}


def everything() -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands in every table, but for the counts of calls: every request is counted."""
    with reading():
        return {
            table.name: [tuple(row) for row in db.session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
            if table.name != "rate_limits"
        }


_GIVES_AWAY = re.compile(
    r"Traceback|sqlalchemy|psycopg|sqlite|werkzeug|site-packages|\.py\b|/usr/|/home/|SELECT |INSERT |UPDATE |Error\b"
)


def what_is_wrong_with(answer: TestResponse) -> str:
    """Return why no caller should get this answer, or an empty text."""
    if answer.status_code >= 500:
        return f"answered {answer.status_code}"
    found = _GIVES_AWAY.search(answer.get_data(as_text=True))
    return f"gives away {found[0]!r}" if found else ""
