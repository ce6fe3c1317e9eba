"""Money goes back once, decided by the provider's own sum."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

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
from invoice.lifecycle import ChargeStatus, RefundStatus
from invoice.services import refunds
from invoice.services.jobs import Jobs, Services
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Refund
from tests.bending import bending
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, charges, event_types, settle
from tests.fakes import FakePayments
from tests.services.test_captures import a_capture_that_dies, a_reservation
from tests.services.test_doubt import assert_the_books_hold, job_of, pass_time
from tests.services.test_races import together


class SlowBank(FakePayments):
    """A provider that may take a refund in and give the money back later."""

    def refund_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        give_back: Callable[..., None] = super().refund_charge
        if not self.acts_late:
            give_back(agreement_id, name, request, key=key)
            return
        self._begin("refund")
        self.owed.append(lambda: give_back(agreement_id, name, request, key=key))


@pytest.fixture
def payments() -> FakePayments:
    return SlowBank()


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


# By request


def a_paid_charge(services: Services, payments: FakePayments) -> tuple[int, int]:
    """Return the number of a subscription that has paid 99 kr, and that charge's id."""
    a_partner()
    number = an_active_subscription(services, payments)
    return number, charges(number)[0].id


def given_back(number: int, payments: FakePayments) -> tuple[int, int]:
    """What has gone back: in our books, and at Vipps."""
    assert_the_books_hold(number, payments)
    charge = charges(number)[0]
    return charge.refunded, payments.charge(charge.name).refunded


def in_the_portal(number: int, payments: FakePayments, amount: int, *, key: str | None = None) -> None:
    """Somebody gives money back at Vipps, and no webhook comes. key: as the history names it."""
    name = charges(number)[0].name
    charge = payments.charge(name)
    whole = charge.refunded + amount == charge.captured
    status = ChargeStatus.REFUNDED if whole else ChargeStatus.PARTIALLY_REFUNDED
    named = charge.refunds if key is None else (*charge.refunds, (key, amount))
    payments.agreements["agr_1"].charges[name] = replace(
        charge, refunded=charge.refunded + amount, status=status, refunds=named
    )
    payments.refunds.append((name, amount, f"portal {len(payments.refunds)}"))


def refund_rows() -> list[Refund]:
    with reading():
        found = list(db.session.scalars(db.select(Refund).order_by(Refund.id)))
        db.session.expunge_all()
        return found


def test_all_that_is_left_goes_back_on_request(services: Services, payments: FakePayments, jobs: Jobs):
    number, charge_id = a_paid_charge(services, payments)

    services.refunds.refund(charge_id, None, "goodwill")
    settle(jobs)

    assert given_back(number, payments) == (9900, 9900)
    assert charges(number)[0].status == ChargeStatus.REFUNDED
    assert event_types(number)[-1] == "charge.refunded"


def test_parts_go_back_until_nothing_is_left(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    for part in (3000, 100, None):
        services.refunds.refund(charge_id, part, "goodwill")
        settle(jobs)

    with pytest.raises(Conflict, match="nothing to give back"):
        services.refunds.refund(charge_id, 100, "goodwill")

    assert given_back(number, payments) == (9900, 9900)
    assert [amount for _, amount, _ in payments.refunds] == [3000, 100, 6800]


@pytest.mark.parametrize("amount", [0, -100, 99, 9901, 10**15])
def test_an_amount_that_was_not_taken_does_not_go_back(
    services: Services, payments: FakePayments, jobs: Jobs, amount: int
):
    _, charge_id = a_paid_charge(services, payments)

    with pytest.raises(Invalid):
        services.refunds.refund(charge_id, amount, "goodwill")
    settle(jobs)

    assert refund_rows() == []
    assert "refund" not in payments.calls


def test_while_one_is_unknown_no_other_begins(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    payments.faults.after("refund", ProviderUncertain("timeout"))
    services.refunds.refund(charge_id, 3000, "goodwill")
    settle(jobs)

    with pytest.raises(Conflict, match="under way"):
        services.refunds.refund(charge_id, 3000, "goodwill")
    pass_time(jobs, time, hours=1)
    services.refunds.refund(charge_id, 3000, "goodwill")
    settle(jobs)

    assert given_back(number, payments) == (6000, 6000)


def test_of_many_refunds_at_once_one_is_accepted(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)

    def refund() -> str:
        try:
            services.refunds.refund(charge_id, 6000, "goodwill")
        except Conflict:
            return "refused"
        return "accepted"

    answers = together(app, *[refund] * 6)
    together(app, *[lambda: job_of(jobs, "operations").run_once()] * 3)
    settle(jobs)

    assert Counter(answers) == {"accepted": 1, "refused": 5}
    assert given_back(number, payments) == (6000, 6000)


@pytest.mark.parametrize("status", ["PLANNED", "SUBMITTING", "SUBMITTED", "FAILED", "CANCELLED", "VOID", "REFUSED"])
def test_what_was_not_taken_cannot_go_back(
    services: Services, payments: FakePayments, time: StandingClock, status: str
):
    _, charge_id = a_paid_charge(services, payments)
    with bending():
        db.session.get_one(Charge, charge_id).status = ChargeStatus(status)

    with pytest.raises(Conflict, match=status):
        services.refunds.refund(charge_id, 100, "goodwill")


def test_a_year_after_it_was_taken_it_cannot_go_back(services: Services, payments: FakePayments, time: StandingClock):
    _, charge_id = a_paid_charge(services, payments)

    time.move(days=365)
    assert services.refunds.refund(charge_id, 100, "goodwill")
    time.move(seconds=1)
    with pytest.raises(Conflict, match="365"):
        services.refunds.refund(charge_id, 100, "goodwill")


@pytest.mark.parametrize("amount", [3000, None])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["refund", "find_charge"])
@pytest.mark.parametrize("error", [ProviderUncertain("timeout"), ProviderUnavailable("429"), ProviderDenied("keys")])
def test_a_refund_by_request_whose_answer_is_lost_happens_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    call: str,
    when: str,
    error: ProviderError,
    amount: int | None,
):
    number, charge_id = a_paid_charge(services, payments)
    getattr(payments.faults, when)(call, error, error)

    services.refunds.refund(charge_id, amount, "goodwill")
    pass_time(jobs, time, hours=3)

    assert given_back(number, payments) == (amount or 9900, amount or 9900)
    assert len(payments.refunds) == 1


@pytest.mark.parametrize("amount", [3000, None])
@pytest.mark.parametrize(
    ("call", "when"),
    [("find_charge", "before"), ("find_charge", "answered"), ("refund", "before"), ("refund", "after")],
)
def test_a_kill_at_any_step_gives_back_once(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    call: str,
    when: str,
    amount: int | None,
):
    number, charge_id = a_paid_charge(services, payments)
    services.refunds.refund(charge_id, amount, "goodwill")
    a_capture_that_dies(payments, call, when)
    with pytest.raises(SystemExit):
        settle(jobs)

    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (amount or 9900, amount or 9900)
    assert len(payments.refunds) == 1


def test_a_refund_that_is_only_accepted_is_not_believed_and_not_repeated(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    payments.acts_late = True
    services.refunds.refund(charge_id, 3000, "goodwill")
    pass_time(jobs, time, hours=3)
    assert given_back(number, payments) == (0, 0)
    assert refund_rows()[0].status == RefundStatus.REQUESTED

    payments.acts_late = False
    payments.catch_up()
    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (3000, 3000)
    assert refund_rows()[0].status == RefundStatus.DONE


def test_what_somebody_gave_back_in_the_portal_is_not_taken_for_ours(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    in_the_portal(number, payments, 3000)

    services.refunds.refund(charge_id, 3000, "goodwill")
    payments.faults.before("refund", ProviderUncertain("timeout"))
    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (6000, 6000)


@pytest.mark.parametrize("dies", [True, False])
def test_what_the_portal_gave_back_is_not_taken_for_ours_though_the_first_look_failed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, dies: bool
):
    number, charge_id = a_paid_charge(services, payments)
    in_the_portal(number, payments, 3000)
    services.refunds.refund(charge_id, 3000, "goodwill")
    payments.faults.before("find_charge", SystemExit() if dies else ProviderUnavailable("429"))
    if dies:
        with pytest.raises(SystemExit):
            settle(jobs)

    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (6000, 6000)


@pytest.mark.parametrize("happens", ["before", "after"])
def test_what_the_portal_gives_back_while_ours_is_in_doubt_is_not_taken_for_ours(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, happens: str
):
    number, charge_id = a_paid_charge(services, payments)
    services.refunds.refund(charge_id, 3000, "goodwill")
    getattr(payments.faults, happens)("refund", ProviderUncertain("timeout"))
    settle(jobs)
    assert refund_rows()[0].status == RefundStatus.REQUESTED
    in_the_portal(number, payments, 3000, key="somebody's")

    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (6000, 6000)
    assert len(payments.refunds) == 2
    assert refund_rows()[0].status == RefundStatus.DONE


@pytest.mark.parametrize(("amount", "asked"), [(3000, 2), (9900, 1)])
def test_a_provider_that_names_refunds_by_keys_of_its_own_is_asked_under_the_same_key_and_then_believed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, amount: int, asked: int
):
    number, charge_id = a_paid_charge(services, payments)
    payments.names_refunds = False
    services.refunds.refund(charge_id, amount, "goodwill")
    payments.faults.after("refund", ProviderUncertain("timeout"))
    settle(jobs)
    name = charges(number)[0].name
    seen = payments.charge(name)
    payments.agreements["agr_1"].charges[name] = replace(seen, refunds=(("its own", amount),))

    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (amount, amount)
    assert payments.calls.count("refund") == asked  # all that was left cannot go twice: once it is back, it is back
    assert len(payments.refunds) == 1
    assert refund_rows()[0].status == RefundStatus.DONE


def test_more_than_the_portal_has_left_is_refused_and_the_row_is_looked_at(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    in_the_portal(number, payments, 3000)
    services.refunds.refund(charge_id, None, "goodwill")
    settle(jobs)
    assert (payments.calls.count("refund"), "refund.failed" in event_types(number)) == (0, True)
    assert given_back(number, payments) == (3000, 3000)

    services.refunds.refund(charge_id, None, "goodwill")
    settle(jobs)

    assert given_back(number, payments) == (9900, 9900)


def test_a_worker_that_wakes_up_late_gives_back_nothing_more(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    services.refunds.refund(charge_id, 3000, "goodwill")

    def asleep_past_the_lease() -> None:
        time.move(minutes=3)
        assert job_of(jobs, "operations").run_once() == 1  # another worker does it all

    payments.during_look = asleep_past_the_lease
    settle(jobs)
    payments.refunds[0] = (*payments.refunds[0][:2], "a key that Vipps has forgotten")
    pass_time(jobs, time, hours=30, step=5)

    assert given_back(number, payments) == (3000, 3000)


def test_a_webhook_that_rings_while_the_refund_is_read_back_is_heard(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    name = charges(number)[0].name
    services.refunds.refund(charge_id, 3000, "goodwill")

    def given_back_there_as_well() -> None:
        if not payments.refunds:
            payments.during_look = given_back_there_as_well
            return
        in_the_portal(number, payments, 6900)
        ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    payments.during_look = given_back_there_as_well
    settle(jobs)

    assert given_back(number, payments) == (9900, 9900)
    assert charges(number)[0].status == ChargeStatus.REFUNDED


def test_a_refund_that_is_settled_while_the_stop_reads_the_charges_back_is_told(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    services.subscriptions.cancel(number)
    services.refunds.refund(charge_id, 3000, "goodwill")

    def given_back_by_another_worker() -> None:
        if payments.calls[-1] != "list_charges":
            payments.during_look = given_back_by_another_worker
            return
        assert job_of(jobs, "operations").run_once() == 1
        time.move(seconds=1)

    payments.during_look = given_back_by_another_worker
    settle(jobs)

    assert given_back(number, payments) == (3000, 3000)
    assert charges(number)[0].status == ChargeStatus.PARTIALLY_REFUNDED
    assert "charge.partially_refunded" in event_types(number)


def test_of_what_is_set_aside_only_what_was_taken_can_go_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    charge_id = charges(number)[0].id
    with pytest.raises(Conflict):
        services.refunds.refund(charge_id, 100, "goodwill")
    services.captures.capture(charge_id, 3000)
    settle(jobs)
    with pytest.raises(Invalid):
        services.refunds.refund(charge_id, 3001, "goodwill")

    services.refunds.refund(charge_id, 2000, "goodwill")
    pass_time(jobs, time, hours=1)

    assert given_back(number, payments) == (2000, 2000)


def test_what_is_given_back_by_itself_and_by_request_is_never_more_than_was_taken(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = accepted_after_the_cancel(services, payments)
    payments.faults.before("refund", *[ProviderUncertain("timeout")] * 3)
    settle(jobs)
    time.move(minutes=1)
    settle(jobs)

    with pytest.raises(Conflict):
        services.refunds.refund(charges(number)[0].id, 100, "goodwill")
    pass_time(jobs, time, hours=5)

    assert given_back(number, payments) == (9900, 9900)
    assert len(payments.refunds) == 1


def test_a_cancel_in_the_middle_of_a_refund_changes_nothing_about_it(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    services.refunds.refund(charge_id, 3000, "goodwill")
    payments.during_look = lambda: services.subscriptions.cancel(number)

    pass_time(jobs, time, hours=2)

    assert given_back(number, payments) == (3000, 3000)


def test_a_refused_refund_may_be_asked_for_again_under_another_key(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, charge_id = a_paid_charge(services, payments)
    payments.faults.before("refund", ProviderRefused("Refund is not possible"))
    services.refunds.refund(charge_id, 3000, "goodwill")
    pass_time(jobs, time, hours=2)
    assert [r.status for r in refund_rows()] == [RefundStatus.FAILED]

    services.refunds.refund(charge_id, 3000, "goodwill")
    settle(jobs)

    assert given_back(number, payments) == (3000, 3000)


def test_a_long_reason_is_cut(services: Services, payments: FakePayments, jobs: Jobs):
    number, charge_id = a_paid_charge(services, payments)

    services.refunds.refund(charge_id, 100, "ø" * 300)
    settle(jobs)

    assert refund_rows()[0].reason == "ø" * 100
    assert given_back(number, payments) == (100, 100)


def test_a_part_that_may_have_been_accepted_is_not_sent_again_within_a_minute(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, campaign_amount=1000)
    settle(jobs)
    payments.faults.before("refund", ProviderUncertain("timeout"))
    services.refunds.refund(charges(number)[0].id, 400, "half")

    for _ in range(50):
        settle(jobs)
        time.move(seconds=1)
    assert payments.calls.count("refund") == 1
    for _ in range(100):
        settle(jobs)
        time.move(seconds=1)

    assert payments.calls.count("refund") == 2
    assert payments.charge(charges(number)[0].name).refunded == 400
