"""A world that can be set up again in a moment: our processes, the stand-in's, a database, a partner's server, a clock.

It is prepared once and then copied for each cell: a partner, another with keys of its own, and webhooks are there.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import requests
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from invoice.cli.processes import address
from invoice.cli.stand_in import simulator_environ
from invoice.store.db import db, install_engine_settings, reading, set_encryption_keys, transaction
from tests.conftest import migrate
from tests.journeys.demo import free_port
from tests.proofs import dying
from tests.receivers import Receiver

# A Tuesday noon in Norway: after the morning's batch, before the evening's, far from any change of the clocks.
START = datetime(2030, 1, 15, 11, tzinfo=UTC)
PARTNER, OWNER = 10295, 20000
SECRET_KEY = "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5"
KEYS = (
    *("--msn", "234567", "--client-id", "demo-client-dk"),
    *("--client-secret", "demo-secret-dk", "--subscription-key", "demo-subscription-key-dk"),
)
_TIMEOUT_S = 60
_MOST_LOOKS = 100
# Forked from a process that has everything imported: a start takes hundredths of a second, and shares nothing.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.proofs.kill_load", "tests.proofs.kill_postgres"])


class Database(Protocol):
    """Where our tables lie."""

    url: str

    def keep(self, name: str = "kept") -> None:
        """Remember how everything is, under a name; nobody has it open."""

    def restore(self, name: str = "kept") -> None:
        """Have everything as it was then."""


class Sqlite:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "invoice.sqlite3"
        self.url = f"sqlite:///{self._file}"

    def keep(self, name: str = "kept") -> None:
        """Remember how everything is, under a name; nobody has it open."""
        self._copy(self._file, self._file.with_stem(name))

    def restore(self, name: str = "kept") -> None:
        """Have everything as it was then."""
        self._copy(self._file.with_stem(name), self._file)

    def empty_log(self) -> None:
        """Bring into the file what the log holds, and leave the log without a byte."""
        with closing(sqlite3.connect(self._file, timeout=_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _copy(self, source: Path, target: Path) -> None:
        for end in ("-wal", "-shm", ""):
            Path(f"{target}{end}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copy(f"{source}{end}", f"{target}{end}")


class Service:
    """One of our processes."""

    def __init__(self, environ: Mapping[str, str], *, faces: bool = True, runs: bool = False) -> None:
        ours, theirs = _FORKS.Pipe(duplex=False)
        kinds = {"faces": faces, "runs": runs}
        self._process = _FORKS.Process(target=dying.serve, args=(dict(environ), theirs), kwargs=kinds, daemon=True)
        self.ready = _started(self._process, ours, theirs)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self._process.join(_TIMEOUT_S)

    def is_dead(self, within_s: float) -> bool:
        """Tell whether it has come to an end by a kill."""
        self._process.join(within_s)
        return self._process.exitcode == -9


def _started(process: BaseProcess, ours: Any, theirs: Any) -> bool:
    """Start a process; return whether it came so far as to say that it is ready."""
    process.start()
    theirs.close()
    with ours:
        try:
            ours.recv()
        except EOFError:
            return False
    return True


class World:
    """Everything around one service."""

    def __init__(self, folder: Path, database: Database | None = None, **environ: str) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self.database = database or Sqlite(folder)
        port = free_port()
        self.service_url, self.vipps_url = address(port), address(port + 1)
        self.receiver = Receiver()
        self._stack.callback(self.receiver.close)
        self.http = self._stack.enter_context(requests.Session())
        self.http.trust_env = False
        self._journal = folder / "journal.json"
        self.environ = {
            "INVOICE_DATABASE_URL": self.database.url,
            "INVOICE_PUBLIC_URL": self.service_url,
            "INVOICE_SECRET_KEY": SECRET_KEY,
            "INVOICE_ENGINE": "inline",
            "INVOICE_JOURNAL": str(self._journal),
            **simulator_environ(self.vipps_url),
            dying.CLOCK: str(folder / "clock"),
            dying.LOG: str(folder / "log"),
            dying.DIED_AT: str(folder / "died"),
            **environ,
        }
        self._vipps: BaseProcess | None = None
        self.books = self._books()
        self.secrets = {PARTNER: "a-partner-secret-10295", OWNER: "a-partner-secret-20000"}

    def close(self) -> None:
        """End everything."""
        self._end_vipps()
        with self.books.app_context():
            db.engine.dispose()
        self._stack.close()

    def begin(self, at: datetime = START, *, runs: bool = False) -> None:
        """Have Vipps be there, at an instant. runs: what time brings there happens by itself."""
        ours, theirs = _FORKS.Pipe(duplex=False)
        arguments = (self.folder, int(self.vipps_url.rpartition(":")[2]), at, theirs)
        self._vipps = _FORKS.Process(target=dying.stand_in, args=arguments, kwargs={"runs": runs}, daemon=True)
        assert _started(self._vipps, ours, theirs), "the stand-in did not start"

    def restore(self, *, runs: bool = False) -> None:
        """Begin anew from what was kept."""
        self._end_vipps()
        with self.books.app_context():
            db.engine.dispose()
        shutil.rmtree(self.folder / "vipps", ignore_errors=True)
        shutil.copytree(self.folder / "kept-vipps", self.folder / "vipps")
        self.database.restore()
        self._journal.unlink(missing_ok=True)
        self.receiver.got.clear()
        self.begin(runs=runs)

    def books_only(self, act: Callable[[str], None], name: str) -> None:
        """Keep or restore our tables, and nothing else, under a name. No service may be running."""
        with self.books.app_context():
            db.engine.dispose()
        act(name)

    def keep(self) -> None:
        """Keep how everything is. No service may be running."""
        self._end_vipps()
        with self.books.app_context():
            db.engine.dispose()
        shutil.copytree(self.folder / "vipps", self.folder / "kept-vipps")
        self.database.keep()

    def _end_vipps(self) -> None:
        if self._vipps is not None:
            self._vipps.kill()
            self._vipps.join(_TIMEOUT_S)
            self._vipps = None

    def _books(self) -> Flask:
        """Return an application that does nothing but read our tables."""
        books = Flask("books")
        books.config["SQLALCHEMY_DATABASE_URI"] = self.database.url
        books.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
        set_encryption_keys(SECRET_KEY)
        db.init_app(books)
        with books.app_context():
            install_engine_settings(db.engine)
        return books

    def rows(self, query: str, **values: Any) -> list[Any]:
        """Ask our tables, again and again while the database is away."""
        for _ in range(_MOST_LOOKS):
            with suppress(OperationalError), self.books.app_context(), reading():
                return list(db.session.execute(text(query), values))
            threading.Event().wait(0.1)
        raise AssertionError("The database stays away.")

    def write(self, statement: str) -> None:
        """Have something in our tables that no face can bring about."""
        with self.books.app_context(), transaction():
            db.session.execute(text(statement))

    def start(self, *, faces: bool = True, runs: bool = False, **environ: str) -> Service:
        """Start one of our processes."""
        return Service({**self.environ, **environ}, faces=faces, runs=runs)

    # Vipps, people and time

    def control(self, path: str, body: Any = None) -> Any:
        """Have the stand-in do something."""
        answer = self.http.post(f"{self.vipps_url}/sim/{path}", json=body or {}, timeout=_TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def look(self, path: str, **params: str) -> Any:
        """Look at the stand-in."""
        answer = self.http.get(f"{self.vipps_url}/sim/{path}", params=params, timeout=_TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def now(self) -> datetime:
        """Return what time it is on both sides."""
        ahead = timedelta(microseconds=int((self.folder / "clock").read_text()))
        return datetime.now(UTC) + ahead

    def advance_to(self, at: datetime) -> None:
        """Move the clock on to an instant, unless it is past; Vipps does what falls due, and tells it."""
        seconds = int((at - self.now()).total_seconds()) + 1
        self.control("clock/advance", {"seconds": max(seconds, 1)})

    def fault(self, call: str, kind: str, **more: Any) -> None:
        """Have calls at Vipps or Twilio go wrong; what times out hangs up at once."""
        hurry = {"seconds": 0} if kind.startswith("timeout") else {}
        self.control("faults", {"call": call, "fault": kind, **hurry, **more})

    def merchant(self, method: str, path: str, body: Any = None, *, unit: str = "") -> requests.Response:
        """Do something at Vipps that does not come from us. unit: "" or "-dk", whose keys are used."""
        keys = {"client_id": f"demo-client{unit}", "client_secret": f"demo-secret{unit}"}
        headers = {**keys, "Ocp-Apim-Subscription-Key": f"demo-subscription-key{unit}"}
        token = self.http.post(f"{self.vipps_url}/accesstoken/get", headers=headers, timeout=_TIMEOUT_S).json()
        headers |= {
            "Authorization": f"Bearer {token['access_token']}",
            "Idempotency-Key": sha256(path.encode()).hexdigest()[:36],
        }
        serial = {"": "123456", "-dk": "234567"}[unit]
        headers["Merchant-Serial-Number"] = serial
        return self.http.request(method, self.vipps_url + path, json=body, headers=headers, timeout=_TIMEOUT_S)


@contextmanager
def prepared(folder: Path, database: Database | None = None, **environ: str) -> Iterator[World]:
    """Give a world that is ready to be restored."""
    made = World(folder, database, **environ)
    try:
        migrate(made.database.url)
        (folder / "vipps").mkdir()
        made.begin()
        service = made.start()
        assert service.ready, (folder / "log").read_text()
        for number, more in ((PARTNER, []), (OWNER, ["--market", "DK"])):
            _command(made, "partner", "add", str(number), "--name", "Avisen", "--originator", "2119", *more)
            said = _command(made, "partner", "rotate", str(number))
            made.secrets[number] = said.split()[-1]
        _command(made, "vipps", "keys", "set", str(OWNER), *KEYS)
        made.http.post(f"{made.service_url}/drill/work", timeout=_TIMEOUT_S).raise_for_status()
        service.kill()
        made.keep()
        yield made
    finally:
        made.close()


def _command(world: World, *arguments: str) -> str:
    answer = world.http.post(f"{world.service_url}/drill/flask", json=arguments, timeout=_TIMEOUT_S).json()
    assert answer["status"] == 0, answer
    return str(answer["output"])
