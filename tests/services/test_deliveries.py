"""Telling partners: signed, in order, at least once, for thirty days, and nobody waits for anybody else."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from standardwebhooks import Webhook, WebhookVerificationError

from invoice import clock
from invoice.lifecycle import Channel
from invoice.schedule import delivery_wait
from invoice.services import deliveries as module
from invoice.services import outbox, partners
from invoice.services.deliveries import Deliveries
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading, transaction
from invoice.store.models import Delivery, EventEndpoint, Lane
from invoice.store.queries import lock_subscription, timeline
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, settle
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver, drip, on_this_machine, receiving, write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with on_this_machine(database_url, payments, sms) as app:
        yield app


@pytest.fixture
def secret(services: Services, receiver: Receiver) -> str:
    """A partner whose events go to the receiver."""
    return register(services, receiver)


def register(services: Services, receiver: Receiver, number: int = 10295) -> str:
    a_partner(number)
    made = services.endpoints.put(number, f"{receiver.url}/events?key=in-the-address")
    assert made is not None
    return made.secret


def a_subscription(services: Services, number: int = 10295) -> int:
    partner = next(p for p in partners.list_all() if p.id == number)
    return services.subscriptions.request(partner, a_wish()).subscription_id


def tell(subscription_id: int, *types: str) -> None:
    """Have something happen to a subscription."""
    with transaction():
        subscription = lock_subscription(subscription_id)
        for event_type in types or ("consent.declined",):
            outbox.record(subscription, event_type, attempt=1)


def push(services: Services) -> None:
    """Send what is due at this moment, and nothing else."""
    while services.deliveries.deliver() or services.deliveries.linger():
        pass


def rows(subscription_id: int) -> list[Delivery]:
    with reading():
        wanted = select(Delivery).where(Delivery.subscription_id == subscription_id).order_by(Delivery.seq)
        found = list(db.session.scalars(wanted))
        db.session.expunge_all()
        return found


def statuses(subscription_id: int) -> list[str]:
    return [row.status.value for row in rows(subscription_id)]


def a_lane(number: int = 10295, channel: Channel = Channel.EVENTS) -> Lane:
    with reading():
        wanted = select(Lane).where(Lane.partner_id == number, Lane.channel == channel)
        found = db.session.scalars(wanted).one()
        db.session.expunge(found)
        return found


def test_an_event_arrives_signed_and_says_what_happened(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    time.move_to(datetime.now(UTC))
    number = a_subscription(services)

    settle(jobs)

    (got,) = receiver.got
    assert (got.method, got.path) == ("POST", "/events?key=in-the-address")
    assert got.headers["content-type"] == "application/json"
    assert Webhook(secret).verify(got.body, dict(got.headers)) == {
        "id": got.event,
        "type": "subscription.requested",
        "occurredAt": outbox.instant(time.at),
        "sequence": 1,
        "subscriptionId": number,
        "requestId": None,
        "data": {"sendSMS": False},
    }
    assert statuses(number) == ["DELIVERED"]


def test_a_changed_body_does_not_verify(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    time.move_to(datetime.now(UTC))
    a_subscription(services)
    settle(jobs)
    (got,) = receiver.got

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace(b"requested", b"cancelled"), dict(got.headers))


def test_money_is_in_kroner_and_names_are_the_contracts(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, secret: str
):
    an_active_subscription(services, payments, amount=9950, order_number="order-1")
    settle(jobs)

    told = {json.loads(got.body)["type"]: json.loads(got.body)["data"] for got in receiver.got}
    assert told["subscription.requested"] == {"orderNumber": "order-1", "sendSMS": False}
    charged = told["charge.charged"]
    assert (charged["amount"], charged["currency"], charged["period"]) == ("99.50", "NOK", 0)
    assert charged["referenceId"].endswith("-p0000-a0")
    assert len(charged["transactionId"]) == 36
    assert b"+47" not in b"".join(got.body for got in receiver.got)
    assert b"Avisen" not in b"".join(got.body for got in receiver.got)


def test_while_a_secret_is_rotated_both_sign_and_after_a_day_only_the_new_one(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    time.move_to(datetime.now(UTC))
    rotated = services.endpoints.rotate(10295)
    number = a_subscription(services)
    settle(jobs)
    (first,) = receiver.got

    time.move(hours=24)
    tell(number)
    settle(jobs)

    assert rotated.secret != secret
    for each in (secret, rotated.secret):
        Webhook(each).verify(first.body, dict(first.headers))
    assert first.headers["webhook-signature"].count("v1,") == 2
    second = receiver.got[1].headers["webhook-signature"]
    at = datetime.fromtimestamp(int(receiver.got[1].headers["webhook-timestamp"]), UTC)
    assert second == Webhook(rotated.secret).sign(receiver.got[1].event, at, receiver.got[1].body.decode())


def test_a_second_rotation_ends_the_first_secret_at_once(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    time.move_to(datetime.now(UTC))
    services.endpoints.rotate(10295)
    services.endpoints.rotate(10295)
    a_subscription(services)
    settle(jobs)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(receiver.got[0].body, dict(receiver.got[0].headers))


def test_secrets_rest_encrypted_and_have_32_bytes(services: Services, secret: str):
    services.endpoints.rotate(10295)

    with reading():
        kept = db.session.execute(text("SELECT secret, previous_secret FROM event_endpoints")).one()
    assert secret.startswith("whsec_")
    assert len(secret) == len("whsec_") + 44
    assert not any("whsec" in str(value) or secret[6:] in str(value) for value in kept)


# Order


def test_a_subscriptions_events_come_in_order_whatever_fails(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    number = a_subscription(services)
    tell(number, *["consent.declined", "consent.expired"] * 3)
    receiver.answers.extend([500, 204, 503, 404, 204, 301, 204])

    for _ in range(12):
        settle(jobs)
        time.move(minutes=10)

    sequences = [json.loads(got.body)["sequence"] for got in receiver.got]
    assert sequences == [1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7]
    assert statuses(number) == ["DELIVERED"] * 7


def test_only_the_first_of_a_row_is_ever_ready(services: Services, receiver: Receiver, secret: str):
    number = a_subscription(services)
    tell(number)
    tell(number)

    assert statuses(number) == ["READY", "WAITING", "WAITING"]
    with pytest.raises(IntegrityError), transaction():
        db.session.execute(text("UPDATE deliveries SET status = 'INFLIGHT' WHERE seq = 2"))


def test_one_that_fails_holds_back_its_own_subscription_only(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str
):
    stuck, free = a_subscription(services), a_subscription(services)
    tell(stuck)
    tell(free)
    receiver.always = 204
    refused = [timeline_ids(stuck)[0]]
    receiver.always = lambda handler: write(
        b"HTTP/1.1 500 No\r\n\r\n" if handler.headers["webhook-id"] in refused else b"HTTP/1.1 204 Yes\r\n\r\n"
    )(handler)

    settle(jobs)

    assert statuses(stuck) == ["READY", "WAITING"]
    assert statuses(free) == ["DELIVERED", "DELIVERED"]


def timeline_ids(subscription_id: int) -> list[str]:
    with reading():
        return [event.public_id for event in timeline(subscription_id)]


# At least once


def test_what_was_sent_and_not_written_down_is_sent_again_with_the_same_id_and_bytes(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    number = a_subscription(services)
    killed = Deliveries(services.deliveries._pipe)
    killed.deliver = killed._hand_over  # type: ignore[method-assign]
    killed.deliver()
    killed.linger()

    settle(jobs)
    before_its_lease_is_over = len(receiver.got)
    time.move(minutes=4)
    settle(jobs)

    assert before_its_lease_is_over == 1
    first, second = receiver.got
    assert (first.event, first.body) == (second.event, second.body)
    assert statuses(number) == ["DELIVERED"]


def test_a_late_answer_does_not_undo_what_another_worker_wrote(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    number = a_subscription(services)
    receiver.answers.append(500)
    slow = Deliveries(services.deliveries._pipe)
    slow._hand_over()
    slow.linger()
    time.move(minutes=4)
    settle(jobs)

    slow._settle_answered()

    assert statuses(number) == ["DELIVERED"]
    assert a_lane().failures == 0


_WORKER = """
import sys
from datetime import datetime
from app import create_app
from invoice import clock
from invoice.config import Settings
from invoice.services.jobs import Jobs
from invoice.web.services import SERVICES
from tests.conftest import environ_for
from tests.fakes import FakePayments, FakeSms
clock.follow(lambda: datetime.fromisoformat(sys.argv[2]))
settings = Settings.from_environ(environ_for(sys.argv[1]) | {"INVOICE_PUBLIC_URL": "http://localhost:8000"})
app = create_app(settings, payments=FakePayments(), sms=FakeSms())
with app.app_context():
    jobs = Jobs(app.extensions[SERVICES])
    print("ready", flush=True)
    while True:
        jobs.run_pending()
"""


def test_kill_9_between_send_and_settle_loses_nothing(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock, database_url: str
):
    number = a_subscription(services)
    tell(number)
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, database_url, time.at.isoformat()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    has_come = threading.Event()

    def kill(handler: object) -> None:
        os.kill(worker.pid, signal.SIGKILL)
        has_come.set()

    receiver.answers.append(kill)
    assert has_come.wait(60)
    worker.communicate()
    left_behind = statuses(number)
    time.move(minutes=4)
    settle(jobs)

    assert left_behind == ["INFLIGHT", "WAITING"]
    assert statuses(number) == ["DELIVERED", "DELIVERED"]
    first, second, third = receiver.got
    assert (first.event, first.body) == (second.event, second.body)
    assert third.event != first.event


def test_two_workers_send_each_event_once(
    app: Flask, services: Services, receiver: Receiver, secret: str, time: StandingClock
):
    numbers = [a_subscription(services) for _ in range(12)]
    for number in numbers:
        tell(number, "consent.declined", "consent.expired")
    workers = [Deliveries(services.deliveries._pipe) for _ in range(3)]
    start = threading.Barrier(len(workers))

    def work(worker: Deliveries) -> None:
        with app.app_context():
            start.wait(30)
            while worker.deliver() or worker.linger():
                pass

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    Jobs(services).run_pending()

    assert Counter(receiver.events()) == {event: 1 for number in numbers for event in timeline_ids(number)}
    assert receiver.most_at_once <= 4


# Failures


def test_tries_follow_the_schedule_and_after_thirty_days_it_is_parked_and_the_next_may_go(
    services: Services, receiver: Receiver, secret: str, time: StandingClock, caplog: pytest.LogCaptureFixture
):
    number = a_subscription(services)
    tell(number)
    began = time.at
    receiver.always = 500
    tried: list[timedelta] = []

    push(services)
    while statuses(number)[0] != "PARKED":
        tried.append(time.at - began)
        time.move_to(max(rows(number)[0].next_at, a_lane().paused_until or began))
        push(services)
    before_parked = len(receiver.got)
    receiver.always = 204
    time.move(minutes=6)
    push(services)

    hours = [0, 2, 5, 10, 14, 20, 24]
    wanted = [0, 5, 60, 300, 1800] + [3600 * h for h in hours[1:]]
    gaps = [(b - a).total_seconds() for a, b in zip(tried, tried[1:], strict=False)]
    steps = [*wanted[1:], *[86400] * (len(gaps) - len(wanted) + 1)]
    assert all(step <= gap <= step * 1.1 for gap, step in zip(gaps, steps, strict=True))
    assert timedelta(days=28) < tried[-1] <= timedelta(days=30)
    assert before_parked == len(tried) + 1
    assert statuses(number) == ["PARKED", "DELIVERED"]
    parked = [r for r in caplog.records if r.levelno == logging.ERROR and "is parked" in r.getMessage()]
    assert len(parked) == 1
    assert [r.getMessage().count("not taken anything") for r in caplog.records].count(1) == 2


def test_waits_grow_as_they_are_documented():
    steps = [delivery_wait(tries).total_seconds() for tries in range(1, 14)]

    wanted = [5, 60, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, 86400, 86400, 86400]
    assert all(low <= step <= low * 1.1 for step, low in zip(steps, wanted, strict=True))


def test_what_waited_behind_another_for_a_month_still_gets_five_tries(
    services: Services, receiver: Receiver, secret: str, time: StandingClock
):
    number = a_subscription(services)
    tell(number)
    receiver.always = 500

    go_on_failing(services, number, time)
    with transaction():
        db.session.execute(update(Delivery).values(owed_since=time.at - timedelta(days=40)))
    before = len(receiver.got)
    go_on_failing(services, number, time)

    assert statuses(number) == ["PARKED", "PARKED"]
    assert len(receiver.got) - before == 5


def go_on_failing(services: Services, number: int, time: StandingClock) -> None:
    """Push until one more is given up."""
    given_up = statuses(number).count("PARKED")
    while statuses(number).count("PARKED") == given_up:
        push(services)
        open_ = [row.next_at for row in rows(number) if row.status == "READY"]
        time.move_to(max([*open_, a_lane().paused_until or time.at]))


def test_time_in_which_nobody_tried_is_not_counted(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    number = a_subscription(services)
    receiver.always = 500
    for _ in range(6):
        settle(jobs)
        time.move_to(rows(number)[0].next_at)
    tried = rows(number)[0].tries

    time.move(days=40)  # we are away, or the books are set back by so much
    settle(jobs)

    assert (statuses(number), rows(number)[0].tries) == (["READY"], tried + 1)
    assert rows(number)[0].owed_since < time.at


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 400, 401, 404, 410, 429, 500, 503])
def test_whatever_is_not_2xx_is_a_failure(services: Services, jobs: Jobs, receiver: Receiver, secret: str, status: int):
    number = a_subscription(services)
    receiver.answers.append(status)

    settle(jobs)

    assert statuses(number) == ["READY"]
    assert rows(number)[0].last_fault == f"answered {status}"


@pytest.mark.parametrize("answer", [200, 201, 202, 204, 299])
def test_every_2xx_is_success_whatever_stands_in_it(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, answer: int
):
    number = a_subscription(services)
    receiver.answers.append(write(b"HTTP/1.1 %d Well\r\nContent-Length: 9\r\n\r\nnot JSON!" % answer))

    settle(jobs)

    assert statuses(number) == ["DELIVERED"]


def test_a_redirect_is_not_followed(services: Services, jobs: Jobs, receiver: Receiver, secret: str):
    with receiving() as elsewhere:
        a_subscription(services)
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}/stolen\r\nContent-Length: 0\r\n\r\n"
        receiver.answers.append(write(moved.encode()))

        settle(jobs)

        assert len(receiver.got) == 1
        assert elsewhere.got == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 Yes\r\n\r\n", b"HTTP/1.1 100 Go on\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"],
)
def test_what_is_no_answer_is_a_failure(services: Services, jobs: Jobs, receiver: Receiver, secret: str, answer: bytes):
    number = a_subscription(services)
    receiver.answers.append(write(answer))

    settle(jobs)

    assert statuses(number) == ["READY"]
    assert rows(number)[0].last_fault == "broke off without an answer"


def test_of_a_long_answer_no_more_than_64_kib_is_read(services: Services, jobs: Jobs, receiver: Receiver, secret: str):
    number = a_subscription(services)
    sent: list[int] = []

    def flood(handler: object) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")  # type: ignore[attr-defined]
        for _ in range(4000):
            sent.append(handler.wfile.write(b"x" * 65536))  # type: ignore[attr-defined]

    receiver.answers.append(flood)

    settle(jobs)

    assert statuses(number) == ["DELIVERED"]
    assert sum(sent) < 64 * 1024 * 1024  # what lay in the buffers of both sides when we hung up


def test_nobody_there_is_a_failure(services: Services, jobs: Jobs, receiver: Receiver, secret: str):
    number = a_subscription(services)
    receiver.close()

    settle(jobs)

    assert rows(number)[0].last_fault == "cannot be reached"


def test_where_the_name_leads_is_checked_again_at_every_call(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str
):
    number = a_subscription(services)
    with transaction():
        # As if the partner had moved its name to an inner address after it was registered.
        db.session.get_one(EventEndpoint, 10295).url = "https://10.0.0.1/"

    settle(jobs)

    assert rows(number)[0].last_fault == "not called: the address must name its host, not give its number."


# Nobody waits for anybody else


@pytest.fixture
def impatient(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Services]:
    """The use cases, with calls that end after 0.6 seconds."""
    with on_this_machine(database_url, payments, sms, total_s=0.6) as app:
        yield app.extensions["invoice.services"]


def test_an_answer_whose_head_drips_is_cut_at_the_deadline(impatient: Services, receiver: Receiver):
    register(impatient, receiver)
    number = a_subscription(impatient)
    head = b"HTTP/1.1 200 OK\r\n"
    receiver.answers.append(lambda handler: (write(head)(handler), drip(b"X-Slow: yes\r\n" * 100)(handler)))  # type: ignore[arg-type, return-value]
    began = clock.stopwatch()

    settle(Jobs(impatient))

    assert clock.stopwatch() - began < 5
    assert rows(number)[0].last_fault == "no answer in time"


def test_an_answer_whose_body_drips_was_an_answer(impatient: Services, receiver: Receiver):
    register(impatient, receiver)
    number = a_subscription(impatient)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    receiver.answers.append(lambda handler: (write(head)(handler), drip(b"x" * 5000)(handler)))  # type: ignore[arg-type, return-value]
    began = clock.stopwatch()

    settle(Jobs(impatient))

    assert clock.stopwatch() - began < 5
    assert statuses(number) == ["DELIVERED"]


def test_a_partner_that_hangs_holds_up_neither_another_nor_the_engine(services: Services, receiver: Receiver):
    register(services, receiver)
    receiver.always = receiver.hang
    with receiving() as well:
        register(services, well, 20000)
        stuck = [a_subscription(services) for _ in range(9)]
        free = [a_subscription(services, 20000) for _ in range(9)]
        jobs = Jobs(services)
        while len(well.got) < len(free):
            jobs.run_pending()

        # Nobody has waited for the one that hangs: its first calls are still under way.
        with reading():
            tried = db.session.scalars(select(Delivery.tries).where(Delivery.subscription_id.in_(stuck))).all()
        assert sorted(tried)[-5:] == [0, 1, 1, 1, 1]
        assert receiver.most_at_once == 4
        # No lock of ours is held while a call is under way: others go on writing.
        tell(stuck[0])
        assert {s for number in stuck for s in statuses(number)} == {"INFLIGHT", "READY", "WAITING"}
        receiver.released.set()
        settle(jobs)


def test_a_dead_address_is_left_alone_for_a_while_and_then_asked_once(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, time: StandingClock
):
    numbers = [a_subscription(services) for _ in range(8)]
    receiver.always = 500
    settle(jobs)
    at_first = len(receiver.got)
    time.move(minutes=3)

    settle(jobs)
    after_a_pause = len(receiver.got)
    receiver.always = 204
    time.move(minutes=6)
    settle(jobs)

    assert 3 <= at_first <= 6  # three that failed, and what was under way beside them
    assert after_a_pause == at_first + 1
    assert all(statuses(number) == ["DELIVERED"] for number in numbers)
    assert (a_lane().failures, a_lane().failing_since, a_lane().paused_until) == (0, None, None)


def test_a_paused_lane_does_not_keep_the_engine_busy(services: Services, jobs: Jobs, receiver: Receiver, secret: str):
    for _ in range(8):
        a_subscription(services)
    receiver.always = 500
    settle(jobs)

    assert jobs.run_pending() == 0
    assert not services.deliveries.is_busy


def test_the_job_deliveries_stands_in_the_table(jobs: Jobs):
    assert {"deliveries", "feed"} <= {job.name for job in jobs.table}


# The address changes


def test_what_is_owed_goes_to_the_new_address_at_once(services: Services, jobs: Jobs, receiver: Receiver, secret: str):
    number = a_subscription(services)
    receiver.always = 500
    settle(jobs)
    with receiving() as newer:
        assert services.endpoints.put(10295, f"{newer.url}/new") is None

        settle(jobs)

        assert [(got.path, got.event) for got in newer.got] == [("/new", receiver.got[0].event)]
    assert statuses(number) == ["DELIVERED"]


def test_without_an_endpoint_nothing_is_owed_and_what_was_is_void(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str
):
    number = a_subscription(services)
    tell(number)

    services.endpoints.remove(10295)
    tell(number)
    settle(jobs)

    assert receiver.got == []
    assert statuses(number) == ["VOID", "VOID"]


def test_an_event_that_was_written_while_the_endpoint_went_is_void(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str
):
    number = a_subscription(services)
    with transaction():
        db.session.delete(db.session.get_one(EventEndpoint, 10295))

    settle(jobs)

    assert receiver.got == []
    assert statuses(number) == ["VOID"]


def test_no_secret_and_no_whole_address_reaches_a_log(
    services: Services, jobs: Jobs, receiver: Receiver, secret: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    a_subscription(services)
    receiver.answers.append(500)
    settle(jobs)

    assert "partner POST localhost: answered 500" in caplog.text
    said = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    for hidden in (secret, secret[6:], "in-the-address", "91234567"):
        assert hidden not in said


def test_a_letter_shows_nothing_of_what_it_holds():
    letter = module.Letter("POST", "https://example.com/key", {"Authorization": "Basic abc"}, b"body")

    assert repr(letter) == "Letter(method='POST')"
