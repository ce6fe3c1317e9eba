"""A partner asks for a subscription: the documented payload works, and so does everything that means the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
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
from tests.web.visiting import HOST, receipt_of

pytestmark = pytest.mark.usefixtures("as_in_production")

SUBSCRIBE = "/api/recurring/subscribe"
LINK = re.compile(r"https://pay\.example\.com/s/[A-Za-z0-9_-]{22}")


def post(client: FlaskClient, raw: bytes | None = None, *, query: str = "", number: int = 10295, **changes: Any):
    """Send the good body with changes; a change to ... leaves a field out."""
    if raw is None:
        raw = json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()
    headers = basic(str(number))
    return client.post(SUBSCRIBE + query, data=raw, content_type="application/json", headers=headers)


def stored(answer: TestResponse) -> Subscription:
    assert answer.status_code == 200, answer.text
    return subscription(answer.json["subscriptionId"])


def kept(client: FlaskClient, field: str, values: list[Any], column: str) -> list[Any]:
    """Return what a column holds after each value of a field."""
    return [getattr(stored(post(client, orderNumber=..., **{field: v})), column) for v in values]


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
    assert list(answer.json) == ["method", "url", "fields", "subscriptionId", "smsNotificationParts", "warnings"]
    assert answer.json["smsNotificationParts"] == 1
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
    assert (asked["price"], asked["initial"]["amount"]) == ({"amount": 1250, "currency": "NOK"}, 1000)
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
    assert text["receipt_url"] == HOST + receipt_of(1)


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
    second = post(client, json.dumps({**json.loads(DOCUMENTED.replace(b"\xc2\xa0", b" ")), **typed}).encode())

    assert second.status_code == 200
    assert second.data == first.data
    assert payments.calls == ["draft"]


def test_names_are_read_without_regard_to_case(client: FlaskClient):
    a_partner()
    ways: list[Callable[[str], str]] = [str.upper, str.lower, str.title, str.swapcase, lambda n: n[:1].upper() + n[1:]]

    answers = [
        post(client, json.dumps({spell(name): value for name, value in GOOD.items()}).encode()) for spell in ways
    ]

    row = stored(answers[0])
    assert (row.msisdn, row.amount, row.campaign_amount) == ("+4791234567", 9900, 1000)
    assert (row.order_number, row.member_id, row.name) == ("order-1", "member-1", "Avisen")
    assert row.confirm_callback_url == "https://www.example.com/confirm"
    assert {a.data for a in answers} == {answers[0].data}


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


def test_each_json_content_type_is_read(client: FlaskClient):
    a_partner()
    types = [
        "application/json",
        "text/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf8"',
        "APPLICATION/JSON",
        "application/json; odata=verbose",
    ]

    answers = {t: client.post(SUBSCRIBE, data=DOCUMENTED, content_type=t, headers=basic()) for t in types}

    assert {t: a.text for t, a in answers.items() if a.status_code != 200} == {}


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


def test_the_api_versions_are_answered_alike(client: FlaskClient):
    a_partner()

    answers = [post(client, query=q) for q in ("", "?api-version=1.0", "?api-version=2.0", "?other=1")]

    assert [a.status_code for a in answers] == [200] * 4
    assert list(answers[0].json) == ["method", "url", "fields", "subscriptionId"]
    assert {a.data for a in answers} == {answers[0].data}


def test_another_or_a_repeated_api_version_is_refused_by_name(client: FlaskClient, payments: FakePayments):
    a_partner()
    before = everything()
    queries = ["3.0", "1", "2", "", "v2.0", "2.0%00", "1.0&api-version=2.0", "2.0&api-version=2.0"]

    answers = {q: post(client, query=f"?api-version={q}") for q in queries}

    assert {q: a.status_code for q, a in answers.items() if a.status_code != 400} == {}
    assert all("api-version" in a.text.lower() for a in answers.values())
    assert everything() == before
    assert payments.calls == []


# Values


def test_an_empty_optional_text_is_none(client: FlaskClient):
    a_partner()
    columns = {
        "memberId": "member_id",
        "statusCallbackUrl": "status_callback_url",
        "confirmSubscriptionCallbackUrl": "confirm_callback_url",
    }

    found = {field: kept(client, field, ["", None, ...], column) for field, column in columns.items()}
    orders = [stored(post(client, orderNumber=v)).order_number for v in ("", None, ...)]

    assert found == dict.fromkeys(columns, [None] * 3)
    assert orders == [None] * 3


def test_a_text_up_to_its_limit_is_kept_as_it_is(client: FlaskClient):
    a_partner()
    texts: dict[str, tuple[str, list[str]]] = {
        "name": ("name", ["n" * 200, "Ø" * 200, "\U0001f600" * 200, "<b>&amp;"]),
        "description": ("description", ["d" * 2000, "line\r\nline\ttab"]),
        "memberId": ("member_id", ["m" * 100, "åse@example.com/1"]),
        "statusCallbackUrl": ("status_callback_url", ["https://www.example.com/" + "a" * 1976]),
        "confirmSubscriptionCallbackUrl": ("confirm_callback_url", ["https://www.example.com/{{status}}"]),
    }
    orders = ["o" * 50, "' OR 1=1 --", "Ø" * 50]

    found = {field: kept(client, field, values, column) for field, (column, values) in texts.items()}
    found_orders = [stored(post(client, orderNumber=order)).order_number for order in orders]

    assert found == {field: values for field, (_, values) in texts.items()}
    assert found_orders == orders


def test_a_number_where_a_text_is_expected_is_its_digits(client: FlaskClient):
    a_partner()

    assert kept(client, "memberId", [0, 123, 10**30], "member_id") == ["0", "123", "1" + "0" * 30]
    assert stored(post(client, orderNumber=123)).order_number == "123"


def test_a_phone_number_is_kept_as_e164(client: FlaskClient):
    a_partner()
    numbers = {
        "+4791234567": "+4791234567",
        "+47 912 34 567": "+4791234567",
        "+47\u00a0912 34 567": "+4791234567",
        "004791234567": "+4791234567",
        "91234567": "+4791234567",
        91234567: "+4791234567",
        "(912) 34-567": "+4791234567",
        "+4520123456": "+4520123456",
        "+358401234567": "+358401234567",
        "+46701234567": "+46701234567",
    }

    answers = {given: post(client, msisdn=given, orderNumber=...) for given in numbers}

    assert {given: stored(a).msisdn for given, a in answers.items()} == numbers
    assert [given for given, a in answers.items() if "warnings" in a.json] == []


def test_an_amount_is_kept_to_the_oere(client: FlaskClient):
    a_partner()
    given = ["99", 99, 99.0, "99.5", "1.00", 1, 19.99, "020.10", "20000"]

    assert kept(client, "amount", given, "amount") == [9900, 9900, 9900, 9950, 100, 100, 1999, 2010, 2000000]


def test_each_currency_has_its_own_limits(client: FlaskClient):
    a_partner()
    limits = {"NOK": ("1", "20000"), "DKK": ("0.01", "300000"), "EUR": ("0.01", "2000"), "nok": ("1.00", "20000.00")}
    beyond = {"NOK": ("0.99", "20000.01"), "DKK": ("0", "300000.01"), "EUR": ("0", "2000.01")}

    def statuses(table: dict[str, tuple[str, str]]) -> set[int]:
        wishes = [(currency, amount) for currency, amounts in table.items() for amount in amounts]
        plain: dict[str, Any] = {"campaignAmount": ..., "orderNumber": ...}
        return {post(client, currency=c, amount=a, **plain).status_code for c, a in wishes}

    assert statuses(limits) == {200}
    assert statuses(beyond) == {400}


def test_the_campaign_amount_decides_what_is_taken_at_signing(client: FlaskClient, payments: FakePayments):
    a_partner()
    given = ["10", 10.5, "0", 0, "0.00", ..., None, "120"]

    rows = [stored(post(client, campaignAmount=v, orderNumber=...)) for v in given]

    assert [r.initial_amount for r in rows] == [1000, 1050, 0, 0, 0, 9900, 9900, 12000]
    drafts = [a.draft for a in payments.agreements.values()]
    assert [d["initial"]["amount"] if d["initial"] else 0 for d in drafts] == [r.initial_amount for r in rows]
    assert {d["price"]["amount"] for d in drafts} == {9900}


def test_the_basis_is_the_interval(client: FlaskClient, payments: FakePayments):
    a_partner()
    wanted = [Interval.WEEK, Interval.WEEK, Interval.MONTH, Interval.MONTH, Interval.YEAR, Interval.YEAR]

    found = kept(client, "basis", [1, "1", 2, "2", 3, "3"], "interval")

    assert found == wanted
    assert [a.draft["interval"] for a in payments.agreements.values()] == wanted


def test_the_payment_provider_is_vipps_in_any_case(client: FlaskClient):
    a_partner()

    answers = [post(client, paymentProvider=word, orderNumber=...) for word in ("Vipps", "vipps", "VIPPS")]

    assert [a.status_code for a in answers] == [200] * 3


def test_the_number_joins_the_agreement_url(client: FlaskClient, payments: FakePayments):
    a_partner()
    addresses = {
        "https://www.example.com": "https://www.example.com?recurring=N",
        "https://www.example.com/": "https://www.example.com/?recurring=N",
        "https://www.example.com/mine?a=b": "https://www.example.com/mine?a=b&recurring=N",
        "https://www.example.com/mine?a=b&a=%20c+d": "https://www.example.com/mine?a=b&a=%20c+d&recurring=N",
        "https://www.example.com/mine#top": "https://www.example.com/mine?recurring=N#top",
        "https://www.example.com/mine?a=b#top": "https://www.example.com/mine?a=b&recurring=N#top",
        "https://www.example.com/mine?recurring=7": "https://www.example.com/mine?recurring=N",
        "https://www.example.com/?a=&recurring=7&b=2": "https://www.example.com/?a=&b=2&recurring=N",
        "https://pay.example.com.other.example/": "https://pay.example.com.other.example/?recurring=N",
        "http://localhost:9000/mine": "http://localhost:9000/mine?recurring=N",
        "https://www.example.com/" + "a" * 976: "https://www.example.com/" + "a" * 976 + "?recurring=N",
    }

    rows = [stored(post(client, agreementUrl=given, orderNumber=...)) for given in addresses]

    assert [r.agreement_url for r in rows] == [
        kept.replace("N", str(r.id)) for kept, r in zip(addresses.values(), rows, strict=True)
    ]
    assert [a.draft["manage_url"] for a in payments.agreements.values()] == [r.agreement_url for r in rows]


def test_a_number_that_stood_there_already_gives_way_and_the_rest_is_kept_byte_for_byte(client: FlaskClient):
    a_partner()
    long = "ø" * 900

    rest = ["a=%20c+d&b&c=", "a=b;c", "q=(x)&q=%F8", f"a={long}"]
    addresses = [f"https://www.example.com/?recurring=7&{query}#top" for query in rest]
    rows = [stored(post(client, agreementUrl=given, orderNumber=...)) for given in addresses]

    kept = [f"https://www.example.com/?{query}&recurring={r.id}#top" for query, r in zip(rest, rows, strict=True)]
    assert [r.agreement_url for r in rows] == kept


def test_a_partner_without_a_page_gets_ours_behind_a_token(client: FlaskClient, payments: FakePayments):
    a_partner()
    own = [
        "https://pay.example.com",
        "https://pay.example.com/x?y=z#top",
        "https://PAY.example.com/",
        "https://pay.example.com:443/",
    ]

    rows = [stored(post(client, agreementUrl=given, orderNumber=...)) for given in [..., None, "", *own]]
    pages = [client.get(r.agreement_url.removeprefix("https://pay.example.com")) for r in rows]

    assert [r.agreement_url for r in rows] == [
        f"https://pay.example.com/manage/{r.manage_token}?recurring={r.id}" for r in rows
    ]
    assert [a.draft["manage_url"] for a in payments.agreements.values()] == [r.agreement_url for r in rows]
    assert [p.status_code for p in pages] == [200] * len(rows)


# The text message


def test_the_link_stands_in_the_text_where_the_partner_wants_it_or_at_the_end(
    client: FlaskClient, jobs: Jobs, sms: FakeSms
):
    a_partner()
    texts = {
        "Click to proceed": "Click to proceed LINK",
        "Click to proceed\n": "Click to proceed LINK",
        "Go to {{url}} now": "Go to LINK now",
        "Go to {{ paymentSelectionPageUrl }}.": "Go to LINK.",
        "Go to {{PAYMENTSELECTIONPAGEURL}}": "Go to LINK",
        "{{url}} or {{url}}": "LINK or LINK",
        "{{7*7}} {% raw %}": "{{7*7}} {% raw %} LINK",
        "Tom & Jerry’s <b>": "Tom & Jerry's <b> LINK",
        "Blåbærsyltetøy på €-tilbud": "Blåbærsyltetøy på €-tilbud LINK",
        "s" * 1000: "s" * 1000 + " LINK",
    }

    answers = [post(client, sendSMS=True, smsText=text, orderNumber=...) for text in texts]
    settle(jobs)

    links = ["https://pay.example.com/s/" + a.json["url"].rsplit("/", 1)[1] for a in answers]
    wanted = [text.replace("LINK", link) for text, link in zip(texts.values(), links, strict=True)]
    assert [message["body"] for message in sms.sent] == wanted


def test_without_a_text_of_its_own_a_partner_gets_ours(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    a_partner()

    post(client, sendSMS="true", smsText=..., name="Tom & Jerry <b> {{7*7}} 100 %")
    settle(jobs)

    sent = sms.sent[0]["body"]
    assert "Partner 10295" in sent
    assert "Tom & Jerry <b> {{7*7}} 100 %" in sent
    assert "99 kr" in sent
    assert LINK.search(sent)


def test_a_text_is_sent_when_it_is_asked_for(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    a_partner()

    answers = [post(client, sendSMS=wanted, orderNumber=...) for wanted in (True, "true", "TRUE", "True")]
    settle(jobs)

    assert [a.status_code for a in answers] == [200] * 4
    assert len(sms.sent) == 4


def test_no_text_is_sent_when_it_is_not(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    a_partner()

    answers = [post(client, sendSMS=unwanted, orderNumber=...) for unwanted in (False, "false", "FALSE", None, ...)]
    settle(jobs)

    assert [a.status_code for a in answers] == [200] * 5
    assert sms.sent == []


def test_the_originator_is_the_requests_or_the_partners(client: FlaskClient, jobs: Jobs, sms: FakeSms):
    a_partner()
    own = ["2012", 2012, "12345678901234", "My Company", "ABCDEFGHIJK", "AB", "4U", "+4791234567"]

    for given in [*own, "", None, ...]:
        post(client, sendSMS=True, smsNotificationOriginator=given, orderNumber=...)
    settle(jobs)

    assert [text["originator"] for text in sms.sent] == [*map(str, own), "2119", "2119", "2119"]


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


def test_the_same_order_number_with_another_body_is_a_conflict_that_changes_nothing(
    client: FlaskClient, payments: FakePayments
):
    a_partner()
    post(client)
    before, calls = everything(), list(payments.calls)
    changes: list[dict[str, Any]] = [
        {"amount": 100},
        {"msisdn": "+4791234568"},
        {"currency": "DKK"},
        {"campaignAmount": ...},
        {"campaignAmount": 0},
        {"basis": 3},
        {"name": "Another"},
        {"description": "Another"},
        {"sendSMS": True},
        {"memberId": "member-2"},
        {"agreementUrl": "https://www.example.com/other"},
        {"statusCallbackUrl": ...},
        {"smsText": "Another text"},
    ]

    answers = [post(client, **change) for change in changes]

    told = 'orderNumber "order-1" is in use for another subscription'
    assert [(a.status_code, a.json) for a in answers] == [(409, told)] * len(changes)
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
