"""`Idempotency-Key`: a request that is sent again does nothing again, and gets the answer that it had.

Source: IETF draft-ietf-httpapi-idempotency-key-header-07 (400, 409, 422).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from hashlib import sha256
from typing import Any, TypeVar

from flask import Flask, Response, g, request

from invoice.errors import Invalid
from invoice.services import idempotency
from invoice.services.health import STORE_FAILURES
from invoice.services.idempotency import Answer, Attempt
from invoice.web.auth import current_partner

View = TypeVar("View", bound=Callable[..., Any])
HEADER, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
MARK = "is_idempotent"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def idempotent(view: View) -> View:
    """Carry a request out once for each key of its partner. Stands below the decorator that says who is asking."""

    @wraps(view)
    def once(*args: Any, **kwargs: Any) -> Any:
        if HEADER in request.headers:
            found = idempotency.begin(current_partner().id, _key(), _digest())
            if isinstance(found, Answer):
                return Response(found.body, found.status, {REPLAYED: "true"}, content_type=found.content_type)
            g.attempt = found
        return view(*args, **kwargs)

    setattr(once, MARK, True)
    return once  # type: ignore[return-value]


def attempt() -> Attempt | None:
    """Return the request's key as the use cases know it; None for a request without one."""
    found: Attempt | None = g.get("attempt")
    return found


def register(app: Flask) -> None:
    """Keep each answer to a request with a key. One that is no outcome is not kept: an error of ours, "ask again"."""

    @app.after_request
    def keep_answer(response: Response) -> Response:
        held: Attempt | None = g.pop("attempt", None)
        if held is None:
            return response
        # Without a database nothing is kept: the key goes to whoever comes again when its lease has run out.
        with suppress(*STORE_FAILURES):
            if response.status_code >= 500 or "Retry-After" in response.headers:
                idempotency.give_back(held)
            else:
                answer = Answer(response.status_code, response.content_type or "", response.get_data())
                idempotency.complete(held, answer)
        return response


def _key() -> str:
    keys = request.headers.getlist(HEADER)
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Invalid({HEADER: [f"{HEADER} must be 1 to 255 letters, digits and signs of ASCII, without blanks."]})
    return keys[0]


def _digest() -> bytes:
    """Return what tells this request from any other: method, address and body, byte for byte."""
    address = request.path.encode("utf-8", "replace") + b"?" + request.query_string
    return sha256(b"\n".join([request.method.encode(), address, request.get_data()])).digest()
