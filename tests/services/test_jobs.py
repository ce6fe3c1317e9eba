"""Each recurring job does what is due and says how much; one failure keeps nothing else from being done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from datetime import time as dt_time
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import Connection, event

from invoice.clock import utc_now
from invoice.errors import ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services import brakes, endings
from invoice.services.jobs import Job, Jobs, Services, beat, last_beat
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import EVERYONE, Brake
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    an_active_subscription,
    charges,
    event_types,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments, FakeSms, Faults


def job(jobs: Jobs, name: str) -> Job:
    return next(job for job in jobs.table if job.name == name)


def three_accepted(services: Services, payments: FakePayments) -> list[int]:
    """Return the numbers of three subscriptions that people have accepted, which nobody has seen yet."""
    partner = a_partner()
    numbers = [services.subscriptions.request(partner, a_wish()).subscription_id for _ in range(3)]
    for agreement_id in payments.agreements:
        payments.accept(agreement_id)
    return numbers


def test_every_job_is_run_by_what_is_due_or_at_intervals(services: Services):
    assert {job.name for job in Jobs(services).table if job.every is None} == queries.WORK


def test_job_operations_sends_the_text_that_was_staged(services: Services, sms: FakeSms, jobs: Jobs):
    services.subscriptions.request(a_partner(), a_wish(send_sms=True))

    done = job(jobs, "operations").run_once()

    assert (done, len(sms.sent)) == (1, 1)


def test_job_inbox_places_a_webhook_that_came_before_our_row(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    number = services.subscriptions.request(a_partner(10296), a_wish()).subscription_id
    payments.accept("agr_1")
    time.move(seconds=11)

    done = job(jobs, "inbox").run_once()
    job(jobs, "consents").run_once()

    assert done == 1
    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_job_inbox_lays_aside_what_is_not_ours_after_a_week(services: Services, jobs: Jobs, time: StandingClock):
    ring = {"agreement_id": "agr_of_another_shop", "external_id": "theirs", "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    tries = 0
    for _ in range(400):
        time.move(hours=1)
        tries += job(jobs, "inbox").run_once()

    assert 5 < tries < 60
    assert job(jobs, "inbox").run_once() == 0


def test_job_consents_looks_at_drafts_whose_time_has_come(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.end("agr_1", AgreementStatus.EXPIRED)
    time.move(minutes=11)

    done = job(jobs, "consents").run_once()

    assert done == 1
    assert newest_agreement(number).status == AgreementStatus.EXPIRED


def test_job_plan_enters_a_period_once(services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=23)

    first, second = job(jobs, "plan").run_once(), job(jobs, "plan").run_once()

    assert (first, second) == (1, 0)
    assert [(c.period, c.status) for c in charges(number)][1:] == [(1, ChargeStatus.PLANNED)]


def test_job_submit_sends_what_is_planned_for_today_in_one_batch(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    for _ in range(3):
        an_active_subscription(services, payments)
    time.move(days=27)
    job(jobs, "plan").run_once()

    done = job(jobs, "submit").run_once()

    assert done == 3
    assert [len(json.loads(request)) for _, request in payments.batches] == [3]


@pytest.fixture
def locks(app: Flask) -> Iterator[list[str]]:
    """The transactions that were opened to write, as they are counted."""
    opened: list[str] = []

    def count(connection: Connection) -> None:
        if not connection.get_execution_options().get("read_only"):
            opened.append("begin")

    event.listen(db.engine, "begin", count)
    yield opened
    event.remove(db.engine, "begin", count)


def test_what_may_not_leave_yet_locks_nothing(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, locks: list[str]
):
    a_partner()
    an_active_subscription(services, payments)
    time.move(days=28)
    job(jobs, "plan").run_once()
    brakes.stop(None, "a look at the prices")
    locks.clear()

    assert job(jobs, "submit").run_once() == 0
    assert locks == []

    brakes.start(None)
    assert job(jobs, "submit").run_once() == 1
    assert locks != []


def test_tomorrow_in_another_market_locks_nothing_here(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, locks: list[str]
):
    a_partner()
    number = an_active_subscription(services, payments)
    plan_on = subscription(number).next_plan_on
    assert plan_on is not None
    time.move_to(datetime.combine(plan_on, dt_time(), tzinfo=ZoneInfo("Europe/Helsinki")))
    locks.clear()

    assert job(jobs, "plan").run_once() == 0
    assert locks == []

    time.move(hours=1)
    assert job(jobs, "plan").run_once() == 1
    assert locks != []


def test_job_retention_locks_nothing_while_nothing_is_over(
    services: Services, jobs: Jobs, time: StandingClock, locks: list[str]
):
    services.subscriptions.request(a_partner(), a_wish())
    time.move(days=87)
    locks.clear()

    assert job(jobs, "retention").run_once() == 0
    assert locks == []

    time.move(days=2)
    assert job(jobs, "retention").run_once() > 0
    assert locks != []


def test_job_charges_looks_at_what_was_submitted(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    settle(jobs)
    payments.settle_charge(charges(number)[-1].name, ChargeStatus.CHARGED)
    time.move(days=4)

    done = job(jobs, "charges").run_once()

    assert done == 1
    assert charges(number)[-1].captured == 9900


def test_job_read_back_sees_within_a_week_what_was_given_back_there_and_told_by_nobody(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    settle(jobs)
    payments.give_back(charges(number)[0].name, 300)

    time.move(days=6)
    settle(jobs)
    before = charges(number)[0].refunded
    time.move(days=2)
    settle(jobs)

    assert (before, charges(number)[0].refunded) == (0, 300)
    assert event_types(number)[-1] == "charge.partially_refunded"


def test_job_read_back_asks_at_once_after_a_time_in_which_no_webhook_could_come(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    settle(jobs)
    payments.give_back(charges(number)[0].name, 300)
    payments.webhooks.clear()

    job(jobs, "webhooks").run_once()
    settle(jobs)

    assert charges(number)[0].refunded == 300


def test_job_read_back_asks_once_a_week_until_no_money_can_go_back_any_more(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.subscriptions.cancel(number)
    settle(jobs)
    payments.calls.clear()

    for _ in range(80):
        time.move(days=7)
        job(jobs, "read_back").run_once()

    assert payments.calls.count("list_charges") == 54
    assert newest_agreement(number).read_back_at is None


def test_job_read_back_tries_again_after_an_hour_what_vipps_could_not_say(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    an_active_subscription(services, payments)
    settle(jobs)
    time.move(days=7)
    payments.faults.before("list_charges", ProviderUncertain("down"))
    with pytest.raises(ProviderUncertain):
        job(jobs, "read_back").run_once()

    time.move(minutes=59)
    early = job(jobs, "read_back").run_once()
    time.move(minutes=1)

    assert (early, job(jobs, "read_back").run_once()) == (0, 1)


def test_job_expire_ends_links_that_ran_out(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    services.subscriptions.request(a_partner(), a_wish())
    payments.end("agr_1", AgreementStatus.EXPIRED)
    time.move(days=15)
    job(jobs, "consents").run_once()

    assert job(jobs, "expire").run_once() == 1


def test_job_expire_ends_nothing_while_the_books_may_be_behind(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    services.subscriptions.request(a_partner(), a_wish())
    payments.end("agr_1", AgreementStatus.EXPIRED)
    time.move(days=15)
    job(jobs, "consents").run_once()
    with transaction():
        brakes.pull(None, "the books have gone back", is_frozen=True)

    assert job(jobs, "expire").run_once() == 0

    with transaction():
        db.session.get_one(Brake, EVERYONE).is_frozen = False
    assert job(jobs, "expire").run_once() == 1


def test_job_endings_ends_nothing_while_the_books_may_be_behind(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    settle(jobs)
    endings.end_with_period(number)
    time.move(days=40)
    with transaction():
        brakes.pull(None, "the books have gone back", is_frozen=True)

    assert job(jobs, "endings").run_once() == 0

    with transaction():
        db.session.get_one(Brake, EVERYONE).is_frozen = False
    assert job(jobs, "endings").run_once() == 1


def test_job_webhooks_registers_once_and_again_when_vipps_has_forgotten(
    services: Services, payments: FakePayments, jobs: Jobs
):
    first = job(jobs, "webhooks").run_once()
    second = job(jobs, "webhooks").run_once()
    payments.webhooks.clear()
    third = job(jobs, "webhooks").run_once()

    assert (first, second, third) == (1, 0, 1)


def test_job_webhooks_replaces_a_registration_whose_secret_was_lost(payments: FakePayments, jobs: Jobs):
    payments.faults.after("register", ProviderUncertain("timeout"))
    with pytest.raises(ProviderUncertain):
        job(jobs, "webhooks").run_once()

    job(jobs, "webhooks").run_once()

    assert len(payments.webhooks) == 1


def test_a_row_that_cannot_be_looked_at_leaves_the_others_be(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    numbers = three_accepted(services, payments)
    payments.faults.before("find_agreement", RuntimeError("a bug"))
    time.move(minutes=1)

    settle(jobs)

    states = [subscription(number).status for number in numbers]
    assert states == [SubscriptionStatus.PENDING, SubscriptionStatus.ACTIVE, SubscriptionStatus.ACTIVE]
    time.move(minutes=2)
    settle(jobs)
    assert subscription(numbers[0]).status == SubscriptionStatus.ACTIVE


def test_vipps_down_for_a_day_ends_no_round_and_loses_nothing(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=27)
    payments.faults.before("create", *[ProviderUncertain("down")] * 20)
    for _ in range(24):
        settle(jobs)
        time.move(hours=1)

    for _ in range(12):
        settle(jobs)
        time.move(hours=1)

    assert charges(number)[-1].status == ChargeStatus.SUBMITTED


def test_a_provider_that_is_away_for_long_is_asked_ever_more_rarely_and_as_ever_when_it_is_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    numbers = three_accepted(services, payments)
    payments.faults.before("find_agreement", *[ProviderUncertain("down")] * 1000)
    time.move(minutes=1)
    for _ in range(6 * 60):
        settle(jobs)
        time.move(seconds=10)
    # Three each time: every five minutes, and more often at the beginning.
    assert 3 * 12 <= payments.calls.count("find_agreement") <= 3 * 20
    payments.faults = Faults()

    time.move(minutes=5)
    settle(jobs)
    assert {subscription(number).status for number in numbers} == {SubscriptionStatus.ACTIVE}
    with reading():
        _, failed = queries.jobs_put_off(utc_now())
    assert "consents" not in failed


def test_one_row_alone_is_asked_ever_more_rarely_as_well(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    services.subscriptions.request(a_partner(), a_wish())
    payments.faults.before("find_agreement", *[ProviderUncertain("down")] * 1000)

    for _ in range(6 * 60):
        time.move(seconds=10)
        settle(jobs)

    assert 12 <= payments.calls.count("find_agreement") <= 20


def test_what_a_webhook_tells_of_is_looked_at_at_once_however_rarely_the_rest_is(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    numbers = three_accepted(services, payments)
    payments.faults.before("find_agreement", *[ProviderUncertain("down")] * 20)
    for _ in range(60):
        time.move(seconds=10)
        settle(jobs)
    payments.faults = Faults()
    time.move(seconds=10)

    ring = {"agreement_id": "agr_2", "external_id": None, "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    settle(jobs)

    assert subscription(numbers[1]).status == SubscriptionStatus.ACTIVE


def test_the_engine_leaves_a_sign_of_life(time: StandingClock, app: object):
    assert last_beat() is None

    beat()
    time.move(seconds=3)

    age = last_beat()
    assert age is not None
    assert age.total_seconds() == 3


def test_job_rates_forgets_what_nobody_has_used_for_long(services: Services, jobs: Jobs, time: StandingClock):
    services.rates.take("used once", 60)
    time.move(minutes=59)
    services.rates.take("in use", 60)

    time.move(minutes=2)
    done = [job(jobs, "rates").run_once() for _ in range(2)]

    assert done == [1, 0]


def test_job_roll_puts_off_the_look_at_what_still_answers(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    living, stopped = an_active_subscription(services, payments), an_active_subscription(services, payments)
    due_at = newest_agreement(stopped).check_at
    payments.end("agr_2")
    time.move(hours=12)

    done = [job(jobs, "roll").run_once() for _ in range(2)]

    assert done == [1, 0]
    assert newest_agreement(living).check_at == time.at + timedelta(hours=24)
    assert newest_agreement(stopped).check_at == due_at


def test_job_sweep_that_fails_is_run_again_before_its_time(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    payments.faults.after("draft", ProviderUncertain("timeout"))
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.accept("agr_1")
    payments.faults.before("list_agreements", ProviderUncertain("timeout"))
    settle(jobs)

    time.move(seconds=10)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
