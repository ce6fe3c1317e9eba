"""Whoever guesses is slowed down, and nobody else with him; whoever asks too much is told when to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from invoice.config import Settings
from invoice.errors import Limited
from invoice.services import partners, throttle
from invoice.services.partners import Terms
from invoice.store.db import db
from tests.conftest import StandingClock, environ_for
from tests.factories import a_partner
from tests.fakes import FakePayments, FakeSms
from tests.services.test_races import together
from tests.web import proofs
from tests.web.bad_bodies import basic, everything

LIST = "/api/recurring/subscriptions/10295/5/2026-11-21"
RIGHT = proofs.basic(10295, "a-partner-secret-10295")
WRONG = proofs.basic(10295, "wrong")


def ask(client: FlaskClient, given: str, address: str = "192.0.2.1", **environ: str) -> TestResponse:
    return client.get(LIST, environ_overrides={"HTTP_AUTHORIZATION": given, "REMOTE_ADDR": address, **environ})


def statuses(client: FlaskClient, given: str, times: int, address: str = "192.0.2.1") -> list[int]:
    return [ask(client, given, address).status_code for _ in range(times)]


def test_after_twenty_failures_a_further_one_must_wait(client: FlaskClient, time: StandingClock):
    a_partner()

    assert statuses(client, WRONG, 25) == [401] * 20 + [429] * 5

    answer = ask(client, WRONG)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert answer.json == {"message": "Too many failed authentications. Wait as long as Retry-After says."}
    time.move(seconds=3)
    assert statuses(client, WRONG, 2) == [401, 429]


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.2"], ids=["same address", "another"])
def test_nobody_can_lock_the_right_proof_out(client: FlaskClient, time: StandingClock, address: str):
    a_partner()
    key, secret = partners.add_key(10295), partners.turn_hmac_on(10295, takes_short=True)
    signed = [sign(10295, secret, "GET", LIST, at=time.at, nonce=sign.__name__) for sign in (proofs.short, proofs.full)]

    assert statuses(client, WRONG, 30)[-1] == 429
    guesses = [ask(client, proofs.basic(n, "guess")).status_code for n in range(1, 231)]

    assert guesses[-1] == 429
    assert [ask(client, given, address).status_code for given in (RIGHT, f"Bearer {key}", *signed)] == [200] * 4


def test_what_is_too_much_is_not_written_and_said_once_in_the_log(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    a_partner()
    statuses(client, WRONG, 20)
    before, lines = everything(), len(caplog.records)

    assert statuses(client, WRONG, 5) == [429] * 5

    assert everything() == before
    assert (lines, len(caplog.records)) == (20, 21)


def test_failures_of_one_partner_are_none_of_another(client: FlaskClient):
    a_partner()
    a_partner(20000)
    statuses(client, WRONG, 30)

    assert ask(client, proofs.basic(20000, "wrong")).status_code == 401


def test_whoever_waits_between_failures_is_not_stopped(client: FlaskClient, time: StandingClock):
    a_partner()

    for _ in range(60):
        assert ask(client, WRONG).status_code == 401
        time.move(seconds=3)


def test_what_gets_in_counts_as_no_failure(client: FlaskClient):
    a_partner()

    assert statuses(client, RIGHT, 50) == [200] * 50
    assert ask(client, WRONG).status_code == 401


def test_an_address_has_two_hundred_failures_whoever_it_says_to_be(client: FlaskClient):
    a_partner()

    answers = [ask(client, proofs.basic(number, "guess")).status_code for number in range(1, 231)]

    assert answers == [401] * 200 + [429] * 30
    assert ask(client, WRONG).status_code == 429
    assert ask(client, WRONG, "192.0.2.2").status_code == 401


@pytest.mark.parametrize(
    "guess",
    [
        lambda *_: f"Bearer mi_10295_{'x' * 43}",
        lambda time, n: proofs.short(10295, "TXlTZWNyZXRLZXk=", "GET", LIST, at=time.at, nonce=str(n)),
        lambda time, n: proofs.full(10295, "TXlTZWNyZXRLZXk=", "GET", LIST, at=time.at, nonce=str(n)),
        lambda _, n: [WRONG, f"Bearer mi_10295_{'x' * 43}"][n % 2],
        lambda *_: "Basic !!!",
        lambda *_: "hmac !!!",
    ],
    ids=["bearer", "hmac", "hmac-sha256", "by turns", "unreadable", "unreadable signature"],
)
def test_every_proof_is_throttled(client: FlaskClient, time: StandingClock, guess: Callable[[StandingClock, int], str]):
    a_partner()

    assert [ask(client, guess(time, n)).status_code for n in range(22)] == [401] * 20 + [429] * 2


def test_no_proof_at_all_is_no_failure(client: FlaskClient):
    a_partner()

    assert {client.get(LIST).status_code for _ in range(30)} == {401}
    assert client.get(LIST, headers={"Authorization": WRONG}).status_code == 401


def test_unknown_partners_are_throttled_like_known_ones(client: FlaskClient):
    a_partner()

    known, unknown = (statuses(client, proofs.basic(number, "guess"), 30) for number in (10295, 999))

    assert known == unknown


def test_an_ipv6_network_counts_as_one_address(client: FlaskClient):
    a_partner()
    addresses = [f"2001:db8:1:2::{n:x}" for n in range(30)]

    answers = [ask(client, WRONG, address).status_code for address in addresses]

    assert answers == [401] * 20 + [429] * 10
    assert ask(client, WRONG, "2001:db8:1:3::1").status_code == 401


@pytest.mark.parametrize("address", ["", "<local>", "unix:", "999.1.1.1", "fe80::1%eth0", "::ffff:192.0.2.7", "é"])
def test_any_address_can_be_counted(client: FlaskClient, address: str):
    a_partner()

    assert statuses(client, WRONG, 22, address) == [401] * 20 + [429] * 2


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("192.0.2.1:50123", "192.0.2.1:50124", "192.0.2.2:50123"),
        ("[2001:db8::1]:50123", "[2001:db8::2]:50124", "[2001:db8:0:1::1]:50123"),
    ],
)
def test_a_port_that_a_proxy_adds_is_no_part_of_an_address(client: FlaskClient, address: str, same: str, other: str):
    a_partner()
    statuses(client, WRONG, 20, address)

    assert (ask(client, WRONG, same).status_code, ask(client, WRONG, other).status_code) == (429, 401)


def test_workers_at_the_same_moment_count_together(app: Flask):
    a_partner()

    def knock() -> str:
        try:
            throttle.count_failure(10295, "192.0.2.1")
        except Limited:
            return "limited"
        return "counted"

    outcomes = together(app, *[lambda: Counter(knock() for _ in range(10))] * 4)

    assert sum(outcomes, Counter()) == {"counted": 20, "limited": 20}


def test_a_clock_that_went_wrong_locks_nobody_out(client: FlaskClient, time: StandingClock):
    a_partner()
    time.move(days=2)
    statuses(client, WRONG, 30)
    time.move(days=-2)

    assert ask(client, WRONG).status_code == 401


@pytest.mark.parametrize(
    ("proxies", "said", "counted"), [(1, "1.1.1.1, 203.0.113.9", "203.0.113.9"), (0, "1.1.1.1", "")]
)
def test_the_address_comes_from_as_many_proxies_as_are_trusted(
    database_url: str, time: StandingClock, proxies: int, said: str, counted: str
):
    environ = {**environ_for(database_url), "INVOICE_TRUSTED_PROXIES": str(proxies)}
    app = create_app(Settings.from_environ(environ), payments=FakePayments(), sms=FakeSms())
    with app.app_context():
        a_partner()
        client = app.test_client()

        def from_behind(given: str, forwarded: str) -> int:
            environ = {"HTTP_AUTHORIZATION": given, "HTTP_X_FORWARDED_FOR": forwarded, "REMOTE_ADDR": "192.0.2.1"}
            return client.get(LIST, base_url="https://pay.example.com", environ_overrides=environ).status_code

        for _ in range(20):
            from_behind(WRONG, said)
        # What others than the trusted proxies say is their own affair.
        assert from_behind(WRONG, f"8.8.8.8, {counted}" if counted else "8.8.8.8") == 429
        assert from_behind(WRONG, "203.0.113.10") == (401 if proxies else 429)

        db.session.remove()
        db.engine.dispose()


# Requests


def test_a_partner_may_ask_so_often_in_a_minute(client: FlaskClient, time: StandingClock):
    a_partner(request_limit=30)

    assert statuses(client, RIGHT, 33) == [200] * 30 + [429] * 3

    answer = ask(client, RIGHT)
    assert answer.headers["Retry-After"] == "2"
    assert answer.json == {"message": "More than 30 requests a minute."}
    time.move(seconds=2)
    assert statuses(client, RIGHT, 2) == [200, 429]


def test_what_is_turned_away_is_not_carried_out(client: FlaskClient, payments: FakePayments):
    a_partner(request_limit=1)
    ask(client, RIGHT)

    answer = client.delete("/api/recurring/cancel/1", headers=basic())

    assert answer.status_code == 429
    assert payments.calls == []


def test_the_limit_is_shared_by_all_proofs_and_addresses(client: FlaskClient):
    a_partner(request_limit=2)
    key = partners.add_key(10295)

    answers = [ask(client, RIGHT), ask(client, f"Bearer {key}", "192.0.2.2"), ask(client, RIGHT, "192.0.2.3")]

    assert [a.status_code for a in answers] == [200, 200, 429]


def test_both_contracts_share_the_limit(client: FlaskClient):
    a_partner(request_limit=3)

    def item() -> TestResponse:
        return client.post("/vipps-recurring-payments/charge/get", data=b"[]", headers=basic())

    assert [item().status_code, ask(client, RIGHT).status_code, item().status_code] == [200] * 3
    refused = [item(), ask(client, RIGHT)]
    assert [(a.status_code, a.headers["Retry-After"]) for a in refused] == [(429, "20")] * 2
    assert [a.json for a in refused] == [{"message": "More than 3 requests a minute."}] * 2


def test_services_on_one_database_count_together(database_url: str, client: FlaskClient):
    a_partner(request_limit=3)
    other = create_app(Settings.from_environ(environ_for(database_url)), payments=FakePayments(), sms=FakeSms())
    other.test_client_class = type(client)

    asked = [ask(which, RIGHT).status_code for which in (client, other.test_client()) * 2]

    with other.app_context():
        db.engine.dispose()
    assert asked == [200, 200, 200, 429]


def test_a_limit_that_is_set_holds_from_the_next_request_on(client: FlaskClient, time: StandingClock):
    a_partner(request_limit=1)
    assert statuses(client, RIGHT, 2) == [200, 429]

    partners.change(10295, Terms(request_limit=3))

    assert ask(client, RIGHT).headers["Retry-After"] == "20"
    time.move(seconds=20)
    assert statuses(client, RIGHT, 2) == [200, 429]


def test_each_partner_has_a_limit_of_its_own(client: FlaskClient):
    a_partner(request_limit=1)
    a_partner(20000)

    assert statuses(client, RIGHT, 2) == [200, 429]
    assert ask(client, proofs.basic(20000, "a-partner-secret-20000")).status_code == 403


def test_six_hundred_a_minute_is_what_a_partner_has_without_more_words(app: Flask):
    partners.add(7, "Avisen", sms_originator="2119")

    assert partners.get(7).request_limit == 600


@pytest.mark.parametrize("per_minute", [1, 2, 7, 11, 61])
def test_a_share_is_whole_whatever_it_divides_a_minute_by(app: Flask, time: StandingClock, per_minute: int):
    for _ in range(per_minute):
        throttle.count_request(1, per_minute)

    with pytest.raises(Limited) as refusal:
        throttle.count_request(1, per_minute)

    time.move(seconds=refusal.value.retry_after_s)
    throttle.count_request(1, per_minute)
