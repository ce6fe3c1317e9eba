"""A partner's server on this machine: keeps what came, and answers as it is told, or badly."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flask import Flask

from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from tests.conftest import environ_for, opened
from tests.fakes import FakePayments, FakeSms


@dataclass(frozen=True)
class Got:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def event(self) -> str:
        return self.headers["webhook-id"]


Answer = Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """Answers 204, unless `answers` holds something else for the next requests."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: deque[int | Answer] = deque()
        self.always: int | Answer = 204
        self.at_once = self.most_at_once = 0
        self.released = threading.Event()  # lets go of those that hang
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self._server.server_address[1]}"

    def events(self) -> list[str]:
        return [got.event for got in self.got]

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer nothing until released."""
        self.released.wait(30)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                receiver._take(self)

            do_POST = do_GET  # noqa: N815 - the library calls it so

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        handler.close_connection = True
        with self._lock:
            self.got.append(Got(handler.command, handler.path, headers, body))
            answer = self.answers.popleft() if self.answers else self.always
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if callable(answer):
                answer(handler)
            else:
                handler.send_response(answer)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
        except OSError:
            pass  # the caller has hung up
        finally:
            with self._lock:
                self.at_once -= 1


def drip(data: bytes, every_s: float = 0.05) -> Answer:
    """Answer so slowly that each byte is in time and the whole is not."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        pause = threading.Event()
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            pause.wait(every_s)

    return answer


def write(data: bytes) -> Answer:
    """Answer these very bytes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(data)

    return answer


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


@contextmanager
def on_this_machine(
    database_url: str, payments: FakePayments, sms: FakeSms, *, total_s: float = 5.0, is_kept: bool = True
) -> Iterator[Flask]:
    """The application as in the demo: published on this machine, so that partners may be here too."""
    environ = environ_for(database_url) | {"INVOICE_PUBLIC_URL": "http://localhost:8000"}
    pipe = PartnerPipe(Guard(allows_this_machine=True), total_s=total_s)
    with opened(environ, is_kept=is_kept, payments=payments, sms=sms, partners=pipe) as app:
        yield app
