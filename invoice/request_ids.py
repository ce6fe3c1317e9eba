"""The id of the request that work is done for: known everywhere without being handed on.

The web names each request; who does later what a request asked for takes its id up again. So one id leads from a
partner's log through all of our lines to the events that came of it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from invoice.cards import holds_card_number

HEADER = "X-Request-Id"
MAX_LENGTH = 64
_SHAPE = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_LENGTH}}}")
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def named(given: str) -> str:
    """Return the caller's own id where it is one, and otherwise a new one: no log line may hold a card's number."""
    return given if _SHAPE.fullmatch(given) and not holds_card_number(given) else uuid.uuid4().hex


def current() -> str | None:
    """Return the id of the request that this is done for; None when nobody asked: the calendar did, or Vipps."""
    return _current.get()


def enter(request_id: str | None) -> None:
    """Work for this request from now on, in this thread; None for nobody's."""
    _current.set(request_id)


@contextmanager
def during(request_id: str | None) -> Iterator[None]:
    """Work for this request in the block, and then for whoever it was before."""
    before = current()
    enter(request_id)
    try:
        yield
    finally:
        enter(before)
