"""The simulator's own API: clock, follower, ledger, decisions, faults, switches; and a sudden end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from invoice.simulator import payments
from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.faults import CALLS, KINDS
from tests.simulator.conftest import START, Merchant, Receiver


def now(merchant: Merchant) -> datetime:
    return datetime.fromisoformat(merchant.client.get("/sim/clock").get_json()["now"])


def near(moment: datetime, expected: datetime) -> bool:
    """Whether the clock, which also runs by itself, stands where it should."""
    return timedelta(0) <= moment - expected < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ({"days": 1}, datetime.fromisoformat("2030-01-16T09:00:00+00:00")),
        ({"weeks": 1, "hours": 2}, datetime.fromisoformat("2030-01-22T11:00:00+00:00")),
        ({"months": 1, "minutes": 3, "seconds": 4}, datetime.fromisoformat("2030-02-15T09:03:04+00:00")),
    ],
)
def test_the_clock_moves_by_exactly_what_was_asked(merchant: Merchant, by: dict[str, int], expected: datetime) -> None:
    merchant.advance(**by)

    assert near(now(merchant), expected)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"days": -1}, "days"),
        ({"days": 1.5}, "days"),
        ({"days": "1"}, "days"),
        ({"years": 1}, "years"),
        ({"months": 121}, "months"),
        ({}, "months"),
        ({"days": 4000}, "days"),
        ([], "body"),
        ({"seconds": 10**12}, "seconds"),
    ],
)
def test_a_wrong_move_is_refused_and_the_field_named(merchant: Merchant, body: Any, field: str) -> None:
    answer = merchant.client.post("/sim/clock/advance", json=body)

    assert answer.status_code == 400
    assert field in answer.get_json()["error"]
    assert near(now(merchant), START)


def test_the_clock_stands_where_it_stood_after_a_restart(
    simulator: Simulator, merchant: Merchant, tmp_path: Path
) -> None:
    merchant.advance(days=10)
    simulator.stop()

    again = create_simulator(tmp_path / "data", base_url="http://127.0.0.1:8001")
    moment = again.clock.now()
    again.stop()

    assert near(moment, START + timedelta(days=10))


def test_a_move_walks_in_steps_of_at_most_twelve_hours_and_asks_the_follower_after_each(
    simulator: Simulator, merchant: Merchant
) -> None:
    seen: list[datetime] = []
    simulator.follower = lambda: bool(seen.append(simulator.clock.now()))

    merchant.advance(days=1)

    steps = [later - earlier for earlier, later in zip(seen, seen[1:], strict=False)]
    assert max(steps) < timedelta(hours=12, seconds=30)
    assert len(seen) >= 3


def test_a_move_lands_on_the_batches(simulator: Simulator, merchant: Merchant) -> None:
    charge_id = merchant.charge(merchant.active(), due="2030-01-16")
    seen: list[datetime] = []
    simulator.follower = lambda: bool(seen.append(simulator.clock.now()))

    merchant.advance(days=2)

    assert merchant.status(charge_id) == "CHARGED"
    assert any(near(moment, datetime.fromisoformat("2030-01-16T08:00:00+00:00")) for moment in seen)


def test_a_move_goes_on_only_when_neither_side_has_work_left(
    simulator: Simulator, merchant: Merchant, receiver: Receiver
) -> None:
    """The other side charges again whenever it is told of a charge: a year leaves twelve, four weeks apart."""
    merchant.register(receiver.url, ["recurring.charge-captured.v1"])
    agreement_id = merchant.active()
    merchant.charge(agreement_id, due="2030-02-15")

    def follow() -> bool:
        told = len(receiver.bodies)
        receiver.bodies.clear()
        for _ in range(told):
            due = simulator.clock.now() + timedelta(days=28)
            merchant.charge(agreement_id, due=due.date().isoformat())
        return told > 0

    simulator.follower = follow
    merchant.advance(days=365)

    charges = [row for row in merchant.client.get("/sim/ledger").get_json()["charges"] if row["status"] == "CHARGED"]
    captured = [datetime.fromisoformat(row["capturedAt"]) for row in charges]
    assert len(captured) == 12
    assert {(later - earlier).days for earlier, later in zip(captured, captured[1:], strict=False)} <= {27, 28}


def test_two_sides_that_keep_each_other_busy_do_not_hang_the_clock(
    simulator: Simulator, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invoice.simulator.time_machine._MOST_ROUNDS", 3)
    simulator.follower = lambda: True

    merchant.advance(days=1)

    assert near(now(merchant), START + timedelta(days=1))


def test_only_one_move_at_a_time(simulator: Simulator, merchant: Merchant) -> None:
    inside: list[int] = []

    def follow() -> bool:
        if not inside:
            inside.append(merchant.client.post("/sim/clock/advance", json={"days": 1}).status_code)
        return False

    simulator.follower = follow
    merchant.advance(days=1)

    assert inside == [409]


def test_an_empty_year_passes_in_seconds(simulator: Simulator, merchant: Merchant) -> None:
    begun = datetime.now().astimezone()

    merchant.advance(days=365)

    assert (
        datetime.now().astimezone() - begun
    ).total_seconds() < 1460 * 0.003 * 2  # twice the budget, for slow machines


def test_the_ledger_holds_agreements_charges_and_refunds(merchant: Merchant) -> None:
    first = {"amount": 4900, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "first-1"}
    agreement_id = merchant.active(initialCharge=first)
    merchant.on_charge("first-1", "refund", {"amount": 900, "description": "Beklager"}, key="back")

    ledger = merchant.client.get("/sim/ledger").get_json()

    (agreement,), (charge,), (refund,) = ledger["agreements"], ledger["charges"], ledger["refunds"]
    assert (agreement["id"], agreement["externalId"], agreement["phoneNumber"]) == (agreement_id, "sub-1", "4712457890")
    assert (charge["id"], charge["orderId"], charge["type"], charge["status"]) == (
        "first-1",
        "first-1",
        "INITIAL",
        "PARTIALLY_REFUNDED",
    )
    assert charge["summary"] == {"captured": 4900, "refunded": 900, "cancelled": 0}
    assert charge["capturedAt"] == "2030-01-15T09:00:00Z"
    assert (refund["chargeId"], refund["amount"], refund["idempotencyKey"]) == ("first-1", 900, "back")


def test_decisions_need_the_right_state(merchant: Merchant) -> None:
    agreement_id = merchant.active()

    assert merchant.decide("agr_unknown", "approve").status_code == 404
    assert merchant.decide(agreement_id, "approve").status_code == 409
    assert merchant.decide(agreement_id, "reject").status_code == 409
    assert merchant.decide(agreement_id, "dance").status_code == 404
    assert merchant.decide(agreement_id, "stop").get_json() == {"id": agreement_id, "status": "STOPPED"}
    assert merchant.decide(agreement_id, "stop").status_code == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"call": "nothing", "fault": "500"}, "call"),
        ({"call": "draft"}, "fault"),
        ({"call": "draft", "fault": "500", "times": 0}, "times"),
        ({"call": "draft", "fault": "500", "chance": 2}, "chance"),
        ({"call": "*", "fault": "500", "x": 1}, "x"),
    ],
)
def test_a_wrong_fault_is_refused_and_the_field_named(refused: Merchant, body: Any, field: str) -> None:
    answer = refused.client.post("/sim/faults", json=body)

    assert answer.status_code == 400
    assert field in answer.get_json()["error"]
    assert refused.client.get("/sim/faults").get_json()["faults"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"nothing": True},
        {"rate_limits": 1},
        {"sms_outcome": "lost"},
        {"visibility_seconds": -1},
        {"funds": {"available": True}},
        {"funds": 7},
        [],
    ],
)
def test_a_wrong_switch_is_refused_and_moves_nothing(refused: Merchant, body: Any) -> None:
    before = refused.client.get("/sim/switches").get_json()

    assert refused.client.post("/sim/switches", json=body).status_code == 400

    assert refused.client.get("/sim/switches").get_json() == before


@pytest.mark.parametrize(
    ("kind", "status"),
    [("500", 500), ("502", 502), ("429", 429), ("401", 401), ("html", 200), ("malformed", 200), ("down", 502)],
)
def test_a_fault_before_the_effect_leaves_nothing(merchant: Merchant, kind: str, status: int) -> None:
    agreement_id = merchant.active()
    merchant.fault("create_charge", kind, times=1)

    answer = merchant.post_charge(agreement_id, orderId="a", key="a")

    assert answer.status_code == status
    assert merchant.call("GET", "/recurring/v3/charges/a").status_code == 404
    assert merchant.post_charge(agreement_id, orderId="a", key="a").status_code == 201


@pytest.mark.parametrize("kind", ["500_after", "drop_after"])
def test_a_fault_after_the_effect_hides_only_the_answer(merchant: Merchant, kind: str) -> None:
    agreement_id = merchant.active()
    merchant.fault("create_charge", kind, times=1)

    assert merchant.post_charge(agreement_id, orderId="a", key="a").status_code >= 500

    assert merchant.status("a") == "DUE"
    assert merchant.post_charge(agreement_id, orderId="a", key="a").get_json() == {"chargeId": "a"}


def test_a_fault_fits_its_call_its_agreement_and_its_number_of_times(merchant: Merchant) -> None:
    one, other = merchant.active(), merchant.active()
    merchant.fault("fetch_agreement", "500", times=2, agreementId=one)

    def statuses(agreement_id: str) -> list[int]:
        return [merchant.call("GET", f"/recurring/v3/agreements/{agreement_id}").status_code for _ in range(3)]

    assert statuses(other) == [200, 200, 200]
    assert statuses(one) == [500, 500, 200]
    merchant.fault("*", "500", chance=0)
    assert statuses(one) == [200, 200, 200]
    merchant.fault("*", "500")
    assert merchant.client.get("/recurring/v3/agreements/x").status_code == 500
    merchant.client.delete("/sim/faults")
    assert statuses(one) == [200, 200, 200]


def test_a_fault_may_come_by_chance(merchant: Merchant) -> None:
    merchant.active()
    merchant.fault("list_agreements", "500", chance=0.5)

    statuses = [merchant.call("GET", "/recurring/v3/agreements").status_code for _ in range(60)]

    assert set(statuses) == {200, 500}  # the odds against this are one in half a quintillion


def test_a_fault_for_an_agreement_fits_a_batch_that_speaks_of_it(merchant: Merchant) -> None:
    one, other = merchant.active(), merchant.active()
    merchant.fault("create_charges", "500", agreementId=one)

    def batch(agreement_id: str, name: str) -> int:
        item = merchant.charge_body(agreementId=agreement_id, orderId=name)
        return merchant.call("POST", "/recurring/v3/agreements/charges", [item]).status_code

    assert (batch(one, "a"), batch(other, "b")) == (500, 202)


def test_every_call_and_kind_can_be_ordered(merchant: Merchant) -> None:
    for call in (*CALLS, "*"):
        for kind in KINDS:
            merchant.fault(call, kind, chance=0)

    assert len(merchant.client.get("/sim/faults").get_json()["faults"]) == (len(CALLS) + 1) * len(KINDS)


@pytest.mark.parametrize(
    ("kind", "effect"), [("down", False), ("drop_after", True), ("timeout_before", False), ("timeout_after", True)]
)
def test_a_dropped_connection_really_closes(merchant: Merchant, server: str, kind: str, effect: bool) -> None:
    agreement_id = merchant.active()
    merchant.fault("create_charge", kind, times=1, seconds=0.05)

    with pytest.raises(requests.ConnectionError), requests.Session() as http:
        http.post(
            f"{server}/recurring/v3/agreements/{agreement_id}/charges",
            json=merchant.charge_body(orderId="a"),
            headers=merchant.headers("a"),
            timeout=5,
        )

    assert (merchant.call("GET", "/recurring/v3/charges/a").status_code == 200) is effect


def test_a_slow_answer_is_an_answer(merchant: Merchant) -> None:
    merchant.fault("draft", "slow", times=1, seconds=0.05)

    assert merchant.draft()["agreementId"]


@pytest.mark.parametrize(
    "base_url", ["https://api.vipps.no", "http://10.0.0.1:8001", "http://127.0.0.1.example.com", ""]
)
def test_it_refuses_to_be_reached_from_elsewhere(tmp_path: Path, base_url: str) -> None:
    with pytest.raises(ValueError, match="only on this machine"):
        create_simulator(tmp_path, base_url=base_url)


def test_other_sites_cannot_move_the_clock(merchant: Merchant) -> None:
    answer = merchant.client.post("/sim/clock/advance", json={"days": 1}, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 403
    assert near(now(merchant), START)


def test_the_thread_sends_what_comes_up(merchant: Merchant, server: str, receiver: Receiver) -> None:
    told = threading.Event()
    receiver.on_request = told.set
    merchant.register(receiver.url)

    merchant.active()

    assert told.wait(5)


def test_a_batch_that_was_cut_short_is_finished_once(
    merchant: Merchant, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invoice.simulator.engine._BATCH", 10)
    agreement_id = merchant.active(pricing={"type": "FLEXIBLE", "currency": "NOK"})
    names = [merchant.charge(agreement_id, orderId=f"c-{number}") for number in range(25)]
    real = payments.attempt
    tried: list[str] = []

    def attempt(act: Any, agreement: Any, charge: Any) -> None:
        tried.append(charge.id)
        if len(tried) == 15:
            raise RuntimeError("the lights go out")
        real(act, agreement, charge)

    monkeypatch.setattr("invoice.simulator.payments.attempt", attempt)
    merchant.client.application.config.update(PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(RuntimeError):
        merchant.client.post("/sim/clock/advance", json={"days": 5})
    simulator.run_due()

    assert sum(merchant.status(name) == "CHARGED" for name in names) == 25
    assert all([line["event"] for line in merchant.fetch(name)["history"]] == ["CREATE", "CAPTURE"] for name in names)
    assert len(tried) == 15 + 15  # the second ten were undone together, and done again with the rest


SERVE = """
import sys
from pathlib import Path
from invoice.simulator.app import create_simulator
from invoice.simulator.serving import make_simulator_server
simulator = create_simulator(Path(sys.argv[1]), base_url="http://127.0.0.1:8001")
server = make_simulator_server(simulator, "127.0.0.1", int(sys.argv[2]))
simulator.start()
sys.stdout.write("ready\\n")
sys.stdout.flush()
server.serve_forever()
"""


class Process:
    """The simulator as a process of its own, to be killed."""

    def __init__(self, data: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._data = data
        self.url = f"http://127.0.0.1:{self._port}"
        self.http = requests.Session()
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self._data), str(self._port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill_and_start(self) -> None:
        self.kill()
        self.start()

    def tell(self, path: str, body: Any) -> dict[str, Any]:
        answer = self.http.post(self.url + path, json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def call(self, method: str, path: str, body: Any = None, key: str = "k") -> requests.Response:
        keys = {
            "client_id": DEMO_UNIT.client_id,
            "client_secret": DEMO_UNIT.client_secret,
            "Ocp-Apim-Subscription-Key": DEMO_UNIT.subscription_key,
        }
        token = self.http.post(f"{self.url}/accesstoken/get", headers=keys, timeout=5).json()["access_token"]
        headers = {
            "Authorization": f"Bearer {token}",
            "Ocp-Apim-Subscription-Key": DEMO_UNIT.subscription_key,
            "Idempotency-Key": key,
        }
        return self.http.request(method, self.url + path, json=body, headers=headers, timeout=30)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "killed")
    yield made
    made.kill()
    made.http.close()


def test_a_sudden_end_loses_nothing_and_doubles_nothing(
    process: Process, merchant: Merchant, receiver: Receiver
) -> None:
    """Killed after each answer, and again while the events of a batch are being sent to somebody who takes none."""
    charges = "/recurring/v3/agreements/charges"
    receiver.answers = [503] * 1000
    agreement_id = process.call("POST", "/recurring/v3/agreements", merchant.draft_body()).json()["agreementId"]
    process.kill_and_start()
    assert process.tell(f"/sim/agreements/{agreement_id}/approve", {})["status"] == "ACTIVE"
    due = f"{datetime.now().astimezone() + timedelta(days=3):%Y-%m-%d}"
    items = [
        merchant.charge_body(agreementId=agreement_id, orderId=f"o-{number}", amount=200, due=due)
        for number in range(100)
    ]
    first = process.call("POST", charges, items, "batch").json()
    process.kill_and_start()
    assert process.call("POST", charges, items, "batch").json() == first
    process.call("POST", "/webhooks/v1/webhooks", {"url": receiver.url, "events": ["recurring.charge-captured.v1"]})

    mover = threading.Thread(target=_try_to_move, args=(process.url,))
    mover.start()
    while not receiver.requests:
        mover.join(0.01)
    process.kill_and_start()
    mover.join()
    receiver.answers.clear()
    receiver.bodies.clear()
    process.tell("/sim/clock/advance", {"days": 5})

    ledger = process.http.get(f"{process.url}/sim/ledger", timeout=10).json()
    assert [row["id"] for row in ledger["agreements"]] == [agreement_id]
    assert [row["id"] for row in ledger["charges"]] == first["validCharges"] == [item["orderId"] for item in items]
    assert all([line["event"] for line in row["history"]] == ["CREATE", "CAPTURE"] for row in ledger["charges"])
    assert {row["summary"]["captured"] for row in ledger["charges"]} == {200}
    assert {body["chargeId"] for body in receiver.bodies} == set(first["validCharges"])


def _try_to_move(url: str) -> None:
    with requests.Session() as http:
        try:
            http.post(f"{url}/sim/clock/advance", json={"days": 5}, timeout=60)
        except requests.ConnectionError:
            return
