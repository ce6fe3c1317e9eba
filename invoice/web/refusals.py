"""Who is turned away, in the log: each kind of refusal once a minute for each partner, with how many more there were.

Nobody can fill the log with it. Counted in this process: of several, each writes a line of its own. What was said of a
single refusal already (a wrong proof, another partner's number, a forged webhook) is not said again.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

from flask import Flask, Response, current_app, g, request

from invoice.clock import utc_now

logger = logging.getLogger(__name__)

_QUIET = timedelta(minutes=1)
REFUSALS = "invoice.refusals"  # where the application keeps them


class Refusals:
    """What was said, and when. As many entries as there are partners, and kinds of refusal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[tuple[int, str], tuple[datetime, int]] = {}

    def take(self, partner_id: int, kind: str) -> int | None:
        """Return how many were not said since the last one; None: this one is not said either. 0 is nobody's number."""
        now, key = utc_now(), (partner_id, kind)
        with self._lock:
            said_at, unsaid = self._said.get(key, (None, 0))
            if said_at is not None and timedelta(0) <= now - said_at < _QUIET:
                self._said[key] = (said_at, unsaid + 1)
                return None
            self._said[key] = (now, 0)
            return unsaid


def register(app: Flask) -> None:
    """Have every answer looked at that refuses something."""

    @app.before_request
    def begin() -> None:
        # Where the application's context outlives a request, nothing of the one before is left in it.
        g.pop("partner", None)
        g.pop("is_told", None)

    @app.after_request
    def look(response: Response) -> Response:
        if 400 <= response.status_code < 500:
            note(str(response.status_code))
        return response


def note(kind: str) -> None:
    """Say that this request is refused something: a status, or how an item of a list failed."""
    if g.get("is_told"):
        return
    partner = g.get("partner")
    unsaid = current_app.extensions[REFUSALS].take(partner.id if partner else 0, kind)
    if unsaid is not None:
        who = f"partner {partner.id}" if partner else "somebody"
        more = f", and {unsaid} more like it before" if unsaid else ""
        logger.warning("Refused: %s from %s: %s at %s%s.", who, request.remote_addr, kind, request.endpoint, more)


def is_told() -> None:
    """Keep the refusal of this request from being said twice."""
    g.is_told = True
