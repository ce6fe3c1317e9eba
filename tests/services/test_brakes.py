"""Brakes hold what would be charged; cancels go through, and nothing is lost when they are let go of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from app import equip
from invoice.cli.processes import SETTINGS
from invoice.errors import Conflict, NotFound, ProviderUnavailable
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services import brakes
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Standing
from invoice.web import services as reach
from tests import factories
from tests.conftest import StandingClock
from tests.factories import a_partner, an_active_subscription, settle
from tests.fakes import FakePayments, FakeSms
from tests.services.asking import make, standings

PLANNED, SUBMITTED, VOID = ChargeStatus.PLANNED, ChargeStatus.SUBMITTED, ChargeStatus.VOID
PARTNER = 10295


def statuses(subscription_id: int) -> list[ChargeStatus]:
    return [charge.status for charge in factories.charges(subscription_id) if charge.period > 0]


@pytest.mark.parametrize("partner_id", [PARTNER, None])
def test_nothing_is_created_while_a_brake_is_pulled_and_all_of_it_after(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, partner_id: int | None
):
    a_partner()
    subscription_id = an_active_subscription(services, payments)
    brakes.stop(partner_id, "a look at the prices")

    time.move(days=28)
    settle(jobs)
    held = statuses(subscription_id)
    brakes.start(partner_id)
    settle(jobs)

    assert held == [PLANNED]
    assert statuses(subscription_id) == [SUBMITTED]


def test_one_partners_brake_holds_nobody_else(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    mine = an_active_subscription(services, payments)
    a_partner(10296)
    brakes.stop(10296, "by hand")

    time.move(days=28)
    settle(jobs)

    assert statuses(mine) == [SUBMITTED]


def test_a_batch_that_was_formed_before_the_brake_does_not_leave_after_it(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    subscription_id = an_active_subscription(services, payments)
    time.move(days=28)
    payments.faults.before("create", ProviderUnavailable("away"))
    settle(jobs)
    assert statuses(subscription_id) == [ChargeStatus.SUBMITTING]

    brakes.stop(None, "by hand")
    time.move(minutes=30)
    settle(jobs)
    held = (statuses(subscription_id), [name for name in payments.names() if "-p0001-" in name])
    brakes.start(None)
    settle(jobs)

    assert held == ([PLANNED], [])
    assert statuses(subscription_id) == [SUBMITTED]


def test_a_cancel_goes_through_while_charging_is_held(services: Services, payments: FakePayments, jobs: Jobs):
    a_partner()
    subscription_id = an_active_subscription(services, payments)
    brakes.stop(None, "by hand")

    services.subscriptions.cancel(subscription_id)
    settle(jobs)

    assert factories.subscription(subscription_id).status == SubscriptionStatus.CANCELLED


def test_a_charge_at_a_partners_word_is_turned_down_while_charging_is_held(services: Services, payments: FakePayments):
    a_partner()
    an_active_subscription(services, payments)
    brakes.stop(PARTNER, "by hand")

    (outcome,) = make(services, Wish(payments.newest(), 500, "Ekstra", "one"))
    brakes.start(PARTNER)
    (again,) = make(services, Wish(payments.newest(), 500, "Ekstra", "one"))

    assert isinstance(outcome.error, Conflict)
    assert "paused" in outcome.error.message
    assert standings([again]) == [Standing.DONE]


@pytest.fixture
def suspicious(app: Flask, payments: FakePayments, sms: FakeSms) -> Iterator[Services]:
    """The use cases of an application to which the smallest day may be an unlikely one."""
    usual = app.extensions[SETTINGS]
    equip(app, replace(usual, invoice_daily_floor=0), payments=payments, sms=sms)
    yield app.extensions[reach.SERVICES]
    app.extensions[SETTINGS] = usual


def test_a_day_far_beyond_all_others_is_held_until_an_operator_has_looked(
    suspicious: Services, payments: FakePayments, time: StandingClock
):
    services, jobs = suspicious, Jobs(suspicious)
    a_partner()
    first = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    assert statuses(first) == [PLANNED]  # the very first day is far beyond all others, too
    brakes.start(PARTNER)
    settle(jobs)
    time.move(days=3)
    many = [an_active_subscription(services, payments) for _ in range(2)]

    time.move(days=28)
    settle(jobs)

    held = [statuses(number) for number in many]
    (brake,) = brakes.list_all()
    brakes.start(PARTNER)
    settle(jobs)
    assert held == [[PLANNED], [PLANNED]]
    assert brake.partner_id == PARTNER
    assert "297.00" in brake.reason
    assert "99.00" in brake.reason
    assert [statuses(number) for number in many] == [[SUBMITTED], [SUBMITTED]]


def test_letting_go_of_a_brake_that_is_not_pulled_says_so(services: Services):
    a_partner()
    with pytest.raises(NotFound):
        brakes.start(PARTNER)
    with pytest.raises(NotFound):
        brakes.stop(4711, "nobody")
