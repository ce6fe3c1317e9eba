"""Races on PostgreSQL: schedulers against each other, and cancels against the charge run and the webhooks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proofs import cancels, schedulers
from tests.proofs.figures import Figure
from tests.proofs.ground import a_server


def prove(size: float) -> Iterator[Figure]:
    """Run both at a share of their full figures."""
    with a_server() as server:
        yield from schedulers.race(server, size)
        yield from cancels.race(server, size)
