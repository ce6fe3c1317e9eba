"""Every name that Vipps has for a refusal, and its three shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from invoice.simulator.app import create_simulator
from invoice.simulator.problems import PROBLEMS
from tests.simulator.conftest import START, Merchant

AGREEMENTS = "/recurring/v3/agreements"
PAID = {"amount": 10_000, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "paid"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Merchant]:
    """A merchant whose traffic is not held against the vendor's file, which does not know 406 and 410."""
    made = create_simulator(tmp_path / "data", base_url="http://127.0.0.1:8001")
    made.clock.move(START - made.clock.now())
    yield Merchant(made)
    made.stop()


def draft(shop: Merchant, **changes: object) -> TestResponse:
    return shop.call("POST", AGREEMENTS, shop.draft_body(**changes))


def paid(shop: Merchant) -> str:
    shop.active(initialCharge=PAID)
    return "paid"


def twice(shop: Merchant) -> TestResponse:
    agreement_id = shop.active()
    shop.post_charge(agreement_id, key="once")
    return shop.post_charge(agreement_id, key="once", amount=200)


def called_off(shop: Merchant) -> TestResponse:
    charge_id = shop.charge(shop.active())
    shop.on_charge(charge_id, "cancel")
    return shop.on_charge(charge_id, "cancel")


def taken(shop: Merchant) -> TestResponse:
    agreement_id = shop.active(initialCharge=PAID)
    return shop.post_charge(agreement_id, orderId="paid")


VARIABLE = {"type": "VARIABLE", "suggestedMaxAmount": 99, "currency": "NOK"}
UNSCHEDULED = {"type": "UNSCHEDULED", "due": None, "retryDays": None}
# name -> (status, what makes it)
REFUSALS: dict[str, tuple[int, Callable[[Merchant], TestResponse]]] = {
    "validation-error": (400, lambda shop: draft(shop, productName="x" * 46)),
    "invalid-agreement-id": (400, lambda shop: shop.call("PATCH", f"{AGREEMENTS}/123", {})),
    "invalid-json": (
        400,
        lambda shop: shop.client.post(AGREEMENTS, data="{", headers=shop.headers(), content_type="application/json"),
    ),
    "unsupported-media-type": (
        415,
        lambda shop: shop.client.post(AGREEMENTS, data="x", headers=shop.headers(), content_type="text/plain"),
    ),
    "not-authorized": (403, lambda shop: draft(shop, skipLandingPage=True)),
    "idempotency-key-header": (400, lambda shop: shop.call("POST", AGREEMENTS, shop.draft_body(), key="a:b")),
    "missing-request-header": (
        400,
        lambda shop: shop.call("POST", AGREEMENTS, shop.draft_body(), **{"Idempotency-Key": ""}),
    ),
    "charge-amount-too-high": (400, lambda shop: shop.post_charge(shop.active(), amount=49_501)),
    "charge-due-too-soon": (400, lambda shop: shop.post_charge(shop.active(), due="2030-01-15")),
    "charge-due-in-too-long": (400, lambda shop: shop.post_charge(shop.active(), due="2032-01-16")),
    "unsupported-feature": (400, lambda shop: shop.post_charge(shop.active(), **UNSCHEDULED)),
    "illegal-agreement-update": (
        400,
        lambda shop: shop.call("PATCH", f"{AGREEMENTS}/{shop.draft()['agreementId']}", {"productName": "x"}),
    ),
    "invalid-suggested-max-amount": (400, lambda shop: draft(shop, pricing=VARIABLE)),
    "cancel-charge-failed": (400, called_off),
    "charge-creation-failed": (400, lambda shop: shop.post_charge(shop.draft()["agreementId"])),
    "charge-capture-failed": (400, lambda shop: shop.on_charge(paid(shop), "capture", {"amount": 100})),
    "invalid-sale-unit": (403, lambda shop: shop.call("GET", AGREEMENTS, **{"Merchant-Serial-Number": "654321"})),
    "resource-not-found": (404, lambda shop: shop.call("GET", f"{AGREEMENTS}/agr_unknown")),
    "operation-failed": (
        400,
        lambda shop: shop.on_charge(paid(shop), "refund", {"amount": 10_001, "description": "x"}),
    ),
    "not-acceptable": (406, lambda shop: shop.call("GET", AGREEMENTS, Accept="text/html")),
    "conflict": (409, taken),
    "idempotency-conflict": (409, twice),
}


def test_every_name_of_a_refusal_has_something_that_makes_it() -> None:
    assert set(REFUSALS) == set(PROBLEMS)


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_name_and_the_vendors_shape(shop: Merchant, name: str) -> None:
    status, refuse = REFUSALS[name]

    answer = refuse(shop)

    problem = answer.get_json()
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert set(problem) == {"type", "title", "status", "detail", "instance", "contextId", "extraDetails"}
    page = "https://developer.vippsmobilepay.com/docs/APIs/recurring-api/recurring-api-problems#"
    assert problem["type"] == ("about:blank" if status == 404 else page + name)
    assert problem["status"] == status
    assert problem["instance"].startswith("/vipps-recurring-merchant-api/v3/")
    assert all(set(detail) == {"name", "reason"} for detail in problem["extraDetails"])


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*", "text/html, */*;q=0.1"])
def test_whoever_takes_json_gets_it(shop: Merchant, accept: str) -> None:
    assert shop.call("GET", AGREEMENTS, Accept=accept).status_code == 200


def test_a_unit_without_recurring_is_an_invalid_sale_unit(shop: Merchant) -> None:
    agreement_id = shop.active()
    shop.switch(recurring_activated=False)

    for answer in (shop.call("GET", AGREEMENTS), draft(shop), shop.post_charge(agreement_id)):
        assert (answer.status_code, answer.get_json()["type"].rpartition("#")[2]) == (403, "invalid-sale-unit")
    assert shop.client.post("/accesstoken/get", headers=shop.keys()).status_code == 200
    assert shop.call("GET", "/webhooks/v1/webhooks").status_code == 200


@pytest.mark.parametrize(
    ("status", "path"), [(404, "/recurring/v2/agreements"), (410, "/recurring/v2/agreements/agr_1")]
)
def test_v2_is_gone_in_the_way_that_the_switch_says(shop: Merchant, status: int, path: str) -> None:
    shop.switch(v2_status=status)

    assert {shop.call(method, path, {}).status_code for method in ("GET", "POST", "PATCH")} == {status}
    assert shop.call("GET", "/recurring/v1/agreements").status_code == 404


@pytest.mark.parametrize(("sent", "said"), [("", "missing"), ("wrong", "invalid")])
def test_the_gateway_says_what_is_wrong_with_a_subscription_key(shop: Merchant, sent: str, said: str) -> None:
    answer = shop.call("GET", AGREEMENTS, **{"Ocp-Apim-Subscription-Key": sent})

    assert answer.get_json() == {
        "responseInfo": {"responseCode": 401, "responseMessage": "Unauthorized"},
        "result": {"message": f"Access denied due to {said} subscription key."},
    }
