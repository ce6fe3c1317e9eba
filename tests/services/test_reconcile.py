"""The database goes back, and nobody is charged twice for it, charged after an end, or lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, insert, select

from invoice.engine.inline import Engine
from invoice.errors import NotFound
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, SubscriptionStatus
from invoice.services import brakes, endings, proof
from invoice.services.changes import NewTerms
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.journal import WENT_BACK, Journal, note, read
from invoice.services.outcomes import Standing
from invoice.services.partners import PartnerView
from invoice.store.db import Base, db, reading, transaction
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    an_active_subscription,
    charges,
    event_types,
    settle,
    subscription,
    the_partner,
)
from tests.fakes import FakePayments
from tests.services.asking import Elsewhere
from tests.services.test_charges import live

pytestmark = pytest.mark.usefixtures("housekeeping")

Backup = dict[str, list[dict[str, Any]]]


def backup() -> Backup:
    with reading():
        tables = Base.metadata.sorted_tables
        return {t.name: [dict(row) for row in db.session.execute(select(t)).mappings()] for t in tables}


def restore(rows: Backup) -> None:
    """Put back all that was there, and nothing else."""
    with transaction():
        for table in reversed(Base.metadata.sorted_tables):
            db.session.execute(delete(table))
        for table in Base.metadata.sorted_tables:
            if rows[table.name]:
                db.session.execute(insert(table), rows[table.name])


@pytest.fixture
def engine(app: Flask, jobs: Jobs, tmp_path: Path) -> Engine:
    return Engine(app, jobs, Journal(str(tmp_path / "journal.json"), "sqlite:///here"))


def renewals(number: int) -> list[tuple[int, ChargeStatus]]:
    return [(c.period, c.status) for c in charges(number) if c.period > 0]


def run(engine: Engine) -> None:
    while engine.run_once():
        pass


def read_back(services: Services) -> list[str]:
    report = services.reconcile.run(None, lambda _: None)
    brakes.start(None)
    return [view.agreement_id for view in report.strangers]


def assert_each_period_is_paid_once(payments: FakePayments) -> None:
    periods = [name.rpartition("-a")[0] for name in payments.names()]
    assert len(periods) == len(set(periods))
    assert proof.examine() == []


def test_a_database_that_went_back_sends_nothing_until_it_is_read_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, engine: Engine
):
    a_partner()
    number = an_active_subscription(services, payments)
    run(engine)
    rows = backup()
    time.move(days=28)
    run(engine)
    made = payments.names()
    assert renewals(number) == [(1, ChargeStatus.SUBMITTED)]

    time.move(seconds=10)
    restore(rows)
    run(engine)
    frozen = brakes.list_all()
    time.move(days=1)
    run(engine)
    calls_while_frozen = payments.names()

    assert [(b.reason, b.is_frozen) for b in frozen] == [(WENT_BACK, True)]
    assert calls_while_frozen == made
    assert read_back(services) == []
    run(engine)
    assert payments.names() == made
    assert renewals(number) == [(1, ChargeStatus.SUBMITTED)]
    assert_each_period_is_paid_once(payments)


def test_a_worker_that_is_started_after_the_restore_notices_by_the_note(
    services: Services, payments: FakePayments, app: Flask, jobs: Jobs, time: StandingClock, tmp_path: Path
):
    a_partner()
    path = str(tmp_path / "journal.json")
    journal = Journal(path, "sqlite:///here")
    journal.watch()
    rows = backup()
    an_active_subscription(services, payments)
    journal.watch()  # within five seconds: seen, and not yet on the disk
    time.move(seconds=6)
    journal.watch()

    restore(rows)
    Journal(path, "sqlite:///here").watch()

    assert [(brake.reason, brake.is_frozen) for brake in brakes.list_all()] == [(WENT_BACK, True)]


def test_whoever_looked_before_the_books_were_read_back_does_not_hold_everything_anew(
    services: Services, payments: FakePayments, time: StandingClock, tmp_path: Path
):
    class Slow(Journal):
        """Stands still between its look and what it does about it."""

        def _is_held(self) -> bool:
            read_back(services)
            return super()._is_held()

    a_partner()
    journal = Slow(str(tmp_path / "journal.json"), "sqlite:///here")
    rows = backup()
    an_active_subscription(services, payments)
    journal.watch()
    restore(rows)

    journal.watch()

    assert [brake.is_frozen for brake in brakes.list_all()] == [False]


def test_months_that_are_lost_are_read_back_and_charging_goes_on_where_it_was(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    rows = backup()
    live(jobs, payments, time, days=64, step=2)
    services.changes.change(number, NewTerms(amount=10900))
    settle(jobs)
    live(jobs, payments, time, days=30, step=2)
    paid = [(c.period, c.due_on, c.amount, c.captured) for c in charges(number) if c.captured]

    restore(rows)
    assert read_back(services) == []
    settle(jobs)

    assert [(c.period, c.due_on, c.amount, c.captured) for c in charges(number) if c.captured] == paid
    assert [period for period, *_ in paid] == [0, 1, 2, 3]
    assert subscription(number).amount == 10900
    live(jobs, payments, time, days=31, step=2)
    assert [c.period for c in charges(number) if c.captured] == [0, 1, 2, 3, 4]
    assert_each_period_is_paid_once(payments)


def test_a_subscription_whose_row_is_lost_is_made_anew_under_its_number(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    rows = backup()
    number = an_active_subscription(services, payments, campaign_amount=1000)
    live(jobs, payments, time, days=34, step=2)

    restore(rows)
    assert read_back(services) == []
    settle(jobs)
    later = services.subscriptions.request(*_another()).subscription_id

    found = subscription(number)
    assert (found.status, found.amount, found.partner_id) == (SubscriptionStatus.ACTIVE, 9900, 10295)
    assert [(c.period, c.captured) for c in charges(number)] == [(0, 1000), (1, 9900)]
    assert later > number + 999
    live(jobs, payments, time, days=31, step=2)
    assert [c.period for c in charges(number) if c.captured] == [0, 1, 2]
    assert_each_period_is_paid_once(payments)


def test_what_ended_after_the_backup_stays_ended(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    rows = backup()
    services.subscriptions.cancel(number)
    settle(jobs)

    restore(rows)
    read_back(services)
    live(jobs, payments, time, days=40, step=2)

    assert subscription(number).status == SubscriptionStatus.STOPPED
    assert [name for name in payments.names() if "-p0000-" not in name] == []


def test_reading_back_twice_changes_nothing(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=34, step=2)
    before = [(c.name, c.status, c.captured) for c in charges(number)]

    read_back(services)
    read_back(services)
    settle(jobs)

    assert [(c.name, c.status, c.captured) for c in charges(number)] == before
    assert_each_period_is_paid_once(payments)


def test_an_agreement_of_nobody_known_is_named(services: Services, payments: FakePayments, jobs: Jobs):
    a_partner()
    rows = backup()
    an_active_subscription(services, payments)
    restore(rows)
    a_partner(10296)

    strangers = read_back(services)

    assert strangers == [payments.newest()]
    assert payments.agreements[strangers[0]].view.status == AgreementStatus.ACTIVE
    with pytest.raises(NotFound, match="99"):
        services.reconcile.run(None, lambda _: None, {strangers[0]: 99})
    assert services.reconcile.run(None, lambda _: None, {strangers[0]: 10296}).strangers == []
    assert (subscription(1).partner_id, subscription(1).status) == (10296, SubscriptionStatus.ACTIVE)
    assert read_back(services) == []


def test_another_database_has_a_note_of_its_own(app: Flask, services: Services, tmp_path: Path):
    a_partner()
    path = tmp_path / "journal.json"
    Journal(str(path), "postgresql+psycopg://a:secret@host/one").watch()
    far = replace(read(path, "postgresql+psycopg://host/one"), operations=999)
    note(path, "postgresql+psycopg://a:secret@host/one", far)

    Journal(str(path), "postgresql+psycopg://a:secret@host/two").watch()
    assert brakes.list_all() == []

    Journal(str(path), "postgresql+psycopg://b:other@host/one").watch()
    assert [brake.reason for brake in brakes.list_all()] == [WENT_BACK]
    assert "secret" not in path.read_text()


def test_a_refund_that_was_sent_after_the_backup_goes_out_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, campaign_amount=1000)
    settle(jobs)
    charge = charges(number)[0]
    services.refunds.refund(charge.id, 400, "half")
    rows = backup()
    settle(jobs)
    assert payments.charge(charge.name).refunded == 400
    time.move(days=2)
    payments.refunds.clear()  # Vipps has forgotten the key by now

    restore(rows)
    read_back(services)
    settle(jobs)

    assert payments.charge(charge.name).refunded == 400
    assert charges(number)[0].refunded == 400


@pytest.mark.parametrize("mark", ["400", "a" * 64])
def test_a_refund_that_is_asked_for_again_after_its_row_was_lost_goes_out_once(
    services: Services, payments: FakePayments, jobs: Jobs, mark: str
):
    a_partner()
    number = an_active_subscription(services, payments, campaign_amount=1000)
    settle(jobs)
    charge = charges(number)[0]
    wish = Wish(str(payments.agreements["agr_1"].view.agreement_id), 400, charge_id=charge.name)
    rows = backup()
    assert services.direct.refund(the_partner(), wish, mark=mark).standing == Standing.DONE
    payments.give_back(charge.name, 100)  # in the portal

    restore(rows)
    read_back(services)
    settle(jobs)
    again = services.direct.refund(the_partner(), wish, mark=mark)
    settle(jobs)

    assert again.standing == Standing.DONE
    assert payments.charge(charge.name).refunded == charges(number)[0].refunded == 500
    assert services.direct.refund(the_partner(), wish, mark="b" * 64).standing == Standing.DONE
    assert payments.charge(charge.name).refunded == 900  # another wish, and no other was lost
    assert proof.examine() == []


@pytest.mark.parametrize("is_early", [True, False])
def test_a_refund_of_a_charge_made_elsewhere_goes_out_once_though_all_its_rows_are_lost(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, is_early: bool
):
    unit.sign()
    unit.hold("portal-1", ChargeStatus.CHARGED, amount=700, captured=700)
    wish = Wish("agr_old", 300, charge_id="portal-1")
    rows = backup()
    if is_early:
        services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None)
        rows = backup()
    assert services_of_owner.direct.refund(owner, wish, mark="m").standing == Standing.DONE

    restore(rows)
    services_of_owner.reconcile.run(None, lambda _: None)
    brakes.start(None)

    assert services_of_owner.direct.refund(owner, wish, mark="m").standing == Standing.DONE
    assert unit.charge("portal-1").refunded == 300
    assert services_of_owner.direct.refund(owner, wish, mark="another").standing == Standing.DONE
    assert unit.charge("portal-1").refunded == 600


def test_what_was_sent_at_another_price_after_the_backup_is_not_set_aside_before_it_is_read_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, engine: Engine
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=24, step=2)
    run(engine)
    rows = backup()
    services.changes.change(number, NewTerms(amount=10900))
    live(jobs, payments, time, days=10, step=2)
    run(engine)
    [_, charge] = charges(number)
    time.move(seconds=10)

    restore(rows)
    run(engine)
    ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": charge.name}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    run(engine)
    read_back(services)
    run(engine)

    assert [(c.period, c.captured) for c in charges(number)] == [(0, 9900), (1, 10900)]
    assert "charge.quarantined" not in event_types(number)
    assert proof.examine() == []


def test_a_webhook_that_rings_while_the_charges_are_read_back_is_heard(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, campaign_amount=1000)
    settle(jobs)
    name = charges(number)[0].name
    time.move(hours=1)

    def given_back_there() -> None:
        if payments.calls[-1] != "list_charges":
            payments.during_look = given_back_there
            return
        payments.give_back(name, 400)
        ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
        time.move(seconds=1)

    payments.during_look = given_back_there
    read_back(services)
    settle(jobs)

    assert charges(number)[0].refunded == 400


def test_the_note_of_an_older_epoch_does_not_count(app: Flask, services: Services, tmp_path: Path):
    a_partner()
    other = Journal(str(tmp_path / "other.json"), "sqlite:///here")
    other.watch()

    read_back(services)
    other.watch()

    assert brakes.list_all()[0].released_at is not None


def _another() -> tuple[Any, Any]:
    from tests.factories import a_wish, the_partner  # noqa: PLC0415

    return the_partner(), a_wish()


@pytest.mark.parametrize(
    ("before", "is_asked_for", "lost"),
    [(24, False, 10), (24, False, 37), (24, True, 40), (2, True, 40)],  # after 24 days the first period is planned
)
def test_a_price_that_changed_after_the_backup_counts_from_where_it_did(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    before: int,
    is_asked_for: bool,
    lost: int,
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=before, step=2)
    rows = backup()
    services.changes.change(number, NewTerms(amount=10900))
    rows = backup() if is_asked_for else rows
    live(jobs, payments, time, days=lost, step=2)
    paid = [(c.period, c.due_on, c.amount, c.captured) for c in charges(number) if c.captured]

    restore(rows)
    assert read_back(services) == []
    settle(jobs)

    assert [(c.period, c.due_on, c.amount, c.captured) for c in charges(number) if c.captured][: len(paid)] == paid
    assert subscription(number).amount == 10900
    live(jobs, payments, time, days=31, step=2)
    assert_each_period_is_paid_once(payments)


@pytest.mark.parametrize("amount", [9900, 10900])
def test_what_was_planned_was_charged_and_ended_after_the_backup_stands_in_the_books(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, amount: int
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=24, step=2)
    rows = backup()
    if amount != 9900:
        services.changes.change(number, NewTerms(amount=amount))
    live(jobs, payments, time, days=10, step=2)
    assert [(c.period, c.captured) for c in charges(number)] == [(0, 9900), (1, amount)]
    services.subscriptions.cancel(number)
    settle(jobs)

    restore(rows)
    assert read_back(services) == []
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.STOPPED
    assert [(c.period, c.status, c.captured) for c in charges(number)][1] == (1, ChargeStatus.CHARGED, amount)
    assert proof.examine() == []


def test_what_waits_still_gets_the_price_at_which_another_left_after_the_backup(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, interval=Interval.WEEK)
    brakes.stop(None, "held")
    live(jobs, payments, time, days=9, step=1)
    assert renewals(number) == [(1, ChargeStatus.PLANNED), (2, ChargeStatus.PLANNED)]
    rows = backup()
    brakes.start(None)
    services.changes.change(number, NewTerms(amount=10900))
    settle(jobs)

    restore(rows)
    read_back(services)
    live(jobs, payments, time, days=14, step=1)

    assert {c.amount for c in charges(number) if c.period > 0} == {10900}
    assert proof.examine() == []


def test_a_change_that_was_asked_for_before_the_backup_keeps_its_words(
    services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, NewTerms(amount=10900, name="Avisen+"))
    rows = backup()
    settle(jobs)

    restore(rows)
    read_back(services)
    settle(jobs)

    assert (subscription(number).amount, subscription(number).name) == (10900, "Avisen+")
    assert proof.examine() == []


@pytest.mark.parametrize("planned", [True, False])
def test_the_order_in_which_vipps_lists_attempts_does_not_matter(
    services: Services,
    payments: FakePayments,
    jobs: Jobs,
    time: StandingClock,
    monkeypatch: pytest.MonkeyPatch,
    planned: bool,
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=24, step=2)
    early = backup()
    live(jobs, payments, time, days=4, step=1)
    rows = early if planned else backup()
    endings.end_with_period(number)
    settle(jobs)
    services.changes.change(number, NewTerms(amount=10900))
    settle(jobs)
    endings.keep(number)
    live(jobs, payments, time, days=1, step=1)
    there = payments.list_charges

    restore(rows)
    monkeypatch.setattr(payments, "list_charges", lambda agreement_id: there(agreement_id)[::-1])
    read_back(services)
    settle(jobs)

    found = [(c.amount, c.status) for c in charges(number) if c.period == 1]
    assert found[0] == (9900, ChargeStatus.CANCELLED)
    assert [amount for amount, _ in found] == [9900, 10900]
    assert proof.examine() == []
