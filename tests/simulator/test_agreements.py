"""The life of an agreement, as a merchant sees it through the vendor's API."""

from __future__ import annotations

from typing import Any

import pytest

from invoice.simulator.app import Simulator
from tests.simulator.conftest import Merchant, Receiver

LIVE_FIELDS = {
    *("campaign", "countryCode", "created", "externalId", "id", "interval", "merchantAgreementUrl"),
    *("merchantRedirectUrl", "paymentMethod", "pricing", "productDescription", "productName", "start", "status"),
    *("stop", "sub", "userinfoUrl", "uuid", "vippsConfirmationUrl"),
}


def initial(**changes: Any) -> dict[str, Any]:
    return {"amount": 4900, "description": "Første måned", "transactionType": "DIRECT_CAPTURE", **changes}


def test_a_draft_is_pending_and_shows_exactly_the_live_fields(merchant: Merchant) -> None:
    drafted = merchant.draft()

    shown = merchant.agreement(drafted["agreementId"])

    assert set(shown) == LIVE_FIELDS
    assert (shown["status"], shown["start"], shown["stop"]) == ("PENDING", None, None)
    assert shown["created"] == "2030-01-15T09:00:00Z"
    assert shown["interval"] == {"unit": "MONTH", "count": 1, "text": "every month"}
    assert shown["vippsConfirmationUrl"] == drafted["vippsConfirmationUrl"]
    assert "4712457890" not in str(shown)


def test_a_draft_names_its_initial_charge_by_the_given_order_id(merchant: Merchant) -> None:
    assert merchant.draft()["chargeId"] is None
    assert merchant.draft(initialCharge=initial(orderId="first-1"))["chargeId"] == "first-1"


WRONG_DRAFTS = [
    ({"productName": "x" * 46}, "productName"),
    ({"productName": None}, "productName"),
    ({"productName": 7}, "productName"),
    ({"productDescription": "x" * 101}, "productDescription"),
    ({"merchantRedirectUrl": "http://shop.example.com/"}, "merchantRedirectUrl"),
    ({"merchantRedirectUrl": "javascript://x"}, "merchantRedirectUrl"),
    ({"merchantRedirectUrl": "https://x.no/" + "a" * 2048}, "merchantRedirectUrl"),
    ({"merchantAgreementUrl": None}, "merchantAgreementUrl"),
    ({"merchantAgreementUrl": "http://shop.example.com/"}, "merchantAgreementUrl"),
    ({"merchantAgreementUrl": "myapp://home"}, "merchantAgreementUrl"),
    ({"interval": {"unit": "MONTH", "count": 32}}, "interval.count"),
    ({"interval": {"unit": "MONTHS", "count": 1}}, "interval.unit"),
    ({"interval": {"unit": "MONTH", "count": True}}, "interval.count"),
    ({"pricing": None}, "pricing"),
    ({"pricing": {"type": "LEGACY", "currency": "NOK"}}, "pricing.amount"),
    ({"pricing": {"type": "LEGACY", "amount": 99.0, "currency": "NOK"}}, "pricing.amount"),
    ({"pricing": {"type": "LEGACY", "amount": "9900", "currency": "NOK"}}, "pricing.amount"),
    ({"pricing": {"type": "LEGACY", "amount": 2_000_001, "currency": "NOK"}}, "pricing.amount"),
    ({"pricing": {"type": "LEGACY", "amount": 9900, "currency": "DKK"}}, "pricing.currency"),
    ({"pricing": {"type": "LEGACY", "amount": 10**400, "currency": "NOK"}}, "pricing.amount"),
    ({"pricing": {"type": "FLEXIBLE", "amount": 100, "currency": "NOK"}}, "pricing.amount"),
    (
        {"initialCharge": {"amount": 99, "description": "x", "transactionType": "DIRECT_CAPTURE"}},
        "initialCharge.amount",
    ),
    (
        {"initialCharge": {"amount": 100, "description": "", "transactionType": "DIRECT_CAPTURE"}},
        "initialCharge.description",
    ),
    ({"initialCharge": {"amount": 100, "description": "x", "transactionType": "NOW"}}, "initialCharge.transactionType"),
    ({"initialCharge": initial(orderId="with space")}, "initialCharge.orderId"),
    ({"initialCharge": initial(orderId="x" * 65)}, "initialCharge.orderId"),
    ({"externalId": "x" * 65}, "externalId"),
    ({"scope": "name shoeSize"}, "scope"),
    ({"countryCode": "NO"}, "countryCode"),
    ({"campaign": {"type": "PRICE_CAMPAIGN", "price": 100, "end": "2029-01-01T00:00:00Z"}}, "campaign.end"),
    ({"campaign": {"type": "PRICE_CAMPAIGN", "price": 100, "end": "2031-01-01T00:00:00+01:00"}}, "campaign.end"),
    (
        {
            "campaign": {
                "type": "EVENT_CAMPAIGN",
                "price": 1,
                "eventDate": "2031-01-01T00:00:00Z",
                "eventText": "x" * 16,
            }
        },
        "campaign.eventText",
    ),
    ({"campaign": {"type": "FULL_FLEX_CAMPAIGN", "price": 1}}, "campaign.type"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG_DRAFTS)
def test_a_wrong_draft_is_refused_and_the_field_is_named(refused: Merchant, changes: Any, field: str) -> None:
    answer = refused.call("POST", "/recurring/v3/agreements", refused.draft_body(**changes))

    problem = answer.get_json()
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
    assert problem["type"].endswith("#validation-error")
    assert problem["instance"] == "/vipps-recurring-merchant-api/v3/agreements"
    assert problem["contextId"]
    assert field in [line["name"] for line in problem["extraDetails"]]


def test_a_campaign_needs_legacy_pricing(merchant: Merchant) -> None:
    campaign = {"type": "PERIOD_CAMPAIGN", "price": 100, "period": {"unit": "WEEK", "count": 4}}
    flexible = merchant.draft_body(pricing={"type": "FLEXIBLE", "currency": "NOK"}, campaign=campaign)

    assert merchant.call("POST", "/recurring/v3/agreements", flexible).status_code == 400
    shown = merchant.agreement(merchant.draft(campaign=campaign)["agreementId"])["campaign"]
    assert shown["explanation"] == "Ordinary price 99 kr starts 12/2/2030"
    assert shown["end"] == "2030-02-11T23:00:00Z"


def test_a_wrong_phone_number_is_ignored(merchant: Merchant) -> None:
    assert merchant.draft(phoneNumber="+47 12")["agreementId"]


def test_skipping_the_landing_page_is_forbidden_unless_allowed(merchant: Merchant) -> None:
    body = merchant.draft_body(skipLandingPage=True)

    assert merchant.call("POST", "/recurring/v3/agreements", body).status_code == 403
    merchant.switch(skip_landing_page_allowed=True)
    assert merchant.call("POST", "/recurring/v3/agreements", body).status_code == 201


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:5000/x", "http://127.9.9.9/", "http://localhost:1/", "http://[::1]:80/", "myApp://home"]
)
def test_a_redirect_may_go_to_this_machine_or_an_app(refused: Merchant, url: str) -> None:
    assert refused.draft(merchantRedirectUrl=url)["agreementId"]


def test_approval_makes_it_active_and_sets_its_start(merchant: Merchant) -> None:
    shown = merchant.agreement(merchant.active())

    assert (shown["status"], shown["stop"]) == ("ACTIVE", None)
    assert shown["start"] == "2030-01-15T09:00:00Z"


def test_the_initial_charge_is_told_before_the_activation(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.register(receiver.url)

    agreement_id = merchant.active(initialCharge=initial(orderId="first-1", externalId="e-1"))
    simulator.run_due()

    assert receiver.events() == ["charge-captured", "agreement-activated"]
    captured, activated = receiver.bodies
    assert captured["chargeType"] == "INITIAL"
    assert (captured["chargeId"], captured["amount"], captured["amountCaptured"]) == ("first-1", 4900, 4900)
    assert captured["chargeExternalId"] == "e-1"
    assert "failureReason" not in captured
    assert (activated["actor"], activated["msn"], activated["agreementExternalId"]) == ("USER", "123456", "sub-1")
    assert activated["agreementId"] == agreement_id


def test_the_initial_charge_is_a_charge_once_approved(merchant: Merchant) -> None:
    drafted = merchant.draft(initialCharge=initial(orderId="first-1"))
    assert merchant.call("GET", "/recurring/v3/charges/first-1").status_code == 404

    merchant.decide(drafted["agreementId"], "approve")

    charge = merchant.fetch("first-1")
    assert (charge["type"], charge["status"], charge["summary"]["captured"]) == ("INITIAL", "CHARGED", 4900)
    assert [line["event"] for line in charge["history"]] == ["CREATE", "CAPTURE"]


def test_a_reserved_initial_charge_waits_for_its_capture(merchant: Merchant) -> None:
    agreement_id = merchant.active(initialCharge=initial(orderId="first-1", transactionType="RESERVE_CAPTURE"))

    assert merchant.status("first-1") == "RESERVED"
    assert merchant.agreement(agreement_id)["status"] == "ACTIVE"


@pytest.mark.parametrize("amount", [151, 182, 183, 184, 186, 187, 197])
def test_a_refused_initial_charge_expires_the_agreement(merchant: Merchant, amount: int) -> None:
    agreement_id = merchant.draft(initialCharge=initial(amount=amount, orderId="first-1"))["agreementId"]

    merchant.decide(agreement_id, "approve")

    assert merchant.agreement(agreement_id)["status"] == "EXPIRED"
    assert merchant.agreement(agreement_id)["start"] is None
    assert merchant.fetch("first-1")["summary"]["captured"] == 0


def test_somebody_under_18_ends_expired(merchant: Merchant) -> None:
    agreement_id = merchant.draft(phoneNumber="4790000018")["agreementId"]

    merchant.decide(agreement_id, "approve")

    assert merchant.agreement(agreement_id)["status"] == "EXPIRED"


def test_rejection_stops_it(merchant: Merchant, simulator: Simulator, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    agreement_id = merchant.draft()["agreementId"]

    merchant.decide(agreement_id, "reject")
    simulator.run_due()

    assert merchant.agreement(agreement_id)["status"] == "STOPPED"
    assert receiver.events() == ["agreement-rejected"]


def test_a_draft_lives_ten_minutes(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    agreement_id = merchant.draft()["agreementId"]

    merchant.advance(minutes=9, seconds=55)
    assert merchant.agreement(agreement_id)["status"] == "PENDING"
    merchant.advance(seconds=5)

    assert merchant.agreement(agreement_id)["status"] == "EXPIRED"
    assert receiver.events() == ["agreement-expired"]
    assert merchant.decide(agreement_id, "approve").status_code == 409


def test_force_accept_activates_and_wants_a_number(merchant: Merchant) -> None:
    agreement_id = merchant.draft()["agreementId"]
    path = f"/recurring/v3/agreements/{agreement_id}/accept"

    assert merchant.call("PATCH", path, {"phoneNumber": "x"}).status_code == 400
    assert merchant.call("PATCH", path, {"phoneNumber": "4712457890"}).status_code == 204
    assert merchant.agreement(agreement_id)["status"] == "ACTIVE"
    assert merchant.call("PATCH", path, {"phoneNumber": "4712457890"}).status_code == 400


def test_the_merchants_stop_calls_off_all_open_charges(merchant: Merchant, receiver: Receiver) -> None:
    agreement_id = merchant.active(initialCharge=initial(orderId="held", transactionType="RESERVE_CAPTURE"))
    far = merchant.charge(agreement_id, due="2030-03-20")
    near = merchant.charge(agreement_id)
    merchant.register(receiver.url)

    answer = merchant.call("PATCH", f"/recurring/v3/agreements/{agreement_id}", {"status": "STOPPED"})
    merchant.advance(days=70)

    assert answer.status_code == 204
    assert [merchant.status(name) for name in (far, near, "held")] == ["CANCELLED"] * 3
    assert merchant.agreement(agreement_id)["stop"] is not None
    assert receiver.bodies[0]["actor"] == "MERCHANT"
    assert sorted(receiver.events()) == ["agreement-stopped", *["charge-canceled"] * 3]


def test_the_persons_stop_leaves_what_is_reserved(merchant: Merchant, receiver: Receiver) -> None:
    agreement_id = merchant.active(initialCharge=initial(orderId="held", transactionType="RESERVE_CAPTURE"))
    near = merchant.charge(agreement_id)
    merchant.register(receiver.url)

    merchant.decide(agreement_id, "stop")
    merchant.advance(days=10)

    assert merchant.status(near) == "CANCELLED"
    assert merchant.status("held") == "RESERVED"
    assert receiver.bodies[0]["actor"] == "USER"
    assert merchant.on_charge("held", "capture", {"amount": 4900}).status_code == 204
    assert merchant.status("held") == "CHARGED"


def test_a_stop_must_be_alone(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    both = {"status": "STOPPED", "productName": "x"}

    assert merchant.call("PATCH", f"/recurring/v3/agreements/{agreement_id}", both).status_code == 400
    assert merchant.agreement(agreement_id)["status"] == "ACTIVE"


def test_what_is_not_active_cannot_be_changed(merchant: Merchant) -> None:
    path = f"/recurring/v3/agreements/{merchant.draft()['agreementId']}"

    problem = merchant.call("PATCH", path, {"status": "STOPPED"}).get_json()

    assert problem["type"].endswith("#illegal-agreement-update")
    assert problem["extraDetails"] == [{"name": "status", "reason": "Cannot modify an agreement which is not active."}]


def test_price_interval_and_texts_can_be_changed_together(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    change = {
        "productName": "Ny",
        "pricing": {"amount": 12900},
        "interval": {"type": "RECURRING", "period": {"unit": "YEAR", "count": 1}},
        "externalId": "sub-2",
    }

    assert merchant.call("PATCH", f"/recurring/v3/agreements/{agreement_id}", change).status_code == 204

    shown = merchant.agreement(agreement_id)
    assert (shown["productName"], shown["pricing"]["amount"], shown["externalId"]) == ("Ny", 12900, "sub-2")
    assert shown["interval"] == {"unit": "YEAR", "count": 1, "text": "every year"}


def test_an_interval_may_become_flexible_and_regular_again(merchant: Merchant) -> None:
    path = f"/recurring/v3/agreements/{merchant.active()}"

    assert merchant.call("PATCH", path, {"interval": {"type": "FLEXIBLE"}}).status_code == 204
    assert merchant.call("GET", path).get_json()["interval"] is None
    regular = {"interval": {"period": {"unit": "WEEK", "count": 2}}}  # RECURRING is the default
    assert merchant.call("PATCH", path, regular).status_code == 204
    assert merchant.call("GET", path).get_json()["interval"]["text"] == "every 2 weeks"


def test_flexible_pricing_cannot_be_changed(merchant: Merchant) -> None:
    agreement_id = merchant.active(pricing={"type": "FLEXIBLE", "currency": "NOK"})

    answer = merchant.call("PATCH", f"/recurring/v3/agreements/{agreement_id}", {"pricing": {"amount": 9900}})

    assert answer.status_code == 400


@pytest.mark.parametrize("end", ["expired", "stopped", "rejected"])
def test_what_has_ended_cannot_be_changed(merchant: Merchant, end: str) -> None:
    agreement_id = merchant.active() if end == "stopped" else merchant.draft()["agreementId"]
    if end != "expired":
        merchant.decide(agreement_id, "stop" if end == "stopped" else "reject")
    merchant.advance(minutes=11)

    for change in ({"status": "STOPPED"}, {"productName": "x"}):
        answer = merchant.call("PATCH", f"/recurring/v3/agreements/{agreement_id}", change)
        assert answer.get_json()["type"].endswith("#illegal-agreement-update")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"pricing": {"suggestedMaxAmount": 500}},
        {"pricing": {"amount": 9900, "type": "FLEXIBLE"}},
        {"pricing": {"amount": 2_000_001}},
        {"productName": "x" * 46},
        {"merchantAgreementUrl": "http://shop.example.com/"},
        {"merchantRedirectUrl": "https://shop.example.com/"},
        {"interval": {"type": "RECURRING"}},
        {"interval": {"type": "FLEXIBLE", "period": {"unit": "WEEK", "count": 1}}},
        {"interval": {"type": "RECURRING", "period": {"unit": "WEEK", "count": 32}}},
        {"campaign": None, "x": 1},
        {"status": "ACTIVE"},
    ],
)
def test_a_wrong_change_is_refused(refused: Merchant, change: Any) -> None:
    assert refused.call("PATCH", f"/recurring/v3/agreements/{refused.active()}", change).status_code == 400


def test_the_list_shows_active_ones_in_pages(merchant: Merchant) -> None:
    active = [merchant.active() for _ in range(3)]
    pending = merchant.draft()["agreementId"]

    def listed(query: str = "") -> list[str]:
        return [row["id"] for row in merchant.call("GET", f"/recurring/v3/agreements{query}").get_json()]

    assert listed() == active
    assert listed("?status=PENDING") == [pending]
    assert listed("?pageNumber=2&pageSize=2") == active[2:]
    assert listed("?createdAfter=1999999999999") == []


@pytest.mark.parametrize(
    "query", ["status=OLD", "pageSize=2001", "pageSize=0", "pageNumber=-1", "pageNumber=x", "createdAfter=" + "9" * 40]
)
def test_a_wrong_list_query_is_refused(refused: Merchant, query: str) -> None:
    assert refused.call("GET", f"/recurring/v3/agreements?{query}").status_code == 400


def test_an_order_id_is_used_once_also_by_initial_charges(merchant: Merchant) -> None:
    merchant.draft(initialCharge=initial(orderId="taken"))

    again = merchant.call(
        "POST", "/recurring/v3/agreements", merchant.draft_body(initialCharge=initial(orderId="taken"))
    )

    assert again.status_code == 409
    assert again.get_json()["type"].endswith("#conflict")
    assert merchant.post_charge(merchant.active(), orderId="taken").status_code == 409
