"""A simulator at a known hour, a merchant who calls it, and a receiver that listens on a real socket."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse
from werkzeug.wrappers import Request, Response

from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.app import Simulator, create_simulator
from invoice.simulator.serving import make_simulator_server
from tests import spec

# A Tuesday, 10:00 in Oslo: after the main batch, before the retries.
START = datetime(2030, 1, 15, 9, tzinfo=UTC)
TODAY = date(2030, 1, 15)

ALL_EVENTS = [
    f"recurring.{name}.v1"
    for name in (
        *("agreement-activated", "agreement-rejected", "agreement-stopped", "agreement-expired", "charge-reserved"),
        *("charge-captured", "charge-canceled", "charge-refunded", "charge-failed", "charge-creation-failed"),
    )
]


class Merchant:
    """A client of the vendor's API, in process. Answers are the test client's own."""

    def __init__(self, simulator: Simulator) -> None:
        self.client: FlaskClient = simulator.app.test_client()
        self._keys = itertools.count(1)
        self._token = ""

    def keys(self) -> dict[str, str]:
        return {
            "client_id": DEMO_UNIT.client_id,
            "client_secret": DEMO_UNIT.client_secret,
            "Ocp-Apim-Subscription-Key": DEMO_UNIT.subscription_key,
        }

    def token(self) -> str:
        return str(self.client.post("/accesstoken/get", headers=self.keys()).get_json()["access_token"])

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token()}",
            "Ocp-Apim-Subscription-Key": DEMO_UNIT.subscription_key,
            "Merchant-Serial-Number": DEMO_UNIT.merchant_serial_number,
            "Idempotency-Key": key or f"key-{next(self._keys)}",
            **more,
        }

    def call(self, method: str, path: str, body: Any = None, key: str | None = None, **more: str) -> TestResponse:
        extra = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return self.client.open(path, method=method, headers=self.headers(key, **more), **extra)

    def draft_body(self, **changes: Any) -> dict[str, Any]:
        body = {
            "pricing": {"type": "LEGACY", "amount": 9900, "currency": "NOK"},
            "interval": {"unit": "MONTH", "count": 1},
            "merchantRedirectUrl": "http://127.0.0.1:5000/back?recurring=1",
            "merchantAgreementUrl": "https://shop.example.com/manage/1",
            "phoneNumber": "4712457890",
            "productName": "Nordavis Digital",
            "externalId": "sub-1",
        }
        return {name: value for name, value in (body | changes).items() if value is not None}

    def draft(self, **changes: Any) -> dict[str, Any]:
        answer = self.call("POST", "/recurring/v3/agreements", self.draft_body(**changes))
        assert answer.status_code == 201, answer.text
        return dict(answer.get_json())

    def decide(self, agreement_id: str, decision: str, **body: Any) -> TestResponse:
        return self.client.post(f"/sim/agreements/{agreement_id}/{decision}", json=body)

    def active(self, **changes: Any) -> str:
        agreement_id = str(self.draft(**changes)["agreementId"])
        assert self.decide(agreement_id, "approve").get_json()["status"] == "ACTIVE"
        return agreement_id

    def agreement(self, agreement_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/recurring/v3/agreements/{agreement_id}").get_json())

    def charge_body(self, **changes: Any) -> dict[str, Any]:
        body = {
            "amount": 9900,
            "description": "Februar",
            "transactionType": "DIRECT_CAPTURE",
            "due": (TODAY + timedelta(days=5)).isoformat(),
            "retryDays": 2,
        }
        return {name: value for name, value in (body | changes).items() if value is not None}

    def post_charge(self, agreement_id: str, key: str | None = None, **changes: Any) -> TestResponse:
        return self.call("POST", f"/recurring/v3/agreements/{agreement_id}/charges", self.charge_body(**changes), key)

    def charge(self, agreement_id: str, **changes: Any) -> str:
        answer = self.post_charge(agreement_id, **changes)
        assert answer.status_code == 201, answer.text
        return str(answer.get_json()["chargeId"])

    def fetch(self, charge_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/recurring/v3/charges/{charge_id}").get_json())

    def status(self, charge_id: str) -> str:
        return str(self.fetch(charge_id)["status"])

    def on_charge(self, charge_id: str, verb: str, body: Any = None, key: str | None = None) -> TestResponse:
        path = f"/recurring/v3/agreements/{self.fetch(charge_id)['agreementId']}/charges/{charge_id}"
        if verb == "cancel":
            return self.call("DELETE", path, key=key)
        return self.call("POST", f"{path}/{verb}", body, key)

    def switch(self, **values: Any) -> None:
        assert self.client.post("/sim/switches", json=values).status_code == 200

    def fault(self, call: str, kind: str, **more: Any) -> None:
        assert self.client.post("/sim/faults", json={"call": call, "fault": kind, **more}).status_code == 200

    def advance(self, **by: int) -> None:
        answer = self.client.post("/sim/clock/advance", json=by)
        assert answer.status_code == 200, answer.text

    def register(self, url: str, events: list[str] | None = None) -> dict[str, Any]:
        answer = self.call("POST", "/webhooks/v1/webhooks", {"url": url, "events": events or ALL_EVENTS})
        assert answer.status_code == 201, answer.text
        return dict(answer.get_json())


class Receiver:
    """Listens on a real socket. `answers` are given in turn, then 200. `on_request` runs before the answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[Any] = []
        self.answers: list[int] = []
        self.on_request: Callable[[], None] | None = None
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}/hooks?from=vipps"

    @Request.application
    def _app(self, request: Request) -> Response:
        raw = request.get_data()
        self.requests.append(request)
        self.bodies.append(json.loads(raw) if request.mimetype == "application/json" else request.form.to_dict())
        if self.on_request:
            self.on_request()
        return Response(status=self.answers.pop(0) if self.answers else 200)

    def events(self) -> list[str]:
        return [body["eventType"].removeprefix("recurring.").removesuffix(".v1") for body in self.bodies]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def simulator(tmp_path: Any) -> Iterator[Simulator]:
    made = create_simulator(tmp_path / "data", base_url="http://127.0.0.1:8001")
    made.clock.move(START - made.clock.now())
    with spec.held(made.app):
        yield made
        made.stop()


@pytest.fixture
def merchant(simulator: Simulator) -> Merchant:
    return Merchant(simulator)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Merchant]:
    """A merchant for requests that are refused: they leave nothing behind, so one stand-in serves a whole module."""
    made = create_simulator(tmp_path_factory.mktemp("refused"), base_url="http://127.0.0.1:8001")
    made.clock.move(START - made.clock.now())
    with spec.held(made.app):
        yield Merchant(made)
        made.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def server(simulator: Simulator) -> Iterator[str]:
    """The simulator on a real socket, with its thread running; yields its address."""
    running = make_simulator_server(simulator, "127.0.0.1", 0)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    simulator.start()
    yield f"http://127.0.0.1:{running.port}"
    running.shutdown()
    thread.join()
    simulator.stop()
    running.server_close()
