"""Money at a partner's word, by an adversary: repeats, races, deaths, a Vipps that hangs, agreements of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from sqlalchemy import delete, select, update

from app import build_services
from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import ProviderDenied, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, OperationStatus, SubscriptionStatus
from invoice.providers.base import AgreementView
from invoice.services import accounts
from invoice.services.accounts import AccountKeys, Accounts
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.operations import end_leases
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.services.scopes import NO_TIME
from invoice.store.db import db, reading, transaction
from invoice.store.models import Operation, Partner, ProviderAccount, Refund, Subscription
from tests.conftest import StandingClock, environ_for
from tests.factories import (
    a_partner,
    a_wish,
    an_active_subscription,
    charges,
    newest_agreement,
    settle,
    subscription,
    the_partner,
)
from tests.fakes import FakeAgreement, FakePayments, FakeSms
from tests.services.test_captures import a_reservation, reserved
from tests.services.test_races import together

DONE, ACCEPTED, UNKNOWN, REFUSED = Standing.DONE, Standing.ACCEPTED, Standing.UNKNOWN, Standing.REFUSED
THEIRS = "234567"


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def partner(app: Flask) -> PartnerView:
    return a_partner()


@pytest.fixture
def number(partner: PartnerView, services: Services, payments: FakePayments) -> int:
    return an_active_subscription(services, payments)


@pytest.fixture
def agreement(number: int) -> str:
    return str(newest_agreement(number).provider_agreement_id)


def make(services: Services, *wishes: Wish, key: str | None = None, literal: bool = False) -> list[Outcome]:
    made = services.direct.make(the_partner(), dict(enumerate(wishes)), key=key, literal=literal)
    return [made[place] for place in range(len(wishes))]


def statuses(number: int) -> list[ChargeStatus]:
    return [charge.status for charge in charges(number) if charge.is_extra]


def operations(kind: str) -> list[OperationStatus]:
    with reading():
        return list(db.session.scalars(select(Operation.status).where(Operation.kind == kind).order_by(Operation.id)))


def words(outcome: Outcome) -> str:
    assert outcome.error is not None
    return outcome.error.message


def away(failure: str = "connect") -> ProviderUnavailable:
    error = ProviderUnavailable("Vipps cannot be reached")
    error.failure = failure
    return error


def pass_time(jobs: Jobs, time: StandingClock, *, hours: int) -> None:
    for _ in range(hours * 4):
        time.move(minutes=15)
        settle(jobs)


# The same request many times at once


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


# A process that dies


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


# What a caller is told has failed does not happen later


@pytest.mark.parametrize(
    ("error", "literal"), [(away(), True), (ProviderDenied("403"), True), (ProviderDenied("403"), False)]
)
def test_a_refund_that_could_not_be_sent_and_is_told_as_failed_is_not_sent_later(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
    error: ProviderUnavailable | ProviderDenied,
    literal: bool,
):
    name = charges(number)[0].name
    payments.faults.before("refund", error)

    told = services.direct.refund(partner, Wish(agreement, 500, charge_id=name), mark="500", literal=literal)
    pass_time(jobs, time, hours=2)

    assert (told.standing, told.error) == (REFUSED, error)
    assert payments.charge(name).refunded == 0
    assert operations("REFUND") == [OperationStatus.VOID]
    with reading():
        assert db.session.scalars(select(Refund.id)).all() == []
    again = services.direct.refund(partner, Wish(agreement, 500, charge_id=name), mark="500", literal=literal)
    assert (again.standing, payments.charge(name).refunded) == (DONE, 500)


def test_one_that_asks_while_a_refund_is_being_sent_is_not_told_that_it_is_accepted(
    services: Services, partner: PartnerView, payments: FakePayments, number: int, agreement: str
):
    """For it may yet be taken back."""
    wish = Wish(agreement, 500, charge_id=charges(number)[0].name)
    met: list[Outcome] = []
    inner = payments.refund_charge

    def while_it_is_being_sent(agreement_id: str, name: str, request: str, *, key: str) -> None:
        met.append(services.direct.refund(partner, wish, mark="500"))
        raise away()

    payments.refund_charge = while_it_is_being_sent  # type: ignore[method-assign]
    told = services.direct.refund(partner, wish, mark="500", literal=True)
    payments.refund_charge = inner  # type: ignore[method-assign]

    assert (told.standing, met[0].standing) == (REFUSED, UNKNOWN)
    assert services.direct.refund(partner, wish, mark="500").standing == DONE


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_keys_that_are_gone_end_one_item_and_no_other(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, verb: str
):
    unit.sign(status=AgreementStatus.STOPPED)
    unit.charge_of("agr_old", "theirs", ChargeStatus.CANCELLED)
    acts = services_of_owner.direct
    acts.cancel(owner, "agr_old", "theirs")  # it stands in the books now
    with transaction():
        db.session.execute(update(Partner).values(account=None))
        db.session.execute(delete(ProviderAccount))

    told = acts.stop(owner, "agr_old") if verb == "stop" else acts.cancel(owner, "agr_old", "theirs")

    assert (told.standing, words(told)) == (REFUSED, "there are no keys for the account 234567")


def test_a_refund_that_could_not_be_sent_is_sent_later_for_one_who_is_told_that_it_is_accepted(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
):
    name = charges(number)[0].name
    payments.faults.before("refund", away())

    told = services.direct.refund(partner, Wish(agreement, 500, charge_id=name), mark="500")
    pass_time(jobs, time, hours=1)

    assert (told.standing, payments.charge(name).refunded) == (ACCEPTED, 500)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_charge_in_doubt_that_its_caller_cannot_name_is_called_off_when_it_is_told_as_failed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, number: int, agreement: str, when: str
):
    getattr(payments.faults, when)("create", ProviderUncertain("timeout"))

    [told] = make(services, Wish(agreement, 500), literal=True)
    [another] = make(services, Wish(agreement, 500), literal=True)
    pass_time(jobs, time, hours=2)

    assert (told.standing, another.standing) == (UNKNOWN, DONE)
    ended = ChargeStatus.CANCELLED if when == "after" else ChargeStatus.VOID
    assert statuses(number) == [ended, ChargeStatus.SUBMITTED]
    living = [n for n in payments.names() if payments.charge(n).status == ChargeStatus.SUBMITTED]
    assert living == [another.id]


@pytest.mark.parametrize(("charge_id", "key", "literal"), [("mine", None, True), ("", "k", True), ("", None, False)])
def test_a_charge_in_doubt_that_is_found_again_stays(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
    charge_id: str,
    key: str | None,
    literal: bool,
):
    payments.faults.after("create", ProviderUncertain("timeout"))

    make(services, Wish(agreement, 500, charge_id=charge_id), key=key, literal=literal)
    pass_time(jobs, time, hours=1)

    assert statuses(number) == [ChargeStatus.SUBMITTED]


def test_a_cancel_that_our_keys_are_refused_for_is_not_told_as_over(
    services: Services,
    partner: PartnerView,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    number: int,
    agreement: str,
):
    make(services, Wish(agreement, 500, charge_id="mine"))
    payments.faults.before("cancel_charge", ProviderDenied("403"))

    told = services.direct.cancel(partner, agreement, "mine")
    pass_time(jobs, time, hours=1)

    assert told.standing == UNKNOWN
    assert statuses(number) == [ChargeStatus.CANCELLED]


# Names


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


# Beside the calendar


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


# A Vipps that hangs


def test_when_the_time_is_up_vipps_is_asked_nothing_more(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    unit.sign()
    acts = services_of_owner.direct
    acts.patience_s = 0.0

    told = [
        acts.make(owner, {0: Wish("agr_old", 500)}, key=None)[0],
        acts.stop(owner, "agr_old", at_once=False),
        acts.cancel(owner, "agr_old", "c", at_once=False),
        acts.refund(owner, Wish("agr_old", 500, charge_id="c"), mark="m", at_once=False),
    ]

    assert [(outcome.standing, words(outcome)) for outcome in told] == [(REFUSED, NO_TIME)] * 4
    assert unit.calls == []


def test_when_the_time_is_up_what_is_over_in_the_books_is_not_put_to_vipps_either(
    services: Services, partner: PartnerView, payments: FakePayments, number: int, agreement: str
):
    services.direct.stop(partner, agreement)
    name, calls = charges(number)[0].name, len(payments.calls)

    told = [
        services.direct.stop(partner, agreement, at_once=False),
        services.direct.cancel(partner, agreement, name, at_once=False),
    ]

    assert [(outcome.standing, words(outcome)) for outcome in told] == [(REFUSED, NO_TIME)] * 2
    assert len(payments.calls) == calls


# Reservations


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


# Agreements that were signed elsewhere


class Elsewhere(FakePayments):
    """A partner's own sales unit."""

    def sign(
        self, *, status: AgreementStatus = AgreementStatus.ACTIVE, external_id: str = "of-another-system"
    ) -> FakeAgreement:
        started = None if status == AgreementStatus.PENDING else utc_now()
        view = AgreementView("agr_old", external_id, status, started, 9900, "Gammel", "Fra før", "NOK", Interval.MONTH)
        self.agreements["agr_old"] = FakeAgreement(view, {"price": {"currency": "NOK"}, "initial": None})
        return self.agreements["agr_old"]

    def charge_of(self, agreement_id: str, name: str, status: ChargeStatus) -> None:
        agreement = self.agreements[agreement_id]
        agreement.charges[name] = self._charge(agreement, name, 500, status)


@pytest.fixture
def unit() -> Elsewhere:
    return Elsewhere(THEIRS)


@pytest.fixture
def services_of_owner(app: Flask, database_url: str, payments: FakePayments, unit: Elsewhere, sms: FakeSms) -> Services:
    known = Accounts(payments, lambda _keys: unit)
    return build_services(Settings.from_environ(environ_for(database_url)), known, sms)


@pytest.fixture
def owner(services_of_owner: Services) -> PartnerView:
    found = a_partner()
    accounts.bring(found.id, AccountKeys(THEIRS, "id", "client-secret", "subscription-key"))
    return found


def test_an_agreement_that_was_drafted_here_and_whose_answer_was_lost_gets_no_second_place_in_the_books(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.faults.after("draft", ProviderUncertain("timeout"))
    number = services_of_owner.subscriptions.request(owner, a_wish()).subscription_id
    lost = unit.newest()
    unit.accept(lost)
    held = unit.agreements[lost]
    held.view = replace(held.view, currency="NOK")

    told = services_of_owner.direct.make(owner, {0: Wish(lost, 500)}, key=None)[0]
    assert words(told) == "This agreement is on its way into the books: ask again in some minutes"
    time.move(minutes=20)
    settle(Jobs(services_of_owner))

    with reading():
        assert db.session.scalars(select(Subscription.id)).all() == [number]
    assert services_of_owner.direct.make(owner, {0: Wish(lost, 500)}, key=None)[0].standing == DONE


def test_one_that_nobody_has_accepted_yet_waits_and_is_charged_when_somebody_has(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign(status=AgreementStatus.PENDING)
    acts, jobs = services_of_owner.direct, Jobs(services_of_owner)

    early = acts.make(owner, {0: Wish("agr_old", 500)}, key=None)[0]
    settle(jobs)
    unit.accept("agr_old")
    time.move(minutes=20)
    settle(jobs)
    later = acts.make(owner, {0: Wish("agr_old", 500)}, key=None)[0]

    assert (words(early), later.standing) == ("This agreement is not active: it is PENDING", DONE)
    assert "stop" not in unit.calls
    for _ in range(40):
        time.move(days=1)
        settle(jobs)
    assert len(unit.names()) == 1  # nothing is scheduled


def test_a_name_that_looks_like_ours_on_the_platform_is_shown_as_it_is(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    unit.sign()
    acts = services_of_owner.direct
    acts.make(owner, {0: Wish("agr_old", 500, charge_id="10295-mine")}, key=None)

    [[shown]] = acts.charges_of(owner, ["agr_old"])  # type: ignore[misc]

    assert shown["id"] == "10295-mine"  # type: ignore[index]
    assert acts.cancel(owner, "agr_old", "10295-mine").standing == DONE


def test_the_trouble_of_one_account_hides_nothing_that_is_under_another(
    app: Flask,
    database_url: str,
    payments: FakePayments,
    unit: Elsewhere,
    sms: FakeSms,
    owner: PartnerView,
    time: StandingClock,
):
    time.move(minutes=1)  # the newest is asked first
    locked = FakePayments("345678")
    known = Accounts(payments, lambda keys: unit if keys.account == THEIRS else locked)
    acts = build_services(Settings.from_environ(environ_for(database_url)), known, sms).direct
    accounts.bring(owner.id, AccountKeys("345678", "id", "an-old-secret", "subscription-key"))
    unit.sign()
    for call in ("show_agreement", "find_agreement", "find_agreement"):
        locked.faults.before(call, ProviderDenied("403"))

    assert acts.show(owner, "agr_old")["id"] == "agr_old"
    assert words(acts.stop(owner, "agr_none")) == "403"  # it may be there
    assert acts.stop(owner, "agr_old").standing == DONE
