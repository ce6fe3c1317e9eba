"""Neighbours on real sockets: a Vipps that answers as told, and wires that break.

Every request that our client sends to that Vipps is held against the vendor's files.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict
from werkzeug.datastructures import Headers
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from invoice.providers.vipps import SalesUnit, VippsClient
from tests import spec
from tests.traffic import Sent

UNIT = SalesUnit(
    client_id="the-client-id",
    client_secret="the-client-secret",
    subscription_key="the-subscription-key",
    merchant_serial_number="123456",
)
TOKEN_PATH = "/accesstoken/get"

Act = Callable[[], Response]
Script = Callable[[socket.socket, threading.Event], None]


@dataclass(frozen=True)
class Call:
    """A request as it came over the wire: the path unquoted by nobody, the headers with their underscores."""

    method: str
    path: str
    headers: CaseInsensitiveDict[str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _KeepsHeaders(WSGIRequestHandler):
    """Hands on header names with underscores, which WSGI servers drop, and dates no answer by itself."""

    def send_response(self, code: Any, message: str | None = None) -> None:
        self.send_response_only(code, message)

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "test.headers": CaseInsensitiveDict(self.headers.items())}

    def log(self, *args: Any) -> None:
        pass


class FakeVipps:
    """Answers each method and path in the order told; the last answer stands. Hands out token-1, token-2, ..."""

    def __init__(self) -> None:
        self.all_calls: list[Call] = []
        self.sent: list[Sent] = []
        self._answers: dict[tuple[str, str], list[Act]] = defaultdict(list)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True, request_handler=_KeepsHeaders)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    @property
    def calls(self) -> list[Call]:
        """The calls that were not for a token."""
        return [call for call in self.all_calls if call.path != TOKEN_PATH]

    @property
    def token_calls(self) -> list[Call]:
        return [call for call in self.all_calls if call.path == TOKEN_PATH]

    def on(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> None:
        """Answer with `body`: bytes as they are, None as no body, anything else as JSON."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.act(method, path, lambda: Response(raw, status, named, mimetype="application/json"))

    def on_token(self, body: Any, status: int = 200) -> None:
        self.on("POST", TOKEN_PATH, body, status)

    def act(self, method: str, path: str, act: Act) -> None:
        self._answers[method, path].append(act)

    def forget(self) -> None:
        self.all_calls.clear()
        self._answers.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @Request.application
    def _app(self, request: Request) -> Response:
        path = request.environ["REQUEST_URI"]
        call = Call(request.method, path, request.environ["test.headers"], request.get_data(as_text=True))
        bare, _, query = path.partition("?")
        headers = Headers(list(call.headers.items()))
        with self._lock:
            self.all_calls.append(call)
            self.sent.append(Sent(call.method, bare, query, headers, request.get_data()))
            number = len(self.token_calls)
            answers = self._answers[call.method, call.path]
            act = answers.pop(0) if len(answers) > 1 else answers[0] if answers else None
        if act:
            return act()
        if path == TOKEN_PATH:
            return Response(json.dumps({"access_token": f"token-{number}", "expires_in": 3600}))
        return Response("{}", 404)


class Wire:
    """A server below HTTP: reads a request's head and does what the script says, until the test is over."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.over = threading.Event()
        self.requests: list[bytes] = []
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    head += piece
                self.requests.append(head)
                self._script(connection, self.over)


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    """Make wires: `wire(script)`, where the script gets the connection and an event that ends with the test."""
    made: list[Wire] = []

    def make(script: Script, tls: ssl.SSLContext | None = None) -> Wire:
        made.append(Wire(script, tls))
        return made[-1]

    yield make
    for each in made:
        each.close()


def says(raw: bytes) -> Script:
    """Send these bytes and hang up."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(raw)

    return script


def falls_silent(after: bytes = b"") -> Script:
    """Send these bytes and then nothing more, until the test is over."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(after)
        over.wait()

    return script


def drips(head: bytes, drop: bytes = b" ", drops: int = 80) -> Script:
    """Send the head, then a drop ten times a second."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        for _ in range(drops):
            if over.wait(0.1):
                return
            connection.sendall(drop)

    return script


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """An address that is taken and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def overrun_url() -> Iterator[str]:
    """An address whose queue is full, so that a connection to it is neither taken nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: list[socket.socket] = []
        with suppress(TimeoutError):
            while True:
                waiting.append(socket.create_connection(listener.getsockname(), timeout=0.1))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for each in waiting:
            each.close()


@pytest.fixture(scope="session")
def fake_vipps_of_the_session() -> Iterator[FakeVipps]:
    made = FakeVipps()
    yield made
    made.close()


@pytest.fixture
def fake_vipps(fake_vipps_of_the_session: FakeVipps) -> FakeVipps:
    fake_vipps_of_the_session.forget()
    return fake_vipps_of_the_session


# The tests that have our client say what the files forbid, and what they want with it.
OUTSIDE_THE_FILES = {
    "test_the_id_of_a_registration_is_one_part_of_its_path": "ids that are no UUID, with all that could break out",
}


@pytest.fixture(autouse=True)
def _what_our_client_says_is_inside_the_files(
    request: pytest.FixtureRequest, fake_vipps_of_the_session: FakeVipps
) -> Iterator[None]:
    sent = fake_vipps_of_the_session.sent
    sent.clear()
    yield
    if request.node.originalname not in OUTSIDE_THE_FILES:
        spec.complain(complaints(sent))


def complaints(sent: list[Sent]) -> list[str]:
    """Return what is outside the vendor's files in requests."""
    return [] if spec.absent() else [what for each in list(sent) for what in spec.request_violations(each)]


@pytest.fixture
def vipps(fake_vipps: FakeVipps) -> VippsClient:
    """Our client, before the fake Vipps."""
    return VippsClient(fake_vipps.url, UNIT, ("vipps.no", "mobilepay.dk"))
