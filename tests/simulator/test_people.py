"""People as the test environment has them: magic numbers, forced approval, profiles that are shared or deleted."""

from __future__ import annotations

from typing import Any

import pytest

from invoice.simulator.app import Simulator
from tests.simulator.conftest import Merchant, Receiver
from tests.simulator.units import danish

AGREEMENTS = "/recurring/v3/agreements"
RESERVED = {"amount": 4900, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}


def accept(merchant: Merchant, agreement_id: str, phone: str = "4712457890") -> Any:
    return merchant.call("PATCH", f"{AGREEMENTS}/{agreement_id}/accept", {"phoneNumber": phone})


# Forced approval


@pytest.mark.parametrize("phone", ["4790000404", "4590000404", "35890000404"])
def test_nobody_is_accepted_for_who_is_not_known(merchant: Merchant, phone: str) -> None:
    agreement_id = merchant.draft()["agreementId"]

    assert accept(merchant, agreement_id, phone).status_code == 404
    assert merchant.decide(agreement_id, "approve", phoneNumber=phone).status_code == 409
    assert merchant.agreement(agreement_id)["status"] == "PENDING"


def test_an_expired_card_breaks_forced_approval_and_burns_no_key(merchant: Merchant) -> None:
    agreement_id = merchant.draft()["agreementId"]
    path, body = f"{AGREEMENTS}/{agreement_id}/accept", {"phoneNumber": "4790000500"}

    broken = merchant.call("PATCH", path, body, key="once")

    assert broken.status_code == 500
    assert merchant.agreement(agreement_id)["status"] == "PENDING"
    assert merchant.call("PATCH", path, {"phoneNumber": "4712457890"}, key="once").status_code == 204


@pytest.mark.parametrize("end", ["active", "rejected", "expired", "stopped"])
def test_only_a_pending_agreement_is_accepted(merchant: Merchant, end: str) -> None:
    agreement_id = merchant.active() if end in ("active", "stopped") else merchant.draft()["agreementId"]
    if end != "active":
        merchant.decide(agreement_id, "reject" if end == "rejected" else "stop")
        merchant.advance(minutes=11)

    assert accept(merchant, agreement_id).status_code == 400


def test_forced_approval_is_only_in_the_test_environment(merchant: Merchant) -> None:
    agreement_id = merchant.draft()["agreementId"]
    merchant.switch(force_accept_allowed=False)

    assert accept(merchant, agreement_id).status_code == 404
    assert merchant.agreement(agreement_id)["status"] == "PENDING"


@pytest.mark.parametrize("amount", [151, 186])
def test_test_amounts_do_not_fail_with_forced_approval(merchant: Merchant, amount: int) -> None:
    first = RESERVED | {"amount": amount, "transactionType": "DIRECT_CAPTURE"}
    agreement_id = merchant.draft(initialCharge=first)["agreementId"]

    assert accept(merchant, agreement_id).status_code == 204
    assert merchant.agreement(agreement_id)["status"] == "ACTIVE"


# Numbers and amounts


@pytest.mark.parametrize("dial_code", ["47", "45", "358"])
def test_each_market_has_its_magic_numbers(simulator: Simulator, receiver: Receiver, dial_code: str) -> None:
    merchant = danish(simulator)
    merchant.register(receiver.url)
    child = merchant.draft(phoneNumber=f"{dial_code}90000018")["agreementId"]
    merchant.decide(child, "approve")
    poor = merchant.active(phoneNumber=f"{dial_code}90000051")
    charge_id = merchant.charge(poor, retryDays=0)
    merchant.advance(days=6)

    assert merchant.agreement(child)["status"] == "EXPIRED"
    assert merchant.fetch(charge_id)["failureReason"] == "user_action_required"
    assert receiver.events()[0] == "agreement-expired"


def test_the_start_page_prints_every_magic_number_and_amount(merchant: Merchant) -> None:
    page = merchant.client.get("/sim/").text

    for number in ("90000018", "90000051", "90000003", "90000404", "90000500"):
        assert all(f"+{dial_code}{number}" in page for dial_code in ("47", "45", "358"))
    for amount in (151, 182, 183, 184, 186, 187, 197, 201, 202, 123, 124):
        assert f"<code>{amount}</code>" in page or f"refund <code>{amount}</code>" in page


# Leaving


def test_a_deleted_profile_stops_all_agreements_and_leaves_what_is_reserved(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    one, two = merchant.active(initialCharge=RESERVED), merchant.active()
    somebody_else = merchant.active(phoneNumber="4790000001")
    near = merchant.charge(one)
    far = merchant.charge(two, due="2030-06-01")
    merchant.register(receiver.url)

    told = merchant.client.post("/sim/profiles/4712457890/delete").get_json()
    simulator.run_due()

    assert told == {"stopped": [one, two]}
    assert [merchant.agreement(each)["status"] for each in (one, two, somebody_else)] == [
        "STOPPED",
        "STOPPED",
        "ACTIVE",
    ]
    assert [merchant.status(each) for each in (near, far, "held")] == ["CANCELLED", "CANCELLED", "RESERVED"]
    assert {body["actor"] for body in receiver.bodies if "actor" in body} == {"ADMIN"}


def test_a_profile_can_be_deleted_on_the_phone_and_for_one_agreement(merchant: Merchant) -> None:
    one, other = merchant.active(), merchant.active()

    assert merchant.decide(one, "delete-profile").get_json()["status"] == "STOPPED"
    assert merchant.agreement(other)["status"] == "ACTIVE"
    assert merchant.client.post("/sim/phone/4712457890/delete-profile").status_code == 303
    assert merchant.agreement(other)["status"] == "STOPPED"
    assert merchant.client.post("/sim/profiles/kari/delete").status_code == 404


# Profile data


def profile(merchant: Merchant, agreement: dict[str, Any], **headers: str) -> Any:
    path = agreement["userinfoUrl"].removeprefix("http://127.0.0.1:8001")
    return merchant.client.get(path, headers={"Authorization": f"Bearer {merchant.token()}", **headers})


def test_profile_data_can_be_fetched_for_168_hours(merchant: Merchant) -> None:
    agreement = merchant.agreement(merchant.active(scope="name"))

    merchant.advance(hours=167, minutes=59)
    assert profile(merchant, agreement).status_code == 200
    merchant.advance(minutes=2)

    assert profile(merchant, agreement).status_code == 404


@pytest.mark.parametrize("key", ["demo-subscription-key", "", "x"])
def test_the_subscription_key_must_not_be_sent_for_profile_data(merchant: Merchant, key: str) -> None:
    agreement = merchant.agreement(merchant.active(scope="name"))

    assert profile(merchant, agreement, **{"Ocp-Apim-Subscription-Key": key}).status_code == 401
    assert profile(merchant, agreement, Authorization="Bearer x.y.z").status_code == 401


SHARED = {
    "name": {"name", "given_name", "family_name"},
    "email": {"email", "email_verified"},
    "phoneNumber": {"phone_number", "phone_number_verified"},
    "birthDate": {"birthdate"},
    "address": {"address", "other_addresses"},
    "nin": {"nin"},
}


@pytest.mark.parametrize("scope", SHARED)
def test_a_scope_opens_its_fields_and_no_others(merchant: Merchant, scope: str) -> None:
    agreement = merchant.agreement(merchant.active(scope=scope))

    assert set(profile(merchant, agreement).get_json()) == {"sub", "sid"} | SHARED[scope]


def test_a_person_has_one_name_for_a_merchant_and_none_without_a_scope(merchant: Merchant) -> None:
    one, two = [merchant.agreement(merchant.active(scope="name")) for _ in range(2)]
    other = merchant.agreement(merchant.active(scope="name", phoneNumber="4790000001"))
    without = merchant.agreement(merchant.active())

    assert one["sub"] == two["sub"] != other["sub"]
    assert (without["sub"], without["userinfoUrl"]) == (None, None)
