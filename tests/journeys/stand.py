"""The real application and the real stand-in in one process, joined by real sockets, on one clock that the tests move.

Nothing runs by itself: our work is done when a test says `work`, webhooks leave when it says `tell`, Vipps acts while
the clock is moved, and with `leap` and `live` we do, too. What happens on the wire between the two can be arranged:
`ahead` of a call, `behind` it (it has happened and its answer is still on the way), or calls that are acknowledged
and not done.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import requests
from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from invoice import clock
from invoice.cli.processes import HOST, address
from invoice.cli.stand_in import simulator_environ
from invoice.config import Settings
from invoice.engine.inline import Engine
from invoice.lifecycle import SubscriptionStatus
from invoice.providers.vipps import SalesUnit, VippsClient
from invoice.services.jobs import Jobs, Services
from invoice.simulator.app import create_simulator
from invoice.simulator.serving import make_simulator_server
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Operation, Partner, Subscription
from invoice.web import services as reach
from tests import factories, spec
from tests.conftest import opened
from tests.journeys.wire import Heard, Mortal, Sent, Wire

# A Tuesday noon in Norway: after the morning's batch, before the evening's, far from any change of the clocks.
START = datetime(2030, 1, 15, 11, tzinfo=UTC)
PARTNER, PHONE = 10295, "4791234567"
TIMEOUT_S = 60
T = TypeVar("T")

# What a partner asks for: a weekly payment, which falls due after seven days and is created three days before.
TO_SUBMISSION = {"days": 4}
WEEKLY = {
    "partnerId": PARTNER,
    "msisdn": f"+{PHONE}",
    "currency": "NOK",
    "amount": "99",
    "paymentProvider": "Vipps",
    "description": "Avisen hver dag",
    "basis": 1,
    "agreementUrl": "https://www.example.com/mine",
    "name": "Avisen",
    "sendSMS": False,
}


def norway(day: date, hour: int, minute: int = 0) -> datetime:
    """Return the instant at which Norwegian clocks show an hour of a day."""
    return datetime.combine(day, time(hour, minute), clock.MARKET_ZONES["NO"]).astimezone(UTC)


# Which row of the failure tables each test stands for.
ROWS: dict[str, list[str]] = defaultdict(list)


def row(section: str, fault: str) -> Callable[[T], T]:
    """Mark a test as the one that provokes a fault of the failure tables."""

    def mark(test: T) -> T:
        ROWS[f"{section} {fault}"].append(test.__name__)  # type: ignore[attr-defined]
        return test

    return mark


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class _Door:
    """An address on this machine, for good; what is behind it is put in by each stand."""

    def __init__(self, serve: Callable[[_Door], BaseWSGIServer]) -> None:
        self.behind: Callable[..., Iterable[bytes]] | None = None
        server = serve(self)
        self.port = int(server.port)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        assert self.behind is not None
        return self.behind(environ, start_response)


@cache
def _doors() -> tuple[_Door, _Door]:
    """Return our address and Vipps': the same ones for all, so that one application can be kept."""
    return (
        _Door(lambda door: make_server(HOST, 0, door, threaded=True, request_handler=_Quiet)),
        _Door(lambda door: make_simulator_server(SimpleNamespace(app=door), HOST, 0)),  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Hook:
    """A webhook as it came to our door."""

    event: str
    path: str
    headers: dict[str, str]
    body: bytes


class Stand:
    """The two sides, and everything that people, time and bad luck do to them."""

    def __init__(
        self, data: Path, database_url: str, *, landing_host: str = HOST, mortal: bool = False, **environ: str
    ) -> None:
        self._stack = ExitStack()
        ours, theirs = _doors()
        self._hooks_refused = ""
        self.hooks: list[Hook] = []
        self.service, self.vipps = address(ours.port), address(theirs.port)
        self.simulator = create_simulator(data, base_url=f"http://{landing_host}:{theirs.port}")
        self._stack.callback(self.simulator.stop)
        self.simulator.clock.move(START - self.now())
        clock.follow(self.simulator.clock.now)
        self._stack.callback(clock.follow, None)
        self.exchanges = spec.record(self.simulator.app)
        self.wire = Wire(self.simulator.app, self.now)
        theirs.behind = self.wire
        self._http = self._stack.enter_context(requests.Session())
        self._http.trust_env = False
        environ = {
            "INVOICE_DATABASE_URL": database_url,
            "INVOICE_PUBLIC_URL": self.service,
            "INVOICE_SECRET_KEY": "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5",
            **simulator_environ(self.vipps),
            **environ,
        }
        self.settings = Settings.from_environ(environ)
        self._mortal = Mortal(_client(self.settings)) if mortal else None
        self.app: Flask = self._stack.enter_context(opened(environ, payments=self._mortal))
        self.app.testing = False  # what fails in it is told as in production
        ours.behind = self._our_door
        self.worker, self.another_worker = self._worker(), self._worker()
        factories.a_partner(PARTNER)
        self.work()  # webhooks are registered

    def _worker(self) -> Engine:
        return Engine(self.app, factories.unhurried(Jobs(self.services)))

    @property
    def services(self) -> Services:
        found: Services = self.app.extensions[reach.SERVICES]
        return found

    def close(self) -> None:
        self._stack.close()

    def _our_door(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let everybody in, but webhooks that are to be lost on the way: Vipps sees an error and tries again."""
        path = environ["PATH_INFO"]
        if path.startswith("/hooks/vipps/"):
            environ["wsgi.input"] = Heard(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
            body: bytes = environ["wsgi.input"].heard
            found = re.search(rb'"eventType":"recurring\.([a-z-]+)\.v1"', body)
            event = found[1].decode() if found else ""
            if self._hooks_refused and re.fullmatch(self._hooks_refused, event):
                return Response(status=503)(environ, start_response)
            sent = {name: environ[_wsgi(name)] for name in _SIGNED}
            self.hooks.append(Hook(event, path, sent, body))
        return self.app(environ, start_response)

    # Time and work

    def now(self) -> datetime:
        return self.simulator.clock.now()

    def advance(self, **by: int) -> None:
        """Move the clock; Vipps does what falls due and tells it, and nobody works on our side."""
        answer = self._http.post(f"{self.vipps}/sim/clock/advance", json=by, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text

    def advance_to(self, at: datetime) -> None:
        """Move the clock to an instant, likewise."""
        self.advance(seconds=int((at - self.now()).total_seconds()) + 1)

    def work(self) -> None:
        """Do everything that is due on our side now."""
        for _ in range(200):
            if not self.worker.run_once():
                return
        raise AssertionError("The work does not end.")

    def tell(self) -> None:
        """Have everything that Vipps has to tell now told."""
        self.simulator.run_due()

    def settle(self) -> None:
        """Have both sides finish."""
        self.tell()
        self.work()

    def live(self, **by: int) -> None:
        """Let time pass with both sides at work, in steps of at most twelve hours."""
        self.simulator.follower = self.worker.run_once
        try:
            self.advance(**by)
        finally:
            self.simulator.follower = None

    def leap(self, times: int, **by: int) -> None:
        """Let so much time pass so many times; our side works after each."""
        for _ in range(times):
            self.advance(**by)
            self.work()

    # Disorder

    def ahead(self, call: str, happens: Callable[[], object]) -> None:
        """Have something happen while our next such call is on its way to Vipps."""
        self.wire.ahead(call, lambda: self._in_context(happens))

    def behind(self, call: str, happens: Callable[[], object]) -> None:
        """Have something happen after Vipps has done our next such call and before we hear of it."""
        self.wire.behind(call, lambda: self._in_context(happens))

    def die(self, when: str, call: str) -> None:
        """Have the process die at the client's next such call, "before" it leaves or "after" Vipps has done it.

        "create" is one charge or many.
        """
        assert self._mortal is not None, "this stand does not die"
        self._mortal.die(when, *_CREATES.get(call, (call,)))

    def _in_context(self, happens: Callable[[], object]) -> None:
        with self.app.app_context():
            happens()

    def fault(self, call: str, kind: str, **more: Any) -> None:
        """Have calls at Vipps go wrong, `times` or until `end_faults`; what times out hangs up at once.

        call: as the stand-in names it, or "create": one charge or many, each so many times.
        """
        hurry = {"seconds": 0} if kind.startswith("timeout") else {}
        for each in _CREATES.get(call, (call,)):
            self.control("faults", {"call": each, "fault": kind, **hurry, **more})

    def end_faults(self) -> None:
        self._http.delete(f"{self.vipps}/sim/faults", timeout=TIMEOUT_S).raise_for_status()

    def switch(self, **values: Any) -> None:
        self.control("switches", values)

    def refuse_hooks(self, events: str) -> None:
        """Turn webhooks away at our door whose event is one of these (a pattern; empty: none)."""
        self._hooks_refused = events

    def control(self, path: str, body: Any) -> Any:
        answer = self._http.post(f"{self.vipps}/sim/{path}", json=body, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sent(self, call: str) -> list[Sent]:
        """Return the calls of that name that we made."""
        return [each for each in self.wire.sent if each.name == call]

    def go_wrong(self, *, minutes: int) -> None:
        """Have our clock be so far from Vipps' from now on."""
        clock.follow(lambda: self.now() + timedelta(minutes=minutes))

    def suspend(self) -> None:
        """Have nothing new charged for the partner."""
        self._set_suspended(self.now())

    def resume(self) -> None:
        """Have the partner's charges go on."""
        self._set_suspended(None)

    def _set_suspended(self, at: datetime | None) -> None:
        with transaction():
            db.session.get_one(Partner, PARTNER).suspended_at = at

    # Partners and people

    def request(self, **changes: Any) -> requests.Response:
        """Ask for a subscription as the partner."""
        return self._http.post(
            f"{self.service}/api/recurring/subscribe", json={**WEEKLY, **changes}, auth=_AUTH, timeout=TIMEOUT_S
        )

    def subscribe(self, **changes: Any) -> int:
        """Ask for a weekly subscription, which is accepted; return its number."""
        answer = self.request(**changes)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["subscriptionId"])

    def cancel(self, number: int) -> requests.Response:
        """Cancel as the partner."""
        return self._http.delete(f"{self.service}/api/recurring/cancel/{number}", auth=_AUTH, timeout=TIMEOUT_S)

    def press(self, number: int) -> str:
        """Press the button behind the texted link; return where it leads."""
        link = f"{self.service}/s/{self.subscription(number).link_token}"
        answer = self._http.post(link, allow_redirects=False, timeout=TIMEOUT_S)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["Location"])

    def come_back(self, number: int) -> str:
        """Stand on the page that the person comes back to, and have it look; return "waiting" or "done"."""
        path = f"/api/recurring/return/{PARTNER}/{self.agreements(number)[-1].return_id}"
        assert self._http.get(self.service + path, timeout=TIMEOUT_S).status_code == 200
        return str(self._http.post(self.service + path, timeout=TIMEOUT_S).json()["state"])

    def get(self, path: str) -> requests.Response:
        return self._http.get(self.service + path, allow_redirects=False, timeout=TIMEOUT_S)

    def replay(self, hook: Hook) -> requests.Response:
        """Send a webhook once more, to the byte."""
        return self._http.post(self.service + hook.path, data=hook.body, headers=hook.headers, timeout=TIMEOUT_S)

    def decide(self, agreement_id: str, decision: str) -> None:
        """Have the person approve, reject or stop in the app; nobody is told yet."""
        self.control(f"agreements/{agreement_id}/{decision}", {})

    def accept(self, number: int) -> None:
        """Have the person accept the newest attempt, and both sides finish."""
        self.decide(self.at_vipps(number), "approve")
        self.settle()

    def active(self, **changes: Any) -> int:
        """Return the number of a weekly subscription that was accepted just now; its first renewal is planned."""
        number = self.subscribe(**changes)
        self.accept(number)
        assert self.status(number) == SubscriptionStatus.ACTIVE
        return number

    def merchant(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> requests.Response:
        """Do something at Vipps with our keys and not through us: the portal, another system, another self."""
        headers = {
            "client_id": self.settings.vipps_client_id,
            "client_secret": self.settings.vipps_client_secret,
            "Ocp-Apim-Subscription-Key": self.settings.vipps_subscription_key,
        }
        token = self._http.post(f"{self.vipps}/accesstoken/get", headers=headers, timeout=TIMEOUT_S).json()
        headers["Authorization"] = f"Bearer {token['access_token']}"
        headers["Idempotency-Key"] = key or f"portal-{len(self.exchanges)}"
        return self._http.request(method, self.vipps + path, json=body, headers=headers, timeout=TIMEOUT_S)

    # What stands where

    def subscription(self, number: int) -> Subscription:
        return factories.subscription(number)

    def status(self, number: int) -> SubscriptionStatus:
        return self.subscription(number).status

    def agreements(self, number: int) -> list[Agreement]:
        return factories.agreements(number)

    def charges(self, number: int) -> list[Charge]:
        return factories.charges(number)

    def renewal(self, number: int, period: int = 1) -> Charge:
        """Return the one charge of a period."""
        [found] = [c for c in self.charges(number) if c.period == period]
        return found

    def events(self, number: int) -> list[str]:
        return factories.event_types(number)

    def operations(self, kind: str) -> list[Operation]:
        with reading():
            found = list(db.session.scalars(db.select(Operation).where(Operation.kind == kind).order_by(Operation.id)))
            db.session.expunge_all()
            return found

    def at_vipps(self, number: int) -> str:
        """Return Vipps' id of a subscription's newest attempt."""
        found = self.agreements(number)[-1].provider_agreement_id
        assert found is not None
        return found

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = self._http.get(f"{self.vipps}/sim/ledger", timeout=TIMEOUT_S).json()
        return found

    def theirs(self, number: int) -> list[dict[str, Any]]:
        """Return Vipps' agreements of a subscription, oldest first."""
        ulid = self.subscription(number).ulid
        return [a for a in self.ledger()["agreements"] if a["externalId"] == ulid]

    def taken(self, number: int) -> list[tuple[str, str, int, int]]:
        """Return (name without the subscription, status, captured, refunded) of its charges at Vipps."""
        ulid = self.subscription(number).ulid
        return [
            (c["id"].removeprefix(f"{ulid}-"), c["status"], c["summary"]["captured"], c["summary"]["refunded"])
            for c in self.ledger()["charges"]
            if c["externalAgreementId"] == ulid
        ]


_CREATES = {"create": ("create_charge", "create_charges")}
_AUTH = (str(PARTNER), f"{factories.SECRET}-{PARTNER}")
_SIGNED = ("Content-Type", "Authorization", "x-ms-date", "x-ms-content-sha256")


def _wsgi(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name == "CONTENT_TYPE" else f"HTTP_{name}"


def _client(settings: Settings) -> VippsClient:
    unit = SalesUnit(
        client_id=settings.vipps_client_id,
        client_secret=settings.vipps_client_secret,
        subscription_key=settings.vipps_subscription_key,
        merchant_serial_number=settings.vipps_merchant_serial_number,
    )
    return VippsClient(settings.vipps_base_url, unit, settings.landing_domains)


# Fixtures. A test module imports those that it uses.


@contextmanager
def standing(data: Path, database_url: str, **how: Any) -> Iterator[Stand]:
    """Put up a stand; at its end nothing has gone wrong behind the test's back, and all traffic fits Vipps' files."""
    made = Stand(data, database_url, **how)
    try:
        yield made
    finally:
        made.close()
    if made.wire.troubles:
        raise made.wire.troubles[0]
    # A call that was repeated for hours, and answered alike, is judged once.
    said = {(e.method, e.path, e.query, e.body, e.status, e.answer_body): e for e in made.exchanges}
    assert spec.absent() or spec.violations(said.values()) == []


@pytest.fixture(name="stand")
def a_stand(request: pytest.FixtureRequest, empty_sqlite: str, tmp_path: Path) -> Iterator[Stand]:
    """A stand on SQLite; a parameter holds what is to be different."""
    with standing(tmp_path, empty_sqlite, **getattr(request, "param", {})) as made:
        yield made


@pytest.fixture(name="stand_on_each")
def a_stand_on_each_database(database_url: str, tmp_path: Path) -> Iterator[Stand]:
    """A stand on SQLite, and one on PostgreSQL: where money is at stake. Its process can be killed."""
    with standing(tmp_path, database_url, mortal=True) as made:
        yield made
