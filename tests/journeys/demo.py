"""The demo as its own process, driven over real sockets: what a partner, a person and time do to it.

What it says to the simulator on the vendor's paths lies in the folder EXCHANGES beside its data.
"""

from __future__ import annotations

import json
import random
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

ROOT = Path(__file__).parents[2]
PARTNER = 10295
# Generous: a machine that does much else at the same time.
TIMEOUT_S = 300
EXCHANGES = "exchanges"


def recorded(folder: Path, *arguments: str) -> list[str]:
    """Return a command of `flask` as it is started with a simulator that writes what it hears into `folder`."""
    return [sys.executable, "-m", "tests.journeys.recorded", str(folder), *arguments]


def free_port() -> int:
    """Return a port that is free together with the next one: below those that the system gives to whoever asks."""
    for port in random.sample(range(20_000, 32_000, 2), 100):
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("No two free ports stand side by side.")


class Demo:
    """One `flask demo`, which may be killed and started again on the same data."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.service = f"http://127.0.0.1:{self.port}"
        self.simulator = f"http://127.0.0.1:{self.port + 1}"
        self.secret = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and return when it has said that it is ready."""
        command = recorded(self.data.parent / EXCHANGES, "demo", "--port", str(self.port), "--data", str(self.data))
        log = (self.data.parent / "demo.log").open("a")
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            found = re.match(r"partner 10295 secret (\S+)", line)
            self.secret = found[1] if found else self.secret
            if "Ctrl-C stops" in line:
                return
        self._reap()
        raise AssertionError(f"The demo ended: {''.join(said)}{(self.data.parent / 'demo.log').read_text()}")

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def stop(self) -> int:
        """End it as Ctrl-C does; return its exit status."""
        assert self._process is not None
        self._process.send_signal(2)
        return self._reap()

    def _reap(self) -> int:
        assert self._process is not None
        status = self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    # What people and time do

    def get(self, url: str, **kwargs: Any) -> requests.Response:
        return requests.get(url, timeout=TIMEOUT_S, **kwargs)

    def post(self, url: str, **kwargs: Any) -> requests.Response:
        return requests.post(url, timeout=TIMEOUT_S, **kwargs)

    def subscribe(self, payload: Mapping[str, Any] | bytes) -> requests.Response:
        """Ask for a subscription as partner 10295."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.post(
            f"{self.service}/api/recurring/subscribe",
            data=body,
            headers={"Content-Type": "application/json"},
            auth=(str(PARTNER), self.secret),
        )

    def cancel(self, identifier: object) -> requests.Response:
        """Cancel as partner 10295."""
        url = f"{self.service}/api/recurring/cancel/{identifier}"
        return requests.delete(url, auth=(str(PARTNER), self.secret), timeout=TIMEOUT_S)

    def listed(self) -> list[dict[str, Any]]:
        """List all subscriptions of partner 10295."""
        url = f"{self.service}/api/recurring/subscriptions/{PARTNER}/5/2020-01-01"
        answer = self.get(url, auth=(str(PARTNER), self.secret))
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["subscriptions"]
        return found

    def advance(self, **by: int) -> None:
        """Move the clock of both sides; returns when everything due inside has happened."""
        answer = self.post(f"{self.simulator}/sim/clock/advance", json=by)
        assert answer.status_code == 200, answer.text

    def begin_fault(self, call: str, fault: str) -> None:
        """Have calls to the providers go wrong until `end_faults`."""
        self.post(f"{self.simulator}/sim/faults", json={"call": call, "fault": fault}).raise_for_status()

    def end_faults(self) -> None:
        requests.delete(f"{self.simulator}/sim/faults", timeout=TIMEOUT_S).raise_for_status()

    def now(self) -> datetime:
        return datetime.fromisoformat(self.get(f"{self.simulator}/sim/clock").json()["now"])

    def texts(self, number: str) -> list[dict[str, Any]]:
        """The texts that a phone has got."""
        found = self.get(f"{self.simulator}/sim/messages", params={"to": number}).json()["messages"]
        assert isinstance(found, list)
        return found

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        """What really happened, as Vipps would hold it."""
        found: dict[str, list[dict[str, Any]]] = self.get(f"{self.simulator}/sim/ledger").json()
        return found

    def books(self, query: str) -> list[tuple[Any, ...]]:
        """Read our own tables."""
        connection = sqlite3.connect(f"file:{self.data}/invoice.sqlite3?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


@dataclass(frozen=True)
class Signed:
    """Where a person stands after saying yes."""

    subscription_id: int
    return_url: str


def press(demo: Demo, link: str) -> str:
    """Open the texted link, press its button, and return the address at Vipps that it leads to."""
    page = demo.get(link)
    assert page.status_code == 200, page.text
    pressed = demo.post(link, allow_redirects=False)
    assert pressed.status_code == 303, pressed.text
    target = pressed.headers["Location"]
    assert urlsplit(target).netloc == urlsplit(demo.simulator).netloc, target
    return target


def approve(demo: Demo, landing: str) -> str:
    """Say yes on Vipps' page, and return the address that it leads back to."""
    assert demo.get(landing).status_code == 200
    said = demo.post(landing, data={"action": "approve"}, allow_redirects=False)
    assert said.status_code in (302, 303), said.text
    return said.headers["Location"]


def disagreements(demo: Demo) -> list[str]:
    """Compare the ledger with our tables, charge by charge, to the øre; return what differs."""
    theirs = {
        c["id"]: (c["status"], c["amount"], c["summary"]["captured"], c["summary"]["refunded"])
        for c in demo.ledger()["charges"]
    }
    words = {"SUBMITTED": ("PENDING", "DUE", "PROCESSING")}
    wrong = []
    ours = demo.books(
        "SELECT name, status, amount, captured, refunded FROM charges WHERE status NOT IN ('PLANNED','VOID')"
    )
    for name, status, *sums in ours:
        other = theirs.pop(name, None)
        if other is None or list(other[1:]) != sums or other[0] not in words.get(status, (status,)):
            wrong.append(f"{name}: ours {status} {sums}, theirs {other}")
    return wrong + [f"{name}: not in our books, theirs {other}" for name, other in theirs.items()]
