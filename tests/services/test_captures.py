"""Money that is set aside is taken once, in full or in parts, and never more of it than that; its deadline is told."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask

from invoice.errors import (
    Conflict,
    Invalid,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.models import Charge, Subscription
from tests.bending import bending
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    charges,
    event_types,
    settle,
    subscription,
)
from tests.fakes import FakePayments
from tests.services.test_doubt import assert_the_books_hold, job_of, pass_time
from tests.services.test_races import together


def a_reservation(services: Services, payments: FakePayments, time: StandingClock, *, market: str = "NO") -> int:
    """Return the number of an active subscription whose 99 kr of the signing are only set aside."""
    currency = {"NO": "NOK", "DK": "DKK", "FI": "EUR"}[market]
    number = services.subscriptions.request(a_partner(market=market), a_wish(currency=currency)).subscription_id
    with transaction():
        db.session.get_one(Subscription, number).reserves_initial = True
    payments.end("agr_1", AgreementStatus.EXPIRED)
    time.move(minutes=5)
    services.consents.open(subscription(number).link_token)
    accept(services, payments, number)
    return number


def reserved(number: int) -> Charge:
    [charge] = [c for c in charges(number) if c.is_reserved]
    return charge


def taken(number: int, payments: FakePayments) -> tuple[int, int]:
    """What is captured: in our books, and at Vipps."""
    assert_the_books_hold(number, payments)
    charge = reserved(number)
    return charge.captured, payments.charge(charge.name).captured


def a_capture_that_dies(payments: FakePayments, call: str, when: str) -> None:
    """Have the worker killed before or after a call, or when a look's answer has come and is not written down."""
    if when == "answered":
        payments.during_look = die
    else:
        getattr(payments.faults, when)(call, SystemExit())


def die() -> None:
    raise SystemExit


def test_what_is_set_aside_is_taken_when_it_is_asked_for(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    assert taken(number, payments) == (0, 0)

    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (9900, 9900)
    assert reserved(number).status == ChargeStatus.CHARGED
    assert (reserved(number).capture_by, reserved(number).warn_at) == (None, None)
    assert event_types(number)[-2:] == ["charge.reserved", "charge.charged"]


def test_parts_come_to_the_whole_and_no_further(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    for part in (3000, 3000, None):
        services.captures.capture(reserved(number).id, part)
        settle(jobs)

    with pytest.raises(Conflict):
        services.captures.capture(reserved(number).id, 100)

    assert taken(number, payments) == (9900, 9900)
    assert [amount for _, amount, _ in payments.captures] == [3000, 3000, 3900]
    assert len({key for _, _, key in payments.captures}) == 3


def test_the_next_part_is_counted_from_the_last_one_before_any_look(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, 3000)
    job_of(jobs, "operations").run_once()

    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (9900, 9900)
    assert "capture.failed" not in event_types(number)


@pytest.mark.parametrize("amount", [0, -1, 99, 9901, 10**12])
def test_an_amount_that_is_not_there_is_refused(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, amount: int
):
    number = a_reservation(services, payments, time)

    with pytest.raises(Invalid):
        services.captures.capture(reserved(number).id, amount)
    settle(jobs)

    assert "capture" not in payments.calls


@pytest.mark.parametrize("amount", [3000, None])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("keys")])
def test_a_capture_whose_answer_is_lost_happens_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    when: str,
    error: ProviderError,
    amount: int | None,
):
    number = a_reservation(services, payments, time)
    getattr(payments.faults, when)("capture", error, error)

    services.captures.capture(reserved(number).id, amount)
    pass_time(jobs, time, hours=3)

    assert taken(number, payments) == (amount or 9900, amount or 9900)
    assert len(payments.captures) == 1


def test_a_refused_capture_takes_nothing_is_told_and_may_be_asked_for_again(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.faults.before("capture", ProviderRefused("not now"))
    services.captures.capture(reserved(number).id, None)
    pass_time(jobs, time, hours=2)
    assert taken(number, payments) == (0, 0)
    assert (payments.calls.count("capture"), event_types(number)[-1]) == (1, "capture.failed")

    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (9900, 9900)


def test_a_refusal_of_what_an_earlier_try_has_taken_is_no_failure(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.faults.after("capture", ProviderRefused("it is captured already"))

    services.captures.capture(reserved(number).id, 3000)
    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == (3000, 3000)
    assert "capture.failed" not in event_types(number)


@pytest.mark.parametrize("amount", [3000, None])
@pytest.mark.parametrize(
    ("call", "when"),
    [("find_charge", "before"), ("find_charge", "answered"), ("capture", "before"), ("capture", "after")],
)
def test_a_kill_at_any_step_takes_the_money_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    call: str,
    when: str,
    amount: int | None,
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, amount)
    a_capture_that_dies(payments, call, when)
    with pytest.raises(SystemExit):
        settle(jobs)

    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == (amount or 9900, amount or 9900)
    assert len(payments.captures) == 1


def test_a_kill_after_the_capture_was_read_back_takes_the_money_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, 3000)

    def when_it_is_taken() -> None:
        if payments.captures:
            raise SystemExit
        payments.during_look = when_it_is_taken

    payments.during_look = when_it_is_taken
    with pytest.raises(SystemExit):
        settle(jobs)
    payments.captures.clear()  # Vipps has forgotten the key

    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == (3000, 3000)


def test_what_was_only_accepted_is_not_believed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.acts_late = True
    services.captures.capture(reserved(number).id, 3000)
    pass_time(jobs, time, hours=2)
    assert taken(number, payments) == (0, 0)
    with pytest.raises(Conflict, match="under way"):
        services.captures.capture(reserved(number).id, 3000)

    payments.catch_up()
    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == (3000, 3000)
    assert len(payments.captures) == 1


def test_what_may_have_been_accepted_is_not_sent_again_within_a_minute(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.acts_late = True
    services.captures.capture(reserved(number).id, 3000)
    settle(jobs)
    payments.captures.clear()  # a Vipps that keeps no keys

    for _ in range(50):
        time.move(seconds=1)
        settle(jobs)
    assert payments.captures == []
    payments.catch_up()
    pass_time(jobs, time, hours=2)

    assert payments.captures == []
    assert taken(number, payments) == (3000, 3000)


def test_a_part_that_does_not_show_for_a_day_is_never_sent_again(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.acts_late = True
    services.captures.capture(reserved(number).id, 3000)
    pass_time(jobs, time, hours=23)
    payments.captures.clear()  # from now on Vipps may have forgotten the key
    time.move(hours=2)
    pass_time(jobs, time, hours=4)
    assert payments.captures == []
    assert event_types(number)[-1] == "capture.failed"

    payments.catch_up()
    pass_time(jobs, time, hours=25)

    assert taken(number, payments) == (3000, 3000)


def test_a_part_in_doubt_is_not_taken_for_one_that_was_made_in_vipps_portal(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    name = reserved(number).name
    payments.agreements["agr_2"].charges[name] = replace(payments.charge(name), captured=3000)
    payments.faults.before("capture", ProviderUncertain("timeout"))

    services.captures.capture(reserved(number).id, 3000)
    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == (6000, 6000)


def test_more_than_vipps_has_left_is_told_as_refused_and_looked_at(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    name = reserved(number).name
    payments.agreements["agr_2"].charges[name] = replace(payments.charge(name), captured=3000)

    services.captures.capture(reserved(number).id, None)
    settle(jobs)
    assert (payments.captures, event_types(number)[-1]) == ([], "capture.failed")
    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (9900, 9900)


def test_what_was_captured_whole_in_vipps_portal_is_captured(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.settle_charge(reserved(number).name, ChargeStatus.CHARGED)

    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (9900, 9900)
    assert payments.captures == []
    assert event_types(number)[-1] == "charge.charged"


def test_of_many_captures_at_once_one_is_accepted(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    charge_id = reserved(number).id

    def capture() -> str:
        try:
            services.captures.capture(charge_id, 3000)
        except Conflict:
            return "refused"
        return "accepted"

    answers = together(app, *[capture] * 6)
    together(app, *[lambda: job_of(jobs, "operations").run_once()] * 3)
    settle(jobs)

    assert Counter(answers) == {"accepted": 1, "refused": 5}
    assert taken(number, payments) == (3000, 3000)


def test_a_worker_that_wakes_up_late_counts_nothing_anew(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, 3000)

    def asleep_past_the_lease() -> None:
        time.move(minutes=3)
        payments.during_look = None
        assert job_of(jobs, "operations").run_once() == 1  # another worker does it all

    payments.during_look = asleep_past_the_lease
    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == (3000, 3000)
    assert len(payments.captures) == 1


# Other states, and what races it


@pytest.mark.parametrize("status", sorted(set(ChargeStatus) - {ChargeStatus.RESERVED}))
def test_what_is_not_set_aside_cannot_be_captured(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, status: ChargeStatus
):
    number = a_reservation(services, payments, time)
    charge_id = reserved(number).id
    with bending():
        db.session.get_one(Charge, charge_id).status = status

    with pytest.raises(Conflict):
        services.captures.capture(charge_id, None)


@pytest.mark.parametrize("change", [{"is_surplus": True}, {"capture_by": timedelta(0)}, {"captured": 9900}])
def test_what_is_given_back_too_late_or_used_up_cannot_be_captured(
    services: Services, payments: FakePayments, time: StandingClock, change: dict[str, object]
):
    number = a_reservation(services, payments, time)
    charge_id = reserved(number).id
    with transaction():
        for name, value in change.items():
            moment = time.at + value if isinstance(value, timedelta) else value
            setattr(db.session.get_one(Charge, charge_id), name, moment)

    with pytest.raises(Conflict):
        services.captures.capture(charge_id, None)


def test_after_a_cancel_nothing_is_captured_and_vipps_lets_go(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.subscriptions.cancel(number)

    with pytest.raises(Conflict, match="cancelled"):
        services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (0, 0)
    assert reserved(number).status == ChargeStatus.CANCELLED
    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_a_cancel_waits_for_a_capture_that_was_asked_for_before_it(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.faults.before("capture", *[ProviderUncertain("timeout")] * 3)
    services.captures.capture(reserved(number).id, None)
    settle(jobs)
    services.subscriptions.cancel(number)
    settle(jobs)
    assert (subscription(number).status, "stop" in payments.calls) == (SubscriptionStatus.CANCELLING, False)

    pass_time(jobs, time, hours=5)

    assert taken(number, payments) == (9900, 9900)
    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert payments.refunds == [], "it was owed before the cancel"


def test_a_cancel_does_not_wait_longer_than_a_day_for_a_part_that_never_shows(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.faults.before("capture", *[ProviderUncertain("timeout")] * 1000)
    services.captures.capture(reserved(number).id, 3000)
    settle(jobs)
    services.subscriptions.cancel(number)

    pass_time(jobs, time, hours=27)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert taken(number, payments) == (0, 0)


def test_a_cancel_and_a_capture_at_once_leave_no_money_without_a_word(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    charge_id = reserved(number).id

    def capture() -> None:
        try:
            services.captures.capture(charge_id, None)
        except Conflict:
            accepted.append(False)
        else:
            accepted.append(True)

    accepted: list[bool] = []
    together(app, lambda: services.subscriptions.cancel(number), capture)
    pass_time(jobs, time, hours=2)

    assert taken(number, payments) == ((9900, 9900) if accepted[0] else (0, 0))
    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_what_the_person_stops_in_the_app_leaves_the_reservation_to_be_captured(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    agreement = payments.agreements["agr_2"]
    agreement.view = replace(agreement.view, status=AgreementStatus.STOPPED)
    pass_time(jobs, time, hours=26)
    assert subscription(number).status == SubscriptionStatus.STOPPED

    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (9900, 9900)
    assert payments.refunds == []


def test_a_part_that_was_taken_stays_when_the_rest_is_let_go(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, 3000)
    settle(jobs)

    services.cancels.cancel(reserved(number).id)
    with pytest.raises(Conflict, match="given back"):
        services.captures.capture(reserved(number).id, None)
    settle(jobs)

    assert taken(number, payments) == (3000, 3000)
    assert reserved(number).status == ChargeStatus.CHARGED
    assert "charge.cancel_failed" not in event_types(number)


@pytest.mark.parametrize("first", ["capture", "cancel"])
def test_a_capture_and_a_cancel_of_one_charge_come_to_one_end(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, first: str
):
    number = a_reservation(services, payments, time)
    payments.faults.before(first if first == "capture" else "cancel_charge", ProviderUnavailable("429"))
    services.captures.capture(reserved(number).id, 3000)
    services.cancels.cancel(reserved(number).id)

    pass_time(jobs, time, hours=3)

    ours, theirs = taken(number, payments)
    assert ours == theirs
    assert ours in (0, 3000)
    assert reserved(number).status == (ChargeStatus.CHARGED if ours else ChargeStatus.CANCELLED)


def test_a_webhook_that_rings_while_the_capture_is_read_back_is_heard(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    name = reserved(number).name
    services.captures.capture(reserved(number).id, None)

    def refunded_in_the_portal() -> None:
        if not payments.captures:
            payments.during_look = refunded_in_the_portal
            return
        payments.refunds.append((name, 9900, "portal"))
        whole = replace(payments.charge(name), refunded=9900, status=ChargeStatus.REFUNDED)
        payments.agreements["agr_2"].charges[name] = whole
        ring = {"agreement_id": "agr_2", "external_id": None, "charge_name": name}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    payments.during_look = refunded_in_the_portal
    settle(jobs)

    assert reserved(number).status == ChargeStatus.REFUNDED
    assert taken(number, payments) == (9900, 9900)


# The deadline


@pytest.mark.parametrize(("market", "warned_after", "lost_after"), [("NO", 173, 180), ("DK", 10.5, 14)])
def test_job_reservations_tells_of_the_deadline_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    market: str,
    warned_after: float,
    lost_after: int,
):
    number = a_reservation(services, payments, time, market=market)
    assert reserved(number).capture_by == time.at + timedelta(days=lost_after)
    time.move(days=warned_after, seconds=-1)
    assert job_of(jobs, "reservations").run_once() == 0

    time.move(seconds=1)
    done = [job_of(jobs, "reservations").run_once() for _ in range(3)]

    assert done == [1, 0, 0]
    assert event_types(number).count("charge.capture_due") == 1


def test_what_was_captured_is_not_warned_of(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, None)
    settle(jobs)

    time.move(days=179)

    assert job_of(jobs, "reservations").run_once() == 0
    assert "charge.capture_due" not in event_types(number)


def test_a_part_keeps_the_deadline_of_the_rest(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    deadline = reserved(number).capture_by
    time.move(days=10)
    services.captures.capture(reserved(number).id, 3000)
    settle(jobs)

    assert (reserved(number).capture_by, reserved(number).status) == (deadline, ChargeStatus.RESERVED)


def test_what_vipps_lets_go_of_is_seen_within_a_day_and_no_longer_captured(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    payments.settle_charge(reserved(number).name, ChargeStatus.CANCELLED)
    services.captures.capture(reserved(number).id, None)
    pass_time(jobs, time, hours=25, step=5)

    assert taken(number, payments) == (0, 0)
    assert event_types(number)[-2:] == ["capture.failed", "charge.cancelled"]
    with pytest.raises(Conflict):
        services.captures.capture(reserved(number).id, None)


def test_renewals_are_taken_at_once_and_never_wait_for_a_capture(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    with pytest.raises(Conflict, match="CHARGED"):
        services.captures.capture(charges(number)[0].id, None)
