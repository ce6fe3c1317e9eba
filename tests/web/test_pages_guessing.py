"""Whoever tries links that open nothing is slowed down by network; whoever has a right one never is."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from invoice.services.jobs import Services
from invoice.store.db import db, reading
from invoice.store.models import RateLimit
from tests.conftest import StandingClock
from tests.fakes import FakePayments
from tests.web.bad_bodies import everything
from tests.web.visiting import a_request, link, manage, returning

pytestmark = pytest.mark.usefixtures("as_in_production", "the_usual_partner")

NETWORK = 100
DOORS = ("/s/", "/manage/", "/api/recurring/return/10295/", "/api/recurring/process/10295/")


def look(client: FlaskClient, path: str, address: str = "192.0.2.1", method: str = "GET") -> TestResponse:
    return client.open(path, method=method, environ_overrides={"REMOTE_ADDR": address})


def guess(client: FlaskClient, times: int, address: str = "192.0.2.1", method: str = "GET") -> list[int]:
    doors = DOORS[:1] if method == "POST" else DOORS
    return [look(client, f"{doors[n % len(doors)]}guess-{n}", address, method).status_code for n in range(times)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_after_a_hundred_guesses_a_network_must_wait(client: FlaskClient, time: StandingClock, method: str):
    assert guess(client, NETWORK + 5, method=method) == [404] * NETWORK + [429] * 5

    answer = look(client, "/s/guess")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert "very often" in answer.text or "svært ofte" in answer.text
    time.move(seconds=1)
    assert guess(client, 2) == [404, 429]


def test_a_right_link_is_never_held_up_wherever_it_is_opened(
    client: FlaskClient, services: Services, payments: FakePayments
):
    sub = a_request(services)
    assert guess(client, NETWORK + 20)[-1] == 429

    shown = [look(client, path).status_code for path in (link(sub), returning(sub), manage(sub)) for _ in range(150)]
    pressed = look(client, link(sub), method="POST")

    assert set(shown) == {200}
    assert pressed.status_code == 303


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ("192.0.2.255", "192.0.3.1"),
        ("::ffff:192.0.2.7", "198.51.100.1"),
        ("192.0.2.9:50123", "2001:db8::1"),
    ],
)
def test_a_network_is_counted_as_one(client: FlaskClient, near: str, far: str):
    guess(client, NETWORK)

    assert [guess(client, 1, address) for address in (near, far)] == [[429], [404]]


def test_an_ipv6_network_of_a_customer_is_counted_as_one(client: FlaskClient):
    guess(client, NETWORK, "2001:db8:1:2::3")

    assert guess(client, 1, "2001:db8:1:ffff::1") == [429]
    assert guess(client, 1, "2001:db8:2::1") == [404]


def test_guesses_that_are_too_many_write_nothing(client: FlaskClient):
    guess(client, NETWORK)
    before = everything(), counts()

    guess(client, 50)

    assert (everything(), counts()) == before


def counts() -> list[tuple[str, str]]:
    with reading():
        rows = db.session.execute(select(RateLimit.bucket, RateLimit.used_until).order_by(RateLimit.bucket))
        return [(bucket, str(used)) for bucket, used in rows]


def test_a_right_link_leaves_no_count(client: FlaskClient, services: Services):
    sub = a_request(services)
    before = counts()

    for path in (link(sub), returning(sub), manage(sub)):
        look(client, path)

    assert counts() == before


def test_a_button_takes_thirty_presses_a_minute_and_its_page_stays_open(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    mine, other = a_request(services), a_request(services, order_number="other")

    pressed = [look(client, link(mine), method="POST").status_code for _ in range(32)]
    calls = len(payments.calls)

    assert pressed == [303] * 30 + [429] * 2
    assert look(client, link(mine), method="POST").headers["Retry-After"] == "2"
    assert len(payments.calls) == calls
    assert look(client, link(mine)).status_code == 200
    assert look(client, link(other), method="POST").status_code == 303
    time.move(seconds=2)
    assert look(client, link(mine), method="POST").status_code == 303


def test_what_is_no_link_at_all_makes_no_count_of_presses(client: FlaskClient):
    guess(client, 20, method="POST")

    assert [bucket for bucket, _ in counts() if bucket.startswith("presses")] == []
