"""Between the application and the stand-in: what happens on the way of a call, and a process that dies at one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from werkzeug.wrappers import Response

from invoice.providers.vipps import VippsClient

_AGREEMENT = r"/recurring/v3/agreements/[^/]+"
_CALLS = (
    ("draft", "POST", r"/recurring/v3/agreements"),
    ("create", "POST", rf"/recurring/v3/agreements/charges|{_AGREEMENT}/charges"),
    ("find_agreement", "GET", _AGREEMENT),
    ("stop", "PATCH", _AGREEMENT),
    ("list_charges", "GET", rf"{_AGREEMENT}/charges"),
    ("find_charge", "GET", rf"{_AGREEMENT}/charges/[^/]+"),
    ("cancel", "DELETE", rf"{_AGREEMENT}/charges/[^/]+"),
    ("refund", "POST", rf"{_AGREEMENT}/charges/[^/]+/refund"),
    ("token", "POST", r"/accesstoken/get"),
    ("webhooks", "GET", r"/webhooks/v1/webhooks"),
    ("register", "POST", r"/webhooks/v1/webhooks"),
)


def call_name(method: str, path: str) -> str:
    """Name a call at Vipps; empty for what is none."""
    return next((name for name, verb, shape in _CALLS if verb == method and re.fullmatch(shape, path)), "")


@dataclass(frozen=True)
class Sent:
    """One call that the application made."""

    name: str
    key: str | None
    body: bytes
    at: datetime

    @property
    def charges(self) -> list[str]:
        """The names that it asks to create, one or many."""
        asked = json.loads(self.body)
        return [item["orderId"] for item in (asked if isinstance(asked, list) else [asked])]


class Wire:
    """What carries our calls to the stand-in and its answers back."""

    def __init__(self, inner: Callable[..., Iterable[bytes]], now: Callable[[], datetime]) -> None:
        self._inner, self._now = inner, now
        self._ahead: dict[str, Callable[[], object]] = {}
        self._behind: dict[str, Callable[[], object]] = {}
        self._acknowledged: Counter[str] = Counter()
        self._instead: dict[str, Response] = {}
        self.sent: list[Sent] = []
        self.troubles: list[BaseException] = []

    def ahead(self, call: str, happens: Callable[[], object]) -> None:
        """Have something happen while the next such call is on its way to Vipps."""
        self._ahead[call] = happens

    def behind(self, call: str, happens: Callable[[], object]) -> None:
        """Have something happen after Vipps has done the next such call and before we hear of it."""
        self._behind[call] = happens

    def acknowledge(self, call: str, times: int) -> None:
        """Have the next such calls answered with 204, and nothing done."""
        self._acknowledged[call] = times

    def instead(self, call: str, status: int, body: Any) -> None:
        """Have the next such call answered so, after Vipps has done it and whatever Vipps has said."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._instead[call] = Response(raw, status, mimetype="application/json")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        name = call_name(method, path)
        if not name or environ.get("HTTP_VIPPS_SYSTEM_NAME") != "mobile-invoice":
            return self._inner(environ, start_response)
        environ["wsgi.input"] = Heard(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
        key, body = environ.get("HTTP_IDEMPOTENCY_KEY"), environ["wsgi.input"].heard
        self.sent.append(Sent(name, key, body, self._now()))
        self._play(self._ahead.pop(name, None))
        if self._acknowledged[name]:
            self._acknowledged[name] -= 1
            return Response(status=204)(environ, start_response)
        said: list[tuple[Any, ...]] = []
        answer = self._inner(environ, lambda *args: said.append(args))
        content = b"".join(answer)
        getattr(answer, "close", lambda: None)()
        self._play(self._behind.pop(name, None))
        if (other := self._instead.pop(name, None)) is not None:
            return other(environ, start_response)
        start_response(*said[0])
        return [content]

    def _play(self, happens: Callable[[], object] | None) -> None:
        if happens is None:
            return
        try:
            happens()
        except BaseException as error:  # noqa: BLE001 - another thread's; the test is told at its end
            self.troubles.append(error)


class Heard:
    """A request's body that was read, to be read again."""

    def __init__(self, stream: Any, length: int) -> None:
        self.heard: bytes = stream.read(length)
        self._left = self.heard

    def read(self, size: int = -1) -> bytes:
        size = len(self._left) if size is None or size < 0 else size
        piece, self._left = self._left[:size], self._left[size:]
        return piece


# Death of a process.


class Killed(BaseException):
    """The process is gone: nothing that follows in it happens."""


class Mortal:
    """The real client, in a process that dies at a call: before it leaves, or after Vipps has done it."""

    def __init__(self, client: VippsClient) -> None:
        self._client = client
        self._deaths: dict[str, str] = {}

    def die(self, when: str, *calls: str) -> None:
        """Die at the first of these calls."""
        self._deaths = dict.fromkeys(calls, when)

    def __getattr__(self, call: str) -> Any:
        method = getattr(self._client, call)
        if call not in self._deaths:
            return method
        when = self._deaths[call]
        self._deaths = {}
        return lambda *args, **kwargs: _die(when, lambda: method(*args, **kwargs))


def _die(when: str, call: Callable[[], object]) -> None:
    if when == "after":
        call()
    raise Killed
