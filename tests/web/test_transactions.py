"""The reading side: every charge under the documented fields, texts and statuses, and never another partner's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert
from werkzeug.test import TestResponse

from invoice.lifecycle import ChargeStatus
from invoice.names import charge_name, new_guid, transaction_id
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.models import Charge
from invoice.web.transactions import STATUSES
from tests.bending import bending
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    charges,
    settle,
    the_partner,
)
from tests.fakes import FakePayments
from tests.services.test_captures import a_reservation, reserved
from tests.web.bad_bodies import basic, everything

pytestmark = pytest.mark.usefixtures("as_in_production")

API = "/api/transactions"
# Source: the original's help pages, `TransactionResponseV2`.
DOCUMENTED = [
    "transactionId",
    "createdDateUtc",
    "paymentTransactionId",
    "status",
    "success",
    "statusDescription",
    "statusCode",
    "paymentSetup",
    "paymentDateUtc",
    "partnerId",
    "currency",
    "amount",
    "returnUrl",
    "statusCallbackUrl",
    "referenceId",
    "paymentProvider",
    "paymentEntity",
    "description",
    "ocr",
]


def get(client: FlaskClient, path: str, user: str = "10295") -> TestResponse:
    return client.get(API + path, headers=basic(user))


def put(client: FlaskClient, path: str, user: str = "10295") -> TestResponse:
    return client.put(API + path, headers=basic(user))


def paid(services: Services, payments: FakePayments, **changes: Any) -> Charge:
    """Return the charge of a signing that was paid just now."""
    return charges(an_active_subscription(services, payments, **changes))[0]


def guids(answer: TestResponse) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["transactionId"] for item in answer.json["transactions"]]


def said(answers: Sequence[TestResponse]) -> set[tuple[int, bytes]]:
    return {(a.status_code, a.data) for a in answers}


# One


def test_a_paid_signing_is_shown_with_every_documented_field(
    client: FlaskClient, services: Services, payments: FakePayments
):
    a_partner()
    charge = paid(services, payments, order_number="unique-order-number-12346", member_id="member")

    answer = get(client, f"/10295/{charge.guid}")

    assert answer.status_code == 200
    assert list(answer.json)[: len(DOCUMENTED)] == DOCUMENTED
    assert answer.json == {
        "transactionId": charge.guid,
        "createdDateUtc": "2026-11-10T11:00:00Z",
        "paymentTransactionId": charge.name,
        "status": "CHARGED",
        "success": True,
        "statusDescription": "Paid.",
        "statusCode": "Captured",
        "paymentSetup": None,
        "paymentDateUtc": "2026-11-10T11:00:00Z",
        "partnerId": 10295,
        "currency": "NOK",
        "amount": "99.00",
        "returnUrl": None,
        "statusCallbackUrl": None,
        "referenceId": charge.name,
        "paymentProvider": "Vipps",
        "paymentEntity": "+4791234567",
        "description": "Avisen hver dag",
        "ocr": None,
        "subscriptionId": charge.subscription_id,
        "orderNumber": "unique-order-number-12346",
        "memberId": "member",
        "period": 0,
        "dueDate": "2026-11-10",
        "capturedAmount": "99.00",
        "refundedAmount": "0.00",
        "captureBeforeUtc": None,
    }


def test_the_documented_limits_of_texts_hold(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    charge = paid(services, payments, description="d" * 2000, msisdn="+358401234567890")

    found = get(client, f"/10295/{charge.guid}").json

    assert len(found["description"]) == 500
    assert len(found["paymentEntity"]) <= 30
    assert len(found["referenceId"]) <= 50


def test_every_charge_has_its_own_guid_made_from_its_name(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    numbers = [an_active_subscription(services, payments) for _ in range(3)]
    time.move(days=24)
    settle(jobs)

    rows = [charge for number in numbers for charge in charges(number)]

    assert len(rows) == 6
    assert [c.guid for c in rows] == [transaction_id(c.name) for c in rows]
    assert len({c.guid for c in rows}) == 6


def test_a_guid_is_read_in_any_case(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    charge = paid(services, payments)

    assert get(client, f"/10295/{charge.guid.upper()}").json["transactionId"] == charge.guid


def test_every_status_of_a_charge_has_its_words():
    assert set(STATUSES) == set(ChargeStatus)
    assert {code for code, _, _ in STATUSES.values()} == {"Registered", "Authorized", "Captured", "Failed", "Annulled"}


@pytest.mark.parametrize(
    ("status", "code", "word", "success", "is_known_there"),
    [
        (ChargeStatus.PLANNED, "Registered", "PLANNED", False, False),
        (ChargeStatus.SUBMITTING, "Registered", "SUBMITTING", False, False),
        (ChargeStatus.SUBMITTED, "Registered", "DUE", False, True),
        (ChargeStatus.RESERVED, "Authorized", "RESERVED", True, True),
        (ChargeStatus.CHARGED, "Captured", "CHARGED", True, True),
        (ChargeStatus.PARTIALLY_REFUNDED, "Captured", "PARTIALLY_REFUNDED", True, True),
        (ChargeStatus.REFUNDED, "Annulled", "REFUNDED", False, True),
        (ChargeStatus.FAILED, "Failed", "FAILED", False, True),
        (ChargeStatus.CANCELLED, "Annulled", "CANCELLED", False, True),
        (ChargeStatus.VOID, "Annulled", "VOID", False, False),
        (ChargeStatus.REFUSED, "Failed", "REFUSED", False, True),
    ],
)
def test_a_status_is_told_in_the_originals_words(
    client: FlaskClient,
    services: Services,
    payments: FakePayments,
    status: ChargeStatus,
    code: str,
    word: str,
    success: bool,
    is_known_there: bool,
):
    a_partner()
    charge = paid(services, payments)
    with bending():
        db.session.get_one(Charge, charge.id).status = status

    found = get(client, f"/10295/{charge.guid}").json

    assert (found["statusCode"], found["status"], found["success"]) == (code, word, success)
    assert (found["paymentTransactionId"] is not None) is is_known_there


def test_why_a_payment_failed_is_told(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    charge = paid(services, payments)
    with bending():
        row = db.session.get_one(Charge, charge.id)
        row.status, row.failure_reason = ChargeStatus.FAILED, "insufficient_funds"

    assert get(client, f"/10295/{charge.guid}").json["statusDescription"] == "insufficient_funds"


def test_an_unknown_transaction_is_not_found_in_the_documented_words(client: FlaskClient):
    a_partner()
    guid = new_guid()

    answer = get(client, f"/10295/{guid}")

    assert (answer.status_code, answer.json) == (404, f"Transaction with id '{guid}' not found.")


# By reference


def test_a_reference_finds_its_transaction(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    charge = paid(services, payments)

    answer = get(client, f"?partnerId=10295&referenceId={charge.name}")

    assert answer.json["transactionId"] == charge.guid
    assert answer.json == get(client, f"/10295/{charge.guid}").json


def test_an_order_number_finds_the_first_payment(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    first = paid(services, payments, order_number="order / 1")
    free = services.subscriptions.request(the_partner(), a_wish(order_number="free", campaign_amount=0))
    accept(services, payments, free.subscription_id)
    early = get(client, "?partnerId=10295&referenceId=free")
    time.move(days=24)
    settle(jobs)

    found = get(client, "?partnerId=10295&referenceId=order%20/%201")
    late = get(client, "?partnerId=10295&referenceId=free")

    assert (found.json["transactionId"], found.json["period"]) == (first.guid, 0)
    assert early.status_code == 404
    assert late.json["period"] == 1


def test_missing_parameters_are_told_in_the_documented_words(client: FlaskClient):
    a_partner()
    paths = {
        "?partnerId=10295": "Missing required parameter referenceId.",
        "?partnerId=10295&referenceId=": "Missing required parameter referenceId.",
        "?referenceId=x": "Missing required parameter partnerId.",
        "": "Missing required parameter partnerId.",
        "/search/10295": "Missing required parameter fromDate.",
        "/search/10295?fromDate=": "Missing required parameter fromDate.",
    }

    answers = {path: get(client, path) for path in paths}

    assert {path: a.status_code for path, a in answers.items()} == dict.fromkeys(paths, 400)
    assert {path: a.json for path, a in answers.items()} == paths


def test_an_unknown_reference_is_not_found_in_the_documented_words(client: FlaskClient):
    a_partner()

    answer = get(client, "?partnerId=10295&referenceId=nothing")

    told = "Transaction for partner id '10295' and reference id 'nothing' not found."
    assert (answer.status_code, answer.json) == (404, told)


# Lists


def test_those_of_a_subscription_are_listed_oldest_first(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)
    an_active_subscription(services, payments)
    time.move(days=24)
    settle(jobs)

    found = get(client, f"/search/10295/{number}").json["transactions"]

    assert [(t["period"], t["statusCode"], t["dueDate"]) for t in found] == [
        (0, "Captured", "2026-11-10"),
        (1, "Registered", "2026-12-10"),
    ]
    assert {t["subscriptionId"] for t in found} == {number}


def test_a_subscription_without_payments_is_an_empty_list(client: FlaskClient, services: Services):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id

    assert get(client, f"/search/10295/{number}").json == {"transactions": []}


def test_those_created_since_a_date_are_listed(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    a_partner()
    first = paid(services, payments)
    time.move(days=1)
    second = paid(services, payments)
    wanted = {
        "2026-11-10": [first.guid, second.guid],
        "2026-11-10T11:00": [first.guid, second.guid],
        "2026-11-10T11:01": [second.guid],
        "2026-11-11": [second.guid],
        "2026-11-12": [],
        "0001-01-01": [first.guid, second.guid],
    }

    assert {since: guids(get(client, f"/search/10295?fromDate={since}")) for since in wanted} == wanted


def test_another_form_of_from_date_is_refused_by_name(client: FlaskClient):
    a_partner()
    forms = [
        "10.11.2026",
        "2026-11-31",
        "2026-11-10T11:00:00Z",
        "2026-11-10%00",
        "٢٠٢٦-١١-١٠",
        "now",
        "2026-11-10&fromDate=x",
    ]

    answers = {since: get(client, f"/search/10295?fromDate={since}") for since in forms}

    assert {since: (a.status_code, list(a.json["modelState"])) for since, a in answers.items()} == dict.fromkeys(
        forms, (400, ["request.FromDate"])
    )


@pytest.mark.parametrize("search", ["/search/10295?fromDate=2026-11-01&", "/search/10295/1?"])
def test_a_long_list_comes_in_pages_that_miss_and_repeat_nothing(
    client: FlaskClient, services: Services, payments: FakePayments, search: str
):
    a_partner()
    row = paid(services, payments)
    values = {c.key: getattr(row, c.key) for c in Charge.__table__.columns if c.key != "id"}
    ulid = row.name[:26]
    copies = []
    for period in range(1, 1003):
        name = charge_name(ulid, period, 0)
        copies.append({**values, "period": period, "name": name, "guid": transaction_id(name)})
    with transaction():
        db.session.execute(insert(Charge), copies)

    found, query, pages = [], "", 0
    while pages < 10:
        page = get(client, search + query)
        found += guids(page)
        pages += 1
        if "nextAfter" not in page.json:
            break
        query = f"after={page.json['nextAfter']}"

    assert pages == 3
    assert len(found) == len(set(found)) == 1003


def test_another_form_of_after_is_refused_by_name(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    a_partner(20000)
    charge = paid(services, payments)
    forms = ["", "1", "x", new_guid(), "%00", f"{charge.guid}&after={charge.guid}"]

    answers = [get(client, f"/search/10295?fromDate=2026-11-01&after={after}") for after in forms]
    foreign = get(client, f"/search/20000?fromDate=2026-11-01&after={charge.guid}", "20000")

    assert {a.status_code for a in [*answers, foreign]} == {400}
    assert all("request.After" in a.json["modelState"] for a in [*answers, foreign])


# Others' and wrong ones


def test_another_partners_transaction_looks_just_like_an_unknown_one(
    client: FlaskClient, services: Services, payments: FakePayments
):
    a_partner()
    a_partner(20000)
    charge = paid(services, payments, order_number="order")
    before, calls = everything(), list(payments.calls)

    def all_ways(guid: str, reference: str, number: int) -> list[bytes]:
        answers = [
            get(client, f"/20000/{guid}", "20000"),
            put(client, f"/20000/{guid}/capture", "20000"),
            get(client, f"?partnerId=20000&referenceId={reference}", "20000"),
            get(client, f"/search/20000/{number}", "20000"),
        ]
        assert {a.status_code for a in answers} == {404}
        return [a.data.replace(guid.encode(), b"ID").replace(reference.encode(), b"REFERENCE") for a in answers]

    unknown = all_ways(new_guid(), "nothing", 4711)

    assert all_ways(charge.guid, charge.name, charge.subscription_id) == unknown
    assert all_ways(charge.guid, "order", charge.subscription_id) == unknown
    assert guids(get(client, "/search/20000?fromDate=2000-01-01", "20000")) == []
    assert everything() == before
    assert payments.calls == calls


def test_another_partners_number_is_forbidden_whether_it_exists_or_not(
    client: FlaskClient, services: Services, payments: FakePayments
):
    a_partner()
    a_partner(20000)
    guid = paid(services, payments).guid

    answers = [
        answer
        for other in (20000, 30000)
        for answer in (
            get(client, f"/{other}/{guid}"),
            get(client, f"?partnerId={other}&referenceId=x"),
            get(client, f"/search/{other}?fromDate=2026-11-01"),
            get(client, f"/search/{other}/1"),
            put(client, f"/{other}/{guid}/capture"),
        )
    ]

    assert len(said(answers)) == 1
    assert answers[0].status_code == 403


def test_every_address_takes_both_api_versions_and_no_other(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    number = a_reservation(services, payments, time)
    guid = reserved(number).guid
    paths = [f"/10295/{guid}?", "/search/10295?fromDate=2026-11-01&", f"/search/10295/{number}?"]
    paths.append(f"?partnerId=10295&referenceId={reserved(number).name}&")

    for path in paths:
        answers = [get(client, path + query) for query in ("", "api-version=1.0", "api-version=2.0")]
        assert len(said(answers)) == 1
        assert answers[0].status_code == 200
        assert get(client, path + "api-version=3.0").status_code == 400
    assert put(client, f"/10295/{guid}/capture?api-version=3.0").status_code == 400
    assert put(client, f"/10295/{guid}/capture?api-version=2.0").status_code == 200


# Capture


def test_money_that_is_set_aside_is_captured_when_vipps_says_so(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    charge = reserved(a_reservation(services, payments, time))
    before = get(client, f"/10295/{charge.guid}").json

    answer = put(client, f"/10295/{charge.guid}/capture")
    settle(jobs)
    after = get(client, f"/10295/{charge.guid}").json

    assert (before["statusCode"], before["captureBeforeUtc"][:10]) == ("Authorized", "2027-05-09")
    assert (answer.status_code, answer.json["statusCode"]) == (200, "Authorized")
    assert (after["statusCode"], after["capturedAmount"], after["captureBeforeUtc"]) == ("Captured", "99.00", None)


def test_a_part_is_captured_in_kroner(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    charge = reserved(a_reservation(services, payments, time))

    answer = put(client, f"/10295/{charge.guid}/capture?amount=12.50")
    settle(jobs)

    assert answer.status_code == 200
    assert payments.charge(charge.name).captured == 1250
    assert get(client, f"/10295/{charge.guid}").json["capturedAmount"] == "12.50"


def test_an_amount_that_cannot_be_captured_is_refused_in_kroner(
    client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock
):
    charge = reserved(a_reservation(services, payments, time))
    before, calls = everything(), list(payments.calls)
    amounts = ["0", "0.99", "99.01", "1000000", "-1", "1.005", "12,50", "x", "", "%00", "1e2", "٩", "10&amount=10"]

    answers = {amount: put(client, f"/10295/{charge.guid}/capture?amount={amount}") for amount in amounts}

    assert {amount: a.status_code for amount, a in answers.items()} == dict.fromkeys(amounts, 400)
    assert all(list(a.json["modelState"]) == ["request.Amount"] for a in answers.values())
    assert "from 1.00 to 99.00" in answers["99.01"].json["modelState"]["request.Amount"][0]
    assert (everything(), payments.calls) == (before, calls)


def test_what_is_not_set_aside_is_a_conflict_in_words(client: FlaskClient, services: Services, payments: FakePayments):
    a_partner()
    charge = paid(services, payments)

    answer = put(client, f"/10295/{charge.guid}/capture")

    assert answer.status_code == 409
    assert answer.json == f"Charge {charge.name} cannot be captured: it is CHARGED."


def test_a_second_capture_while_the_first_is_under_way_is_a_conflict(
    client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    charge = reserved(a_reservation(services, payments, time))

    first, second = [put(client, f"/10295/{charge.guid}/capture?amount=10") for _ in range(2)]
    settle(jobs)

    assert (first.status_code, second.status_code) == (200, 409)
    assert payments.charge(charge.name).captured == 1000


def test_a_get_captures_nothing(client: FlaskClient, services: Services, payments: FakePayments, time: StandingClock):
    charge = reserved(a_reservation(services, payments, time))
    before = everything()

    assert get(client, f"/10295/{charge.guid}/capture").status_code == 405
    assert everything() == before


def test_a_refund_shows(client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs):
    a_partner()
    charge = paid(services, payments)
    services.refunds.refund(charge.id, 1000, "a part")
    settle(jobs)

    found = get(client, f"/10295/{charge.guid}").json

    assert (found["statusCode"], found["status"], found["refundedAmount"]) == (
        "Captured",
        "PARTIALLY_REFUNDED",
        "10.00",
    )
