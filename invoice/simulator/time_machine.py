"""Moving the clock so that a jump of a year leaves what a year would have left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from invoice.simulator.engine import next_due
from invoice.simulator.world import World

logger = logging.getLogger(__name__)

LONGEST_STEP = timedelta(hours=12)
# A step settles within a few rounds; this many means that two sides keep each other busy.
_MOST_ROUNDS = 1000


class Busy(Exception):
    """The clock is being moved already."""


class TimeMachine:
    """Walks to a later time in steps, and lets both sides finish their work after each."""

    def __init__(self, world: World, run_due: Callable[[], bool], follow: Callable[[], bool]) -> None:
        self._world = world
        self._run_due = run_due
        self._follow = follow
        self._one = threading.Lock()
        self._settled = True

    @property
    def is_moving(self) -> bool:
        """Whether somebody is on the way."""
        return self._one.locked()

    def advance(self, by: timedelta) -> datetime:
        """Move the clock by `by` and return the time then. Raises Busy while another move is under way."""
        if not self._one.acquire(blocking=False):
            raise Busy
        try:
            self._settle()
            while by > timedelta(0) and not self._world.stopping.is_set():
                step = min(by, self._next_step())
                self._world.clock.move(step)
                by -= step
                self._settle()
            return self._world.clock.now()
        finally:
            self._one.release()

    def _next_step(self) -> timedelta:
        due = next_due(self._world)
        if due is None or not self._settled:
            return LONGEST_STEP
        # The clock also runs by itself: what has become due in this very moment gets a short step of its own.
        return min(max(due - self._world.clock.now(), timedelta(milliseconds=1)), LONGEST_STEP)

    def _settle(self) -> None:
        for _ in range(_MOST_ROUNDS):
            worked = self._run_due()
            followed = self._follow()
            if not worked and not followed:
                self._settled = True
                return
        self._settled = False
        logger.error("After %s rounds there is still work; the clock goes on", _MOST_ROUNDS)
