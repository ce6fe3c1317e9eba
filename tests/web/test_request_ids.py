"""One id leads from a partner's request through our lines to the events that came of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import IntegrityError
from werkzeug.serving import make_server

from invoice import request_ids
from invoice.clock import utc_now
from invoice.errors import ProviderUnavailable
from invoice.services import partners
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.models import Partner
from invoice.web import logs
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, accept, settle
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver, on_this_machine, receiving
from tests.web.bad_bodies import GOOD, basic

SUBSCRIBE = "/api/recurring/subscribe"
MINE = {"X-Request-Id": "order-1.a_B"}


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with on_this_machine(database_url, payments, sms, is_kept=False) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(autouse=True)
def _partner(app: Flask) -> Iterator[None]:
    app.testing = False
    a_partner()
    yield
    request_ids.enter(None)


def told(client: FlaskClient) -> dict[str, str | None]:
    """Return the request of each event, as partners pull it."""
    return {event["type"]: event["requestId"] for event in client.get("/api/events", headers=basic()).json["events"]}


# In the answer


def test_an_answer_has_an_id_when_everything_else_fails(app: Flask, client: FlaskClient):
    @app.after_request
    def fail(_: object) -> None:
        raise RuntimeError

    answer = client.get("/healthz", headers=MINE)

    assert (answer.status_code, answer.headers.getlist("X-Request-Id")) == (500, ["order-1.a_B"])


def test_an_answer_that_was_kept_has_the_id_of_the_request_that_it_is_told_to(client: FlaskClient):
    headers = basic() | {"Idempotency-Key": "k1"}

    answers = [client.post(SUBSCRIBE, json=GOOD, headers=headers | {"X-Request-Id": name}) for name in ("one", "two")]

    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert [a.headers.getlist("X-Request-Id") for a in answers] == [["one"], ["two"]]
    assert answers[0].data == answers[1].data


# In the logs


def test_every_line_of_a_request_has_its_id_and_no_later_one(client: FlaskClient, caplog: pytest.LogCaptureFixture):
    with client.get("/api/events", headers={**MINE, **basic(secret="wrong")}):
        logging.getLogger("of.a.library").warning("While it is answered.")
    logging.getLogger("invoice").warning("Afterwards.")

    lines = {record.getMessage()[:9]: record.request_id for record in caplog.records}
    assert lines == {"Refused: ": "order-1.a_B", "While it ": "order-1.a_B", "Afterward": "-"}


def test_a_request_that_fails_is_logged_with_its_id(app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture):
    app.add_url_rule("/boom", "boom", lambda: 1 // 0)

    client.get("/boom", headers=MINE)

    (record,) = caplog.records
    assert (record.exc_info is not None, record.request_id) == (True, "order-1.a_B")


def test_the_servers_own_line_has_the_id_too(app: Flask, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "werkzeug")
    server = make_server("127.0.0.1", 0, app)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    answer = requests.get(f"http://127.0.0.1:{server.port}/s//{'A' * 22}", headers=MINE, timeout=10)

    server.shutdown()
    server.server_close()
    assert answer.headers["X-Request-Id"] == "order-1.a_B"
    lines = [r for r in caplog.records if r.name == "werkzeug" and "GET" in r.getMessage()]
    assert {r.request_id for r in lines} == {"order-1.a_B"}
    assert "AAA" not in caplog.text


def test_threads_keep_their_requests_apart(app: Flask):
    seen: dict[str, str | None] = {}
    both = threading.Barrier(2)

    def view() -> str:
        both.wait(10)
        name = str(request_ids.current())
        both.wait(10)
        return name

    app.add_url_rule("/who", "who", view)

    def ask(name: str) -> None:
        seen[name] = app.test_client().get("/who", headers={"X-Request-Id": name}).text

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert seen == {"one": "one", "two": "two"}


def test_lines_go_to_standard_error_where_nobody_has_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    for _ in range(2):
        logs.prepare()

    with request_ids.during("order-1"):
        logging.getLogger("invoice.x").warning("It is put off.")

    assert capsys.readouterr().err.endswith("Z WARNING invoice.x [order-1] It is put off.\n")
    assert len(root.handlers) == 1


def test_a_failed_statement_shows_nothing_of_what_stands_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], app: Flask
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.prepare()

    try:
        with transaction():
            db.session.add(Partner(id=7, name="+4799887766", market="NO", sms_originator=None, created_at=utc_now()))
            db.session.flush()
    except IntegrityError:
        logging.getLogger("invoice.x").exception("It failed.")

    said = capsys.readouterr().err
    assert "IntegrityError" in said
    assert "sms_originator" in said
    assert "99887766" not in said


def test_who_has_said_how_logs_are_written_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    own = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])

    logs.prepare()

    assert logging.getLogger().handlers == [own]


# In the events


def test_an_event_names_the_request_that_caused_it(client: FlaskClient, jobs: Jobs):
    client.post(SUBSCRIBE, json=GOOD, headers=basic() | MINE)
    settle(jobs)

    assert told(client)["subscription.requested"] == "order-1.a_B"


def test_what_a_worker_does_for_a_request_is_named_after_it(
    client: FlaskClient, jobs: Jobs, sms: FakeSms, time: StandingClock
):
    sms.faults.before("send", ProviderUnavailable("busy"))
    client.post(SUBSCRIBE, json={**GOOD, "sendSMS": True}, headers=basic() | MINE)
    request_ids.enter(None)
    settle(jobs)
    assert sms.sent == []

    time.move(hours=1)
    settle(jobs)

    assert len(sms.sent) == 1
    assert told(client)["message.accepted"] == "order-1.a_B"


def test_what_nobody_asked_for_names_no_request(
    client: FlaskClient, services: Services, jobs: Jobs, payments: FakePayments, time: StandingClock
):
    number = client.post(SUBSCRIBE, json=GOOD, headers=basic() | MINE).json["subscriptionId"]
    request_ids.enter(None)
    accept(services, payments, number)
    settle(jobs)

    assert told(client) == {
        "subscription.requested": "order-1.a_B",
        "subscription.activated": None,
        "charge.charged": None,
    }


def test_the_engine_works_for_nobody_though_its_thread_has_answered_a_request(jobs: Jobs):
    request_ids.enter("somebody's")

    jobs.run_pending()

    assert request_ids.current() is None


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "by itself"])
def test_callbacks_and_pushed_events_carry_it(client: FlaskClient, services: Services, jobs: Jobs, asked: bool):
    with receiving() as receiver:
        token = _registered(client, services, receiver)
        client.post(f"/s/{token}", headers=MINE if asked else {"X-Request-Id": "not an id"})
        settle(jobs)

        callback, pushed = _both(receiver)
    name = pushed["requestId"]
    assert callback == name
    assert (name == "order-1.a_B") is asked


def test_without_a_request_there_is_no_header(
    client: FlaskClient, services: Services, jobs: Jobs, payments: FakePayments
):
    with receiving() as receiver:
        _registered(client, services, receiver)
        request_ids.enter(None)
        accept(services, payments, 1)
        settle(jobs)

        callback, pushed = _both(receiver)
    assert (callback, pushed["requestId"]) == (None, None)


def _registered(client: FlaskClient, services: Services, receiver: Receiver) -> str:
    """Have everything told to the receiver; return the link of a subscription."""
    services.endpoints.put(10295, f"{receiver.url}/events")
    callback = f"{receiver.url}/status"
    requested = services.subscriptions.request(partners.get(10295), a_wish(status_callback_url=callback))
    return requested.url.rsplit("/", 1)[1]


def _both(receiver: Receiver) -> tuple[str | None, dict[str, str | None]]:
    """Return the header of the newest callback, and the newest pushed event, whose header says the same."""
    called = [got for got in receiver.got if got.method == "GET"][-1]
    pushed = next(got for got in receiver.got if got.method == "POST" and got.event == called.event)
    body = json.loads(pushed.body)
    assert pushed.headers.get("x-request-id") == body["requestId"]
    return called.headers.get("x-request-id"), body
