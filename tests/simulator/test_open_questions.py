"""What the vendor leaves open: each answer can be chosen, and both are shown here."""

from __future__ import annotations

from typing import Any

import pytest

from invoice.simulator.app import Simulator
from invoice.simulator.switches import MEANINGS
from tests.simulator.conftest import TODAY, Merchant, Receiver

AGREEMENTS = "/recurring/v3/agreements"


def initial(order_id: str, **changes: Any) -> dict[str, Any]:
    return {"amount": 10_000, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": order_id, **changes}


def held(merchant: Merchant) -> str:
    """Return the id of an agreement with the reserved charge "held"."""
    return merchant.active(initialCharge=initial("held", transactionType="RESERVE_CAPTURE"))


def history(merchant: Merchant, charge_id: str) -> list[tuple[str, str]]:
    return [(line["event"], line["idempotencyKey"]) for line in merchant.fetch(charge_id)["history"]]


def test_every_switch_says_what_it_means(merchant: Merchant) -> None:
    shown = merchant.client.get("/sim/switches").get_json()
    page = merchant.client.get("/sim/").text

    assert set(shown["meanings"]) == set(shown["switches"]) == set(MEANINGS)
    assert all(name in page for name in MEANINGS)


# 1. Idempotency keys


@pytest.mark.parametrize(("hours", "kept"), [(48, True), (24, False), (0, False)])
def test_an_answer_is_kept_for_as_long_as_the_switch_says(merchant: Merchant, hours: int, kept: bool) -> None:
    merchant.switch(idempotency_hours=hours)
    agreement_id = merchant.active()
    first = merchant.post_charge(agreement_id, key="once").get_json()
    merchant.advance(hours=25)

    again = merchant.post_charge(agreement_id, key="once")

    assert (again.get_json() == first) is kept
    assert again.status_code == 201


@pytest.mark.parametrize("burns", [True, False])
def test_a_429_may_burn_its_key(merchant: Merchant, burns: bool) -> None:
    merchant.switch(rate_limits=True, limits_burn_keys=burns)
    path = f"{AGREEMENTS}/{merchant.active()}"
    for _ in range(5):
        merchant.call("PATCH", path, {"productName": "x"})
    assert merchant.call("PATCH", path, {"productName": "x"}, key="once").status_code == 429
    merchant.advance(minutes=2)

    assert merchant.call("PATCH", path, {"productName": "x"}, key="once").status_code == (429 if burns else 204)


@pytest.mark.parametrize("burns", [True, False])
def test_a_401_may_burn_its_key(merchant: Merchant, burns: bool) -> None:
    merchant.switch(unauthorized_burns_keys=burns)
    path, body = f"{AGREEMENTS}/{merchant.active()}", {"productName": "x"}
    stale = merchant.headers("once") | {"Authorization": "Bearer x.y.z"}
    assert merchant.client.patch(path, json=body, headers=stale).status_code == 401

    again = merchant.client.patch(path, json=body, headers=merchant.headers("once"))

    assert again.status_code == (401 if burns else 204)


# 2. Names that are taken


@pytest.mark.parametrize(("status", "name"), [(409, "conflict"), (400, "validation-error")])
def test_a_taken_order_id_is_refused_either_way(merchant: Merchant, status: int, name: str) -> None:
    merchant.switch(taken_order_id_status=status)
    agreement_id = merchant.active(initialCharge=initial("taken"))

    by_charge = merchant.post_charge(agreement_id, orderId="taken")
    by_draft = merchant.call("POST", AGREEMENTS, merchant.draft_body(initialCharge=initial("taken")))

    for answer in (by_charge, by_draft):
        assert (answer.status_code, answer.get_json()["type"].rpartition("#")[2]) == (status, name)


@pytest.mark.parametrize("end", ["reject", "expire"])
@pytest.mark.parametrize("frees", [True, False])
def test_a_dead_draft_may_free_its_order_id(merchant: Merchant, frees: bool, end: str) -> None:
    merchant.switch(dead_draft_frees_order_id=frees)
    agreement_id = merchant.draft(initialCharge=initial("first"))["agreementId"]
    if end == "reject":
        merchant.decide(agreement_id, "reject")
    merchant.advance(minutes=11)

    again = merchant.call("POST", AGREEMENTS, merchant.draft_body(initialCharge=initial("first")))

    assert again.status_code == (201 if frees else 409)


# 3. Refunds


def test_a_refund_soon_after_another_may_be_a_conflict(merchant: Merchant) -> None:
    merchant.switch(refund_conflict_seconds=60)
    merchant.active(initialCharge=initial("paid"))
    body = {"amount": 1000, "description": "x"}

    first, second = merchant.on_charge("paid", "refund", body), merchant.on_charge("paid", "refund", body)
    merchant.advance(seconds=61)
    third = merchant.on_charge("paid", "refund", body)

    assert [answer.status_code for answer in (first, second, third)] == [204, 409, 204]
    assert merchant.fetch("paid")["summary"]["refunded"] == 2000


@pytest.mark.parametrize("has_key", [True, False])
def test_the_history_of_a_refund_may_lack_our_key(merchant: Merchant, has_key: bool) -> None:
    merchant.switch(refund_history_has_key=has_key)
    agreement_id = merchant.active(initialCharge=initial("paid"))

    merchant.on_charge("paid", "refund", {"amount": 1000, "description": "x"}, key="back-1")

    assert history(merchant, "paid")[-1] == ("REFUND", "back-1" if has_key else f"paid-{agreement_id}-Refund")


# 4. and 5. Stops


@pytest.mark.parametrize(("allowed", "status", "after"), [(True, 204, "STOPPED"), (False, 400, "PENDING")])
def test_a_pending_agreement_may_be_stopped_or_not(merchant: Merchant, allowed: bool, status: int, after: str) -> None:
    merchant.switch(stop_pending_allowed=allowed)
    agreement_id = merchant.draft()["agreementId"]

    answer = merchant.call("PATCH", f"{AGREEMENTS}/{agreement_id}", {"status": "STOPPED"})

    assert answer.status_code == status
    assert merchant.agreement(agreement_id)["status"] == after


@pytest.mark.parametrize(("reaches", "after"), [(True, "CANCELLED"), (False, "CHARGED")])
def test_a_stop_may_reach_a_charge_that_is_processing(merchant: Merchant, reaches: bool, after: str) -> None:
    merchant.switch(stop_reaches_processing=reaches)
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id, amount=201)
    merchant.advance(days=4, hours=23, minutes=30)
    assert merchant.status(charge_id) == "PROCESSING"

    merchant.call("PATCH", f"{AGREEMENTS}/{agreement_id}", {"status": "STOPPED"})
    merchant.advance(hours=2)

    assert merchant.status(charge_id) == after


# 6. is in test_webhooks: a retry is signed anew unless the switch says otherwise.
# 7. Read your writes


def test_new_agreements_and_charges_may_be_hidden_for_a_while(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    merchant.switch(visibility_seconds=60)
    merchant.advance(minutes=1)
    charge_id = merchant.charge(agreement_id, orderId="new")
    drafted = merchant.draft()["agreementId"]
    path = f"{AGREEMENTS}/{agreement_id}/charges"

    def found() -> tuple[int, int, int, int]:
        listed = merchant.call("GET", f"{AGREEMENTS}?status=PENDING").get_json()
        charges = merchant.call("GET", path).get_json()
        one = merchant.call("GET", f"{path}/{charge_id}").status_code
        return len(listed), len(charges), one, merchant.call("GET", f"{AGREEMENTS}/{drafted}").status_code

    assert found() == (0, 0, 404, 404)
    merchant.advance(minutes=1)
    assert found() == (1, 1, 200, 200)


# 8. Names of a batch that fails


@pytest.mark.parametrize("keeps", [True, False])
def test_a_batch_that_fails_afterwards_may_keep_its_names(merchant: Merchant, receiver: Receiver, keeps: bool) -> None:
    merchant.switch(bulk_creation_fails=True, bulk_failure_keeps_order_id=keeps)
    agreement_id = merchant.active()
    merchant.register(receiver.url)
    item = merchant.charge_body(agreementId=agreement_id, orderId="b-1")

    told = merchant.call("POST", f"{AGREEMENTS}/charges", [item]).get_json()
    merchant.advance(seconds=1)

    assert told["validCharges"] == ["b-1"]
    assert receiver.events() == ["charge-creation-failed"]
    assert merchant.post_charge(agreement_id, orderId="b-1").status_code == (409 if keeps else 201)


# 9. is in test_twilio: the list may lag behind.
# 202: accepted, and not done yet


def test_a_202_is_not_done_yet(merchant: Merchant) -> None:
    agreement_id = held(merchant)
    merchant.switch(answer_202=True)
    path = f"{AGREEMENTS}/{agreement_id}"

    renamed = merchant.call("PATCH", path, {"productName": "Ny"})
    captured = merchant.on_charge("held", "capture", {"amount": 4000}, key="take")

    assert (renamed.status_code, captured.status_code) == (202, 202)
    assert renamed.headers["Retry-After"] == "5"
    assert (renamed.data, captured.data) == (b"", b"")
    assert merchant.agreement(agreement_id)["productName"] == "Nordavis Digital"
    assert merchant.fetch("held")["summary"]["captured"] == 0
    merchant.advance(seconds=6)
    assert merchant.agreement(agreement_id)["productName"] == "Ny"
    assert merchant.fetch("held")["summary"]["captured"] == 4000
    assert history(merchant, "held")[-1] == ("CAPTURE", "take")


def test_a_stop_and_a_cancellation_with_202_happen_by_the_clock(
    merchant: Merchant, receiver: Receiver, simulator: Simulator
) -> None:
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id)
    merchant.register(receiver.url)
    merchant.switch(answer_202=True, enact_seconds=3600)

    assert merchant.on_charge(charge_id, "cancel").status_code == 202
    assert merchant.call("PATCH", f"{AGREEMENTS}/{agreement_id}", {"status": "STOPPED"}).status_code == 202
    merchant.advance(minutes=50)
    assert (merchant.status(charge_id), merchant.agreement(agreement_id)["status"]) == ("DUE", "ACTIVE")
    assert receiver.bodies == []
    merchant.advance(minutes=20)

    assert (merchant.status(charge_id), merchant.agreement(agreement_id)["status"]) == ("CANCELLED", "STOPPED")
    assert receiver.events() == ["charge-canceled", "agreement-stopped"]


def test_what_is_impossible_is_refused_at_once_also_with_202(merchant: Merchant) -> None:
    held(merchant)
    merchant.switch(answer_202=True)

    answer = merchant.on_charge("held", "capture", {"amount": 10_001})

    assert answer.status_code == 400
    assert merchant.call("PATCH", f"{AGREEMENTS}/{merchant.active()}", {"productName": ""}).status_code == 400


def test_what_has_become_impossible_after_a_202_does_not_happen(merchant: Merchant) -> None:
    held(merchant)
    merchant.switch(answer_202=True)

    answers = [merchant.on_charge("held", "capture", {"amount": 6000}) for _ in range(2)]
    merchant.advance(minutes=1)

    assert [answer.status_code for answer in answers] == [202, 202]
    assert merchant.fetch("held")["summary"]["captured"] == 6000


def test_a_202_is_given_once_for_its_key(merchant: Merchant) -> None:
    held(merchant)
    merchant.switch(answer_202=True)

    for _ in range(2):
        assert merchant.on_charge("held", "capture", {"amount": 4000}, key="once").status_code == 202
    merchant.advance(minutes=1)

    assert merchant.fetch("held")["summary"]["captured"] == 4000


# What else may be chosen


@pytest.mark.parametrize("reason", ["technical_error", "non_technical_error", "user_action_required"])
def test_every_reason_of_a_failure_can_be_had(merchant: Merchant, reason: str) -> None:
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id, retryDays=0)
    merchant.switch(charge_failure=reason)

    merchant.advance(days=6)

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["failureReason"]) == ("FAILED", reason)
    assert charge["failureDescription"]


def test_descriptions_may_be_held_to_45_characters(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    assert merchant.post_charge(agreement_id, description="x" * 100).status_code == 201

    merchant.switch(description_limit=45)

    assert merchant.post_charge(agreement_id, description="x" * 45).status_code == 201
    assert merchant.post_charge(agreement_id, description="x" * 46).status_code == 400


def test_a_sales_unit_with_single_settlement_cannot_refund(merchant: Merchant) -> None:
    merchant.switch(single_settlement=True)
    merchant.active(initialCharge=initial("paid"))

    answer = merchant.on_charge("paid", "refund", {"amount": 1000, "description": "x"})

    assert answer.status_code == 400
    assert "Refund is not possible" in answer.get_json()["detail"]


def test_the_activation_may_be_told_before_the_capture(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.switch(activated_before_captured=True)
    merchant.register(receiver.url)

    merchant.active(initialCharge=initial("first"))
    simulator.run_due()

    assert receiver.events() == ["agreement-activated", "charge-captured"]


def test_an_unscheduled_charge_is_never_tried_again(merchant: Merchant) -> None:
    merchant.switch(unscheduled_allowed=True)
    agreement_id = merchant.active()
    body = {"type": "UNSCHEDULED", "due": None, "retryDays": None}

    charge_id = merchant.charge(agreement_id, amount=151, **body)

    assert merchant.status(charge_id) == "FAILED"
    dated = merchant.post_charge(agreement_id, type="UNSCHEDULED", due=str(TODAY), retryDays=None)
    moded = merchant.post_charge(agreement_id, processingMode="SINGLE_ATTEMPT", **body)
    assert (dated.status_code, moded.status_code) == (400, 400)
