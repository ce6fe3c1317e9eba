"""What a caller is told of charges and refunds, and that nothing else happens later."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from invoice.errors import ProviderDenied, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, OperationStatus
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.services.scopes import NO_TIME
from invoice.store.db import db, reading, transaction
from invoice.store.models import Operation, Partner, ProviderAccount, Refund
from tests.conftest import StandingClock
from tests.factories import charges, event_types, settle
from tests.fakes import FakePayments
from tests.services.asking import Elsewhere, away, extras, make, operations, pass_time, standings, statuses, words

DONE, ACCEPTED, UNKNOWN, REFUSED = Standing.DONE, Standing.ACCEPTED, Standing.UNKNOWN, Standing.REFUSED


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
    unit.hold("theirs", ChargeStatus.CANCELLED)
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
