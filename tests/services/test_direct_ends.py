"""Ends, cancels and refunds at a partner's word."""

from __future__ import annotations

import pytest

from invoice.errors import ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Standing
from invoice.services.partners import PartnerView
from tests.conftest import StandingClock
from tests.factories import charges, newest_agreement, settle, subscription, the_partner
from tests.fakes import FakePayments
from tests.services.asking import extras, make, standings, words
from tests.services.test_captures import a_reservation, reserved

DONE, REFUSED = Standing.DONE, Standing.REFUSED


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


def test_a_reservation_of_which_a_part_was_captured_is_let_go_of(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    services.captures.capture(reserved(number).id, 4000)
    settle(jobs)
    agreement = str(newest_agreement(number).provider_agreement_id)

    told = services.direct.cancel(the_partner(), agreement, reserved(number).name)

    assert told.standing == DONE
    assert payments.charge(reserved(number).name).captured == 4000


def test_a_charge_that_was_taken_before_it_could_be_called_off_is_told_so(
    services: Services, partner: PartnerView, payments: FakePayments, number: int, agreement: str
):
    make(services, Wish(agreement, 500, charge_id="mine"))
    payments.settle_charge("10295-mine", ChargeStatus.CHARGED)  # and nobody has told us

    told = services.direct.cancel(partner, agreement, "mine")

    assert (told.standing, words(told)) == (REFUSED, "The charge could not be called off: it is CHARGED")
