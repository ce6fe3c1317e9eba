"""A name stands for one charge: the same again, the same key, names that are nobody's to give."""

from __future__ import annotations

from datetime import timedelta

import pytest

from invoice.clock import business_date
from invoice.errors import ProviderDenied
from invoice.lifecycle import ChargeStatus
from invoice.names import charge_name
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Outcome, Standing
from tests.conftest import StandingClock
from tests.factories import a_partner, an_active_subscription, charges, newest_agreement, subscription
from tests.fakes import FakePayments
from tests.services.asking import OWN, extras, make, pass_time, standings, statuses, words

DONE, REFUSED = Standing.DONE, Standing.REFUSED


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


def test_a_charge_that_was_taken_back_may_be_asked_for_again_with_another_amount(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    payments.faults.before("create", ProviderDenied("403"))
    make(services, Wish(agreement, 500, charge_id="mine"))

    [again] = make(services, Wish(agreement, 700, charge_id="mine"))

    assert again.standing == DONE
    assert payments.charge("10295-mine").amount == 700
    assert len({key for key, _ in payments.batches}) == len(payments.batches)


def test_one_that_a_long_list_was_refused_for_is_asked_for_again_under_its_name(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str
):
    payments.refused_names["10295-c-007"] = "too high"
    wishes = [Wish(agreement, 100, charge_id=f"c-{n:03d}") for n in range(101)]

    told = make(services, *wishes)
    assert [place for place, outcome in enumerate(told) if outcome.standing != DONE] == [7]
    assert (told[7].standing, words(told[7])) == (REFUSED, "too high")
    pass_time(jobs, time, hours=1)
    assert statuses(number)[7] == ChargeStatus.REFUSED
    payments.refused_names.clear()

    again = make(services, *wishes)

    assert {outcome.standing for outcome in again} == {DONE}
    assert payments.names().count("10295-c-007") == 1


def test_a_wrong_amount_in_a_long_list_harms_no_other(
    services: Services, payments: FakePayments, number: int, agreement: str
):
    wishes = [Wish(agreement, 0 if n == 50 else 100) for n in range(101)]

    told = make(services, *wishes, literal=True)

    assert [place for place, outcome in enumerate(told) if outcome.standing != DONE] == [50]
    assert words(told[50]) == "price must be from 100 to 2000000, in the smallest unit of NOK"
    assert len(payments.batches) == 1
