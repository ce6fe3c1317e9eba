"""One source of chance, and one of time, for everything in the process."""

from __future__ import annotations

import base64
import random
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from invoice import clock


class Time:
    """What time it is: it moves when told, and a little whenever somebody looks."""

    def __init__(self, start: datetime) -> None:
        self._start = self.at = start
        self.pause: Callable[[timedelta], None] = self.move

    def now(self) -> datetime:
        """Return this instant; no two looks see the same one."""
        self.at += timedelta(microseconds=10)
        return self.at

    def move(self, by: timedelta) -> None:
        """Let time pass."""
        self.at += by

    def seconds(self) -> float:
        """Return the seconds on a clock that only runs."""
        return (self.at - self._start).total_seconds()

    def wait(self, seconds: float) -> None:
        """Wait as somebody does who waits for another."""
        self.pause(timedelta(seconds=seconds))


@contextmanager
def governed(seed: int, time: Time) -> Iterator[random.Random]:
    """Have all names, keys and random waits come from one seed, and all time from `time`; yield the seed's own dice.

    What is drawn for names does not disturb the dice: a process that draws one name more changes no later decision.
    """
    names = random.Random(f"names {seed}")
    drawn: dict[str, Callable[..., Any]] = {
        "randbits": names.getrandbits,
        "randbelow": names.randrange,
        "choice": names.choice,
        "token_bytes": names.randbytes,
        "token_hex": lambda size=32: names.randbytes(size).hex(),
        "token_urlsafe": lambda size=32: base64.urlsafe_b64encode(names.randbytes(size)).rstrip(b"=").decode(),
    }
    stopwatch = {
        "time": SimpleNamespace(monotonic=time.seconds),
        "threading": SimpleNamespace(Event=lambda: SimpleNamespace(wait=time.wait)),
    }
    random.seed(f"waits {seed}")
    clock.follow(time.now)
    try:
        with (
            patch.multiple(secrets, **drawn),
            patch.multiple(clock, **stopwatch),
            patch.object(uuid, "uuid4", lambda: uuid.UUID(int=names.getrandbits(128), version=4)),
        ):
            yield random.Random(f"dice {seed}")
    finally:
        clock.follow(None)
