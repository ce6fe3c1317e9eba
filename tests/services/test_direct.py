"""Money at a partner's word when many ask at once, and when a process dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.operations import end_leases
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from tests.conftest import StandingClock
from tests.factories import an_active_subscription, charges, newest_agreement, subscription
from tests.fakes import FakePayments
from tests.services.asking import make, pass_time, statuses
from tests.services.test_races import together

DONE, UNKNOWN, REFUSED = Standing.DONE, Standing.UNKNOWN, Standing.REFUSED


class Killed(BaseException):
    """The process is gone."""


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


@pytest.mark.parametrize(("charge_id", "key"), [("mine", None), ("", "order 66")])
def test_of_many_equal_requests_at_once_one_charges(
    app: Flask, services: Services, payments: FakePayments, number: int, agreement: str, charge_id: str, key: str | None
):
    wish = Wish(agreement, 500, charge_id=charge_id)

    answers = together(app, *[lambda: make(services, wish, key=key)[0]] * 6)

    assert {answer.standing for answer in answers} <= {DONE, UNKNOWN}  # type: ignore[attr-defined]
    assert statuses(number) == [ChargeStatus.SUBMITTED]
    assert payments.calls.count("create") == 1


def test_of_long_lists_with_the_same_names_each_name_is_made_once(
    app: Flask, services: Services, payments: FakePayments, number: int, agreement: str
):
    other = an_active_subscription(services, payments)
    elsewhere = str(newest_agreement(other).provider_agreement_id)
    names = [f"c-{n:03d}" for n in range(150)]

    def ask(agreement_id: str, order: list[str]) -> list[Outcome]:
        return make(services, *(Wish(agreement_id, 100, charge_id=name) for name in order))

    one, two = together(app, lambda: ask(agreement, names), lambda: ask(elsewhere, names[::-1]))

    taken = Counter(outcome.standing for outcomes in (one, two) for outcome in outcomes)  # type: ignore[attr-defined]
    assert taken == Counter({DONE: 150, REFUSED: 150})
    assert sorted(statuses(number) + statuses(other)) == [ChargeStatus.SUBMITTED] * 150


@pytest.mark.parametrize("marks", [["5000"] * 6, [str(n) for n in range(6)]], ids=["equal", "each its own"])
def test_refunds_at_once_give_back_no_more_than_was_taken(
    app: Flask,
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
    marks: list[str],
):
    name = charges(number)[0].name
    wish = Wish(agreement, 5000, charge_id=name)
    tasks: list[Callable[[], object]] = [
        lambda mark=mark: services.direct.refund(partner, wish, mark=mark)  # type: ignore[misc]
        for mark in marks
    ]

    together(app, *tasks)
    pass_time(jobs, time, hours=1)

    assert payments.charge(name).refunded == charges(number)[0].refunded == 5000


def test_an_end_that_races_new_charges_leaves_nothing_to_pay(
    app: Flask,
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
):
    making: list[Callable[[], object]] = [lambda: make(services, *[Wish(agreement, 500)] * 5)] * 3

    together(app, lambda: services.direct.stop(partner, agreement), *making)
    pass_time(jobs, time, hours=1)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert set(statuses(number)) <= {ChargeStatus.VOID, ChargeStatus.CANCELLED, ChargeStatus.REFUSED}
    assert [c for c in payments.agreements[agreement].charges.values() if c.status == ChargeStatus.SUBMITTED] == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("verb", "call"), [("stop", "stop"), ("cancel", "cancel_charge"), ("make", "create")])
def test_a_process_that_dies_at_a_call_leaves_what_was_asked_for_to_the_next(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
    when: str,
    verb: str,
    call: str,
):
    act: Callable[[], object] = {
        "stop": lambda: services.direct.stop(partner, agreement),
        "cancel": lambda: services.direct.cancel(partner, agreement, "mine"),
        "make": lambda: make(services, Wish(agreement, 500, charge_id="mine")),
    }[verb]
    if verb == "cancel":
        make(services, Wish(agreement, 500, charge_id="mine"))
    getattr(payments.faults, when)(call, Killed())

    with pytest.raises(Killed):
        act()
    act()
    end_leases()
    pass_time(jobs, time, hours=1)

    assert {
        "stop": subscription(number).status == SubscriptionStatus.CANCELLED,
        "cancel": statuses(number) == [ChargeStatus.CANCELLED],
        "make": statuses(number) == [ChargeStatus.SUBMITTED],
    }[verb]
    assert payments.agreements[agreement].view.status == ("STOPPED" if verb == "stop" else "ACTIVE")
    assert len(payments.names()) == (1 if verb == "stop" else 2)
