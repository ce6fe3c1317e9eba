"""What is said on the vendor's paths, written down as it went over the wire: in a list, or in a folder of files that
a kill leaves behind. What is right about it, `spec` knows; this module is light, for a process that only listens.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request

RECURRING, TOKEN, WEBHOOKS = "vipps-recurring-v3", "vipps-access-token", "vipps-webhooks"
PREFIXES = {"/recurring/": RECURRING, "/accesstoken/": TOKEN, "/webhooks/": WEBHOOKS}

_OUR_NAME = "mobile-invoice"  # how our client names itself in Vipps-System-Name
# WSGI writes both marks alike, and these two names have the rarer one.
_WITH_UNDERSCORES = {"Client-Id": "client_id", "Client-Secret": "client_secret"}


def document_of(path: str) -> str | None:
    """Return the name of the file that a path belongs to, or None for a path that is not the vendor's."""
    return next((name for prefix, name in PREFIXES.items() if path.lower().startswith(prefix)), None)


@dataclass(frozen=True)
class Sent:
    """A request. `path` as it stood on the wire, without the query."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    def __str__(self) -> str:
        """Name the request in a complaint."""
        return f"{self.method} {self.path}{'?' if self.query else ''}{self.query}"

    @property
    def is_ours(self) -> bool:
        """Whether our own client sent it, rather than a test."""
        return self.headers.get("Vipps-System-Name") == _OUR_NAME


@dataclass(frozen=True)
class Exchange(Sent):
    """A request and its answer."""

    status: int
    answer_headers: Headers
    answer_body: bytes
    fault: str = ""  # the kind of fault that the stand-in was told to play on it

    def __str__(self) -> str:
        """Name the exchange in a complaint."""
        return f"{super().__str__()} -> {self.status}"

    def line(self) -> bytes:
        """Return all of it as one line of JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields |= {name: fields[name].decode("latin-1") for name in _BYTES}
        fields |= {name: list(fields[name]) for name in _HEADERS}
        return json.dumps(fields).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Exchange:
        """Return what was written by `line`."""
        fields = json.loads(line)
        fields |= {name: fields[name].encode("latin-1") for name in _BYTES}
        fields |= {name: Headers([tuple(each) for each in fields[name]]) for name in _HEADERS}
        return cls(**fields)


_BYTES, _HEADERS = ("body", "answer_body"), ("headers", "answer_headers")


Keep = Callable[[Exchange], object]


def record(app: Flask) -> list[Exchange]:
    """Listen at `app`: return a list that grows by every exchange on the vendor's paths, from any thread."""
    exchanges: list[Exchange] = []
    listen(app, exchanges.append)
    return exchanges


def listen(app: Flask, keep: Keep) -> None:
    """Give `keep` every exchange on the vendor's paths, before the caller has the answer."""
    inner: Callable[..., Iterable[bytes]] = app.wsgi_app

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if document_of(environ.get("PATH_INFO", "")) is None:
            return inner(environ, start_response)
        request = Request(environ)
        try:
            body = request.get_data()
        except HTTPException:  # the caller went away in the middle
            return inner(environ, start_response)
        environ["wsgi.input"] = io.BytesIO(body)
        said: list[tuple[Any, ...]] = []
        answer = inner(environ, lambda *args: said.append(args))
        try:
            content = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()
        keep(_exchange(request, body, said[0], content))
        start_response(*said[0])
        return [content]

    app.wsgi_app = call  # type: ignore[method-assign]


def _exchange(request: Request, body: bytes, said: tuple[Any, ...], content: bytes) -> Exchange:
    path, _, query = str(request.environ["REQUEST_URI"]).partition("?")
    return Exchange(
        method=request.method,
        path=path,
        query=query,
        headers=Headers([(_WITH_UNDERSCORES.get(name, name), value) for name, value in request.headers]),
        body=body,
        status=int(said[0].split()[0]),
        answer_headers=Headers(said[1]),
        answer_body=content,
        fault=request.environ.get("simulator.fault", ""),
    )


# In files, for a process that may be killed.


def keep_in(folder: Path) -> Keep:
    """Return what writes exchanges into a new file of the folder, each at once as a line of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    # A file for each process, so that only its last line can be torn.
    path = folder / f"{len(list(folder.iterdir())):04}-{os.getpid()}.jsonl"
    path.touch()

    def keep(exchange: Exchange) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(exchange.line() + b"\n")

    return keep


def kept_in(folder: Path) -> list[Exchange]:
    """Return every exchange that was written into the folder; what stands after a file's last line end is torn."""
    files = sorted(folder.glob("*.jsonl"))
    return [Exchange.from_line(line) for file in files for line in file.read_bytes().split(b"\n")[:-1]]
