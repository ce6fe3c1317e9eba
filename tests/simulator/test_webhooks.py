"""Webhooks: registered, signed, in order, again and again until somebody answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invoice.simulator import signing
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.post import pause_after
from tests.simulator.conftest import ALL_EVENTS, Merchant, Receiver

HOOKS = "/webhooks/v1/webhooks"


def test_the_vendors_own_example_of_a_signature_comes_out() -> None:
    headers = signing.webhook_headers(
        "https://webhook.site/e2cee29b-012e-4f1d-8ef4-e95fd74a7a63",
        b'{"some-unique-content":"ee6e441b-cc4a-46f8-895d-a5af79bcc233/hello-world"}',
        "A0+AeKBRG2KRGvnNwJpQlb6IJFk48CKXCIcrLoHncVJKDILsQSxS6NWCccwWm6r6FhGKhiHTBsG2wo/xU6FY/A==",
        datetime(2023, 3, 30, 8, 38, 32, tzinfo=UTC),
    )

    assert headers == {
        "x-ms-date": "Thu, 30 Mar 2023 08:38:32 GMT",
        "x-ms-content-sha256": "lNlsp1XA03N34HrQsVzPgJKtC+r7l/RBF4V3JQUWMj4=",
        "Host": "webhook.site",
        "Authorization": "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
        "agAiSyogQbDHpeucoNwYz+yAr5nJ+v+zasdkSbqzv+U=",
    }


def test_what_arrives_is_signed_with_the_registrations_secret(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    secret = merchant.register(receiver.url)["secret"]
    merchant.active()
    simulator.run_due()

    (request,) = receiver.requests
    raw = request.get_data()
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    to_sign = f"POST\n/hooks?from=vipps\n{request.headers['x-ms-date']};{request.headers['Host']};{digest}"
    expected = base64.b64encode(hmac.digest(secret.encode(), to_sign.encode(), "sha256")).decode()
    assert request.headers["x-ms-content-sha256"] == digest
    assert request.headers["Authorization"].endswith(f"&Signature={expected}")
    assert request.headers["x-ms-date"].startswith("Tue, 15 Jan 2030 09:0")
    assert request.headers["Host"] == receiver.url.split("/")[2]


@pytest.mark.parametrize("header", ["Vipps-System-Name", "Merchant-Serial-Number"])
def test_refusals_of_webhooks_have_their_own_shape(merchant: Merchant, header: str) -> None:
    answer = merchant.call("GET", HOOKS, **{header: "9" * 31})

    assert answer.status_code == 400
    assert "traceId" in answer.get_json()
    assert [row["name"] for row in answer.get_json()["extraDetails"]] == [header]


def test_the_secret_is_shown_once(merchant: Merchant) -> None:
    made = merchant.register("https://shop.example.com/hook")

    listed = merchant.call("GET", HOOKS).get_json()["webhooks"]

    assert listed == [{"id": made["id"], "url": "https://shop.example.com/hook", "events": ALL_EVENTS}]
    assert merchant.call("DELETE", f"{HOOKS}/{made['id']}").status_code == 204
    assert merchant.call("GET", HOOKS).get_json() == {"webhooks": []}
    assert merchant.call("DELETE", f"{HOOKS}/{made['id']}").status_code == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://shop.example.com/", "events": ALL_EVENTS}, "url"),
        ({"url": "ftp://127.0.0.1/", "events": ALL_EVENTS}, "url"),
        ({"url": 7, "events": ALL_EVENTS}, "url"),
        ({"url": "https://shop.example.com/", "events": []}, "events"),
        ({"url": "https://shop.example.com/", "events": "all"}, "events"),
        ({"url": "https://shop.example.com/", "events": ["UPPER"]}, "events"),
        ({"url": "https://shop.example.com/", "events": ALL_EVENTS, "secret": "x"}, "secret"),
    ],
)
def test_a_wrong_registration_is_refused(refused: Merchant, body: Any, field: str) -> None:
    answer = refused.call("POST", HOOKS, body)

    assert answer.status_code == 400
    assert [line["name"] for line in answer.get_json()["extraDetails"]] == [field]
    assert answer.get_json()["traceId"]


def test_there_are_at_most_25_registrations_for_an_event(merchant: Merchant) -> None:
    for number in range(25):
        merchant.register(f"https://shop.example.com/{number}", ALL_EVENTS[:1])

    body = {"url": "https://shop.example.com/25", "events": ALL_EVENTS[:1]}
    assert merchant.call("POST", HOOKS, body).status_code == 400
    assert merchant.call("POST", HOOKS, body | {"events": ALL_EVENTS[1:]}).status_code == 201


def test_only_what_was_asked_for_is_sent(merchant: Merchant, simulator: Simulator, receiver: Receiver) -> None:
    merchant.register(receiver.url, ["recurring.agreement-stopped.v1"])

    merchant.decide(merchant.active(), "stop")
    simulator.run_due()

    assert receiver.events() == ["agreement-stopped"]


def test_the_pauses_between_attempts_follow_the_vendor() -> None:
    seconds = [pause_after(attempts).total_seconds() for attempts in range(1, 32)]

    assert seconds == [2, 2, 2, 2, 60, 120, *[3600] * 22, 86400, 86400, 86400]


def test_a_failing_event_is_tried_again_and_holds_back_the_same_payments_next(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.active(
        initialCharge={"amount": 10_000, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}
    )
    merchant.register(receiver.url)
    receiver.answers = [500, 500]
    merchant.on_charge("held", "capture", {"amount": 4000})
    simulator.run_due()
    merchant.on_charge("held", "capture", {"amount": 6000})
    other = merchant.active()
    simulator.run_due()

    assert [body.get("amountCaptured") for body in receiver.bodies] == [
        4000,
        None,
    ]  # the other payment is not held back
    assert receiver.bodies[1]["agreementId"] == other
    merchant.advance(seconds=2)
    merchant.advance(seconds=2)
    merchant.advance(seconds=2)

    assert [body["amountCaptured"] for body in receiver.bodies if "amountCaptured" in body] == [4000, 4000, 10_000]


def test_a_receiver_that_comes_back_after_three_days_gets_everything_in_order(
    merchant: Merchant, receiver: Receiver
) -> None:
    charge_id = merchant.charge(merchant.active(), transactionType="RESERVE_CAPTURE", due="2030-01-16")
    merchant.register(receiver.url)
    receiver.answers = [503] * 500

    merchant.advance(days=2)
    merchant.on_charge(charge_id, "capture", {"amount": 4000})
    merchant.on_charge(charge_id, "capture", {"amount": 5900})
    merchant.advance(days=1)
    receiver.answers.clear()
    receiver.bodies.clear()
    merchant.advance(days=2)

    assert [body["amountCaptured"] for body in receiver.bodies] == [0, 4000, 9900]
    assert receiver.events() == ["charge-reserved", "charge-captured", "charge-captured"]


def test_an_event_is_given_up_after_seven_days_and_the_next_goes_through(
    merchant: Merchant, receiver: Receiver
) -> None:
    merchant.register(receiver.url)
    receiver.answers = [503] * 500
    agreement_id = merchant.active()
    merchant.advance(days=8)
    receiver.answers.clear()
    receiver.bodies.clear()

    merchant.decide(agreement_id, "stop")
    merchant.advance(minutes=1)

    assert receiver.events() == ["agreement-stopped"]


def test_a_registration_that_fails_for_two_weeks_is_deleted(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    receiver.answers = [503] * 1000
    for _ in range(5):
        merchant.active()
        merchant.advance(days=4)

    assert merchant.call("GET", HOOKS).get_json() == {"webhooks": []}


def test_a_retry_is_signed_anew_unless_the_switch_says_otherwise(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    receiver.answers = [500]
    merchant.active()
    merchant.advance(seconds=4)
    merchant.switch(webhook_retries_resigned=False)
    receiver.answers = [500]
    merchant.active()
    merchant.advance(seconds=4)

    dates = [request.headers["x-ms-date"] for request in receiver.requests]
    assert dates[0] != dates[1]
    assert dates[2] == dates[3]


def test_webhooks_may_be_doubled_lost_or_wrongly_signed(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.register(receiver.url)
    merchant.switch(webhooks_doubled=True)
    merchant.active()
    simulator.run_due()
    assert receiver.events() == ["agreement-activated"] * 2
    assert receiver.bodies[0] == receiver.bodies[1]

    merchant.switch(webhooks_doubled=False, webhooks_lost=True)
    merchant.active()
    simulator.run_due()
    assert len(receiver.bodies) == 2


def test_the_receiver_may_call_back_while_it_is_being_told(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.register(receiver.url)
    agreement_id = merchant.draft()["agreementId"]
    seen: list[int] = []
    receiver.on_request = lambda: seen.append(merchant.post_charge(agreement_id).status_code)

    merchant.decide(agreement_id, "approve")
    simulator.run_due()

    assert seen == [201]


def test_what_is_owed_survives_a_restart(
    merchant: Merchant, simulator: Simulator, receiver: Receiver, tmp_path: Any
) -> None:
    merchant.register(receiver.url)
    merchant.active()
    simulator.stop()

    again = create_simulator(tmp_path / "data", base_url="http://127.0.0.1:8001")
    again.run_due()
    again.stop()

    assert receiver.events() == ["agreement-activated"]


def test_a_receiver_that_cannot_be_reached_is_tried_later(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.register("http://127.0.0.1:9/nobody", ALL_EVENTS[:1])
    merchant.active()

    assert simulator.run_due() is True
    assert simulator.run_due() is False  # not due again before its time

    assert simulator.clock.now() < datetime(2030, 1, 15, 9, tzinfo=UTC) + timedelta(minutes=1)
