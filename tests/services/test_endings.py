"""Ending with the period that is paid for: nothing falls due after it, and until then it can be taken back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from invoice.errors import (
    Conflict,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, SubscriptionStatus
from invoice.services import endings, proof
from invoice.services.changes import NewTerms
from invoice.services.jobs import Jobs, Services
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Partner
from tests.bending import bending
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, charges, event_types, settle, subscription
from tests.fakes import FakePayments
from tests.services.test_cancels import is_being_called_off
from tests.services.test_captures import a_reservation
from tests.services.test_charges import due_of, live
from tests.services.test_doubt import assert_the_books_hold, job_of, pass_time, the_name
from tests.services.test_races import together

ACTIVE, CANCELLED = SubscriptionStatus.ACTIVE, SubscriptionStatus.CANCELLED
PLANNED, SUBMITTED, VOID = ChargeStatus.PLANNED, ChargeStatus.SUBMITTED, ChargeStatus.VOID
# Signed on 10 November: the first period is paid for until 10 December.
STOP_ON = date(2026, 12, 10)


def ended(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, *, after: int) -> int:
    """Return the number of a subscription that was asked to end so many days after its signing."""
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=after)
    settle(jobs)
    assert endings.end_with_period(number) == STOP_ON
    return number


def paid(number: int) -> list[int]:
    return [c.period for c in charges(number) if c.captured]


def statuses(number: int) -> list[tuple[int, int, str]]:
    return [(c.period, c.attempt, c.status.value) for c in charges(number)]


def assert_nothing_after_the_end(number: int, payments: FakePayments, stop_on: date) -> None:
    assert_the_books_hold(number, payments)
    for name in payments.names():
        if subscription(number).ulid in name and "-p0000" not in name and due_of(name, payments) >= stop_on:
            assert payments.charge(name).status == ChargeStatus.CANCELLED


@pytest.mark.parametrize("after", [0, 24, 27, 29])
def test_nothing_is_due_after_the_end_and_the_end_comes(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, after: int
):
    number = ended(services, payments, jobs, time, after=after)
    settle(jobs)
    assert (subscription(number).status, subscription(number).stop_on) == (ACTIVE, STOP_ON)

    live(jobs, payments, time, days=29 - after)
    assert (subscription(number).status, "stop" in payments.calls) == (ACTIVE, False)
    live(jobs, payments, time, days=1)

    assert subscription(number).status == CANCELLED
    assert payments.agreements["agr_1"].view.status == AgreementStatus.STOPPED
    assert paid(number) == [0]
    live(jobs, payments, time, days=40, step=5)
    assert paid(number) == [0]
    assert_nothing_after_the_end(number, payments, STOP_ON)
    told = [e for e in event_types(number) if e.startswith("subscription.")]
    assert told[2:] == ["subscription.ending", "subscription.cancelling", "subscription.cancelled"]


def test_asked_twice_it_ends_once_and_on_the_same_day(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=5)

    assert endings.end_with_period(number) == STOP_ON

    assert event_types(number).count("subscription.ending") == 1


@pytest.mark.parametrize(
    ("signed", "interval", "asked", "stop_on"),
    [
        ("2027-01-31", Interval.MONTH, "2027-02-27", "2027-02-28"),
        ("2027-01-31", Interval.MONTH, "2027-02-28", "2027-03-31"),
        ("2027-01-31", Interval.MONTH, "2027-03-30", "2027-03-31"),
        ("2028-02-29", Interval.YEAR, "2029-02-27", "2029-02-28"),
        ("2028-02-29", Interval.YEAR, "2029-02-28", "2030-02-28"),
        ("2027-03-26", Interval.WEEK, "2027-04-01", "2027-04-02"),
        ("2027-03-26", Interval.WEEK, "2027-04-02", "2027-04-09"),
    ],
)
def test_the_end_is_the_day_before_the_next_period_counted_from_the_signing(
    services: Services,
    payments: FakePayments,
    time: StandingClock,
    signed: str,
    interval: Interval,
    asked: str,
    stop_on: str,
):
    a_partner()
    time.move_to(datetime.fromisoformat(signed).replace(hour=11, tzinfo=UTC))
    number = an_active_subscription(services, payments, interval=interval)
    time.move_to(datetime.fromisoformat(asked).replace(hour=21, tzinfo=UTC))

    assert endings.end_with_period(number).isoformat() == stop_on


def test_only_what_is_active_can_end_with_its_period(services: Services, payments: FakePayments, jobs: Jobs):
    pending = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    cancelled = an_active_subscription(services, payments)
    services.subscriptions.cancel(cancelled)
    settle(jobs)

    for number in (pending, cancelled):
        with pytest.raises(Conflict):
            endings.end_with_period(number)
        with pytest.raises(Conflict):
            endings.keep(number)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("keys"), ProviderRefused("busy")]
)
def test_what_has_left_the_house_is_called_off_whatever_vipps_answers(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    when: str,
    error: ProviderError,
):
    number = ended(services, payments, jobs, time, after=27)
    getattr(payments.faults, when)("cancel_charge", error, error)

    pass_time(jobs, time, hours=4)

    assert charges(number)[-1].status == ChargeStatus.CANCELLED
    assert subscription(number).status == ACTIVE


def test_what_was_due_before_the_end_is_still_collected(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=31)  # nothing ran: the first renewal falls due late
    settle(jobs)
    late_on = charges(number)[-1].due_on
    assert endings.end_with_period(number) == date(2027, 1, 10) > late_on

    live(jobs, payments, time, days=35)

    assert paid(number) == [0, 1]
    assert subscription(number).status == CANCELLED
    assert_nothing_after_the_end(number, payments, date(2027, 1, 10))


def test_the_end_waits_for_a_retry_that_is_under_way(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    live(jobs, payments, time, days=6)
    time.move(days=1)
    settle(jobs)  # the first renewal is due, and has no money behind it
    assert endings.end_with_period(number) == date(2026, 11, 24)
    time.move(days=7)
    assert job_of(jobs, "endings").run_once() == 0
    payments.settle_charge(the_name(number, 1), ChargeStatus.CHARGED)

    pass_time(jobs, time, hours=24, step=6)

    assert paid(number) == [0, 1]
    assert subscription(number).status == CANCELLED
    assert payments.refunds == []


def test_job_endings_ends_what_is_over_and_nothing_else(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(3)]
    for number in numbers[:2]:
        endings.end_with_period(number)
    time.move_to(datetime(2026, 12, 9, 22, 59, tzinfo=UTC))  # one minute to midnight in Norway
    assert job_of(jobs, "endings").run_once() == 0

    time.move(minutes=1)
    done = [job_of(jobs, "endings").run_once() for _ in range(2)]

    assert done == [2, 0]
    assert [subscription(n).status for n in numbers] == [SubscriptionStatus.CANCELLING] * 2 + [ACTIVE]


def test_a_kill_between_the_end_and_the_stop_stops_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    settle(jobs)
    time.move(days=3)
    payments.faults.after("stop", SystemExit())
    with pytest.raises(SystemExit):
        settle(jobs)

    pass_time(jobs, time, hours=2)

    assert subscription(number).status == CANCELLED
    assert event_types(number).count("subscription.cancelled") == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_it_is_called_off_calls_it_off(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, when: str
):
    number = ended(services, payments, jobs, time, after=27)
    getattr(payments.faults, when)("cancel_charge", SystemExit())
    with pytest.raises(SystemExit):
        settle(jobs)

    pass_time(jobs, time, hours=1)

    assert charges(number)[-1].status == ChargeStatus.CANCELLED


def test_money_that_vipps_takes_for_the_time_after_the_end_goes_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=28)
    time.move(days=2)  # nothing ran: nobody called it off
    payments.settle_charge(the_name(number, 1), ChargeStatus.CHARGED)
    time.move(hours=2)

    pass_time(jobs, time, hours=3)

    assert payments.charge(the_name(number, 1)).refunded == 9900
    assert subscription(number).status == CANCELLED
    assert "charge.cancel_failed" in event_types(number)
    assert_the_books_hold(number, payments)


def test_what_falls_due_after_the_end_only_because_it_is_late_is_not_charged(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    suspend(partner.id, time)
    time.move(days=8)
    settle(jobs)
    stop_on = endings.end_with_period(number)
    assert statuses(number)[1:] == [(1, 0, "PLANNED"), (2, 0, "VOID")]  # one is late, and waits
    time.move(days=5)
    suspend(partner.id, None)  # tomorrow is the earliest that Vipps takes, and the end

    live(jobs, payments, time, days=6)

    assert (paid(number), payments.batches) == ([0], [])
    assert subscription(number).status == CANCELLED
    assert_nothing_after_the_end(number, payments, stop_on)


def test_a_charge_that_waits_in_the_books_does_not_keep_the_end_from_coming(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    suspend(partner.id, time)
    time.move(days=8)
    settle(jobs)
    assert statuses(number)[1:] == [(1, 0, "PLANNED"), (2, 0, "PLANNED")]
    endings.end_with_period(number)

    live(jobs, payments, time, days=20)

    assert subscription(number).status == CANCELLED


def test_a_charge_that_was_set_aside_does_not_keep_the_end_from_coming(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    time.move(days=8)
    settle(jobs)
    assert statuses(number)[1:2] == [(1, 0, "SUBMITTED")]
    charge_id = charges(number)[1].id
    with transaction():
        db.session.get_one(Charge, charge_id).check_at = None  # as a quarantined one stands there
    endings.end_with_period(number)

    pass_time(jobs, time, hours=24 * 40, step=24)

    assert subscription(number).status == CANCELLED


def suspend(partner_id: int, time: StandingClock | None) -> None:
    with transaction():
        db.session.get_one(Partner, partner_id).suspended_at = time.at if time else None


# Taking it back


@pytest.mark.parametrize(
    ("after", "called_off", "first_attempt"),
    [(5, [], 0), (24, [(1, 0, "VOID")], 0), (27, [(1, 0, "CANCELLED")], 1)],
)
def test_after_it_is_taken_back_each_period_is_paid_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    after: int,
    called_off: list[Any],
    first_attempt: int,
):
    number = ended(services, payments, jobs, time, after=after)
    settle(jobs)
    assert statuses(number)[1:] == called_off

    endings.keep(number)
    live(jobs, payments, time, days=75 - after)

    assert paid(number) == [0, 1, 2]
    dues = [c.due_on for c in charges(number) if c.captured]
    assert dues[1:] == [date(2026, 12, 10), date(2027, 1, 10)]
    assert [c.attempt for c in charges(number) if c.captured][1] == first_attempt
    assert subscription(number).status == ACTIVE
    assert event_types(number).count("subscription.kept") == 1
    assert_the_books_hold(number, payments)


def test_taken_back_on_the_last_day_it_is_paid_late_and_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    settle(jobs)
    time.move_to(datetime(2026, 12, 9, 22, 59, tzinfo=UTC))

    endings.keep(number)
    live(jobs, payments, time, days=14)

    assert paid(number) == [0, 1]
    assert due_of(charges(number)[-1].name, payments) >= date(2026, 12, 10)


def test_it_cannot_be_taken_back_when_the_day_has_come(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    time.move_to(datetime(2026, 12, 9, 23, 0, tzinfo=UTC))

    with pytest.raises(Conflict, match="no end"):
        endings.keep(number)


def test_it_cannot_be_taken_back_while_vipps_is_calling_off(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    with pytest.raises(Conflict, match="called off"):
        endings.keep(number)
    payments.acts_late = True
    settle(jobs)
    with pytest.raises(Conflict, match="called off"):
        endings.keep(number)

    payments.catch_up()
    payments.acts_late = False
    pass_time(jobs, time, hours=1)
    endings.keep(number)
    live(jobs, payments, time, days=10)

    assert paid(number) == [0, 1]


def test_minds_may_change_again_and_again(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock):
    number = ended(services, payments, jobs, time, after=27)
    for _ in range(4):
        pass_time(jobs, time, hours=2)
        endings.keep(number)
        settle(jobs)
        endings.end_with_period(number)
    pass_time(jobs, time, hours=2)
    endings.keep(number)

    live(jobs, payments, time, days=40)

    assert sorted(paid(number)) == [0, 1, 2]
    assert_the_books_hold(number, payments)


def test_who_changes_a_mind_often_is_not_planned_years_ahead(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, interval=Interval.YEAR)

    for _ in range(4):
        endings.end_with_period(number)
        settle(jobs)
        endings.keep(number)
        settle(jobs)
        time.move(hours=1)

    assert [c.period for c in charges(number)] == [0]


def test_a_period_that_was_cancelled_for_its_own_sake_stays_cancelled(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=24)
    settle(jobs)
    services.cancels.cancel(charges(number)[-1].id)  # the partner gives this month away
    time.move(minutes=1)
    endings.end_with_period(number)
    time.move(minutes=1)

    endings.keep(number)
    live(jobs, payments, time, days=45)

    assert paid(number) == [0, 2]


def test_what_is_put_back_is_charged_at_the_price_that_the_app_shows(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=24)
    services.changes.change(number, NewTerms(amount=10900))
    settle(jobs)

    endings.keep(number)
    live(jobs, payments, time, days=10)

    assert charges(number)[-1].captured == 10900
    assert_the_books_hold(number, payments)
    with reading():
        news = [event for event in queries.timeline(number) if event.type == "subscription.changed"]
        told = [event.data["from_period"] for event in news]
    assert told == [2, 1]
    assert proof.examine() == []


def test_what_was_called_off_at_vipps_comes_again_at_the_new_price(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    settle(jobs)
    assert charges(number)[-1].status == ChargeStatus.CANCELLED
    services.changes.change(number, NewTerms(amount=10900))
    settle(jobs)

    endings.keep(number)
    live(jobs, payments, time, days=10)

    assert [(c.amount, c.captured) for c in charges(number)] == [(9900, 9900), (9900, 0), (10900, 10900)]
    assert proof.examine() == []


def test_what_has_left_keeps_its_price_when_it_is_put_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    time.move(days=27)
    payments.faults.after("create", ProviderUncertain("timeout"))
    settle(jobs)
    endings.end_with_period(number)
    services.changes.change(number, NewTerms(amount=10900))
    pass_time(jobs, time, hours=4)
    assert statuses(number)[1:] == [(1, 0, "VOID")]

    endings.keep(number)
    payments.hidden.clear()
    live(jobs, payments, time, days=5)

    assert (charges(number)[-1].status, charges(number)[-1].captured) == (ChargeStatus.CHARGED, 9900)
    assert_the_books_hold(number, payments)


def test_a_cancel_that_waits_does_not_call_off_what_is_wanted_again(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    payments.faults.before("create", ProviderUnavailable("429", retry_after_s=40))
    job_of(jobs, "plan").run_once()
    job_of(jobs, "submit").run_once()
    endings.end_with_period(number)
    for seconds in (0, 2, 4, 8, 16, 10):  # the call-off finds nothing at Vipps, each time, and waits longer
        time.move(seconds=seconds)
        job_of(jobs, "operations").run_once()
    assert statuses(number)[1:] == [(1, 0, "VOID")]
    assert is_being_called_off(charges(number)[-1].id)

    endings.keep(number)
    live(jobs, payments, time, days=5)

    assert paid(number) == [0, 1]


def test_what_was_taken_all_the_same_does_not_keep_it_from_being_taken_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    charge_id = charges(number)[-1].id
    settle(jobs)
    with bending():
        db.session.get_one(Charge, charge_id).status = ChargeStatus.FAILED

    endings.keep(number)
    live(jobs, payments, time, days=40)

    assert statuses(number)[1:3] == [(1, 0, "FAILED"), (2, 0, "CHARGED")]


# Races


def test_of_an_end_and_a_cancel_at_once_the_cancel_holds(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)

    def end() -> None:
        try:
            endings.end_with_period(number)
        except Conflict:
            return

    together(app, end, lambda: services.subscriptions.cancel(number), jobs.run_pending)
    pass_time(jobs, time, hours=2)

    assert subscription(number).status == CANCELLED
    assert charges(number)[-1].status in (VOID, ChargeStatus.CANCELLED)
    with pytest.raises(Conflict):
        endings.keep(number)
    assert_the_books_hold(number, payments)


def test_ends_that_race_planning_and_the_charge_run_leave_nothing_due(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(12)]
    time.move(days=27)

    def end_all() -> None:
        for number in numbers:
            endings.end_with_period(number)

    together(app, end_all, *[lambda: [jobs.run_pending() for _ in range(4)]] * 2)
    live(jobs, payments, time, days=5)

    assert {subscription(number).status for number in numbers} == {CANCELLED}
    for number in numbers:
        assert paid(number) == [0]
        assert_nothing_after_the_end(number, payments, STOP_ON)


def test_two_who_take_it_back_at_once_put_each_period_back_once(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=27)
    settle(jobs)

    def keep() -> str:
        try:
            endings.keep(number)
        except Conflict:
            return "refused"
        return "kept"

    answers = together(app, *[keep] * 4, jobs.run_pending)[:4]
    live(jobs, payments, time, days=10)

    assert sorted(map(str, answers)) == ["kept", "refused", "refused", "refused"]
    assert paid(number) == [0, 1]
    assert_the_books_hold(number, payments)


def test_a_person_who_stops_in_the_app_before_the_end_is_done(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = ended(services, payments, jobs, time, after=24)
    payments.end("agr_1")
    pass_time(jobs, time, hours=26, step=13)
    assert subscription(number).status == SubscriptionStatus.STOPPED

    with pytest.raises(Conflict):
        endings.keep(number)
    live(jobs, payments, time, days=10)

    assert paid(number) == [0]
    assert_the_books_hold(number, payments)


def test_what_is_set_aside_is_still_captured_before_the_end(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    stop_on = endings.end_with_period(number)
    services.captures.capture(charges(number)[0].id, None)

    live(jobs, payments, time, days=(stop_on - time.at.date()) // timedelta(days=1))

    assert paid(number) == [0]
    assert subscription(number).status == CANCELLED
    assert payments.refunds == []
