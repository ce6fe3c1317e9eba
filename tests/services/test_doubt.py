"""What Vipps does not show yet, says late, or says oddly: money is neither taken twice nor kept nor lost."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import pytest

from invoice.errors import (
    Conflict,
    Invalid,
    ProviderDenied,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import (
    CHARGE_FREES_PERIOD,
    CHARGE_OPEN,
    AgreementStatus,
    ChargeStatus,
    Interval,
    SubscriptionStatus,
)
from invoice.services import endings
from invoice.services.changes import NewTerms
from invoice.services.jobs import Job, Jobs, Services
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Partner, Subscription
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    charges,
    event_types,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments


def pass_time(jobs: Jobs, time: StandingClock, *, hours: int, step: int = 1) -> None:
    for _ in range(0, hours, step):
        time.move(hours=step)
        settle(jobs)


def the_name(number: int, period: int) -> str:
    return f"{subscription(number).ulid}-p{period:04d}-a0"


LIVING = (SubscriptionStatus.PENDING, SubscriptionStatus.ACTIVE)


def assert_the_books_hold(number: int, payments: FakePayments) -> None:
    """What must be true of a subscription at every moment, here and at Vipps, whatever has happened."""
    rows, found = charges(number), subscription(number)
    there = {n: c for a in payments.agreements.values() for n, c in a.charges.items() if found.ulid in n}
    for row in rows:
        assert 0 <= row.refunded <= row.captured <= row.amount
        assert row.name not in there or there[row.name].amount == row.amount, "an amount that has left has changed"
    for name, charge in there.items():
        assert 0 <= charge.refunded <= charge.captured <= charge.amount
        assert charge.refunded == sum(amount for refunded, amount, _ in payments.refunds if refunded == name)
    ours = [row.period for row in rows if row.status not in CHARGE_FREES_PERIOD and not row.is_surplus]
    surplus = {row.name for row in rows if row.is_surplus}
    free = (ChargeStatus.FAILED, ChargeStatus.CANCELLED)
    theirs = [n.split("-")[1] for n, c in there.items() if c.status not in free and n not in surplus]
    assert len(ours) == len(set(ours)), "a period has two charges here"
    assert len(theirs) == len(set(theirs)), "a period has two charges at Vipps"
    if found.status not in LIVING:
        assert ChargeStatus.PLANNED not in {row.status for row in rows}
    with reading():
        assert [event.seq for event in queries.timeline(number)] == list(range(1, found.event_count + 1))


def test_an_initial_charge_that_shows_late_is_never_made_by_us(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.hidden.add(the_name(number, 0))
    payments.accept("agr_1")
    services.consents.refresh(newest_agreement(number).id)
    pass_time(jobs, time, hours=30)
    assert payments.batches == []

    payments.hidden.clear()
    pass_time(jobs, time, hours=2)

    assert [(c.period, c.status, c.captured) for c in charges(number)] == [(0, ChargeStatus.CHARGED, 9900)]


def test_money_taken_for_a_charge_that_we_gave_up_after_a_cancel_is_given_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    payments.faults.after("create", ProviderUncertain("timeout"))
    time.move(days=27)
    settle(jobs)
    services.subscriptions.cancel(number)
    payments.faults.before("stop", *[ProviderUnavailable("down")] * 400)
    pass_time(jobs, time, hours=80)
    payments.settle_charge(name, ChargeStatus.CHARGED)
    payments.hidden.clear()

    payments.faults = type(payments.faults)()
    pass_time(jobs, time, hours=6)

    assert payments.charge(name).refunded == 9900
    assert charges(number)[-1].status == ChargeStatus.REFUNDED
    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_a_name_in_use_that_does_not_show_yet_is_waited_for(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    payments.faults.after("create", ProviderUncertain("timeout"))
    time.move(days=27)
    settle(jobs)
    time.move(minutes=4)
    settle(jobs)
    assert charges(number)[-1].status == ChargeStatus.SUBMITTING

    payments.hidden.clear()
    pass_time(jobs, time, hours=1)

    assert charges(number)[-1].status == ChargeStatus.SUBMITTED


def test_a_charge_that_we_set_aside_and_that_is_paid_all_the_same_counts(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    payments.faults.after("create", ProviderUncertain("timeout"))
    time.move(days=27)
    pass_time(jobs, time, hours=5)
    assert charges(number)[-1].status == ChargeStatus.REFUSED
    payments.hidden.clear()
    payments.settle_charge(name, ChargeStatus.CHARGED)

    ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    settle(jobs)

    assert (charges(number)[-1].status, charges(number)[-1].captured) == (ChargeStatus.CHARGED, 9900)


def test_money_that_comes_after_the_last_retry_is_seen_by_its_webhook(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    name = charges(number)[-1].name
    payments.settle_charge(name, ChargeStatus.FAILED)
    pass_time(jobs, time, hours=240, step=12)
    payments.settle_charge(name, ChargeStatus.CHARGED)

    ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    settle(jobs)

    assert charges(number)[1].status == ChargeStatus.CHARGED
    assert event_types(number).count("charge.charged") == 2


def test_an_operation_that_fails_by_our_own_fault_keeps_no_cancel_from_vipps(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(5)]
    payments.faults.before("stop", RuntimeError("a bug"))
    for number in numbers:
        services.subscriptions.cancel(number)

    settle(jobs)

    states = [subscription(number).status for number in numbers]
    assert states.count(SubscriptionStatus.CANCELLED) == 4
    time.move(minutes=5)
    settle(jobs)
    assert subscription(numbers[0]).status == SubscriptionStatus.CANCELLED


def test_an_active_agreement_without_a_start_is_active(services: Services, payments: FakePayments):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.accept("agr_1")
    payments.shows_start = False

    services.consents.refresh(newest_agreement(number).id)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert subscription(number).anchor_on == date(2026, 11, 10)


def test_a_cancel_is_not_done_before_the_initial_money_is_found(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    services.subscriptions.cancel(number)
    payments.accept("agr_1")
    payments.hidden.add(the_name(number, 0))
    time.move(minutes=1)
    settle(jobs)
    assert subscription(number).status == SubscriptionStatus.CANCELLING

    payments.hidden.clear()
    pass_time(jobs, time, hours=2)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert payments.charge(the_name(number, 0)).refunded == 9900


@pytest.mark.parametrize("suspended", [True, False])
def test_what_could_not_be_sent_for_weeks_falls_due_one_at_a_time(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, suspended: bool
):
    partner = a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    _suspend(partner.id, time if suspended else None)
    if not suspended:
        payments.faults.before("create", *[ProviderUnavailable("down")] * 28)
    pass_time(jobs, time, hours=24 * 28, step=24)
    _suspend(partner.id, None)
    payments.faults = type(payments.faults)()

    for _ in range(40):
        pass_time(jobs, time, hours=24, step=24)
        for charge in charges(number):
            if charge.status == ChargeStatus.SUBMITTED and charge.due_on <= time.at.date():
                payments.settle_charge(charge.name, ChargeStatus.CHARGED)
                _ring_charge(services, charge.name)

    paid = [(c.period, c.due_on) for c in charges(number) if c.captured]
    assert [period for period, _ in paid] == list(range(len(paid)))
    assert len(paid) >= 9
    assert min(later - before for before, later in pairwise(sorted(due for _, due in paid))) >= timedelta(days=3)


def _suspend(partner_id: int, time: StandingClock | None) -> None:
    with transaction():
        db.session.get_one(Partner, partner_id).suspended_at = time.at if time else None


def _ring_charge(services: Services, name: str) -> None:
    ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")


def test_a_batch_that_is_turned_down_whole_is_halved_until_only_the_bad_one_is_left(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(5)]
    payments.spoils_batches.add(the_name(numbers[3], 1))
    time.move(days=27)

    pass_time(jobs, time, hours=2)

    states = [charges(number)[-1].status for number in numbers]
    assert states.count(ChargeStatus.SUBMITTED) == 4
    assert states[3] == ChargeStatus.REFUSED


def test_a_bell_that_rings_during_a_look_is_not_lost(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    def stopped_in_the_app() -> None:
        payments.end("agr_1")
        ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": None}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    payments.during_look = stopped_in_the_app
    time.move(hours=24)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.STOPPED


def test_a_charge_that_was_set_aside_does_not_stop_the_periods_after_it(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    charge_id = charges(number)[-1].id
    with transaction():
        db.session.get_one(Charge, charge_id).check_at = None  # as a quarantined one stands there
    time.move(days=60)  # nothing ran: the next periods are late

    pass_time(jobs, time, hours=72, step=12)

    assert [c.period for c in charges(number)][:3] == [0, 1, 2]
    assert charges(number)[2].status in (ChargeStatus.SUBMITTED, ChargeStatus.PLANNED)


def test_a_press_that_comes_while_another_drafts_starts_no_second_draft(
    services: Services, payments: FakePayments, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    token = subscription(number).link_token
    services.consents.open(token)
    time.move(minutes=1)
    seen = []

    def a_second_press() -> None:
        payments.end("agr_1", AgreementStatus.EXPIRED)
        seen.append(services.consents.open(token))

    payments.during_look = a_second_press  # while the first press looks whether its draft still lives

    first = services.consents.open(token)

    assert payments.calls.count("draft") == 2
    assert {first.url, seen[0].url} == {"https://api.vipps.no/landing/agr_2"}


def test_one_silence_does_not_make_a_charge_unsent_that_was_seen(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    time.move(days=27)
    settle(jobs)
    payments.stops_at_once = False
    services.subscriptions.cancel(number)
    payments.hidden.add(name)
    pass_time(jobs, time, hours=80, step=4)
    payments.hidden.clear()
    payments.settle_charge(name, ChargeStatus.CHARGED)
    payments.stops_at_once = True

    pass_time(jobs, time, hours=30)

    assert payments.charge(name).refunded == 9900
    assert charges(number)[-1].status == ChargeStatus.REFUNDED


def test_a_charge_that_we_set_aside_is_found_paid_without_any_webhook(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    name = the_name(number, 1)
    payments.hidden.add(name)
    payments.faults.after("create", ProviderUncertain("timeout"))
    time.move(days=27)
    pass_time(jobs, time, hours=5)
    assert charges(number)[-1].status == ChargeStatus.REFUSED
    payments.hidden.clear()
    payments.settle_charge(name, ChargeStatus.CHARGED)

    pass_time(jobs, time, hours=48, step=6)

    assert (charges(number)[1].status, charges(number)[1].captured) == (ChargeStatus.CHARGED, 9900)


def test_a_charge_that_was_set_aside_does_not_hold_up_a_late_one_for_ever(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    charge_id = charges(number)[-1].id
    with transaction():
        db.session.get_one(Charge, charge_id).check_at = None  # as a quarantined one stands there
    _suspend(partner.id, time)
    pass_time(jobs, time, hours=24 * 50, step=24)
    _suspend(partner.id, None)

    pass_time(jobs, time, hours=48, step=12)

    assert charges(number)[2].status == ChargeStatus.SUBMITTED


def test_a_refund_whose_look_fails_stays_in_doubt(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    services.subscriptions.cancel(number)
    payments.accept("agr_1")
    time.move(minutes=1)
    payments.faults.before("find_charge", ProviderUnavailable("429"), ProviderRefused("no"))

    pass_time(jobs, time, hours=3)

    assert len(payments.refunds) == 1
    assert "refund.failed" not in event_types(number)
    assert charges(number)[0].status == ChargeStatus.REFUNDED


def test_a_stop_waits_for_the_initial_money_though_vipps_shows_no_start(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.shows_start = False
    services.subscriptions.cancel(number)
    payments.accept("agr_1")
    payments.hidden.add(the_name(number, 0))
    job_of(jobs, "operations").run_once()
    assert subscription(number).status == SubscriptionStatus.CANCELLING

    payments.hidden.clear()
    pass_time(jobs, time, hours=3)

    assert payments.charge(the_name(number, 0)).refunded == 9900


def job_of(jobs: Jobs, name: str) -> Job:
    return next(job for job in jobs.table if job.name == name)


def test_a_paid_first_period_of_a_found_agreement_is_kept(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    payments.faults.after("draft", ProviderUncertain("timeout"))
    number = services.subscriptions.request(partner, a_wish()).subscription_id
    payments.accept("agr_1")
    payments.hidden.add(the_name(number, 0))
    ring = {"agreement_id": "agr_1", "external_id": subscription(number).ulid, "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    pass_time(jobs, time, hours=2)
    payments.hidden.clear()
    pass_time(jobs, time, hours=2)
    assert [(c.name, c.captured) for c in charges(number)] == [(the_name(number, 0), 9900)]

    services.subscriptions.cancel(number)
    pass_time(jobs, time, hours=2)

    assert payments.charge(the_name(number, 0)).refunded == 0
    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_a_draft_that_vipps_has_forgotten_ends_after_a_day(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.agreements.clear()

    pass_time(jobs, time, hours=26)
    pass_time(jobs, time, hours=24 * 15, step=24)

    assert newest_agreement(number).status == AgreementStatus.EXPIRED
    assert subscription(number).status == SubscriptionStatus.EXPIRED


def test_a_provider_that_hangs_is_left_alone_after_three_rows(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    for _ in range(10):
        services.subscriptions.request(partner, a_wish())
    payments.faults.before("find_agreement", *[ProviderUncertain("timeout")] * 100)
    time.move(minutes=1)

    jobs.run_pending()

    assert payments.calls.count("find_agreement") == 3


def test_a_set_aside_charge_is_told_once(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    name = the_name(number, 1)
    payments.agreements["agr_1"].charges[name] = replace(payments.charge(name), amount=1)

    for hour in range(4):
        _ring_charge(services, name)
        ring = {"agreement_id": "agr_1", "external_id": str(hour), "charge_name": name}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
        settle(jobs)

    assert event_types(number).count("charge.quarantined") == 1


# Everything at once

FAILED = ChargeStatus.FAILED


class Walk:
    """A subscription to which anything may happen, in an order that `seed` chooses."""

    def __init__(self, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, seed: int) -> None:
        self.services, self.payments, self.jobs, self.time = services, payments, jobs, time
        self.dice = random.Random(seed)
        self.steps: list[str] = []
        self.number = services.subscriptions.request(a_partner(), a_wish(interval=Interval.WEEK)).subscription_id
        with transaction():
            db.session.get_one(Subscription, self.number).reserves_initial = True
        payments.end("agr_1", AgreementStatus.EXPIRED)
        time.move(minutes=5)
        services.consents.open(subscription(self.number).link_token)
        accept(services, payments, self.number)

    def step(self) -> None:
        """Let one thing happen, then the work be done, by a worker that may die at it."""
        moves = (self.ask, self.ask, self.ask, self.fail, self.fail, self.settle_one, self.ring, self.hide)
        move = self.dice.choice(moves)
        self.steps.append(move.__name__)
        try:
            move()
        except (Conflict, Invalid) as refusal:
            self.steps.append(refusal.message)
        self.work()
        self.time.move(**self.dice.choice([{"seconds": 3}, {"minutes": 10}, {"hours": 2}, {"days": 1}, {"days": 2}]))
        self.work()
        assert_the_books_hold(self.number, self.payments)

    def work(self) -> None:
        try:
            settle(self.jobs)
        except SystemExit:
            self.steps.append("killed")

    def ask(self) -> None:
        charge = self.dice.choice(charges(self.number))
        amount = self.dice.choice([None, 100, 3000, charge.amount])
        asks = [
            lambda: self.services.captures.capture(charge.id, amount),
            lambda: self.services.refunds.refund(charge.id, amount, "goodwill"),
            lambda: self.services.cancels.cancel(charge.id),
            lambda: self.services.changes.change(self.number, NewTerms(amount=self.dice.randint(9000, 11000))),
            self.change_a_mind,
        ]
        chosen = self.dice.randrange(len(asks))
        self.steps.append(f"{chosen} {charge.name[-8:]} {amount}")
        asks[chosen]()

    def change_a_mind(self) -> None:
        if subscription(self.number).stop_on is None:
            endings.end_with_period(self.number)
        else:
            endings.keep(self.number)

    def fail(self) -> None:
        calls = ["capture", "refund", "cancel_charge", "update", "create", "find_charge", "find_agreement", "stop"]
        errors = [ProviderUncertain("?"), ProviderUnavailable("429"), ProviderDenied("keys"), SystemExit()]
        when = self.dice.choice([self.payments.faults.before, self.payments.faults.after])
        when(self.dice.choice(calls), self.dice.choice(errors))

    def settle_one(self) -> None:
        due = [row.name for row in charges(self.number) if row.due_on <= self.time.at.date()]
        for name in sorted(set(due) & set(self.payments.names())):
            if self.payments.charge(name).status == ChargeStatus.SUBMITTED:
                self.payments.settle_charge(name, self.dice.choice([ChargeStatus.CHARGED] * 3 + [FAILED]))

    def ring(self) -> None:
        name = self.dice.choice(charges(self.number)).name
        ring = {"agreement_id": "agr_2", "external_id": str(len(self.steps)), "charge_name": name}
        self.payments.during_look = lambda: self.services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    def hide(self) -> None:
        if self.payments.hidden:
            self.payments.hidden.clear()
        else:
            self.payments.hidden.update(self.payments.names()[-1:])

    def come_to_rest(self) -> None:
        """Vipps is well again, and everything is done."""
        self.payments.faults, self.payments.during_look = type(self.payments.faults)(), None
        self.payments.hidden.clear()
        pass_time(self.jobs, self.time, hours=60, step=4)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_books_hold_and_come_to_agree(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, seed: int
):
    walk = Walk(services, payments, jobs, time, seed)
    for _ in range(35):
        walk.step()
    walk.come_to_rest()
    is_over = seed % 2 == 1
    if is_over and subscription(walk.number).status == SubscriptionStatus.ACTIVE:
        services.subscriptions.cancel(walk.number)
        pass_time(jobs, time, hours=10)

    assert not is_over or subscription(walk.number).status == SubscriptionStatus.CANCELLED
    assert_the_books_hold(walk.number, payments)
    for row in charges(walk.number):
        if row.name in payments.names():
            there = payments.charge(row.name)
            assert (row.status, row.captured, row.refunded) == (there.status, there.captured, there.refunded), (
                walk.steps
            )
            asked = sum(amount for name, amount, _ in payments.captures if name == row.name)
            assert not row.is_reserved or there.captured == asked, "captured otherwise than was asked for"
        assert not is_over or row.status not in CHARGE_OPEN
