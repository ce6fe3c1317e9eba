"""Who is let in, by each of the four proofs, and that all others learn nothing."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select
from werkzeug.test import TestResponse

from app import create_app
from invoice.config import Settings
from invoice.services import partners
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading
from invoice.store.models import UsedNonce
from tests.conftest import StandingClock, environ_for
from tests.factories import a_partner, settle
from tests.fakes import FakePayments, FakeSms
from tests.services.test_races import together
from tests.web import proofs
from tests.web.bad_bodies import GOOD

pytestmark = pytest.mark.usefixtures("as_in_production")

LIST = "/api/recurring/subscriptions/10295/5/2026-11-21"
SUBSCRIBE = "/api/recurring/subscribe?api-version=2.0"
SECRET = "a-partner-secret-10295"
# The original's own example; what a partner brings along.
BROUGHT = "TXlTZWNyZXRLZXk="
DENIED = {"message": "Authorization has been denied for this request."}
SCHEMES = [proofs.short, proofs.full]


def ask(client: FlaskClient, authorization: str | None, target: str = LIST, address: str = "192.0.2.1") -> TestResponse:
    environ = {"REMOTE_ADDR": address}
    if authorization is not None:
        environ["HTTP_AUTHORIZATION"] = authorization
    return client.get(target, environ_overrides=environ)


# Let in


def test_a_secret_opens_by_basic(client: FlaskClient):
    a_partner()

    assert ask(client, proofs.basic(10295, SECRET)).status_code == 200


def test_an_api_key_opens_by_bearer_and_in_place_of_the_secret(client: FlaskClient):
    a_partner()
    key = partners.add_key(10295)

    assert ask(client, f"Bearer {key}").status_code == 200
    assert ask(client, f"bearer  {key} ").status_code == 200
    assert ask(client, proofs.basic(10295, key)).status_code == 200


def test_the_secret_is_no_api_key(client: FlaskClient):
    a_partner()

    assert ask(client, f"Bearer {SECRET}").status_code == 401
    assert ask(client, f"Bearer mi_10295_{'x' * 43}").status_code == 401


@pytest.mark.parametrize("sign", SCHEMES)
def test_a_signature_opens(client: FlaskClient, time: StandingClock, sign: Callable[..., str]):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)

    answer = ask(client, sign(10295, secret, "GET", LIST, at=time.at))

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("sign", SCHEMES)
def test_a_signed_body_is_carried_out_as_it_came(client: FlaskClient, time: StandingClock, sign: Callable[..., str]):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True, secret=BROUGHT)
    body = ("  " + json.dumps(GOOD, ensure_ascii=False) + "\n").encode()

    answer = client.post(
        SUBSCRIBE,
        data=body,
        content_type="application/json",
        headers={"Authorization": sign(10295, secret, "POST", SUBSCRIBE, body, at=time.at)},
    )

    assert answer.status_code == 200, answer.text
    assert answer.json["subscriptionId"] == 1


@pytest.mark.parametrize("sign", SCHEMES)
def test_the_address_is_checked_as_it_was_written(client: FlaskClient, time: StandingClock, sign: Callable[..., str]):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    target = "/api/recurring/cancel/M%c3%98te%2F1%2b2?api-version=2.0"
    header = {"Authorization": sign(10295, secret, "DELETE", target, at=time.at)}

    answer = client.delete(target, headers=header)

    assert answer.status_code == 404, answer.text


def test_the_original_takes_an_address_in_any_case(client: FlaskClient, time: StandingClock):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    signed_for = proofs.short(10295, secret, "DELETE", "/api/recurring/cancel/member-a", at=time.at)

    assert client.delete("/api/recurring/cancel/Member-A", headers={"Authorization": signed_for}).status_code == 404


def test_a_proxys_whole_address_is_read(client: FlaskClient, time: StandingClock):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    header = proofs.full(10295, secret, "GET", LIST, at=time.at)
    whole = {"REQUEST_URI": f"http://inside:8000{LIST}", "HTTP_AUTHORIZATION": header}

    assert client.get(LIST, environ_overrides=whole).status_code == 200


@pytest.mark.parametrize("sign", SCHEMES)
def test_an_address_within_an_address_is_not_what_was_signed(
    client: FlaskClient, time: StandingClock, sign: Callable[..., str]
):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    signed = sign(10295, secret, "DELETE", "/api/recurring/cancel/1", at=time.at)
    within = "api/recurring/cancel/2?x=a://h/api/recurring/cancel/1"

    answer = client.delete(
        "/api/recurring/cancel/2?x=a://h/api/recurring/cancel/1",
        environ_overrides={"REQUEST_URI": within, "RAW_URI": within, "HTTP_AUTHORIZATION": signed},
    )

    assert (answer.status_code, answer.json) == (401, {"message": "Invalid HMAC"})


def test_a_server_that_does_not_tell_the_address_is_enough(client: FlaskClient, time: StandingClock):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    target = LIST + "?after=1&api-version=2.0"
    header = proofs.full(10295, secret, "GET", target, at=time.at)

    answer = client.get(target, environ_overrides={"REQUEST_URI": "", "RAW_URI": "", "HTTP_AUTHORIZATION": header})

    assert answer.status_code == 200, answer.text


def test_a_signature_for_another_public_host_opens(database_url: str, time: StandingClock):
    environ = {**environ_for(database_url), "INVOICE_MORE_HOSTS": "pay.customer.no,pay-core.example.net:8443"}
    app = create_app(Settings.from_environ(environ), payments=FakePayments(), sms=FakeSms())
    with app.app_context():
        a_partner()
        secret = partners.turn_hmac_on(10295, takes_short=True)
        header = proofs.full(10295, secret, "GET", LIST, at=time.at)
        address = "https://pay.customer.no"

        own = app.test_client().get(LIST, base_url=address, headers={"Authorization": header})
        stranger = app.test_client().get(LIST, base_url="https://evil.example.com", headers={"Authorization": header})

        db.session.remove()
        db.engine.dispose()
    assert own.status_code == 200
    assert stranger.status_code == 400


# Turned away


def test_signatures_are_off_until_they_are_turned_on(client: FlaskClient, time: StandingClock):
    a_partner()

    answers = [ask(client, sign(10295, BROUGHT, "GET", LIST, at=time.at)) for sign in SCHEMES]

    assert [(a.status_code, a.json) for a in answers] == [(401, {"message": "Invalid HMAC"})] * 2


def test_the_short_signature_is_taken_only_where_it_was_asked_for_by_name(client: FlaskClient, time: StandingClock):
    a_partner()
    secret = partners.turn_hmac_on(10295)

    assert ask(client, proofs.short(10295, secret, "GET", LIST, at=time.at)).status_code == 401
    assert ask(client, proofs.full(10295, secret, "GET", LIST, at=time.at)).status_code == 200

    by_name = partners.turn_hmac_on(10295, takes_short=True)
    assert ask(client, proofs.short(10295, by_name, "GET", LIST, at=time.at, nonce="2")).status_code == 200


def test_signatures_end_when_they_are_turned_off(client: FlaskClient, time: StandingClock):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    partners.turn_hmac_off(10295)

    assert ask(client, proofs.full(10295, secret, "GET", LIST, at=time.at)).status_code == 401


@pytest.mark.parametrize("sign", SCHEMES)
@pytest.mark.parametrize(("off_s", "status"), [(0, 200), (600, 200), (-600, 200), (601, 401), (-601, 401)])
def test_a_timestamp_counts_for_ten_minutes_both_ways(
    client: FlaskClient, time: StandingClock, sign: Callable[..., str], off_s: int, status: int
):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)

    answer = ask(client, sign(10295, secret, "GET", LIST, at=time.at + timedelta(seconds=off_s)))

    assert answer.status_code == status
    if status == 401:
        assert answer.json == {"message": "Hmac timestamp clock-drift too high"}


def test_a_wrong_clock_is_told_whoever_asks(client: FlaskClient, time: StandingClock):
    a_partner()
    late = time.at - timedelta(hours=1)

    assert ask(client, proofs.short(99, BROUGHT, "GET", LIST, at=late)).json["message"].endswith("drift too high")


@pytest.mark.parametrize("sign", SCHEMES)
def test_a_nonce_is_taken_once(client: FlaskClient, time: StandingClock, sign: Callable[..., str]):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    header = sign(10295, secret, "GET", LIST, at=time.at)

    answers = [ask(client, header) for _ in range(2)]
    other = ask(client, sign(10295, secret, "GET", LIST + "?after=1", at=time.at))

    assert [a.status_code for a in answers] == [200, 401]
    assert answers[1].json == {"message": "Invalid HMAC"}
    assert other.status_code == 401


def test_a_nonce_is_each_partners_own(client: FlaskClient, time: StandingClock):
    a_partner()
    a_partner(20000)
    secrets = {number: partners.turn_hmac_on(number, takes_short=True) for number in (10295, 20000)}

    for number, secret in secrets.items():
        target = LIST.replace("10295", str(number))
        assert ask(client, proofs.full(number, secret, "GET", target, at=time.at), target).status_code == 200


def test_a_wrong_signature_uses_no_nonce_up(client: FlaskClient, time: StandingClock):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)

    assert ask(client, proofs.full(10295, BROUGHT, "GET", LIST, at=time.at)).status_code == 401
    assert ask(client, proofs.full(10295, secret, "GET", LIST, at=time.at)).status_code == 200


@pytest.mark.parametrize("sign", SCHEMES)
def test_one_of_many_with_the_same_nonce_at_once_gets_in(
    app: Flask, client: FlaskClient, time: StandingClock, sign: Callable[..., str]
):
    a_partner()
    header = sign(10295, partners.turn_hmac_on(10295, takes_short=True), "GET", LIST, at=time.at)

    def knock() -> int:
        return ask(app.test_client(), header).status_code

    assert Counter(together(app, *[knock] * 8)) == {200: 1, 401: 7}


def test_a_nonce_is_remembered_while_its_request_could_be_taken(
    client: FlaskClient, time: StandingClock, services: Services
):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    header = proofs.short(10295, secret, "GET", LIST, at=time.at + timedelta(minutes=10))

    assert ask(client, header).status_code == 200
    time.move(minutes=20)
    jobs = Jobs(services)
    settle(jobs)  # among them job_nonces, which forgets
    assert ask(client, header).json == {"message": "Invalid HMAC"}
    time.move(hours=2)
    settle(jobs)

    with reading():
        assert db.session.scalar(select(func.count()).select_from(UsedNonce)) == 0


def test_a_suspended_partner_is_turned_away_by_every_proof_and_comes_back(client: FlaskClient, time: StandingClock):
    a_partner()
    key, secret = partners.add_key(10295), partners.turn_hmac_on(10295, takes_short=True)
    nonces = iter(map(str, range(100)))

    def statuses() -> list[int]:
        signed = [sign(10295, secret, "GET", LIST, at=time.at, nonce=next(nonces)) for sign in SCHEMES]
        return [ask(client, given).status_code for given in (proofs.basic(10295, SECRET), f"Bearer {key}", *signed)]

    assert statuses() == [200] * 4
    partners.suspend(10295)
    assert statuses() == [401] * 4
    partners.resume(10295)
    assert statuses() == [200] * 4


def test_another_partners_proofs_open_nothing(client: FlaskClient, time: StandingClock):
    a_partner()
    a_partner(20000)
    key, secret = partners.add_key(20000), partners.turn_hmac_on(20000, takes_short=True)
    signed = [sign(20000, secret, "GET", LIST, at=time.at, nonce=sign.__name__) for sign in SCHEMES]

    for given in (proofs.basic(20000, "a-partner-secret-20000"), f"Bearer {key}", *signed):
        assert ask(client, given).status_code == 403
    for given in (
        proofs.basic(10295, key),
        f"Bearer {key.replace('20000', '10295')}",
        *[sign(10295, secret, "GET", LIST, at=time.at) for sign in SCHEMES],
    ):
        assert ask(client, given).status_code == 401


@pytest.mark.parametrize("turned", [False, True], ids=["right first", "right last"])
def test_of_two_proofs_none_is_taken(client: FlaskClient, time: StandingClock, turned: bool):
    a_partner()
    key, secret = partners.add_key(10295), partners.turn_hmac_on(10295, takes_short=True)
    signed = [sign(10295, secret, "GET", LIST, at=time.at, nonce=sign.__name__) for sign in SCHEMES]

    for right in (proofs.basic(10295, SECRET), f"Bearer {key}", *signed):
        both = [("Authorization", right), ("Authorization", proofs.basic(10295, "wrong"))]
        assert client.get(LIST, headers=both[::-1] if turned else both).status_code == 401
        assert client.get(LIST, headers=both[:1] * 2).status_code == 401


def test_no_log_line_holds_what_opens_a_door(
    client: FlaskClient, time: StandingClock, caplog: pytest.LogCaptureFixture
):
    a_partner()
    key, secret = partners.add_key(10295), partners.turn_hmac_on(10295, takes_short=True)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "sqlalchemy.engine")

    for guess in (False, True):
        password, bearer, signing = (SECRET, key, secret) if not guess else ("a-guess", key[:-1] + "_", BROUGHT)
        signed = [sign(10295, signing, "GET", LIST, at=time.at, nonce=f"{sign.__name__}{guess}") for sign in SCHEMES]
        for given in (proofs.basic(10295, password), f"Bearer {bearer}", *signed):
            ask(client, given)
            told = [given.split(":")[1] if ":" in given else given.split(" ")[1], password, bearer, signing]
            lines = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
            assert [said for said in told for line in lines if said in line] == []
    assert "Refused: partner 10295" in caplog.text
    assert "SELECT" in caplog.text  # what the database is asked is among the lines


@pytest.mark.parametrize("given", [None, "", "Digest x", "Negotiate abc", "hmac-md5 1:2:3:4", "mi_10295_key"])
def test_no_proof_is_asked_for_one_by_all_its_names(client: FlaskClient, given: str | None):
    answer = ask(client, given)

    assert (answer.status_code, answer.json) == (401, DENIED)
    named = [challenge.split(" ")[0] for challenge in answer.headers.getlist("WWW-Authenticate")]
    assert named == ["Basic", "Bearer", "hmac-sha256", "hmac"]


# The same for everybody who is turned away


def wrong_proofs(time: StandingClock, sign: Callable[..., str] | None, scheme: str) -> dict[str, str]:
    """Return a proof of each kind of nobody; the partners of `a_whole_street` must exist."""
    numbers = {"unknown": 999, "bare": 1, "full of secrets": 2, "suspended": 3, "beyond all": 9_999_999_999}
    if sign:
        return {who: sign(n, BROUGHT, "GET", LIST, at=time.at, nonce=who[:3]) for who, n in numbers.items()}
    if scheme == "basic":
        return {who: proofs.basic(n, "wrong") for who, n in numbers.items()}
    return {who: f"Bearer mi_{n}_{'x' * 43}" for who, n in numbers.items()}


def a_whole_street() -> None:
    for number in (1, 2, 3):
        a_partner(number)
    for number in (2, 3):
        partners.rotate(number)
        for _ in range(2):
            partners.add_key(number)
            partners.turn_hmac_on(number, takes_short=True)
    partners.suspend(3)


KINDS: list[Any] = [
    pytest.param(None, "basic", id="basic"),
    pytest.param(None, "bearer", id="bearer"),
    pytest.param(proofs.short, "hmac", id="hmac"),
    pytest.param(proofs.full, "hmac-sha256", id="hmac-sha256"),
]


@pytest.mark.parametrize(("sign", "scheme"), KINDS)
def test_unknown_wrong_and_suspended_get_the_same_bytes(
    client: FlaskClient, time: StandingClock, sign: Callable[..., str] | None, scheme: str
):
    a_whole_street()

    answers = [ask(client, given) for given in wrong_proofs(time, sign, scheme).values()]

    assert {a.status_code for a in answers} == {401}
    assert len({a.data for a in answers}) == 1
    assert len({str([h for h in a.headers if h[0] != "X-Request-Id"]) for a in answers}) == 1


class Work:
    """Counts what takes time: hashing, comparing, decrypting, and questions to the database."""

    CRYPTO = ("hmac_digest", "compare_digest", "openssl_sha256", "openssl_md5", "decrypt")

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def watch(self, _frame: Any, what: str, called: Any) -> None:
        if what == "c_call":
            name = called.__name__
        elif what == "call":
            name = _frame.f_code.co_name
        else:
            return
        if name in self.CRYPTO:
            self.done[name] += 1

    def statement(self, _connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        self.done[text] += 1


@pytest.fixture
def work(app: Flask) -> Iterator[Work]:
    found = Work()
    event.listen(db.engine, "before_cursor_execute", found.statement)
    yield found
    event.remove(db.engine, "before_cursor_execute", found.statement)


@pytest.mark.parametrize(("sign", "scheme"), KINDS)
def test_unknown_wrong_and_suspended_cost_the_same_work(
    client: FlaskClient, time: StandingClock, work: Work, sign: Callable[..., str] | None, scheme: str
):
    a_whole_street()
    counts = {}

    for place, (who, given) in enumerate(wrong_proofs(time, sign, scheme).items()):
        ask(client, given, address=f"192.0.2.{place}")  # what is done once in a process is done
        work.done.clear()
        sys.setprofile(work.watch)
        try:
            ask(client, given, address=f"192.0.2.{place}")
        finally:
            sys.setprofile(None)
        counts[who] = Counter(work.done)

    assert counts["unknown"]["compare_digest"] >= 2
    assert {who: done - counts["unknown"] for who, done in counts.items()} == {who: Counter() for who in counts}
    assert {who: counts["unknown"] - done for who, done in counts.items()} == {who: Counter() for who in counts}


# Nothing that is sent is an error of ours

_HUGE = "9" * 60_000
_STRANGE = [
    *["Basic", "Basic ", "Basic =", "Basic !!!", "Basic MTAyOTU6Y", "Basic /////w==", "Basic " + _HUGE],
    *["Basic \xe9\xe8", "Basic \xef\xbc\xa1", "Basic " + "A" * 60_000, proofs.basic("é", "ø"), proofs.basic("", "")],
    *[proofs.basic("10295", "\x00"), proofs.basic("102\x0095", "x"), proofs.basic("١٠٢٩٥", "x")],
    *[proofs.basic("-1", "x"), proofs.basic("1e3", "x"), proofs.basic("10295\n", "x"), proofs.basic(_HUGE[:9000], "x")],
    *[
        "Bearer",
        "Bearer \xff",
        "Bearer mi_",
        "Bearer mi_10295_",
        f"Bearer mi_{_HUGE}_x",
        "Bearer mi_10295_" + "\xe9" * 43,
    ],
    *[f"Bearer mi_9999999999_{'x' * 43}", f"Bearer mi_10295_{'x' * 43}\t", f"Bearer mi_010295_{'x' * 43}"],
    *[
        f"{s} {v}"
        for s in ("hmac", "hmac-sha256", "HMAC")
        for v in ("", '"', '""', ":::", "a:b:c:d", "\xe9:\xe9:\xe9:\xe9")
    ],
    *[f"{s} 1:{'x' * 10}:n:{_HUGE}" for s in ("hmac", "hmac-sha256")],
    *[f"{s} {_HUGE}:{'x' * 10}:n:1" for s in ("hmac", "hmac-sha256")],
    "hmac 10295:xxxxxxxxxx:n:999999999999999",
    "hmac 9999999999:xxxxxxxxxx:n:1794308400",
    "Basic x, Bearer y",
    "basic,",
    "\x0b",
    "\xa0Basic x",
    " " * 1000,
]


def test_whatever_is_sent_is_a_plain_401(client: FlaskClient):
    a_partner()
    partners.turn_hmac_on(10295, takes_short=True)

    answers = {given: ask(client, given, address=f"198.51.100.{n}") for n, given in enumerate(_STRANGE)}

    assert {given[:60]: a.text for given, a in answers.items() if a.status_code != 401 or not a.is_json} == {}


@pytest.mark.parametrize("raw", ["//x", "/%", "/\xe9?\xff", "http://[", "*", "x" * 60_000, "/" + "a~!*'()%c3%98" * 900])
@pytest.mark.parametrize("scheme", ["hmac 10295:xxxxxxxxxx", f"hmac-sha256 10295:{'x' * 43}="])
def test_no_address_is_an_error_of_ours(client: FlaskClient, time: StandingClock, raw: str, scheme: str):
    a_partner()
    partners.turn_hmac_on(10295, takes_short=True)
    header = f"{scheme}:n:{int(time.at.timestamp())}"

    answer = client.get(LIST, environ_overrides={"REQUEST_URI": raw, "RAW_URI": raw, "HTTP_AUTHORIZATION": header})

    assert (answer.status_code, answer.json) == (401, {"message": "Invalid HMAC"})


# What the documentation says

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "api" / "authentication.md"


@pytest.mark.parametrize("scheme", ["hmac", "hmac-sha256"])
def test_the_snippet_of_the_documentation_signs(client: FlaskClient, time: StandingClock, scheme: str):
    a_partner()
    secret = partners.turn_hmac_on(10295, takes_short=True)
    snippet: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)[0], snippet)  # noqa: S102
    address, body = f"https://pay.example.com{SUBSCRIBE}", json.dumps(GOOD).encode()
    moment = int(time.at.timestamp())

    signed = snippet["authorization"](scheme, 10295, secret, "POST", address, body, timestamp=moment)
    answer = client.post(SUBSCRIBE, data=body, content_type="application/json", headers={"Authorization": signed})

    assert answer.status_code == 200, answer.text


def test_the_examples_of_the_documentation_are_right():
    text = DOCUMENTATION.read_text()
    body = b'{"partnerId":123,"msisdn":"+4799999999"}'
    url = "https://pay-core.linkmobility.com/api/recurring/subscribe?api-version=2.0"
    snippet: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], snippet)  # noqa: S102

    for scheme in ("hmac", "hmac-sha256"):
        made = snippet["authorization"](scheme, 123, BROUGHT, "POST", url, body, 1472196955, "57bff15b4ecf0")
        assert f"`{made.split(':')[1]}`" in text
