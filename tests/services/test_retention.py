"""Nothing is kept longer than it may be or forgotten while it is needed, and money works all the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dateutil.relativedelta import relativedelta
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import (
    Boolean,
    Date,
    DateTime,
    Enum,
    Integer,
    event,
    select,
    update,
)
from sqlalchemy.types import TypeDecorator

from app import equip
from invoice.cli.processes import SETTINGS
from invoice.errors import Conflict, ProviderUnavailable
from invoice.lifecycle import ChargeStatus, DeliveryStatus, OperationStatus, SubscriptionStatus
from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from invoice.services import feed, partners, privacy, views
from invoice.services.jobs import Jobs, Services
from invoice.services.privacy import KEPT, RULES
from invoice.store.db import Base, UTCDateTime, db, pseudonyms, reading, transaction
from invoice.store.models import (
    Agreement,
    Charge,
    Delivery,
    Event,
    IdempotencyKey,
    InboundEvent,
    Message,
    Operation,
    Refund,
    Subscription,
)
from tests.conftest import NOON, StandingClock
from tests.factories import a_wish, agreements, charges, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver
from tests.services.test_doubt import assert_the_books_hold, job_of
from tests.services.traces import KARI, OLA, PARTNER, Life, begin, count, end, traces

pytestmark = pytest.mark.usefixtures("housekeeping")

MONTHS_13 = relativedelta(months=13)
DAYS_90 = timedelta(days=90)
EARLY = timedelta(days=2)


@pytest.fixture
def app(app: Flask, payments: FakePayments, sms: FakeSms) -> Flask:
    """The application, whose partners may be on this machine."""
    pipe = PartnerPipe(Guard(allows_this_machine=True))
    equip(app, app.extensions[SETTINGS], payments=payments, sms=sms, partners=pipe)
    return app


@pytest.fixture
def over(services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver) -> Life:
    """A life that began at noon and is over a moment later."""
    life = begin(services, payments, jobs, receiver)
    end(services, jobs, life)
    return life


def overdue() -> dict[str, int]:
    with reading():
        return privacy.overdue()


def forget(jobs: Jobs) -> int:
    """Run what forgets; return how much the daily job has forgotten."""
    job_of(jobs, "idempotency").run_once()
    return job_of(jobs, "retention").run_once()


# Every column has a class


def _holds_words(column: Any) -> bool:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return not isinstance(kind, Boolean | Date | DateTime | Enum | Integer) and not isinstance(column.type, UTCDateTime)


def test_every_column_that_can_hold_words_has_one_class():
    columns = [f"{t.name}.{c.name}" for t in Base.metadata.sorted_tables for c in t.columns if _holds_words(c)]
    ruled = [f"{rule.began.class_.__tablename__}.{name}" for rule in RULES.values() for name in rule.becomes]
    kept = " ".join(KEPT.values()).split()

    assert sorted(ruled + kept) == sorted(columns)


# Nothing is left


def test_job_retention_leaves_no_trace_of_a_person_after_thirteen_months(jobs: Jobs, over: Life, time: StandingClock):
    assert traces(*over.person, *over.secrets).keys() >= {
        "subscriptions.msisdn",
        "messages.recipient",
        "messages.body",
        "operations.request",
        "deliveries.url",
        "idempotency_keys.body",
    }

    time.move_to(NOON + MONTHS_13)
    settle(jobs)

    assert traces(*over.person, *over.secrets) == {}
    assert subscription(over.id).msisdn == pseudonyms(KARI)[0]
    assert overdue() == {}


def test_what_was_asked_for_cannot_be_told_from_its_digest(jobs: Jobs, over: Life, time: StandingClock):
    assert subscription(over.id).request_digest != b""

    time.move_to(NOON + MONTHS_13)
    forget(jobs)

    assert subscription(over.id).request_digest == b""


def test_only_drafts_and_texts_hold_a_number(over: Life):
    with reading():
        held = {o.kind for o in db.session.scalars(select(Operation)) if any(p in o.request for p in over.person)}
        kinds = set(db.session.scalars(select(Operation.kind)))

    assert held == {"DRAFT", "SEND"}
    assert "STOP" in kinds


# Each class has its time


def _is_in(model: type[Base], name: str, needle: str) -> bool:
    with reading():
        return any(needle in str(value) for value in db.session.scalars(select(getattr(model, name))))


# class -> its limit, and each of its columns with what of a life stands in it
CLASSES: dict[str, tuple[Any, Callable[[Life], dict[Any, str]]]] = {
    "person": (
        MONTHS_13,
        lambda life: {
            (Subscription, "msisdn"): life.number,
            (Subscription, "member_id"): "member-kari",
            (Subscription, "status_callback_url"): "cb?m=",
            (Subscription, "confirm_callback_url"): "cb?m=",
            (Subscription, "sms_callback_url"): "cb?m=",
        },
    ),
    "link": (timedelta(days=14 + 90), lambda life: {(Subscription, "link_token"): life.secrets[0]}),
    "manage link": (
        DAYS_90,
        lambda life: {
            (Subscription, "manage_token"): life.secrets[1],
            (Subscription, "agreement_url"): "www.example.com",
        },
    ),
    "return link": (
        DAYS_90,
        lambda life: {(Agreement, "return_id"): life.secrets[2], (Agreement, "confirmation_url"): life.secrets[3]},
    ),
    "text": (
        DAYS_90,
        lambda life: {(Message, "body"): life.secrets[0], (Message, "recipient"): life.number},
    ),
    "request": (DAYS_90, lambda life: {(Operation, "request"): life.number}),
    "callback": (DAYS_90, lambda life: {(Delivery, "url"): life.person[0]}),
    "webhook": (DAYS_90, lambda _: {(InboundEvent, "body"): "agr_1"}),
}


def test_each_class_has_its_test():
    assert [*CLASSES, "books"] == list(RULES)


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_kept_until_its_time_and_counted_when_it_is_past(
    jobs: Jobs, over: Life, time: StandingClock, name: str
):
    limit, columns = CLASSES[name]
    held = columns(over)
    time.move_to(NOON + limit - EARLY)
    forget(jobs)
    assert [place for place, needle in held.items() if not _is_in(*place, needle)] == []

    time.move_to(NOON + limit)
    assert name not in overdue()
    time.move(seconds=1)
    assert overdue()[name] >= 1

    forget(jobs)
    assert [place for place, needle in held.items() if _is_in(*place, needle)] == []
    assert name not in overdue()


def test_a_run_every_other_day_leaves_nothing_past_its_limit(jobs: Jobs, over: Life, time: StandingClock):
    found = []
    time.move(days=84)
    forget(jobs)

    for day in [*range(85, 110), *range(390, 400)]:
        time.move_to(NOON + timedelta(days=day, seconds=1))
        found.append(overdue())
        if day % 2:
            forget(jobs)

    assert found == [{}] * len(found)
    assert traces(*over.person, *over.secrets) == {}


def test_stored_answers_are_counted_when_their_own_job_has_not_run(jobs: Jobs, over: Life, time: StandingClock):
    time.move(days=31)
    assert "answer" not in overdue()

    time.move(seconds=1)
    assert overdue()["answer"] == 1

    job_of(jobs, "idempotency").run_once()
    assert "answer" not in overdue()
    assert count(IdempotencyKey) == 0


def test_a_living_subscription_keeps_what_it_needs(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, time: StandingClock
):
    life = begin(services, payments, jobs, receiver)

    time.move(days=800)
    forget(jobs)

    found = subscription(life.id)
    assert (found.msisdn, found.member_id, found.manage_token) == (KARI, "member-kari", life.secrets[1])
    assert found.status_callback_url is not None
    assert found.link_token != life.secrets[0]
    assert views.managed(found.manage_token).state == "active"
    assert overdue() == {}


def test_an_offer_that_can_still_be_accepted_keeps_its_text_and_its_links(
    services: Services, payments: FakePayments, jobs: Jobs, over: Life, time: StandingClock
):
    wish = a_wish(msisdn=OLA, send_sms=True)
    number = services.subscriptions.request(partners.get(PARTNER), wish).subscription_id
    job_of(jobs, "operations").run_once()
    link = subscription(number).link_token
    with transaction():
        db.session.get_one(Subscription, number).link_expires_at = time.at + timedelta(days=90)

    time.move(days=89, hours=23)
    forget(jobs)

    assert views.offer(link).closed == ""
    assert KARI not in traces(KARI, OLA)
    assert traces(OLA[3:])["messages.recipient"] == OLA[3:]


def test_what_is_not_settled_is_not_forgotten(jobs: Jobs, over: Life, time: StandingClock):
    with transaction():
        db.session.execute(update(Operation).values(status=OperationStatus.UNKNOWN))
        db.session.execute(update(InboundEvent).values(read_at=None))
        db.session.execute(update(Delivery).values(status=DeliveryStatus.WAITING, settled_at=None))

    time.move(days=100)
    forget(jobs)

    assert traces(*over.person).keys() >= {"operations.request", "deliveries.url"}
    assert count(InboundEvent) > 0


# The job


def test_job_retention_runs_once_a_day(services: Services, jobs: Jobs, over: Life, time: StandingClock):
    settle(jobs)
    time.move(days=89)

    assert job_of(Jobs(services), "retention").every == timedelta(days=1)
    settle(jobs)

    assert traces(over.secrets[1], over.secrets[2]) == {}
    assert forget(jobs) == 0


def _webhooks(many: int, at: datetime) -> list[dict[str, Any]]:
    times = {"received_at": at, "next_at": at, "read_at": at}
    return [{"source": "vipps", "account": "1", "digest": f"{n}", "body": "{}", **times} for n in range(many)]


def test_a_run_that_is_killed_between_two_batches_goes_on_the_next_day(app: Flask, jobs: Jobs, time: StandingClock):
    with transaction():
        db.session.execute(InboundEvent.__table__.insert(), _webhooks(3 * privacy._BATCH - 50, time.at))
    time.move(days=89)
    deletes: list[str] = []

    def die_in_the_second(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        deletes.extend([statement] if statement.startswith("DELETE FROM inbound_events") else [])
        if len(deletes) == 2:
            raise SystemExit

    event.listen(db.engine, "before_cursor_execute", die_in_the_second)
    try:
        with pytest.raises(SystemExit):
            forget(jobs)
    finally:
        event.remove(db.engine, "before_cursor_execute", die_in_the_second)

    assert count(InboundEvent) == 2 * privacy._BATCH - 50
    time.move(days=1)
    assert overdue() == {}
    assert forget(jobs) == 2 * privacy._BATCH - 50
    assert count(InboundEvent) == 0


@pytest.mark.parametrize("skew", [timedelta(hours=1, seconds=1), timedelta(days=-2200)])
def test_nothing_is_forgotten_by_a_clock_that_is_wrong(
    payments: FakePayments, jobs: Jobs, over: Life, time: StandingClock, skew: timedelta
):
    time.move(days=2200)
    payments.skew = skew

    with pytest.raises(ProviderUnavailable, match="our clock is"):
        forget(jobs)
    settle(jobs)

    assert traces(*over.person).keys() >= {"subscriptions.msisdn", "messages.recipient"}
    payments.skew = timedelta(hours=1)
    assert forget(jobs) > 0


# What must go on working


def test_money_goes_back_and_is_told_when_the_person_is_forgotten(
    services: Services, payments: FakePayments, jobs: Jobs, over: Life, time: StandingClock, receiver: Receiver
):
    time.move_to(NOON + MONTHS_13)
    settle(jobs)
    [charge] = charges(over.id)
    receiver.got.clear()

    payments.settle_charge(charge.name, ChargeStatus.REFUNDED)
    services.charges.refresh(charge.id)
    settle(jobs)

    assert charges(over.id)[0].status == ChargeStatus.REFUNDED
    assert [e["type"] for e in feed.page(PARTNER, None, 200).events][-1] == "charge.refunded"
    assert receiver.got == []


def test_an_order_number_stays_taken_when_its_person_is_forgotten(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, time: StandingClock
):
    life = begin(services, payments, jobs, receiver, order_number="order-1")
    end(services, jobs, life)
    time.move_to(NOON + MONTHS_13)
    settle(jobs)

    with pytest.raises(Conflict):
        services.subscriptions.request(partners.get(PARTNER), a_wish(order_number="order-1"))
    assert count(Subscription) == 1


def test_a_callback_whose_address_is_forgotten_is_not_sent_again(jobs: Jobs, over: Life, time: StandingClock):
    [told] = [e for e in feed.page(PARTNER, None, 200).events if e["type"] == "subscription.activated"]
    assert feed.replay(PARTNER, told["id"]) == 1
    settle(jobs)

    time.move(days=90)
    settle(jobs)

    with pytest.raises(Conflict):
        feed.replay(PARTNER, told["id"])


def test_a_link_that_is_forgotten_opens_nothing_by_any_name(
    client: FlaskClient, jobs: Jobs, over: Life, time: StandingClock
):
    link, manage, come_back, _ = over.secrets
    doors = ["/s/{}", "/manage/{}", "/manage/{}/stop", f"/api/recurring/process/{PARTNER}/{{}}"]
    assert [client.get(door.format(link if "manage" not in door else manage)).status_code for door in doors] == [
        410,
        200,
        303,
        410,
    ]

    time.move(days=110)
    settle(jobs)

    found, agreement = subscription(over.id), agreements(over.id)[0]
    keys = {link, manage, come_back, found.link_token, found.manage_token, agreement.return_id, f"%23{over.id}"}
    doors.append(f"/api/recurring/return/{PARTNER}/{{}}")
    assert {client.get(door.format(key)).status_code for door in doors for key in keys} <= {404, 308}
    assert {client.post(door.format(key)).status_code for door in doors for key in keys} <= {404, 405, 308}


# The books


def _years_later(services: Services, time: StandingClock, year: int) -> None:
    time.move_to(datetime(year, 1, 1, tzinfo=UTC))


def test_the_books_go_five_years_after_their_accounting_year(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, over: Life, time: StandingClock
):
    living = begin(services, payments, jobs, receiver, OLA)

    time.move_to(datetime(2031, 12, 31, 23, 59, tzinfo=UTC))
    forget(jobs)
    assert_the_books_hold(over.id, payments)
    assert overdue() == {}

    time.move_to(datetime(2032, 1, 5, tzinfo=UTC))
    assert overdue() == {"books": 1}
    forget(jobs)

    with reading():
        left = {table.name: _of(table, over.id) for table in Base.metadata.sorted_tables}
        refunds = db.session.scalars(select(Refund.charge_id)).all()
    assert {name: rows for name, rows in left.items() if rows} == {}
    assert list(refunds) == []
    assert subscription(living.id).status == SubscriptionStatus.ACTIVE
    assert len(charges(living.id)) == 1
    assert overdue() == {}


def _of(table: Any, subscription_id: int) -> int:
    if table.name == "subscriptions":
        return len(db.session.execute(select(table.c.id).where(table.c.id == subscription_id)).all())
    if "subscription_id" not in table.c:
        return 0
    return len(db.session.execute(select(table.c[0]).where(table.c.subscription_id == subscription_id)).all())


def _happened_later(life: Life) -> None:
    with transaction():
        last = db.session.scalars(select(Event).where(Event.subscription_id == life.id).order_by(Event.seq.desc()))
        last.first().occurred_at = datetime(2027, 1, 1, tzinfo=UTC)  # type: ignore[union-attr]


_OF_A_CHARGE = (
    "subscription_id",
    "agreement_id",
    "account",
    "amount",
    "currency",
    "due_on",
    "retry_days",
    "created_at",
)


def _is_charged(life: Life) -> None:
    same = {column: getattr(charges(life.id)[0], column) for column in _OF_A_CHARGE}
    one = Charge(**same, period=1, attempt=0, name="a renewal", submit_on=NOON.date(), status=ChargeStatus.SUBMITTED)
    with transaction():
        db.session.add(one)


def _is_given_back(life: Life) -> None:
    charge = charges(life.id)[0]
    owed = {"charge_id": charge.id, "amount": 1, "reason": "", "status": "REQUESTED", "refunded_before": 0}
    with transaction():
        db.session.add(Refund(**owed, created_at=NOON))


def _is_under_way(life: Life) -> None:
    with transaction():
        theirs = (Operation.subscription_id == life.id, Operation.kind == "STOP")
        db.session.execute(update(Operation).where(*theirs).values(status=OperationStatus.UNKNOWN))


@pytest.mark.parametrize("something", [_happened_later, _is_charged, _is_given_back, _is_under_way])
def test_books_that_are_not_closed_are_kept(
    jobs: Jobs, over: Life, time: StandingClock, something: Callable[[Life], None]
):
    something(over)
    before = len(charges(over.id))

    time.move_to(datetime(2032, 1, 5, tzinfo=UTC))
    forget(jobs)

    assert len(charges(over.id)) == before > 0
    assert overdue() == {}
