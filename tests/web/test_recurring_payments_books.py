"""Charges that a partner makes stand in the same books as scheduled ones: names, repeats, adoption, ends."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from app import build_services
from invoice.clock import business_date, utc_now
from invoice.config import Settings
from invoice.errors import ProviderDenied, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, OperationStatus, SubscriptionStatus
from invoice.names import charge_name
from invoice.providers.base import AgreementView, ChargeView
from invoice.services import accounts, endings
from invoice.services.accounts import AccountKeys, Accounts
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.store.db import db, reading
from invoice.store.models import Charge, Operation, Subscription
from tests.conftest import StandingClock, environ_for
from tests.factories import (
    a_partner,
    an_active_subscription,
    charges,
    event_types,
    newest_agreement,
    settle,
    subscription,
    the_partner,
)
from tests.fakes import FakeAgreement, FakePayments, FakeSms

OWN, THEIRS = "123456", "234567"
KEYS = AccountKeys(THEIRS, "id", "client-secret", "subscription-key")


@pytest.fixture
def partner(app: Flask) -> PartnerView:
    return a_partner()


@pytest.fixture
def number(partner: PartnerView, services: Services, payments: FakePayments) -> int:
    """An active subscription."""
    return an_active_subscription(services, payments)


@pytest.fixture
def agreement(number: int) -> str:
    """Its agreement."""
    return str(newest_agreement(number).provider_agreement_id)


def make(services: Services, *wishes: Wish, key: str | None = None, literal: bool = False) -> list[Outcome]:
    made = services.direct.make(the_partner(), dict(enumerate(wishes)), key=key, literal=literal)
    assert list(made) == sorted(made)
    return list(made.values())


def extras(number: int) -> list[Charge]:
    return [charge for charge in charges(number) if charge.is_extra]


def standings(outcomes: list[Outcome]) -> list[Standing]:
    return [outcome.standing for outcome in outcomes]


def words(outcome: Outcome) -> str:
    assert outcome.error is not None
    return outcome.error.message


# Names and repeats


def test_a_charge_stands_in_the_books_beside_the_periods(services: Services, number: int, agreement: str):
    [outcome] = make(services, Wish(agreement, 500, "Frakt", "mine-1"))

    [charge] = extras(number)
    assert outcome == Outcome("mine-1", Standing.DONE)
    assert (charge.name, charge.period, charge.account) == ("10295-mine-1", -1, OWN)
    assert (charge.status, charge.amount, charge.description) == (ChargeStatus.SUBMITTED, 500, "Frakt")
    assert charge.due_on == business_date("NO") + timedelta(days=2)


@pytest.mark.parametrize("again", ["mine-1", "10295-mine-1"])
def test_the_same_name_again_is_the_same_charge(
    services: Services, number: int, payments: FakePayments, agreement: str, again: str
):
    make(services, Wish(agreement, 500, charge_id="mine-1"))
    calls = len(payments.batches)

    outcomes = make(services, Wish(agreement, 500, charge_id=again), Wish(agreement, 500, charge_id=again))

    assert [(o.id, o.standing) for o in outcomes] == [(again, Standing.DONE)] * 2
    assert (len(extras(number)), len(payments.batches)) == (1, calls)


def test_the_same_key_again_makes_nothing_anew(services: Services, number: int, agreement: str):
    wishes = (Wish(agreement, 500), Wish(agreement, 500), Wish(agreement, 700))

    first = make(services, *wishes, key="order 66")
    again = make(services, *wishes, key="order 66")
    other = make(services, *wishes, key="order 67")

    assert first == again
    assert len({o.id for o in first + other}) == 6
    assert len(extras(number)) == 6
    ulid = subscription(number).ulid
    assert all(o.id.startswith(f"{ulid}-x") and o.id.endswith("-a0") for o in first)


def test_without_a_name_and_a_key_each_wish_is_a_charge(services: Services, number: int, agreement: str):
    for _ in range(2):
        make(services, Wish(agreement, 500))

    assert len(extras(number)) == 2


def test_a_name_stands_for_one_charge(services: Services, payments: FakePayments, number: int, agreement: str):
    other = an_active_subscription(services, payments)
    elsewhere = str(newest_agreement(other).provider_agreement_id)
    make(services, Wish(agreement, 500, charge_id="mine-1"))

    outcomes = make(
        services, Wish(agreement, 600, charge_id="mine-1"), Wish(elsewhere, 500, charge_id="mine-1"), key="another"
    )

    assert standings(outcomes) == [Standing.REFUSED] * 2
    assert words(outcomes[0]) == "charge_id mine-1 stands for a charge of 500"
    assert words(outcomes[1]) == "charge_id mine-1 stands for another charge"
    assert len(extras(number)) == 1


def test_a_key_for_another_amount_is_turned_down(services: Services, number: int, agreement: str):
    make(services, Wish(agreement, 500), key="k")

    [outcome] = make(services, Wish(agreement, 501), key="k")

    assert outcome.standing == Standing.REFUSED
    assert len(extras(number)) == 1


def test_the_name_of_a_period_is_nobodys_to_give(services: Services, number: int, agreement: str):
    ulid = subscription(number).ulid

    outcomes = make(services, *(Wish(agreement, 9900, charge_id=charge_name(ulid, p, 0)) for p in (0, 1, 7)))

    assert standings(outcomes) == [Standing.REFUSED] * 3
    assert extras(number) == []


@pytest.mark.parametrize("name", ["a b", "a_b", "ø", "x" * 59, "a/b", "\x00", "-\n"])
def test_a_name_that_vipps_does_not_take(services: Services, number: int, agreement: str, name: str):
    [outcome] = make(services, Wish(agreement, 500, charge_id=name))

    assert words(outcome) == "charge_id must be 1 to 58 letters, digits and dashes"
    assert charges(number)[-1].period == 0


def test_the_same_name_of_two_partners_are_two_charges(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    other = a_partner(20001)
    theirs = an_active_subscription(services, payments)  # of the first partner, who comes first
    assert theirs
    make(services, Wish(agreement, 500, charge_id="mine"))

    [outcome] = services.direct.make(other, {0: Wish(agreement, 500, charge_id="10295-mine")}, key=None).values()

    assert words(outcome) == "This agreement does not exist"


# What Vipps says


def test_a_definite_no_is_told_and_the_name_may_be_tried_again(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    payments.refused_names["10295-mine"] = "too high"

    [refused] = make(services, Wish(agreement, 5000, charge_id="mine"))
    assert (refused.standing, words(refused)) == (Standing.REFUSED, "too high")
    assert extras(number)[0].status == ChargeStatus.REFUSED
    assert event_types(number)[-1] == "charge.refused"
    payments.refused_names.clear()
    [made] = make(services, Wish(agreement, 400, charge_id="mine"))

    assert made.standing == Standing.DONE
    [charge] = extras(number)
    assert (charge.amount, charge.status, charge.failure_reason) == (400, ChargeStatus.SUBMITTED, None)
    keys = [key for key, _ in payments.batches]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_charge_in_doubt_is_told_so_and_settled_by_the_worker(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str, when: str
):
    getattr(payments.faults, when)("create", ProviderUncertain("timeout"))

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))
    [again] = make(services, Wish(agreement, 500, charge_id="mine"))
    assert (outcome.standing, again.standing) == (Standing.UNKNOWN, Standing.UNKNOWN)
    time.move(minutes=2)
    settle(jobs)
    [later] = make(services, Wish(agreement, 500, charge_id="mine"))

    assert later.standing == Standing.DONE
    assert [c.status for c in extras(number)] == [ChargeStatus.SUBMITTED]
    assert payments.names().count("10295-mine") == 1
    assert len({key for key, request in payments.batches if "10295-mine" in request}) == 1


def test_a_name_that_is_taken_by_this_very_charge_is_as_good_as_made(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    made = payments.agreements[agreement]
    made.charges["10295-mine"] = payments._charge(made, "10295-mine", 500, ChargeStatus.SUBMITTED)

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))

    assert outcome.standing == Standing.DONE


def test_a_name_that_is_taken_by_another_charge_is_a_definite_no(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    made = payments.agreements[agreement]
    made.charges["10295-mine"] = payments._charge(made, "10295-mine", 999, ChargeStatus.SUBMITTED)

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))

    assert (outcome.standing, words(outcome)) == (Standing.REFUSED, "orderId is in use")
    assert extras(number)[0].status == ChargeStatus.REFUSED


@pytest.mark.parametrize("error", [ProviderUnavailable("used up", retry_after_s=5), ProviderUnavailable("down")])
def test_what_cannot_be_sent_now_is_accepted_and_sent_later(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
    error: ProviderUnavailable,
):
    payments.faults.before("create", error)

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))
    assert outcome.standing == Standing.ACCEPTED
    time.move(minutes=1)
    settle(jobs)

    assert [c.status for c in extras(number)] == [ChargeStatus.SUBMITTED]


def test_what_the_caller_is_told_has_failed_is_taken_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    away = ProviderUnavailable("cannot be reached")
    away.failure = "connect"
    payments.faults.before("create", away)

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"), literal=True)
    assert outcome.standing == Standing.REFUSED
    time.move(days=1)
    settle(jobs)
    assert [c.status for c in extras(number)] == [ChargeStatus.VOID]
    assert "10295-mine" not in payments.names()
    [again] = make(services, Wish(agreement, 500, charge_id="mine"), literal=True)

    assert again.standing == Standing.DONE


def test_a_share_that_is_used_up_is_no_failure_to_anybody(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    payments.faults.before("create", ProviderUnavailable("our share of calls is used up", retry_after_s=1))

    [outcome] = make(services, Wish(agreement, 500), literal=True)

    assert outcome.standing == Standing.ACCEPTED
    time.move(minutes=1)
    settle(jobs)
    assert [c.status for c in extras(number)] == [ChargeStatus.SUBMITTED]


def test_refused_keys_leave_nothing_behind(services: Services, payments: FakePayments, number: int, agreement: str):
    payments.faults.before("create", ProviderDenied("403"))

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))

    assert (outcome.standing, words(outcome)) == (Standing.REFUSED, "403")
    assert [c.status for c in extras(number)] == [ChargeStatus.VOID]
    with reading():
        statuses = list(db.session.scalars(select(Operation.status).where(Operation.kind == "CREATE")))
    assert statuses == [OperationStatus.VOID]


def test_when_the_time_for_a_request_is_up_the_rest_is_left_to_the_worker(
    services: Services, payments: FakePayments, jobs: Jobs, number: int, agreement: str
):
    services.direct.patience_s = 0.0

    outcomes = make(services, Wish(agreement, 500), Wish(agreement, 600))

    assert standings(outcomes) == [Standing.ACCEPTED] * 2
    assert {c.status for c in extras(number)} == {ChargeStatus.PLANNED}
    settle(jobs)
    assert {c.status for c in extras(number)} == {ChargeStatus.SUBMITTED}


# Beside the calendar


def test_the_calendar_goes_on_beside_extra_charges(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    for _ in range(3):
        make(services, Wish(agreement, 500))
    for _ in range(62):
        time.move(days=1)
        settle(jobs)

    assert [c.period for c in charges(number) if not c.is_extra] == [0, 1, 2]
    assert {c.status for c in charges(number)} <= {ChargeStatus.SUBMITTED, ChargeStatus.CHARGED}


def test_nothing_can_fall_due_after_the_end(services: Services, time: StandingClock, number: int, agreement: str):
    make(services, Wish(agreement, 500, charge_id="before"))
    end = endings.end_with_period(number)
    time.move(days=(end - business_date("NO")).days - 2)

    [outcome] = make(services, Wish(agreement, 500))

    assert words(outcome) == f"This agreement ends on {end}: nothing can fall due on {end}"


def test_an_extra_charge_that_falls_due_after_the_end_is_called_off(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    time.move(days=28)  # the period ends in two days
    settle(jobs)
    make(services, Wish(agreement, 500, charge_id="late"))

    endings.end_with_period(number)
    settle(jobs)

    assert [c.status for c in extras(number)] == [ChargeStatus.CANCELLED]


def test_an_ended_agreement_is_charged_no_more(services: Services, payments: FakePayments, number: int, agreement: str):
    services.subscriptions.cancel(number)
    calls = len(payments.batches)

    [outcome] = make(services, Wish(agreement, 500))

    assert words(outcome) == "This agreement is not active: it is CANCELLING"
    assert (extras(number), len(payments.batches)) == ([], calls)


def test_a_late_extra_charge_moves_to_tomorrow(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    payments.faults.before("create", ProviderUnavailable("down"))
    [outcome] = make(services, Wish(agreement, 500))
    time.move(days=5)
    payments.refused_names[outcome.id] = "due is too soon"
    settle(jobs)

    dues = [json.loads(request)[0]["due_on"] for _, request in payments.batches]
    assert dues == ["2026-11-12", "2026-11-16"]
    assert extras(number)[0].status == ChargeStatus.REFUSED  # the second time it was in time


# Agreements and charges that were made elsewhere


class Elsewhere(FakePayments):
    """A partner's own sales unit, with an agreement that was signed there."""

    def sign(self, agreement_id: str = "agr_old", status: AgreementStatus = AgreementStatus.ACTIVE) -> FakeAgreement:
        view = AgreementView(
            agreement_id, "of-another-system", status, utc_now(), 9900, "Gammel", "Fra før", "NOK", Interval.MONTH
        )
        self.agreements[agreement_id] = FakeAgreement(view, {"price": {"currency": "NOK"}, "initial": None})
        return self.agreements[agreement_id]

    def taken(self, agreement: FakeAgreement, name: str, amount: int) -> ChargeView:
        agreement.charges[name] = self._charge(agreement, name, amount, ChargeStatus.CHARGED, captured=amount)
        return agreement.charges[name]


@pytest.fixture
def unit() -> Elsewhere:
    return Elsewhere(THEIRS)


@pytest.fixture
def owner(services_of_owner: Services) -> PartnerView:
    found = a_partner()
    accounts.bring(found.id, KEYS)
    return found


@pytest.fixture
def services_of_owner(app: Flask, database_url: str, payments: FakePayments, unit: Elsewhere, sms: FakeSms) -> Services:
    known = Accounts(payments, lambda _keys: unit)
    return build_services(Settings.from_environ(environ_for(database_url)), known, sms)


def adopted() -> list[Subscription]:
    with reading():
        found = list(db.session.scalars(select(Subscription).where(~Subscription.is_scheduled)))
        db.session.expunge_all()
        return found


def test_an_agreement_signed_elsewhere_is_charged_in_our_books(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, payments: FakePayments
):
    unit.sign()

    wishes = {number: Wish("agr_old", 500, charge_id="mine") for number in range(2)}
    outcomes = services_of_owner.direct.make(owner, wishes, key=None)

    assert standings(list(outcomes.values())) == [Standing.DONE] * 2
    [held] = adopted()
    assert (held.status, held.name, held.amount, held.msisdn) == (SubscriptionStatus.ACTIVE, "Gammel", 9900, "")
    [charge] = extras(held.id)
    assert (charge.name, charge.account) == ("mine", THEIRS)
    assert "mine" in unit.agreements["agr_old"].charges
    assert payments.calls == []
    assert event_types(held.id) == ["subscription.adopted"]


def test_an_agreement_signed_elsewhere_is_never_scheduled(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign()
    services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None)
    jobs = Jobs(services_of_owner)

    for _ in range(70):
        time.move(days=1)
        settle(jobs)

    [held] = adopted()
    assert [c.period for c in charges(held.id)] == [-1]
    assert held.status == SubscriptionStatus.ACTIVE


def test_the_end_of_an_agreement_signed_elsewhere_is_noticed(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign()
    services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None)
    unit.end("agr_old")
    time.move(days=2)
    settle(Jobs(services_of_owner))

    [held] = adopted()
    assert held.status == SubscriptionStatus.STOPPED
    [outcome] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None).values()
    assert words(outcome) == "This agreement is not active: it is STOPPED"


def test_an_agreement_signed_elsewhere_is_stopped(services_of_owner: Services, owner: PartnerView, unit: Elsewhere):
    agreement = unit.sign()
    unit.taken(agreement, "of-another-system", 700)

    outcome = services_of_owner.direct.stop(owner, "agr_old")

    assert outcome.standing == Standing.DONE
    assert agreement.view.status == AgreementStatus.STOPPED
    [held] = adopted()
    assert held.status == SubscriptionStatus.CANCELLED
    assert agreement.charges["of-another-system"].refunded == 0


def test_a_charge_made_elsewhere_is_refunded_and_then_stands_in_the_books(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    agreement = unit.sign(status=AgreementStatus.STOPPED)
    unit.taken(agreement, "chr_hFZSqV6", 700)

    outcome = services_of_owner.direct.refund(owner, Wish("agr_old", 300, charge_id="chr_hFZSqV6"), mark="m")

    assert outcome.standing == Standing.DONE
    assert agreement.charges["chr_hFZSqV6"].refunded == 300
    [held] = adopted()
    [charge] = extras(held.id)
    assert (charge.name, charge.captured, charge.refunded) == ("chr_hFZSqV6", 700, 300)


def test_a_charge_made_elsewhere_is_called_off(services_of_owner: Services, owner: PartnerView, unit: Elsewhere):
    agreement = unit.sign()
    agreement.charges["chr-1"] = unit._charge(agreement, "chr-1", 700, ChargeStatus.SUBMITTED)

    outcome = services_of_owner.direct.cancel(owner, "agr_old", "chr-1")

    assert outcome.standing == Standing.DONE
    assert agreement.charges["chr-1"].status == ChargeStatus.CANCELLED


def test_an_agreement_of_another_account_does_not_exist(
    services_of_owner: Services, owner: PartnerView, payments: FakePayments
):
    [outcome] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None).values()

    assert words(outcome) == "This agreement does not exist"
    assert payments.calls == []


def test_on_the_platforms_account_an_unknown_agreement_is_never_asked_for(
    services: Services, payments: FakePayments, partner: PartnerView
):
    direct = services.direct

    assert words(make(services, Wish("agr_x", 500))[0]) == "This agreement does not exist"
    assert words(direct.stop(partner, "agr_x")) == "This agreement does not exist"
    assert words(direct.cancel(partner, "agr_x", "c")) == "This agreement does not exist"
    assert words(direct.refund(partner, Wish("agr_x", 1, charge_id="c"), mark="m")) == "This agreement does not exist"
    assert payments.calls == []


def test_a_vipps_that_cannot_say_whether_there_is_such_an_agreement(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    unit.sign()
    unit.faults.before("find_agreement", ProviderUncertain("timeout"))

    [outcome] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None).values()

    assert words(outcome) == "timeout"
    assert adopted() == []


# Ends, cancels, refunds


def test_a_stop_is_accepted_while_vipps_is_away(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
):
    payments.faults.before("find_agreement", *[ProviderUnavailable("down")] * 5)

    outcome = services.direct.stop(partner, agreement)
    again = services.direct.stop(partner, agreement)
    assert (outcome.standing, again.standing) == (Standing.ACCEPTED, Standing.ACCEPTED)
    assert subscription(number).status == SubscriptionStatus.CANCELLING
    for _ in range(20):
        time.move(minutes=15)
        settle(jobs)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert payments.agreements[agreement].view.status == AgreementStatus.STOPPED


def test_a_cancel_in_doubt_is_told_so_and_settled_by_the_worker(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
):
    make(services, Wish(agreement, 500, charge_id="mine"))
    payments.faults.after("cancel_charge", ProviderUncertain("timeout"))

    outcome = services.direct.cancel(partner, agreement, "mine")
    time.move(minutes=5)
    settle(jobs)

    assert outcome.standing == Standing.UNKNOWN
    assert [c.status for c in extras(number)] == [ChargeStatus.CANCELLED]


def test_a_charge_that_has_not_left_is_taken_out_of_the_books(
    services: Services, partner: PartnerView, jobs: Jobs, payments: FakePayments, time: StandingClock, number: int
):
    time.move(days=24)
    settle(jobs)
    planned = charges(number)[-1]
    assert (planned.period, planned.status) == (1, ChargeStatus.PLANNED)
    agreement = str(newest_agreement(number).provider_agreement_id)

    outcome = services.direct.cancel(partner, agreement, planned.name)

    assert outcome.standing == Standing.DONE
    assert charges(number)[-1].status == ChargeStatus.VOID


def test_a_charge_that_was_called_off_is_not_made_again(
    services: Services, partner: PartnerView, number: int, agreement: str
):
    make(services, Wish(agreement, 500, charge_id="mine"))
    services.direct.cancel(partner, agreement, "mine")

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))

    assert (outcome.standing, words(outcome)) == (Standing.REFUSED, "The charge is CANCELLED")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_refund_in_doubt_moves_money_once(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
    when: str,
):
    name = charges(number)[0].name
    wish = Wish(agreement, 300, charge_id=name)
    getattr(payments.faults, when)("refund", ProviderUncertain("timeout"))

    first = services.direct.refund(partner, wish, mark="300")
    again = services.direct.refund(partner, wish, mark="300")
    time.move(minutes=5)
    settle(jobs)
    later = services.direct.refund(partner, wish, mark="300")

    assert [o.standing for o in (first, again, later)] == [Standing.UNKNOWN, Standing.UNKNOWN, Standing.DONE]
    assert payments.charge(name).refunded == 300


def test_a_refund_that_was_refused_may_be_asked_for_again(
    services: Services, partner: PartnerView, payments: FakePayments, number: int, agreement: str
):
    name = charges(number)[0].name
    payments.faults.before("refund", ProviderRefused("Refund is not possible", status=400))

    refused = services.direct.refund(partner, Wish(agreement, 300, charge_id=name), mark="300")
    again = services.direct.refund(partner, Wish(agreement, 300, charge_id=name), mark="300")

    assert (refused.standing, words(refused)) == (Standing.REFUSED, "Refund is not possible")
    assert again.standing == Standing.DONE
    assert payments.charge(name).refunded == 300


def test_a_refund_looks_again_before_it_says_no(
    services: Services, partner: PartnerView, payments: FakePayments, number: int, agreement: str
):
    make(services, Wish(agreement, 500, charge_id="mine"))
    payments.settle_charge("10295-mine", ChargeStatus.CHARGED)  # and nobody has told us

    outcome = services.direct.refund(partner, Wish(agreement, 500, charge_id="mine"), mark="500")

    assert outcome.standing == Standing.DONE
    assert payments.charge("10295-mine").refunded == 500


def test_no_more_is_given_back_than_was_taken(
    services: Services, partner: PartnerView, payments: FakePayments, number: int, agreement: str
):
    name = charges(number)[0].name

    outcomes = [
        services.direct.refund(partner, Wish(agreement, 6000, charge_id=name), mark=str(mark)) for mark in range(3)
    ]

    assert standings(outcomes) == [Standing.DONE, Standing.REFUSED, Standing.REFUSED]
    assert words(outcomes[1]) == "amount must be from 100 to 3900, which is what is left."
    assert payments.charge(name).refunded == 6000


def test_nobody_pays_a_name_twice_when_two_ask_at_once(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    """The second request comes while the first is on its way to Vipps."""
    met: list[Outcome] = []
    inner = payments.create_charge

    def while_it_is_on_its_way(agreement_id: str, request: str, *, key: str) -> None:
        if not met:
            met.append(replace(make(services, Wish(agreement, 500, charge_id="mine"))[0]))
        inner(agreement_id, request, key=key)

    payments.create_charge = while_it_is_on_its_way  # type: ignore[method-assign]

    [outcome] = make(services, Wish(agreement, 500, charge_id="mine"))

    assert (outcome.standing, met[0].standing) == (Standing.DONE, Standing.UNKNOWN)
    assert len([request for _, request in payments.batches if "10295-mine" in request]) == 1
