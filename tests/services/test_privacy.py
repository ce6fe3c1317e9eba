"""What one person may ask for: all that is held, nothing of others; and to be forgotten without harm to the books."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import select

from app import build_services, equip
from invoice.cli.privacy import privacy
from invoice.cli.processes import SETTINGS
from invoice.config import Settings
from invoice.errors import Conflict, Limited, ProviderUncertain
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from invoice.services import partners, persons, transactions, views
from invoice.services.accounts import Accounts
from invoice.services.jobs import Jobs, Services
from invoice.store.db import Base, db, pseudonyms, reading, set_encryption_keys
from invoice.store.models import CallbackLogin, Charge, Subscription
from tests.bending import bending
from tests.conftest import StandingClock, environ_for
from tests.factories import a_partner, a_wish, accept, charges, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver
from tests.services.test_doubt import assert_the_books_hold, job_of
from tests.services.traces import KARI, OLA, PARTNER, Life, begin, end, traces

KEY = environ_for("")["INVOICE_SECRET_KEY"]
NOBODY = "+4790000000"


@pytest.fixture
def app(app: Flask, payments: FakePayments, sms: FakeSms) -> Flask:
    """The application, whose partners may be on this machine."""
    pipe = PartnerPipe(Guard(allows_this_machine=True))
    equip(app, app.extensions[SETTINGS], payments=payments, sms=sms, partners=pipe)
    return app


@pytest.fixture
def kari(services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver) -> Life:
    """A subscription that is over."""
    life = begin(services, payments, jobs, receiver)
    end(services, jobs, life)
    return life


@pytest.fixture
def ola(services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver) -> Life:
    """Another person's, that lives."""
    return begin(services, payments, jobs, receiver, OLA)


def run(app: Flask, *words: str, typed: str | None = None) -> Result:
    return app.test_cli_runner().invoke(privacy, list(words), input=typed)


def told(app: Flask, *words: str, typed: str | None = None) -> str:
    result = run(app, *words, typed=typed)
    assert result.exit_code == 0, result.output
    return result.output


# Export


def test_an_export_holds_everything_about_a_number(
    services: Services, payments: FakePayments, jobs: Jobs, kari: Life, ola: Life
):
    services.refunds.refund(charges(kari.id)[0].id, 500, "sorry")
    settle(jobs)

    [found] = persons.export(KARI)["subscriptions"]

    assert (found["msisdn"], found["member_id"], found["status"]) == (KARI, "member-kari", "CANCELLED")
    assert [(c["captured"], c["refunded"], c["currency"]) for c in found["charges"]] == [(9900, 500, "NOK")]
    assert [(r["amount"], r["reason"], r["status"]) for r in found["refunds"]] == [(500, "sorry", "DONE")]
    assert [a["provider_agreement_id"] for a in found["agreements"]] == ["agr_1"]
    assert [(m["recipient"], m["body"]) for m in found["messages"]] == [
        (KARI, "Kjaere member-kari, trykk her https://pay.example.com/s/...")
    ]
    assert [e["seq"] for e in found["events"]] == list(range(1, found["event_count"] + 1))
    assert {o["kind"] for o in found["operations"]} == {"DRAFT", "SEND", "STOP", "REFUND"}
    assert any("%2B4798765432" in d["url"] for d in found["deliveries"])


def test_an_export_holds_nothing_of_others_and_opens_nothing(kari: Life, ola: Life):
    text = json.dumps(persons.export(KARI))

    assert [needle for needle in (*ola.person, *ola.secrets) if needle in text] == []
    assert [token for token in kari.secrets[:3] if token in text] == []


def test_every_table_that_hangs_on_a_subscription_is_exported():
    hanging = {table.name for table in Base.metadata.sorted_tables if "subscription_id" in table.c}
    told = {model.__tablename__ for model in persons.TABLES}

    # A partner's credentials are no news about a person.
    assert told == hanging - {CallbackLogin.__tablename__} | {"refunds"}


def test_nothing_is_held_about_a_number_that_nobody_has_asked_with(kari: Life):
    assert persons.export(NOBODY) == {"number": NOBODY, "subscriptions": []}
    assert persons.erase(NOBODY) == []


# Erase


def test_an_erased_person_leaves_no_trace_and_the_books_stay(payments: FakePayments, kari: Life):
    before = [facts(charge) for charge in charges(kari.id)]

    [erased] = persons.erase(KARI)

    # The partner's stored answer goes by itself within 30 days, and its addresses hold places for values only.
    assert traces(*kari.person, *kari.secrets).keys() == {"idempotency_keys.body"}
    assert erased.subscription_id == kari.id
    assert erased.rows.keys() == {"person", "link", "manage link", "return link", "text", "request", "callback"}
    assert [facts(charge) for charge in charges(kari.id)] == before
    assert_the_books_hold(kari.id, payments)
    assert subscription(kari.id).status_callback_url is not None


def facts(charge: Charge) -> tuple[object, ...]:
    return charge.name, charge.guid, charge.amount, charge.captured, charge.refunded, charge.status, charge.due_on


def test_an_erasure_touches_nobody_else(kari: Life, ola: Life):
    before = _rows_of(ola)

    persons.erase(KARI)

    assert _rows_of(ola) == before


def _rows_of(life: Life) -> dict[str, list[Any]]:
    with reading():
        tables = {t.name: t for t in Base.metadata.sorted_tables if "subscription_id" in t.c}
        held = {n: t.c.subscription_id == life.id for n, t in tables.items()}
        rows = {n: [tuple(r) for r in db.session.execute(select(t).where(held[n]))] for n, t in tables.items()}
        mine = select(Subscription.__table__).where(Subscription.id == life.id)
        return {**rows, "subscriptions": [tuple(row) for row in db.session.execute(mine)]}


def test_an_erasure_happens_once(kari: Life):
    persons.erase(KARI)
    before = _rows_of(kari)

    [again] = persons.erase(KARI)

    assert again.rows == {}
    assert _rows_of(kari) == before


def test_an_erased_number_is_still_found_by_whoever_has_it(kari: Life):
    persons.erase(KARI)

    [found] = persons.export(KARI)["subscriptions"]

    assert (found["id"], found["msisdn"], found["member_id"]) == (kari.id, pseudonyms(KARI)[0], None)
    assert len(found["charges"]) == 1


def test_what_was_erased_under_an_older_key_is_found_while_that_key_is_there(kari: Life):
    persons.erase(KARI)
    newer = "another-secret-key-for-tests-that-is-long"
    try:
        set_encryption_keys(f"{newer},{KEY}")
        kept = persons.export(KARI)["subscriptions"]
        set_encryption_keys(newer)
        dropped = persons.export(KARI)["subscriptions"]
    finally:
        set_encryption_keys(KEY)

    assert [found["id"] for found in kept] == [kari.id]
    assert dropped == []


def test_a_pseudonym_is_made_with_each_key_and_fits_where_the_number_stood(app: Flask):
    try:
        set_encryption_keys(f"another-secret-key-for-tests-that-is-long,{KEY}")
        made = pseudonyms(KARI)
    finally:
        set_encryption_keys(KEY)

    # By each key as it is derived now, and as it was before.
    assert made[2:] == pseudonyms(KARI)
    assert len(set(made)) == 4
    assert [(len(each), each[0]) for each in made] == [(16, "#")] * 4


@pytest.mark.parametrize("status", [SubscriptionStatus.ACTIVE, SubscriptionStatus.CANCELLING])
def test_who_still_pays_is_not_erased(
    services: Services, payments: FakePayments, kari: Life, status: SubscriptionStatus
):
    again = services.subscriptions.request(partners.get(PARTNER), a_wish(msisdn=KARI)).subscription_id
    accept(services, payments, again)
    if status == SubscriptionStatus.CANCELLING:
        services.subscriptions.cancel(again)
    before = _rows_of(kari)

    assert subscription(again).status == status
    with pytest.raises(Conflict, match=rf"subscription {again}\."):
        persons.erase(KARI)

    assert _rows_of(kari) == before


def test_who_may_still_accept_is_not_erased(services: Services):
    number = services.subscriptions.request(a_partner(), a_wish(msisdn=KARI)).subscription_id

    with pytest.raises(Conflict, match=rf"subscription {number}\."):
        persons.erase(KARI)


def test_a_text_whose_fate_is_unknown_is_looked_for_before_its_number_goes(
    services: Services, payments: FakePayments, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    sms.faults.after("send", ProviderUncertain("timeout"))
    number = services.subscriptions.request(a_partner(), a_wish(msisdn=KARI, send_sms=True)).subscription_id
    job_of(jobs, "operations").run_once()
    payments.end("agr_1")
    services.subscriptions.cancel(number)
    with bending():
        db.session.get_one(Subscription, number).status = SubscriptionStatus.CANCELLED

    with pytest.raises(Conflict, match="on its way"):
        persons.erase(KARI)

    time.move(minutes=20)
    settle(jobs)
    persons.erase(KARI)
    assert len(sms.sent) == 1
    assert traces(KARI[3:]) == {}


# What must go on working


def test_money_goes_back_after_an_erasure(services: Services, payments: FakePayments, jobs: Jobs, kari: Life):
    persons.erase(KARI)

    services.refunds.refund(charges(kari.id)[0].id, None, "asked for")
    settle(jobs)

    assert charges(kari.id)[0].status == ChargeStatus.REFUNDED
    assert_the_books_hold(kari.id, payments)


def test_what_is_told_after_an_erasure_names_nobody(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, kari: Life
):
    persons.erase(KARI)
    receiver.got.clear()

    services.refunds.refund(charges(kari.id)[0].id, None, "asked for")
    settle(jobs)

    assert [got.path for got in receiver.got] == ["/cb?m=&who=&s=REFUNDED"]


def test_a_callback_that_is_owed_at_an_erasure_goes_out_without_the_number(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, kari: Life, time: StandingClock
):
    receiver.always = 500
    services.refunds.refund(charges(kari.id)[0].id, 500, "sorry")
    settle(jobs)
    assert traces(KARI[3:])["deliveries.url"]
    receiver.always = 200
    receiver.got.clear()

    persons.erase(KARI)
    time.move(hours=1)
    settle(jobs)

    # The member's number is the partner's own.
    assert [got.path for got in receiver.got] == ["/cb?m=&who=member-kari&s=PARTIALLY_REFUNDED"]
    assert "deliveries.url" not in traces(KARI[3:])


def test_the_faces_show_no_pseudonym(kari: Life, time: StandingClock):
    persons.erase(KARI)

    [listed] = views.listed(PARTNER, time.at - timedelta(days=1), 0, 10)
    [paid] = transactions.of_subscription(PARTNER, kari.id, None, 10)

    assert (listed.msisdn, listed.member_id, listed.agreement_url) == ("", None, "")
    assert (paid.msisdn, paid.member_id) == ("", None)


def test_texts_of_today_are_counted_though_their_number_was_erased(
    database_url: str, payments: FakePayments, sms: FakeSms, kari: Life
):
    settings = Settings.from_environ(environ_for(database_url) | {"INVOICE_SMS_PER_NUMBER": "1"})
    capped = build_services(settings, Accounts(payments, lambda _: payments), sms)
    persons.erase(KARI)

    with pytest.raises(Limited, match="This number was sent a text within 24 hours"):
        capped.subscriptions.request(partners.get(PARTNER), a_wish(msisdn=KARI, send_sms=True))


# The commands


def test_export_prints_json(app: Flask, kari: Life):
    found = json.loads(told(app, "export", "--msisdn", "987 65 432"))

    assert (found["number"], found["subscriptions"][0]["id"]) == (KARI, kari.id)


def test_a_number_may_be_typed_instead(app: Flask, kari: Life):
    assert '"subscriptions": []' in told(app, "export", typed=f"{NOBODY}\n")


def test_erase_says_what_it_did(app: Flask, kari: Life):
    first, second = told(app, "erase", "--msisdn", KARI), told(app, "erase", "--msisdn", KARI)

    assert first.startswith(f"subscription {kari.id}\tperson: 1, link: 1, manage link: 1, return link: 1, text: 1")
    assert second == f"subscription {kari.id}\tnothing was left to forget\n"
    assert told(app, "erase", "--msisdn", NOBODY) == "Nothing is held about this number.\n"


@pytest.mark.parametrize("command", ["export", "erase"])
def test_what_is_no_number_is_said_in_a_sentence(app: Flask, command: str):
    result = run(app, command, "--msisdn", "12")

    assert (result.exit_code, result.output) == (
        1,
        "Error: must be a phone number with country code, such as +4791234567\n",
    )


def test_erase_says_what_must_be_cancelled_first(app: Flask, ola: Life):
    result = run(app, "erase", "--msisdn", OLA)

    assert (result.exit_code, result.output) == (
        1,
        f"Error: Not over yet, to be cancelled first: subscription {ola.id}. Nothing was erased.\n",
    )


def test_no_command_leaves_the_number_in_the_log(app: Flask, kari: Life, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        told(app, "export", "--msisdn", KARI)
        told(app, "erase", "--msisdn", KARI)

    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "is erased" in logged
    assert [needle for needle in (*kari.person, pseudonyms(KARI)[0]) if needle in logged] == []
