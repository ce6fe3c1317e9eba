"""The proof finds nothing in books that hold, and finds each rule broken when somebody bends a row."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, insert, select, text, update

from invoice.clock import utc_now
from invoice.lifecycle import (
    AgreementStatus,
    Channel,
    ChargeStatus,
    ContractMode,
    DeliveryStatus,
    OperationStatus,
    SubscriptionStatus,
)
from invoice.services import brakes, proof
from invoice.services.jobs import Jobs, Services
from invoice.services.proof import RULES, Rule
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import (
    Agreement,
    Brake,
    Charge,
    Delivery,
    Event,
    InboundEvent,
    Lane,
    Message,
    Operation,
    Partner,
    Refund,
    Subscription,
)
from tests.bending import bending
from tests.conftest import StandingClock
from tests.factories import a_partner, an_active_subscription, charges, settle
from tests.fakes import FakePayments
from tests.services.test_charges import live

pytestmark = pytest.mark.usefixtures("housekeeping")

PARTNER = 10295


@pytest.fixture
def number(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock) -> int:
    """A subscription that has paid twice, with one more payment on its way, and another that was cancelled."""
    a_partner()
    other = an_active_subscription(services, payments, campaign_amount=1000)
    lived = an_active_subscription(services, payments, campaign_amount=1000)
    live(jobs, payments, time, days=60, step=2)
    services.subscriptions.cancel(other)
    settle(jobs)
    return lived


def _now(**by: float) -> Any:
    return utc_now() + timedelta(**by)


def _charge(period: int, **values: Any) -> Any:
    return lambda lived: update(Charge).where(Charge.subscription_id == lived, Charge.period == period).values(**values)


def _subscription(**values: Any) -> Any:
    def bend(lived: int) -> Any:
        found = {name: value() if callable(value) else value for name, value in values.items()}
        return update(Subscription).where(Subscription.id == lived).values(**found)

    return bend


def _second_of_a_period(lived: int) -> Any:
    """What the unique index forbids: only a table without it can hold two."""
    db.session.execute(text("DROP INDEX uq_charges_period"))
    return update(Charge).where(Charge.subscription_id == lived, Charge.period == 2).values(period=1)


def _operation(**values: Any) -> Any:
    def bend(lived: int) -> Any:
        found = {name: value() if callable(value) else value for name, value in values.items()}
        base = {"kind": "REFUND", "subject_id": 1, "subscription_id": lived, "account": "123456", "name": "bent"}
        row = {"key": "k", "request": "", "status": OperationStatus.READY, "in_doubt": False, "attempts": 0, "fence": 0}
        return insert(Operation).values({**base, **row, "next_at": _now(), "created_at": _now(), **found})

    return bend


def _two_bodies(lived: int) -> Any:
    db.session.execute(_operation(key="one", request="a", status=OperationStatus.DONE)(lived))
    return _operation(key="one", request="b", status=OperationStatus.DONE)(lived)


def _agreement(**values: Any) -> Any:
    return lambda lived: update(Agreement).where(Agreement.subscription_id == lived).values(**values)


def _second_agreement(lived: int) -> Any:
    names = ("account", "initial_amount")
    row = db.session.query(Agreement).filter_by(subscription_id=lived).one()
    values = {name: getattr(row, name) for name in names}
    facts = {"subscription_id": lived, "attempt": 1, "status": AgreementStatus.ACTIVE, "return_id": "x"}
    flags = {"is_adopted": False, "is_handed_out": True, "initial_name": "x", "created_at": _now(hours=-2)}
    return insert(Agreement).values(**values, **facts, **flags, provider_agreement_id="agr_x", check_at=_now(hours=1))


def _drafted_unasked(lived: int) -> Any:
    db.session.execute(_second_agreement(lived))
    db.session.execute(update(Agreement).where(Agreement.attempt == 1).values(is_adopted=False, created_at=_now()))
    second = db.session.query(Agreement.id).filter_by(attempt=1).scalar()
    return _operation(kind="DRAFT", subject_id=second, status=OperationStatus.DONE)(lived)


def _too_many(lived: int) -> Any:
    """Four renewals that all left on one day."""
    row = db.session.query(Charge).filter_by(subscription_id=lived, period=1).one()
    columns = [c.name for c in Charge.__table__.columns if c.name not in ("id", "name", "period", "guid", "sent_at")]
    base = {name: getattr(row, name) for name in columns}
    rows = [base | {"period": p, "name": f"x{p}", "guid": f"g{p}", "sent_at": _now()} for p in range(50, 54)]
    return insert(Charge).values(rows)


def _event(**changes: Any) -> Any:
    def bend(lived: int) -> Any:
        facts = {"public_id": "evt_x", "partner_id": PARTNER, "subscription_id": lived, "seq": 900}
        return insert(Event).values({**facts, "type": "charge.charged", "occurred_at": _now(), "data": {}, **changes})

    return bend


def _deliveries(*statuses: DeliveryStatus) -> Any:
    """Events on their way by one channel, in this order, in these states."""

    def bend(lived: int) -> Any:
        db.session.execute(insert(Lane).values(id=1, partner_id=PARTNER, channel=Channel.EVENTS, failures=0, alarms=0))
        events = db.session.query(Event).filter_by(subscription_id=lived).order_by(Event.seq).limit(len(statuses))
        base = {"lane_id": 1, "subscription_id": lived, "next_at": _now(), "owed_since": _now(days=-9), "tries": 0}
        rows = [
            {**base, "event_id": event.id, "seq": event.seq, "status": status, "fence": 0, "settled_at": _now()}
            for event, status in zip(events, statuses, strict=True)
        ]
        return insert(Delivery).values(rows)

    return bend


def _told_of_nothing(lived: int) -> Any:
    name = next(c.name for c in db.session.query(Charge).filter_by(subscription_id=lived, period=2))
    return _event(data={"charge": name})(lived)


def _text(lived: int) -> Any:
    row = {"subscription_id": lived, "partner_id": PARTNER, "recipient": "+4791234567", "originator": "2119"}
    return insert(Message).values(**row, body="x", segments=1, status="SENT", sends=3, created_at=_now())


def _unread(_: int) -> Any:
    facts = {"source": "vipps", "digest": "d", "body": "{}", "received_at": _now(hours=-1), "next_at": _now(hours=-1)}
    return insert(InboundEvent).values(**facts)


def _surplus(lived: int) -> Any:
    bent = {"is_surplus": True, "captured_at": _now(hours=-2)}
    return update(Charge).where(Charge.subscription_id == lived, Charge.period == 1).values(**bent)


def _other_try(lived: int) -> Any:
    db.session.execute(text("DROP INDEX uq_charges_period"))
    bent = {"period": 1, "attempt": 1}
    return update(Charge).where(Charge.subscription_id == lived, Charge.period == 2).values(**bent)


def _left_lying(lived: int) -> Any:
    return _charge(2, status=ChargeStatus.PLANNED, submit_on=_now(days=-4).date())(lived)


def _refund_of_more(lived: int) -> Any:
    charge_id = db.session.query(Charge.id).filter_by(subscription_id=lived, period=1).scalar()
    row = {"charge_id": charge_id, "amount": 1, "reason": "", "status": "DONE", "refunded_before": 0}
    return insert(Refund).values(**row, created_at=_now(), settled_at=_now())


def _left_under_a_brake(_: int) -> Any:
    since = {"pulled_at": _now(days=-70), "released_at": _now()}
    return insert(Brake).values(partner_id=PARTNER, reason="x", is_frozen=False, **since)


def _filed_wrong(lived: int) -> Any:
    other = {"id": 4711, "name": "x", "market": "NO", "sms_originator": "x", "contract_mode": ContractMode.FIXED}
    db.session.execute(insert(Partner).values(**other, request_limit=1, created_at=_now()))
    return update(Event).where(Event.subscription_id == lived, Event.seq == 1).values(partner_id=4711)


_BEFORE = {"status": SubscriptionStatus.CANCELLED}
# rule -> what bends a row so that it is broken
BENT: dict[str, Any] = {
    "a period is paid once": _second_of_a_period,
    "status and money agree": _charge(1, refunded=100),
    "nothing is created after a cancel": _subscription(cancel_requested_at=lambda: _now(days=-60)),
    "what is taken after an end goes back": _subscription(**_BEFORE, ended_at=lambda: _now(days=-60)),
    "nothing falls due after the agreed end": _subscription(stop_on=lambda: _now(days=1).date()),
    "every amount is its period's price": _charge(1, amount=9800, captured=9800),
    "never more back than was taken": _refund_of_more,
    "one agreement lives for a subscription": _second_agreement,
    "what a second one paid goes back": _surplus,
    "a further try only after the provider's no": _other_try,
    "nothing is charged without consent": _subscription(activated_at=_now),
    "one key, one body": _two_bodies,
    "an end is the end": _subscription(ended_at=_now),
    "nothing is drafted unless somebody presses": _drafted_unasked,
    "three renewals a day at most": _too_many,
    "nothing leaves under a brake": _left_under_a_brake,
    "every payment is told once": _charge(1, status=ChargeStatus.FAILED),
    "every beginning and end is told once": _subscription(status=SubscriptionStatus.STOPPED),
    "timelines have no gaps": _event(),
    "partners are told in order": _deliveries(DeliveryStatus.WAITING, DeliveryStatus.DELIVERED),
    "only what is so is told": _told_of_nothing,
    "no text goes out three times or is forgotten": _text,
    "what we are told is read": _unread,
    "nothing hangs on another partner's": _filed_wrong,
    "charges keep to their agreement's account": _charge(1, account="234567"),
    "acts keep to their agreement's account": _operation(kind="STOP", account="234567"),
    "every living agreement is looked at": _agreement(check_at=None),
    "every period is planned in time": _subscription(next_plan_on=lambda: _now(days=-3).date()),
    "every charge leaves in time": _left_lying,
    "nothing is in doubt for a day": _operation(status=OperationStatus.UNKNOWN, first_sent_at=lambda: _now(days=-2)),
    "everything owed to partners arrives": _deliveries(DeliveryStatus.PARKED),
    "a cancel takes a quarter of an hour": _subscription(
        status=SubscriptionStatus.CANCELLING, cancel_requested_at=lambda: _now(hours=-1)
    ),
    "nothing due is left lying": _operation(next_at=lambda: _now(hours=-1)),
}


def test_books_that_hold_break_no_rule(number: int):
    assert [(c.period, c.status) for c in charges(number)][:2] == [
        (0, ChargeStatus.CHARGED),
        (1, ChargeStatus.CHARGED),
    ]
    assert proof.examine() == []


class _Undone(Exception):
    """What was bent springs back."""


def _found_when_bent(rule: Rule, lived: int) -> list[Any]:
    found: list[Any] = []
    with suppress(_Undone), bending():
        db.session.execute(BENT[rule.says](lived))
        found += db.session.execute(rule.broken, queries.as_of(utc_now())).all()
        raise _Undone
    return found


def test_a_bent_row_breaks_its_rule(number: int):
    assert [rule.says for rule in RULES if not _found_when_bent(rule, number)] == []
    assert proof.examine() == []


def test_a_question_that_the_database_breaks_off_is_told_and_keeps_no_other_from_being_asked(app: Flask):
    # PostgreSQL ends this connection over it, and SQLite knows no such function.
    broken = Rule("S1", "a period is paid once", select(func.pg_terminate_backend(func.pg_backend_pid()), 0))

    found = proof._answered(broken.number, broken.says, lambda: proof._ask(broken, utc_now()))

    assert [(finding.number, finding.partner_id) for finding in found] == [("S1", None)]
    assert not found[0].pulls_brake
    assert proof.examine() == []


def test_every_rule_has_a_row_that_breaks_it():
    assert [rule.says for rule in RULES if rule.says not in BENT] == []


def test_a_due_date_that_is_not_the_calendars_breaks_s14(number: int):
    with bending():
        db.session.execute(_charge(2, due_on=_now(days=9).date())(number))

    assert "S14" in {finding.number for finding in proof.examine()}


def test_a_hit_is_told_once_holds_its_partner_and_is_cleared_when_it_is_gone(
    number: int, caplog: pytest.LogCaptureFixture
):
    with bending():
        db.session.execute(_surplus(number))
    with caplog.at_level(logging.ERROR):
        new, again = proof.check(), proof.check()
    (found,) = [row for row in proof.open_breaks() if row[0] == "S7"]
    held = [(brake.partner_id, brake.reason[:2]) for brake in brakes.list_all()]

    with bending():
        db.session.execute(_charge(1, is_surplus=False)(number))
    proof.check()

    assert new >= 1
    assert again == 0
    assert found[2] == PARTNER
    assert held == [(PARTNER, "S7")]
    assert "Rule S7 is broken" in caplog.text
    assert proof.open_breaks() == []


def test_job_proof_and_job_audit_run_with_the_others(jobs: Jobs, services: Services, payments: FakePayments):
    a_partner()
    assert {"proof", "audit"} <= {job.name for job in jobs.table}
    number = an_active_subscription(services, payments)
    with bending():
        db.session.execute(_subscription(ended_at=_now)(number))

    settle(jobs)

    assert [row[0] for row in proof.open_breaks()] == ["S11"]


def test_a_cancel_while_a_batch_is_refused_is_no_break(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    first, second = (an_active_subscription(services, payments) for _ in range(2))
    time.move(days=26)
    settle(jobs)
    time.move(days=1)

    payments.spoils_batches.add(charges(first)[-1].name)
    payments.during_look = lambda: services.subscriptions.cancel(second)
    services.batches.submit()

    assert [c.status for c in charges(second)][-1] == ChargeStatus.VOID
    assert "S3" not in {finding.number for finding in proof.examine()}
