"""The races, short: a hundredth of what `python -m tests.proofs --only races` runs."""

from __future__ import annotations

from tests.proofs.races import prove


def test_nothing_is_charged_twice_nor_after_a_cancel_whoever_comes_first():
    figures = list(prove(0.01))

    assert [figure for figure in figures if not figure.is_clean] == []
    assert [figure.reached for figure in figures] == [figure.wanted for figure in figures]
