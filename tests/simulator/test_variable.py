"""VARIABLE pricing: the person chooses what to pay at most, and may choose anew."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.simulator.conftest import Merchant

PRICING = {"type": "VARIABLE", "suggestedMaxAmount": 50_000, "currency": "NOK"}
PHONE = "/sim/phone/4712457890"


def path_of(drafted: dict[str, Any]) -> str:
    parts = urlsplit(drafted["vippsConfirmationUrl"])
    return f"{parts.path}?{parts.query}"


def chosen(merchant: Merchant, agreement_id: str) -> int:
    return int(merchant.agreement(agreement_id)["pricing"]["maxAmount"])


def variable(merchant: Merchant, max_amount: int) -> str:
    agreement_id = str(merchant.draft(pricing=PRICING)["agreementId"])
    assert merchant.decide(agreement_id, "approve", maxAmount=max_amount).status_code == 200
    return agreement_id


def test_the_person_chooses_on_the_landing_page(merchant: Merchant) -> None:
    drafted = merchant.draft(pricing=PRICING)
    page = merchant.client.get(path_of(drafted)).text

    merchant.client.post(path_of(drafted), data={"action": "approve", "max_amount": "200,50"})

    assert 'name="max_amount" inputmode="decimal" autocomplete="off" value="500,00"' in page
    assert chosen(merchant, drafted["agreementId"]) == 20_050


def test_the_person_chooses_in_the_app(merchant: Merchant) -> None:
    agreement_id = merchant.draft(pricing=PRICING)["agreementId"]

    merchant.client.post(f"{PHONE}/agreements/{agreement_id}/approve", data={"max_amount": "300"})

    assert chosen(merchant, agreement_id) == 30_000


def test_the_suggestion_holds_for_a_person_who_chooses_nothing(merchant: Merchant) -> None:
    assert chosen(merchant, merchant.active(pricing=PRICING)) == 50_000


def test_there_is_no_field_and_no_limit_with_another_pricing(merchant: Merchant) -> None:
    drafted = merchant.draft()

    assert "max_amount" not in merchant.client.get(path_of(drafted)).text
    assert merchant.decide(drafted["agreementId"], "approve", maxAmount=20_000).status_code == 409
    assert merchant.agreement(drafted["agreementId"])["status"] == "PENDING"


@pytest.mark.parametrize("amount", ["0", "x", "-1", "20000,01", "1,234"])
def test_a_limit_outside_the_markets_is_refused(merchant: Merchant, amount: str) -> None:
    drafted = merchant.draft(pricing=PRICING)

    answer = merchant.client.post(path_of(drafted), data={"action": "approve", "max_amount": amount})

    assert answer.status_code == 400
    assert merchant.agreement(drafted["agreementId"])["status"] == "PENDING"


def test_the_ceiling_is_the_higher_of_suggestion_and_choice(merchant: Merchant) -> None:
    low, high = variable(merchant, 20_000), variable(merchant, 80_000)

    for agreement_id, most in ((low, 50_000), (high, 80_000)):
        assert merchant.post_charge(agreement_id, amount=most).status_code == 201
        refused = merchant.post_charge(agreement_id, amount=most + 1)
        assert refused.get_json()["type"].endswith("#charge-amount-too-high")


def test_a_charge_above_the_choice_waits_and_then_fails(merchant: Merchant) -> None:
    charge_id = merchant.charge(variable(merchant, 20_000), amount=30_000, retryDays=2)

    merchant.advance(days=7, hours=13)  # 23:00 on the last retry day
    assert merchant.status(charge_id) == "DUE"
    assert "er over beløpsgrensen din" in merchant.client.get(PHONE).text
    merchant.advance(hours=2)

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["failureReason"]) == ("FAILED", "charge_amount_too_high")


@pytest.mark.parametrize("where", ["control", "phone"])
def test_the_person_may_raise_the_limit_and_the_next_batch_takes_the_charge(merchant: Merchant, where: str) -> None:
    agreement_id = variable(merchant, 20_000)
    charge_id = merchant.charge(agreement_id, amount=30_000, retryDays=2)
    merchant.advance(days=5)
    assert merchant.status(charge_id) == "DUE"

    if where == "control":
        merchant.decide(agreement_id, "max-amount", maxAmount=30_000)
    else:
        merchant.client.post(f"{PHONE}/agreements/{agreement_id}/max-amount", data={"max_amount": "300,00"})
    merchant.advance(hours=8)

    assert chosen(merchant, agreement_id) == 30_000
    assert merchant.fetch(charge_id)["history"][-1]["occurred"] == "2030-01-20T16:00:00Z"
    assert merchant.status(charge_id) == "CHARGED"


def test_the_limit_is_raised_only_while_it_is_active_and_with_an_amount(merchant: Merchant) -> None:
    pending = merchant.draft(pricing=PRICING)["agreementId"]

    assert merchant.decide(pending, "max-amount", maxAmount=30_000).status_code == 409
    assert merchant.decide(variable(merchant, 20_000), "max-amount").status_code == 400
    assert merchant.client.post(f"{PHONE}/agreements/{pending}/max-amount", data={"max_amount": "1"}).status_code == 409
    assert merchant.client.post(f"{PHONE}/agreements/{pending}/dance").status_code == 404


def test_the_merchant_may_change_the_suggestion_but_not_the_choice(merchant: Merchant) -> None:
    agreement_id = variable(merchant, 20_000)
    path = f"/recurring/v3/agreements/{agreement_id}"

    assert merchant.call("PATCH", path, {"pricing": {"suggestedMaxAmount": 70_000}}).status_code == 204

    pricing = merchant.agreement(agreement_id)["pricing"]
    assert (pricing["suggestedMaxAmount"], pricing["maxAmount"]) == (70_000, 20_000)
    assert merchant.call("PATCH", path, {"pricing": {"amount": 70_000}}).status_code == 400
    assert merchant.post_charge(agreement_id, amount=70_000).status_code == 201


@pytest.mark.parametrize("amount", [99, 2_000_001, -1])
def test_a_suggestion_outside_the_limits_has_its_own_name(merchant: Merchant, amount: int) -> None:
    body = merchant.draft_body(pricing=PRICING | {"suggestedMaxAmount": amount})
    path = f"/recurring/v3/agreements/{variable(merchant, 20_000)}"

    for answer in (
        merchant.call("POST", "/recurring/v3/agreements", body),
        merchant.call("PATCH", path, {"pricing": {"suggestedMaxAmount": amount}}),
    ):
        assert answer.status_code == 400
        assert answer.get_json()["type"].endswith("#invalid-suggested-max-amount")
