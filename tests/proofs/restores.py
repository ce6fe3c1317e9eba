"""The restore drill: the books are set back by an hour, a day and a month, in the middle of everything else.

They are read back by `reconcile`, with Vipps failing and workers dying, and judged like any other life.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing import get_context

from tests.proofs.figures import Figure
from tests.simulation.run import simulate

_SEEDS = 50
# what is lost -> simulated days of each life
_LOST = {"an hour": (timedelta(hours=1), 25), "a day": (timedelta(days=1), 25), "30 days": (timedelta(days=30), 90)}


def prove(size: float) -> Iterator[Figure]:
    """Run a share of the seeds with each loss."""
    count = max(1, round(_SEEDS * size))
    for what, (lost, days) in _LOST.items():
        began = time.monotonic()
        with get_context("forkserver").Pool() as pool:
            found = list(pool.imap_unordered(_one, [(seed, lost, days) for seed in range(count)]))
        wrong = sorted(seed for seed, violation in found if violation)
        notes = f"seeds 0 to {count - 1}, {days} days each" + (f"; wrong: {wrong}" if wrong else "")
        yield Figure("restore", f"set back by {what}", count, len(found), len(wrong), time.monotonic() - began, notes)


def _one(life: tuple[int, timedelta, int]) -> tuple[int, str | None]:
    seed, lost, days = life
    return seed, simulate(seed, days=days, lost=lost).violation
