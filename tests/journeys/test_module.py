"""What a system that calls the Drupal module does, and the books after it: to the minor unit those of Vipps."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from invoice.lifecycle import SubscriptionStatus
from tests.journeys.agreeing import assert_books_agree
from tests.journeys.stand import (
    PARTNER,
    Stand,
    a_stand,  # noqa: F401 - a fixture
    a_stand_on_each_database,  # noqa: F401 - a fixture
)
from tests.web.module import FIXED, MODES, NO_BODY, STRICT, Module, elsewhere


def shown(module: Module, agreement: str) -> dict[str, tuple[str, int]]:
    """Return (status, what was given back) of an agreement's charges, as the partner reads them."""
    [text] = module.ask("charge/get", [{"agreement_id": agreement}])["successes"]
    return {c["id"]: (c["status"], c["amountRefunded"]) for c in json.loads(text)}


def told(mode: str, done: str) -> dict[str, Any]:
    """Return how a thing is told that Vipps has done and answered with 204."""
    errors = [f"{done}: {NO_BODY}"] if mode == STRICT else []
    return {"successes": [] if mode == STRICT else [done], "errors": errors}


@pytest.mark.parametrize("mode", MODES)
def test_charges_are_made_shown_called_off_and_given_back_beside_the_calendar(stand_on_each: Stand, mode: str):
    stand = stand_on_each
    module = Module(stand).mode(mode)
    number = stand.active()
    agreement = stand.at_vipps(number)
    items = [
        {"agreement_id": agreement, "price": 12000 + n, "charge_id": f"frakt-{n}", "description": "Frakt"}
        for n in range(3)
    ]

    assert module.ask("charge/make", items) == {"successes": ["frakt-0", "frakt-1", "frakt-2"], "errors": []}
    assert module.ask("charge/cancel", [items[0]]) == told(mode, "frakt-0")
    stand.live(days=3)
    assert module.ask("charge/refund", [items[1] | {"price": 2000}]) == told(mode, "frakt-1")
    assert module.ask("charge/refund", [items[2]]) == told(mode, "frakt-2")
    stand.live(days=12)

    assert_books_agree(stand)
    states = shown(module, agreement)
    assert states["frakt-0"] == ("CANCELLED", 0)
    assert states["frakt-1"] == ("PARTIALLY_REFUNDED", 2000)
    assert states["frakt-2"] == ("REFUNDED", 12002)
    assert [c.period for c in stand.charges(number) if c.status == "CHARGED" and not c.is_extra] == [0, 1, 2]
    assert module.ask("agreement/get", agreement)["status"] == "ACTIVE"

    assert module.ask("agreement/cancel", [agreement]) == told(mode, agreement)

    stand.live(days=10)
    assert module.ask("agreement/get", agreement)["status"] == "STOPPED"
    assert stand.status(number) == SubscriptionStatus.CANCELLED
    after = module.ask("charge/make", [items[0] | {"charge_id": "after"}])
    assert (after["successes"], len(after["errors"])) == ([], 1)
    assert [c.period for c in stand.charges(number) if c.status == "CHARGED" and not c.is_extra] == [0, 1, 2]
    assert_books_agree(stand)


def test_an_agreement_that_was_signed_elsewhere_lives_on_in_our_books(stand: Stand):
    module = Module(stand).mode(FIXED).bring()
    agreement = elsewhere(stand)
    item = {"agreement_id": agreement, "price": "4900", "charge_id": "juli"}

    for _ in range(3):
        assert module.ask("charge/make", [item]) == {"successes": ["juli"], "errors": []}
    stand.live(days=4)
    assert module.ask("charge/refund", [item | {"price": 900}]) == {"successes": ["juli"], "errors": []}
    stand.live(days=40)

    assert shown(module, agreement) == {"juli": ("PARTIALLY_REFUNDED", 900)}
    assert_books_agree(stand)
    assert module.ask("agreement/cancel", [agreement]) == {"successes": [agreement], "errors": []}
    stand.live(minutes=5)
    assert_books_agree(stand)


@pytest.mark.parametrize("fault", ["500", "500_after", "drop_after", "429", "down"])
@pytest.mark.parametrize("mode", MODES)
def test_whatever_goes_wrong_a_caller_that_names_its_charges_and_asks_again_pays_once(
    stand: Stand, mode: str, fault: str
):
    module = Module(stand).mode(mode)
    agreement = stand.at_vipps(stand.active())
    items = [{"agreement_id": agreement, "price": 100 + n, "charge_id": f"c-{n}"} for n in range(5)]
    stand.fault("*", fault)

    module.ask("charge/make", items)
    stand.live(minutes=10)
    stand.end_faults()
    module.ask("charge/make", items)
    stand.live(hours=2)

    assert module.ask("charge/make", items) == {"successes": [item["charge_id"] for item in items], "errors": []}
    stand.live(days=5)
    taken = Counter(
        (c["id"], c["amount"]) for c in stand.ledger()["charges"] if c["status"] == "CHARGED" and "-c-" in c["id"]
    )
    assert taken == Counter((f"{PARTNER}-c-{n}", 100 + n) for n in range(5))
    assert_books_agree(stand)


@pytest.mark.parametrize("fault", ["500", "500_after", "drop_after", "429"])
def test_what_strict_tells_as_failed_is_never_taken(stand: Stand, fault: str):
    """Its caller names nothing, takes an error for the end of it, and makes another one."""
    module = Module(stand).mode(STRICT)
    agreement = stand.at_vipps(stand.active())
    stand.fault("create_charge", fault, times=1)

    first = module.ask("charge/make", [{"agreement_id": agreement, "price": 100}])
    second = module.ask("charge/make", [{"agreement_id": agreement, "price": 100}])
    stand.live(days=5)

    assert (len(first["errors"]), len(second["successes"])) == (1, 1)
    extra = [c for c in stand.ledger()["charges"] if c["agreementId"] == agreement and c["amount"] == 100]
    assert [c["id"] for c in extra if c["status"] == "CHARGED"] == second["successes"]
    assert {c["status"] for c in extra} <= {"CHARGED", "CANCELLED"}
    assert_books_agree(stand)


def test_a_long_list_with_two_bad_items_is_paid_to_the_last_of_the_others(stand: Stand):
    """Two hundred, so that the days until they are paid pass quickly; 2,000 are made in the tests of long lists."""
    module = Module(stand).mode(FIXED)
    agreements = [stand.at_vipps(stand.active()) for _ in range(5)]
    stand.switch(rate_limits=True)
    items: list[Any] = [
        {"agreement_id": agreements[n % 5], "price": "100", "charge_id": f"n-{n:04d}"} for n in range(200)
    ]
    items[77] = {"agreement_id": agreements[0]}
    items[150] = items[150] | {"price": 1_000_000}  # more than five prices: Vipps turns this one down

    said = module.ask("charge/make", items)

    good = [item["charge_id"] for n, item in enumerate(items) if n not in (77, 150)]
    assert said["successes"] == good
    assert [error.split(": ")[0] for error in said["errors"]] == [agreements[0], agreements[0]]
    stand.live(days=4)
    taken = {c["id"] for c in stand.ledger()["charges"] if c["status"] == "CHARGED" and c["type"] != "INITIAL"}
    assert {f"{PARTNER}-{name}" for name in good} <= taken
    assert_books_agree(stand)
    assert 429 not in {exchange.status for exchange in stand.exchanges}
