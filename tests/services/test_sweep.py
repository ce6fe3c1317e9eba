"""An agreement whose draft's answer was lost is found without any webhook, once, and only when it is ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from flask import Flask

from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.models import Agreement
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    agreements,
    charges,
    event_types,
    settle,
    subscription,
    the_partner,
)
from tests.fakes import FakePayments
from tests.services.test_doubt import assert_the_books_hold, job_of, pass_time
from tests.services.test_races import together

ACTIVE, PENDING = SubscriptionStatus.ACTIVE, SubscriptionStatus.PENDING


def a_lost_draft(services: Services, payments: FakePayments) -> int:
    """Return the number of a subscription whose first draft stands at Vipps, and nobody was told."""
    payments.faults.after("draft", ProviderUncertain("timeout"))
    number = services.subscriptions.request(the_partner(), a_wish()).subscription_id
    assert agreements(number)[0].status == AgreementStatus.LOST
    return number


def asked_under_another_account(number: int) -> None:
    """Let a draft have been asked for under an account that nobody holds keys for any more."""
    agreement_id = agreements(number)[0].id
    with transaction():
        db.session.get_one(Agreement, agreement_id).account = "100000"


def sweep(jobs: Jobs) -> int:
    return job_of(jobs, "sweep").run_once()


def paid(number: int) -> list[int]:
    return [c.captured for c in charges(number)]


def test_job_sweep_finds_what_was_accepted_unseen(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")

    time.move(minutes=15)
    settle(jobs)

    assert subscription(number).status == ACTIVE
    assert [(a.attempt, a.provider_agreement_id, a.is_adopted) for a in agreements(number)] == [
        (0, None, False),
        (1, "agr_1", True),
    ]
    assert paid(number) == [9900]
    assert_the_books_hold(number, payments)


def test_while_nothing_is_lost_nothing_is_asked(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    services.subscriptions.request(a_partner(), a_wish())

    assert sweep(jobs) == 0
    assert "list_agreements" not in payments.calls


def test_what_was_found_is_found_once(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")

    found = [sweep(jobs) for _ in range(3)]
    settle(jobs)

    assert found == [1, 0, 0]
    assert len(agreements(number)) == 2


def test_what_nobody_accepted_is_left_alone(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)

    assert sweep(jobs) == 0
    assert (len(agreements(number)), subscription(number).status) == (1, PENDING)


@pytest.mark.parametrize(
    "error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("keys"), ProviderRefused("no")]
)
def test_a_list_that_fails_is_asked_for_again(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, error: ProviderError
):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")
    payments.faults.before("list_agreements", error)
    settle(jobs)
    assert subscription(number).status == PENDING

    time.move(minutes=15)
    settle(jobs)

    assert subscription(number).status == ACTIVE


@pytest.mark.parametrize("call", ["list_agreements", "find_agreement", "list_charges"])
def test_a_kill_at_any_step_takes_it_up_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, call: str
):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")
    # The fake takes no faults in its lists, so the kill comes with the call before or after it.
    if call == "list_charges":
        payments.during_look = lambda: payments.faults.before("list_charges", SystemExit())
    else:
        payments.faults.before(call, SystemExit())
    with pytest.raises(SystemExit):
        settle(jobs)

    time.move(minutes=20)
    settle(jobs)

    assert (subscription(number).status, paid(number)) == (ACTIVE, [9900])
    assert len(agreements(number)) == 2


def test_one_accounts_failure_does_not_hide_what_another_holds(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    orphan, number = a_lost_draft(services, payments), a_lost_draft(services, payments)
    asked_under_another_account(orphan)
    payments.accept("agr_2")

    with pytest.raises(ProviderDenied):
        sweep(jobs)
    settle(jobs)

    assert (subscription(number).status, subscription(orphan).status) == (ACTIVE, PENDING)


def test_an_agreement_of_another_account_is_not_ours(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number, _ = a_lost_draft(services, payments), a_lost_draft(services, payments)
    payments.accept("agr_1")
    asked_under_another_account(number)

    with pytest.raises(ProviderDenied):
        sweep(jobs)

    assert "list_agreements" in payments.calls
    assert len(agreements(number)) == 1


@pytest.mark.parametrize("external_id", ["another-shops", None])
def test_what_other_shops_hold_is_not_taken_up(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, external_id: str | None
):
    a_partner()
    a_lost_draft(services, payments)
    payments.accept("agr_1")
    agreement = payments.agreements["agr_1"]
    agreement.view = replace(agreement.view, external_id=external_id)

    assert sweep(jobs) == 0


def test_what_was_lost_for_a_week_is_not_looked_for_any_more(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    a_lost_draft(services, payments)

    time.move(days=7, seconds=-1)
    sweep(jobs)
    time.move(seconds=2)
    sweep(jobs)

    assert payments.calls.count("list_agreements") == 2  # those that live and those that ended, once


def test_while_another_draft_is_on_its_way_nothing_is_taken_up(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")
    payments.faults.after("draft", SystemExit())
    with pytest.raises(SystemExit):
        services.consents.open(subscription(number).link_token)
    assert sweep(jobs) == 0

    time.move(minutes=20)
    settle(jobs)

    assert (subscription(number).status, paid(number)) == (ACTIVE, [9900])


def test_what_was_accepted_for_a_cancelled_subscription_is_stopped_and_given_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)
    services.subscriptions.cancel(number)
    payments.accept("agr_1")

    time.move(minutes=15)
    pass_time(jobs, time, hours=2)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert payments.agreements["agr_1"].view.status == AgreementStatus.STOPPED
    [charge] = charges(number)
    assert (charge.status, charge.refunded) == (ChargeStatus.REFUNDED, 9900)


def test_a_second_yes_is_stopped_and_given_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)
    services.consents.open(subscription(number).link_token)
    accept(services, payments, number)
    payments.accept("agr_1")

    time.move(minutes=15)
    pass_time(jobs, time, hours=2)

    assert subscription(number).status == ACTIVE
    living = [i for i, a in payments.agreements.items() if a.view.status == AgreementStatus.ACTIVE]
    assert living == ["agr_2"]
    assert sorted((c.captured, c.refunded) for c in charges(number)) == [(9900, 0), (9900, 9900)]
    assert event_types(number).count("consent.surplus") == 1


def test_sweeps_and_a_webhook_at_once_take_it_up_once(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")
    ring = {"agreement_id": "agr_1", "external_id": subscription(number).ulid, "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    time.move(minutes=1)

    together(app, *[lambda: sweep(jobs)] * 3, lambda: job_of(jobs, "inbox").run_once())
    settle(jobs)

    assert (len(agreements(number)), paid(number)) == (2, [9900])
    assert event_types(number).count("subscription.activated") == 1


def test_who_accepts_unseen_and_stops_in_the_app_before_the_sweep_has_paid(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = a_lost_draft(services, payments)
    payments.accept("agr_1")
    payments.end("agr_1")

    time.move(minutes=15)
    settle(jobs)

    assert paid(number) == [9900]
