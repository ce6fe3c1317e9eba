"""The same story on SQLite and on PostgreSQL: both must end in the same state, row for row."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.proofs.figures import Figure
from tests.proofs.ground import a_server
from tests.simulation.run import simulate

_SEEDS, _DAYS = 200, 15


def prove(size: float) -> Iterator[Figure]:
    """Live through a share of the seeds on both."""
    began, count = time.monotonic(), max(1, round(_SEEDS * size))
    with a_server() as server:
        address = server.database("lives")
        different = [seed for seed in range(count) if not _is_same(seed, address)]
    notes = f"seeds 0 to {count - 1}, {_DAYS} days each" + (f"; different: {different}" if different else "")
    yield Figure("SQLite = PostgreSQL", "same end", count, count, len(different), time.monotonic() - began, notes)


def _is_same(seed: int, address: str) -> bool:
    return simulate(seed, days=_DAYS).state == simulate(seed, days=_DAYS, postgres=address).state
