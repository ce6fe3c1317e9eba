"""`Idempotency-Key`: a request that is sent again does nothing again, whatever became of the first."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response, g
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from invoice.errors import ProviderRefused
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services import idempotency
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading
from invoice.store.models import IdempotencyKey, Operation, Subscription
from invoice.web.auth import MARK as AUTHENTICATION
from invoice.web.idempotency import MARK, REPLAYED, _digest
from tests.conftest import Caller, StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, event_types, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.services.test_captures import a_reservation, reserved
from tests.web.bad_bodies import basic, body, everything

pytestmark = pytest.mark.usefixtures("as_in_production")

SUBSCRIBE = "/api/recurring/subscribe"


class Killed(BaseException):
    """The process is gone: nothing that comes after this runs."""


def call(
    client: FlaskClient, method: str, path: str, key: str | None = "k", *, user: str = "10295", raw: bytes = b""
) -> TestResponse:
    headers = basic(user) if key is None else {**basic(user), "Idempotency-Key": key}
    return client.open(path, method=method, data=raw, content_type="application/json", headers=headers)


def subscribe(client: FlaskClient, key: str | None = "k", **changes: Any) -> TestResponse:
    wish = {k: v for k, v in {"orderNumber": ..., **changes}.items() if v is not ...}
    raw = body(**wish) if "orderNumber" in wish else without_order(wish)
    return call(client, "POST", SUBSCRIBE, key, raw=raw)


def without_order(wish: dict[str, Any]) -> bytes:
    return json.dumps({k: v for k, v in {**json.loads(body()), **wish}.items() if k != "orderNumber"}).encode()


def how_many(model: type[Any]) -> int:
    with reading():
        return db.session.scalar(select(func.count()).select_from(model)) or 0


def kill_before_the_answer_is_kept(app: Flask) -> None:
    """Have the next request's process die when its work is committed and its answer is not."""

    def die(_: Response) -> Response:
        app.after_request_funcs[None].remove(die)
        g.pop("attempt", None)  # a dead process keeps nothing
        raise Killed

    app.after_request_funcs[None].append(die)


# The header


def test_every_request_of_a_partner_that_changes_something_takes_a_key(app: Flask):
    changing = {"POST", "PUT", "DELETE", "PATCH"}
    views = {
        rule.endpoint: app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and changing & (rule.methods or set())
    }

    theirs = {name: view for name, view in views.items() if getattr(view, AUTHENTICATION) == "partner"}
    assert len(theirs) >= 4
    assert [name for name, view in theirs.items() if not getattr(view, MARK, False)] == []


def test_a_key_of_another_shape_is_refused_and_nothing_happens(client: FlaskClient, payments: FakePayments):
    a_partner()
    before = everything()
    keys = ["", " ", "a b", "k" * 256, "\xe6", "a\tb", "a,\xa0b"]

    answers = {k: client.post(SUBSCRIBE, data=body(), headers={**basic(), "Idempotency-Key": k}) for k in keys}

    told = {k: (a.status_code, list(a.json.get("modelState", {}))) for k, a in answers.items()}
    assert told == dict.fromkeys(keys, (400, ["request.Idempotency-Key"]))
    assert everything() == before
    assert payments.calls == []


def test_two_keys_are_none(client: FlaskClient):
    a_partner()
    headers = [*basic().items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    answer = client.post(SUBSCRIBE, data=body(), content_type="application/json", headers=headers)

    assert answer.status_code == 400


@pytest.mark.parametrize("key", ["1", "k" * 255, "8e03978e-40d5-43dd-bc93-6894a57f9324", '"quoted"', "a,b;c=d~!"])
def test_a_key_may_be_anything_that_can_be_read(client: FlaskClient, key: str):
    a_partner()

    assert subscribe(client, key).status_code == 200
    assert subscribe(client, key).headers[REPLAYED] == "true"


def test_a_key_without_credentials_is_not_looked_at(client: FlaskClient):
    a_partner()

    answer = client.post(SUBSCRIBE, data=body(), headers={"Idempotency-Key": ""})

    assert answer.status_code == 401
    assert how_many(IdempotencyKey) == 0


# The same again


def test_the_same_key_and_body_get_the_same_bytes_and_nothing_happens_again(
    client: FlaskClient, payments: FakePayments, sms: FakeSms, jobs: Jobs
):
    a_partner()

    first = subscribe(client, sendSMS=True)
    second = subscribe(client, sendSMS=True)
    settle(jobs)

    assert first.status_code == second.status_code == 200
    assert second.data == first.data
    assert second.content_type == first.content_type
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert how_many(Subscription) == 1
    assert payments.calls.count("draft") == 1
    assert len(sms.sent) == 1


def test_an_answer_is_replayed_as_it_was_although_the_world_has_moved(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    first = call(client, "DELETE", f"/api/recurring/cancel/{number}")
    settle(jobs)
    time.move(hours=24)

    again = call(client, "DELETE", f"/api/recurring/cancel/{number}")
    another = call(client, "DELETE", f"/api/recurring/cancel/{number}", "another key")

    assert (first.status_code, again.status_code, another.status_code) == (200, 200, 400)
    assert again.headers[REPLAYED] == "true"
    assert event_types(number).count("subscription.cancelling") == 1


def test_a_refusal_is_replayed_too(client: FlaskClient, payments: FakePayments):
    a_partner()
    payments.faults.before("draft", ProviderRefused("The amount is too high for this sales unit"))

    first, again = subscribe(client), subscribe(client)

    assert (first.status_code, again.status_code) == (400, 400)
    assert again.data == first.data
    assert again.headers[REPLAYED] == "true"
    assert payments.calls.count("draft") == 1


def test_another_body_or_path_under_the_key_is_refused(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    number = an_active_subscription(services, payments)
    subscribe(client)
    before, calls = everything(), list(payments.calls)

    answers = [
        subscribe(client, amount=100),
        call(client, "POST", SUBSCRIBE + "?api-version=2.0", raw=without_order({})),
        call(client, "DELETE", f"/api/recurring/cancel/{number}"),
        call(client, "POST", f"/api/recurring/{number}/resend"),
    ]

    assert [a.status_code for a in answers] == [422] * 4
    assert "Idempotency-Key" in answers[0].json
    assert everything() == before
    assert payments.calls == calls


def test_the_same_key_of_another_partner_is_another_request(client: FlaskClient):
    a_partner()
    a_partner(20000)

    first = subscribe(client)
    second = call(client, "POST", SUBSCRIBE, user="20000", raw=without_order({"partnerId": 20000}))

    assert second.status_code == 200
    assert REPLAYED not in second.headers
    assert second.json["subscriptionId"] != first.json["subscriptionId"]


def test_an_order_number_and_a_new_key_are_still_one_order(client: FlaskClient, payments: FakePayments):
    a_partner()

    first = subscribe(client, "a", orderNumber="7")
    second = subscribe(client, "b", orderNumber="7")
    third = subscribe(client, "c", orderNumber="7", amount=50)

    assert second.data == first.data
    assert REPLAYED not in second.headers
    assert third.status_code == 409
    assert payments.calls.count("draft") == 1


def test_without_a_key_and_an_order_number_every_request_is_a_new_one(client: FlaskClient):
    a_partner()

    first, second = subscribe(client, None), subscribe(client, None)

    assert first.json["subscriptionId"] != second.json["subscriptionId"]
    assert how_many(IdempotencyKey) == 0


# At the same time


def together(app: Flask, tasks: list[Callable[[FlaskClient], TestResponse]]) -> list[TestResponse]:
    """Send requests at the same moment, each in a thread and with a client of its own."""
    app.test_client_class = Caller
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[FlaskClient], TestResponse]) -> TestResponse:
        start.wait(timeout=30)
        return task(app.test_client())

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.parametrize("order", [..., "7"])
def test_fifty_at_once_are_one_subscription_and_one_answer(app: Flask, payments: FakePayments, order: Any):
    a_partner()

    answers = together(app, [lambda client: subscribe(client, orderNumber=order)] * 50)

    assert Counter(a.status_code for a in answers) == {200: 50}
    assert len({a.data for a in answers}) == 1
    assert sum(REPLAYED not in a.headers for a in answers) == 1
    assert how_many(Subscription) == 1
    assert payments.calls.count("draft") == 1


class _SlowVipps:
    """Holds the answer to a draft back until it is let go."""

    def __init__(self, payments: FakePayments) -> None:
        self.asked, self.goes_on = threading.Event(), threading.Event()
        self._draft = payments.draft_agreement
        payments.draft_agreement = self._wait  # type: ignore[method-assign]

    def _wait(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        assert self.goes_on.wait(30)
        return self._draft(*args, **kwargs)


def test_the_same_key_while_the_first_still_runs_is_a_409_that_is_not_kept(app: Flask, payments: FakePayments):
    a_partner()
    vipps = _SlowVipps(payments)
    early = []

    def second(client: FlaskClient) -> TestResponse:
        assert vipps.asked.wait(30)
        early.append(subscribe(client))
        vipps.goes_on.set()
        return subscribe(client)

    first, late = together(app, [subscribe, second])

    assert early[0].status_code == 409
    assert int(early[0].headers["Retry-After"]) > 0
    assert (first.status_code, late.data) == (200, first.data)
    assert late.headers[REPLAYED] == "true"


def test_the_same_order_while_vipps_has_not_answered_is_no_link_that_may_be_dead(app: Flask, payments: FakePayments):
    a_partner()
    vipps = _SlowVipps(payments)
    payments.faults.before("draft", ProviderRefused("no"))
    early = []

    def second(client: FlaskClient) -> TestResponse:
        assert vipps.asked.wait(30)
        early.append(subscribe(client, None, orderNumber="7"))
        threading.Timer(0.5, vipps.goes_on.set).start()
        return subscribe(client, None, orderNumber="7")

    first, late = together(app, [lambda client: subscribe(client, None, orderNumber="7"), second])

    assert early[0].status_code == 409
    assert int(early[0].headers["Retry-After"]) > 0
    assert [(a.status_code, a.json) for a in (first, late)] == [(400, "no")] * 2
    assert how_many(Subscription) == 1


# When the first has died


@pytest.mark.parametrize("order", [..., "7"])
def test_a_subscription_whose_answer_was_never_kept_is_found_and_not_made_again(
    app: Flask, client: FlaskClient, payments: FakePayments, sms: FakeSms, jobs: Jobs, time: StandingClock, order: Any
):
    a_partner()
    kill_before_the_answer_is_kept(app)
    with pytest.raises(Killed):
        subscribe(client, orderNumber=order, sendSMS=True)
    time.move(seconds=91)

    taken_over = subscribe(client, orderNumber=order, sendSMS=True)
    replayed = subscribe(client, orderNumber=order, sendSMS=True)
    settle(jobs)

    assert taken_over.status_code == 200
    assert taken_over.json["subscriptionId"] == 1
    assert taken_over.json["smsNotificationParts"] == 1
    assert REPLAYED not in taken_over.headers
    assert (replayed.data, replayed.headers[REPLAYED]) == (taken_over.data, "true")
    assert how_many(Subscription) == 1
    assert payments.calls.count("draft") == 1
    assert len(sms.sent) == 1


@pytest.mark.parametrize("order", [..., "7"])
def test_a_request_that_died_while_vipps_was_asked_is_completed(
    client: FlaskClient, payments: FakePayments, jobs: Jobs, time: StandingClock, order: Any
):
    a_partner()
    payments.faults.after("draft", Killed())  # type: ignore[arg-type]
    with pytest.raises(Killed):
        subscribe(client, orderNumber=order)
    g.pop("attempt", None)
    time.move(seconds=91)

    again = subscribe(client, orderNumber=order)
    time.move(minutes=5)
    settle(jobs)

    assert (again.status_code, again.json["subscriptionId"]) == (200, 1)
    assert how_many(Subscription) == 1
    assert payments.calls.count("draft") == 1
    assert subscription(1).status == SubscriptionStatus.PENDING


def test_a_refusal_whose_answer_was_never_kept_is_told_again(
    app: Flask, client: FlaskClient, payments: FakePayments, time: StandingClock
):
    a_partner()
    payments.faults.before("draft", ProviderRefused("no"))
    kill_before_the_answer_is_kept(app)
    with pytest.raises(Killed):
        subscribe(client, orderNumber="7")
    time.move(seconds=91)

    again = subscribe(client, orderNumber="7")

    assert (again.status_code, again.json) == (400, "no")
    assert how_many(Subscription) == 1
    assert payments.calls.count("draft") == 1


def test_a_cancel_whose_answer_was_never_kept_is_a_success(
    app: Flask, client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    a_partner()
    first = an_active_subscription(services, payments, member_id="member")
    kill_before_the_answer_is_kept(app)
    with pytest.raises(Killed):
        call(client, "DELETE", "/api/recurring/cancel/member")
    second = an_active_subscription(services, payments, member_id="member")
    time.move(seconds=91)

    again = call(client, "DELETE", "/api/recurring/cancel/member")

    assert (again.status_code, again.data) == (200, b"")
    assert subscription(first).status == SubscriptionStatus.CANCELLING
    assert subscription(second).status == SubscriptionStatus.ACTIVE


def test_a_capture_whose_answer_was_never_kept_is_not_made_again(
    app: Flask, client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    path = f"/api/transactions/10295/{reserved(number).guid}/capture?amount=30"
    kill_before_the_answer_is_kept(app)
    with pytest.raises(Killed):
        call(client, "PUT", path)
    settle(jobs)
    time.move(seconds=91)

    again = call(client, "PUT", path)
    settle(jobs)

    assert (again.status_code, again.json["capturedAmount"]) == (200, "30.00")
    assert payments.charge(reserved(number).name).captured == 3000
    assert reserved(number).status == ChargeStatus.RESERVED


def test_a_resend_whose_answer_was_never_kept_is_one_text(
    app: Flask, client: FlaskClient, services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    kill_before_the_answer_is_kept(app)
    with pytest.raises(Killed):
        call(client, "POST", f"/api/recurring/{number}/resend")
    settle(jobs)
    time.move(seconds=91)

    again = call(client, "POST", f"/api/recurring/{number}/resend")
    settle(jobs)

    assert (again.status_code, again.json["smsNotificationParts"]) == (200, 1)
    assert len(sms.sent) == 1


def test_a_request_that_died_before_it_made_anything_is_made_once(
    app: Flask, client: FlaskClient, payments: FakePayments, time: StandingClock
):
    a_partner()

    raw = without_order({})
    with app.test_request_context(SUBSCRIBE, method="POST", data=raw, base_url="https://pay.example.com"):
        idempotency.begin(10295, "k", _digest())
    time.move(seconds=91)

    again = call(client, "POST", SUBSCRIBE, raw=raw)

    assert again.status_code == 200
    assert REPLAYED not in again.headers
    assert how_many(Subscription) == 1


# What is no outcome


def test_an_error_of_ours_is_not_kept(client: FlaskClient, payments: FakePayments, time: StandingClock):
    a_partner()
    payments.faults.before("draft", RuntimeError("a mistake of ours"))

    first = subscribe(client)
    time.move(seconds=31)
    second = subscribe(client)
    third = subscribe(client)

    assert (first.status_code, second.status_code) == (500, 200)
    assert REPLAYED not in second.headers
    assert third.headers[REPLAYED] == "true"
    assert how_many(Subscription) == 1
    with reading():
        assert db.session.scalar(select(func.count()).where(Operation.kind == "DRAFT")) == 1
