"""The wire between our processes and the stand-in, without sockets: the dice carry each call, lose it or spoil it."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from werkzeug.test import EnvironBuilder, run_wsgi_app

WsgiApp = Callable[..., Any]


@dataclass(frozen=True)
class Reply:
    """What comes back over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def as_response(self, request: requests.PreparedRequest) -> requests.Response:
        """Return it as what `requests` makes of an answer that it has just begun to read."""
        raw = HTTPResponse(
            io.BytesIO(self.body), headers=dict(self.headers), status=self.status, preload_content=False, reason=""
        )
        return HTTPAdapter().build_response(request, raw)


def carry(app: WsgiApp, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Bring a request to an application and return its answer."""
    parts = urlsplit(url)
    builder = EnvironBuilder(
        path=parts.path,
        base_url=f"{parts.scheme}://{parts.netloc}",
        query_string=parts.query,
        method=method,
        headers=list(headers.items()),
        data=body,
    )
    environ = builder.get_environ()
    environ["REMOTE_ADDR"] = "127.0.0.1"
    content, status, found = run_wsgi_app(app, environ, buffered=True)
    return Reply(int(status.split(" ", 1)[0]), dict(found), b"".join(content))


# kind -> whether it happens at Vipps all the same, and what our side sees: an answer or an exception.
_HTML = Reply(502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>")
_ERROR = Reply(500, {"Content-Type": "application/json"}, b"{}")
_HALF = Reply(200, {"Content-Type": "application/json"}, b'{"agreementId": "agr_')
FAULTS: dict[str, tuple[bool, Reply | type[Exception]]] = {
    "timeout before": (False, requests.ReadTimeout),
    "timeout after": (True, requests.ReadTimeout),
    "cut off after": (True, requests.ConnectionError),
    "no connection": (False, requests.ConnectTimeout),
    "500 before": (False, _ERROR),
    "500 after": (True, _ERROR),
    "502 after": (True, _HTML),
    "malformed after": (True, _HALF),
    "429": (False, Reply(429, {"Content-Type": "application/json", "Retry-After": "7"}, b"{}")),
    "401": (False, Reply(401, {"Content-Type": "application/json"}, b"{}")),
}
# In a thousand calls, before a seed's own weight. Source: design figures of the fault menu.
CHANCES = {
    "timeout before": 15,
    "timeout after": 40,
    "cut off after": 10,
    "no connection": 15,
    "500 before": 20,
    "500 after": 10,
    "502 after": 20,
    "malformed after": 5,
    "429": 20,
    "401": 2,
}
_SLOW = 0.05  # of all calls


class Weather:
    """How bad things are: the weight of this seed, outages, and fair weather at the end."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.weight = dice.choice([0.0, 0.3, 1.0, 1.0, 1.0, 2.0, 4.0])
        self.is_out = False

    def fault(self) -> str | None:
        """Draw what goes wrong with the next call."""
        if self.is_out:
            return self._dice.choice(["no connection", "timeout before", "500 before", "502 after"])
        drawn = self._dice.random() * 1000
        for kind, chance in CHANCES.items():
            drawn -= chance * self.weight
            if drawn < 0:
                return kind
        return None

    def latency_s(self) -> float:
        """Draw how long the next call takes: hardly any time, mostly."""
        is_slow = self.weight > 0 and self._dice.random() < _SLOW
        return self._dice.uniform(1, 5) if is_slow else 0.0

    def clear_up(self) -> None:
        """From now on nothing goes wrong."""
        self.weight, self.is_out = 0.0, False


@contextmanager
def wired(send: Callable[[requests.PreparedRequest], Reply]) -> Iterator[None]:
    """Have every call that anybody makes with `requests` go through `send`."""

    def carried(_: HTTPAdapter, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        return send(request).as_response(request)

    with patch.object(HTTPAdapter, "send", carried):
        yield
