"""A charge that must not be taken: it is not taken, or its taking is told; and whatever is lost, nothing is undone."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace

import pytest
from flask import Flask

from invoice.clock import utc_now
from invoice.errors import (
    Conflict,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Standing
from invoice.store import queries
from invoice.store.db import db, transaction
from invoice.store.models import Charge
from tests.bending import bending
from tests.conftest import StandingClock
from tests.factories import a_partner, an_active_subscription, charges, event_types, settle, subscription, the_partner
from tests.fakes import FakePayments
from tests.services.test_captures import a_capture_that_dies, a_reservation, reserved
from tests.services.test_doubt import assert_the_books_hold, job_of, pass_time, the_name
from tests.services.test_races import together

CHARGED, CANCELLED, SUBMITTED, VOID = (
    ChargeStatus.CHARGED,
    ChargeStatus.CANCELLED,
    ChargeStatus.SUBMITTED,
    ChargeStatus.VOID,
)


def a_submitted_charge(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock) -> int:
    """Return the number of a subscription whose first renewal is at Vipps and due in three days."""
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    assert renewal(number).status == SUBMITTED
    return number


def a_planned_charge(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock) -> int:
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=24)
    settle(jobs)
    assert renewal(number).status == ChargeStatus.PLANNED
    return number


def renewal(number: int) -> Charge:
    return next(c for c in charges(number) if c.period == 1)


def until_somebody_waits() -> None:
    """Hold what this transaction has locked until another one wants it. SQLite lets nobody so far."""
    waiting = db.select(db.text("count(*)")).select_from(db.text("pg_locks WHERE NOT granted"))
    for _ in range(20_000 if db.engine.dialect.name == "postgresql" else 0):
        if db.session.scalar(waiting):
            return


def ring(services: Services, name: str, **also: object) -> None:
    body = {"agreement_id": "agr_1", "external_id": None, "charge_name": name, **also}
    services.inbox.take_webhook(json.dumps(body).encode(), "123456")


def test_a_planned_charge_is_taken_out_of_the_books_and_never_leaves(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_planned_charge(services, payments, jobs, time)

    services.cancels.cancel(renewal(number).id)
    services.cancels.cancel(renewal(number).id)
    pass_time(jobs, time, hours=24 * 8, step=24)

    assert renewal(number).status == VOID
    assert payments.batches == []
    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert_the_books_hold(number, payments)


def test_the_period_after_a_cancelled_one_is_paid(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_planned_charge(services, payments, jobs, time)
    services.cancels.cancel(renewal(number).id)

    pass_time(jobs, time, hours=24 * 36, step=24)

    assert [(c.period, c.status) for c in charges(number)] == [(0, CHARGED), (1, VOID), (2, SUBMITTED)]


def test_a_charge_at_vipps_is_called_off_there(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)

    services.cancels.cancel(renewal(number).id)
    settle(jobs)
    services.cancels.cancel(renewal(number).id)
    settle(jobs)

    assert (renewal(number).status, payments.charge(renewal(number).name).status) == (CANCELLED, CANCELLED)
    assert payments.calls.count("cancel_charge") == 1
    assert event_types(number)[-1] == "charge.cancelled"
    assert_the_books_hold(number, payments)


@pytest.mark.parametrize(
    ("call", "when"), [("cancel_charge", "before"), ("cancel_charge", "after"), ("find_charge", "before")]
)
@pytest.mark.parametrize(
    "error",
    [
        ProviderUncertain("timeout"),
        ProviderUnavailable("429"),
        ProviderDenied("keys"),
        ProviderRefused("busy", status=400),
    ],
)
def test_a_cancel_whose_answer_is_lost_happens_all_the_same(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    call: str,
    when: str,
    error: ProviderError,
):
    number = a_submitted_charge(services, payments, jobs, time)
    getattr(payments.faults, when)(call, error, error)

    services.cancels.cancel(renewal(number).id)
    pass_time(jobs, time, hours=4)

    assert (renewal(number).status, payments.charge(renewal(number).name).status) == (CANCELLED, CANCELLED)
    assert event_types(number).count("charge.cancelled") == 1


@pytest.mark.parametrize(
    ("call", "when"),
    [("find_charge", "before"), ("find_charge", "answered"), ("cancel_charge", "before"), ("cancel_charge", "after")],
)
def test_a_kill_at_any_step_of_a_cancel_ends_in_a_cancel(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, call: str, when: str
):
    number = a_submitted_charge(services, payments, jobs, time)
    services.cancels.cancel(renewal(number).id)
    a_capture_that_dies(payments, call, when)
    with pytest.raises(SystemExit):
        settle(jobs)

    pass_time(jobs, time, hours=2)

    assert renewal(number).status == CANCELLED
    assert_the_books_hold(number, payments)


def test_a_cancel_that_is_only_accepted_is_not_believed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    payments.acts_late = True
    services.cancels.cancel(renewal(number).id)
    pass_time(jobs, time, hours=2)
    assert renewal(number).status == SUBMITTED

    payments.catch_up()
    pass_time(jobs, time, hours=2)

    assert renewal(number).status == CANCELLED


def test_a_word_of_vipps_that_we_do_not_know_is_no_end(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    name = renewal(number).name
    payments.agreements["agr_1"].charges[name] = replace(payments.charge(name), status=None)
    services.cancels.cancel(renewal(number).id)
    pass_time(jobs, time, hours=2)

    payments.agreements["agr_1"].charges[name] = replace(payments.charge(name), status=SUBMITTED)
    pass_time(jobs, time, hours=2)

    assert payments.charge(name).status == CANCELLED


def test_what_was_taken_before_it_could_be_called_off_is_told_and_stays(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    services.cancels.cancel(renewal(number).id)
    payments.settle_charge(renewal(number).name, CHARGED)

    pass_time(jobs, time, hours=2)

    assert (renewal(number).status, renewal(number).captured) == (CHARGED, 9900)
    assert event_types(number)[-2:] == ["charge.charged", "charge.cancel_failed"]
    assert payments.refunds == [], "whether it goes back is the partner's to say"


def test_a_charge_that_failed_before_it_could_be_called_off_stays_failed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    services.cancels.cancel(renewal(number).id)
    payments.settle_charge(renewal(number).name, ChargeStatus.FAILED)

    pass_time(jobs, time, hours=2)

    assert renewal(number).status == ChargeStatus.FAILED
    assert "charge.cancel_failed" not in event_types(number)


@pytest.mark.parametrize(
    "status",
    ["CHARGED", "PARTIALLY_REFUNDED", "REFUNDED", "FAILED", "CANCELLED", "VOID", "REFUSED"],
)
def test_a_charge_that_has_come_to_its_end_cannot_be_cancelled(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, status: str
):
    number = a_submitted_charge(services, payments, jobs, time)
    charge_id = renewal(number).id
    with bending():
        db.session.get_one(Charge, charge_id).status = ChargeStatus(status)

    with pytest.raises(Conflict, match=status):
        services.cancels.cancel(charge_id)

    assert renewal(number).cancel_requested_at is None


# While its batch is on its way


def test_a_cancel_of_a_batch_that_has_not_left_takes_out_the_one_and_sends_the_others(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(3)]
    time.move(days=27)
    payments.faults.before("create", ProviderUnavailable("429"))
    job_of(jobs, "plan").run_once()
    job_of(jobs, "submit").run_once()

    services.cancels.cancel(renewal(numbers[0]).id)
    pass_time(jobs, time, hours=1)

    assert [renewal(number).status for number in numbers] == [VOID, SUBMITTED, SUBMITTED]
    assert [renewal(number).sends for number in numbers] == [0, 1, 1]
    assert not any(subscription(numbers[0]).ulid in name and "-p0001" in name for name in payments.names())


def test_a_cancel_of_a_batch_in_doubt_calls_off_what_has_come_to_vipps(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(2)]
    time.move(days=27)
    payments.faults.after("create", ProviderUncertain("timeout"))
    settle(jobs)

    services.cancels.cancel(renewal(numbers[0]).id)
    pass_time(jobs, time, hours=2)

    assert [renewal(number).status for number in numbers] == [CANCELLED, SUBMITTED]
    assert payments.charge(the_name(numbers[0], 1)).status == CANCELLED


def test_a_cancel_of_a_batch_in_doubt_that_never_came_ends_void(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(2)]
    time.move(days=27)
    payments.faults.before("create", ProviderUncertain("timeout"))
    settle(jobs)

    services.cancels.cancel(renewal(numbers[0]).id)
    pass_time(jobs, time, hours=4)

    assert [renewal(number).status for number in numbers] == [VOID, SUBMITTED]
    assert "cancel_charge" not in payments.calls
    assert not is_being_called_off(renewal(numbers[0]).id)


def is_being_called_off(charge_id: int) -> bool:
    with transaction():
        return queries.is_open_for(charge_id, "CANCEL")


def test_what_was_given_up_and_turns_up_at_vipps_late_is_called_off(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.hidden.add(the_name(number, 1))
    time.move(days=27)
    payments.faults.after("create", ProviderUncertain("timeout"))
    settle(jobs)
    services.cancels.cancel(renewal(number).id)
    pass_time(jobs, time, hours=3)
    assert renewal(number).status == VOID

    payments.hidden.clear()
    pass_time(jobs, time, hours=30, step=5)

    assert payments.charge(the_name(number, 1)).status == CANCELLED
    assert renewal(number).status == CANCELLED


def test_what_was_sent_once_waits_again_and_is_cancelled_is_looked_for(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    payments.hidden.add(the_name(number, 1))
    time.move(days=27)
    settle(jobs)
    ring(services, the_name(number, 1), says_not_created=True)
    suspend(partner.id, time)  # so that it waits in the books, after it was sent
    pass_time(jobs, time, hours=1)
    assert (renewal(number).status, renewal(number).sends) == (ChargeStatus.PLANNED, 1)

    services.cancels.cancel(renewal(number).id)
    payments.hidden.clear()
    pass_time(jobs, time, hours=30, step=5)

    assert payments.charge(the_name(number, 1)).status == CANCELLED


def suspend(partner_id: int, time: StandingClock) -> None:
    from invoice.store.models import Partner  # noqa: PLC0415

    with transaction():
        db.session.get_one(Partner, partner_id).suspended_at = time.at


# Races


def test_of_many_cancels_at_once_one_goes_to_vipps(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    charge_id = renewal(number).id

    together(app, *[lambda: services.cancels.cancel(charge_id)] * 6)
    together(app, *[lambda: job_of(jobs, "operations").run_once()] * 3)
    settle(jobs)

    assert payments.calls.count("cancel_charge") == 1
    assert event_types(number).count("charge.cancelled") == 1


def test_cancels_that_race_the_charge_run_leave_nothing_to_pay(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(12)]
    time.move(days=27)
    job_of(jobs, "plan").run_once()

    def cancel_all() -> None:
        for number in numbers:
            services.cancels.cancel(renewal(number).id)

    together(app, cancel_all, *[lambda: [jobs.run_pending() for _ in range(4)]] * 2)
    pass_time(jobs, time, hours=2)

    assert Counter(renewal(n).status in (VOID, CANCELLED) for n in numbers) == {True: 12}
    there = [payments.charge(n).status for n in payments.names() if "-p0001" in n]
    assert set(there) <= {CANCELLED}
    for number in numbers:
        assert_the_books_hold(number, payments)


def test_a_cancel_that_read_the_row_before_its_batch_took_it_does_not_write_over_it(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_planned_charge(services, payments, jobs, time)
    charge_id = renewal(number).id
    begun = threading.Event()

    def take_it_away() -> None:
        with bending():
            queries.lock_subscription(number)
            begun.set()
            until_somebody_waits()  # the cancel has read the row, and waits for its subscription
            db.session.get_one(Charge, charge_id).status = ChargeStatus.SUBMITTING

    def cancel() -> None:
        begun.wait(timeout=30)
        services.cancels.cancel(charge_id)

    together(app, take_it_away, cancel)

    assert renewal(number).status == ChargeStatus.SUBMITTING
    assert is_being_called_off(charge_id)


def test_a_cancel_of_the_subscription_in_the_middle_of_one_of_a_charge_ends_both(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    services.cancels.cancel(renewal(number).id)
    payments.during_look = lambda: services.subscriptions.cancel(number)

    pass_time(jobs, time, hours=2)

    assert (renewal(number).status, subscription(number).status) == (CANCELLED, SubscriptionStatus.CANCELLED)
    assert event_types(number).count("charge.cancelled") == 1
    assert_the_books_hold(number, payments)


def test_a_webhook_that_rings_while_the_cancel_is_read_back_is_heard(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    name = renewal(number).name
    payments.settle_charge(name, CHARGED)

    def refunded_in_the_portal() -> None:
        whole = replace(payments.charge(name), refunded=9900, status=ChargeStatus.REFUNDED)
        payments.agreements["agr_1"].charges[name] = whole
        ring(services, name)

    services.cancels.cancel(renewal(number).id)
    payments.during_look = refunded_in_the_portal
    settle(jobs)

    assert renewal(number).status == ChargeStatus.REFUNDED


def test_a_bell_that_is_being_written_while_the_stop_is_settled_is_heard(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_submitted_charge(services, payments, jobs, time)
    name, charge_id = renewal(number).name, renewal(number).id
    payments.settle_charge(name, CHARGED)
    time.move(seconds=1)
    services.subscriptions.cancel(number)
    is_listed, is_ringing = threading.Event(), threading.Event()

    def given_back_there() -> None:
        if payments.calls[-1] != "list_charges":
            payments.during_look = given_back_there
            return
        payments.give_back(name, 3000)
        is_listed.set()
        is_ringing.wait(timeout=30)

    def write_slowly() -> None:
        is_listed.wait(timeout=30)
        with bending():
            db.session.get_one(Charge, charge_id).check_at = utc_now()
            db.session.flush()
            is_ringing.set()
            until_somebody_waits()  # the stop is being settled, and waits for the row

    payments.during_look = given_back_there
    together(app, write_slowly, job_of(jobs, "operations").run_once)
    settle(jobs)

    assert renewal(number).status == ChargeStatus.PARTIALLY_REFUNDED


def test_what_was_taken_all_the_same_is_not_called_off_a_second_time(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    charge = reserved(number)
    payments.settle_charge(charge.name, ChargeStatus.CHARGED)

    answers = [services.direct.cancel(the_partner(), "agr_2", charge.name).standing for _ in range(3)]

    assert set(answers).isdisjoint({Standing.DONE, Standing.ACCEPTED})
    with pytest.raises(Conflict, match="CHARGED"):
        services.cancels.cancel(charge.id)
