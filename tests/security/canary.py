"""Things that may appear nowhere but where they belong, and who listens for them: all logs at their most talkative."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from invoice.cli.processes import HOST
from tests.journeys.stand import TIMEOUT_S

PHONE, PAN, TEXT = "+4799887766", "4111111111111111", "CANARY-OF-A-TEXT"
LOGIN, ADDRESS_KEY = "canary-of-a-login", "canary-of-an-address"
# How it stands in addresses, in forms, at Vipps, and in the country itself.
NUMBER = "99887766"


@dataclass
class Canaries:
    """What must not be heard, by what it is."""

    known: dict[str, str] = field(default_factory=dict)

    def add(self, **more: str) -> None:
        assert all(len(value) >= 8 for value in more.values()), "too short to be found by chance alone"
        self.known |= more

    def found_in(self, text: str, *, but: tuple[str, ...] = ()) -> list[str]:
        """Return the names of those that a text holds."""
        return [name for name, value in self.known.items() if value in text and name not in but]


class Everything(logging.Handler):
    """Keeps every line of every logger: its words, its extras, its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._format = logging.Formatter("%(levelname)s %(name)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; the stand-in for Vipps and Twilio is no part of the service."""
        if not record.name.startswith("invoice.simulator"):
            facts = {name: value for name, value in vars(record).items() if name != "exc_info"}
            self.lines.append(f"{self._format.format(record)} {facts!r}")

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)


@contextmanager
def listening() -> Iterator[Everything]:
    """Have all loggers talk at DEBUG, but those that the service itself has quieted."""
    root, ear = logging.getLogger(), Everything()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield ear
    finally:
        root.removeHandler(ear)
        root.setLevel(level)


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Door:
    """The service on a socket whose server writes its access log, and a caller that logs nothing of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Said:
        """Ask for a path; a body that is no bytes goes as JSON. Underscores in a header's name stand for hyphens."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {"Content-Type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=TIMEOUT_S)
        connection.request(method, target, raw, named)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return Said(answer.status, dict(answer.getheaders()), text)


@contextmanager
def opened(app: Flask) -> Iterator[Door]:
    """Serve an application as `flask run` does."""
    server = make_server(HOST, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Door(server.port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
