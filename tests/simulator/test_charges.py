"""Charges: made, tried, given up, captured, cancelled, refunded. To the øre."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from invoice.simulator.app import Simulator
from tests.simulator.conftest import TODAY, Merchant, Receiver


def test_a_near_charge_is_due_at_once_and_a_far_one_pending(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    near = merchant.fetch(merchant.charge(agreement_id, due=(TODAY + timedelta(days=29)).isoformat()))
    far = merchant.fetch(merchant.charge(agreement_id, due=(TODAY + timedelta(days=60)).isoformat()))

    assert near["status"] == "DUE"
    assert near["transactionId"].isdigit()
    assert len(near["transactionId"]) >= 10
    assert (far["status"], far["transactionId"]) == ("PENDING", None)
    assert far["due"] == "2030-03-16T00:00:00Z"


def test_a_charge_shows_exactly_the_vendors_fields(merchant: Merchant) -> None:
    charge = merchant.fetch(merchant.charge(merchant.active(), externalId="x-1"))

    assert set(charge) == {
        *("id", "agreementId", "amount", "currency", "description", "due", "externalId", "externalAgreementId"),
        *("retryDays", "processingMode", "status", "transactionId", "type", "transactionType", "failureReason"),
        *("failureDescription", "summary", "history"),
    }
    assert charge["summary"] == {"captured": 0, "refunded": 0, "cancelled": 0}
    assert charge["externalAgreementId"] == "sub-1"
    assert set(charge["history"][0]) == {"occurred", "event", "amount", "idempotencyKey", "success", "transactionId"}


def test_a_charge_turns_due_thirty_days_before(merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active(), due=(TODAY + timedelta(days=31)).isoformat())

    merchant.advance(hours=13)  # 23:00 in Oslo
    merchant.advance(days=1)
    assert merchant.status(charge_id) == "PENDING"
    merchant.advance(hours=1, minutes=1)

    assert merchant.status(charge_id) == "DUE"


def test_money_is_taken_at_nine_on_the_due_day(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    charge_id = merchant.charge(merchant.active(), orderId="feb-1")

    merchant.advance(days=4, hours=22, minutes=59)
    assert merchant.status(charge_id) == "DUE"
    merchant.advance(minutes=2)

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["summary"]["captured"]) == ("CHARGED", 9900)
    assert charge["history"][-1] == {
        "occurred": "2030-01-20T08:00:00Z",
        "event": "CAPTURE",
        "amount": 9900,
        "idempotencyKey": f"feb-1-{charge['agreementId']}-ProcessPayment",
        "success": True,
        "transactionId": charge["transactionId"],
    }
    assert receiver.events() == ["agreement-activated", "charge-captured"]


def test_batches_follow_norwegian_summer_time(merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active(), due="2030-04-02")  # summer time begins on 31 March

    merchant.advance(days=90)

    assert merchant.fetch(charge_id)["history"][-1]["occurred"] == "2030-04-02T07:00:00Z"


def test_a_reserving_charge_is_reserved_on_its_day(merchant: Merchant, receiver: Receiver) -> None:
    charge_id = merchant.charge(merchant.active(), transactionType="RESERVE_CAPTURE")
    merchant.register(receiver.url)

    merchant.advance(days=5)

    assert merchant.status(charge_id) == "RESERVED"
    assert receiver.events() == ["charge-reserved"]


@pytest.mark.parametrize("amount", [151, 182, 183, 184, 186, 187, 197])
def test_a_refused_charge_fails_only_after_its_last_retry_day(
    merchant: Merchant, receiver: Receiver, amount: int
) -> None:
    charge_id = merchant.charge(merchant.active(), amount=amount, retryDays=2)
    merchant.register(receiver.url)

    merchant.advance(days=7, hours=13)  # 23:00 in Oslo on the last retry day
    assert merchant.status(charge_id) == "DUE"
    merchant.advance(hours=2)

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["failureReason"]) == ("FAILED", "user_action_required")
    assert charge["failureDescription"] == "User action required"
    assert charge["history"][-1]["event"] == "FAIL"
    assert charge["history"][-1]["success"] is False
    assert charge["summary"]["captured"] == 0
    assert receiver.bodies[-1]["failureReason"] == "user_action_required"
    assert receiver.events() == ["charge-failed"]


def test_money_that_arrives_later_is_taken_by_the_next_batch(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id)
    merchant.switch(funds={"agreementId": agreement_id, "available": False})

    merchant.advance(days=5, hours=1)
    assert merchant.status(charge_id) == "DUE"
    merchant.switch(funds={"agreementId": agreement_id, "available": True})
    merchant.advance(hours=7)

    charge = merchant.fetch(charge_id)
    assert charge["status"] == "CHARGED"
    assert charge["history"][-1]["occurred"] == "2030-01-20T16:00:00Z"  # 17:00, the retry batch


def test_the_last_retry_day_is_tried_like_any_other(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id, retryDays=2)
    merchant.switch(funds={"agreementId": agreement_id, "available": False})
    merchant.advance(days=7, hours=1)  # past 09:00 on the last day

    merchant.switch(funds={"agreementId": agreement_id, "available": None})
    merchant.advance(hours=7)

    assert merchant.fetch(charge_id)["history"][-1]["occurred"] == "2030-01-22T16:00:00Z"
    assert merchant.status(charge_id) == "CHARGED"


def test_the_number_without_money_pays_once_it_has_some(merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active(phoneNumber="4790000051"))

    merchant.advance(days=6, hours=1)
    assert merchant.status(charge_id) == "DUE"
    merchant.switch(funds={"phone": "+4790000051", "available": True})
    merchant.advance(days=1)

    assert merchant.status(charge_id) == "CHARGED"


def test_a_single_attempt_is_not_repeated(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id, amount=151, retryDays=0, processingMode="SINGLE_ATTEMPT")

    merchant.advance(days=4, hours=23, minutes=5)

    assert merchant.status(charge_id) == "FAILED"


def test_an_amount_of_201_is_unknown_for_an_hour(merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active(), amount=201)

    merchant.advance(days=4, hours=23, minutes=30)
    assert merchant.status(charge_id) == "PROCESSING"
    merchant.advance(minutes=40)

    assert merchant.status(charge_id) == "CHARGED"


WRONG_CHARGES = [
    ({"amount": 99}, "validation-error"),
    ({"amount": "9900"}, "validation-error"),
    ({"amount": None}, "validation-error"),
    ({"description": ""}, "validation-error"),
    ({"description": "x" * 101}, "validation-error"),
    ({"transactionType": None}, "validation-error"),
    ({"retryDays": 15}, "validation-error"),
    ({"retryDays": None}, "validation-error"),
    ({"due": "2030-02-30"}, "validation-error"),
    ({"due": "20300220"}, "validation-error"),
    ({"due": None}, "validation-error"),
    ({"orderId": "a/b"}, "validation-error"),
    ({"processingMode": "SINGLE_ATTEMPT"}, "validation-error"),
    ({"currency": "NOK"}, "validation-error"),
    ({"due": "2030-01-15"}, "charge-due-too-soon"),
    ({"due": "2032-01-16"}, "charge-due-in-too-long"),
    ({"amount": 49_501}, "charge-amount-too-high"),
    ({"type": "UNSCHEDULED", "due": None, "retryDays": None}, "unsupported-feature"),
]


@pytest.mark.parametrize(("changes", "kind"), WRONG_CHARGES)
def test_a_wrong_charge_is_refused_by_its_name(refused: Merchant, changes: Any, kind: str) -> None:
    answer = refused.post_charge(refused.active(), **changes)

    assert answer.status_code == 400
    assert answer.get_json()["type"].endswith(f"#{kind}")


def test_tomorrow_and_two_years_ahead_are_the_bounds_in_norway(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    merchant.advance(hours=14, minutes=30)  # 00:30 on the 16th in Oslo, still the 15th in UTC

    assert merchant.post_charge(agreement_id, due="2030-01-16").get_json()["type"].endswith("#charge-due-too-soon")
    assert merchant.post_charge(agreement_id, due="2030-01-17").status_code == 201
    assert merchant.post_charge(agreement_id, due="2032-01-16").status_code == 201


def test_the_ceiling_of_five_prices_counts_all_charges_of_an_interval(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    first = merchant.charge(agreement_id, amount=30_000, due="2030-01-20")

    assert merchant.post_charge(agreement_id, amount=19_501, due="2030-02-14").status_code == 400
    assert merchant.post_charge(agreement_id, amount=19_500, due="2030-02-14").status_code == 201
    assert merchant.post_charge(agreement_id, amount=49_500, due="2030-02-15").status_code == 201  # the next interval
    merchant.on_charge(first, "cancel")
    assert merchant.post_charge(agreement_id, amount=30_000, due="2030-01-21").status_code == 201


def test_a_variable_agreement_refuses_above_its_ceiling(merchant: Merchant) -> None:
    pricing = {"type": "VARIABLE", "suggestedMaxAmount": 50_000, "currency": "NOK"}
    agreement_id = merchant.draft(pricing=pricing)["agreementId"]
    merchant.decide(agreement_id, "approve", maxAmount=20_000)

    assert merchant.agreement(agreement_id)["pricing"]["maxAmount"] == 20_000
    assert merchant.post_charge(agreement_id, amount=50_001).status_code == 400
    above = merchant.charge(agreement_id, amount=30_000, retryDays=0)
    merchant.advance(days=6)
    assert merchant.fetch(above)["failureReason"] == "charge_amount_too_high"


def test_only_an_active_agreement_can_be_charged(merchant: Merchant) -> None:
    pending = merchant.draft()["agreementId"]
    stopped = merchant.active()
    merchant.decide(stopped, "stop")

    for agreement_id in (pending, stopped):
        assert merchant.post_charge(agreement_id).get_json()["type"].endswith("#charge-creation-failed")
    assert merchant.post_charge("agr_unknown").get_json()["detail"] == "Agreement not found."


def test_a_taken_order_id_is_a_conflict(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    merchant.charge(agreement_id, orderId="jan-1")

    answer = merchant.post_charge(agreement_id, orderId="jan-1")

    assert answer.status_code == 409
    assert answer.get_json()["type"].endswith("#conflict")


def bulk_item(merchant: Merchant, agreement_id: str, order_id: str, **changes: Any) -> dict[str, Any]:
    return merchant.charge_body(agreementId=agreement_id, orderId=order_id, **changes)


def test_the_batch_endpoint_tells_valid_and_invalid_charges(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    items = [
        bulk_item(merchant, agreement_id, "b-1"),
        bulk_item(merchant, agreement_id, "b-1"),
        bulk_item(merchant, "agr_unknown", "b-2"),
        bulk_item(merchant, agreement_id, "b-3", amount=1),
        bulk_item(merchant, agreement_id, "b-4", due="2030-01-15"),
    ]

    answer = merchant.call("POST", "/recurring/v3/agreements/charges", items)

    told = answer.get_json()
    assert answer.status_code == 202
    assert told["validCharges"] == ["b-1"]
    assert [row["chargeBatchItemDto"]["orderId"] for row in told["invalidCharges"]] == ["b-1", "b-2", "b-3", "b-4"]
    assert told["invalidCharges"][0]["errors"] == ["orderId: Is already used"]
    assert told["invalidCharges"][1]["errors"] == ["agreementId: Agreement not found."]
    assert merchant.status("b-1") == "DUE"


def test_the_batch_endpoint_takes_at_most_two_thousand(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    item = bulk_item(merchant, agreement_id, "b-1")

    assert merchant.call("POST", "/recurring/v3/agreements/charges", [item] * 2001).status_code == 400
    assert merchant.call("POST", "/recurring/v3/agreements/charges", []).status_code == 400
    assert merchant.call("POST", "/recurring/v3/agreements/charges", {"a": 1}).status_code == 400
    assert merchant.call("POST", "/recurring/v3/agreements/charges", [item, 7]).status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        *({"orderId": None}, {"orderId": "_"}, {"orderId": "x" * 65}, {"amount": "100"}, {"amount": 2**31}),
        *({"due": None}, {"retryDays": 1.5}, {"transactionType": "GIFT"}, {"processingMode": "NEVER"}),
    ],
)
def test_a_batch_with_an_item_that_cannot_be_echoed_is_refused_whole(
    merchant: Merchant, changes: dict[str, Any]
) -> None:
    agreement_id = merchant.active()
    items = [bulk_item(merchant, agreement_id, "b-1"), bulk_item(merchant, agreement_id, "b-2") | changes]

    answer = merchant.call("POST", "/recurring/v3/agreements/charges", items)

    assert answer.status_code == 400
    assert [row["name"] for row in answer.get_json()["extraDetails"]] == [f"[1].{next(iter(changes))}"]
    assert merchant.call("GET", "/recurring/v3/charges/b-1").status_code == 404


def test_a_batch_may_fail_afterwards(merchant: Merchant, receiver: Receiver) -> None:
    merchant.switch(bulk_creation_fails=True)
    agreement_id = merchant.active()
    merchant.register(receiver.url)

    told = merchant.call(
        "POST", "/recurring/v3/agreements/charges", [bulk_item(merchant, agreement_id, "b-1")]
    ).get_json()
    merchant.advance(seconds=1)

    assert told["validCharges"] == ["b-1"]
    assert receiver.events() == ["charge-creation-failed"]
    assert merchant.call("GET", "/recurring/v3/charges/b-1").status_code == 404
    assert merchant.post_charge(agreement_id, orderId="b-1").status_code == 409


def held(merchant: Merchant, amount: int = 10_000) -> str:
    """Return the id of a RESERVED charge."""
    merchant.active(
        initialCharge={"amount": amount, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}
    )
    return "held"


def paid(merchant: Merchant, amount: int = 10_000) -> str:
    """Return the id of a CHARGED charge."""
    merchant.active(
        initialCharge={"amount": amount, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "paid"}
    )
    return "paid"


def test_captures_add_up_to_what_is_reserved_and_no_further(merchant: Merchant) -> None:
    charge_id = held(merchant)

    assert merchant.on_charge(charge_id, "capture", {"amount": 4000}).status_code == 204
    assert merchant.status(charge_id) == "PARTIALLY_CAPTURED"
    too_much = merchant.on_charge(charge_id, "capture", {"amount": 6001})
    assert too_much.status_code == 400
    assert "higher than the remaining capturable amount" in too_much.get_json()["detail"]
    assert merchant.on_charge(charge_id, "capture", {"amount": 6000}).status_code == 204

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["summary"]) == ("CHARGED", {"captured": 10_000, "refunded": 0, "cancelled": 0})
    again = merchant.on_charge(charge_id, "capture", {"amount": 100}).get_json()
    assert "CHARGED" in again["detail"]


def test_cancelling_releases_what_was_not_captured(merchant: Merchant) -> None:
    charge_id = held(merchant)
    merchant.on_charge(charge_id, "capture", {"amount": 4000})

    assert merchant.on_charge(charge_id, "cancel").status_code == 204

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["summary"]) == ("CHARGED", {"captured": 4000, "refunded": 0, "cancelled": 6000})
    assert merchant.on_charge(charge_id, "refund", {"amount": 4001, "description": "x"}).status_code == 400
    merchant.on_charge(charge_id, "refund", {"amount": 4000, "description": "x"})
    assert merchant.status(charge_id) == "REFUNDED"


def test_a_cancelled_charge_is_never_taken(merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active())

    assert merchant.on_charge(charge_id, "cancel").status_code == 204
    merchant.advance(days=10)

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["summary"]["captured"], charge["summary"]["cancelled"]) == ("CANCELLED", 0, 9900)
    again = merchant.on_charge(charge_id, "cancel")
    assert again.get_json()["type"].endswith("#cancel-charge-failed")
    assert "CANCELLED" in again.get_json()["detail"]


def test_refunds_never_exceed_what_was_captured(merchant: Merchant) -> None:
    charge_id = paid(merchant)

    for amount, status in ((3000, "PARTIALLY_REFUNDED"), (6000, "PARTIALLY_REFUNDED")):
        assert merchant.on_charge(charge_id, "refund", {"amount": amount, "description": "Beklager"}).status_code == 204
        assert merchant.status(charge_id) == status
    assert merchant.on_charge(charge_id, "refund", {"amount": 1001, "description": "x"}).status_code == 400
    assert merchant.on_charge(charge_id, "refund", {"amount": 1000, "description": "x"}).status_code == 204

    charge = merchant.fetch(charge_id)
    assert (charge["status"], charge["summary"]["refunded"]) == ("REFUNDED", 10_000)
    assert [line["amount"] for line in charge["history"] if line["event"] == "REFUND"] == [3000, 6000, 1000]
    assert merchant.on_charge(charge_id, "refund", {"amount": 100, "description": "x"}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 100},
        {"description": "x"},
        {"amount": 0, "description": "x"},
        {"amount": -100, "description": "x"},
        {"amount": 123, "description": "x"},
        {"amount": 124, "description": "x"},
    ],
)
def test_a_refund_that_cannot_be_is_refused_and_changes_nothing(merchant: Merchant, body: Any) -> None:
    charge_id = paid(merchant)

    assert merchant.on_charge(charge_id, "refund", body).status_code == 400

    assert merchant.fetch(charge_id)["summary"]["refunded"] == 0


@pytest.mark.parametrize(
    ("made", "wrong", "status"),
    [
        (held, "refund", "RESERVED"),
        (paid, "capture", "CHARGED"),
        (paid, "cancel", "CHARGED"),
    ],
)
def test_the_detail_of_a_refusal_names_the_status(merchant: Merchant, made: Any, wrong: str, status: str) -> None:
    charge_id = made(merchant)
    bodies = {"refund": {"amount": 100, "description": "x"}, "capture": {"amount": 100}, "cancel": None}

    problem = merchant.on_charge(charge_id, wrong, bodies[wrong]).get_json()

    assert problem["status"] == 400
    assert status in problem["detail"]


@pytest.mark.parametrize(("amount", "words"), [(123, "no receiving account"), (124, "period has expired")])
def test_two_amounts_cannot_be_refunded_and_say_why(merchant: Merchant, amount: int, words: str) -> None:
    problem = merchant.on_charge(paid(merchant), "refund", {"amount": amount, "description": "x"}).get_json()

    assert words in problem["detail"]


def test_a_part_that_was_captured_in_time_stays_when_the_rest_is_let_go(
    merchant: Merchant, simulator: Simulator
) -> None:
    charge_id = held(merchant)
    merchant.on_charge(charge_id, "capture", {"amount": 4000})

    simulator.clock.move(timedelta(days=180))
    late = merchant.on_charge(charge_id, "capture", {"amount": 100})
    simulator.run_due()

    assert late.status_code == 400
    assert "PARTIALLY_CAPTURED" in late.get_json()["detail"]
    assert merchant.fetch(charge_id)["summary"] == {"captured": 4000, "refunded": 0, "cancelled": 6000}
    assert [line["event"] for line in merchant.fetch(charge_id)["history"]][-2:] == ["CAPTURE", "CANCEL"]


def test_a_refund_comes_too_late_after_a_year(merchant: Merchant, simulator: Simulator) -> None:
    charge_id = paid(merchant)

    simulator.clock.move(timedelta(days=364))
    assert merchant.on_charge(charge_id, "refund", {"amount": 100, "description": "x"}).status_code == 204
    simulator.clock.move(timedelta(days=1))
    assert merchant.on_charge(charge_id, "refund", {"amount": 100, "description": "x"}).status_code == 400


def test_a_reservation_is_released_after_180_days(merchant: Merchant, simulator: Simulator) -> None:
    charge_id = held(merchant)

    simulator.clock.move(timedelta(days=179, hours=23))
    assert simulator.run_due() is False
    simulator.clock.move(timedelta(hours=1))
    assert simulator.run_due() is True

    assert merchant.status(charge_id) == "CANCELLED"
    assert merchant.on_charge(charge_id, "capture", {"amount": 100}).status_code == 400


def test_a_direct_charge_cannot_be_captured(merchant: Merchant) -> None:
    problem = merchant.on_charge(paid(merchant), "capture", {"amount": 100}).get_json()

    assert problem["type"].endswith("#charge-capture-failed")


def test_the_list_of_charges_is_joined_by_a_continuation_token(merchant: Merchant) -> None:
    agreement_id = merchant.active(pricing={"type": "FLEXIBLE", "currency": "NOK"})
    items = [bulk_item(merchant, agreement_id, f"b-{number}") for number in range(150)]
    merchant.call("POST", "/recurring/v3/agreements/charges", items)
    path = f"/recurring/v3/agreements/{agreement_id}/charges"

    first = merchant.call("GET", path)
    token = first.headers["Continuation-Token"]
    second = merchant.call("GET", path, **{"Continuation-Token": token})

    assert [row["id"] for row in first.get_json() + second.get_json()] == [f"b-{number}" for number in range(150)]
    assert "Continuation-Token" not in second.headers
    merchant.advance(minutes=30)
    assert merchant.call("GET", path, **{"Continuation-Token": token}).status_code == 400


def test_charges_can_be_listed_by_status(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    near, far = merchant.charge(agreement_id), merchant.charge(agreement_id, due="2030-06-01")
    path = f"/recurring/v3/agreements/{agreement_id}/charges"

    assert [row["id"] for row in merchant.call("GET", f"{path}?status=PENDING").get_json()] == [far]
    assert [row["id"] for row in merchant.call("GET", path).get_json()] == [near, far]
    assert merchant.call("GET", f"{path}?status=NEW").status_code == 400


def test_an_unscheduled_charge_is_taken_at_once_where_allowed(merchant: Merchant) -> None:
    merchant.switch(unscheduled_allowed=True)

    charge_id = merchant.charge(merchant.active(), type="UNSCHEDULED", due=None, retryDays=None)

    assert merchant.status(charge_id) == "CHARGED"
