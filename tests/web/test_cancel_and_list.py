"""A partner cancels and lists: the documented statuses and texts, to the letter, and never another partner's."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert
from werkzeug.test import TestResponse

from invoice.lifecycle import SubscriptionStatus
from invoice.names import new_token, new_ulid
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.models import Subscription
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments
from tests.web.bad_bodies import basic, everything

pytestmark = pytest.mark.usefixtures("as_in_production")

OTHER = basic("20000")


def cancel(client: FlaskClient, identifier: object, headers: dict[str, str] | None = None) -> TestResponse:
    return client.delete(f"/api/recurring/cancel/{quote(str(identifier))}", headers=headers or basic())


def listing(client: FlaskClient, since: str = "2026-11-10", query: str = "", **how: Any) -> TestResponse:
    return client.get(f"/api/recurring/subscriptions/10295/5/{since}{query}", headers=how.get("headers", basic()))


def ids(answer: TestResponse) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [item["subscriptionId"] for item in answer.json["subscriptions"]]


# Cancel


def test_cancelling_an_active_subscription_is_accepted_and_done_when_vipps_says_so(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    number = an_active_subscription(services, payments)

    answer = cancel(client, number)
    at_once = subscription(number).status
    settle(jobs)

    assert answer.status_code == 200
    assert answer.data == b""
    assert at_once == SubscriptionStatus.CANCELLING
    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_cancelling_a_subscription_that_nobody_has_accepted_yet_is_accepted(client: FlaskClient, services: Services):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id

    answer = cancel(client, number)

    assert answer.status_code == 200
    assert subscription(number).status == SubscriptionStatus.CANCELLING


def test_a_cancel_makes_no_call_while_the_partner_waits(
    client: FlaskClient, services: Services, payments: FakePayments
):
    a_partner()
    number = an_active_subscription(services, payments)
    calls = list(payments.calls)

    cancel(client, number)

    assert payments.calls == calls


def test_a_second_cancel_is_refused_in_the_documented_words(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    number = an_active_subscription(services, payments)
    cancel(client, number)

    while_under_way = cancel(client, number)
    settle(jobs)
    afterwards = cancel(client, number)

    assert while_under_way.status_code == afterwards.status_code == 400
    assert while_under_way.json == 'Subscription with status: "Cancelling" for "1" cannot be cancelled'
    assert afterwards.json == 'Subscription with status: "Cancelled" for "1" cannot be cancelled'


def test_what_the_person_stopped_cannot_be_cancelled(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    number = an_active_subscription(services, payments)
    payments.end("agr_1")
    services.consents.refresh(newest_agreement(number).id)

    answer = cancel(client, number)

    assert answer.status_code == 400
    assert answer.json == 'Subscription with status: "Stopped" for "1" cannot be cancelled'


def test_an_unknown_subscription_is_not_found_in_the_documented_words(client: FlaskClient):
    a_partner()

    answer = cancel(client, 4711)

    assert answer.status_code == 404
    assert answer.mimetype == "application/json"
    assert answer.json == "Recurring not found"


def test_another_partners_subscription_looks_just_like_an_unknown_one(
    client: FlaskClient, services: Services, payments: FakePayments
):
    a_partner()
    a_partner(20000)
    number = an_active_subscription(services, payments, member_id="member")
    before, calls = everything(), list(payments.calls)

    foreign = [cancel(client, number, OTHER), cancel(client, "member", OTHER)]
    unknown = [cancel(client, 4711, OTHER), cancel(client, "nobody", OTHER)]

    answers = [(a.status_code, a.data, a.mimetype) for a in foreign + unknown]
    assert set(answers) == {(404, answers[0][1], "application/json")}
    assert everything() == before
    assert payments.calls == calls


def test_what_cannot_be_an_identifier_is_refused_in_the_documented_words(client: FlaskClient):
    a_partner()
    identifiers = ["0", "2147483648", "9999999999", "\x00", "a\x00b", "\x01", "\x7f", "m" * 101]

    answers = {i: cancel(client, i) for i in identifiers}

    told = (400, "Invalid subscription identifier")
    assert {i: (a.status_code, a.json) for i, a in answers.items() if (a.status_code, a.json) != told} == {}


def test_a_member_id_cancels_as_well(client: FlaskClient, services: Services):
    partner = a_partner()
    members = ["member-1", "Åse Ø", "a/b", "a?b&c=d", "100%", "50% off", "٢", "1.0", "-1", "007x", "m" * 100]
    # As long as a phone number: a number that no subscription can have is still somebody's member id.
    members += ["4791234567", "0"]
    numbers = [services.subscriptions.request(partner, a_wish(member_id=m)).subscription_id for m in members]

    answers = {m: cancel(client, m) for m in members}

    assert {m: (a.status_code, a.text) for m, a in answers.items() if a.status_code != 200} == {}
    assert {subscription(n).status for n in numbers} == {SubscriptionStatus.CANCELLING}


def test_a_number_means_the_subscription_before_it_means_a_member(client: FlaskClient, services: Services):
    partner = a_partner()
    first = services.subscriptions.request(partner, a_wish(member_id="2")).subscription_id
    second = services.subscriptions.request(partner, a_wish(member_id="1")).subscription_id

    answer = cancel(client, first)

    assert answer.status_code == 200
    assert subscription(first).status == SubscriptionStatus.CANCELLING
    assert subscription(second).status == SubscriptionStatus.PENDING


def test_the_documented_text_names_what_the_partner_called_it(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    an_active_subscription(services, payments, member_id="member")
    cancel(client, "member")
    settle(jobs)

    answer = cancel(client, "member")

    assert answer.status_code == 400
    assert answer.json == 'Subscription with status: "Cancelled" for "member" cannot be cancelled'


def test_a_member_with_one_living_subscription_among_ended_ones_can_be_cancelled(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    an_active_subscription(services, payments, member_id="member")
    cancel(client, "member")
    settle(jobs)
    living = an_active_subscription(services, payments, member_id="member")

    answer = cancel(client, "member")

    assert answer.status_code == 200
    assert subscription(living).status == SubscriptionStatus.CANCELLING


def test_a_member_with_several_living_subscriptions_is_refused_and_nothing_changes(
    client: FlaskClient, services: Services
):
    partner = a_partner()
    services.subscriptions.request(partner, a_wish(member_id="member"))
    services.subscriptions.request(partner, a_wish(member_id="member"))
    before = everything()

    answer = cancel(client, "member")

    assert answer.status_code == 400
    assert "subscriptionId" in answer.json
    assert everything() == before


def test_a_cancel_takes_both_api_versions(client: FlaskClient, services: Services):
    partner = a_partner()
    numbers = [services.subscriptions.request(partner, a_wish()).subscription_id for _ in range(2)]

    answers = [
        client.delete(f"/api/recurring/cancel/{number}?api-version={version}", headers=basic())
        for number, version in zip(numbers, ("1.0", "2.0"), strict=True)
    ]

    assert [a.status_code for a in answers] == [200, 200]


# List


def test_a_subscription_that_waits_is_listed_with_all_that_was_asked_for(client: FlaskClient, services: Services):
    services.subscriptions.request(a_partner(), a_wish(order_number="order", member_id="member", campaign_amount=1050))

    answer = listing(client)

    assert answer.json == {
        "subscriptions": [
            {
                "subscriptionId": 1,
                "memberId": "member",
                "msisdn": "+4791234567",
                "orderNumber": "order",
                "name": "Avisen",
                "description": "Avisen hver dag",
                "currency": "NOK",
                "amount": "99.00",
                "campaignAmount": "10.50",
                "basis": 2,
                "chargeStatus": "Pending",
                "agreementUrl": "https://www.example.com/mine?recurring=1",
                "createdUtc": "2026-11-10T11:00:00Z",
                "startUtc": None,
                "nextChargeDate": None,
                "endedUtc": None,
            }
        ]
    }


def test_the_list_follows_a_subscription_through_its_life(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number = services.subscriptions.request(a_partner(), a_wish(campaign_amount=0)).subscription_id

    time.move(minutes=2)
    accept(services, payments, number)
    (active,) = listing(client).json["subscriptions"]
    time.move(hours=1)
    cancel(client, number)
    (under_way,) = listing(client).json["subscriptions"]
    settle(jobs)
    (ended,) = listing(client).json["subscriptions"]

    assert [s["chargeStatus"] for s in (active, under_way, ended)] == ["Active", "Cancelling", "Cancelled"]
    assert active["startUtc"] == "2026-11-10T11:02:00Z"
    assert active["nextChargeDate"] == "2026-12-10"
    assert active["campaignAmount"] == "0.00"
    assert (under_way["nextChargeDate"], under_way["endedUtc"]) == (None, None)
    assert ended["endedUtc"] == "2026-11-10T12:02:00Z"


def test_a_partner_without_subscriptions_gets_an_empty_list(client: FlaskClient):
    a_partner()

    assert listing(client).json == {"subscriptions": []}


def test_from_is_a_utc_date_or_minute_and_includes_its_own(client: FlaskClient, services: Services):
    services.subscriptions.request(a_partner(), a_wish())
    wanted = {
        "2026-11-10": [1],
        "2026-11-10T11:00": [1],
        "2026-11-10T11:01": [],
        "2026-11-11": [],
        "0001-01-01": [1],
        "9999-12-31": [],
        "9999-12-31T23:59": [],
        "2024-02-29": [1],
    }

    assert {since: ids(listing(client, since)) for since in wanted} == wanted


def test_another_form_of_from_is_refused_by_name(client: FlaskClient):
    a_partner()
    forms = [
        "10.11.2026",
        "2026-11",
        "2026-11-31",
        "2026-02-29",
        "2026-11-10T24:00",
        "2026-11-10T11",
        "2026-11-10T11:00:00",
        "2026-11-10T11:00Z",
        "2026-11-10t11:00",
        "2026-11-10%2011:00",
        "2026-11-10%0A",
        "٢٠٢٦-١١-١٠",
        "２０２６-11-10",
        "-026-11-10",
        "today",
    ]

    answers = {since: listing(client, since) for since in forms}

    told = (400, {"request.From": ["from must be a date such as 2026-11-21 or 2026-11-21T08:00."]})
    found = {since: (a.status_code, a.json.get("modelState")) for since, a in answers.items()}
    assert {since: said for since, said in found.items() if said != told} == {}


def test_another_payment_type_is_refused_by_name(client: FlaskClient):
    a_partner()
    path = "/api/recurring/subscriptions/10295/{}/2026-11-10"

    answers = [client.get(path.format(t), headers=basic()) for t in ("0", "1", "6", "vipps", "05", "٥")]

    assert {a.status_code for a in answers} == {400}
    assert all("request.PaymentTypeId" in a.json["modelState"] for a in answers)


@pytest.mark.parametrize("other", [20000, 30000])
def test_another_partners_list_is_forbidden_whether_it_exists_or_not(client: FlaskClient, other: int):
    a_partner()
    a_partner(20000)

    answer = client.get(f"/api/recurring/subscriptions/{other}/5/2026-11-10", headers=basic())

    assert answer.status_code == 403
    assert answer.json == {"message": "partnerId does not belong to these credentials."}


def test_a_list_holds_only_ones_own(client: FlaskClient, services: Services):
    own, other = a_partner(), a_partner(20000)
    first = services.subscriptions.request(own, a_wish()).subscription_id
    services.subscriptions.request(other, a_wish())
    third = services.subscriptions.request(own, a_wish()).subscription_id

    assert ids(listing(client)) == [first, third]


def test_a_list_says_nothing_of_tokens(client: FlaskClient, services: Services):
    services.subscriptions.request(a_partner(), a_wish())
    row = subscription(1)

    text = listing(client).text

    assert row.link_token not in text
    assert row.manage_token not in text
    assert row.ulid not in text


def _add_copies(services: Services, count: int) -> None:
    """Write many subscriptions down at once; what they are is of no matter here."""
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    row = subscription(number)
    columns = [c.key for c in Subscription.__table__.columns if c.key != "id"]
    values = {key: getattr(row, key) for key in columns}
    copies = [
        {**values, "ulid": new_ulid(), "link_token": new_token(), "manage_token": new_token()} for _ in range(count - 1)
    ]
    if copies:
        with transaction():
            db.session.execute(insert(Subscription), copies)


def test_a_long_list_comes_in_pages_that_miss_and_repeat_nothing(client: FlaskClient, services: Services):
    _add_copies(services, 1003)

    found, after, pages = [], 0, 0
    while after is not None and pages < 10:
        page = listing(client, query=f"?after={after}")
        found += ids(page)
        after, pages = page.json.get("nextAfter"), pages + 1

    assert pages == 3
    assert len(found) == len(set(found)) == 1003
    assert found == sorted(found)


def test_a_full_page_says_where_the_next_begins(client: FlaskClient, services: Services):
    _add_copies(services, 501)

    first = listing(client)
    second = listing(client, query=f"?after={first.json['nextAfter']}&api-version=2.0")

    assert len(ids(first)) == 500
    assert first.json["nextAfter"] == ids(first)[-1]
    assert len(ids(second)) == 1
    assert "nextAfter" not in second.json


def test_another_form_of_after_is_refused_by_name(client: FlaskClient):
    a_partner()
    forms = ["-1", "x", "1.5", "", "%00", "٢", "2147483648", "9" * 40, "1&after=1"]

    answers = [listing(client, query=f"?after={after}") for after in forms]

    assert {a.status_code for a in answers} == {400}
    assert all("request.After" in a.json["modelState"] for a in answers)


def test_an_after_beyond_the_end_is_an_empty_page(client: FlaskClient, services: Services):
    services.subscriptions.request(a_partner(), a_wish())

    assert listing(client, query="?after=2147483647").json == {"subscriptions": []}
