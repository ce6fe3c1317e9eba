"""Our processes and the stand-in, stepped by one hub that decides at every boundary who goes on.

A boundary is the end of a database transaction, or a call that leaves or comes back. There the dice say: go on, let
somebody else go on, stall for minutes, or die. A process that dies loses its memory and starts again later.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from flask import Flask
from greenlet import GreenletExit, getcurrent, greenlet
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from app import create_app, equip
from invoice.cli.simulator import simulator_environ
from invoice.clock import utc_now
from invoice.config import Settings
from invoice.engine.inline import Engine
from invoice.services.jobs import Jobs
from invoice.services.journal import Journal
from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.app import create_simulator
from invoice.simulator.engine import next_due
from invoice.store.db import db, transaction
from invoice.store.models import EventEndpoint
from invoice.web import services as reach
from tests import factories
from tests.simulation.chance import Time
from tests.simulation.databases import Database, SQLite
from tests.simulation.network import FAULTS, Reply, Weather, carry, wired
from tests.simulation.partner import SECRET, URL, Partner

SERVICE, VIPPS = "http://127.0.0.1:8000", "http://127.0.0.1:9000"
PARTNER = 10295
START = datetime(2030, 1, 15, 11, tzinfo=UTC)
_LONGEST_STEP = timedelta(hours=12)
# What the judge does itself, at the end and from the outside.
_JUDGED = frozenset({"proof", "audit"})
_MOST_STEPS_A_DAY = 3000
# Longer than any lease.
_PATIENCE = timedelta(minutes=5)
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
}


class Killed(BaseException):
    """The process is gone: nothing that follows in it happens."""


class _Inline:
    """An executor for one thread of the world: what is given to it is done at once."""

    def submit(self, work: Callable[..., Any], *args: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args, **more))
        return done

    def shutdown(self) -> None:
        """Nothing is left."""


@dataclass
class Process:
    """One of ours. life counts its starts: what belongs to an earlier one is dead."""

    name: str
    app: Flask
    life: int = 0
    back_at: datetime | None = None  # while it is down


@dataclass(eq=False)
class Task:
    """Something that goes on: a worker, the stand-in's own time, a person."""

    name: str
    run: greenlet
    process: Process | None = None
    life: int = 0
    wake_at: datetime | None = None  # None: when there is news
    late_at: datetime | None = None  # it may be too late for what it does, having stood still until then
    inside: list[tuple[Process, int]] = field(default_factory=list)  # processes that it acts in


@cache
def _apps(settings: Settings) -> dict[str, Flask]:
    """Return our processes' applications; making one takes longer than a simulated week."""
    return {name: create_app(settings) for name in ("web", "worker one", "worker two")}


class House:
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
        self.dice, self.time, self.weather = dice, time, Weather(dice)
        self.stories: list[str] = []
        self.passed: Counter[str] = Counter()
        self.deaths = 0
        self.tasks: list[Task] = []
        self.checks: list[Callable[[], None]] = []
        self.wrongs: list[str] = []  # what was seen to be wrong, whatever the tables say
        self.had_late_texts = False  # one that was sent by somebody who had stood still for long
        self._hands: dict[str, Task] = {}  # who is at the act of that key
        self.partner = Partner(self)
        time.pause = self._pause
        self._hub = getcurrent()
        self._running: Task | None = None
        self._is_news = True
        self._stack = ExitStack()
        self.crash_chance = dice.choice([0.0, 0.001, 0.004, 0.004, 0.02])
        self.switch_chance = dice.choice([0.1, 0.3, 0.6])
        self.stall_chance = dice.choice([0.0, 0.002, 0.01])
        self.seldom, self.lost, self.folder = seldom, lost, folder
        self.database = database
        self.settings = Settings.from_environ(
            {
                "INVOICE_DATABASE_URL": database.url,
                "INVOICE_PUBLIC_URL": SERVICE,
                "INVOICE_SECRET_KEY": "a-secret-key-for-tests-that-is-long-enough",
                **simulator_environ(VIPPS),
            }
        )
        self.simulator = create_simulator(folder / "vipps", base_url=VIPPS)
        self.simulator.clock.now = time.now  # type: ignore[method-assign]
        self.simulator._post._threads = _Inline()  # type: ignore[assignment]
        self.switches = {name: dice.choice(choices) for name, choices in _OPEN_QUESTIONS.items()}
        self.simulator._world.switchboard.change(self.switches)
        self._stack.callback(self.simulator.stop)
        self._stack.enter_context(wired(self._send))
        self._stack.enter_context(database.opened())
        self.processes = {name: Process(name, app) for name, app in _apps(self.settings).items()}
        for process in self.processes.values():
            self._stack.callback(_forget, process.app)
            self._start(process)
        with self.app.app_context():
            factories.a_partner(PARTNER)
            with transaction():
                db.session.add(EventEndpoint(partner_id=PARTNER, url=URL, secret=SECRET, created_at=utc_now()))
        _listen(self)
        self._stack.callback(_listen, None)
        for name in ("worker one", "worker two"):
            self.spawn(name, self._work, self.processes[name])
        self.spawn("vipps", self._live)

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

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        who = self._running.name if self._running else "hub"
        self.stories.append(f"{self.time.at:%Y-%m-%d %H:%M:%S} {who}: {what}")

    def wrong(self, what: str) -> None:
        """Note what must never be. What is sent again after the books went back is out of order, as it must be."""
        if self.lost is None:
            self.wrongs.append(what)

    # Processes

    def _start(self, process: Process) -> None:
        """Start with an empty memory."""
        equip(process.app, self.settings)
        deliveries = process.app.extensions[reach.SERVICES].deliveries
        deliveries._pipe, deliveries._threads = self.partner, _Inline()
        process.life, process.back_at = process.life + 1, None

    def _kill(self, process: Process) -> None:
        self.tell(f"{process.name} dies")
        self.deaths += 1
        down = self.dice.choice([1, 10, 60, 300, 3600, 3600, 86_400, 5 * 86_400])
        process.back_at = self.time.at + timedelta(seconds=down)
        process.life += 1

    def set_back(self) -> None:
        """Have the database forget: everybody of ours dies, and comes back to what was kept."""
        assert isinstance(self.database, SQLite)
        for process in self.processes.values():
            _forget(process.app)
            process.back_at, process.life = self.time.at, process.life + 1
        self.database.go_back()
        self._is_news = True

    def _bring_back(self) -> None:
        for process in self.processes.values():
            if process.back_at is not None and process.back_at <= self.time.at:
                self._start(process)
                self.tell(f"{process.name} is back")
                if process.name != "web":
                    self.tasks = [t for t in self.tasks if t.name != process.name]
                    self.spawn(process.name, self._work, process)

    def _work(self) -> None:
        process = self._current.process
        assert process is not None
        jobs = Jobs(process.app.extensions[reach.SERVICES])
        # What is done every few minutes in case something was missed is done less often: a year must pass in seconds.
        table = [job for job in jobs.table if job.name not in _JUDGED]
        jobs.table = tuple(replace(job, every=self._stretched(job.every)) for job in table)
        engine = Engine(
            process.app,
            jobs,
            Journal(str(self.folder / f"{process.name}.json"), self.database.url) if self.lost else None,
        )
        while True:
            if not engine.run_once():
                self.rest(None)

    def _stretched(self, every: timedelta | None) -> timedelta | None:
        return self.seldom if every is not None and every < timedelta(days=1) else every

    def _live(self) -> None:
        while True:
            if not self.simulator.run_due():
                self.rest(None)

    # The hub

    @property
    def _current(self) -> Task:
        assert self._running is not None
        return self._running

    def spawn(self, name: str, run: Callable[[], None], process: Process | None = None) -> None:
        """Have something go on from now on."""
        task = Task(name, greenlet(run, parent=self._hub), process, process.life if process else 0, self.time.at)
        self.tasks.append(task)

    def rest(self, by: timedelta | None) -> None:
        """Go on after so long, or when there is news."""
        task = self._current
        task.wake_at = None if by is None else self.time.at + by
        self._hub.switch()

    def _pause(self, by: timedelta) -> None:
        if self._is_stepped():
            self.rest(by)
        else:
            self.time.move(by)

    def _is_stepped(self) -> bool:
        """Tell whether somebody goes on whom the hub can hold up."""
        return self._running is not None and getcurrent() is self._running.run

    def run(self, until: datetime) -> None:
        """Let everything go on until then."""
        for _ in range(_MOST_STEPS_A_DAY * (1 + (until - self.time.at).days)):
            self._bring_back()
            ready = [t for t in self.tasks if self._may_go_on(t)]
            if not ready and self._is_news:
                self._is_news = False
                ready = [t for t in self.tasks if t.wake_at is None and not _is_dead(t)]
            if ready:
                self._resume(self.dice.choice(ready))
                self.time.move(timedelta(milliseconds=self.dice.randrange(1, 40)))
                continue
            for check in self.checks:
                check()
            if self.time.at >= until:
                return
            self.time.at = max(self.time.at, min(self._next(), until, self.time.at + _LONGEST_STEP))
            self._is_news = True
        raise AssertionError("The world does not come to rest.")

    def _may_go_on(self, task: Task) -> bool:
        return task.wake_at is not None and task.wake_at <= self.time.at and not _is_dead(task)

    def _resume(self, task: Task) -> None:
        self._running = task
        task.wake_at = self.time.at
        try:
            task.run.switch()
        except Killed:
            task.run = greenlet(lambda: None)
        finally:
            self._running = None
        if task.run.dead or _is_dead(task):
            self.tasks = [t for t in self.tasks if t is not task]

    def _next(self) -> datetime:
        times = [t.wake_at for t in self.tasks if t.wake_at is not None and not _is_dead(t)]
        times += [p.back_at for p in self.processes.values() if p.back_at is not None]
        theirs = next_due(self.simulator._world)
        ours = self.database.next_due()
        if ours is not None and any(p.back_at is None for n, p in self.processes.items() if n != "web"):
            times.append(ours)
        times += [theirs] if theirs is not None else []
        # What is overdue is being kept from happening; time goes on all the same.
        soon = self.time.at + timedelta(seconds=1)
        return min((max(at, soon) for at in times), default=soon + _LONGEST_STEP)

    # Boundaries

    def boundary(self, name: str) -> None:
        """Let the dice decide about whoever passes here."""
        if not self._is_stepped():
            return
        task = self._current
        self.passed[name] += 1
        process = task.inside[-1][0] if task.inside else task.process
        self._die_if_dead(task)
        drawn = self.dice.random()
        if process is not None and drawn < self.crash_chance:
            self.tell(f"at {name}")
            self._kill(process)
            raise Killed
        drawn -= self.crash_chance
        if drawn < self.stall_chance:
            stall = timedelta(seconds=self.dice.choice([1, 20, 100, 200, 1000]))
            self.tell(f"stalls for {stall} at {name}")
            task.late_at = self.time.at + stall
            self.rest(stall)
        elif drawn - self.stall_chance < self.switch_chance:
            self.rest(timedelta(0))
        self._die_if_dead(task)

    def may_die(self, name: str) -> None:
        """Let whoever is about to commit die instead."""
        if not self._is_stepped():
            return
        task = self._current
        process = task.inside[-1][0] if task.inside else task.process
        self._die_if_dead(task)
        if process is not None and self.dice.random() < self.crash_chance:
            self.tell(f"before {name}")
            self._kill(process)
            raise Killed

    def _die_if_dead(self, task: Task) -> None:
        if _is_gone(task):
            raise Killed

    def linger(self, weather: Weather) -> None:
        """Let the call that is under way take its time."""
        if self._is_stepped() and (seconds := weather.latency_s()):
            self.rest(timedelta(seconds=seconds))

    def _is_late(self, task: Task | None) -> bool:
        """Tell whether somebody may be too late for what it is at."""
        return task is not None and task.late_at is not None and task.late_at > self.time.at - _PATIENCE

    @contextmanager
    def _in_hand(self, key: str | None) -> Iterator[None]:
        """R1: one act is in one hand at a time, unless whoever had it first has stood still for too long."""
        task = self._running
        if key is None or task is None:
            yield
            return
        other = self._hands.get(key, task)
        if other is not task and not self._is_late(other) and not _is_gone(other) and not _is_dead(other):
            self.wrong(f"R1: {task.name} takes up what {other.name} is at")
        self._hands[key] = task
        try:
            yield
        finally:
            if self._hands.get(key) is task:
                del self._hands[key]

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
        task = self._running
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
        with self._in_hand(headers.get("Idempotency-Key")):
            self.boundary(f"before {call}")
            kind = self.weather.fault()
            happens, seen = FAULTS[kind] if kind else (True, None)
            if kind:
                self.tell(f"{method} {path}: {kind}")
            reply = carry(self.simulator.app, method, url, headers, body) if happens else None
            if reply is not None and not kind:
                self.tell(f"{method} {path}: {reply.status}")
            self.had_late_texts |= "/Messages" in path and method == "POST" and self._is_late(self._running)
            self._is_news = True
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
        self._is_news = True
        return carry(self.simulator.app, method, VIPPS + path, {"Content-Type": "application/json"}, body)

    def portal(self, path: str, body: bytes, key: str) -> Reply:
        """Do something in the merchant's portal at Vipps, behind our back."""
        keys = {
            "client_id": DEMO_UNIT.client_id,
            "client_secret": DEMO_UNIT.client_secret,
            "Ocp-Apim-Subscription-Key": DEMO_UNIT.subscription_key,
            "Merchant-Serial-Number": DEMO_UNIT.merchant_serial_number,
        }
        token = carry(self.simulator.app, "POST", f"{VIPPS}/accesstoken/get", keys, b"")
        login = {"Authorization": f"Bearer {json.loads(token.body)['access_token']}", "Idempotency-Key": key}
        self._is_news = True
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

    def committed(self) -> None:
        """There is something new in our tables."""
        self._is_news = True


def _forget(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


def _is_gone(task: Task) -> bool:
    """Tell whether the process that somebody acts in has died since."""
    lives = [(task.process, task.life)] if task.process and not task.inside else []
    return any(process.life != life for process, life in [*lives, *task.inside[-1:]])


def _is_dead(task: Task) -> bool:
    return task.run.dead or (task.process is not None and task.process.life != task.life)


_house: list[House] = []


def _listen(house: House | None) -> None:
    """Have this world hear of every transaction's end; SQLAlchemy's listeners are hung up once."""
    _house[:] = [house] if house else []


def in_the_background(name: str, act: Callable[[], None]) -> None:
    """Have something done a little later by the process that goes on now, if it lives until then."""
    house = _house[0]
    task = house._current
    process = task.inside[-1][0] if task.inside else task.process or house.processes["web"]

    def run() -> None:
        with process.app.app_context():
            act()

    house.spawn(name, run, process)


@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    if _house and _is_ours(session):
        _house[0].may_die("a commit")


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    if _house and _is_ours(session):
        _house[0].committed()


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
