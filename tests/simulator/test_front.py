"""Keys, headers, idempotency, and bodies that nobody should send."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from sqlalchemy.orm import Session

from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.act import Call
from invoice.simulator.answers import Answer
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.idempotency import once
from invoice.simulator.models import KeptAnswer, OrderId
from invoice.simulator.problems import invalid
from tests.simulator.conftest import Merchant

AGREEMENTS = "/recurring/v3/agreements"


@pytest.mark.parametrize("path", ["/accesstoken/get", "/accessToken/get", "/ACCESSTOKEN/GET"])
def test_a_token_is_given_for_the_right_keys_in_any_case_of_the_path(refused: Merchant, path: str) -> None:
    answer = refused.client.post(path, headers={**refused.keys(), "Authorization": "Bearer "})

    token = answer.get_json()
    assert answer.status_code == 200
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    assert token["expires_on"] - token["not_before"] == 3600
    assert token["access_token"].count(".") == 2


def test_what_official_clients_send_besides_is_tolerated(refused: Merchant) -> None:
    besides = {"Idempotency-Key": "any:thing", "Vipps-System-Name": "", "Vipps-System-Plugin-Version": "", "X-Own": "1"}

    token = refused.client.post("/accessToken/get", headers=refused.keys() | {"Authorization": "Bearer "} | besides)

    assert token.status_code == 200
    for path in (AGREEMENTS, f"{AGREEMENTS}/", f"{AGREEMENTS}/{refused.active()}/"):
        assert refused.client.get(path, headers=refused.headers() | besides).status_code == 200
    bare = {name: refused.headers()[name] for name in ("Authorization", "Ocp-Apim-Subscription-Key")}
    assert refused.client.get(AGREEMENTS, headers=bare).status_code == 200


def test_a_token_is_given_over_a_real_socket(merchant: Merchant, server: str) -> None:
    answer = requests.post(f"{server}/accesstoken/get", headers=merchant.keys(), timeout=5)

    assert answer.json()["token_type"] == "Bearer"


@pytest.mark.parametrize("name", ["client_id", "client_secret", "Ocp-Apim-Subscription-Key"])
@pytest.mark.parametrize("value", ["", "wrong", "æøå"])
def test_a_token_is_refused_for_a_wrong_key(refused: Merchant, name: str, value: str) -> None:
    headers = {**refused.keys(), name: value}

    assert refused.client.post("/accesstoken/get", headers=headers).status_code == 401


def test_a_token_lives_an_hour_and_several_live_at_once(merchant: Merchant) -> None:
    first, second = merchant.token(), merchant.token()

    def status(token: str) -> int:
        return merchant.client.get(
            AGREEMENTS, headers=merchant.headers() | {"Authorization": f"bearer {token}"}
        ).status_code

    assert (first != second, status(first), status(second)) == (True, 200, 200)
    merchant.advance(minutes=59)
    assert status(first) == 200
    merchant.advance(minutes=1, seconds=1)
    assert status(first) == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "x.y.z"}, 401),
        ({"Authorization": "Bearer x.y.z"}, 401),
        ({"Authorization": ""}, 401),
        ({"Ocp-Apim-Subscription-Key": ""}, 401),
        ({"Ocp-Apim-Subscription-Key": "wrong"}, 401),
        ({"Merchant-Serial-Number": "654321"}, 403),
        ({"Vipps-System-Name": "x" * 31}, 400),
        ({"Vipps-System-Name": ""}, 200),
        ({"Merchant-Serial-Number": ""}, 200),
    ],
)
def test_the_headers_of_a_call_are_checked(refused: Merchant, headers: dict[str, str], status: int) -> None:
    answer = refused.client.get(AGREEMENTS, headers={**refused.headers(), **headers})

    assert answer.status_code == status
    if status == 401:
        assert answer.get_json()["responseInfo"] == {"responseCode": 401, "responseMessage": "Unauthorized"}


@pytest.mark.parametrize("key", ["", "x" * 41, "a#b", "a?b", "a/b", "a\\b", "a:b", "a b"])
def test_a_write_needs_a_good_idempotency_key(refused: Merchant, key: str) -> None:
    headers = {**refused.headers(), "Idempotency-Key": key}

    answer = refused.client.post(AGREEMENTS, json=refused.draft_body(), headers=headers)

    assert answer.status_code == 400
    assert answer.get_json()["type"].rpartition("#")[2] in ("missing-request-header", "idempotency-key-header")


def test_the_same_key_and_request_give_the_same_answer_once(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    answers = [merchant.post_charge(agreement_id, key="once") for _ in range(3)]

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.get_json()["chargeId"] for answer in answers}) == 1
    assert len(merchant.call("GET", f"{AGREEMENTS}/{agreement_id}/charges").get_json()) == 1


def test_a_repeated_refund_is_made_once(merchant: Merchant) -> None:
    merchant.active(
        initialCharge={"amount": 10_000, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "paid"}
    )

    for _ in range(3):
        assert (
            merchant.on_charge("paid", "refund", {"amount": 4000, "description": "x"}, key="back-1").status_code == 204
        )

    assert merchant.fetch("paid")["summary"]["refunded"] == 4000


def test_the_same_key_for_another_request_is_a_conflict(merchant: Merchant) -> None:
    agreement_id = merchant.active()
    merchant.post_charge(agreement_id, key="once")

    other = merchant.post_charge(agreement_id, key="once", amount=200)

    assert other.status_code == 409
    assert other.get_json()["type"].endswith("#idempotency-conflict")


def test_a_refusal_sticks_to_its_key(merchant: Merchant) -> None:
    agreement_id = merchant.draft()["agreementId"]
    first = merchant.post_charge(agreement_id, key="once")
    merchant.decide(agreement_id, "approve")

    second = merchant.post_charge(agreement_id, key="once")

    assert (first.status_code, second.status_code) == (400, 400)
    assert first.get_json()["contextId"] == second.get_json()["contextId"]
    assert merchant.post_charge(agreement_id, key="twice").status_code == 201


def test_answers_outlive_a_restart_and_a_day(merchant: Merchant, simulator: Simulator, tmp_path: Any) -> None:
    agreement_id = merchant.active()
    first = merchant.post_charge(agreement_id, key="once").get_json()
    merchant.advance(hours=25)
    simulator.stop()

    again = create_simulator(tmp_path / "data", base_url="http://127.0.0.1:8001")
    second = Merchant(again).post_charge(agreement_id, key="once").get_json()
    again.stop()

    assert first == second


def test_drafts_ignore_keys_unless_the_switch_says_otherwise(merchant: Merchant) -> None:
    def drafted(key: str) -> str:
        return str(merchant.call("POST", AGREEMENTS, merchant.draft_body(), key).get_json()["agreementId"])

    assert drafted("a") != drafted("a")
    merchant.switch(draft_ignores_keys=False)
    assert drafted("b") == drafted("b")


def test_what_a_refused_request_had_begun_is_undone(simulator: Simulator) -> None:
    world = simulator.app.extensions["simulator_world"]

    def begin_and_fail(session: Session) -> Answer:
        session.add(OrderId(msn="123456", id="half", agreement_id="agr_1"))
        session.flush()
        raise invalid(("x", "wrong"))

    with world.store.write() as session:
        call = Call(world, session, simulator.clock.now(), "key", unit=DEMO_UNIT)
        answer = once(call, "mark", "/", lambda: begin_and_fail(session))

    with world.store.read() as session:
        assert answer.status == 400
        assert session.get(OrderId, ("123456", "half")) is None
        assert session.get(KeptAnswer, ("123456", "key")) is not None


def test_a_refused_request_leaves_nothing_behind(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    merchant.post_charge(agreement_id, orderId="free", amount=49_501)

    assert merchant.post_charge(agreement_id, orderId="free").status_code == 201


@pytest.mark.parametrize(
    "path",
    ["/recurring/v2/agreements", "/recurring/v2/agreements/agr_1", "/recurring/v4/agreements/charges", "/nothing"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_what_the_vendor_does_not_have_is_not_found(refused: Merchant, method: str, path: str) -> None:
    assert refused.call(method, path).status_code == 404


def test_a_trailing_slash_is_served(merchant: Merchant) -> None:
    assert merchant.call("POST", f"{AGREEMENTS}/", merchant.draft_body()).status_code == 201


def test_another_content_type_is_refused(merchant: Merchant) -> None:
    answer = merchant.client.post(AGREEMENTS, data="{}", headers=merchant.headers(), content_type="text/plain")

    assert answer.status_code == 415
    assert answer.get_json()["type"].endswith("#unsupported-media-type")


NASTY = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"productName": "a\\u0000b"}',
    b'{"productName": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"productName": NaN}',
    b'{"pricing": {"amount": ' + b"9" * 5000 + b"}}",
    b'{"pricing": 1e999}',
    b'{"pricing": [], "interval": "x", "initialCharge": 3, "campaign": [1], "paymentMethod": 0}',
    b'{"merchantRedirectUrl": {}, "scope": [], "externalId": 1}',
    b'{"merchantRedirectUrl": "http://[::1"}',
    b'{"merchantRedirectUrl": "https://x:99999999/"}',
    b'{"campaign": {"type": "PRICE_CAMPAIGN", "end": "9999-99-99"}}',
    b'{"phoneNumber": 47}',
    b"\xff\xfe{}",
    "æ".encode("latin-1"),
]
WRITES = [
    ("POST", AGREEMENTS),
    ("PATCH", f"{AGREEMENTS}/AGR"),
    ("PATCH", f"{AGREEMENTS}/AGR/accept"),
    ("POST", f"{AGREEMENTS}/AGR/charges"),
    ("POST", f"{AGREEMENTS}/charges"),
    ("POST", f"{AGREEMENTS}/AGR/charges/chr-1/capture"),
    ("POST", "/webhooks/v1/webhooks"),
    ("POST", "/sim/clock/advance"),
    ("POST", "/sim/faults"),
    ("POST", "/sim/switches"),
    ("POST", "/sim/agreements/AGR/approve"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_no_body_makes_an_error_of_ours(merchant: Merchant, method: str, path: str) -> None:
    path = path.replace("AGR", merchant.active())

    for raw in NASTY:
        answer = merchant.client.open(
            path, method=method, data=raw, headers=merchant.headers(), content_type="application/json"
        )
        assert answer.status_code in (400, 404, 409) or (path.startswith("/sim/") and raw == b""), (
            raw[:60],
            answer.text,
        )


@pytest.mark.parametrize(
    "path",
    [
        f"{AGREEMENTS}/agr_%00",
        f"{AGREEMENTS}/agr_%FF",
        f"{AGREEMENTS}/agr_{'x' * 5000}",
        "/recurring/v3/charges/%ED%A0%80",
        f"{AGREEMENTS}?status=%00",
    ],
)
def test_no_path_makes_an_error_of_ours(refused: Merchant, path: str) -> None:
    assert refused.call("GET", path).status_code in (400, 404)


def test_a_malformed_agreement_id_has_its_own_name(merchant: Merchant) -> None:
    assert merchant.call("PATCH", f"{AGREEMENTS}/123", {}).get_json()["type"].endswith("#invalid-agreement-id")


def test_an_agreement_that_cannot_be_is_not_found_when_read(refused: Merchant) -> None:
    assert refused.call("GET", f"{AGREEMENTS}/123").status_code == 404


@pytest.mark.parametrize("after", [-(2**63), -1, 253_402_300_800_000, 2**53, 2**63 - 1])
def test_agreements_can_be_asked_for_after_any_instant(refused: Merchant, after: int) -> None:
    assert refused.call("GET", f"{AGREEMENTS}?createdAfter={after}").status_code == 200


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\u2028"])
def test_an_external_id_is_one_line(refused: Merchant, name: str) -> None:
    assert refused.call("POST", AGREEMENTS, refused.draft_body(externalId=name)).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"), [("GET", f"{AGREEMENTS}//charges"), ("HEAD", AGREEMENTS), ("OPTIONS", AGREEMENTS)]
)
def test_what_the_vendor_does_not_have_is_not_there(refused: Merchant, method: str, path: str) -> None:
    assert refused.call(method, path).status_code == 404


def test_a_body_that_is_too_large_is_refused_in_the_gateways_words(refused: Merchant) -> None:
    answer = refused.call("POST", AGREEMENTS, "x" * (8 * 1024 * 1024))

    assert answer.status_code == 413
    assert answer.get_json()["responseInfo"]["responseCode"] == 413


def test_limits_of_the_vendor_can_be_switched_on(merchant: Merchant) -> None:
    merchant.switch(rate_limits=True)

    answers = [merchant.call("GET", AGREEMENTS) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    merchant.advance(minutes=1)
    assert merchant.call("GET", AGREEMENTS).status_code == 200


def test_writes_may_be_answered_with_202(merchant: Merchant) -> None:
    merchant.switch(answer_202=True)
    agreement_id = merchant.active()

    assert merchant.call("PATCH", f"{AGREEMENTS}/{agreement_id}", {"status": "STOPPED"}).status_code == 202


def test_new_things_may_be_hidden_for_a_while(merchant: Merchant) -> None:
    merchant.switch(visibility_seconds=60)
    agreement_id = merchant.draft()["agreementId"]

    assert merchant.call("GET", f"{AGREEMENTS}/{agreement_id}").status_code == 404
    merchant.advance(minutes=1)
    assert merchant.call("GET", f"{AGREEMENTS}/{agreement_id}").status_code == 200


def test_profile_data_is_shown_without_the_subscription_key(merchant: Merchant) -> None:
    agreement = merchant.agreement(merchant.active(scope="name phoneNumber"))
    path = agreement["userinfoUrl"].removeprefix("http://127.0.0.1:8001")
    only_token = {"Authorization": f"Bearer {merchant.token()}"}

    assert merchant.client.get(path, headers=merchant.headers()).status_code == 401
    shown = merchant.client.get(path, headers=only_token).get_json()
    assert shown == {
        "sub": agreement["sub"],
        "sid": agreement["sub"].replace("-", "")[:16],
        "name": "Kari Nordmann",
        "given_name": "Kari",
        "family_name": "Nordmann",
        "phone_number": "4712457890",
        "phone_number_verified": True,
    }


def test_the_instance_of_a_problem_is_json_of_its_own(merchant: Merchant) -> None:
    answer = merchant.call("GET", f"{AGREEMENTS}/agr_unknown")

    assert json.loads(answer.data)["type"] == "about:blank"
    assert json.loads(answer.data)["detail"] == "Agreement not found."
