"""The one pipe out: deadlines, a bounded answer, and every outcome as one of our errors.

The log line of a call holds method, path, status, duration and the provider's own id for a failed call, which its
support asks for; never a header or a body.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from invoice.clock import stopwatch, utc_now
from invoice.errors import (
    Exchange,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.providers.tls import Adapter

logger = logging.getLogger(__name__)

CONNECT_S = 3.05
READ_S = 6.0
_NO_ANSWER = (408, 425)  # the request did not come through whole, or too early: no word about what it asks
_LONG_NUMBER = re.compile(r"\+?\d{8,}", re.ASCII)  # a phone number has eight digits or more, an amount seven at most
MAX_BODY = 4 * 1024 * 1024  # a full page of 2,000 charges is about 1.5 MiB

_heard: ContextVar[list[Exchange] | None] = ContextVar("heard", default=None)


@contextmanager
def overhearing() -> Iterator[list[Exchange]]:
    """Collect what calls are answered in the meantime, for who must tell it to the letter. This thread's only."""
    heard: list[Exchange] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def hear(exchange: Exchange) -> None:
    """Tell whoever overhears what a call was answered."""
    heard = _heard.get()
    if heard is not None:
        heard.append(exchange)


@dataclass(frozen=True)
class Answer:
    """A 2xx answer. `json` is None for an empty body."""

    status: int
    headers: Mapping[str, str]
    json: Any


class _Session(requests.Session):
    """Follows no redirect, and does not read where one leads."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - requests' own
        """Return none: requests would parse the address, and read the body, of a redirect that is not followed."""
        return None


class Pipe:
    """Calls to one provider."""

    def __init__(self, base_url: str, provider: str) -> None:
        self._base_url = base_url
        self._provider = provider
        self._session = _Session()
        self._session.mount("https://", Adapter())
        self._session.trust_env = False  # no proxy or .netrc of the machine comes between

    def call(
        self, method: str, path: str, *, headers: Mapping[str, str], body: str | None = None, read_s: float = READ_S
    ) -> Answer:
        """Make one call and return its 2xx answer.

        read_s: seconds for the whole answer, not for each piece of it.
        Raises ProviderRefused, ProviderDenied, ProviderUnavailable or ProviderUncertain.
        """
        started = stopwatch()
        try:
            response = self._session.request(
                method,
                self._base_url + path,
                headers=dict(headers),
                data=None if body is None else body.encode(),
                timeout=(CONNECT_S, read_s),
                allow_redirects=False,
                stream=True,
            )
            raw = _read(response, deadline=started + CONNECT_S + read_s)
        except (requests.RequestException, HTTPError) as error:
            self._log(method, path, type(error).__name__, started)
            raise outcome_of(error, self._provider) from error
        self._log(method, path, str(response.status_code), started, context=_context(response.status_code, raw))
        exchange = Exchange(method, self._base_url + path, response.status_code, _phrase(response), raw)
        hear(exchange)
        try:
            return _sort(response.status_code, response.headers, raw, self._provider)
        except ProviderError as error:
            error.exchange = exchange
            raise

    def _log(self, method: str, path: str, outcome: str, started: float, *, context: str = "") -> None:
        duration_s = round(stopwatch() - started, 3)
        extra = {"provider": self._provider, "outcome": outcome, "duration_s": duration_s, "context_id": context}
        level = logging.DEBUG if outcome.startswith("2") else logging.INFO
        told = f", context {context}" if context else ""
        logger.log(
            level, "%s %s %s: %s in %s s%s", self._provider, method, path, outcome, duration_s, told, extra=extra
        )


def outcome_of(error: Exception, provider: str) -> ProviderUnavailable | ProviderUncertain:
    """Return what a failed call means: a connection that was never made did nothing; any other may have."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    outcome: ProviderUnavailable | ProviderUncertain
    if isinstance(error, requests.ConnectTimeout) or isinstance(cause, NewConnectionError | ConnectTimeoutError):
        outcome = ProviderUnavailable(f"{provider} cannot be reached")
        outcome.failure = "connect"
        return outcome
    outcome = ProviderUncertain(f"{provider} did not answer ({type(error).__name__})")
    outcome.failure = "timeout" if isinstance(error, requests.Timeout | ReadTimeoutError) else "broken"
    return outcome


def _phrase(response: requests.Response) -> str:
    """Return the words behind the status, or the standard ones where the line has none (HTTP/2)."""
    standard = {status.value: status.phrase for status in HTTPStatus}
    return response.reason or standard.get(response.status_code, "")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for, in either of its two forms, or None."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value[:6])
    try:
        return max((parsedate_to_datetime(value) - utc_now()) / timedelta(seconds=1), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def _read(response: requests.Response, *, deadline: float) -> bytes:
    """Read the body, however slowly it drips, until the deadline or the limit."""
    pieces, size = [], 0
    with response:
        # read1 returns what there is; the others wait until a whole block is full, however slowly it fills.
        while piece := response.raw.read1(65536, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY:
                raise requests.exceptions.ContentDecodingError("The answer is too long.")
            if stopwatch() > deadline:
                raise requests.exceptions.ReadTimeout("The answer took too long.")
    return b"".join(pieces)


def _sort(status: int, headers: Mapping[str, str], raw: bytes, provider: str) -> Answer:
    if status == 429:
        wait = retry_after_s(headers)
        raise ProviderUnavailable(f"{provider} has had too many calls", retry_after_s=wait, is_throttled=True)
    if status in (401, 403):
        raise ProviderDenied(f"{provider} refused our keys ({status}: {_words(raw)})")
    if 400 <= status < 500 and status not in _NO_ANSWER:
        raise ProviderRefused(f"{provider} refused: {_words(raw)}", status=status, problem=_problem(raw))
    if not 200 <= status < 300:
        raise ProviderUncertain(f"{provider} answered {status}")
    try:
        return Answer(status, headers, json.loads(raw) if raw.strip() else None)
    except (ValueError, RecursionError) as error:
        raise ProviderUncertain(f"{provider} answered {status} with something that is not JSON") from error


def _error_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]  # version 2: [{field, message, code, contextId}]
    return value if isinstance(value, dict) else {}


def _problem(raw: bytes) -> str:
    """Return the identifier at the end of a problem's type, such as "idempotency-conflict"."""
    return str(_error_object(raw).get("type") or "").rpartition("#")[2][:60]


def _context(status: int, raw: bytes) -> str:
    """Return the provider's id of a failed call. Recurring says contextId; its newer neighbours say traceId."""
    body = _error_object(raw) if status >= 400 else {}
    return printable(str(body.get("contextId") or body.get("traceId") or ""))[:60]


def _words(raw: bytes) -> str:
    """Return what an error says, from any of the three shapes, as one short printable line without phone numbers.

    problem+json; the gateway's; the array of version 2, which somebody behind the gateway may still speak.
    """
    body = _error_object(raw)
    details = body.get("extraDetails")
    parts = [str(body.get("detail") or body.get("title") or body.get("message") or body.get("error_description") or "")]
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            parts.append(f"{detail.get('name', '')}: {detail.get('reason', '')}")
    if isinstance(body.get("result"), dict):
        parts.append(str(body["result"].get("message", "")))
    line = "; ".join(part for part in parts if part) or "without a reason"
    return _LONG_NUMBER.sub("…", printable(line))[:300]


def printable(text: str) -> str:
    """Return a provider's text as one line that a log and every database take."""
    return "".join(c if c.isprintable() else " " for c in text)
