"""What partners ask for around a restore: again, in the middle of it, or by numbers that were given away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from invoice.errors import NotFound, ProviderUnavailable
from invoice.lifecycle import AgreementStatus
from invoice.services import brakes, idempotency, proof
from invoice.services.changes import NewTerms
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.journal import Journal
from invoice.services.outcomes import Standing
from invoice.services.partners import PartnerView
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    charges,
    event_types,
    settle,
    subscription,
    the_partner,
)
from tests.fakes import FakePayments
from tests.services.asking import Elsewhere
from tests.services.test_captures import a_reservation, reserved
from tests.services.test_doubt import pass_time
from tests.services.test_reconcile import Backup, backup, read_back, restore

pytestmark = pytest.mark.usefixtures("housekeeping")

_REWIND = {
    "sqlite": "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(id), 0) FROM {0}) WHERE name = '{0}'",
    "postgresql": "SELECT setval(pg_get_serial_sequence('{0}', 'id'), greatest((SELECT max(id) FROM {0}), 1),"
    " (SELECT max(id) FROM {0}) IS NOT NULL)",
}


def set_back(rows: Backup) -> None:
    """Put back all that was there, and have numbers given out again, as a real restore does."""
    restore(rows)
    with transaction():
        for table in ("subscriptions", "refunds", "messages", "changes"):
            db.session.execute(text(_REWIND[db.session.get_bind().dialect.name].format(table)))


def freeze() -> None:
    with transaction():
        brakes.pull(None, "the books have gone back", is_frozen=True)


def capture(services: Services, number: int, key: str) -> None:
    attempt = idempotency.begin(the_partner().id, key, b"d")
    assert isinstance(attempt, idempotency.Attempt)
    services.captures.capture(reserved(number).id, 3000, attempt)


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("days", [0, 2])
def test_a_capture_that_waited_at_the_backup_happens_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, days: int, names: bool
):
    payments.names_captures = names
    number = a_reservation(services, payments, time)
    capture(services, number, "k")
    rows = backup()
    settle(jobs)
    time.move(days=days)
    if days:
        payments.captures.clear()  # Vipps has forgotten the key

    set_back(rows)
    read_back(services)
    pass_time(jobs, time, hours=30)

    assert payments.charge(reserved(number).name).captured == reserved(number).captured == 3000
    assert "capture.failed" not in event_types(number)


def test_a_capture_that_is_asked_for_again_after_its_rows_were_lost_happens_once_and_another_as_well(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    rows = backup()
    capture(services, number, "k")
    settle(jobs)
    time.move(days=2)
    payments.captures.clear()

    set_back(rows)
    read_back(services)
    capture(services, number, "k")
    pass_time(jobs, time, hours=3)
    assert payments.charge(reserved(number).name).captured == 3000
    services.captures.capture(reserved(number).id, 3000)
    pass_time(jobs, time, hours=3)

    assert payments.charge(reserved(number).name).captured == reserved(number).captured == 6000
    assert "capture.failed" not in event_types(number)


def test_a_second_part_without_a_key_is_not_taken_for_the_lost_first(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    rows = backup()
    services.captures.capture(reserved(number).id, 3000)
    settle(jobs)

    set_back(rows)
    read_back(services)
    settle(jobs)
    services.captures.capture(reserved(number).id, 3000)
    pass_time(jobs, time, hours=3)

    assert payments.charge(reserved(number).name).captured == reserved(number).captured == 6000


def test_while_the_books_may_be_behind_no_wish_for_money_enters_them(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = a_reservation(services, payments, time)
    [charge] = charges(an_active_subscription(services, payments, campaign_amount=1000))
    settle(jobs)
    freeze()

    with pytest.raises(ProviderUnavailable, match="being read back"):
        services.subscriptions.request(the_partner(), a_wish())
    with pytest.raises(ProviderUnavailable, match="being read back"):
        services.captures.capture(reserved(number).id, 3000)
    with pytest.raises(ProviderUnavailable, match="being read back"):
        services.subscriptions.cancel_for(the_partner(), 4711, "")
    for name in (charge.name, "one-that-is-lost"):
        outcome = services.direct.refund(the_partner(), Wish("agr_3", 400, charge_id=name), mark="m")
        assert outcome.standing not in (Standing.DONE, Standing.ACCEPTED)
        assert "being read back" in str(outcome.error)
    assert services.direct.stop(the_partner(), "agr_2").standing == Standing.ACCEPTED

    read_back(services)
    settle(jobs)
    assert payments.agreements["agr_2"].view.status == AgreementStatus.STOPPED
    with pytest.raises(NotFound):
        services.subscriptions.cancel_for(the_partner(), 4711, "")


def test_a_refund_that_is_repeated_while_the_books_may_be_behind_goes_back_once(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    one, two = (an_active_subscription(services, payments, campaign_amount=1000) for _ in range(2))
    settle(jobs)
    first, second = charges(one)[0].name, charges(two)[0].name
    rows = backup()
    services.direct.refund(partner, Wish("agr_1", 300, charge_id=first), mark="m1")
    wish = Wish("agr_2", 400, charge_id=second)
    services.direct.refund(partner, wish, mark="m2")

    set_back(rows)
    freeze()
    services.direct.refund(partner, wish, mark="m2")
    read_back(services)
    pass_time(jobs, time, hours=3)
    assert services.direct.refund(partner, wish, mark="m2").standing == Standing.DONE

    assert (payments.charge(first).refunded, payments.charge(second).refunded) == (300, 400)
    assert proof.examine() == []


def test_numbers_that_were_given_away_are_not_given_out_again_from_the_moment_that_it_is_noticed(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, tmp_path: Path
):
    partner = a_partner()
    journal = Journal(str(tmp_path / "journal.json"), "sqlite:///here")
    journal.watch()
    rows = backup()
    lost = an_active_subscription(services, payments)
    time.move(seconds=10)
    journal.watch()

    set_back(rows)
    journal.watch()
    read_back(services)
    new = services.subscriptions.request(partner, a_wish(msisdn="+4799999999")).subscription_id
    services.subscriptions.cancel_for(partner, lost, "")
    settle(jobs)

    assert new > lost + 1000
    assert payments.agreements["agr_1"].view.status == AgreementStatus.STOPPED


def test_a_second_reading_back_gives_no_number_out_again_and_finds_the_refunds_of_the_first(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    other = a_partner(10296)
    rows = backup()
    number = services.subscriptions.request(other, a_wish(campaign_amount=1000)).subscription_id
    accept(services, payments, number)
    settle(jobs)
    with transaction():
        queries.skip_numbers(replace(queries.marks(), refunds=4000))
    wish = Wish("agr_1", 400, charge_id=charges(number)[0].name)
    services.direct.refund(other, wish, mark="m")
    with reading():
        noted = queries.marks()

    set_back(rows)
    services.reconcile.run(noted, lambda _: None)
    with reading():
        noted_since = queries.marks()
    report = services.reconcile.run(noted_since, lambda _: None, {"agr_1": 10296})
    brakes.start(None)
    again = services.direct.refund(other, wish, mark="m")
    settle(jobs)

    assert report.counts["refunds entered"] == 1
    assert again.standing == Standing.DONE
    assert payments.charge(wish.charge_id).refunded == 400


def test_an_unnamed_charge_of_an_agreement_signed_elsewhere_is_made_once_though_all_its_rows_are_lost(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    unit.sign()
    rows = backup()
    services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key="k")

    set_back(rows)
    services_of_owner.reconcile.run(None, lambda _: None)
    brakes.start(None)
    [again] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key="k").values()

    assert again.standing == Standing.DONE
    assert len(unit.names()) == 1


def test_a_lost_subscription_that_is_managed_at_our_own_page_is_nobodys_of_several(
    services: Services, payments: FakePayments, jobs: Jobs
):
    first, second = a_partner(), a_partner(10296)
    accept(services, payments, services.subscriptions.request(first, a_wish(agreement_url=None)).subscription_id)
    rows = backup()
    number = services.subscriptions.request(second, a_wish(agreement_url=None)).subscription_id
    accept(services, payments, number)

    set_back(rows)

    assert read_back(services) == ["agr_2"]
    services.reconcile.run(None, lambda _: None, {"agr_2": 10296})
    assert subscription(number).partner_id == 10296


def test_a_change_that_waits_for_its_day_can_be_replaced_after_a_reading_back(
    services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.changes.change(number, NewTerms(amount=19900))

    read_back(services)
    services.changes.change(number, NewTerms(amount=10000))
    settle(jobs)

    assert subscription(number).amount == 10000
