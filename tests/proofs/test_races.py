"""The races, short: a hundredth of what `python -m tests.proofs --only races` runs."""

from __future__ import annotations

from tests.proofs import cancels, schedulers
from tests.proofs.ground import a_server


def test_nothing_is_charged_twice_nor_after_a_cancel_whoever_comes_first():
    with a_server() as server:
        figures = [*schedulers.race(server, 0.003), *cancels.race(server, 0.01)]

    assert [figure for figure in figures if not figure.is_clean] == []
    assert [figure.reached for figure in figures] == [figure.wanted for figure in figures]
