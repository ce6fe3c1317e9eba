"""Webhooks, the harder half: slow receivers, refused addresses, order, forged events, and the vendor's hours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from invoice.simulator.app import Simulator
from tests.simulator.conftest import ALL_EVENTS, Merchant, Receiver

HOOKS = "/webhooks/v1/webhooks"
CAPTURED = ["recurring.charge-captured.v1"]
PATIENCE = 20  # seconds of a busy machine


def is_rightly_signed(receiver: Receiver, secret: str) -> bool:
    """Whether the last request is what the owner of `secret` would have sent to this path just now."""
    request = receiver.requests[-1]
    digest = base64.b64encode(hashlib.sha256(request.get_data()).digest()).decode()
    date = request.headers["x-ms-date"]
    to_sign = f"POST\n/hooks?from=vipps\n{date};{request.headers['Host']};{digest}"
    expected = base64.b64encode(hmac.digest(secret.encode(), to_sign.encode(), "sha256")).decode()
    return (
        request.headers["x-ms-content-sha256"] == digest
        and request.headers.get("Authorization", "").endswith(f"&Signature={expected}")
        and parsedate_to_datetime(date).year == 2030
        and parsedate_to_datetime(date).day == 15
    )


# Where Vipps sends to


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://shop.example.com/",
            "https://shop/",
            "https://10.0.0.1/",
            "https://192.168.0.1/",
            "https://[fe80::1]/",
        ),
        *(
            "https://169.254.169.254/",
            "https://shop.example.com:8443/",
            "https://shop.invalid/",
            "https://printer.local/",
        ),
        *("https://user@shop.example.com/", "https://api.vipps.no/", "https://api.twilio.com/", "https://"),
    ],
)
def test_an_address_that_the_world_cannot_reach_is_refused(refused: Merchant, url: str) -> None:
    answer = refused.call("POST", HOOKS, {"url": url, "events": CAPTURED})

    assert answer.status_code == 400
    assert answer.get_json()["extraDetails"] == [
        {"name": "url", "reason": "The URL and/or hostname you provided is not allowed"}
    ]


@pytest.mark.parametrize(
    "url",
    [
        *("https://shop.example.com/", "https://shop.example.com:443/", "https://shop.example.com:8080/x?y=z"),
        *("https://93.184.216.34/", "http://127.0.0.1:5000/", "http://localhost/"),
    ],
)
def test_an_address_in_the_world_or_on_this_machine_is_taken(merchant: Merchant, url: str) -> None:
    assert merchant.register(url)["secret"]


def test_a_receiver_that_redirects_has_not_received(
    merchant: Merchant, simulator: Simulator, receiver: Receiver
) -> None:
    merchant.register(receiver.url)
    receiver.answers = [302, 307, 200]

    merchant.active()
    merchant.advance(seconds=10)

    assert receiver.events() == ["agreement-activated"] * 3


# The hours


def test_a_dead_receiver_is_tried_at_the_vendors_hours_for_seven_days(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    receiver.answers = [503] * 500

    merchant.active()
    merchant.advance(days=10)

    at = [parsedate_to_datetime(request.headers["x-ms-date"]) for request in receiver.requests]
    pauses = [round((later - earlier).total_seconds()) for earlier, later in zip(at, at[1:], strict=False)]
    expected = [2, 2, 2, 2, 60, 120, *[3600] * 22, *[86400] * 6]
    assert len(pauses) == len(expected)
    assert all(0 <= pause - due <= 30 for pause, due in zip(pauses, expected, strict=True))
    assert at[-1] - at[0] <= timedelta(days=7)
    (webhook,) = merchant.client.get("/sim/webhooks").get_json()["webhooks"]
    assert (webhook["deliveries"][0]["outcome"], webhook["deliveries"][0]["next"]) == ("given up", None)


def test_a_success_ends_the_two_weeks(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    for _ in range(5):
        receiver.answers = [503, 503]
        merchant.active()
        merchant.advance(days=4)

    assert len(merchant.call("GET", HOOKS).get_json()["webhooks"]) == 1


# A receiver who is slow


@pytest.fixture
def gate(receiver: Receiver) -> Any:
    """The receiver takes a request and answers it only when the gate opens."""
    opened = threading.Event()
    receiver.on_request = lambda: bool(opened.wait(PATIENCE)) and None
    yield opened
    opened.set()


def test_a_slow_receiver_keeps_nobody_else_waiting(
    merchant: Merchant, server: str, receiver: Receiver, gate: threading.Event
) -> None:
    other, told = Receiver(), threading.Semaphore(0)
    other.on_request = told.release
    merchant.register(receiver.url)
    merchant.register(other.url)

    for _ in range(3):
        merchant.active()
        assert told.acquire(timeout=PATIENCE), "told although the first receiver has not answered yet"

    assert len(receiver.requests) == 1
    assert not gate.is_set()
    other.close()


def test_a_slow_receiver_does_not_hold_up_what_time_does(
    merchant: Merchant, server: str, receiver: Receiver, gate: threading.Event
) -> None:
    merchant.register(receiver.url)
    merchant.active()
    while not receiver.requests:
        gate.wait(0.01)
    merchant.switch(answer_202=True, enact_seconds=0)
    agreement_id = merchant.active()

    merchant.call("PATCH", f"/recurring/v3/agreements/{agreement_id}", {"productName": "Ny"})

    for _ in range(PATIENCE * 100):
        if merchant.agreement(agreement_id)["productName"] == "Ny":
            break
        gate.wait(0.01)
    assert merchant.agreement(agreement_id)["productName"] == "Ny"
    (webhook,) = merchant.client.get("/sim/webhooks").get_json()["webhooks"]
    assert webhook["deliveries"][-1]["attempts"] == 0, "the receiver is still being waited for"


# Disorder


def test_events_may_arrive_newest_first(merchant: Merchant, receiver: Receiver) -> None:
    merchant.register(receiver.url)
    merchant.switch(webhooks_reordered=True)
    first = {"amount": 10_000, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}

    merchant.active(initialCharge=first)
    merchant.on_charge("held", "capture", {"amount": 4000})
    assert receiver.bodies == []
    merchant.advance(seconds=11)

    assert receiver.events() == ["charge-captured", "agreement-activated", "charge-reserved"]


def test_events_may_all_be_signed_wrongly(merchant: Merchant, simulator: Simulator, receiver: Receiver) -> None:
    secret = merchant.register(receiver.url)["secret"]
    merchant.switch(webhooks_wrongly_signed=True)

    merchant.active()
    simulator.run_due()

    assert not is_rightly_signed(receiver, secret)


def probe(merchant: Merchant, webhook_id: str, **body: Any) -> Any:
    return merchant.client.post(f"/sim/webhooks/{webhook_id}/probe", json=body)


@pytest.mark.parametrize(
    ("kind", "is_right"),
    [
        *(("unsigned", False), ("wrong-secret", False), ("changed-body", False), ("other-path", False)),
        *(("old-date", False), ("untrue", True)),
    ],
)
def test_forged_events_can_be_sent_one_by_one(
    merchant: Merchant, receiver: Receiver, kind: str, is_right: bool
) -> None:
    made = merchant.register(receiver.url)
    receiver.answers = [403]

    told = probe(merchant, made["id"], kind=kind, agreementId="agr_1").get_json()

    assert told == {"kind": kind, "status": 403}
    assert is_rightly_signed(receiver, made["secret"]) is is_right
    assert (receiver.bodies[-1]["agreementId"], receiver.bodies[-1]["msn"]) == ("agr_1", "123456")
    assert receiver.events() == ["agreement-activated"]


def test_a_probe_needs_a_registration_and_a_kind(merchant: Merchant) -> None:
    webhook_id = merchant.register("http://127.0.0.1:9/nobody")["id"]

    assert probe(merchant, "unknown", kind="unsigned").status_code == 404
    assert probe(merchant, webhook_id, kind="nice").status_code == 400
    assert probe(merchant, webhook_id, kind="unsigned").get_json()["status"] is None


def test_the_vendors_example_is_published_with_what_comes_out_here(merchant: Merchant) -> None:
    check = merchant.client.get("/sim/webhooks/self-check").get_json()

    assert check["fits"] is True
    assert check["example"]["signature"] == "agAiSyogQbDHpeucoNwYz+yAr5nJ+v+zasdkSbqzv+U="
    assert check["headers"]["Authorization"].endswith(check["example"]["signature"])
    assert "it comes out here as well" in merchant.client.get("/sim/").text


def test_what_became_of_events_can_be_looked_at(merchant: Merchant, simulator: Simulator, receiver: Receiver) -> None:
    made = merchant.register(receiver.url)
    receiver.answers = [200, 500]
    agreement_id = merchant.active()
    merchant.decide(merchant.active(), "stop")
    simulator.run_due()

    (webhook,) = merchant.client.get("/sim/webhooks").get_json()["webhooks"]

    assert (webhook["id"], webhook["url"], webhook["events"]) == (made["id"], receiver.url, ALL_EVENTS)
    assert webhook["failingSince"]
    assert "secret" not in webhook
    oldest = webhook["deliveries"][-1]
    assert oldest == {
        "event": "recurring.agreement-activated.v1",
        "subject": agreement_id,
        "attempts": 1,
        "outcome": "delivered",
        "next": None,
    }
    assert datetime.fromisoformat(webhook["deliveries"][1]["next"])
