"""Every period is paid once: planned, created in batches, looked at, and never twice whatever is lost."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import ChargeStatus, Interval, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock
from tests.factories import a_partner, an_active_subscription, charges, event_types, settle, subscription
from tests.fakes import FakePayments
from tests.services.test_doubt import assert_the_books_hold, pass_time, the_name


def live(jobs: Jobs, payments: FakePayments, time: StandingClock, *, days: int, step: int = 1) -> None:
    """Let days pass, `step` at a time; when its due date has come each charge is taken."""
    for _ in range(0, days, step):
        time.move(days=step)
        settle(jobs)
        open_ones = [name for name in payments.names() if payments.charge(name).status == ChargeStatus.SUBMITTED]
        due = [name for name in open_ones if due_of(name, payments) <= time.at.date()]
        for name in due:
            payments.settle_charge(name, ChargeStatus.CHARGED)
        if due:
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


@pytest.mark.parametrize(("interval", "days", "payments_made"), [(Interval.WEEK, 71, 10), (Interval.YEAR, 371, 1)])
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

    live(jobs, payments, time, days=days - 31, step=10 if interval == Interval.YEAR else 1)
    live(jobs, payments, time, days=31)

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


# Sent again, and not for ever


def not_created(services: Services, name: str, number: int = 0) -> None:
    """Vipps says that a charge that it took in could not be created."""
    body = {"agreement_id": "agr_1", "external_id": str(number), "charge_name": name, "says_not_created": True}
    services.inbox.take_webhook(json.dumps(body).encode(), "123456")


def sent_names(payments: FakePayments) -> list[list[str]]:
    return [[item["name"] for item in json.loads(request)] for _, request in payments.batches]


def test_what_vipps_could_not_create_is_sent_again_after_ten_minutes_under_its_name(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    time.move(days=27)
    settle(jobs)
    not_created(services, name)
    for _ in range(9):
        settle(jobs)
        time.move(minutes=1)
    assert sent_names(payments) == [[name]]

    for _ in range(5):
        settle(jobs)
        time.move(minutes=1)
    payments.hidden.clear()
    pass_time(jobs, time, hours=1)

    assert sent_names(payments) == [[name], [name]]
    assert len({key for key, _ in payments.batches}) == 2
    assert (charges(number)[-1].status, charges(number)[-1].sends) == (ChargeStatus.SUBMITTED, 2)
    assert_the_books_hold(number, payments)


def test_what_shows_at_vipps_all_the_same_is_not_sent_again(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)

    not_created(services, the_name(number, 1))
    pass_time(jobs, time, hours=1)

    assert len(payments.batches) == 1
    assert (charges(number)[-1].status, charges(number)[-1].failure_reason) == (ChargeStatus.SUBMITTED, None)


def test_a_charge_is_sent_three_times_and_is_then_an_operators(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    time.move(days=27)
    for try_number in range(6):
        settle(jobs)
        not_created(services, name, try_number)
        pass_time(jobs, time, hours=1)

    assert sent_names(payments) == [[name]] * 3
    assert (charges(number)[-1].status, charges(number)[-1].sends) == (ChargeStatus.REFUSED, 3)
    assert event_types(number).count("charge.refused") == 1
    pass_time(jobs, time, hours=24 * 40, step=24)
    assert sent_names(payments).count([name]) == 3
    assert [c.period for c in charges(number)] == [0, 1, 2], "the period after it comes"


def test_an_account_cannot_have_anothers_charge_sent_again(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.hidden.add(the_name(number, 1))
    time.move(days=27)
    settle(jobs)
    body = {"agreement_id": "agr_1", "external_id": None, "charge_name": the_name(number, 1), "says_not_created": True}

    services.inbox.take_webhook(json.dumps(body).encode(), "100000")
    services.inbox.take_webhook(json.dumps({**body, "account": "100000"}).encode(), "123456")
    pass_time(jobs, time, hours=2)

    assert len(payments.batches) == 1


def test_a_neighbour_that_spoils_the_list_does_not_use_up_a_charges_tries(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(8)]
    payments.spoils_batches.add(the_name(numbers[0], 1))
    good = the_name(numbers[1], 1)
    payments.hidden.add(good)
    time.move(days=27)
    settle(jobs)
    assert charges(numbers[1])[-1].sends == 1

    not_created(services, good)
    pass_time(jobs, time, hours=1)

    assert charges(numbers[1])[-1].sends == 2
    assert "charge.refused" not in event_types(numbers[1])


@pytest.mark.parametrize("minutes", [-6, 6])
def test_nothing_is_created_while_our_clock_is_wrong(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, minutes: int
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.skew = timedelta(minutes=minutes)
    time.move(days=27)
    pass_time(jobs, time, hours=12)
    assert ("create" in payments.calls, charges(number)[-1].status) == (False, ChargeStatus.SUBMITTING)

    payments.skew = timedelta(minutes=minutes) * 5 / 6  # five minutes are what is borne
    pass_time(jobs, time, hours=2)

    assert charges(number)[-1].status == ChargeStatus.SUBMITTED
    assert sent_names(payments) == [[the_name(number, 1)]]


def test_a_cancel_while_the_clock_is_wrong_leaves_nothing_to_send(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.skew = timedelta(hours=1)
    time.move(days=27)
    settle(jobs)

    services.subscriptions.cancel(number)
    payments.skew = timedelta(0)
    pass_time(jobs, time, hours=2)

    assert (payments.batches, charges(number)[-1].status) == ([], ChargeStatus.VOID)
    assert_the_books_hold(number, payments)


# What is planned


def test_what_our_own_check_turns_down_is_told_and_never_sent(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number, other = an_active_subscription(services, payments), an_active_subscription(services, payments)
    payments.local_faults[the_name(number, 1)] = "amount: too high"

    live(jobs, payments, time, days=66, step=2)

    bad = next(c for c in charges(number) if c.period == 1)
    assert (bad.status, bad.failure_reason, bad.sends) == (ChargeStatus.REFUSED, "amount: too high", 0)
    assert event_types(number).count("charge.refused") == 1
    assert not any(bad.name in names for names in sent_names(payments))
    assert [p for p, _, captured in periods(number) if captured] == [0, 2]
    assert [p for p, _, captured in periods(other) if captured] == [0, 1, 2]


def test_late_periods_never_come_to_more_than_five_prices_in_an_interval(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=30 * 9)  # nothing ran

    live(jobs, payments, time, days=75)

    paid = [(p, date.fromisoformat(due)) for p, due, captured in periods(number) if captured and p]
    assert [p for p, _ in paid] == list(range(1, len(paid) + 1))
    assert len(paid) >= 10
    starts = [date(2027, month, 10) for month in range(7, 12)]
    for first, end in zip(starts, starts[1:], strict=False):
        assert sum(first <= due < end for _, due in paid) <= 5
    assert_the_books_hold(number, payments)
