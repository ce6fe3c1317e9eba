"""Signatures of partners' requests: what the original's clients send, all of it and nothing else."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import pytest

from invoice import signatures
from invoice.signatures import FULL, SHORT, Sent, Signed

# The key of the original's diagram ("MySecretKey").
SECRET = b64decode("TXlTZWNyZXRLZXk=")
AT = datetime.fromtimestamp(1472196955, UTC)
HOSTS = ("pay-core.linkmobility.com", "pay.customer.no")
BODY = b'{"partnerId":123,"msisdn":"+4799999999"}'
POST = Sent("POST", "/api/recurring/subscribe?api-version=2.0", BODY)
DELETE = Sent("DELETE", "/api/recurring/cancel/635?api-version=2.0", b"")
NONCE = "57bff15b4ecf0"


def signed(signature: str, **changes: object) -> Signed:
    return Signed(**{"partner_id": 123, "signature": signature, "nonce": NONCE, "timestamp": 1472196955, **changes})  # type: ignore[arg-type]


def is_taken(scheme: str, given: Signed, sent: Sent, secret: bytes = SECRET) -> bool:
    return signatures.is_signature(scheme, given, secret, signatures.messages(scheme, given, sent, HOSTS))


def signature_of(message: str, secret: bytes = SECRET) -> str:
    return b64encode(hmac.new(secret, message.encode(), hashlib.sha256).digest()).decode()


def short(address: str, digest: str = "", method: str = "DELETE") -> Signed:
    """Sign as the original's clients do. address: as their encoder wrote it."""
    return signed(signature_of(f"123{method}{address}1472196955{NONCE}{digest}")[:10])


def full(sent: Sent, host: str = HOSTS[0], **changes: object) -> Signed:
    unsigned = signed("", **changes)
    digest = b64encode(hashlib.sha256(sent.body).digest()).decode()
    lines = ["hmac-sha256", "123", sent.method, host, sent.target, str(unsigned.timestamp), unsigned.nonce, digest]
    return signed(signature_of("\n".join(lines)), **changes)


# The original's


@pytest.mark.parametrize(("sent", "signature"), [(POST, "lo6hMA2nLk"), (DELETE, "UMj22f6JU6")], ids=["POST", "DELETE"])
def test_the_verified_vectors_are_taken(sent: Sent, signature: str):
    assert is_taken(SHORT, signed(signature), sent)


def test_the_whole_signature_begins_with_what_is_sent():
    candidates = signatures.messages(SHORT, signed("x" * 10), POST, HOSTS[:1])

    whole = [b64encode(hmac.digest(SECRET, message, "sha256")).decode() for message in candidates]

    assert "lo6hMA2nLkTDZ/FU1DFqVc+aJLAuAWtJyXFsnk+wLrc=" in whole
    assert "lo6hMA2nLk" in [signatures.sign(SHORT, SECRET, message) for message in candidates]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", HOSTS)
def test_both_schemes_and_all_hosts_are_taken(scheme: str, host: str):
    address = quote_plus(f"{scheme}://{host}{DELETE.target}")

    assert is_taken(SHORT, short(address), DELETE)


def test_another_host_is_not_taken():
    assert not is_taken(SHORT, short(quote_plus(f"https://evil.example.com{DELETE.target}")), DELETE)


@pytest.mark.parametrize(
    ("encoder", "written"),
    [("WebUtility.UrlEncode", "a!b*c(d)e%7Ef-g_h.i"), ("URLEncoder", "a%21b*c%28d%29e%7Ef-g_h.i")],
)
def test_both_encoders_are_taken(encoder: str, written: str):
    sent = Sent("DELETE", "/api/recurring/cancel/A!b*c(d)e~f-g_h.i", b"")
    address = "https%3A%2F%2Fpay-core.linkmobility.com%2Fapi%2Frecurring%2Fcancel%2F" + written

    assert is_taken(SHORT, short(address), sent), encoder


def test_what_is_escaped_on_the_wire_is_lowered_and_escaped_again():
    sent = Sent("DELETE", "/api/recurring/cancel/M%C3%98", b"")
    address = "https%3A%2F%2Fpay-core.linkmobility.com%2Fapi%2Frecurring%2Fcancel%2Fm%25c3%2598"

    assert is_taken(SHORT, short(address), sent)


@pytest.mark.parametrize("digest", ["", "1B2M2Y8AsgTpgAmY7PhCfg=="], ids=["nothing", "the hash of nothing"])
def test_an_empty_body_may_add_nothing_or_its_hash(digest: str):
    address = quote_plus(f"https://{HOSTS[0]}{DELETE.target}")

    assert is_taken(SHORT, short(address, digest), DELETE)


@pytest.mark.parametrize("digest", ["", "1B2M2Y8AsgTpgAmY7PhCfg=="])
def test_a_body_is_never_left_out(digest: str):
    address = quote_plus(f"https://{HOSTS[0]}{POST.target}")

    assert not is_taken(SHORT, short(address, digest, "POST"), POST)


# In full length


@pytest.mark.parametrize("sent", [POST, DELETE], ids=["POST", "DELETE"])
@pytest.mark.parametrize("host", HOSTS)
def test_the_full_signature_is_taken(sent: Sent, host: str):
    assert is_taken(FULL, full(sent, host), sent)


def test_the_full_signature_as_the_documentation_prints_it():
    assert full(POST).signature == "2JXDW7MH9Op59qciEbjoEKfO2gpgU1CgYuRa4+VImu0="


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (full(POST), Sent("PUT", POST.target, POST.body)),
        (full(POST), Sent("POST", POST.target.upper(), POST.body)),
        (full(POST), Sent("POST", POST.target + "&a=b", POST.body)),
        (full(POST), Sent("POST", POST.target, POST.body + b" ")),
        (full(POST), Sent("POST", POST.target, b"")),
        (full(POST, "evil.example.com"), POST),
        (full(POST, "PAY.CUSTOMER.NO"), POST),
    ],
    ids=["method", "case of the path", "query", "body", "no body", "host", "case of the host"],
)
def test_the_full_signature_covers_everything(given: Signed, sent: Sent):
    assert not is_taken(FULL, given, sent)


def test_a_signature_of_one_scheme_is_none_of_the_other():
    assert not is_taken(SHORT, signed(full(POST).signature[:10]), POST)
    assert not is_taken(FULL, signed(signature_of("")), POST)


@pytest.mark.parametrize(("scheme", "signature"), [(SHORT, "lo6hMA2nLk"), (FULL, full(POST).signature)])
def test_another_secret_does_not_fit(scheme: str, signature: str):
    assert is_taken(scheme, signed(signature), POST)
    assert not is_taken(scheme, signed(signature), POST, SECRET + b"x")


# The header

_TEN, _WHOLE = "lo6hMA2nLk", "2JXDW7MH9Op59qciEbjoEKfO2gpgU1CgYuRa4+VImu0="


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(("scheme", "signature"), [(SHORT, _TEN), (FULL, _WHOLE)])
def test_the_header_is_read_quoted_and_unquoted(scheme: str, signature: str, quote: str):
    value = f"{quote}123:{signature}:{NONCE}:1472196955{quote}"

    assert signatures.read(scheme, value) == signed(signature)


@pytest.mark.parametrize(
    "value",
    [
        "",
        '"',
        "123",
        f"123:{_TEN}:{NONCE}",
        f'"123:{_TEN}:{NONCE}:1472196955',
        f'123:{_TEN}:{NONCE}:1472196955"',
        f"123:{_TEN}:{NONCE}:1472196955\n",
        f"123:{_TEN}:{NONCE}:1472196955:1",
        f"0123:{_TEN}:{NONCE}:1472196955",
        f"0:{_TEN}:{NONCE}:1472196955",
        f"-123:{_TEN}:{NONCE}:1472196955",
        f"١٢٣:{_TEN}:{NONCE}:1472196955",
        f"12345678901:{_TEN}:{NONCE}:1472196955",
        f"123:{_TEN[:9]}:{NONCE}:1472196955",
        f"123:{_TEN}x:{NONCE}:1472196955",
        f"123:{_WHOLE}:{NONCE}:1472196955",
        f"123:{_TEN[:9]}-:{NONCE}:1472196955",
        f"123:{_TEN[:9]}é:{NONCE}:1472196955",
        f"123:{_TEN}::1472196955",
        f"123:{_TEN}:{'n' * 51}:1472196955",
        f"123:{_TEN}:a b:1472196955",
        f'123:{_TEN}:a"b:1472196955',
        f"123:{_TEN}:a\x00b:1472196955",
        f"123:{_TEN}:nøkkel:1472196955",
        f"123:{_TEN}:{NONCE}:",
        f"123:{_TEN}:{NONCE}:01472196955",
        f"123:{_TEN}:{NONCE}:+1472196955",
        f"123:{_TEN}:{NONCE}:1472196955.0",
        f"123:{_TEN}:{NONCE}:{'9' * 16}",
        f"123:{_TEN}:{'9' * 100_000}:1",
    ],
)
def test_any_other_header_is_not_read(value: str):
    assert signatures.read(SHORT, value) is None


def test_the_short_signature_is_not_read_as_a_full_one():
    assert signatures.read(FULL, f"123:{_TEN}:{NONCE}:1472196955") is None


def test_an_overheard_body_cannot_be_cut_into_a_nonce():
    address = quote_plus(f"https://{HOSTS[0]}{POST.target}")
    digest = b64encode(hashlib.md5(BODY, usedforsecurity=False).digest()).decode()
    overheard = short(address, digest, "POST")
    anew = f"123:{overheard.signature}:{NONCE}{digest}:1472196955"

    assert is_taken(SHORT, overheard, POST)
    assert signatures.read(SHORT, anew) is None
    # Were it read, it would fit a request without the body.
    assert is_taken(SHORT, signed(overheard.signature, nonce=NONCE + digest), Sent("POST", POST.target, b""))


def test_a_nonce_may_be_base64_of_sixteen_bytes_as_dotnet_writes_a_guid():
    assert signatures.read(SHORT, f"123:{_TEN}:3q2+7wAAAAAAAAAAAAAAAA==:1472196955") is not None


# Time and secrets


@pytest.mark.parametrize(
    ("late_s", "is_recent"),
    [(0, True), (600, True), (600.001, False), (601, False), (-600, True), (-600.001, False), (10**6, False)],
)
def test_a_signature_is_taken_ten_minutes_before_and_after(late_s: float, is_recent: bool):
    assert signatures.is_recent(signed(_TEN), AT + timedelta(seconds=late_s)) is is_recent


def test_a_timestamp_beyond_every_calendar_is_not_recent():
    assert not signatures.is_recent(signed(_TEN, timestamp=999_999_999_999_999), AT)


def test_a_new_secret_holds_256_bits_and_is_never_the_same():
    secrets = {signatures.new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert {len(signatures.decoded(secret) or b"") for secret in secrets} == {32}


@pytest.mark.parametrize("secret", ["", "short", "TXlT", "not base64 at all!", "TXlTZWNyZXRLZXk", "ø" * 20, "a\x00b="])
def test_what_is_no_secret_is_not_decoded(secret: str):
    assert signatures.decoded(secret) is None
