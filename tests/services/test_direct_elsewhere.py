"""Agreements and charges that were made elsewhere, under a partner's own sales unit."""

from __future__ import annotations

import json
from dataclasses import replace

from flask import Flask
from sqlalchemy import select

from app import build_services
from invoice.config import Settings
from invoice.errors import ProviderDenied, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services import accounts
from invoice.services.accounts import AccountKeys, Accounts
from invoice.services.entries import Wish
from invoice.services.jobs import Jobs, Services
from invoice.services.outcomes import Standing
from invoice.services.partners import PartnerView
from invoice.store.db import db, reading
from invoice.store.models import Subscription
from tests.conftest import StandingClock, environ_for
from tests.factories import a_wish, charges, event_types, settle, undisturbed
from tests.fakes import FakePayments, FakeSms
from tests.services.asking import THEIRS, Elsewhere, adopted, extras, make, standings, words

DONE = Standing.DONE


def test_an_agreement_signed_elsewhere_is_charged_in_our_books(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, payments: FakePayments
):
    unit.sign()

    wishes = {number: Wish("agr_old", 500, charge_id="mine") for number in range(2)}
    outcomes = services_of_owner.direct.make(owner, wishes, key=None)

    assert standings(list(outcomes.values())) == [Standing.DONE] * 2
    [held] = adopted()
    assert (held.status, held.name, held.amount, held.msisdn) == (SubscriptionStatus.ACTIVE, "Gammel", 9900, "")
    [charge] = extras(held.id)
    assert (charge.name, charge.account) == ("mine", THEIRS)
    assert "mine" in unit.agreements["agr_old"].charges
    assert payments.calls == []
    assert event_types(held.id) == ["subscription.adopted"]


def test_an_agreement_signed_elsewhere_is_never_scheduled(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign()
    services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None)
    jobs = undisturbed(Jobs(services_of_owner))

    for _ in range(70):
        time.move(days=1)
        settle(jobs)

    [held] = adopted()
    assert [c.period for c in charges(held.id)] == [-1]
    assert held.status == SubscriptionStatus.ACTIVE


def test_the_end_of_an_agreement_signed_elsewhere_is_noticed(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign()
    services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None)
    unit.end("agr_old")
    time.move(days=2)
    settle(undisturbed(Jobs(services_of_owner)))

    [held] = adopted()
    assert held.status == SubscriptionStatus.STOPPED
    [outcome] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None).values()
    assert words(outcome) == "This agreement is not active: it is STOPPED"


def test_an_agreement_signed_elsewhere_is_stopped(services_of_owner: Services, owner: PartnerView, unit: Elsewhere):
    agreement = unit.sign()
    unit.hold("of-another-system", ChargeStatus.CHARGED, amount=700, captured=700)

    outcome = services_of_owner.direct.stop(owner, "agr_old")

    assert outcome.standing == Standing.DONE
    assert agreement.view.status == AgreementStatus.STOPPED
    [held] = adopted()
    assert held.status == SubscriptionStatus.CANCELLED
    assert agreement.charges["of-another-system"].refunded == 0


def test_a_charge_made_elsewhere_is_refunded_and_then_stands_in_the_books(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    agreement = unit.sign(status=AgreementStatus.STOPPED)
    unit.hold("chr_hFZSqV6", ChargeStatus.CHARGED, amount=700, captured=700)

    outcome = services_of_owner.direct.refund(owner, Wish("agr_old", 300, charge_id="chr_hFZSqV6"), mark="m")

    assert outcome.standing == Standing.DONE
    assert agreement.charges["chr_hFZSqV6"].refunded == 300
    [held] = adopted()
    [charge] = extras(held.id)
    assert (charge.name, charge.captured, charge.refunded) == ("chr_hFZSqV6", 700, 300)


def test_a_webhook_about_a_charge_made_elsewhere_that_comes_before_its_row_is_heard(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign()
    unit.hold("chr_hFZSqV6", ChargeStatus.CHARGED, amount=700, captured=700)

    def given_back_there() -> None:
        if unit.calls[-1] != "find_charge":
            unit.during_look = given_back_there
            return
        unit.give_back("chr_hFZSqV6", 200)
        ring = {"agreement_id": "agr_old", "external_id": None, "charge_name": "chr_hFZSqV6"}
        services_of_owner.inbox.take_webhook(json.dumps(ring).encode(), THEIRS)

    unit.during_look = given_back_there
    services_of_owner.direct.cancel(owner, "agr_old", "chr_hFZSqV6")
    settle(undisturbed(Jobs(services_of_owner)))

    [charge] = extras(adopted()[0].id)
    assert charge.refunded == 200


def test_a_charge_made_elsewhere_is_called_off(services_of_owner: Services, owner: PartnerView, unit: Elsewhere):
    agreement = unit.sign()
    unit.hold("chr-1", ChargeStatus.SUBMITTED, amount=700)

    outcome = services_of_owner.direct.cancel(owner, "agr_old", "chr-1")

    assert outcome.standing == Standing.DONE
    assert agreement.charges["chr-1"].status == ChargeStatus.CANCELLED


def test_an_agreement_of_another_account_does_not_exist(
    services_of_owner: Services, owner: PartnerView, payments: FakePayments
):
    [outcome] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None).values()

    assert words(outcome) == "This agreement does not exist"
    assert payments.calls == []


def test_on_the_platforms_account_an_unknown_agreement_is_never_asked_for(
    services: Services, payments: FakePayments, partner: PartnerView
):
    direct = services.direct

    assert words(make(services, Wish("agr_x", 500))[0]) == "This agreement does not exist"
    assert words(direct.stop(partner, "agr_x")) == "This agreement does not exist"
    assert words(direct.cancel(partner, "agr_x", "c")) == "This agreement does not exist"
    assert words(direct.refund(partner, Wish("agr_x", 1, charge_id="c"), mark="m")) == "This agreement does not exist"
    assert payments.calls == []


def test_a_vipps_that_cannot_say_whether_there_is_such_an_agreement(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere
):
    unit.sign()
    unit.faults.before("find_agreement", ProviderUncertain("timeout"))

    [outcome] = services_of_owner.direct.make(owner, {0: Wish("agr_old", 500)}, key=None).values()

    assert words(outcome) == "timeout"
    assert adopted() == []


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
    settle(undisturbed(Jobs(services_of_owner)))

    with reading():
        assert db.session.scalars(select(Subscription.id)).all() == [number]
    assert services_of_owner.direct.make(owner, {0: Wish(lost, 500)}, key=None)[0].standing == DONE


def test_one_that_nobody_has_accepted_yet_waits_and_is_charged_when_somebody_has(
    services_of_owner: Services, owner: PartnerView, unit: Elsewhere, time: StandingClock
):
    unit.sign(status=AgreementStatus.PENDING)
    acts, jobs = services_of_owner.direct, undisturbed(Jobs(services_of_owner))

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
