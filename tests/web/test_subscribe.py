"""A partner asks for a subscription: the documented payload works, and so does everything that means the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from invoice.errors import ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, Interval, SubscriptionStatus
from invoice.services.jobs import Jobs
from invoice.store.db import db, reading
from invoice.store.models import Subscription
from tests.factories import a_partner, newest_agreement, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import DOCUMENTED, GOOD, basic, body, everything

SUBSCRIBE = "/api/recurring/subscribe"
LINK = re.compile(r"https://pay\.example\.com/s/[A-Za-z0-9_-]{22}")


@pytest.fixture(autouse=True)
def _as_in_production(app: Flask) -> None:
    """An exception that nobody catches is an answer, not the end of the test."""
    app.testing = False


def post(client: FlaskClient, raw: bytes | None = None, *, query: str = "", number: int = 10295, **changes: Any):
    """Send the good body with changes; a change to ... leaves a field out."""
    if raw is None:
        raw = json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()
    headers = basic(str(number), f"a-partner-secret-{number}")
    return client.post(SUBSCRIBE + query, data=raw, content_type="application/json", headers=headers)


def stored(answer: TestResponse) -> Subscription:
    assert answer.status_code == 200, answer.text
    return subscription(answer.json["subscriptionId"])


def draft(payments: FakePayments) -> Any:
    return payments.agreements[payments.newest()].draft


def how_many() -> int:
    with reading():
        return db.session.scalar(select(func.count()).select_from(Subscription)) or 0


# The documented example


def test_the_documented_payload_is_answered_with_our_link_and_a_warning(client: FlaskClient):
    a_partner()

    answer = post(client, DOCUMENTED)

    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert list(answer.json) == ["method", "url", "fields", "subscriptionId", "warnings"]
    assert answer.json["method"] == "GET"
    assert answer.json["fields"] == {}
    assert answer.json["subscriptionId"] == 1
    assert re.fullmatch(r"https://pay\.example\.com/api/recurring/process/10295/[A-Za-z0-9_-]{22}", answer.json["url"])
    assert ["msisdn" in w for w in answer.json["warnings"]] == [True]


def test_the_documented_payload_is_drafted_as_it_reads(client: FlaskClient, payments: FakePayments):
    a_partner()

    post(client, DOCUMENTED)

    asked = draft(payments)
    assert asked["phone"] == "+4712457890"
    assert (asked["amount"], asked["initial_amount"], asked["currency"]) == (1250, 1000, "NOK")
    assert asked["interval"] == Interval.WEEK
    assert asked["product_name"] == "The name of the product"
    assert asked["description"] == "Recurring payment subscription request"
    assert asked["manage_url"] == "https://www.merchantwebsite.com?recurring=1"


def test_the_documented_payload_texts_the_link(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    a_partner()

    answer = post(client, DOCUMENTED)
    settle(jobs)

    token = answer.json["url"].rsplit("/", 1)[1]
    (text,) = sms.sent
    assert text["to"] == "+4712457890"
    assert text["originator"] == "2119"
    assert text["body"] == f"Click to proceed https://pay.example.com/s/{token}"
    assert text["receipt_url"] == "https://pay.example.com/hooks/twilio/1"


def test_the_url_of_the_answer_leads_to_vipps(client: FlaskClient, payments: FakePayments):
    a_partner()

    url = post(client, DOCUMENTED).json["url"]
    opened = client.get(url.removeprefix("https://pay.example.com"))

    assert opened.status_code == 302
    assert opened.location == f"https://api.vipps.no/landing/{payments.newest()}"


# How strictly a body is read


def test_proper_types_mean_the_same_as_texts(client: FlaskClient, payments: FakePayments):
    a_partner()
    typed = {"partnerId": 10295, "amount": 12.5, "campaignAmount": 10, "basis": 1, "sendSMS": True}

    first = post(client, DOCUMENTED)
    second = post(client, json.dumps({**json.loads(DOCUMENTED), **typed}).encode())

    assert second.status_code == 200
    assert second.data == first.data
    assert payments.calls == ["draft"]


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title, str.swapcase, lambda n: n[:1].upper() + n[1:]])
def test_names_are_read_without_regard_to_case(client: FlaskClient, spell: Any):
    a_partner()

    answer = post(client, json.dumps({spell(name): value for name, value in GOOD.items()}).encode())

    row = stored(answer)
    assert (row.msisdn, row.amount, row.campaign_amount) == ("+4791234567", 9900, 1000)
    assert (row.order_number, row.member_id, row.name) == ("order-1", "member-1", "Avisen")
    assert row.confirm_callback_url == "https://www.example.com/confirm"


def test_unknown_fields_are_ignored_and_never_bound(client: FlaskClient, payments: FakePayments):
    a_partner()
    a_partner(2)
    plain = stored(post(client, orderNumber="plain"))
    forged = {
        "state": "ACTIVE",
        "status": "ACTIVE",
        "partner_id": 2,
        "partner": 2,
        "id": 999,
        "subscriptionId": 999,
        "ulid": "0" * 26,
        "agreement_id": "agr_x",
        "provider_agreement_id": "agr_x",
        "link_token": "A" * 22,
        "manage_token": "A" * 22,
        "link_expires_at": "2099-01-01T00:00:00Z",
        "initial_amount": 0,
        "initialAmount": 0,
        "order_number": "other",
        "interval": "YEAR",
        "request_digest": "x",
        "next_period": 99,
        "activated_at": "2020-01-01T00:00:00Z",
        "anchor_on": "2020-01-01",
        "ended_at": "2020-01-01T00:00:00Z",
        "event_count": 99,
        "__class__": "x",
        "constructor": {"prototype": {"status": "ACTIVE"}},
        "colour": [{"deep": [1, 2.5, None, True]}],
    }

    row = stored(post(client, orderNumber="forged", **forged))

    own = {"id", "ulid", "order_number", "request_digest", "link_token", "manage_token", "agreement_url"}
    columns = [c.key for c in Subscription.__table__.columns if c.key not in own]
    assert {c: getattr(row, c) for c in columns} == {c: getattr(plain, c) for c in columns}
    assert row.status == SubscriptionStatus.PENDING
    assert (row.id, row.partner_id, row.order_number) == (plain.id + 1, 10295, "forged")
    assert row.link_token != "A" * 22
    assert newest_agreement(row.id).provider_agreement_id == payments.newest()


def test_an_unknown_field_does_not_make_it_another_request(client: FlaskClient):
    a_partner()

    first = post(client)
    second = post(client, colour="blue")

    assert second.data == first.data


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf8"',
        "APPLICATION/JSON",
        "application/json; odata=verbose",
    ],
)
def test_each_json_content_type_is_read(client: FlaskClient, content_type: str):
    a_partner()

    answer = client.post(SUBSCRIBE, data=DOCUMENTED, content_type=content_type, headers=basic())

    assert answer.status_code == 200


def test_a_body_of_exactly_64_kib_and_20_levels_is_read(client: FlaskClient):
    a_partner()
    deep = body()[:-1] + b', "colour": ' + b"[" * 19 + b"]" * 19 + b"}"

    answer = post(client, deep.ljust(64 * 1024))

    assert answer.status_code == 200


def test_no_break_spaces_between_tokens_are_blanks_and_in_texts_plain_spaces(
    client: FlaskClient, jobs: Jobs, sms: FakeSms
):
    a_partner()
    raw = body(name="En\u00a0 avis", smsText="Klikk\u00a0her", sendSMS=True).decode()
    raw = json.dumps(json.loads(raw), ensure_ascii=False, separators=("\u00a0,\u00a0\n", "\u00a0:\u00a0"))

    row = stored(post(client, f"\u00a0{raw}\u00a0".encode()))
    settle(jobs)

    assert row.name == "En avis"
    assert sms.sent[0]["body"].startswith("Klikk her https://")


@pytest.mark.parametrize("query", ["", "?api-version=1.0", "?api-version=2.0", "?other=1"])
def test_the_api_versions_are_answered_alike(client: FlaskClient, query: str):
    a_partner()

    answer = post(client, query=query)

    assert answer.status_code == 200
    assert list(answer.json) == ["method", "url", "fields", "subscriptionId"]


@pytest.mark.parametrize(
    "query",
    [
        "?api-version=3.0",
        "?api-version=1",
        "?api-version=2",
        "?api-version=",
        "?api-version=v2.0",
        "?api-version=1.0&api-version=2.0",
        "?api-version=2.0&api-version=2.0",
        "?api-version=2.0%00",
    ],
)
def test_another_or_a_repeated_api_version_is_refused_by_name(client: FlaskClient, payments: FakePayments, query: str):
    a_partner()
    before = everything()

    answer = post(client, query=query)

    assert answer.status_code == 400
    assert "api-version" in answer.text.lower()
    assert everything() == before
    assert payments.calls == []


# Values

_EMPTY: Any = ("", None, ...)


@pytest.mark.parametrize("empty", _EMPTY)
@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("orderNumber", "order_number"),
        ("memberId", "member_id"),
        ("statusCallbackUrl", "status_callback_url"),
        ("confirmSubscriptionCallbackUrl", "confirm_callback_url"),
    ],
)
def test_an_empty_optional_text_is_none(client: FlaskClient, field: str, column: str, empty: Any):
    a_partner()

    row = stored(post(client, **{field: empty}))

    assert getattr(row, column) is None


@pytest.mark.parametrize(
    ("field", "value", "column"),
    [
        ("name", "n" * 200, "name"),
        ("name", "Ø" * 200, "name"),
        ("name", "\U0001f600" * 200, "name"),
        ("description", "d" * 2000, "description"),
        ("description", "line\r\nline\ttab", "description"),
        ("orderNumber", "o" * 50, "order_number"),
        ("orderNumber", "' OR 1=1 --", "order_number"),
        ("memberId", "m" * 100, "member_id"),
        ("memberId", "åse@example.com/1", "member_id"),
        ("statusCallbackUrl", "https://www.example.com/" + "a" * 1976, "status_callback_url"),
        ("confirmSubscriptionCallbackUrl", "https://www.example.com/{{status}}", "confirm_callback_url"),
    ],
)
def test_a_text_up_to_its_limit_is_kept_as_it_is(client: FlaskClient, field: str, value: str, column: str):
    a_partner()

    row = stored(post(client, **{field: value}))

    assert getattr(row, column) == value


@pytest.mark.parametrize(
    ("field", "value", "column", "kept"),
    [("orderNumber", 123, "order_number", "123"), ("memberId", 10**30, "member_id", "1" + "0" * 30)],
)
def test_a_number_where_a_text_is_expected_is_its_digits(
    client: FlaskClient, field: str, value: int, column: str, kept: str
):
    a_partner()

    row = stored(post(client, **{field: value}))

    assert getattr(row, column) == kept


@pytest.mark.parametrize(
    ("msisdn", "kept"),
    [
        ("+4791234567", "+4791234567"),
        ("+47 912 34 567", "+4791234567"),
        ("+47\u00a0912 34 567", "+4791234567"),
        ("004791234567", "+4791234567"),
        ("91234567", "+4791234567"),
        (91234567, "+4791234567"),
        ("(912) 34-567", "+4791234567"),
        ("+4520123456", "+4520123456"),
        ("+358401234567", "+358401234567"),
        ("+46701234567", "+46701234567"),
    ],
)
def test_a_phone_number_is_kept_as_e164(client: FlaskClient, msisdn: Any, kept: str):
    a_partner()

    answer = post(client, msisdn=msisdn)

    assert stored(answer).msisdn == kept
    assert "warnings" not in answer.json


@pytest.mark.parametrize(
    ("amount", "kept"),
    [("99", 9900), (99, 9900), (99.0, 9900), ("99.5", 9950), ("1.00", 100), (19.99, 1999), ("20000", 2000000)],
)
def test_an_amount_is_kept_to_the_oere(client: FlaskClient, amount: Any, kept: int):
    a_partner()

    assert stored(post(client, amount=amount, campaignAmount=...)).amount == kept


@pytest.mark.parametrize(
    ("currency", "amount", "kept"), [("nok", 1, "NOK"), ("DKK", "0.01", "DKK"), ("EUR", 2000, "EUR")]
)
def test_each_currency_has_its_own_limits(client: FlaskClient, currency: str, amount: Any, kept: str):
    a_partner()

    assert stored(post(client, currency=currency, amount=amount, campaignAmount=...)).currency == kept


@pytest.mark.parametrize(
    ("campaign", "initial"),
    [("10", 1000), (10.5, 1050), ("0", 0), (0, 0), ("0.00", 0), (..., 9900), (None, 9900), ("120", 12000)],
)
def test_the_campaign_amount_decides_what_is_taken_at_signing(
    client: FlaskClient, payments: FakePayments, campaign: Any, initial: int
):
    a_partner()

    row = stored(post(client, campaignAmount=campaign))

    assert row.initial_amount == initial
    assert row.amount == 9900
    assert draft(payments)["initial_amount"] == initial
    assert draft(payments)["amount"] == 9900


@pytest.mark.parametrize(
    ("basis", "interval"),
    [(1, Interval.WEEK), ("1", Interval.WEEK), (2, Interval.MONTH), ("2", Interval.MONTH), ("3", Interval.YEAR)],
)
def test_the_basis_is_the_interval(client: FlaskClient, payments: FakePayments, basis: Any, interval: Interval):
    a_partner()

    row = stored(post(client, basis=basis))

    assert row.interval == interval
    assert draft(payments)["interval"] == interval


@pytest.mark.parametrize("word", ["Vipps", "vipps", "VIPPS"])
def test_the_payment_provider_is_vipps_in_any_case(client: FlaskClient, word: str):
    a_partner()

    assert post(client, paymentProvider=word).status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://www.example.com", "https://www.example.com?recurring=1"),
        ("https://www.example.com/", "https://www.example.com/?recurring=1"),
        ("https://www.example.com/mine?a=b", "https://www.example.com/mine?a=b&recurring=1"),
        ("https://www.example.com/mine?a=b&a=%20c+d", "https://www.example.com/mine?a=b&a=%20c+d&recurring=1"),
        ("https://www.example.com/mine#top", "https://www.example.com/mine?recurring=1#top"),
        ("https://www.example.com/mine?a=b#top", "https://www.example.com/mine?a=b&recurring=1#top"),
        ("https://www.example.com/mine?recurring=7", "https://www.example.com/mine?recurring=1"),
        ("https://www.example.com/?a=&recurring=7&b=2", "https://www.example.com/?a=&b=2&recurring=1"),
        ("https://pay.example.com.other.example/", "https://pay.example.com.other.example/?recurring=1"),
        ("http://localhost:9000/mine", "http://localhost:9000/mine?recurring=1"),
    ],
)
def test_the_number_joins_the_agreement_url(client: FlaskClient, payments: FakePayments, given: str, kept: str):
    a_partner()

    row = stored(post(client, agreementUrl=given))

    assert row.agreement_url == kept
    assert draft(payments)["manage_url"] == kept


def test_an_agreement_url_at_its_limit_is_kept_whole(client: FlaskClient):
    a_partner()
    longest = "https://www.example.com/" + "a" * 976

    assert stored(post(client, agreementUrl=longest)).agreement_url == f"{longest}?recurring=1"


@pytest.mark.parametrize(
    "given",
    [
        ...,
        None,
        "",
        "https://pay.example.com",
        "https://pay.example.com/x?y=z",
        "https://PAY.example.com/",
        "https://pay.example.com:443/",
    ],
)
def test_a_partner_without_a_page_gets_ours_behind_a_token(client: FlaskClient, payments: FakePayments, given: Any):
    a_partner()

    row = stored(post(client, agreementUrl=given))
    page = client.get(row.agreement_url.removeprefix("https://pay.example.com"))

    assert row.agreement_url == f"https://pay.example.com/manage/{row.manage_token}?recurring={row.id}"
    assert draft(payments)["manage_url"] == row.agreement_url
    assert page.status_code == 200


# The text message


@pytest.mark.parametrize(
    ("text", "starts", "ends"),
    [
        ("Click to proceed", "Click to proceed ", ""),
        ("Click to proceed\n", "Click to proceed ", ""),
        ("Go to {{url}} now", "Go to ", " now"),
        ("Go to {{ paymentSelectionPageUrl }}.", "Go to ", "."),
        ("Go to {{PAYMENTSELECTIONPAGEURL}}", "Go to ", ""),
        ("{{7*7}} {% raw %}", "{{7*7}} {% raw %} ", ""),
        ("Tom & Jerry’s <b>", "Tom & Jerry's <b> ", ""),
    ],
)
def test_the_link_stands_in_the_text_where_the_partner_wants_it_or_at_the_end(
    client: FlaskClient, jobs: Jobs, sms: FakeSms, text: str, starts: str, ends: str
):
    a_partner()

    answer = post(client, sendSMS=True, smsText=text)
    settle(jobs)

    link = "https://pay.example.com/s/" + answer.json["url"].rsplit("/", 1)[1]
    assert sms.sent[0]["body"] == f"{starts}{link}{ends}"


def test_without_a_text_of_its_own_a_partner_gets_ours(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    a_partner()

    post(client, sendSMS="true", smsText=..., name="Tom & Jerry <b> {{7*7}} 100 %")
    settle(jobs)

    sent = sms.sent[0]["body"]
    assert "Partner 10295" in sent
    assert "Tom & Jerry <b> {{7*7}} 100 %" in sent
    assert "99 kr" in sent
    assert LINK.search(sent)


@pytest.mark.parametrize("wanted", [True, "true", "TRUE", "True"])
def test_a_text_is_sent_when_it_is_asked_for(client: FlaskClient, jobs: Jobs, sms: FakeSms, wanted: Any):
    a_partner()

    post(client, sendSMS=wanted)
    settle(jobs)

    assert len(sms.sent) == 1


@pytest.mark.parametrize("unwanted", [False, "false", "FALSE", None, ...])
def test_no_text_is_sent_when_it_is_not(client: FlaskClient, jobs: Jobs, sms: FakeSms, unwanted: Any):
    a_partner()

    answer = post(client, sendSMS=unwanted)
    settle(jobs)

    assert answer.status_code == 200
    assert sms.sent == []


@pytest.mark.parametrize(
    ("given", "sender"),
    [
        ("2012", "2012"),
        (2012, "2012"),
        ("12345678901234", "12345678901234"),
        ("My Company", "My Company"),
        ("ABCDEFGHIJK", "ABCDEFGHIJK"),
        ("AB", "AB"),
        ("+4791234567", "+4791234567"),
        ("", "2119"),
        (None, "2119"),
        (..., "2119"),
    ],
)
def test_the_originator_is_the_requests_or_the_partners(
    client: FlaskClient, jobs: Jobs, sms: FakeSms, given: Any, sender: str
):
    a_partner()

    post(client, sendSMS=True, smsNotificationOriginator=given)
    settle(jobs)

    assert sms.sent[0]["originator"] == sender


# The same order again


def test_the_same_order_number_and_body_get_the_same_answer_and_no_second_draft(
    client: FlaskClient, payments: FakePayments, jobs: Jobs, sms: FakeSms
):
    a_partner()

    first = post(client, sendSMS=True)
    second = post(client, sendSMS=True)
    settle(jobs)

    assert second.status_code == 200
    assert second.data == first.data
    assert how_many() == 1
    assert payments.calls.count("draft") == 1
    assert len(sms.sent) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 100},
        {"msisdn": "+4791234568"},
        {"campaignAmount": ...},
        {"campaignAmount": 0},
        {"basis": 3},
        {"name": "Another"},
        {"sendSMS": True},
        {"memberId": "member-2"},
        {"agreementUrl": "https://www.example.com/other"},
        {"smsText": "Another text"},
    ],
)
def test_the_same_order_number_with_another_body_is_a_conflict_that_changes_nothing(
    client: FlaskClient, payments: FakePayments, change: dict[str, Any]
):
    a_partner()
    post(client)
    before, calls = everything(), list(payments.calls)

    answer = post(client, **change)

    assert answer.status_code == 409
    assert answer.json == 'orderNumber "order-1" is in use for another subscription'
    assert everything() == before
    assert payments.calls == calls


def test_the_same_order_number_of_another_partner_is_another_order(client: FlaskClient):
    a_partner()
    a_partner(20000)

    first = post(client)
    second = post(client, number=20000, partnerId=20000, amount=50)

    assert second.status_code == 200
    assert second.json["subscriptionId"] != first.json["subscriptionId"]


def test_without_an_order_number_every_request_is_a_new_one(client: FlaskClient):
    a_partner()

    first = post(client, orderNumber=...)
    second = post(client, orderNumber=...)

    assert first.json["subscriptionId"] != second.json["subscriptionId"]


# What Vipps says


def test_a_refusal_by_vipps_is_told_as_a_bare_string(client: FlaskClient, payments: FakePayments):
    a_partner()
    payments.faults.before("draft", ProviderRefused("The amount is too high for this sales unit"))

    answer = post(client)

    assert answer.status_code == 400
    assert answer.json == "The amount is too high for this sales unit"


def test_a_refused_request_sends_no_text_and_leaves_its_order_number_free(
    client: FlaskClient, payments: FakePayments, jobs: Jobs, sms: FakeSms
):
    a_partner()
    payments.faults.before("draft", ProviderRefused("no"))
    refused = post(client, sendSMS=True)
    settle(jobs)
    texts = list(sms.sent)

    again = post(client, sendSMS=True, amount=50)

    assert refused.status_code == 400
    assert texts == []
    assert subscription(1).status == SubscriptionStatus.REFUSED
    assert again.status_code == 200
    assert again.json["subscriptionId"] == 2


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ProviderUnavailable, ProviderUncertain])
def test_a_request_is_accepted_and_texted_when_vipps_does_not_answer(
    client: FlaskClient, payments: FakePayments, jobs: Jobs, sms: FakeSms, when: str, error: type[Exception]
):
    a_partner()
    getattr(payments.faults, when)("draft", error())

    answer = post(client, sendSMS=True)
    settle(jobs)

    row = stored(answer)
    assert row.status == SubscriptionStatus.PENDING
    assert newest_agreement(row.id).status == AgreementStatus.LOST
    assert payments.calls.count("draft") == 1
    assert len(sms.sent) == 1


def test_a_request_that_vipps_did_not_answer_shows_the_offer_at_its_link(client: FlaskClient, payments: FakePayments):
    a_partner()
    payments.faults.before("draft", ProviderUnavailable())

    url = post(client).json["url"]
    opened = client.get(url.removeprefix("https://pay.example.com"))

    assert opened.status_code == 200
    assert "<form" in opened.text
