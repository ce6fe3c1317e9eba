"""Who judges the judge: planted bugs, each to be caught by some seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing import get_context

import click

from tests.proofs.figures import Figure
from tests.simulation.mutants import LISTED, LONG, MUTANTS, planted
from tests.simulation.run import simulate

# what -> how many seeds each of them may live through
_LISTS = {"of the design's list": (LISTED, 1000), "of our own": (frozenset(MUTANTS) - LISTED, 200)}


def prove(size: float) -> Iterator[Figure]:
    """Plant each bug, and live through seeds until it is caught, or a share of those that it is given is over."""
    for what, (names, most) in _LISTS.items():
        began, seeds = time.monotonic(), max(1, round(most * size))
        with get_context("forkserver").Pool() as pool:
            caught = {}
            for name, seed in pool.imap_unordered(_hunt, [(name, seeds) for name in sorted(names)], chunksize=1):
                caught[name] = seed
                click.echo(f"{name}: {'escaped' if seed is None else f'caught by seed {seed}'}", err=True)
        escaped = sorted(name for name, seed in caught.items() if seed is None)
        worst = max((seed for seed in caught.values() if seed is not None), default=0)
        notes = f"each within {worst + 1} seeds of at most {seeds}"
        notes += f"; escaped: {', '.join(escaped)}" if escaped else ""
        count, seconds = len(names), time.monotonic() - began
        yield Figure("planted bugs", what, count, count - len(escaped), len(escaped), seconds, notes, is_whole=True)


def _hunt(chosen: tuple[str, int]) -> tuple[str, int | None]:
    name, seeds = chosen
    days = LONG.get(name, 25)
    with planted(name):
        return name, next((seed for seed in range(seeds) if simulate(seed, days=days).violation), None)
