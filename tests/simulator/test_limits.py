"""Vipps' limits of calls for each minute, and how a refused caller is told when to come again."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from invoice.simulator.app import Simulator
from invoice.simulator.limits import LIMITS
from tests.simulator.conftest import Merchant

AGREEMENTS = "/recurring/v3/agreements"
REFUND = {"amount": 100, "description": "x"}


def calls_of(merchant: Merchant) -> dict[str, tuple[Any, Any]]:
    """Return call -> (one that counts, one on another agreement or charge): each (method, path, body)."""
    first = {"amount": 10_000, "description": "x", "transactionType": "RESERVE_CAPTURE"}
    paths = []
    for name in ("one", "two"):
        agreement_id = merchant.active(initialCharge=first | {"orderId": name})
        paths.append((f"{AGREEMENTS}/{agreement_id}", f"{AGREEMENTS}/{agreement_id}/charges/{name}"))
    (a, ac), (b, bc) = paths
    everybodys = ("GET", AGREEMENTS, None)
    return {
        "create_charge": (("POST", f"{a}/charges", {}), ("POST", f"{b}/charges", {})),
        "cancel_charge": (("DELETE", ac, None), ("DELETE", bc, None)),
        "capture": (("POST", f"{ac}/capture", {"amount": 100}), ("POST", f"{bc}/capture", {"amount": 100})),
        "refund": (("POST", f"{ac}/refund", REFUND), ("POST", f"{bc}/refund", REFUND)),
        "list_agreements": (everybodys, everybodys),
        "update_agreement": (("PATCH", a, {"productName": "x"}), ("PATCH", b, {"productName": "x"})),
        "fetch_charge": (("GET", ac, None), ("GET", bc, None)),
        "fetch_charge_by_id": (("GET", "/recurring/v3/charges/one", None), ("GET", "/recurring/v3/charges/two", None)),
        "list_charges": (("GET", f"{a}/charges", None), ("GET", f"{b}/charges", None)),
        "fetch_agreement": (("GET", a, None), ("GET", b, None)),
        "draft": (("POST", AGREEMENTS, {}), ("POST", AGREEMENTS, {})),
    }


PER_MINUTE = {
    "create_charge": (500, "unit"),
    "cancel_charge": (5, "charge"),
    "capture": (5, "charge"),
    "refund": (5, "charge"),
    "list_agreements": (5, "unit"),
    "update_agreement": (5, "agreement"),
    "fetch_charge": (10, "charge"),
    "fetch_charge_by_id": (100, "unit"),
    "list_charges": (10, "agreement"),
    "fetch_agreement": (120, "agreement"),
    "draft": (300, "unit"),
}


def test_the_table_of_limits_is_whole() -> None:
    assert set(LIMITS) == set(PER_MINUTE)


@pytest.mark.parametrize("name", PER_MINUTE)
def test_each_call_has_the_vendors_limit(merchant: Merchant, name: str) -> None:
    most, counted_for = PER_MINUTE[name]
    call, elsewhere = calls_of(merchant)[name]
    merchant.switch(rate_limits=True)

    statuses = [merchant.call(*call).status_code for _ in range(most + 1)]

    assert 429 not in statuses[:-1]
    assert statuses[-1] == 429
    assert (merchant.call(*elsewhere).status_code == 429) is (counted_for == "unit")
    merchant.advance(minutes=1)
    assert merchant.call(*call).status_code != 429


def test_nothing_is_limited_unless_it_is_asked_for(merchant: Merchant) -> None:
    assert {merchant.call("GET", AGREEMENTS).status_code for _ in range(20)} == {200}


def test_the_batch_endpoint_is_not_held_to_the_limit_of_single_charges(merchant: Merchant) -> None:
    merchant.switch(rate_limits=True)
    agreement_id = merchant.active(pricing={"type": "FLEXIBLE", "currency": "NOK"})
    items = [merchant.charge_body(agreementId=agreement_id, orderId=f"b-{number}") for number in range(600)]

    assert len(merchant.call("POST", f"{AGREEMENTS}/charges", items).get_json()["validCharges"]) == 600


def refused(merchant: Merchant, form: str) -> Any:
    merchant.switch(rate_limits=True, retry_after=form)
    answers = [merchant.call("GET", AGREEMENTS) for _ in range(6)]
    assert answers[-1].status_code == 429
    assert answers[-1].get_json()["responseInfo"]["responseCode"] == 429
    return answers[-1].headers.get("Retry-After")


def test_retry_after_may_be_seconds(merchant: Merchant) -> None:
    assert 0 < int(refused(merchant, "seconds")) <= 60


def test_retry_after_may_be_a_date_on_the_simulated_clock(merchant: Merchant, simulator: Simulator) -> None:
    until: datetime = parsedate_to_datetime(refused(merchant, "http-date"))

    assert 0 < (until - simulator.clock.now()).total_seconds() <= 61
    merchant.advance(seconds=61)
    assert merchant.call("GET", AGREEMENTS).status_code == 200


def test_retry_after_may_be_missing(merchant: Merchant) -> None:
    assert refused(merchant, "none") is None


@pytest.mark.parametrize(("form", "is_number"), [("seconds", True), ("http-date", False)])
def test_a_burst_of_429_can_be_ordered_in_both_forms(merchant: Merchant, form: str, is_number: bool) -> None:
    merchant.switch(retry_after=form)
    merchant.fault("list_agreements", "429", times=3, seconds=30)

    answers = [merchant.call("GET", AGREEMENTS) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [429, 429, 429, 200]
    assert answers[0].headers["Retry-After"].isdigit() is is_number
