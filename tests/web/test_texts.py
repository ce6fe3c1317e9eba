"""What goes out by SMS: the words, who is seen as their sender, how long they are, how many may go, and once more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from app import create_app
from invoice.config import Settings
from invoice.errors import ProviderRefused, ProviderUncertain
from invoice.lifecycle import AgreementStatus, MessageStatus
from invoice.services import partners
from invoice.services.jobs import Jobs, Services
from invoice.services.partners import Terms
from invoice.store.db import db, reading
from invoice.store.models import Message, Subscription
from tests.conftest import StandingClock, environ_for, opened
from tests.factories import (
    a_partner,
    accept,
    event_types,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import DOCUMENTED, GOOD, basic, everything
from tests.web.test_idempotency import together
from tests.web.visiting import HOST, receipt_of

SUBSCRIBE = "/api/recurring/subscribe"
PRODUCT = "for this product"


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    """The application with the caps that it has by itself, and few texts for a partner."""
    environ = {k: v for k, v in environ_for(database_url).items() if not k.startswith("INVOICE_SMS_")}
    environ |= {"INVOICE_SMS_PER_PARTNER": "8", "INVOICE_SMS_COUNTRIES": "+47,+45"}
    with opened(environ, payments=payments, sms=sms) as app:
        a_partner()
        yield app


def post(client: FlaskClient, user: str = "10295", **changes: Any) -> TestResponse:
    """Ask for a subscription with a text, of an order of its own."""
    wish = {**GOOD, "orderNumber": ..., "partnerId": user, "sendSMS": True, **changes}
    raw = json.dumps({k: v for k, v in wish.items() if v is not ...}).encode()
    return client.post(SUBSCRIBE, data=raw, content_type="application/json", headers=basic(user))


def resend(client: FlaskClient, identifier: object, user: str = "10295", **words: Any) -> TestResponse:
    raw = json.dumps(words).encode() if words else b""
    headers = {**basic(user), **({"Content-Type": "application/json"} if words else {})}
    return client.post(f"/api/recurring/{identifier}/resend", data=raw, headers=headers)


def how_many(model: type[Any]) -> int:
    with reading():
        return db.session.scalar(select(func.count()).select_from(model)) or 0


def texts() -> list[Message]:
    with reading():
        found = list(db.session.scalars(select(Message).order_by(Message.id)))
        db.session.expunge_all()
        return found


# The words


def test_a_placeholder_stands_for_what_was_asked_for(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    text = (
        "{{Name}} {{ amount }} {{CURRENCY}}, {{campaignAmount}} first; {{orderNumber}}/{{memberId}} {{unknown}}"
        "{{7*7}} {{}} {{description}} {{paymentSelectionPageUrl}}"
    )

    post(client, smsText=text, name="Tom {{amount}} & Co", orderNumber="7", campaignAmount="10")
    settle(jobs)

    said, link = sms.sent[0]["body"].rsplit(" ", 1)
    assert said == "Tom {{amount}} & Co 99.00 NOK, 10.00 first; 7/member-1 {{7*7}} {{}} Avisen hver dag"
    assert link.startswith("https://pay.example.com/s/")


def test_a_text_that_only_typography_keeps_out_of_gsm_is_one_part(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    typographic = (
        "Hei\u202f– «Avisen» venter…".replace("«", "“").replace("»", "”") + " bla\u030abær\u00ad\ufeff " + "x" * 50
    )

    answer = post(client, smsText=typographic)
    settle(jobs)

    assert answer.json["smsNotificationParts"] == 1
    assert sms.sent[0]["body"].startswith('Hei - "Avisen" venter... blåbær xxx')


def test_a_letter_that_gsm_does_not_have_stays_and_costs_parts(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    answer = post(client, smsText="Čau! " + "x" * 50)
    settle(jobs)

    assert answer.json["smsNotificationParts"] == 2
    assert sms.sent[0]["body"].startswith("Čau! ")


def test_parts_are_told_only_when_a_text_goes_out(client: FlaskClient):
    with_text = post(client, smsText="s" * 400)
    without = post(client, sendSMS=False)

    assert with_text.json["smsNotificationParts"] == 3
    assert "smsNotificationParts" not in without.json


@pytest.mark.parametrize("name", ["2119", "My Company", "AB", "ABCDEFGHIJK", "+4791234567", "4U"])
def test_a_text_comes_from_a_short_number_a_name_or_a_number(client: FlaskClient, jobs: Jobs, sms: FakeSms, name: str):
    post(client, smsNotificationOriginator=name)
    settle(jobs)

    assert sms.sent[0]["originator"] == name


@pytest.mark.parametrize(
    "name", ["A", " Link", "Link ", "A-B", "ABCDEFGHIJKL", "Bjørn", "123456789012345", "+123", "  "]
)
def test_a_text_comes_from_nobody_else(client: FlaskClient, sms: FakeSms, name: str):
    answer = post(client, smsNotificationOriginator=name)

    assert answer.status_code == 400
    assert list(answer.json["modelState"]) == ["request.SmsNotificationOriginator"]
    assert how_many(Subscription) == 0


# Caps


def test_a_number_is_invited_to_a_product_once_in_24_hours(
    client: FlaskClient, payments: FakePayments, time: StandingClock
):
    assert post(client).status_code == 200
    before, calls = everything(), list(payments.calls)

    refused = [post(client), post(client, orderNumber="another"), post(client, amount=50)]

    assert [a.status_code for a in refused] == [429] * 3
    assert all(PRODUCT in a.json["message"] and "/resend" in a.json["message"] for a in refused)
    assert int(refused[0].headers["Retry-After"]) == 86401
    assert everything() == before
    assert payments.calls == calls
    assert post(client, name="Another product").status_code == 200
    assert post(client, sendSMS=False).status_code == 200
    time.move(hours=24)
    assert post(client).status_code == 200


def test_the_same_request_again_is_no_second_invitation(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    key = {**basic(), "Idempotency-Key": "k"}
    raw = json.dumps({**GOOD, "sendSMS": True}).encode()

    answers = [client.post(SUBSCRIBE, data=raw, content_type="application/json", headers=basic()) for _ in range(2)]
    answers += [client.post(SUBSCRIBE, data=raw, content_type="application/json", headers=key) for _ in range(2)]
    settle(jobs)

    assert {(a.status_code, a.data) for a in answers} == {(200, answers[0].data)}
    assert len(sms.sent) == 1


def test_another_partner_may_invite_to_a_product_of_that_name(client: FlaskClient):
    a_partner(20000)

    assert [post(client).status_code, post(client, "20000").status_code] == [200, 200]


def test_a_number_gets_three_texts_a_day_of_all_partners_together(client: FlaskClient, time: StandingClock):
    a_partner(20000)
    allowed = [post(client, name="a"), post(client, "20000", name="b"), post(client, name="c")]
    time.move(hours=23, minutes=59)

    refused = post(client, "20000", name="d")
    elsewhere = post(client, name="d", msisdn="+4791234568")
    time.move(minutes=1)

    assert [a.status_code for a in [*allowed, elsewhere]] == [200] * 4
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "61")
    assert "3 texts" in refused.json["message"]
    assert "91234567" not in refused.text
    assert post(client, "20000", name="d").status_code == 200


def test_a_range_of_numbers_gets_twenty_texts_an_hour_of_all_partners_together(
    client: FlaskClient, time: StandingClock
):
    for number in (20000, 30000):
        a_partner(number)
    users = ("10295", "20000", "30000")
    allowed = [post(client, users[n % 3], msisdn=f"+4791235{n:03}") for n in range(20)]

    refused = post(client, "20000", msisdn="+4791239999")
    elsewhere = [post(client, "30000", msisdn=number) for number in ("+4791249999", "+4590239999")]
    time.move(minutes=59)
    still = post(client, msisdn="+4791239998")
    time.move(minutes=1)

    assert {a.status_code for a in [*allowed, *elsewhere]} == {200}
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3601")
    assert "last four digits were sent 20 texts within an hour" in refused.json["message"]
    assert (still.status_code, still.headers["Retry-After"]) == (429, "61")
    assert post(client, msisdn="+4791239998").status_code == 200


def test_a_partner_has_a_number_of_texts_a_day(client: FlaskClient):
    a_partner(20000)
    allowed = [post(client, msisdn=f"+479123456{n}") for n in range(8)]

    refused = post(client, msisdn="+4791234568")

    assert {a.status_code for a in allowed} == {200}
    assert refused.status_code == 429
    assert "8 texts" in refused.json["message"]
    assert post(client, "20000", msisdn="+4791234568").status_code == 200


def test_a_text_that_was_never_sent_counts_for_nothing(client: FlaskClient, payments: FakePayments):
    payments.faults.before("draft", ProviderRefused("no"))

    assert post(client).status_code == 400
    assert post(client).status_code == 200


def test_a_country_that_no_texts_go_to_is_told_by_name(client: FlaskClient):
    refused = post(client, msisdn="+358401234567")

    assert refused.status_code == 400
    assert list(refused.json["modelState"]) == ["request.Msisdn"]
    assert "+47, +45" in refused.text
    assert how_many(Subscription) == 0
    assert post(client, msisdn="+358401234567", sendSMS=False).status_code == 200


def test_an_answer_that_says_later_is_not_kept_under_its_key(client: FlaskClient, time: StandingClock):
    post(client)
    raw = json.dumps({**GOOD, "orderNumber": "2", "sendSMS": True}).encode()
    key = {**basic(), "Idempotency-Key": "k"}

    early = client.post(SUBSCRIBE, data=raw, content_type="application/json", headers=key)
    time.move(hours=24)
    late = client.post(SUBSCRIBE, data=raw, content_type="application/json", headers=key)

    assert (early.status_code, late.status_code) == (429, 200)


def test_many_at_once_come_to_the_caps_and_no_further(app: Flask):
    tasks = [lambda client, n=n: post(client, name=f"p{n}", msisdn=f"+479123456{n % 2}") for n in range(12)]

    answers = together(app, tasks)

    assert Counter(a.status_code for a in answers) == {200: 6, 429: 6}
    assert Counter(t.recipient for t in texts()) == {"+4791234560": 3, "+4791234561": 3}


def test_many_texts_of_a_partner_at_once_come_to_its_cap(app: Flask):
    answers = together(app, [lambda client, n=n: post(client, msisdn=f"+47912345{n}") for n in range(10, 24)])

    assert Counter(a.status_code for a in answers) == {200: 8, 429: 6}
    assert how_many(Message) == how_many(Subscription) == 8


def test_without_caps_the_documented_example_can_be_sent_again_and_again(
    database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock
):
    app = create_app(Settings.from_environ(environ_for(database_url)), payments=payments, sms=sms)
    with app.app_context():
        a_partner()
        client = app.test_client()
        raws = [DOCUMENTED.replace(b"12346", str(n).encode()) for n in range(20)]
        how = {"content_type": "application/json", "headers": basic(), "base_url": "https://pay.example.com"}

        answers = [client.post(SUBSCRIBE, data=raw, **how) for raw in raws]  # type: ignore[arg-type]

        assert {a.status_code for a in answers} == {200}
        db.engine.dispose()


# Once more


def test_a_link_is_texted_again_in_the_same_words(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    first = post(client, smsText="Velkommen! {{url}}", smsNotificationOriginator="My Company")
    settle(jobs)

    again = resend(client, first.json["subscriptionId"])
    settle(jobs)

    assert again.status_code == 200
    assert again.json == first.json
    assert len(sms.sent) == 2
    assert {(m["to"], m["originator"], m["body"]) for m in sms.sent} == {
        ("+4791234567", "My Company", sms.sent[0]["body"])
    }
    assert [m["receipt_url"] for m in sms.sent] == [HOST + receipt_of(n) for n in (1, 2)]
    assert event_types(1).count("message.accepted") == 2


def test_a_link_is_texted_again_in_other_words(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    number = post(client).json["subscriptionId"]
    settle(jobs)

    again = resend(client, number, SMSTEXT="Husk {{name}}", smsNotificationOriginator="Link", colour="blue")
    settle(jobs)

    assert again.status_code == 200
    assert sms.sent[1]["body"] == f"Husk Avisen https://pay.example.com/s/{subscription(number).link_token}"
    assert sms.sent[1]["originator"] == "Link"


def test_a_link_that_was_never_texted_is_texted_in_our_words(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    number = post(client, sendSMS=False, smsText=...).json["subscriptionId"]

    answer = resend(client, number)
    settle(jobs)

    assert answer.json["smsNotificationParts"] in (1, 2)
    assert sms.sent[0]["body"].startswith("Partner 10295: Avisen")
    assert sms.sent[0]["originator"] == "2119"


def test_a_member_id_is_texted_as_well(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    post(client, memberId="a/b c")
    settle(jobs)

    answer = resend(client, "a%2Fb%20c")
    settle(jobs)

    assert answer.status_code == 200
    assert len(sms.sent) == 2


def test_a_subscription_that_nobody_can_accept_is_not_texted(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    number = post(client).json["subscriptionId"]
    settle(jobs)
    accept(services, payments, number)
    active = resend(client, number)
    services.subscriptions.cancel(number)
    ending = resend(client, number)

    assert (active.status_code, active.json) == (409, 'Subscription with status: "Active" for "1" cannot be texted')
    assert (ending.status_code, ending.json) == (409, 'Subscription with status: "Cancelling" for "1" cannot be texted')
    assert how_many(Message) == 1


def test_an_expired_link_is_not_texted(client: FlaskClient, payments: FakePayments, jobs: Jobs, time: StandingClock):
    number = post(client).json["subscriptionId"]
    settle(jobs)
    payments.end(str(newest_agreement(number).provider_agreement_id), AgreementStatus.EXPIRED)
    time.move(days=14)

    before = resend(client, number)
    settle(jobs)
    after = resend(client, number)

    assert (before.status_code, before.json) == (409, 'The link of "1" has expired')
    assert (after.status_code, after.json) == (409, 'Subscription with status: "Expired" for "1" cannot be texted')


def test_nothing_is_texted_while_a_text_is_on_its_way(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    number = post(client).json["subscriptionId"]

    early = resend(client, number)
    settle(jobs)

    assert early.status_code == 409
    assert int(early.headers["Retry-After"]) > 0
    assert len(sms.sent) == 1
    assert resend(client, number).status_code == 200


def test_nothing_is_texted_while_vipps_may_still_refuse(
    app: Flask, client: FlaskClient, payments: FakePayments, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    app.testing = False
    payments.faults.before("draft", RuntimeError("a mistake of ours"))
    assert post(client, sendSMS=False).status_code == 500

    early = resend(client, 1)
    time.move(minutes=3)
    settle(jobs)
    late = resend(client, 1)
    settle(jobs)

    assert (early.status_code, late.status_code) == (409, 200)
    assert len(sms.sent) == 1


def test_another_partners_subscription_is_not_found_like_an_unknown_one(client: FlaskClient, jobs: Jobs):
    a_partner(20000)
    number = post(client).json["subscriptionId"]
    settle(jobs)
    before = everything()

    answers = [resend(client, identifier, "20000") for identifier in (number, "member-1", 4711, "nobody", "9" * 99)]

    assert {(a.status_code, a.data) for a in answers} == {(404, answers[0].data)}
    assert answers[0].json == "Recurring not found"
    assert everything() == before


def test_texts_sent_again_count(client: FlaskClient, jobs: Jobs, time: StandingClock):
    number = post(client).json["subscriptionId"]
    statuses = []
    for _ in range(4):
        settle(jobs)
        statuses.append(resend(client, number).status_code)

    assert statuses == [200, 200, 429, 429]
    time.move(hours=24)
    assert resend(client, number).status_code == 200


def test_the_first_text_of_a_second_subscription_is_an_invitation_whoever_asks_for_it(client: FlaskClient, jobs: Jobs):
    post(client)
    settle(jobs)
    second = post(client, sendSMS=False).json["subscriptionId"]

    answer = resend(client, second)

    assert answer.status_code == 429
    assert PRODUCT in answer.json["message"]


def test_a_text_sent_again_whose_answer_was_lost_is_not_taken_for_the_first(
    client: FlaskClient, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    number = post(client).json["subscriptionId"]
    settle(jobs)
    sms.faults.before("send", ProviderUncertain("timeout"))
    resend(client, number)
    for _ in range(15):
        settle(jobs)
        time.move(minutes=2)

    assert len(sms.sent) == 2
    assert [(t.provider_message_id, t.status) for t in texts()] == [
        ("SM1", MessageStatus.ACCEPTED),
        ("SM2", MessageStatus.ACCEPTED),
    ]


def test_a_text_sent_again_that_did_go_out_is_found_and_not_repeated(
    client: FlaskClient, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    number = post(client).json["subscriptionId"]
    settle(jobs)
    sms.faults.after("send", ProviderUncertain("timeout"))
    resend(client, number)
    for _ in range(15):
        settle(jobs)
        time.move(minutes=2)

    assert len(sms.sent) == 2
    assert [t.provider_message_id for t in texts()] == ["SM1", "SM2"]


def test_a_body_that_is_no_wish_for_a_text_is_refused(client: FlaskClient, jobs: Jobs):
    number = post(client).json["subscriptionId"]
    settle(jobs)
    before = everything()
    wrong: list[dict[str, Any]] = [
        {"smsText": 1.5},
        {"smsText": "s" * 1001},
        {"smsText": "a\x00b"},
        {"smsText": "a\u202eb"},
        {"smsText": "{{url}}" * 140},
        {"smsNotificationOriginator": "A-B"},
    ]

    answers = [resend(client, number, **words) for words in wrong]
    shapes = [b"[]", b"null", b"{", b"\xff", b'{"smsText": "a", "smstext": "b"}']
    path = f"/api/recurring/{number}/resend"
    answers += [client.post(path, data=raw, content_type="application/json", headers=basic()) for raw in shapes]

    assert [a.status_code for a in answers] == [400] * len(answers)
    assert client.post(path, data=b"smsText=x", headers=basic()).status_code == 415
    assert everything() == before


# What is agreed with one partner


def test_a_partners_own_cap_counts_instead_of_the_settings(client: FlaskClient):
    partners.change(10295, Terms(sms_limit=1))

    answers = [post(client, msisdn=f"+479123456{n}") for n in range(2)]

    assert [a.status_code for a in answers] == [200, 429]
    assert answers[1].json["message"] == "This partner has sent a text within 24 hours."


def test_a_partners_own_text_goes_out_when_the_request_brings_none(client: FlaskClient):
    partners.change(10295, Terms(sms_text="Hei! {{name}} til {{amount}}: {{url}}"))

    post(client, smsText=...)
    post(client, msisdn="+4791234561", smsText="Mine: {{url}}")

    assert [t.body.partition("http")[0] for t in texts()] == ["Hei! Avisen til 99.00: ", "Mine: "]


@pytest.mark.parametrize(("language", "word"), [("fi", "viikossa"), ("sv", "vecka"), (None, "uke")])
def test_texts_in_our_words_are_in_the_partners_language(client: FlaskClient, language: str | None, word: str):
    partners.change(10295, Terms(language=language))

    post(client, smsText=..., basis=1)

    assert word in texts()[0].body
