"""The simulation at length: years and decades of four subscribers each, and many at once.

A seed that goes wrong is told again by `python -m tests.simulation --seeds N --days D --story`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing import get_context

from tests.proofs.figures import Figure
from tests.simulation.run import simulate

# what, how many seeds, simulated days, subscribers, the first seed
_LIVES = (
    ("months, four subscribers", 10_000, 25, 4, 0),
    ("years, four subscribers", 10_000, 365, 4, 100_000),
    ("decades, four subscribers", 200, 3650, 4, 200_000),
    ("two years, many subscribers", 20, 730, 500, 300_000),
)


def prove(size: float) -> Iterator[Figure]:
    """Live through a share of the seeds, on all cores."""
    for what, seeds, days, subscribers, first in _LIVES:
        count = max(1, round(seeds * size))
        yield live(what, range(first, first + count), days, subscribers)


def live(what: str, seeds: range, days: int, subscribers: int) -> Figure:
    """Live through seeds and count those that went wrong."""
    began = time.monotonic()
    with get_context("forkserver").Pool() as pool:
        found = list(pool.imap_unordered(_one, [(seed, days, subscribers) for seed in seeds]))
    wrong = sorted(seed for seed, violation, _, _ in found if violation)
    deaths, boundaries = sum(row[2] for row in found), sum(row[3] for row in found)
    notes = f"seeds {seeds.start} to {seeds.stop - 1}, {days} days each; {boundaries} boundaries, {deaths} deaths"
    notes += f"; wrong: {wrong}" if wrong else ""
    return Figure("simulation", what, len(seeds), len(found), len(wrong), time.monotonic() - began, notes)


def _one(life: tuple[int, int, int]) -> tuple[int, str | None, int, int]:
    seed, days, subscribers = life
    outcome = simulate(seed, days=days, subscriptions=subscribers)
    return seed, outcome.violation, outcome.deaths, outcome.boundaries
