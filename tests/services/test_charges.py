"""Every period is paid once: planned, created in batches, looked at, and never twice whatever is lost."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest

from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import ChargeStatus, Interval, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock
from tests.factories import a_partner, an_active_subscription, charges, event_types, settle, subscription
from tests.fakes import FakePayments


def live(jobs: Jobs, payments: FakePayments, time: StandingClock, *, days: int, step: int = 1) -> None:
    """Let days pass, `step` at a time; when its due date has come each charge is taken."""
    for _ in range(0, days, step):
        time.move(days=step)
        settle(jobs)
        for name in payments.names():
            charge = payments.charge(name)
            if charge.status == ChargeStatus.SUBMITTED and due_of(name, payments) <= time.at.date():
                payments.settle_charge(name, ChargeStatus.CHARGED)
        settle(jobs)


def due_of(name: str, payments: FakePayments) -> date:
    for _, request in payments.batches:
        for item in json.loads(request):
            if item["name"] == name:
                return date.fromisoformat(item["due_on"])
    raise LookupError(name)


def periods(number: int) -> list[tuple[int, str, int]]:
    return [(c.period, c.due_on.isoformat(), c.captured) for c in charges(number)]


def test_a_year_of_months_is_fourteen_payments_on_the_right_days(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    time.move_to(datetime(2027, 1, 31, 11, 0, tzinfo=UTC))
    number = an_active_subscription(services, payments, campaign_amount=1000)

    live(jobs, payments, time, days=430, step=2)

    expected = ["2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30", "2027-07-31", "2027-08-31"]
    expected += ["2027-09-30", "2027-10-31", "2027-11-30", "2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31"]
    paid = [p for p in periods(number) if p[2]]
    assert paid[0] == (0, "2027-01-31", 1000)
    assert paid[1:] == [(k, due, 9900) for k, due in enumerate(expected, 1)]


@pytest.mark.parametrize(("interval", "days", "payments_made"), [(Interval.WEEK, 71, 10), (Interval.YEAR, 740, 2)])
def test_weeks_and_years_are_charged_too(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    interval: Interval,
    days: int,
    payments_made: int,
):
    a_partner()
    number = an_active_subscription(services, payments, interval=interval)

    live(jobs, payments, time, days=days, step=2 if days > 100 else 1)

    assert [p for p, _, captured in periods(number) if captured] == list(range(payments_made + 1))


def test_a_charge_is_created_three_days_before_it_is_due(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    an_active_subscription(services, payments)

    live(jobs, payments, time, days=26)
    before = len(payments.batches)
    live(jobs, payments, time, days=1)

    assert (before, len(payments.batches)) == (0, 1)
    assert json.loads(payments.batches[0][1])[0]["due_on"] == "2026-12-10"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("401")])
def test_a_batch_whose_answer_is_lost_charges_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    when: str,
    error: ProviderError,
):
    a_partner()
    number = an_active_subscription(services, payments)
    getattr(payments.faults, when)("create", error, error)

    live(jobs, payments, time, days=31)

    assert periods(number)[1][2] == 9900
    assert len(payments.names()) == 2
    assert len({key for key, _ in payments.batches}) == 1, "the same bytes go again under the same key"


def test_a_kill_in_the_call_charges_once(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    payments.faults.after("create", SystemExit())
    with pytest.raises(SystemExit):
        settle(jobs)

    live(jobs, payments, time, days=4)

    assert [p for p, _, captured in periods(number) if captured] == [0, 1]
    assert len(payments.names()) == 2


def test_a_batch_in_doubt_is_not_sent_again_once_a_member_was_cancelled(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    other = an_active_subscription(services, payments)
    time.move(days=27)
    payments.faults.before("create", ProviderUncertain("timeout"))
    settle(jobs)

    services.subscriptions.cancel(number)
    live(jobs, payments, time, days=4)

    assert [p for p, _, captured in periods(number) if captured] == [0]
    assert [p for p, _, captured in periods(other) if captured] == [0, 1]
    sent = [[item["name"] for item in json.loads(request)] for _, request in payments.batches]
    assert not any(subscription(number).ulid in name for batch in sent[1:] for name in batch)


def test_a_batch_that_was_never_sent_is_not_sent_after_a_cancel(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    payments.faults.before("create", ProviderDenied("keys"))
    settle(jobs)

    services.subscriptions.cancel(number)
    live(jobs, payments, time, days=4)

    assert payments.batches == []
    assert charges(number)[-1].status == ChargeStatus.VOID


def test_one_bad_member_harms_no_other_and_is_set_aside_with_the_reason(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    other = an_active_subscription(services, payments)
    payments.refused_names[f"{subscription(number).ulid}-p0001-a0"] = "amount too high"

    live(jobs, payments, time, days=31)

    assert charges(number)[-1].status == ChargeStatus.REFUSED
    assert charges(number)[-1].failure_reason == "amount too high"
    assert event_types(number)[-1] == "charge.refused"
    assert periods(other)[1][2] == 9900


def test_a_charge_of_our_name_that_is_not_ours_is_set_aside(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    payments.faults.after("create", ProviderUncertain("timeout"))
    settle(jobs)
    name = charges(number)[-1].name
    from dataclasses import replace  # noqa: PLC0415

    payments.agreements["agr_1"].charges[name] = replace(payments.charge(name), amount=1)

    time.move(hours=1)
    settle(jobs)

    assert event_types(number)[-1] == "charge.quarantined"
    assert charges(number)[-1].captured == 0


def test_a_failed_charge_is_told_and_the_next_period_comes(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    payments.settle_charge(charges(number)[-1].name, ChargeStatus.FAILED, reason="user_action_required")
    time.move(days=10)
    settle(jobs)
    assert charges(number)[-1].failure_reason == "user_action_required"
    assert "charge.failed" in event_types(number)

    live(jobs, payments, time, days=30)

    assert [p for p, _, captured in periods(number) if captured] == [0, 2]


def test_no_period_is_lost_after_downtime_and_no_two_dues_are_close(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    time.move(days=100)  # nothing ran
    live(jobs, payments, time, days=30)

    paid = [(p, date.fromisoformat(due)) for p, due, captured in periods(number) if captured]
    assert [p for p, _ in paid] == [0, 1, 2, 3, 4]
    gaps = [(b[1] - a[1]).days for a, b in zip(paid, paid[1:], strict=False)]
    assert min(gaps) >= 3


def test_a_batch_that_waited_past_its_date_asks_for_the_next_possible_one(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=26)
    settle(jobs)
    assert charges(number)[-1].status == ChargeStatus.PLANNED

    time.move(days=10)
    settle(jobs)

    item = json.loads(payments.batches[0][1])[0]
    assert item["name"].endswith("-p0001-a0")
    assert item["due_on"] == "2026-12-17"


def test_an_agreement_that_ended_unseen_stops_the_charging(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    payments.end("agr_1")
    payments.faults.before("find_agreement", ProviderUncertain("timeout"))

    settle(jobs)
    time.move(minutes=10)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.STOPPED
    assert [p for p, _, captured in periods(number) if captured] == [0]


def test_a_batch_is_refused_whole_without_losing_its_members(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.faults.before("create", ProviderRefused("the list is wrong"))

    live(jobs, payments, time, days=31)

    assert charges(number)[-1].status == ChargeStatus.REFUSED
    assert charges(number)[-1].failure_reason == "the list is wrong"


def test_money_arriving_after_the_last_retry_is_taken_in(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    name = charges(number)[-1].name
    payments.settle_charge(name, ChargeStatus.FAILED)
    time.move(days=10)
    settle(jobs)

    payments.settle_charge(name, ChargeStatus.CHARGED)
    services.charges.refresh(charges(number)[1].id)

    assert charges(number)[1].status == ChargeStatus.CHARGED
