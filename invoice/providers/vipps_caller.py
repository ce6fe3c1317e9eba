"""Calls to Vipps under one sales unit: its keys, its token, its share of calls.

A call that is refused for its token is made once more with a new one. A call that would be one too many in this
minute is not made at all: it ends as ProviderUnavailable, like one that Vipps turned away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TypeVar

from invoice.clock import utc_now
from invoice.errors import ProviderDenied, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.providers import vipps_shapes as shapes
from invoice.providers.base import RateLimits
from invoice.providers.http import READ_S, Answer, Pipe
from invoice.providers.vipps_limits import RATES

T = TypeVar("T")

_TOKEN_MARGIN = timedelta(seconds=60)
_TIME_HOLDS = timedelta(seconds=60)  # so long, and so far from ours, Vipps' time is taken as it was told
# How long nobody calls after a 429 that does not say.
_PAUSE_S = 10.0
_SLOW_S = {"create_charge": 30.0}  # two thousand take longer than one
_SYSTEM = "mobile-invoice"
_VERSION = version(_SYSTEM)  # read once: it is a file on the disk


@dataclass(frozen=True)
class SalesUnit:
    """The keys of one Vipps sales unit."""

    client_id: str
    client_secret: str
    subscription_key: str
    merchant_serial_number: str

    def __repr__(self) -> str:
        """Show whose keys these are, and no key."""
        return f"SalesUnit({self.merchant_serial_number})"


class Caller:
    """Makes calls; one for each sales unit and process."""

    def __init__(self, base_url: str, unit: SalesUnit, rates: RateLimits | None = None) -> None:
        """rates: what all workers share; without it calls are not counted."""
        self._pipe = Pipe(base_url, "Vipps")
        self._unit = unit
        self._rates = rates
        self._token = ""
        self._token_until: datetime | None = None
        self._token_lock = threading.Lock()
        self._skew = timedelta(0)
        self._measured_at: datetime | None = None

    def call(
        self,
        method: str,
        path: str,
        *,
        name: str = "",
        body: str | None = None,
        extra: dict[str, str] | None = None,
    ) -> Answer:
        """Make a call and return its 2xx answer.

        name: of its rate in `RATES`; one that Vipps does not limit has none.
        Raises ProviderRefused, ProviderDenied, ProviderUnavailable or ProviderUncertain.
        """
        headers = {**self._headers(), **(extra or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"

        read_s = _SLOW_S.get(name, READ_S)

        def send() -> Answer:
            bearer = {"Authorization": f"Bearer {token}"}
            return self._timed(self._pipe.call(method, path, headers={**headers, **bearer}, body=body, read_s=read_s))

        token = self.fetch_token()
        try:
            return self._counted(name, path, send)
        except ProviderDenied:
            self._drop_token(token)
        token = self.fetch_token()
        return self._counted(name, path, send)

    def _counted(self, name: str, path: str, send: Callable[[], T]) -> T:
        """Send within the share of this call."""
        rate = RATES.get(name)
        if self._rates is None or rate is None:
            return send()
        bucket = ":".join([self._unit.merchant_serial_number, name, *_subject(rate.scope, path)])
        self._rates.take(bucket, rate.per_minute)
        try:
            return send()
        except ProviderUnavailable as error:
            if error.is_throttled:
                self._rates.hold(bucket, error.retry_after_s or _PAUSE_S)
            raise

    def _timed(self, answer: Answer) -> Answer:
        """Note how far our clock is from Vipps', which dates every answer to the second."""
        with suppress(TypeError, ValueError, OverflowError):
            now = utc_now()
            self._skew, self._measured_at = now - parsedate_to_datetime(answer.headers.get("Date", "")), now
        return answer

    def clock_skew(self) -> timedelta:
        """Return how far our clock is ahead of Vipps': by an answer of the last minute, or else by that of a new token.

        A clock that has jumped since the last answer is noticed, and one that has been put right as well.
        """
        age = None if self._measured_at is None else abs(utc_now() - self._measured_at)
        if age is None or age > _TIME_HOLDS or abs(self._skew) > _TIME_HOLDS:
            self._drop_token(self._token)
            self.fetch_token()
        return self._skew

    def _headers(self) -> dict[str, str]:
        return {
            "Ocp-Apim-Subscription-Key": self._unit.subscription_key,
            "Merchant-Serial-Number": self._unit.merchant_serial_number,
            "Vipps-System-Name": _SYSTEM,
            "Vipps-System-Version": _VERSION,
            "Vipps-System-Plugin-Name": _SYSTEM,
            "Vipps-System-Plugin-Version": _VERSION,
        }

    def fetch_token(self) -> str:
        """Return the cached token, or fetch one; only one thread fetches, the others wait for it."""
        with self._token_lock:
            if self._token_until is None or utc_now() >= self._token_until:
                try:
                    self._token, self._token_until = self._ask_for_token()
                # Without a token the call itself was never made.
                except ProviderRefused as refusal:
                    raise ProviderDenied(f"Vipps gave no token ({refusal.message})") from refusal
                except ProviderUncertain as error:
                    raise ProviderUnavailable(f"Vipps gave no token ({error.message})") from error
            return self._token

    def _ask_for_token(self) -> tuple[str, datetime]:
        keys = {"client_id": self._unit.client_id, "client_secret": self._unit.client_secret}
        answer = self._timed(self._pipe.call("POST", "/accesstoken/get", headers={**self._headers(), **keys}, body=""))
        # The specification says strings, the test environment sends numbers.
        return shapes.reading(
            lambda: (
                shapes.text(answer.json["access_token"]),
                utc_now() + timedelta(seconds=int(answer.json["expires_in"])) - _TOKEN_MARGIN,
            )
        )

    def _drop_token(self, refused: str) -> None:
        with self._token_lock:
            if self._token == refused:
                self._token_until = None


def _subject(scope: str, path: str) -> list[str]:
    """Return what in a path is counted by itself: nothing, the agreement, or the agreement and its charge."""
    parts = path.split("/")  # "", "recurring", "v3", "agreements", <agreement>, "charges", <charge>, ...
    return {"unit": [], "agreement": parts[4:5], "charge": parts[4:5] + parts[6:7]}[scope]
