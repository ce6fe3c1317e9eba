"""What a restart leaves as it was, and what the lists show of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from invoice.simulator.app import Simulator, create_simulator
from tests.simulator.conftest import Merchant

AGREEMENTS = "/recurring/v3/agreements"


@contextmanager
def restarted(simulator: Simulator, data: Path) -> Iterator[Merchant]:
    simulator.stop()
    again = create_simulator(data, base_url="http://127.0.0.1:8001")
    yield Merchant(again)
    again.stop()


def test_a_restart_changes_nothing(simulator: Simulator, merchant: Merchant, tmp_path: Path) -> None:
    first = {"amount": 4900, "description": "x", "transactionType": "RESERVE_CAPTURE", "orderId": "held"}
    agreement_id = merchant.active(initialCharge=first)
    merchant.charge(agreement_id)
    merchant.draft()
    merchant.register("https://shop.example.com/hook")
    merchant.switch(visibility_seconds=7, funds={"phone": "+4712457890", "available": False})
    merchant.fault("draft", "500", times=3)
    token = merchant.token()
    paths = ("/sim/ledger", "/sim/switches", "/sim/faults", "/sim/webhooks", "/sim/messages")
    before = [merchant.client.get(path).get_json() for path in paths]

    with restarted(simulator, tmp_path / "data") as again:
        assert [again.client.get(path).get_json() for path in paths] == before
        headers = again.headers() | {"Authorization": f"Bearer {token}"}
        assert again.client.get(AGREEMENTS, headers=headers).status_code == 200


def test_time_goes_on_after_a_restart(simulator: Simulator, merchant: Merchant, tmp_path: Path) -> None:
    agreement_id = merchant.active()
    charge_id = merchant.charge(agreement_id)
    merchant.switch(answer_202=True)
    merchant.call("PATCH", f"{AGREEMENTS}/{agreement_id}", {"productName": "Ny"})

    with restarted(simulator, tmp_path / "data") as again:
        again.advance(days=5)
        assert again.status(charge_id) == "CHARGED"
        assert again.agreement(agreement_id)["productName"] == "Ny"


def test_a_list_begins_with_what_was_made_after_an_instant(merchant: Merchant, simulator: Simulator) -> None:
    merchant.active()
    simulator.clock.move(timedelta(seconds=5))
    after = int(simulator.clock.now().timestamp() * 1000)
    second = merchant.active()

    listed = merchant.call("GET", f"{AGREEMENTS}?createdAfter={after}").get_json()

    assert [row["id"] for row in listed] == [second]


def test_a_page_of_agreements_holds_500_unless_more_are_asked_for(merchant: Merchant, simulator: Simulator) -> None:
    world = simulator.app.extensions["simulator_world"]
    merchant.active()
    with world.store.write() as session:
        columns = [row[1] for row in session.connection().exec_driver_sql("PRAGMA table_info(agreements)")]
        kept = ", ".join(name for name in columns if name not in ("number", "id"))
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2099)"
        copies = f"INSERT INTO agreements (id, {kept}) SELECT 'agr_' || i, {kept} FROM n, agreements"  # noqa: S608 - ours
        session.connection().exec_driver_sql(f"{numbers} {copies}")

    def count(query: str) -> int:
        return len(merchant.call("GET", f"{AGREEMENTS}{query}").get_json())

    assert (count(""), count("?pageSize=2000"), count("?pageNumber=2&pageSize=2000")) == (500, 2000, 100)
    assert count("?pageNumber=5") == 100


def test_the_list_of_charges_holds_every_status_also_the_initial_one(merchant: Merchant) -> None:
    first = {"amount": 4900, "description": "x", "transactionType": "DIRECT_CAPTURE", "orderId": "first"}
    agreement_id = merchant.active(initialCharge=first)
    merchant.charge(agreement_id, orderId="near")
    merchant.charge(agreement_id, orderId="far", due="2030-06-01")
    merchant.on_charge("near", "cancel")

    listed = merchant.call("GET", f"{AGREEMENTS}/{agreement_id}/charges").get_json()

    assert [(row["id"], row["type"], row["status"]) for row in listed] == [
        ("first", "INITIAL", "CHARGED"),
        ("near", "RECURRING", "CANCELLED"),
        ("far", "RECURRING", "PENDING"),
    ]
    assert listed[2]["due"] == "2030-06-01T00:00:00Z"
