"""Several workers at once, each with its own connection: one outcome, whoever comes first."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from invoice.errors import Conflict
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    agreements,
    an_active_subscription,
    charges,
    event_types,
    settle,
    subscription,
)
from tests.fakes import FakePayments, FakeSms

WORKERS = 4


def together(app: Flask, *tasks: Callable[[], object]) -> list[object]:
    """Run tasks at the same moment, each in a thread with an application context of its own."""
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> object:
        with app.app_context():
            start.wait(timeout=30)
            return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, task) for task in tasks]]


def test_four_workers_plan_and_submit_each_period_once(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(40)]
    time.move(days=27)

    together(app, *[lambda: [jobs.run_pending() for _ in range(6)]] * WORKERS)
    settle(jobs)

    sent = Counter(name for name in payments.names() if "-p0001-" in name)
    assert sorted(sent.values()) == [1] * len(numbers)
    assert {charges(number)[-1].status for number in numbers} == {ChargeStatus.SUBMITTED}
    assert all(len(charges(number)) == 2 for number in numbers)


def test_a_cancel_that_races_the_charge_run_leaves_nothing_to_pay(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(20)]
    time.move(days=27)

    def cancel_all() -> None:
        for number in numbers:
            services.subscriptions.cancel(number)

    together(app, cancel_all, *[lambda: [jobs.run_pending() for _ in range(8)]] * 3)
    settle(jobs)

    for number in numbers:
        assert subscription(number).status == SubscriptionStatus.CANCELLED
        assert charges(number)[-1].status in (ChargeStatus.VOID, ChargeStatus.CANCELLED, ChargeStatus.CHARGED)
        assert event_types(number).count("subscription.cancelled") == 1
    living = [n for n in payments.names() if payments.charge(n).status == ChargeStatus.SUBMITTED]
    assert living == []


def test_many_cancels_of_one_subscription_are_one(app: Flask, services: Services, payments: FakePayments, jobs: Jobs):
    a_partner()
    number = an_active_subscription(services, payments)

    def cancel() -> str:
        try:
            services.subscriptions.cancel(number)
        except Conflict:
            return "refused"
        return "accepted"

    answers = together(app, *[cancel] * 8)

    assert Counter(answers) == {"accepted": 1, "refused": 7}
    assert event_types(number).count("subscription.cancelling") == 1


def test_many_posts_with_one_order_number_are_one_subscription(
    app: Flask, services: Services, payments: FakePayments, sms: FakeSms, jobs: Jobs
):
    partner = a_partner()
    wish = a_wish(order_number="7", send_sms=True)

    answers = together(app, *[lambda: services.subscriptions.request(partner, wish)] * 8)
    settle(jobs)

    assert len(set(answers)) == 1
    assert payments.calls.count("draft") == 1
    assert len(sms.sent) == 1


def test_many_presses_at_once_draft_once(app: Flask, services: Services, payments: FakePayments, time: StandingClock):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    token = subscription(number).link_token
    time.move(minutes=11)

    opened = together(app, *[lambda: services.consents.open(token)] * 8)

    assert payments.calls.count("draft") == 2
    assert len(agreements(number)) == 2
    assert {o.url for o in opened if o.url} == {"https://api.vipps.no/landing/agr_2"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("looks", [6])
def test_many_looks_at_an_acceptance_activate_once(app: Flask, services: Services, payments: FakePayments, looks: int):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.accept("agr_1")
    agreement_id = agreements(number)[-1].id

    together(app, *[lambda: services.consents.refresh(agreement_id)] * looks)

    assert event_types(number).count("subscription.activated") == 1
    assert [c.period for c in charges(number)] == [0]
    assert event_types(number).count("charge.charged") == 1
