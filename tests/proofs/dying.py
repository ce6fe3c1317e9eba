"""The service and the stand-in as processes of their own, and hooks that end the service at a named boundary.

`CRASH_AT="charges.refresh before 3"` kills the process, as `kill -9` does, at the third pass of that boundary: before
what it has written is committed, or before the call leaves; "after" is when it is committed, or the answer is here. Of
several, by semicolons, it dies at the one that it comes to first. Nothing in the service knows of it. Addresses under
/drill/ have it work step by step, and do what has no face yet.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import requests
from flask import Flask, Response, jsonify, request
from flask.cli import ScriptInfo
from sqlalchemy import Engine as Database
from sqlalchemy import event
from werkzeug.serving import WSGIRequestHandler, make_server

from app import create_app
from invoice import clock
from invoice.cli import books as book_commands
from invoice.cli import partners as partner_commands
from invoice.cli import vipps as vipps_commands
from invoice.cli.processes import ENGINE, HOST
from invoice.config import Settings
from invoice.providers.outbound import PartnerPipe
from invoice.providers.twilio import TwilioClient
from invoice.providers.vipps import VippsClient
from invoice.services import endings, persons
from invoice.services.changes import NewTerms
from invoice.services.jobs import Services, beat
from invoice.services.operations import end_leases
from invoice.simulator.app import create_simulator
from invoice.simulator.serving import make_simulator_server
from invoice.store.db import transaction
from invoice.web import services as reach
from tests.proofs.boundaries import blocks, verbs

CRASH_AT = "CRASH_AT"
# A file that holds where this process died.
DIED_AT = "DIED_AT_FILE"
# A file with microseconds: how far both sides are ahead of the machine's clock. The stand-in writes it.
CLOCK = "CLOCK_FILE"
# A file; while it is there, no database of this process may grow.
DISK_FULL = "DISK_FULL_FILE"
LOG = "LOG_FILE"
_CLIENTS = {"payments": VippsClient, "sms": TwilioClient, "partners": PartnerPipe}


class Passes:
    """Counts who passes where, and lets nobody further than `crash_at` says."""

    def __init__(self, crash_at: str, died_at: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._ends, self._died_at = frozenset(crash_at.split(";")), died_at
        self._lock = threading.Lock()

    def passing(self, name: str, side: str) -> None:
        """Count, or die."""
        with self._lock:
            place = f"{name} {side}"
            self.counts[place] += 1
            end = f"{place} {self.counts[place]}"
            if end in self._ends:
                self._died_at.write_text(end)
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(self) -> None:
        """Stand at every boundary."""
        for module in {block.module for block in blocks()}:
            import_module(module).transaction = self._transaction  # type: ignore[attr-defined]
        for verb in verbs():
            port, _, name = verb.partition(".")
            setattr(_CLIENTS[port], name, self._around(verb, getattr(_CLIENTS[port], name)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        frame = sys._getframe(2)  # whose `with` it is: the frame between is the decorator's
        name = _NAMES[frame.f_globals["__name__"], frame.f_lineno]
        with transaction():
            yield
            self.passing(name, "before")
        self.passing(name, "after")

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def passed(*args: Any, **kwargs: Any) -> Any:
            self.passing(name, "before")
            try:
                return call(*args, **kwargs)
            finally:
                self.passing(name, "after")

        return passed


_NAMES = {(block.module, block.line): block.name for block in blocks()}


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


def serve(environ: Mapping[str, str], ready: Connection, *, faces: bool, runs: bool) -> None:
    """Be the service until killed. faces: answers requests; runs: does the recurring work by itself."""
    app, passes = _enter(environ)
    engine = app.extensions[ENGINE]
    if runs:
        engine.start()
    if not faces:
        ready.send(None)
        threading.Event().wait()
    _open_drill(app, passes)
    port = int(environ["INVOICE_PUBLIC_URL"].rpartition(":")[2])
    server = make_server(HOST, port, app, threaded=True, request_handler=_Quiet)
    ready.send(None)
    server.serve_forever()


def _enter(environ: Mapping[str, str]) -> tuple[Flask, Passes]:
    os.environ.update(environ)
    with Path(environ[LOG]).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    ahead = Path(environ[CLOCK])
    clock.follow(lambda: datetime.now(UTC) + timedelta(microseconds=int(ahead.read_text())))
    if DISK_FULL in environ:
        _limit_disk(Path(environ[DISK_FULL]))
    passes = Passes(environ.get(CRASH_AT, ""), Path(environ[DIED_AT]))
    passes.hook()
    # Whoever waits at the keyboard has the clock moved instead.
    advance = f"{environ['VIPPS_BASE_URL']}/sim/clock/advance"
    book_commands._wait = lambda seconds: requests.post(advance, json={"seconds": int(seconds) + 1}, timeout=60)
    return create_app(Settings.from_environ(environ)), passes


def _limit_disk(full: Path) -> None:
    """Have SQLite find no room for one more page while the file is there."""

    @event.listens_for(Database, "begin")
    def look(connection: Any) -> None:
        [pages] = connection.exec_driver_sql("PRAGMA page_count").fetchone()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages if full.exists() else 2**30}")


def stand_in(folder: Path, port: int, at: datetime, ready: Connection, *, runs: bool) -> None:
    """Be Vipps and Twilio until killed, beginning at an instant. runs: time does its work by itself."""
    simulator = create_simulator(folder / "vipps", base_url=f"http://{HOST}:{port}")
    move = simulator.clock.move

    def moved(by: timedelta) -> None:
        move(by)
        fresh = folder / "clock.new"
        fresh.write_text(str((simulator.clock.now() - datetime.now(UTC)) // timedelta(microseconds=1)))
        fresh.rename(folder / "clock")

    simulator.clock.move = moved  # type: ignore[method-assign]
    moved(at - simulator.clock.now())
    server = make_simulator_server(simulator, HOST, port)
    if runs:
        simulator.start()
    ready.send(None)
    server.serve_forever()


# What people at the keyboard do that has no page and no command yet.
ACTS: dict[str, Callable[..., Any]] = {
    "change": lambda s, subscription, amount: s.changes.change(subscription, NewTerms(amount=amount)),
    "capture": lambda s, charge, amount: s.captures.capture(charge, amount),
    "call_off": lambda s, charge: s.cancels.cancel(charge),
    "refund": lambda s, charge, amount: s.refunds.refund(charge, amount, "Beklager"),
    "end_with_period": lambda _, subscription: endings.end_with_period(subscription),
    "keep": lambda _, subscription: endings.keep(subscription),
    "erase": lambda _, number: persons.erase(number),
    "end_leases": lambda _: end_leases(),
}
_COMMANDS: dict[str, click.Command] = {
    "partner": partner_commands.partner,
    "vipps": vipps_commands.vipps,
    "charges": book_commands.charges,
    "reconcile": book_commands.reconcile,
}


def _open_drill(app: Flask, passes: Passes) -> None:
    @app.post("/drill/work")
    def work() -> Response:
        engine, rounds = app.extensions[ENGINE], 0
        while engine.run_once():
            rounds += 1
            assert rounds < 1000, "the work does not end"
        with app.app_context():
            beat()
        return jsonify(rounds)

    @app.post("/drill/act/<name>")
    def act(name: str) -> Response:
        services: Services = app.extensions[reach.SERVICES]
        return jsonify(str(ACTS[name](services, **request.get_json())))

    @app.post("/drill/flask")
    def command() -> Response:
        first, *arguments = request.get_json()
        runner = app.test_cli_runner()
        said = runner.invoke(_COMMANDS[first], arguments, obj=ScriptInfo(create_app=lambda: app))
        return jsonify(status=said.exit_code, output=said.output)

    @app.get("/drill/passes")
    def show() -> Response:
        return jsonify(passes.counts)
