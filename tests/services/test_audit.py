"""What should exist against what does; and `flask proof`, `flask charges`, `flask reconcile` at the keyboard."""

from __future__ import annotations

import click
import pytest
from flask import Flask

from invoice.cli.books import charges as charges_command
from invoice.cli.books import prove, reconcile
from invoice.errors import ProviderRefused, ProviderUnavailable
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval
from invoice.providers.base import Draft, FixedPrice
from invoice.services import ledger
from invoice.services.audit import Gap
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, an_active_subscription, charges, settle, the_partner
from tests.fakes import FakePayments
from tests.services.test_charges import live
from tests.services.test_reconcile import backup, restore


def run(app: Flask, command: click.Command, *words: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(command, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def nothing(_: float) -> None:
    """Let no time pass."""


# Periods


def test_every_period_that_fell_due_has_a_payment_or_a_reason(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=34, step=2)
    time.move(days=28)
    settle(jobs)
    payments.settle_charge(payments.names()[-1], ChargeStatus.FAILED)
    live(jobs, payments, time, days=30, step=2)

    found = services.audit.periods()

    assert [(c.period, c.status) for c in charges(number) if c.period in (1, 2)] == [
        (1, ChargeStatus.CHARGED),
        (2, ChargeStatus.FAILED),
    ]
    assert found == (2, 1, [])


def test_a_period_that_vipps_would_not_create_is_a_gap_with_a_name(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=26)
    settle(jobs)
    payments.refused_names[charges(number)[-1].name] = "not today"
    for _ in range(6):
        time.move(days=1)
        settle(jobs)

    _, _, gaps = services.audit.periods()

    assert gaps == [Gap(f"subscription {number} period 1", 10295, "Vipps would not create it")]
    assert services.audit.compare() == 1


# Agreements


def test_what_lives_at_vipps_and_not_here_is_named_and_the_reverse(services: Services, payments: FakePayments):
    a_partner()
    an_active_subscription(services, payments)
    known = payments.newest()
    stranger = payments.draft_agreement(payments.draft_request(_draft_of_another_house()), key="k").agreement_id
    payments.accept(stranger)

    assert services.audit.agreements(nothing) == [
        Gap(f"agreement {stranger}", None, "active at Vipps (123456), unknown here")
    ]

    payments.end(known)
    here_only = services.audit.agreements(nothing)[-1]
    assert here_only == Gap(f"agreement {known}", 10295, "active here, not at Vipps (123456)")


def _draft_of_another_house() -> Draft:
    return Draft("x", "Avis", "", FixedPrice(100, "NOK"), Interval.MONTH, "+4791234567", "https://a", "https://b")


def test_reading_waits_as_long_as_vipps_wants_and_no_longer_than_that(services: Services, payments: FakePayments):
    a_partner()
    waited: list[float] = []
    payments.faults.before("list_agreements", ProviderUnavailable("slow down", retry_after_s=12.0))

    assert services.audit.agreements(waited.append) == []

    payments.faults.before("list_agreements", ProviderUnavailable("come back tomorrow", retry_after_s=86_400))
    with pytest.raises(ProviderUnavailable):
        services.audit.agreements(waited.append)
    payments.faults.before("list_agreements", ProviderRefused("no"))
    with pytest.raises(ProviderRefused):
        services.audit.agreements(waited.append)
    assert waited == [12.0]


# The ledger of a stand-in


def test_a_ledger_that_says_something_else_is_right(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    live(jobs, payments, time, days=34, step=2)
    rows = [
        {
            "id": charge.name,
            "status": "CHARGED",
            "amount": charge.amount,
            "summary": {"captured": charge.captured, "refunded": 0},
        }
        for charge in charges(number)
    ]
    ulid = rows[0]["id"].partition("-")[0]
    true = {"charges": rows, "refunds": [], "agreements": [{"externalId": ulid, "status": "ACTIVE"}]}

    assert ledger.compare(true) == []
    twice = rows[1] | {"id": rows[1]["id"][:-1] + "1"}
    second = {"externalId": ulid, "status": "ACTIVE"}
    bent = {"charges": [*rows, twice], "refunds": [], "agreements": [*true["agreements"], second]}
    assert [finding.number for finding in ledger.compare(bent)] == ["S1", "S2", "S7"]
    assert [finding.number for finding in ledger.compare(true | {"charges": rows[:1]})] == ["S2"]
    assert [finding.number for finding in ledger.compare(true | {"agreements": []})] == ["L1"]


# At the keyboard


def test_a_dry_run_prints_what_a_day_creates_and_how_it_differs_from_the_period_before(
    app: Flask, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments, campaign_amount=1000)
    an_active_subscription(services, payments)

    code, said = run(app, charges_command, "dry-run", "--date", "2026-12-07")

    assert code == 0
    assert said.splitlines() == [
        "partner 10295: 2 charges, 198.00 NOK; the period before 109.00 (+89.00)",
        f"  subscription {number} period 1 due 2026-12-10: 99.00, before 10.00",
    ]
    time.move(days=26)
    settle(jobs)
    assert [c.status for c in charges(number)][-1] == ChargeStatus.PLANNED
    run(app, charges_command, "stop", "--partner", "10295", "--reason", "a look")
    _, said = run(app, charges_command, "dry-run", "--date", "2026-12-07")
    assert said.splitlines()[0].endswith("(+89.00), held by a brake")
    assert f"  {charges(number)[-1].name} due 2026-12-10: 99.00, before 10.00" in said.splitlines()
    assert run(app, charges_command, "dry-run", "--date", "2026-12-06") == (0, "Nothing.\n")


def test_brakes_are_pulled_shown_and_let_go_of(app: Flask):
    a_partner()
    assert run(app, charges_command, "brakes") == (0, "Nothing is held, nothing is broken.\n")

    assert run(app, charges_command, "stop", "--reason", "by hand") == (0, "Charging is held for everyone.\n")
    code, said = run(app, charges_command, "brakes")
    assert (code, said) == (1, "held for everyone since 2026-11-10 11:00 UTC: by hand\n")
    assert run(app, charges_command, "start") == (0, "Charging goes on for everyone.\n")
    assert run(app, charges_command, "start")[0] == 1
    assert "There is no partner 4711" in run(app, charges_command, "stop", "--partner", "4711", "--reason", "x")[1]


def test_proof_prints_every_rule_and_ends_with_1_when_one_is_broken(
    app: Flask, services: Services, payments: FakePayments
):
    a_partner()
    an_active_subscription(services, payments)

    code, said = run(app, prove, "--vipps")
    payments.end(payments.newest(), AgreementStatus.STOPPED)
    broken = run(app, prove, "--vipps")

    assert code == 0
    assert "S1   holds  a period is paid once" in said
    assert "0 periods fell due, 0 have no payment and a reason, 0 are to be looked at" in said
    assert "BROKEN" not in said
    assert broken[0] == 1
    assert "active here, not at Vipps" in broken[1]


def test_reconcile_prints_what_it_found_and_leaves_charging_held(
    app: Flask, services: Services, payments: FakePayments
):
    a_partner()
    services.subscriptions.request(the_partner(), a_wish())
    an_active_subscription(services, payments)

    code, said = run(app, reconcile)

    assert code == 0
    assert "2 agreements" in said
    assert said.splitlines()[-1].endswith("then `flask charges start`")
    assert run(app, charges_command, "brakes")[0] == 1


def test_reconcile_prints_the_agreements_of_nobody_known_and_is_told_whose_they_are(
    app: Flask, services: Services, payments: FakePayments
):
    a_partner()
    rows = backup()
    an_active_subscription(services, payments)
    restore(rows)
    a_partner(10296)

    code, said = run(app, reconcile)
    named = run(app, reconcile, "--belongs-to", payments.newest(), "10296")

    assert code == 0
    assert f"flask reconcile --belongs-to {payments.newest()} PARTNER" in said
    assert "1 subscriptions made anew" in named[1]
    assert "--belongs-to" not in named[1]
    assert run(app, reconcile, "--belongs-to", "agr_x", "4711")[0] == 1
