"""A new price or new words: shown in the app first, then charged, and from the right period on."""

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
from invoice.lifecycle import AgreementStatus, ChangeStatus, ChargeStatus, Interval, SubscriptionStatus
from invoice.services import proof
from invoice.services.changes import NOTICE, NewTerms
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading, transaction
from invoice.store.models import Change, Partner, Subscription
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, charges, event_types, settle, subscription
from tests.fakes import FakePayments
from tests.services.test_captures import a_capture_that_dies
from tests.services.test_doubt import assert_the_books_hold, job_of, pass_time, the_name
from tests.services.test_races import together

DEARER = NewTerms(amount=10900)  # from 9900: not a large rise


def changes(number: int) -> list[Change]:
    with reading():
        found = list(db.session.scalars(db.select(Change).where(Change.subscription_id == number).order_by(Change.id)))
        db.session.expunge_all()
        return found


def amounts(number: int) -> list[tuple[int, int]]:
    return [(c.period, c.amount) for c in charges(number)]


def in_the_app(payments: FakePayments) -> int | None:
    return payments.agreements["agr_1"].view.amount


def assert_no_unseen_price(number: int, payments: FakePayments) -> None:
    """Nothing that has not been shown is charged."""
    assert_the_books_hold(number, payments)
    shown = {9900, in_the_app(payments)}
    assert {amount for _, amount in amounts(number)} <= shown
    assert {payments.charge(name).amount for name in payments.names()} <= shown
    assert subscription(number).amount in shown


def test_a_new_price_is_shown_and_then_charged(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    goes_at = services.changes.change(number, DEARER)
    settle(jobs)
    pass_time(jobs, time, hours=24 * 27, step=24)

    assert goes_at <= time.at - timedelta(days=27)
    assert in_the_app(payments) == 10900
    assert amounts(number) == [(0, 9900), (1, 10900)]
    assert payments.charge(the_name(number, 1)).amount == 10900
    [change] = changes(number)
    assert (change.status, change.amount_before, change.from_period) == (ChangeStatus.DONE, 9900, 1)
    assert event_types(number)[2:4] == ["charge.charged", "subscription.change_requested"]
    assert event_types(number)[4] == "subscription.changed"
    assert_the_books_hold(number, payments)


def test_new_words_leave_the_price_alone(services: Services, payments: FakePayments, jobs: Jobs):
    a_partner()
    number = an_active_subscription(services, payments)

    services.changes.change(number, NewTerms(name="Avisen+", description="Alt"))
    settle(jobs)

    view = payments.agreements["agr_1"].view
    assert (view.product_name, view.description, view.amount) == ("Avisen+", "Alt", 9900)
    found = subscription(number)
    assert (found.name, found.description, found.amount) == ("Avisen+", "Alt", 9900)


def test_what_is_planned_gets_the_new_price_and_what_has_left_keeps_the_old(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    first, second = an_active_subscription(services, payments), an_active_subscription(services, payments)
    time.move(days=24)
    settle(jobs)
    services.changes.change(first, DEARER)
    settle(jobs)
    time.move(days=3)
    settle(jobs)
    services.changes.change(second, DEARER)
    settle(jobs)
    pass_time(jobs, time, hours=24 * 31, step=24)

    assert [amount for _, amount in amounts(first)] == [9900, 10900, 10900]
    assert [amount for _, amount in amounts(second)] == [9900, 9900, 10900]
    assert [changes(number)[0].from_period for number in (first, second)] == [1, 2]
    for number in (first, second):
        assert_the_books_hold(number, payments)


def test_a_late_period_behind_which_another_has_left_keeps_the_price_of_its_time(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    time.move(days=16)  # we were away, and make up for two weeks: the second comes after the third
    pass_time(jobs, time, hours=24 * 2, step=1)
    payments.settle_charge(the_name(number, 1), ChargeStatus.CHARGED)
    pass_time(jobs, time, hours=24 * 2, step=1)
    assert [(c.period, c.sends) for c in charges(number)] == [(0, 0), (1, 1), (2, 0), (3, 1)]

    services.changes.change(number, DEARER)
    pass_time(jobs, time, hours=24 * 5, step=1)

    assert amounts(number) == [(0, 9900), (1, 9900), (2, 9900), (3, 9900), (4, 10900)]
    assert changes(number)[0].from_period == 4
    assert proof.examine() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["update", "find_agreement"])
@pytest.mark.parametrize("error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("keys")])
def test_a_change_whose_answer_is_lost_happens_and_counts_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    when: str,
    call: str,
    error: ProviderError,
):
    a_partner()
    number = an_active_subscription(services, payments)
    getattr(payments.faults, when)(call, error, error)

    services.changes.change(number, DEARER)
    for _ in range(5):
        settle(jobs)
        assert_no_unseen_price(number, payments)
        time.move(hours=1)

    assert (in_the_app(payments), subscription(number).amount) == (10900, 10900)
    assert event_types(number).count("subscription.changed") == 1


def test_a_refused_change_leaves_everything_as_it_was(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.faults.before("update", ProviderRefused("Illegal update"))

    services.changes.change(number, DEARER)
    pass_time(jobs, time, hours=2)

    assert (in_the_app(payments), subscription(number).amount, payments.calls.count("update")) == (9900, 9900, 1)
    assert (changes(number)[0].status, event_types(number)[-1]) == (ChangeStatus.FAILED, "subscription.change_failed")
    services.changes.change(number, DEARER)
    settle(jobs)
    assert subscription(number).amount == 10900


def test_a_refusal_of_what_the_app_shows_already_is_no_failure(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.faults.after("update", ProviderRefused("the key is used"))

    services.changes.change(number, DEARER)
    pass_time(jobs, time, hours=2)

    assert (in_the_app(payments), subscription(number).amount) == (10900, 10900)


@pytest.mark.parametrize(
    ("call", "when"),
    [("update", "before"), ("update", "after"), ("find_agreement", "before"), ("find_agreement", "answered")],
)
def test_a_kill_at_any_step_changes_the_price_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, call: str, when: str
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, DEARER)
    a_capture_that_dies(payments, call, when)
    with pytest.raises(SystemExit):
        settle(jobs)
    assert subscription(number).amount == 9900

    pass_time(jobs, time, hours=2)

    assert (in_the_app(payments), subscription(number).amount) == (10900, 10900)
    assert event_types(number).count("subscription.changed") == 1


def test_what_the_app_does_not_show_yet_is_not_charged(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=24)
    settle(jobs)
    payments.acts_late = True
    services.changes.change(number, DEARER)
    pass_time(jobs, time, hours=24 * 4, step=6)
    assert amounts(number) == [(0, 9900), (1, 9900)]
    with pytest.raises(Conflict, match="on its way"):
        services.changes.change(number, NewTerms(amount=9000))

    payments.catch_up()
    pass_time(jobs, time, hours=24 * 31, step=24)

    assert amounts(number) == [(0, 9900), (1, 9900), (2, 10900)]
    assert changes(number)[0].from_period == 2
    assert_no_unseen_price(number, payments)


# A large rise


def test_a_large_rise_waits_for_its_notice(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock):
    a_partner()
    number = an_active_subscription(services, payments)
    asked_at = time.at

    goes_at = services.changes.change(number, NewTerms(amount=11881))
    pass_time(jobs, time, hours=24 * 30 - 1, step=24 * 30 - 1)
    pass_time(jobs, time, hours=1)

    assert goes_at == asked_at + NOTICE
    assert amounts(number) == [(0, 9900), (1, 9900)], "it left the house before the notice was over"
    assert (in_the_app(payments), subscription(number).amount) == (11881, 11881)


@pytest.mark.parametrize(("amount", "is_large"), [(11880, False), (11881, True), (5000, False), (49500, True)])
def test_a_rise_is_large_above_a_fifth(
    services: Services, payments: FakePayments, time: StandingClock, amount: int, is_large: bool
):
    a_partner()
    number = an_active_subscription(services, payments)

    goes_at = services.changes.change(number, NewTerms(amount=amount))

    assert (goes_at > time.at) is is_large


def test_a_rise_that_waits_is_replaced_by_what_is_asked_for_next(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, NewTerms(amount=20000))

    services.changes.change(number, NewTerms(amount=9000))
    pass_time(jobs, time, hours=24 * 31, step=24 * 31)

    assert [c.status for c in changes(number)] == [ChangeStatus.VOID, ChangeStatus.DONE]
    assert (in_the_app(payments), payments.calls.count("update")) == (9000, 1)


def test_more_than_five_times_the_price_needs_a_new_consent(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    with pytest.raises(Conflict, match="new subscription"):
        services.changes.change(number, NewTerms(amount=49501))

    assert changes(number) == []


@pytest.mark.parametrize("amount", [0, -1, 99, 2_000_001])
def test_an_amount_that_vipps_does_not_take_is_refused(services: Services, payments: FakePayments, amount: int):
    a_partner()
    number = an_active_subscription(services, payments)

    with pytest.raises(Invalid):
        services.changes.change(number, NewTerms(amount=amount))

    assert changes(number) == []


def test_a_change_of_nothing_is_refused_and_replaces_nothing(services: Services, payments: FakePayments):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, NewTerms(amount=20000))

    with pytest.raises(Invalid):
        services.changes.change(number, NewTerms())

    assert [c.status for c in changes(number)] == [ChangeStatus.REQUESTED]


# Other states, and what races it


def test_only_what_is_active_can_be_changed(services: Services, payments: FakePayments, jobs: Jobs):
    pending = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    with pytest.raises(Conflict):
        services.changes.change(pending, DEARER)
    ended = an_active_subscription(services, payments)
    services.subscriptions.cancel(ended)
    with pytest.raises(Conflict):
        services.changes.change(ended, DEARER)
    settle(jobs)
    with pytest.raises(Conflict):
        services.changes.change(ended, DEARER)


def test_a_rise_whose_subscription_ends_first_never_reaches_the_app(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, NewTerms(amount=20000))
    services.subscriptions.cancel(number)

    pass_time(jobs, time, hours=24 * 31, step=24 * 31)

    assert "update" not in payments.calls
    assert (changes(number)[0].status, subscription(number).amount) == (ChangeStatus.VOID, 9900)
    assert "subscription.changed" not in event_types(number)


def test_a_cancel_in_the_middle_of_a_change_changes_no_price(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, DEARER)
    payments.during_look = lambda: services.subscriptions.cancel(number)

    pass_time(jobs, time, hours=2)

    assert (changes(number)[0].status, subscription(number).amount) == (ChangeStatus.VOID, 9900)
    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert_the_books_hold(number, payments)


def test_a_person_who_stops_in_the_app_meanwhile_is_charged_nothing_new(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, DEARER)
    payments.end("agr_1", AgreementStatus.STOPPED)

    pass_time(jobs, time, hours=30, step=6)

    assert (changes(number)[0].status, subscription(number).amount) == (ChangeStatus.FAILED, 9900)
    assert subscription(number).status == SubscriptionStatus.STOPPED


def test_of_two_changes_at_once_the_app_and_the_books_say_the_same(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    def change(amount: int) -> str:
        try:
            services.changes.change(number, NewTerms(amount=amount))
        except Conflict:
            return "refused"
        return "accepted"

    answers = together(app, *[lambda n=n: change(10000 + n) for n in range(4)])
    together(app, *[lambda: job_of(jobs, "operations").run_once()] * 3)
    pass_time(jobs, time, hours=2)

    assert set(answers) == {"accepted"}
    assert Counter(c.status for c in changes(number)) == {ChangeStatus.VOID: 3, ChangeStatus.DONE: 1}
    assert in_the_app(payments) == subscription(number).amount == changes(number)[-1].amount


def test_a_change_that_races_planning_and_the_charge_run_is_charged_from_one_period_on(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(10)]
    time.move(days=27)

    def change_all() -> None:
        for number in numbers:
            services.changes.change(number, DEARER)
            job_of(jobs, "operations").run_once()

    together(app, change_all, *[lambda: [jobs.run_pending() for _ in range(4)]] * 2)
    pass_time(jobs, time, hours=24 * 31, step=24)

    for number in numbers:
        [change] = changes(number)
        assert change.from_period is not None
        assert amounts(number)[1:] == [(k, 10900 if k >= change.from_period else 9900) for k in (1, 2)]
        assert_the_books_hold(number, payments)


def test_a_change_cannot_replace_one_that_may_have_reached_the_app(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.faults.before("find_agreement", ProviderUnavailable("429"))
    services.changes.change(number, DEARER)
    settle(jobs)
    assert in_the_app(payments) == 10900

    with pytest.raises(Conflict, match="on its way"):
        services.changes.change(number, NewTerms(name="Avisen+"))
    pass_time(jobs, time, hours=1)

    assert subscription(number).amount == 10900


def test_a_webhook_in_the_middle_of_a_change_is_heard(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, DEARER)

    def stopped_in_the_app() -> None:
        payments.end("agr_1")
        ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": None}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    payments.during_look = stopped_in_the_app
    pass_time(jobs, time, hours=1)

    assert subscription(number).status == SubscriptionStatus.STOPPED
    assert_no_unseen_price(number, payments)


def test_what_was_sent_once_and_waits_again_keeps_its_price(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    time.move(days=27)
    settle(jobs)
    ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name, "says_not_created": True}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    with transaction():
        db.session.get_one(Partner, partner.id).suspended_at = time.at  # so that it waits
    pass_time(jobs, time, hours=1)
    assert (charges(number)[-1].status, charges(number)[-1].sends) == (ChargeStatus.PLANNED, 1)

    services.changes.change(number, DEARER)
    settle(jobs)
    payments.hidden.clear()
    pass_time(jobs, time, hours=30, step=6)

    assert "charge.quarantined" not in event_types(number)
    assert_the_books_hold(number, payments)


def test_a_price_that_the_portal_changed_is_not_ours(services: Services, payments: FakePayments, jobs: Jobs):
    a_partner()
    number = an_active_subscription(services, payments)
    agreement = payments.agreements["agr_1"]
    agreement.view = replace(agreement.view, amount=12345)

    services.changes.change(number, NewTerms(name="Avisen+"))
    settle(jobs)

    with reading():
        assert db.session.get_one(Subscription, number).amount == 9900
