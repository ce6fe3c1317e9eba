"""The pipe: each way in which a call can end, over real sockets, is one of our errors."""

from __future__ import annotations

import gzip
import json
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NameResolutionError

from invoice.clock import stopwatch
from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.providers.http import MAX_BODY, Answer, Pipe, outcome_of, retry_after_s
from tests.conftest import StandingClock
from tests.providers.conftest import Wire, drips, falls_silent, says

MakeWire = Callable[..., Wire]

PROBLEM = {
    "type": "https://developer.example.com/docs/recurring-api-problems#validation-error",
    "title": "Bad Request",
    "detail": "The request is not valid.",
    "extraDetails": [
        {"name": "productName", "reason": "is too long"},
        {"name": "interval.count", "reason": "must be at most 31"},
    ],
}


def get(url: str, *, read_s: float = 5.0) -> Answer:
    return Pipe(url, "Vipps").call("GET", "/it", headers={}, read_s=read_s)


def answer_with(server: HTTPServer, body: str | bytes = "", status: int = 200, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    server.expect_request("/it").respond_with_data(body, status, named, content_type="application/json")
    return server.url_for("")


# What is well


def test_a_call_returns_the_status_the_headers_and_the_json(httpserver: HTTPServer) -> None:
    url = answer_with(httpserver, '{"id": "agr_1"}', 201, Continuation_Token="next")

    answer = get(url)

    assert (answer.status, answer.json, answer.headers["continuation-token"]) == (201, {"id": "agr_1"}, "next")


def test_a_call_sends_method_path_headers_and_the_body_as_utf8(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/it").respond_with_data(status=204)

    Pipe(httpserver.url_for(""), "Vipps").call("POST", "/it?a=b%20c", headers={"X-One": "1"}, body='{"name":"Blåbær"}')

    [(request, _)] = httpserver.log
    assert request.method == "POST"
    assert request.environ["REQUEST_URI"] == "/it?a=b%20c"
    assert request.headers["X-One"] == "1"
    assert request.data == '{"name":"Blåbær"}'.encode()


@pytest.mark.parametrize(("status", "body"), [(204, ""), (200, ""), (202, " \r\n"), (200, "null")])
def test_an_empty_answer_is_none(httpserver: HTTPServer, status: int, body: str) -> None:
    url = answer_with(httpserver, body, status)

    answer = get(url)

    assert answer.json is None


def test_an_answer_of_the_largest_allowed_size_is_taken(httpserver: HTTPServer) -> None:
    url = answer_with(httpserver, json.dumps("x" * (MAX_BODY - 2)))

    answer = get(url)

    assert len(answer.json) == MAX_BODY - 2


def test_a_pipe_survives_a_failed_call(httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request("/it").respond_with_data("{", 200)
    httpserver.expect_ordered_request("/it").respond_with_data('{"id": 1}', 200)
    pipe = Pipe(httpserver.url_for(""), "Vipps")
    with pytest.raises(ProviderUncertain):
        pipe.call("GET", "/it", headers={})

    answer = pipe.call("GET", "/it", headers={})

    assert answer.json == {"id": 1}


# Nothing happened: safe to send again


def test_a_refused_connection_is_unavailable(refusing_url: str) -> None:
    with pytest.raises(ProviderUnavailable, match=r"^Vipps cannot be reached$"):
        get(refusing_url)


def test_a_connection_that_nobody_takes_is_unavailable(overrun_url: str) -> None:
    with pytest.raises(ProviderUnavailable, match=r"^Vipps cannot be reached$"):
        get(overrun_url)


@pytest.mark.parametrize(
    "reason",
    [
        NameResolutionError("pay.invalid", None, OSError()),  # type: ignore[arg-type]
        ConnectTimeoutError(None, "slow"),
    ],
)
def test_a_connection_that_was_never_made_is_unavailable(reason: Exception) -> None:
    error = requests.ConnectionError(MaxRetryError(None, "/it", reason))  # type: ignore[arg-type]

    outcome = outcome_of(error, "Vipps")

    assert isinstance(outcome, ProviderUnavailable)


def test_a_connection_that_took_too_long_to_make_is_unavailable() -> None:
    outcome = outcome_of(requests.ConnectTimeout(), "Vipps")

    assert isinstance(outcome, ProviderUnavailable)


@pytest.mark.parametrize("error", [requests.ConnectionError(), requests.ConnectionError("reset"), requests.Timeout()])
def test_a_failure_that_says_nothing_of_the_connection_is_uncertain(error: Exception) -> None:
    outcome = outcome_of(error, "Vipps")

    assert isinstance(outcome, ProviderUncertain)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "Tue, 10 Nov 2026 11:00:30 GMT"}, 30.0),
        ({"Retry-After": "Tue, 10 Nov 2026 10:59:00 GMT"}, 0.0),  # the past: at once
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "Tue, 10 Nov 2026 11:00:30 -0000"}, None),  # a date without a zone
        ({"Retry-After": "Tue, 10 Nov 99999 11:00:30 GMT"}, None),
        ({"Retry-After": f"Tue, 10 Nov {'9' * 30} 11:00:30 GMT"}, None),
    ],
)
def test_too_many_calls_is_unavailable_with_the_seconds_asked_for(
    httpserver: HTTPServer, time: StandingClock, header: dict[str, str], seconds: float | None
) -> None:
    httpserver.expect_request("/it").respond_with_data("{}", 429, header)

    with pytest.raises(ProviderUnavailable, match=r"^Vipps has had too many calls$") as caught:
        get(httpserver.url_for(""))

    assert caught.value.retry_after_s == seconds


NEARLY_DATES = st.lists(
    st.one_of(
        st.sampled_from(["Tue,", "Nov", "GMT", "-0000", "+9999", "-99999999", "11:00:30", "24:61:61", "1:2", ":", ","]),
        st.integers().map(str),
        st.text(max_size=6),
    ),
    max_size=8,
).map(" ".join)


@given(NEARLY_DATES)
def test_no_retry_after_breaks_us(value: str) -> None:
    seconds = retry_after_s({"Retry-After": value})

    assert seconds is None or seconds >= 0


# It may have happened: ask before sending again


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (falls_silent(), "silence"),
        (falls_silent(b"HTTP/1.1 200 OK\r\nContent-"), "silence in the head"),
        (falls_silent(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "silence in the body"),
        (says(b""), "hangs up before the answer"),
        (says(b"HTTP/1.1 2"), "hangs up in the first line"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), "hangs up in the body"),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), "hangs up between chunks"),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{}"), "a chunk without size"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), "not gzip"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\xff\xff"), "bytes that are no text"),
        (says(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n"), "too many headers"),
        (says(b"SSH-2.0-OpenSSH_9.9\r\n"), "another protocol"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"), "a redirect to no address"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: /\xe6\xff\r\nContent-Length: 0\r\n\r\n"), "a redirect in Latin-1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_wire_is_uncertain(wire: MakeWire, script: object, name: str) -> None:
    broken = wire(script)

    with pytest.raises(ProviderUncertain, match=r"^Vipps (did not answer|answered)"):
        get(broken.url, read_s=0.2)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, '{"detail": "It broke."}'),
        (502, "<html><h1>502 Bad Gateway</h1></html>"),
        (503, ""),
        (504, ""),
        (408, '{"detail": "Request Timeout"}'),
        (425, ""),
        (200, "<!doctype html><title>Sign in to the network</title>"),
        (200, '{"id": "agr_1"'),
        (200, "{'id': 1}"),
        (202, "OK"),
        (200, "[" * 100_000),
        (200, "9" * 10_000),
    ],
)
def test_an_answer_that_tells_nothing_is_uncertain(httpserver: HTTPServer, status: int, body: str) -> None:
    url = answer_with(httpserver, body, status)

    with pytest.raises(ProviderUncertain, match=rf"^Vipps answered {status}"):
        get(url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_is_uncertain(httpserver: HTTPServer, status: int) -> None:
    url = answer_with(httpserver, "", status, Location="/elsewhere")

    with pytest.raises(ProviderUncertain, match=rf"^Vipps answered {status}$"):
        get(url)

    assert [request.path for request, _ in httpserver.log] == ["/it"]


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_is_too_long_is_uncertain(httpserver: HTTPServer, status: int) -> None:
    url = answer_with(httpserver, json.dumps("x" * (MAX_BODY - 1)), status)

    with pytest.raises(ProviderUncertain, match="did not answer"):
        get(url)


def test_an_answer_that_unpacks_too_long_is_uncertain(httpserver: HTTPServer) -> None:
    packed = gzip.compress(json.dumps("x" * (MAX_BODY - 1)).encode())
    url = answer_with(httpserver, packed, Content_Encoding="gzip")

    with pytest.raises(ProviderUncertain, match="did not answer"):
        get(url)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 80\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n",
    ],
    ids=["by length", "in a chunk"],
)
def test_an_answer_that_drips_is_given_up_at_the_deadline(wire: MakeWire, head: bytes) -> None:
    slow = wire(drips(head))
    started = stopwatch()

    with pytest.raises(ProviderUncertain, match="did not answer"):
        get(slow.url, read_s=0.3)

    assert stopwatch() - started < 5.0  # the drops would fall for eight seconds


@pytest.fixture(scope="module")
def unvouched_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_server_that_nobody_vouches_for_is_told_nothing(wire: MakeWire, unvouched_tls: ssl.SSLContext) -> None:
    impostor = wire(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), unvouched_tls)

    with pytest.raises(ProviderError):
        get(impostor.url)

    assert impostor.requests == []


# A definite no


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_are_denied(httpserver: HTTPServer, status: int) -> None:
    gateway = {
        "responseInfo": {"responseCode": status, "responseMessage": "Unauthorized"},
        "result": {"message": "Access denied due to invalid subscription key"},
    }
    url = answer_with(httpserver, json.dumps(gateway), status)

    with pytest.raises(ProviderDenied) as caught:
        get(url)

    assert caught.value.message == f"Vipps refused our keys ({status}: Access denied due to invalid subscription key)"


@pytest.mark.parametrize(
    ("status", "body", "words", "problem"),
    [
        (
            400,
            json.dumps(PROBLEM),
            "The request is not valid.; productName: is too long; interval.count: must be at most 31",
            "validation-error",
        ),
        (409, '{"type": "https://x/p#idempotency-conflict", "title": "Conflict"}', "Conflict", "idempotency-conflict"),
        (404, '{"type": "about:blank", "detail": "Agreement not found."}', "Agreement not found.", "about:blank"),
        (422, '{"responseInfo": {}, "result": {"message": "Bad content"}}', "Bad content", ""),
        (400, "", "without a reason", ""),
        (400, "<html>Bad Request</html>", "without a reason", ""),
        (400, '"no"', "without a reason", ""),
        (400, "[1]", "without a reason", ""),
        (400, "[" * 100_000, "without a reason", ""),
        (400, '{"type": null, "detail": null}', "without a reason", ""),
        (400, '{"extraDetails": "none", "result": []}', "without a reason", ""),
        (400, '{"detail": "One", "extraDetails": [null, 7, {"name": "a"}]}', "One; a: ", ""),
        (400, '{"detail": "a\\nb\\u001b[31m\\u202ec\\ud800"}', "a b [31m c ", ""),
    ],
)
def test_a_refusal_tells_what_the_provider_said(
    httpserver: HTTPServer, status: int, body: str, words: str, problem: str
) -> None:
    url = answer_with(httpserver, body, status)

    with pytest.raises(ProviderRefused) as caught:
        get(url)

    assert caught.value.message == f"Vipps refused: {words}"
    assert (caught.value.status, caught.value.problem) == (status, problem)


def test_a_refusal_is_short_whatever_the_provider_said(httpserver: HTTPServer) -> None:
    url = answer_with(httpserver, json.dumps({"type": "#" + "t" * 1000, "detail": "d" * 1000}), 400)

    with pytest.raises(ProviderRefused) as caught:
        get(url)

    assert len(caught.value.message) < 330
    assert len(caught.value.problem) == 60


# What must not come between, and what must not come out


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_machine_is_not_asked(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, refusing_url: str, name: str
) -> None:
    url = answer_with(httpserver, "{}")
    monkeypatch.setenv(name, refusing_url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    answer = get(url)

    assert answer.status == 200


def test_a_netrc_of_the_machine_adds_no_password(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = answer_with(httpserver, "{}")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {httpserver.host} login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))

    get(url)

    assert "Authorization" not in httpserver.log[0][0].headers


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, '{"phone": "4791234567"}'), (400, '{"phone": "4791234567"}'), (500, "4791234567"), (200, "4791234567 {")],
)
def test_no_log_holds_a_header_or_a_body(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture, status: int, body: str
) -> None:
    url = answer_with(httpserver, body, status, X_Answer="an-answer-header")
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": "Bearer a-token", "Ocp-Apim-Subscription-Key": "a-key", "client_secret": "a-secret"}

    try:
        Pipe(url, "Vipps").call("POST", "/it", headers=headers, body='{"phoneNumber":"4791234567"}')
    except ProviderError as error:
        assert "4791234567" not in error.message  # noqa: PT017 - not every case raises

    assert caplog.records
    for record in caplog.records:
        everything = f"{record.getMessage()} {record.__dict__}"
        for secret in ("a-token", "a-key", "a-secret", "4791234567", "an-answer-header"):
            assert secret not in everything


def lines_of_ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("invoice.")]


def test_the_log_line_of_a_call_tells_its_method_path_and_outcome(
    httpserver: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = answer_with(httpserver, "", 503)
    caplog.set_level(logging.DEBUG, "invoice.providers.http")

    with pytest.raises(ProviderUncertain):
        get(url)

    [line] = lines_of_ours(caplog)
    assert line.startswith("Vipps GET /it: 503 in ")


def test_the_log_line_of_a_broken_call_tells_how_it_broke(refusing_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "invoice.providers.http")

    with pytest.raises(ProviderUnavailable):
        get(refusing_url)

    [line] = lines_of_ours(caplog)
    assert line.startswith("Vipps GET /it: ConnectionError in ")
