"""Charges at a partner's word beside those of the calendar."""

from __future__ import annotations

import json
from collections import Counter

from invoice.clock import business_date
from invoice.errors import ProviderUnavailable
from invoice.lifecycle import ChargeStatus
from invoice.services import endings
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Standing
from tests.conftest import StandingClock
from tests.factories import charges, settle
from tests.fakes import FakePayments
from tests.services.asking import extras, make, words

DONE, REFUSED = Standing.DONE, Standing.REFUSED


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


def test_the_room_of_a_payment_that_is_still_to_be_sent_is_kept(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    """Five prices of 99 kroner may fall due in an interval; the renewal of the 10th is one of them."""
    time.move(days=29)  # 9 December: what is made now falls due on the 11th; the worker has been away
    [too_much] = make(services, Wish(agreement, 39700))
    [fits] = make(services, Wish(agreement, 39600))
    [no_more] = make(services, Wish(agreement, 100))
    assert (too_much.standing, fits.standing, no_more.standing) == (REFUSED, DONE, REFUSED)
    assert words(too_much) == "price must be at most 39600 now: the payment of this interval is still to be sent"

    settle(jobs)

    assert [(c.period, c.status) for c in charges(number)][-1] == (1, ChargeStatus.SUBMITTED)
    [vipps_decides] = make(services, Wish(agreement, 100))
    assert vipps_decides.standing == DONE


def test_the_room_is_kept_against_all_items_of_a_list_together(
    services: Services, payments: FakePayments, time: StandingClock, number: int, agreement: str
):
    time.move(days=29)

    told = make(services, *[Wish(agreement, 1000) for _ in range(101)])

    assert Counter(outcome.standing for outcome in told) == Counter({DONE: 39, REFUSED: 62})
