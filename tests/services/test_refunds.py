"""Money goes back once, decided by the provider's own sum."""

from __future__ import annotations

import pytest

from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import ChargeStatus
from invoice.services import refunds
from invoice.services.jobs import Jobs, Services
from invoice.store import queries
from invoice.store.db import transaction
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, charges, event_types, settle
from tests.fakes import FakePayments


def accepted_after_the_cancel(services: Services, payments: FakePayments) -> int:
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    services.subscriptions.cancel(number)
    payments.accept("agr_1")
    return number


def _a_few_rounds(jobs: Jobs, time: StandingClock) -> None:
    for _ in range(5):
        time.move(minutes=10)
        settle(jobs)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("keys")])
def test_a_refund_whose_answer_is_lost_happens_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    when: str,
    error: ProviderError,
):
    number = accepted_after_the_cancel(services, payments)
    getattr(payments.faults, when)("refund", error, error)

    for _ in range(20):
        settle(jobs)
        time.move(minutes=10)

    name = charges(number)[0].name
    assert payments.charge(name).refunded == 9900
    assert len(payments.refunds) == 1
    assert charges(number)[0].status == ChargeStatus.REFUNDED


def test_a_kill_in_the_refund_gives_back_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = accepted_after_the_cancel(services, payments)
    payments.faults.after("refund", SystemExit())
    with pytest.raises(SystemExit):
        _a_few_rounds(jobs, time)

    _a_few_rounds(jobs, time)

    assert len(payments.refunds) == 1
    assert charges(number)[0].refunded == 9900


def test_all_the_money_goes_back_after_an_outage_of_any_length(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = accepted_after_the_cancel(services, payments)
    payments.faults.before("refund", *[ProviderUncertain("timeout")] * 100)

    for _ in range(110):
        settle(jobs)
        time.move(hours=1)

    assert payments.charge(charges(number)[0].name).refunded == 9900
    assert len(payments.refunds) == 1


def test_a_part_that_is_unknown_for_a_day_is_left_to_an_operator(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, caplog: pytest.LogCaptureFixture
):
    a_partner()
    number = an_active_subscription(services, payments)
    with transaction():
        subscription = queries.lock_subscription(number)
        charge = queries.charges_of(number)[0]
        refunds.request(subscription, charge, 100, "goodwill")
    payments.faults.before("refund", *[ProviderUncertain("timeout")] * 300)
    for _ in range(30):
        settle(jobs)
        time.move(hours=1)
    sent_within_a_day = payments.calls.count("refund")

    for _ in range(30):
        settle(jobs)
        time.move(hours=1)

    assert payments.calls.count("refund") == sent_within_a_day
    assert "an operator decides" in caplog.text


def test_a_refused_refund_is_told_and_not_repeated(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = accepted_after_the_cancel(services, payments)
    payments.faults.before("refund", ProviderRefused("Refund is not possible"))

    for _ in range(5):
        settle(jobs)
        time.move(minutes=30)

    assert payments.calls.count("refund") == 1
    assert "refund.failed" in event_types(number)
