"""Long lists within Vipps' limits, and what breaks in the middle: nobody pays twice, every answer is in its place."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import requests

from invoice.services.operations import end_leases
from tests.journeys.agreeing import assert_books_agree
from tests.journeys.stand import Stand, a_stand, a_stand_on_each_database  # noqa: F401 - fixtures
from tests.web.module import FIXED, Module

MOST = 2000


def made(stand: Stand, agreement: str) -> list[dict[str, Any]]:
    return [c for c in stand.ledger()["charges"] if c["agreementId"] == agreement and c["type"] != "INITIAL"]


def statuses(stand: Stand) -> Counter[int]:
    return Counter(e.status for e in stand.exchanges)


def items_of(agreements: list[str], count: int) -> list[dict[str, Any]]:
    """Return so many items, each agreement in its turn."""
    return [
        {"agreement_id": agreements[n % len(agreements)], "price": "100", "charge_id": f"c-{n:04d}"}
        for n in range(count)
    ]


def test_two_thousand_items_are_made_in_their_order_within_the_limits(stand: Stand):
    module = Module(stand).mode(FIXED)
    agreements = [module.agreement() for _ in range(5)]
    stand.switch(rate_limits=True)
    items = items_of(agreements, MOST)
    wrong = {
        7: {"agreement_id": agreements[0], "price": "x", "charge_id": "w-0007"},
        500: {"agreement_id": "agr_unknown", "price": 100, "charge_id": "w-0500"},
        501: 5,
        1200: {"agreement_id": agreements[1], "price": 1_900_000, "charge_id": "w-1200"},
        1999: {"agreement_id": agreements[2], "price": 100, "charge_id": "a b"},
    }
    for place, item in wrong.items():
        items[place] = item

    said = module.ask("charge/make", items)

    good = [item["charge_id"] for place, item in enumerate(items) if place not in wrong]
    assert said["successes"] == good
    assert [error.split(": ")[0] for error in said["errors"]] == [
        agreements[0],
        "agr_unknown",
        "item 502",
        agreements[1],
        agreements[2],
    ]
    assert len(stand.sent("create")) == 1
    stand.live(hours=1)
    names = Counter(c["id"] for agreement in agreements for c in made(stand, agreement))
    assert names == Counter(f"10295-{name}" for name in good)
    assert statuses(stand)[429] == 0
    assert module.ask("charge/make", items)["successes"] == good  # and once more: nothing happens
    # But for the one that Vipps turned down, which is asked for again by itself.
    assert [len(sent.charges) for sent in stand.sent("create")] == [MOST - len(wrong) + 1, 1]
    assert_books_agree(stand)


def test_many_short_lists_stay_within_the_limits(stand: Stand):
    module = Module(stand).mode(FIXED)
    agreements = [module.agreement() for _ in range(3)]
    stand.switch(rate_limits=True)
    items = items_of(agreements, 600)

    for start in range(0, 600, 100):
        said = module.ask("charge/make", items[start : start + 100])
        assert said == {"successes": [item["charge_id"] for item in items[start : start + 100]], "errors": []}

    assert sum(len(made(stand, agreement)) for agreement in agreements) < 600  # the share of this minute is used up
    stand.leap(10, minutes=1)
    assert sum(len(made(stand, agreement)) for agreement in agreements) == 600
    assert statuses(stand)[429] == 0


def test_a_long_list_is_read_agreement_by_agreement(stand: Stand):
    module = Module(stand).mode(FIXED)
    agreements = [module.agreement() for _ in range(4)]
    stand.switch(rate_limits=True)
    wanted = [{"agreement_id": agreements[n % 4] if n % 5 else "agr_unknown"} for n in range(MOST)]

    said = module.ask("charge/get", wanted)

    assert len(said["errors"]) == MOST // 5
    shown = [json.loads(text)[0]["id"] for text in said["successes"]]
    first = {agreement: json.loads(module.ask("charge/get", [{"agreement_id": agreement}])["successes"][0])[0]["id"]
             for agreement in agreements}  # fmt: skip
    assert shown == [first[item["agreement_id"]] for item in wanted if item["agreement_id"] != "agr_unknown"]
    assert statuses(stand)[429] == 0


@pytest.mark.parametrize("path", ["charge/cancel", "charge/refund"])
def test_what_there_is_no_time_for_is_done_by_the_worker(stand: Stand, path: str):
    module = Module(stand).mode(FIXED)
    agreement = module.agreement()
    stand.switch(rate_limits=True)
    stand.services.direct.patience_s = 0.0
    if path == "charge/cancel":
        items = items_of([agreement], 120)
        module.ask("charge/make", items)
    else:
        signed = next(str(c["id"]) for c in stand.ledger()["charges"] if c["agreementId"] == agreement)
        items = [{"agreement_id": agreement, "charge_id": signed, "price": 100}]
    stand.live(minutes=5)
    calls = len(stand.sent("cancel")) + len(stand.sent("refund"))

    said = module.ask(path, items)

    assert said == {"successes": [item["charge_id"] for item in items], "errors": []}
    assert len(stand.sent("cancel")) + len(stand.sent("refund")) == calls
    stand.live(minutes=10)
    if path == "charge/cancel":
        assert {c["status"] for c in made(stand, agreement)} == {"CANCELLED"}
    else:
        assert [c["summary"]["refunded"] for c in stand.ledger()["charges"]] == [100]


# A process that dies: here the thread that serves the request

dying = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@dying
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 101])
def test_a_process_that_dies_at_the_call_charges_once(stand_on_each: Stand, when: str, count: int):
    stand, items = stand_on_each, []
    module = Module(stand).mode(FIXED)
    agreement = module.agreement()
    items = items_of([agreement], count)
    stand.die(when, "create")

    with pytest.raises(requests.ConnectionError):
        module.post("charge/make", items, key="a-key")
    with stand.app.app_context():
        end_leases()
    again = module.ask("charge/make", items, key="a-key")
    stand.live(hours=1)
    last = module.ask("charge/make", items, key="a-key")

    names = [item["charge_id"] for item in items]
    assert [error for error in again["errors"] if "not known yet" not in error] == []
    assert last == {"successes": names, "errors": []}
    assert sorted(c["id"] for c in made(stand, agreement)) == [f"10295-{name}" for name in names]


@dying
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_at_a_refund_gives_back_once(stand_on_each: Stand, when: str):
    stand = stand_on_each
    module = Module(stand).mode(FIXED)
    agreement = module.agreement()
    signed = next(str(c["id"]) for c in stand.ledger()["charges"] if c["agreementId"] == agreement)
    item = {"agreement_id": agreement, "charge_id": signed, "price": 300}
    stand.die(when, "refund_charge")

    with pytest.raises(requests.ConnectionError):
        module.post("charge/refund", [item], key="a-key")
    with stand.app.app_context():
        end_leases()
    module.ask("charge/refund", [item], key="a-key")
    stand.live(hours=1)

    assert module.ask("charge/refund", [item], key="a-key") == {"successes": [signed], "errors": []}
    assert [c["summary"]["refunded"] for c in stand.ledger()["charges"]] == [300]


# Doubt


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "500", "500_after", "drop_after", "down", "502"])
@pytest.mark.parametrize("named", [True, False])
def test_a_charge_in_doubt_is_made_once_however_often_it_is_asked_for(stand: Stand, fault: str, named: bool):
    module = Module(stand).mode(FIXED)
    agreement = module.agreement()
    item = {"agreement_id": agreement, "price": 250} | ({"charge_id": "mine"} if named else {})
    stand.fault("create_charge", fault, times=1)

    answers = [module.ask("charge/make", [item], key="a-key") for _ in range(3)]
    stand.live(minutes=30)
    last = module.ask("charge/make", [item], key="a-key")

    assert all(len(said["successes"]) + len(said["errors"]) == 1 for said in answers)
    [charge] = made(stand, agreement)
    assert (charge["amount"], last["errors"]) == (250, [])
    assert charge["id"] == (f"10295-{last['successes'][0]}" if named else last["successes"][0])


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "500_after"])
def test_a_batch_in_doubt_is_made_once(stand: Stand, fault: str):
    module = Module(stand).mode(FIXED)
    agreement = module.agreement()
    items = items_of([agreement], 101)
    stand.fault("create_charges", fault, times=1)

    said = module.ask("charge/make", items)
    assert len(said["errors"]) == 101
    assert all("The outcome is not known yet" in error for error in said["errors"])
    stand.live(minutes=30)

    assert module.ask("charge/make", items) == {"successes": [item["charge_id"] for item in items], "errors": []}
    assert len(made(stand, agreement)) == 101


def test_charges_made_here_are_paid_and_read_like_all_others(stand: Stand):
    module = Module(stand).mode(FIXED)
    number = stand.active()
    agreement = stand.at_vipps(number)
    module.ask(
        "charge/make", [{"agreement_id": agreement, "price": "2500", "charge_id": "mine", "description": "Frakt"}]
    )

    stand.live(days=4)

    [extra] = [c for c in stand.charges(number) if c.is_extra]
    assert (extra.status, extra.captured) == ("CHARGED", 2500)
    assert "charge.charged" in stand.events(number)
    [shown] = module.ask("charge/get", [{"agreement_id": agreement}])["successes"]
    assert {"id": "mine", "status": "CHARGED", "description": "Frakt"}.items() <= json.loads(shown)[1].items()
    said = module.ask("charge/refund", [{"agreement_id": agreement, "charge_id": "10295-mine", "price": 2500}])
    assert said == {"successes": ["10295-mine"], "errors": []}
    stand.settle()
    assert [c.status for c in stand.charges(number) if c.is_extra] == ["REFUNDED"]
