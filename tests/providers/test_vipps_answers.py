"""What the Vipps client makes of answers: values of ours, and what it does not believe."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from invoice.errors import ProviderRefused, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval
from invoice.providers.base import AgreementView, ChargeView, Drafted, WebhookAddress
from invoice.providers.vipps import VippsClient
from tests.providers.calls import (
    A_BATCH,
    A_DRAFT,
    AGREEMENT,
    AGREEMENTS,
    BATCH,
    BY_NAME,
    CALLS,
    CHARGE,
    CHARGES,
    HOOK,
    KEY,
    OTHER_HOOK,
    PAGE_2,
    SILENT,
    WEBHOOKS,
    a_charge,
    a_drafted,
    an_agreement,
    page_of_agreements,
)
from tests.providers.conftest import FakeVipps

# Drafts


@pytest.mark.parametrize(
    "url",
    [
        "https://pay.vipps.no/x?token=a.b.c",
        "https://api.vipps.no/dwo-api-application/v1/deeplink/vippsgateway?v=2&token=a",
        "https://pay.mobilepay.dk/x",
        "https://PAY.VIPPS.NO/x",
    ],
)
def test_a_draft_returns_where_the_person_is_to_go(vipps: VippsClient, fake_vipps: FakeVipps, url: str) -> None:
    fake_vipps.on("POST", AGREEMENTS, a_drafted(vippsConfirmationUrl=url), 201)

    drafted = vipps.draft_agreement(A_DRAFT, key=KEY)

    assert drafted == Drafted("agr_1", url)


def test_a_confirmation_on_the_host_of_the_api_is_taken(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    url = f"{fake_vipps.url}/landing/1"
    fake_vipps.on("POST", AGREEMENTS, a_drafted(vippsConfirmationUrl=url), 201)

    drafted = vipps.draft_agreement(A_DRAFT, key=KEY)

    assert drafted.confirmation_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/",
        "https://evilvipps.no/",
        "https://pay.vipps.no.evil.example.com/",
        "https://evil.example.com/pay.vipps.no",
        "https://evil.example.com?.vipps.no",
        "https://evil.example.com#.vipps.no",
        "https://pay.vipps.no@evil.example.com/",
        "https://evil.example.com\\.vipps.no/",
        "https://evil.example.com\\@pay.vipps.no/",
        "//evil.example.com/",
        "/relative",
        "pay.vipps.no/x",
        "http://pay.vipps.no/x",
        "javascript://pay.vipps.no/%0aalert(1)",
        "javascript:alert(1)",
        "https://[pay.vipps.no/",
        "https://",
        "",
    ],
)
def test_a_confirmation_on_a_foreign_host_is_not_believed(vipps: VippsClient, fake_vipps: FakeVipps, url: str) -> None:
    fake_vipps.on("POST", AGREEMENTS, a_drafted(vippsConfirmationUrl=url), 201)

    with pytest.raises(ProviderUncertain):
        vipps.draft_agreement(A_DRAFT, key=KEY)


# Agreements


def test_an_agreement_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement())

    found = vipps.find_agreement("agr_1")

    assert found == AgreementView(
        agreement_id="agr_1",
        external_id="01JD3000000000000000000000",
        status=AgreementStatus.ACTIVE,
        started_at=datetime(2026, 11, 10, 11, 0, tzinfo=UTC),
        amount=9900,
        product_name="Avisen",
        description="Avisen hver dag",
        currency="NOK",
        interval=Interval.MONTH,
        manage_url="https://pay.example.com/manage/1",
    )


@pytest.mark.parametrize(
    ("told", "interval"),
    [
        ({"unit": "WEEK", "count": 1, "text": "every week"}, Interval.WEEK),
        ({"unit": "YEAR", "count": 1}, Interval.YEAR),
        ({"unit": "MONTH", "count": 3}, None),
        ({"unit": "DAY", "count": 1}, None),
        ({"unit": ["MONTH"], "count": 1}, None),
        ({}, None),
        (None, None),
    ],
)
def test_an_agreement_has_the_interval_that_we_have_a_word_for(
    vipps: VippsClient, fake_vipps: FakeVipps, told: object, interval: Interval | None
) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement(interval=told))

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert found.interval is interval


@pytest.mark.parametrize("missing", [{"externalId": None, "start": None}, {"start": ""}])
def test_an_agreement_without_what_is_not_there_yet_is_read(
    vipps: VippsClient, fake_vipps: FakeVipps, missing: dict[str, Any]
) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement(status="PENDING", **missing))

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert (found.status, found.started_at) == (AgreementStatus.PENDING, None)


@pytest.mark.parametrize(
    ("pricing", "amount"),
    [
        ({"type": "LEGACY", "amount": 9900, "currency": "NOK"}, 9900),
        ({"type": "VARIABLE", "suggestedMaxAmount": 50000, "maxAmount": 20000, "currency": "NOK"}, 50000),
        ({"type": "FLEXIBLE", "currency": "NOK"}, None),
        ({"type": "OF_NEXT_YEAR"}, None),
        (None, None),
    ],
)
def test_an_agreement_has_the_amount_of_its_kind_of_price(
    vipps: VippsClient, fake_vipps: FakeVipps, pricing: object, amount: int | None
) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement(pricing=pricing))

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert found.amount == amount


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", AgreementStatus.PENDING),
        ("ACTIVE", AgreementStatus.ACTIVE),
        ("STOPPED", AgreementStatus.STOPPED),
        ("EXPIRED", AgreementStatus.EXPIRED),
        ("PAUSED", None),
        ("active", None),
        ("", None),
    ],
)
def test_an_agreement_has_the_status_that_we_have_a_word_for(
    vipps: VippsClient, fake_vipps: FakeVipps, word: str, status: AgreementStatus | None
) -> None:
    fake_vipps.on("GET", AGREEMENT, an_agreement(status=word))

    found = vipps.find_agreement("agr_1")

    assert found is not None
    assert found.status is status


@pytest.mark.parametrize("name", ["find agreement", "find charge", "find charge by name"])
def test_what_vipps_does_not_know_is_none(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, {"type": "about:blank", "detail": "Agreement not found."}, 404)

    found = make(vipps)

    assert found is None


@pytest.mark.parametrize("name", ["find agreement", "find charge", "find charge by name"])
def test_a_refusal_to_look_is_not_an_absence(vipps: VippsClient, fake_vipps: FakeVipps, name: str) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, {}, 400)

    with pytest.raises(ProviderRefused):
        make(vipps)


def test_a_list_of_agreements_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    members = [an_agreement(id="agr_1"), an_agreement(id="agr_2", externalId=None, status="OF_NEXT_YEAR")]
    fake_vipps.on("GET", page_of_agreements(1), members)

    found = CALLS["list agreements"][2](vipps)

    assert [(a.agreement_id, a.external_id, a.status) for a in found] == [
        ("agr_1", "01JD3000000000000000000000", AgreementStatus.ACTIVE),
        ("agr_2", None, None),
    ]


# Charges


def test_a_charge_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGE, a_charge(summary={"captured": 9900, "refunded": 500}))

    found = vipps.find_charge("agr_1", "name-1")

    assert found == ChargeView(
        name="name-1",
        agreement_id="agr_1",
        amount=9900,
        currency="NOK",
        status=ChargeStatus.CHARGED,
        captured=9900,
        refunded=500,
        captured_at=datetime(2026, 12, 1, 8, 0, 0, 123456, tzinfo=UTC),
        failure_reason=None,
        is_initial=False,
        due_on=date(2026, 12, 1),
    )


def test_a_charge_names_what_went_back_by_its_keys(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    refund = {"occurred": "2026-12-02T08:00:00Z", "event": "REFUND", "amount": 500, "idempotencyKey": "ours"}
    history = [
        {**refund, "event": "CAPTURE", "amount": 9900, "success": True},
        {**refund, "success": True},
        {**refund, "amount": 700, "idempotencyKey": "failed", "success": False},
        {**refund, "amount": 900, "idempotencyKey": None, "success": True},
    ]
    fake_vipps.on("GET", CHARGE, a_charge(history=history))

    found = vipps.find_charge("agr_1", "name-1")

    assert found is not None
    assert found.refunds == (("ours", 500),)


def test_a_charge_without_the_optional_fields_is_read(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGE, {"id": "name-1", "amount": 1, "currency": "DKK", "status": "DUE"})

    found = vipps.find_charge("agr_1", "name-1")

    assert found == ChargeView(
        name="name-1",
        agreement_id="agr_1",
        amount=1,
        currency="DKK",
        status=ChargeStatus.SUBMITTED,
        captured=0,
        refunded=0,
        captured_at=None,
        failure_reason=None,
        is_initial=False,
    )


def test_a_charge_that_is_found_by_its_name_alone_tells_its_agreement(
    vipps: VippsClient, fake_vipps: FakeVipps
) -> None:
    fake_vipps.on("GET", BY_NAME, a_charge(agreementId="agr_7"))

    found = vipps.find_charge_by_name("name-1")

    assert found is not None
    assert (found.name, found.agreement_id) == ("name-1", "agr_7")


def found_charge(vipps: VippsClient, fake_vipps: FakeVipps, **changes: Any) -> ChargeView:
    fake_vipps.on("GET", CHARGE, a_charge(**changes))
    found = vipps.find_charge("agr_1", "name-1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", ChargeStatus.SUBMITTED),
        ("DUE", ChargeStatus.SUBMITTED),
        ("PROCESSING", ChargeStatus.SUBMITTED),
        ("UNKNOWN", ChargeStatus.SUBMITTED),
        ("RESERVED", ChargeStatus.RESERVED),
        ("PARTIALLY_CAPTURED", ChargeStatus.RESERVED),
        ("CHARGED", ChargeStatus.CHARGED),
        ("PARTIALLY_REFUNDED", ChargeStatus.PARTIALLY_REFUNDED),
        ("REFUNDED", ChargeStatus.REFUNDED),
        ("FAILED", ChargeStatus.FAILED),
        ("CANCELLED", ChargeStatus.CANCELLED),
        ("SCHEDULED", None),
        ("", None),
    ],
)
def test_a_charge_has_the_status_that_we_have_a_word_for(
    vipps: VippsClient, fake_vipps: FakeVipps, word: str, status: ChargeStatus | None
) -> None:
    assert found_charge(vipps, fake_vipps, status=word).status is status


@pytest.mark.parametrize(("word", "is_initial"), [("INITIAL", True), ("RECURRING", False), ("UNSCHEDULED", False)])
def test_an_initial_charge_is_told_from_the_others(
    vipps: VippsClient, fake_vipps: FakeVipps, word: str, is_initial: bool
) -> None:
    assert found_charge(vipps, fake_vipps, type=word).is_initial is is_initial


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            {"failureReason": "user_action_required", "failureDescription": "User action required"},
            "user_action_required",
        ),
        ({"failureReason": None, "failureDescription": "User action required"}, "User action required"),
        ({"failureReason": "r" * 300}, "r" * 200),
        ({"failureReason": None, "failureDescription": None}, None),
        ({"failureReason": ""}, None),
    ],
)
def test_a_failed_charge_tells_why(
    vipps: VippsClient, fake_vipps: FakeVipps, failure: dict[str, Any], reason: str | None
) -> None:
    assert found_charge(vipps, fake_vipps, status="FAILED", **failure).failure_reason == reason


@pytest.mark.parametrize(
    ("history", "captured_at"),
    [
        ([], None),
        (None, None),
        ([{"event": "RESERVE", "occurred": "2026-12-01T08:00:00Z", "success": True}], None),
        ([{"event": "CAPTURE", "occurred": "2026-12-01T08:00:00Z", "success": False}], None),
        ([{"event": "CAPTURE", "occurred": "2026-12-01T09:00:00+01:00"}], datetime(2026, 12, 1, 8, tzinfo=UTC)),
        (
            [
                {"event": "CAPTURE", "occurred": "2026-12-03T08:00:00Z", "success": True},
                {"event": "CAPTURE", "occurred": "2026-12-02T08:00:00Z", "success": True},
                {"event": "CAPTURE", "occurred": "2026-12-01T08:00:00Z", "success": False},
                {"event": "REFUND", "occurred": "2026-11-01T08:00:00Z", "success": True},
            ],
            datetime(2026, 12, 2, 8, tzinfo=UTC),
        ),
    ],
)
def test_a_charge_tells_when_the_first_money_was_taken(
    vipps: VippsClient, fake_vipps: FakeVipps, history: object, captured_at: datetime | None
) -> None:
    assert found_charge(vipps, fake_vipps, history=history).captured_at == captured_at


@pytest.mark.parametrize(
    ("history", "reserved_at"),
    [
        ([], None),
        ([{"event": "CAPTURE", "occurred": "2026-12-01T08:00:00Z", "success": True}], None),
        ([{"event": "RESERVE", "occurred": "2026-12-01T08:00:00Z", "success": False}], None),
        (
            [
                {"event": "RESERVE", "occurred": "2026-12-02T08:00:00Z", "success": True},
                {"event": "RESERVE", "occurred": "2026-12-01T08:00:00Z", "success": True},
                {"event": "OF_NEXT_YEAR", "occurred": "2026-11-01T08:00:00Z", "success": True},
            ],
            datetime(2026, 12, 1, 8, tzinfo=UTC),
        ),
    ],
)
def test_a_charge_tells_when_money_was_set_aside(
    vipps: VippsClient, fake_vipps: FakeVipps, history: object, reserved_at: datetime | None
) -> None:
    assert found_charge(vipps, fake_vipps, history=history).reserved_at == reserved_at


@pytest.mark.parametrize("due", ["2026-12-01", "2026-12-01T12:31:23Z", "2026-12-01T00:00:00+01:00"])
def test_a_charge_is_due_on_a_date_though_vipps_writes_an_instant(
    vipps: VippsClient, fake_vipps: FakeVipps, due: str
) -> None:
    assert found_charge(vipps, fake_vipps, due=due).due_on == date(2026, 12, 1)


NOT_AMOUNTS = [99.0, 99.5, "9900", True, "NaN", {"value": 9900}]


@pytest.mark.parametrize(
    "changes",
    [
        *({"amount": amount} for amount in (*NOT_AMOUNTS, None)),
        *({"summary": {place: amount}} for place in ("captured", "refunded") for amount in NOT_AMOUNTS),
    ],
    ids=str,
)
def test_an_amount_that_is_no_integer_is_not_believed(
    vipps: VippsClient, fake_vipps: FakeVipps, changes: dict[str, Any]
) -> None:
    fake_vipps.on("GET", CHARGE, a_charge(**changes))

    with pytest.raises(ProviderUncertain):
        vipps.find_charge("agr_1", "name-1")


def test_an_agreement_without_charges_has_an_empty_list(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [])

    charges = vipps.list_charges("agr_1")

    assert charges == []


# As version 2 wrote them


def test_an_agreement_is_shown_as_version_2_wrote_it(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    campaign = {"type": "PRICE_CAMPAIGN", "price": 1500, "end": "2027-01-01T00:00:00Z", "explanation": "x"}
    fake_vipps.on("GET", AGREEMENT, an_agreement(campaign=campaign))

    assert vipps.show_agreement("agr_1") == {
        "id": "agr_1",
        "start": "2026-11-10T11:00:00Z",
        "stop": None,
        "status": "ACTIVE",
        "productName": "Avisen",
        "price": 9900,
        "productDescription": "Avisen hver dag",
        "interval": "MONTH",
        "intervalCount": 1,
        "currency": "NOK",
        "campaign": {"campaignPrice": 1500, "end": "2027-01-01T00:00:00Z"},
    }


def test_an_agreement_is_shown_without_what_is_not_there(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    pricing = {"type": "VARIABLE", "suggestedMaxAmount": 50000, "currency": "NOK"}
    fake_vipps.on("GET", AGREEMENT, an_agreement(pricing=pricing, interval=None, status="OF_NEXT_YEAR"))

    shown = vipps.show_agreement("agr_1")

    assert (shown["price"], shown["interval"], shown["intervalCount"]) == (50000, None, None)
    assert (shown["status"], shown["campaign"]) == ("OF_NEXT_YEAR", None)


def test_an_agreement_that_vipps_does_not_know_is_not_shown(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", AGREEMENT, {"type": "about:blank", "detail": "Agreement not found."}, 404)

    with pytest.raises(ProviderRefused) as caught:
        vipps.show_agreement("agr_1")

    assert caught.value.status == 404


def test_charges_are_shown_as_version_2_wrote_them_page_after_page(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    fake_vipps.on("GET", CHARGES, [a_charge(summary={"captured": 9900, "refunded": 500})], Continuation_Token=PAGE_2)
    fake_vipps.on("GET", CHARGES, [a_charge(id="b", summary=None, status="DUE", transactionId=None)])

    first, second = vipps.show_charges("agr_1")

    assert first == {
        "id": "name-1",
        "status": "CHARGED",
        "due": "2026-12-01T00:00:00Z",
        "amount": 9900,
        "amountRefunded": 500,
        "transactionId": "5001419121",
        "description": "Avisen",
        "type": "RECURRING",
    }
    assert (second["id"], second["status"], second["amountRefunded"], second["transactionId"]) == ("b", "DUE", 0, None)


# Batches


def an_invalid(name: str, *errors: str) -> dict[str, Any]:
    return {"chargeBatchItemDto": {"orderId": name, "amount": 1}, "errors": list(errors)}


@pytest.mark.parametrize(
    ("body", "accepted", "refused"),
    [
        ({"validCharges": ["a", "b"], "invalidCharges": []}, {"a", "b"}, {}),
        ({"validCharges": ["a"], "invalidCharges": [an_invalid("b", "too soon")]}, {"a"}, {"b": "too soon"}),
        (
            {"validCharges": [], "invalidCharges": [an_invalid("a", "one", "two"), an_invalid("b")]},
            set(),
            {"a": "one; two", "b": "no reason given"},
        ),
        ({"validCharges": None, "invalidCharges": None}, set(), {}),
        ({"validCharges": ["a"], "fieldOfNextYear": 1}, {"a"}, {}),
    ],
    ids=["all are taken", "some are taken", "none is taken", "silence", "no word on invalid ones"],
)
def test_a_batch_is_sorted(
    vipps: VippsClient, fake_vipps: FakeVipps, body: object, accepted: set[str], refused: dict[str, str]
) -> None:
    fake_vipps.on("POST", BATCH, body, 202)

    answer = vipps.create_charges(A_BATCH, key=KEY)

    assert (answer.accepted, answer.refused) == (accepted, refused)


# Webhook registrations


def test_the_registrations_are_listed(vipps: VippsClient, fake_vipps: FakeVipps) -> None:
    first = {"id": HOOK, "url": "https://a/1", "events": [], "fieldOfNextYear": 1}
    fake_vipps.on("GET", WEBHOOKS, {"webhooks": [first, {"id": OTHER_HOOK, "url": "https://a/2"}]})

    webhooks = vipps.list_webhooks()

    assert webhooks == [WebhookAddress(HOOK, "https://a/1"), WebhookAddress(OTHER_HOOK, "https://a/2")]


# Shapes that nobody promised

WRONG_SHAPES: list[tuple[str, object]] = [
    *((name, body) for name in CALLS if name not in SILENT for body in (None, [1], 7, "text", True)),
    ("draft", {}),
    ("draft", {"agreementId": "agr_1"}),
    ("draft", {"vippsConfirmationUrl": "https://pay.vipps.no/"}),
    ("draft", {"agreementId": "agr_1", "vippsConfirmationUrl": None}),
    ("draft", {"agreementId": None, "vippsConfirmationUrl": "https://pay.vipps.no/"}),
    ("draft", {"agreementId": {}, "vippsConfirmationUrl": "https://pay.vipps.no/"}),
    ("find agreement", {}),
    ("find agreement", {"id": "agr_1"}),
    ("find agreement", an_agreement(id=None)),
    ("find agreement", an_agreement(status=["ACTIVE"])),
    ("find agreement", an_agreement(start="yesterday")),
    ("find agreement", an_agreement(start="2026-11-10T11:00:00")),  # in which zone?
    ("find agreement", an_agreement(start=1700000000)),
    ("find charge", {}),
    ("find charge", a_charge(id=None)),
    ("find charge", a_charge(status={})),
    ("find charge", a_charge(summary="none")),
    ("find charge", a_charge(summary=[9900])),
    ("find charge", a_charge(history={"event": "CAPTURE"})),
    ("find charge", a_charge(history=[{"event": "CAPTURE"}])),
    ("find charge", a_charge(history=[{"occurred": "2026-12-01T08:00:00Z"}])),
    ("find charge", a_charge(history=[{"event": "CAPTURE", "occurred": "noon"}])),
    ("find charge", a_charge(history=[{"event": "RESERVE", "occurred": "noon"}])),
    ("find charge", a_charge(due="soon")),
    ("find charge by name", {}),
    ("find charge by name", a_charge(amount="9900")),
    ("find agreement", an_agreement(pricing="9900")),
    ("find agreement", an_agreement(pricing={"amount": 99.0})),
    ("find agreement", an_agreement(pricing={"suggestedMaxAmount": "9900"})),
    ("page of agreements", [an_agreement(id="")]),
    ("find agreement", an_agreement(interval="MONTH")),
    ("show agreement", {}),
    ("show agreement", an_agreement(pricing="9900")),
    ("show charges", {}),
    ("show charges", [{"id": "name-1"}]),
    ("list agreements", {}),
    ("list agreements", {"agreements": []}),
    ("list agreements", [an_agreement(), {}]),
    ("list charges", {}),
    ("list charges", {"charges": []}),
    ("list charges", [a_charge(), {}]),
    ("batch", {"validCharges": 7}),
    ("batch", {"validCharges": "name-1"}),
    ("batch", {"invalidCharges": [{}]}),
    ("batch", {"invalidCharges": [{"chargeBatchItemDto": {}, "errors": []}]}),
    ("batch", {"invalidCharges": ["name-1"]}),
    ("register", {}),
    ("register", {"id": HOOK}),
    ("register", {"id": HOOK, "secret": None}),
    ("register", {"id": HOOK, "secret": ""}),
    ("register", {"id": None, "secret": "s3cret"}),
    ("list webhooks", {}),
    ("list webhooks", {"webhooks": None}),
    ("list webhooks", {"webhooks": [{"id": HOOK}]}),
]


@pytest.mark.parametrize(("name", "body"), WRONG_SHAPES)
def test_an_answer_of_the_wrong_shape_is_uncertain(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str, body: object
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, body, 200)

    with pytest.raises(ProviderUncertain):
        make(vipps)


@pytest.mark.parametrize("body", [None, {"agreementId": "agr_1"}, [1], "text", {"fieldOfNextYear": 1}])
@pytest.mark.parametrize("name", SILENT)
def test_what_a_success_says_is_not_read_where_nothing_is_asked(
    vipps: VippsClient, fake_vipps: FakeVipps, name: str, body: object
) -> None:
    method, path, make = CALLS[name]
    fake_vipps.on(method, path, body, 200)

    assert make(vipps) is None
