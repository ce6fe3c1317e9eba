"""Whatever comes in, the answer is a plain 4xx that says what is wrong, and nothing has changed."""

from __future__ import annotations

from base64 import b64encode

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from invoice.services.jobs import Services
from tests.factories import a_partner, a_wish, newest_agreement, subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import BAD_BODIES, BadBody, basic, body, everything, what_is_wrong_with

pytestmark = pytest.mark.usefixtures("as_in_production")

SUBSCRIBE = "/api/recurring/subscribe"


def post(client: FlaskClient, raw: bytes, content_type: str | None = "application/json") -> TestResponse:
    return client.post(SUBSCRIBE, data=raw, content_type=content_type, headers=basic())


def test_the_table_of_bad_bodies_is_long_and_holds_none_twice():
    raws = [bad.raw for bad in BAD_BODIES]

    assert len(raws) >= 120
    assert len(set(raws)) == len(raws)


def test_every_bad_body_is_refused_by_name_and_changes_nothing(
    client: FlaskClient, payments: FakePayments, sms: FakeSms
):
    a_partner()
    before = everything()
    problems = []

    for bad in BAD_BODIES:
        answer = post(client, bad.raw)
        wrong = _judge(bad, answer)
        after = everything()
        if after != before or payments.calls or sms.calls:
            wrong.append("something changed")
            before = after
            payments.calls.clear()
            sms.calls.clear()
        problems += [f"{bad.what}: {w} ({answer.get_data(as_text=True)[:120]})" for w in wrong]

    assert not problems, f"{len(problems)} of {len(BAD_BODIES)}:\n" + "\n".join(problems)


def _judge(bad: BadBody, answer: TestResponse) -> list[str]:
    wrong = [what_is_wrong_with(answer)]
    if answer.status_code != bad.status:
        wrong.append(f"answered {answer.status_code} instead of {bad.status}")
    elif not answer.is_json:
        wrong.append("the answer is no JSON")
    if bad.names.lower() not in answer.get_data(as_text=True).lower():
        wrong.append(f"the answer does not name {bad.names}")
    return [w for w in wrong if w]


def test_all_wrong_fields_are_told_at_once_in_the_shape_of_the_original(client: FlaskClient):
    a_partner()

    answer = post(client, body(amount="1.005", basis=4, name=None))

    assert answer.status_code == 400
    assert answer.json["message"] == "The request is invalid."
    assert set(answer.json["modelState"]) == {"request.Amount", "request.Basis", "request.Name"}
    assert answer.json["modelState"]["request.Name"] == ["name is required."]


def test_the_answer_does_not_repeat_what_was_sent(client: FlaskClient):
    a_partner()

    answer = post(client, body(msisdn="+4799887766x", name="<script>alert(1)</script>\x00"))

    assert answer.status_code == 400
    assert "99887766" not in answer.text
    assert "script" not in answer.text


def test_another_content_type_is_refused_with_415(client: FlaskClient):
    a_partner()
    before = everything()
    types = [
        None,
        "",
        "text/plain",
        "text/html",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/problem+json",
        "application",
        "json",
    ]

    answers = {t: post(client, body(), t) for t in types}

    assert {t: (a.status_code, a.text) for t, a in answers.items() if a.status_code != 415 or not a.is_json} == {}
    assert everything() == before


_GARBLED = {
    "no header": None,
    "empty": "",
    "another scheme": "Bearer a-partner-secret-10295",
    "the original's scheme, garbled": "hmac 10295:x:y:z",
    "Digest": 'Digest username="10295", nonce="x"',
    "no scheme": b64encode(b"10295:a-partner-secret-10295").decode(),
    "Basic alone": "Basic",
    "Basic and a blank": "Basic ",
    "no base64": "Basic !!!",
    "base64 cut off": "Basic MTAyOTU6Y",
    "base64 of no text": "Basic " + b64encode(b"\xff\xfe:\xff").decode(),
    "no colon": "Basic " + b64encode(b"10295").decode(),
    "empty both": "Basic " + b64encode(b":").decode(),
    "no secret": "Basic " + b64encode(b"10295:").decode(),
    "no partner": "Basic " + b64encode(b":a-partner-secret-10295").decode(),
    "wrong secret": "Basic " + b64encode(b"10295:a-partner-secret-10296").decode(),
    "unknown partner": "Basic " + b64encode(b"10296:a-partner-secret-10295").decode(),
    "NUL in the partner": "Basic " + b64encode(b"102\x0095:a-partner-secret-10295").decode(),
    "NUL in the secret": "Basic " + b64encode(b"10295:a-partner-secret-10295\x00").decode(),
    "other letters": "Basic " + b64encode("é:ø".encode()).decode(),
    "Arabic digits": "Basic " + b64encode("١٠٢٩٥:a-partner-secret-10295".encode()).decode(),
    "a sign": "Basic " + b64encode(b"+10295:a-partner-secret-10295").decode(),
    "a huge number": "Basic " + b64encode(b"9" * 6000 + b":x").decode(),
    "beyond every integer": "Basic " + b64encode(b"9999999999:x").decode(),
    "a long secret": "Basic " + b64encode(b"10295:" + b"x" * 50_000).decode(),
    "raw letters beyond ASCII": "Basic \xe9\xe8",
    "raw letters beyond ASCII in another scheme": "\xe9 \xe8",
    "full-width base64": "Basic \xef\xbc\xa1\xef\xbc\xa1",
}


def test_no_wrong_and_garbled_credentials_are_all_answered_401(client: FlaskClient, payments: FakePayments):
    a_partner()
    before = everything()
    problems = []

    for place, (what, header) in enumerate(_GARBLED.items()):
        environ = {"REMOTE_ADDR": f"192.0.2.{place}"}  # so that none is throttled for the others
        if header is not None:
            environ["HTTP_AUTHORIZATION"] = header
        for method, path in (
            ("POST", SUBSCRIBE),
            ("GET", "/api/recurring/subscriptions/10295/5/2026-11-21"),
            ("DELETE", "/api/recurring/cancel/1"),
            ("POST", "/api/recurring/1/resend"),
            ("GET", "/api/transactions?partnerId=10295&referenceId=x"),
            ("GET", "/api/transactions/search/10295?fromDate=2026-11-21"),
            ("GET", "/api/transactions/search/10295/1"),
            ("GET", f"/api/transactions/10295/{_A_GUID}"),
            ("PUT", f"/api/transactions/10295/{_A_GUID}/capture"),
        ):
            answer = client.open(
                path, method=method, data=body(), content_type="application/json", environ_overrides=environ
            )
            told = answer.headers.get("WWW-Authenticate", "")
            if answer.status_code != 401 or not answer.is_json or not told.startswith("Basic realm="):
                problems.append(f"{what}: {method} {path}: {answer.status_code} {told!r} {answer.text[:100]}")

    assert not problems, "\n".join(problems)
    assert everything() == before
    assert payments.calls == []


def test_an_unknown_partner_and_a_wrong_secret_get_the_same_bytes(client: FlaskClient):
    a_partner()
    path = "/api/recurring/subscriptions/10295/5/2026-11-21"

    unknown = client.get(path, headers=basic("10296"))
    wrong = client.get(path, headers=basic("10295", "wrong"))

    assert unknown.status_code == wrong.status_code == 401
    assert unknown.data == wrong.data
    assert {k: v for k, v in unknown.headers if k != "X-Request-Id"} == {
        k: v for k, v in wrong.headers if k != "X-Request-Id"
    }


def test_another_partners_secret_opens_nothing(client: FlaskClient):
    a_partner()
    a_partner(20000)

    answer = client.get(
        "/api/recurring/subscriptions/10295/5/2026-11-21", headers=basic("10295", "a-partner-secret-20000")
    )

    assert answer.status_code == 401


def test_another_partners_id_in_the_body_is_forbidden_whether_it_exists_or_not(
    client: FlaskClient, payments: FakePayments
):
    a_partner()
    a_partner(20000)
    before = everything()

    answers = [post(client, body(partnerId=other)) for other in (20000, "20000", 30000, 1, 2147483647)]

    assert {a.status_code for a in answers} == {403}
    assert len({a.data for a in answers}) == 1
    assert "partnerId" in answers[0].json["message"]
    assert everything() == before
    assert payments.calls == []


_LIST = "/api/recurring/subscriptions/10295/5"
_LONG = "9" * 5000
_A_GUID = "a3bb189e-8bf9-4888-9912-ace4e6543002"
_TRAPS: list[tuple[str, str]] = [
    *[
        ("DELETE", f"/api/recurring/cancel/{t}")
        for t in ("%00", "a%00b", "%0A", "1%0A", "%E2%80%AE", "%ED%A0%80", "-1")
    ],
    *[("DELETE", f"/api/recurring/cancel/{t}") for t in ("0", "2147483648", "9223372036854775808", "9" * 23, _LONG)],
    *[
        ("DELETE", f"/api/recurring/cancel/{t}")
        for t in ("1.0", "1e2", "١", "１", "%D9%A1", "..%2f..", "a/b/c", "%25s")
    ],
    ("DELETE", "/api/recurring/cancel/"),
    ("DELETE", "/api/recurring/cancel"),
    ("DELETE", "/api/recurring/cancel/' OR 1=1 --"),
    ("DELETE", "/api/recurring/cancel/1?api-version=3.0"),
    *[("GET", f"{_LIST}/{t}") for t in ("٢٠٢٦-١١-٢١", "2026-11-21%0A", "2026-11-21%00", "2026-13-01", "2026-02-30")],
    *[
        ("GET", f"{_LIST}/{t}")
        for t in ("0000-01-01", "2026-1-1", "20261121", "2026-11-21T25:00", "now", "2026-11-21Z")
    ],
    *[("GET", f"{_LIST}/{t}") for t in ("2026-11-21T08:00:00", "2026-11-21T08:00Z", "2026-11-21%2008:00", "-1", "%00")],
    *[
        ("GET", f"{_LIST}/2026-11-21?after={t}")
        for t in ("-1", "%00", "x", "1.5", "٢", "2147483648", "9" * 40, "1%0A", "")
    ],
    ("GET", f"{_LIST}/2026-11-21?after=1&after=2"),
    *[("GET", f"{_LIST}/2026-11-21?api-version={t}") for t in ("1", "3.0", "", "2.0%00", "%00", "２.0", " 2.0")],
    ("GET", f"{_LIST}/2026-11-21?api-version=1.0&api-version=2.0"),
    ("GET", f"{_LIST}/2026-11-21?api-version=2.0&api-version=2.0"),
    *[("GET", f"/api/recurring/subscriptions/{t}/5/2026-11-21") for t in ("0", "-1", "2147483648", "9" * 23, _LONG)],
    *[("GET", f"/api/recurring/subscriptions/{t}/5/2026-11-21") for t in ("%00", "1.5", "10295%0A", "%2010295", "x")],
    *[
        ("GET", f"/api/recurring/subscriptions/10295/{t}/2026-11-21")
        for t in ("6", "0", "-5", "%00", "٥", "5%0A", "05")
    ],
    *[
        (method, f"/api/transactions/{partner}/{guid}{end}")
        for method, end in (("GET", ""), ("PUT", "/capture"))
        for partner, guid in (
            *[(p, _A_GUID) for p in ("0", "-1", "2147483648", "9" * 23, _LONG, "%00", "1.5", "x", "10295")],
            *[("10295", g) for g in ("%00", "1", "x" * 3000, _A_GUID + "%0A", _A_GUID.replace("a", "١"), "%ED%A0%80")],
        )
    ],
    *[("PUT", f"/api/transactions/10295/{_A_GUID}/capture?amount={t}") for t in ("-1", "%00", "1e9", "٢", "9" * 99)],
    *[
        ("GET", f"/api/transactions?partnerId={p}&referenceId={r}")
        for p, r in (
            *[
                (p, "x")
                for p in ("", "0", "-1", "2147483648", _LONG, "%00", "1.5", "٢", "10295%0A", "10295&partnerId=1")
            ],
            *[
                ("10295", r)
                for r in ("", "%00", "a%00b", "%ED%A0%80", "%FF", "x" * 65, "%0A", "x&referenceId=y", "'--")
            ],
        )
    ],
    *[
        ("GET", f"/api/transactions/search/10295/{t}")
        for t in ("0", "-1", "2147483648", _LONG, "%00", "1.5", "٢", "x", "1%0A", "4711", "1?after=x", "1?after=%00")
    ],
    *[
        ("GET", f"/api/transactions/search/10295?fromDate={t}")
        for t in ("", "%00", "2026-02-30", "2026-11-21T25:00", "x", "2026-11-21&fromDate=2026-11-22", "2026-11-21%0A")
    ],
    *[("GET", f"/api/transactions/search/10295?fromDate=2026-11-21&after={t}") for t in ("", "1", "%00", _A_GUID)],
    *[("GET", f"/api/transactions/search/{t}?fromDate=2026-11-21") for t in ("0", "2147483648", _LONG, "%00", "x")],
    *[
        ("POST", f"/api/recurring/{t}/resend")
        for t in (
            "%00",
            "a%00b",
            "%0A",
            "0",
            "-1",
            "2147483648",
            _LONG,
            "٢",
            "a/b/c",
            "..%2f..",
            "%ED%A0%80",
            "m" * 101,
        )
    ],
    ("POST", "/api/recurring//resend"),
    ("GET", "/api/transactions/"),
    *[
        (method, f"{start}/{token}{end}")
        for start, end, methods in (
            ("/s", "", ("GET", "HEAD", "POST")),
            ("/manage", "", ("GET",)),
            ("/manage", "/stop", ("GET", "POST")),
            ("/api/recurring/process/10295", "", ("GET",)),
            ("/api/recurring/return/10295", "", ("GET", "POST")),
        )
        for method in methods
        for token in (
            "%00",
            "a%00",
            "9223372036854775808",
            "%FF",
            "%ED%A0%80",
            "a%0A",
            "A" * 22,
            "x" * 3000,
            "..",
            "%F0%9F%98%80",
        )
    ],
    *[
        ("GET", f"/api/recurring/process/{t}/{'A' * 22}")
        for t in ("0", "2147483648", "9" * 23, _LONG, "-1", "%00", "x")
    ],
    *[("POST", f"/api/recurring/return/{t}/{'A' * 22}") for t in ("2147483648", _LONG, "-1", "%00")],
    *[("POST", f"/hooks/vipps/{t}") for t in ("%00", "a%00", "%FF", "x" * 3000, "A" * 22, "..")],
    *[("POST", f"/hooks/twilio/{t}") for t in ("0", "-1", "2147483648", "9" * 23, _LONG, "%00", "x", "1%0A")],
    ("GET", "/"),
    ("GET", "/%00"),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
    ("GET", "/static/../app.py"),
    ("GET", "/static/%2e%2e/pages.py"),
    ("GET", "/static/%00"),
    ("GET", "/static/no-such-file"),
    ("GET", "/favicon.ico"),
    ("GET", "/api/recurring/"),
    ("GET", "/sim/clock"),
]


def test_every_trap_in_a_path_or_query_is_a_plain_4xx_and_changes_nothing(
    client: FlaskClient, services: Services, payments: FakePayments, sms: FakeSms
):
    services.subscriptions.request(a_partner(), a_wish(member_id="member"))
    payments.genuine = sms.genuine = False
    before, calls = everything(), list(payments.calls)
    problems = []

    for method, path in _TRAPS:
        answer = client.open(path, method=method, headers=basic())
        wrong = what_is_wrong_with(answer)
        if not 400 <= answer.status_code < 500:
            wrong = wrong or f"answered {answer.status_code}"
        if wrong:
            problems.append(f"{method} {path[:80]}: {wrong}")
        if everything() != before or payments.calls != calls:
            problems.append(f"{method} {path[:80]}: something changed")

    assert not problems, f"{len(problems)} of {len(_TRAPS)}:\n" + "\n".join(problems)


def test_raw_bytes_in_a_path_are_a_plain_4xx(client: FlaskClient):
    a_partner()
    paths = ["/s/\xff", "/s/\xc3", "/manage/\xed\xa0\x80", "/api/recurring/cancel/\xff\xfe", "/\x00"]

    answers = {raw: client.delete("/", environ_overrides={"PATH_INFO": raw}, headers=basic()) for raw in paths}

    assert {raw: a.status_code for raw, a in answers.items() if not 400 <= a.status_code < 500} == {}


def test_no_method_that_a_route_does_not_list_is_taken(client: FlaskClient, services: Services, payments: FakePayments):
    requested = services.subscriptions.request(a_partner(), a_wish())
    token, stored = requested.url.rsplit("/", 1)[1], subscription(requested.subscription_id)
    returning = newest_agreement(stored.id).return_id
    before, calls = everything(), list(payments.calls)
    allowed = {
        SUBSCRIBE: {"POST"},
        f"{_LIST}/2026-11-21": {"GET", "HEAD"},
        "/api/recurring/cancel/1": {"DELETE"},
        "/api/recurring/1/resend": {"POST"},
        "/api/transactions": {"GET", "HEAD"},
        "/api/transactions/search/10295": {"GET", "HEAD"},
        "/api/transactions/search/10295/1": {"GET", "HEAD"},
        f"/api/transactions/10295/{_A_GUID}": {"GET", "HEAD"},
        f"/api/transactions/10295/{_A_GUID}/capture": {"PUT"},
        f"/api/recurring/process/10295/{token}": {"GET", "HEAD"},
        f"/api/recurring/return/10295/{returning}": {"GET", "HEAD", "POST"},
        f"/s/{token}": {"GET", "HEAD", "POST"},
        f"/manage/{stored.manage_token}": {"GET", "HEAD"},
        f"/manage/{stored.manage_token}/stop": {"GET", "HEAD", "POST"},
        "/hooks/vipps/x": {"POST"},
        "/hooks/twilio/1": {"POST"},
        "/healthz": {"GET", "HEAD"},
        "/readyz": {"GET", "HEAD"},
    }
    problems = []

    for path, listed in allowed.items():
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "X"} - listed:
            answer = client.open(path, method=method, headers=basic())
            if answer.status_code != 405 or not listed <= set(answer.headers.get("Allow", "").split(", ")):
                problems.append(f"{method} {path}: {answer.status_code}, Allow: {answer.headers.get('Allow')}")

    assert not problems, "\n".join(problems)
    assert everything() == before
    assert payments.calls == calls


def test_options_tells_the_methods_and_does_nothing(client: FlaskClient):
    a_partner()
    before = everything()

    answers = [client.options(path) for path in (SUBSCRIBE, "/s/x", "/hooks/vipps/x", "/api/recurring/cancel/1")]

    assert {a.status_code for a in answers} == {200}
    assert all("OPTIONS" in a.headers["Allow"] and a.data == b"" for a in answers)
    assert everything() == before


def test_a_header_does_not_change_the_method(client: FlaskClient, services: Services):
    services.subscriptions.request(a_partner(), a_wish())
    before = everything()

    answers = [
        client.post("/api/recurring/cancel/1", headers={**basic(), header: "DELETE"})
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    ]

    assert [a.status_code for a in answers] == [405] * 3
    assert everything() == before


_HOSTS = [
    "evil.example.com",
    "pay.example.com.evil.example.com",
    "pay.example.com@evil.example.com",
    "",
    "\xe9",
    "a b",
    "[",
]


def test_a_request_for_another_host_is_refused_on_every_face(client: FlaskClient):
    a_partner()
    problems = []

    for path in ("/healthz", SUBSCRIBE, "/s/x", "/manage/x", "/hooks/vipps/x", "/no-such-page"):
        for host in _HOSTS:
            answer = client.get(path, environ_overrides={"HTTP_HOST": host}, headers=basic())
            if answer.status_code != 400 or what_is_wrong_with(answer):
                problems.append(f"{host!r} at {path}: {answer.status_code} {answer.text[:100]}")

    assert not problems, "\n".join(problems)


def test_no_link_follows_a_forwarded_host(client: FlaskClient):
    a_partner()

    answer = client.post(
        SUBSCRIBE,
        data=body(agreementUrl=None),
        content_type="application/json",
        headers={**basic(), "X-Forwarded-Host": "evil.example.com", "Forwarded": "host=evil.example.com"},
    )

    assert answer.json["url"].startswith("https://pay.example.com/api/recurring/process/10295/")
    assert subscription(answer.json["subscriptionId"]).agreement_url.startswith("https://pay.example.com/manage/")


_HEADERS = {
    "HTTP_ACCEPT_LANGUAGE": ("nb;q=NaN", "\xe9", "x" * 5000, ";;;,,,", "nb;q=1e400", "*;q=-1"),
    "HTTP_ACCEPT": ("\xe9", "application/xml", ";q="),
    "HTTP_COOKIE": ("a=\xe9", "=;=;", "session=x"),
    "HTTP_RANGE": ("bytes=9-1", "bytes=\xe9"),
    "HTTP_IF_MODIFIED_SINCE": ("\xe9", "Mon, 99 Foo 99999 99:99:99 GMT"),
    "HTTP_X_REQUEST_ID": ("\xe9", "a\x00b", "x" * 5000),
    "HTTP_SEC_FETCH_SITE": ("\xe9",),
    "HTTP_CONTENT_ENCODING": ("gzip",),
    "CONTENT_LENGTH": ("x", "-1", "9" * 5000),
    "QUERY_STRING": ("%", "%ff=%fe", "a=\xe9", "&&&===", "recurring=%00", "notice=%00"),
}


def test_no_header_breaks_a_page_or_the_api(client: FlaskClient, services: Services):
    token = services.subscriptions.request(a_partner(), a_wish()).url.rsplit("/", 1)[1]
    manage = subscription(1).manage_token
    before = everything()
    problems = []

    for name, values in _HEADERS.items():
        for value in values:
            for path in (f"/s/{token}", f"/manage/{manage}", f"{_LIST}/2026-11-21", "/static/site.css", "/no-page"):
                answer = client.get(path, environ_overrides={name: value}, headers=basic())
                wrong = what_is_wrong_with(answer)
                answer.close()
                if wrong:
                    problems.append(f"{name}: {value[:40]!a} at {path}: {wrong}")

    assert not problems, "\n".join(problems)
    assert everything() == before
