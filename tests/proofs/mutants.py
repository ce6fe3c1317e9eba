"""Who judges the judge: planted bugs, each to be caught by some seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from multiprocessing import get_context

import click

from tests.proofs.figures import Figure
from tests.simulation.mutants import LISTED, LONG, MUTANTS, planted
from tests.simulation.run import simulate

_SEEDS = 1000


def prove(size: float) -> Iterator[Figure]:
    """Plant each bug, and live through seeds until it is caught, or a share of a thousand is over."""
    began, seeds = time.monotonic(), max(1, round(_SEEDS * size))
    with get_context("forkserver").Pool() as pool:
        caught = {}
        for name, seed in pool.imap_unordered(_hunt, [(name, seeds) for name in MUTANTS], chunksize=1):
            caught[name] = seed
            click.echo(f"{name}: {'escaped' if seed is None else f'caught by seed {seed}'}", err=True)
    seconds = time.monotonic() - began
    for what, names in {"of the design's list": LISTED, "of our own": MUTANTS.keys() - LISTED}.items():
        escaped = sorted(name for name in names if caught[name] is None)
        worst = max((seed for name in names if (seed := caught[name]) is not None), default=0)
        notes = f"each within {worst + 1} seeds of at most {seeds}"
        notes += f"; escaped: {', '.join(escaped)}" if escaped else ""
        yield Figure(
            "planted bugs", what, len(names), len(names) - len(escaped), len(escaped), seconds, notes, is_whole=True
        )


def _hunt(chosen: tuple[str, int]) -> tuple[str, int | None]:
    name, seeds = chosen
    days = LONG.get(name, 25)
    with planted(name):
        return name, next((seed for seed in range(seeds) if simulate(seed, days=days).violation), None)
