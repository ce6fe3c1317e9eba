"""The whole world of one seed: our processes, the stand-in, the wire between them, and everybody's ways in."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from flask import Flask
from greenlet import GreenletExit
from sqlalchemy import UpdateBase, event
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, UOWTransaction

from app import create_app, equip
from invoice.cli.stand_in import simulator_environ
from invoice.clock import utc_now
from invoice.config import Settings
from invoice.engine.inline import Engine
from invoice.services import accounts, consents
from invoice.services.accounts import AccountKeys
from invoice.services.jobs import Job, Jobs
from invoice.services.journal import Journal
from invoice.simulator.accounts import DEMO_UNIT, DEMO_UNIT_DK
from invoice.simulator.app import create_simulator
from invoice.simulator.engine import next_due
from invoice.store.db import db, transaction
from invoice.store.models import EventEndpoint
from invoice.web import services as reach
from tests import factories
from tests.simulation.chance import Time
from tests.simulation.databases import Database, SQLite
from tests.simulation.hub import Hub, Killed, Process
from tests.simulation.network import FAULTS, Reply, Weather, carry, wired
from tests.simulation.partner import SECRET, URL, Partner

SERVICE, VIPPS = "http://127.0.0.1:8000", "http://127.0.0.1:9000"
# The first uses the platform's sales unit, which is the Norwegian one; the second, where there is one, its own.
PARTNERS = {10295: DEMO_UNIT, 20000: DEMO_UNIT_DK}
START = datetime(2030, 1, 15, 11, tzinfo=UTC)
_DAY = timedelta(days=1)
# What the judge does itself, at the end and from the outside.
_JUDGED = frozenset({"proof", "audit"})
# What only makes room, and costs as much as what may save somebody's money: done less often still.
_TIDYING = frozenset({"openings", "nonces", "rates"})
_LONGEST_KEY = 40
# How Vipps behaves where nobody knows how it does: the product must be right whichever way it is.
_OPEN_QUESTIONS: dict[str, list[Any]] = {
    "draft_ignores_keys": [True, True, False],
    "idempotency_hours": [0, 24, 48],
    "taken_order_id_status": [409, 409, 400],
    "stop_pending_allowed": [False, True],
    "stop_reaches_processing": [False, True],
    "visibility_seconds": [0, 0, 20],
    "answer_202": [False, False, True],
    "refund_conflict_seconds": [0, 0, 60],
    "webhooks_doubled": [False, False, True],
    "webhooks_lost": [False, False, False, True],
    "webhooks_reordered": [False, True],
    "activated_before_captured": [False, True],
    "rate_limits": [False, True],
    "retry_after": ["seconds", "http-date", "none"],
    "bulk_failure_keeps_order_id": [False, True],
    "refund_history_has_key": [True, True, False],
}


class _Inline:
    """An executor for one thread of the world: what is given to it is done at once."""

    def submit(self, work: Callable[..., Any], *args: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **more))
        return done

    def shutdown(self) -> None:
        """Nothing is left."""


@cache
def _apps(settings: Settings) -> dict[str, Flask]:
    """Return our processes' applications; making one takes longer than a simulated week."""
    return {name: create_app(settings) for name in ("web", "worker one", "worker two")}


class House(Hub):
    """The whole world of one seed."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        dice: random.Random,
        time: Time,
        seldom: timedelta,
        lost: timedelta | None,
    ) -> None:
        self.weather = Weather(dice)
        self.partner = Partner(self, dice)
        super().__init__(dice, time)
        self.late: set[str] = set()  # the paths of what was sent by somebody who had stood still for long
        self._stack = ExitStack()
        self.lost, self.folder = lost, folder
        self._look_every(seldom)
        self._stack.callback(self._look_every, _DAY)
        self.database = database
        self.settings = Settings.from_environ(
            {
                "INVOICE_DATABASE_URL": database.url,
                "INVOICE_PUBLIC_URL": SERVICE,
                "INVOICE_SECRET_KEY": "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5",
                **simulator_environ(VIPPS),
            }
        )
        self.simulator = create_simulator(folder / "vipps", base_url=VIPPS)
        self.simulator.clock.now = time.now  # type: ignore[method-assign]
        self.simulator._post._threads = _Inline()  # type: ignore[assignment]
        self.switches = {name: dice.choice(choices) for name, choices in _OPEN_QUESTIONS.items()}
        self.simulator._world.switchboard.change(self.switches)
        self.partners = dice.choice([[10295], [10295], [10295, 20000]])
        self._stack.callback(self.simulator.stop)
        self._stack.enter_context(wired(self._send))
        self._stack.enter_context(database.opened())
        self.processes = {name: Process(name, app) for name, app in _apps(self.settings).items()}
        for process in self.processes.values():
            self._stack.callback(_forget, process.app)
            self.start(process)
        with self.app.app_context():
            for partner in self.partners:
                self._add_partner(partner)
        _listen(self)
        self._stack.callback(_listen, None)
        for name in ("worker one", "worker two"):
            self.spawn(name, self.work, self.processes[name])
        self.spawn("vipps", self._live)

    def _add_partner(self, number: int) -> None:
        unit = PARTNERS[number]
        factories.a_partner(number, market=unit.market.country)
        if unit is not DEMO_UNIT:
            serial, keys = unit.merchant_serial_number, (unit.client_id, unit.client_secret, unit.subscription_key)
            accounts.bring(number, AccountKeys(serial, *keys))
        with transaction():
            db.session.add(EventEndpoint(partner_id=number, url=URL, secret=SECRET, created_at=utc_now()))

    def close(self) -> None:
        """End everybody."""
        for task in self.tasks:
            with suppress(BaseException):
                task.run.throw(GreenletExit)
        self._stack.close()

    @property
    def app(self) -> Flask:
        """The process that partners, people and webhooks come to."""
        return self.processes["web"].app

    def wrong(self, what: str) -> None:
        """Note it. What is sent again after the books went back is out of order, as it must be."""
        if self.lost is None:
            super().wrong(what)

    # Processes

    def start(self, process: Process) -> None:
        """Start with an empty memory."""
        equip(process.app, self.settings)
        deliveries = process.app.extensions[reach.SERVICES].deliveries
        deliveries._pipe, deliveries._threads = self.partner, _Inline()
        process.life, process.back_at = process.life + 1, None

    def set_back(self) -> None:
        """Have the database forget: everybody of ours dies, and comes back to what was kept."""
        assert isinstance(self.database, SQLite)
        for process in self.processes.values():
            _forget(process.app)
            process.back_at, process.life = self.time.at, process.life + 1
        self.database.go_back()
        self.news()

    def next_due(self) -> list[datetime]:
        """Return when something is due: on their side, and on ours while somebody is there to do it."""
        theirs, ours = next_due(self.simulator._world), self.database.next_due()
        is_anybody_up = any(p.back_at is None for n, p in self.processes.items() if n != "web")
        return [at for at in (ours if is_anybody_up else None, theirs) if at is not None]

    def work(self) -> None:
        """Be a worker, for ever."""
        process = self.current.process
        assert process is not None
        jobs = Jobs(process.app.extensions[reach.SERVICES])
        table = [job for job in jobs.table if job.name not in _JUDGED]
        engine = Engine(
            process.app,
            jobs,
            Journal(str(self.folder / f"{process.name}.json"), self.database.url) if self.lost else None,
        )
        chores = [job.name for job in table if job.every]
        deliveries = process.app.extensions[reach.SERVICES].deliveries

        def work() -> bool:
            # Who finds nothing to do is not made to look for it by way of everything.
            is_idle = not self.lost and not deliveries.is_busy and self.database.is_idle(chores, self.time.now())
            return not is_idle and engine.run_once()

        while True:
            jobs.table = tuple(map(self._stretched, table))
            self.rest_unless(work)

    def _stretched(self, job: Job) -> Job:
        # What is done now and then in case something was missed is done less often: a year must pass in seconds.
        often = 4 * self.seldom if job.name in _TIDYING else self.seldom
        return job if job.every is None else replace(job, every=max(often, job.every))

    def calm_down(self) -> None:
        """End all trouble; what was put off in a long life is done daily from now on, else every third day."""
        for weather in (self.weather, self.partner.weather):
            weather.clear_up()
        self.crash_chance = self.stall_chance = 0.0
        self._look_every(_DAY if self.seldom > _DAY else 3 * _DAY)

    def _look_every(self, span: timedelta) -> None:
        self.seldom = span
        consents.ACTIVE_LOOK = span

    def _live(self) -> None:
        while True:
            self.rest_unless(self.simulator.run_due)

    # The wire

    def _send(self, request: requests.PreparedRequest) -> Reply:
        parts = urlsplit(str(request.url))
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else bytes(body)  # type: ignore[arg-type]
        to_us = f"{parts.scheme}://{parts.netloc}" == SERVICE
        send = self.ask if to_us else self._ask_vipps
        return send(str(request.method), str(request.url), dict(request.headers), raw)

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Bring a request to our web process. Raises ConnectionError when it is down, or dies over it."""
        web = self.processes["web"]
        if web.back_at is not None:
            raise requests.ConnectionError
        task = self.running
        if task is None:
            return carry(web.app, method, url, headers, body)
        task.inside.append((web, web.life))
        try:
            answer = carry(web.app, method, url, headers, body)
            # A webhook that is answered with an error would hold back whatever comes behind it.
            is_webhook = urlsplit(url).path.startswith("/hooks/")
            if answer.status == 500 or (is_webhook and answer.status > 500):
                self.wrong(f"R5: {'a webhook' if is_webhook else 'somebody'} is answered with {answer.status}")
            return answer
        except Killed:
            raise requests.ConnectionError from None
        finally:
            task.inside.pop()

    def _ask_vipps(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        path = urlsplit(url).path
        if path.startswith("/accesstoken"):  # asked for under a lock of the process: nobody else may go on
            return carry(self.simulator.app, method, url, headers, body)
        call = f"{method} {path.rpartition('/')[2] if path.endswith(('charges', 'refund')) else path.split('/')[1]}"
        with self.in_hand(headers.get("Idempotency-Key")):
            self.boundary(f"before {call}")
            kind = self.weather.fault()
            happens, seen = FAULTS[kind] if kind else (True, None)
            if kind:
                self.tell(f"{method} {path}: {kind}")
            reply = carry(self.simulator.app, method, url, headers, body) if happens else None
            if reply is not None and not kind:
                self.tell(f"{method} {path}: {reply.status}")
            if method == "POST" and self.is_late(self.running):
                self.late.add(path)
            self.news()
            self.linger(self.weather)
            self.boundary(f"after {call}")
        if isinstance(seen, Reply):
            return seen
        if seen is not None:
            raise seen(kind)
        assert reply is not None
        return reply

    def vipps(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Ask the stand-in for something by hand."""
        self.news()
        return carry(self.simulator.app, method, VIPPS + path, {"Content-Type": "application/json"}, body)

    def portal(self, partner: int, path: str, body: bytes, key: str) -> Reply:
        """Do something in a partner's portal at Vipps, behind our back."""
        assert len(key) <= _LONGEST_KEY, "Vipps would refuse it, and nothing would ever be done by hand"
        unit = PARTNERS[partner]
        keys = {
            "client_id": unit.client_id,
            "client_secret": unit.client_secret,
            "Ocp-Apim-Subscription-Key": unit.subscription_key,
            "Merchant-Serial-Number": unit.merchant_serial_number,
        }
        token = carry(self.simulator.app, "POST", f"{VIPPS}/accesstoken/get", keys, b"")
        login = {"Authorization": f"Bearer {json.loads(token.body)['access_token']}", "Idempotency-Key": key}
        self.news()
        headers = {"Content-Type": "application/json", **keys, **login}
        return carry(self.simulator.app, "POST", VIPPS + path, headers, body)

    def at_home(self, act: Callable[[], object]) -> bool:
        """Have an operator do something; what cannot be done is not done. Return whether it was."""
        try:
            with self.app.app_context():
                act()
                return True
        except Exception as error:  # noqa: BLE001 - the judge looks at what came of it
            self.tell(f"could not: {type(error).__name__}: {error}")
            return False


def _forget(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


_house: list[House] = []
_WROTE = "has written"
# Whose turn it is, and how often it may be: nobody waits for that.
_OWN_AFFAIRS = frozenset({"job_runs", "rate_limits", "used_nonces"})


def _listen(house: House | None) -> None:
    """Have this world hear of every transaction's end; SQLAlchemy's listeners are hung up once."""
    _house[:] = [house] if house else []


def in_the_background(name: str, act: Callable[[], None]) -> None:
    """Have something done a little later by the process that goes on now, if it lives until then."""
    house = _house[0]
    task = house.current
    process = task.inside[-1][0] if task.inside else task.process or house.processes["web"]

    def run() -> None:
        with process.app.app_context():
            act()

    house.spawn(name, run, process)


@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    if _house and _is_ours(session):
        _house[0].may_die("a commit")


@event.listens_for(Session, "do_orm_execute")
def _on_execute(state: ORMExecuteState) -> None:
    if isinstance(state.statement, UpdateBase) and state.statement.table.name not in _OWN_AFFAIRS:
        state.session.info[_WROTE] = True


@event.listens_for(Session, "after_flush")
def _after_flush(session: Session, _: UOWTransaction) -> None:
    changed = (*session.new, *session.dirty, *session.deleted)
    if any(row.__tablename__ not in _OWN_AFFAIRS for row in changed):
        session.info[_WROTE] = True


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    # Whoever has only looked leaves nothing for anybody, nor does who has written for nobody else.
    if session.info.pop(_WROTE, False) and _house and _is_ours(session):
        _house[0].news()


@event.listens_for(Session, "after_transaction_end")
def _after_end(session: Session, transaction: SessionTransaction) -> None:
    if _house and transaction.parent is None and _is_ours(session):
        _house[0].boundary("the end of a transaction")


def _is_ours(session: Session) -> bool:
    """Tell our sessions from the stand-in's."""
    return hasattr(session, "_db")


@contextmanager
def house(
    folder: Path, database: Database, dice: random.Random, time: Time, seldom: timedelta, lost: timedelta | None = None
) -> Iterator[House]:
    """Build a world, and take it down.

    seldom: how long apart at least is what is done in case something was missed.
    lost: how much the database forgets when it is set back, once; None: it never is.
    """
    made = House(folder, database, dice, time, seldom, lost)
    try:
        yield made
    finally:
        made.close()
