"""The guessing, short: a thousandth of what `python -m tests.proofs --only guessing` runs."""

from __future__ import annotations

from tests.proofs.guessing import prove


def test_nobody_finds_what_is_somebody_elses():
    figures = list(prove(0.001))

    assert [figure for figure in figures if not figure.is_clean] == []
    assert [(figure.wanted, figure.reached) for figure in figures] == [(10, 10), (100, 100), (1000, 1000)]
