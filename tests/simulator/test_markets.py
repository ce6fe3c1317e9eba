"""Norway, Denmark and Finland: a sales unit each, with its own calendar, currency and limits, and nothing shared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from invoice.simulator.app import Simulator
from invoice.simulator.market import MARKETS
from tests.simulator.conftest import Merchant, Receiver
from tests.simulator.units import UnitMerchant, danish, finnish

AGREEMENTS = "/recurring/v3/agreements"
HOOKS = "/webhooks/v1/webhooks"
OTHERS = pytest.mark.parametrize("abroad", [danish, finnish])
Abroad = Callable[[Simulator], UnitMerchant]


def captured_at(merchant: Merchant, charge_id: str) -> str:
    return str(merchant.fetch(charge_id)["history"][-1]["occurred"])


def keep_empty(merchant: Merchant, agreement_id: str, available: bool | None = False) -> None:
    merchant.switch(funds={"agreementId": agreement_id, "available": available})


# The calendar


@pytest.mark.parametrize(
    ("abroad", "at"),
    [(Merchant, "2030-01-20T08:00:00Z"), (danish, "2030-01-20T02:00:00Z"), (finnish, "2030-01-20T01:00:00Z")],
)
def test_each_market_takes_the_money_in_its_own_main_batch(simulator: Simulator, abroad: Any, at: str) -> None:
    merchant = abroad(simulator)
    charge_id = merchant.charge(merchant.active())

    merchant.advance(days=6)

    assert captured_at(merchant, charge_id) == at


@pytest.mark.parametrize("hour", [13, 18, 20, 22, 23])
@pytest.mark.parametrize(("abroad", "ahead"), [(danish, 1), (finnish, 2)])
def test_denmark_and_finland_try_again_five_times_a_day(
    simulator: Simulator, abroad: Abroad, ahead: int, hour: int
) -> None:
    merchant = abroad(simulator)
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id)
    keep_empty(merchant, agreement_id)
    simulator.clock.move(timedelta(days=4, hours=15 + hour - ahead, minutes=-1))  # a minute before that batch
    simulator.run_due()
    assert merchant.status(charge_id) == "DUE"

    keep_empty(merchant, agreement_id, True)
    merchant.advance(minutes=2)

    assert captured_at(merchant, charge_id) == f"2030-01-20T{hour - ahead:02d}:00:00Z"


def test_a_finnish_day_begins_an_hour_before_a_norwegian_one(simulator: Simulator, merchant: Merchant) -> None:
    abroad = finnish(simulator)
    here, there = merchant.active(), abroad.active()
    merchant.advance(hours=13, minutes=30)  # 23:30 in Oslo, 00:30 on the 16th in Helsinki

    assert merchant.post_charge(here, due="2030-01-16").status_code == 201
    assert abroad.post_charge(there, due="2030-01-16").get_json()["type"].endswith("#charge-due-too-soon")
    assert abroad.post_charge(there, due="2030-01-17").status_code == 201


@OTHERS
def test_a_reservation_abroad_lives_fourteen_days(simulator: Simulator, abroad: Abroad) -> None:
    merchant = abroad(simulator)
    first = {"amount": 4900, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}
    merchant.active(initialCharge=first)

    simulator.clock.move(timedelta(days=13, hours=23))
    simulator.run_due()
    assert merchant.on_charge("held", "capture", {"amount": 900}).status_code == 204
    simulator.clock.move(timedelta(hours=1))
    late = merchant.on_charge("held", "capture", {"amount": 900})  # before anybody has let it go
    simulator.run_due()

    assert "deadline" in late.get_json()["detail"]
    assert merchant.fetch("held")["summary"] == {"captured": 900, "refunded": 0, "cancelled": 4000}
    assert merchant.status("held") == "CHARGED"


def test_late_capture_gives_a_reservation_abroad_180_days(simulator: Simulator) -> None:
    merchant = danish(simulator)
    merchant.switch(late_capture=True)
    first = {"amount": 4900, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}
    merchant.active(initialCharge=first)

    merchant.advance(days=179)

    assert merchant.on_charge("held", "capture", {"amount": 4900}).status_code == 204


# Currency and limits


@pytest.mark.parametrize(
    ("abroad", "currency", "country"), [(Merchant, "NOK", "NO"), (danish, "DKK", "DK"), (finnish, "EUR", "FI")]
)
def test_agreements_charges_and_events_are_in_the_markets_currency(
    simulator: Simulator, receiver: Receiver, abroad: Any, currency: str, country: str
) -> None:
    merchant = abroad(simulator)
    merchant.register(receiver.url)
    agreement_id = merchant.active(
        initialCharge={"amount": 500, "description": "x", "transactionType": "DIRECT_CAPTURE"}
    )
    simulator.run_due()

    agreement = merchant.agreement(agreement_id)
    assert (agreement["pricing"]["currency"], agreement["countryCode"]) == (currency, country)
    assert merchant.fetch(merchant.charge(agreement_id))["currency"] == currency
    assert receiver.bodies[0]["currency"] == currency
    assert {body["msn"] for body in receiver.bodies} == {merchant.headers()["Merchant-Serial-Number"]}


@pytest.mark.parametrize("currency", ["NOK", "DKK", "EUR", "SEK"])
@pytest.mark.parametrize("abroad", [Merchant, danish, finnish])
def test_only_the_markets_own_currency_is_taken(simulator: Simulator, abroad: Any, currency: str) -> None:
    merchant = abroad(simulator)
    own = merchant.draft_body()["pricing"]["currency"]
    pricing = {"type": "LEGACY", "amount": 9900, "currency": currency}

    answer = merchant.call("POST", AGREEMENTS, merchant.draft_body(pricing=pricing))

    assert answer.status_code == (201 if currency == own else 400)


@pytest.mark.parametrize(
    ("abroad", "least", "most"), [(Merchant, 100, 2_000_000), (danish, 1, 30_000_000), (finnish, 1, 200_000)]
)
def test_each_currency_has_a_smallest_and_a_largest_amount(
    simulator: Simulator, abroad: Any, least: int, most: int
) -> None:
    merchant = abroad(simulator)
    currency = merchant.draft_body()["pricing"]["currency"]
    agreement_id = merchant.active(pricing={"type": "FLEXIBLE", "currency": currency})

    def drafted(amount: int) -> int:
        pricing = {"type": "LEGACY", "amount": amount, "currency": currency}
        return merchant.call("POST", AGREEMENTS, merchant.draft_body(pricing=pricing)).status_code

    assert [drafted(amount) for amount in (least - 1, least, most, most + 1)] == [400, 201, 201, 400]
    charged = [
        merchant.post_charge(agreement_id, amount=amount).status_code for amount in (least - 1, least, most, most + 1)
    ]
    assert charged == [400, 201, 201, 400]


def test_one_oere_and_one_cent_can_be_captured_and_refunded_abroad(simulator: Simulator) -> None:
    for merchant in (danish(simulator), finnish(simulator)):
        first = {"amount": 50, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}
        merchant.active(initialCharge=first)

        assert merchant.on_charge("held", "capture", {"amount": 1}).status_code == 204
        assert merchant.on_charge("held", "capture", {"amount": 0}).status_code == 400
        assert merchant.on_charge("held", "refund", {"amount": 1, "description": "x"}).status_code == 204


@OTHERS
def test_only_norwegians_must_name_a_manage_page(simulator: Simulator, abroad: Abroad, merchant: Merchant) -> None:
    foreign = abroad(simulator)

    agreement_id = foreign.active(merchantAgreementUrl=None)

    assert foreign.agreement(agreement_id)["merchantAgreementUrl"] is None
    http = foreign.draft_body(merchantAgreementUrl="http://shop.example.com/")
    assert foreign.call("POST", AGREEMENTS, http).status_code == 400
    assert merchant.call("POST", AGREEMENTS, merchant.draft_body(merchantAgreementUrl=None)).status_code == 400


@pytest.mark.parametrize("amount", [197, 202])
def test_two_test_amounts_fail_only_in_norway(simulator: Simulator, merchant: Merchant, amount: int) -> None:
    first = {"amount": amount, "description": "x", "transactionType": "DIRECT_CAPTURE"}

    def approved(unit: Merchant) -> str:
        agreement_id = unit.draft(initialCharge=first)["agreementId"]
        return str(unit.decide(agreement_id, "approve").get_json()["status"])

    assert [approved(unit) for unit in (merchant, danish(simulator), finnish(simulator))] == [
        *("EXPIRED", "ACTIVE", "ACTIVE")
    ]


# Nothing of one unit exists for another


def test_another_units_agreements_and_charges_do_not_exist(simulator: Simulator, merchant: Merchant) -> None:
    other = danish(simulator)
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id)
    path = f"{AGREEMENTS}/{agreement_id}"
    asked: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("PATCH", path, {"status": "STOPPED"}),
        ("PATCH", f"{path}/accept", {"phoneNumber": "4712457890"}),
        ("GET", f"{path}/charges", None),
        ("POST", f"{path}/charges", merchant.charge_body()),
        ("GET", f"{path}/charges/{charge_id}", None),
        ("GET", f"/recurring/v3/charges/{charge_id}", None),
        ("DELETE", f"{path}/charges/{charge_id}", None),
        ("POST", f"{path}/charges/{charge_id}/capture", {"amount": 100}),
        ("POST", f"{path}/charges/{charge_id}/refund", {"amount": 100, "description": "x"}),
    ]

    assert {other.call(*each).status_code for each in asked} == {404}

    bulk = other.call("POST", f"{AGREEMENTS}/charges", [merchant.charge_body(agreementId=agreement_id, orderId="b-1")])
    assert bulk.get_json()["validCharges"] == []
    assert other.call("GET", AGREEMENTS).get_json() == []
    assert merchant.agreement(agreement_id)["status"] == "ACTIVE"
    assert merchant.status(charge_id) == "DUE"


def test_an_order_id_may_be_used_by_each_unit(simulator: Simulator, merchant: Merchant) -> None:
    other = danish(simulator)
    merchant.charge(merchant.active(), orderId="jan-1", amount=9900)
    other.charge(other.active(), orderId="jan-1", amount=5000)

    assert (merchant.fetch("jan-1")["amount"], other.fetch("jan-1")["amount"]) == (9900, 5000)
    assert [line["event"] for line in other.fetch("jan-1")["history"]] == ["CREATE"]
    assert other.post_charge(other.active(), orderId="jan-1").status_code == 409


def test_an_idempotency_key_means_something_else_in_each_unit(simulator: Simulator, merchant: Merchant) -> None:
    other = danish(simulator)

    one = merchant.post_charge(merchant.active(), key="same").get_json()
    two = other.post_charge(other.active(), key="same", amount=5000)

    assert two.status_code == 201
    assert two.get_json() != one


def test_webhooks_belong_to_their_unit(simulator: Simulator, merchant: Merchant, receiver: Receiver) -> None:
    other = danish(simulator)
    made = merchant.register(receiver.url)

    other.active()
    simulator.run_due()

    assert receiver.bodies == []
    assert other.call("GET", HOOKS).get_json() == {"webhooks": []}
    assert other.call("DELETE", f"{HOOKS}/{made['id']}").status_code == 400
    for number in range(25):
        other.register(f"https://shop.example.com/{number}")
    assert merchant.register("https://shop.example.com/more")["secret"]
    assert other.call("POST", HOOKS, {"url": "https://shop.example.com/more", "events": ["a.b.v1"]}).status_code == 201


def test_limits_are_counted_for_each_unit(simulator: Simulator, merchant: Merchant) -> None:
    other = danish(simulator)
    merchant.switch(rate_limits=True)

    for _ in range(6):
        last = merchant.call("GET", AGREEMENTS)

    assert last.status_code == 429
    assert other.call("GET", AGREEMENTS).status_code == 200


def test_a_profile_is_shown_only_to_the_unit_that_was_consented_to(simulator: Simulator, merchant: Merchant) -> None:
    path = merchant.agreement(merchant.active(scope="name"))["userinfoUrl"].removeprefix("http://127.0.0.1:8001")

    def asked(unit: Merchant) -> int:
        return unit.client.get(path, headers={"Authorization": f"Bearer {unit.token()}"}).status_code

    assert (asked(merchant), asked(danish(simulator))) == (200, 404)


@pytest.mark.parametrize(
    ("name", "status"), [("Ocp-Apim-Subscription-Key", 401), ("Authorization", 401), ("Merchant-Serial-Number", 403)]
)
def test_keys_of_two_units_do_not_go_together(simulator: Simulator, merchant: Merchant, name: str, status: int) -> None:
    mixed = {**merchant.headers(), name: danish(simulator).headers()[name]}

    answer = merchant.client.get(AGREEMENTS, headers=mixed)

    assert answer.status_code == status
    if status == 403:
        assert answer.get_json()["type"].endswith("#invalid-sale-unit")


@pytest.mark.parametrize("name", ["client_id", "client_secret", "Ocp-Apim-Subscription-Key"])
def test_a_token_needs_keys_of_one_unit(simulator: Simulator, merchant: Merchant, name: str) -> None:
    mixed = {**merchant.keys(), name: finnish(simulator).keys()[name]}

    assert merchant.client.post("/accesstoken/get", headers=mixed).status_code == 401


def test_either_subscription_key_will_do(merchant: Merchant) -> None:
    second = {"Ocp-Apim-Subscription-Key": "demo-subscription-key-2"}

    assert merchant.client.post("/accesstoken/get", headers=merchant.keys() | second).status_code == 200
    assert merchant.client.get(AGREEMENTS, headers=merchant.headers() | second).status_code == 200


# What people see


def test_the_pages_speak_of_the_markets_money_and_brand(simulator: Simulator) -> None:
    merchant = finnish(simulator)
    path = merchant.draft(phoneNumber="358401234567")["vippsConfirmationUrl"].removeprefix("http://127.0.0.1:8001")

    page = merchant.client.get(path).text
    phone = merchant.client.get("/sim/phone/358401234567").text

    assert "99,00\u00a0€" in page
    assert "Demokauppa" in page
    assert 'data-zone="Europe/Helsinki"' in phone
    assert "03:00, 13:00, 18:00, 20:00, 22:00 and 23:00, FI time" in " ".join(phone.split())


@pytest.mark.parametrize(("day", "brand"), [("2027-01-11", "MobilePay"), ("2027-01-12", "Vipps")])
def test_mobilepay_becomes_vipps_on_a_day(day: str, brand: str) -> None:
    at = datetime.fromisoformat(f"{day}T12:00:00+00:00")

    assert MARKETS["DK"].brand(at) == brand
    assert MARKETS["NO"].brand(at) == "Vipps"


def test_the_start_page_and_the_control_api_name_all_units(simulator: Simulator, merchant: Merchant) -> None:
    units = merchant.client.get("/sim/units").get_json()["units"]
    page = merchant.client.get("/sim/").text

    assert [(unit["merchantSerialNumber"], unit["market"]) for unit in units] == [
        *(("123456", "NO"), ("234567", "DK"), ("345678", "FI"))
    ]
    for unit in units:
        assert all(str(unit[name]) in page for name in ("merchantSerialNumber", "client_id", "client_secret"))
