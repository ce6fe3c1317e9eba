"""Twenty short lives for each commit, and some longer; thousands behind `python -m tests.simulation`."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import planted
from tests.simulation.run import simulate

_BLOCK = 10


@pytest.mark.parametrize("first", range(0, 20, _BLOCK))
def test_whatever_goes_wrong_nothing_is_lost_or_done_twice(first: int):
    outcomes = [simulate(seed, days=2, subscriptions=1) for seed in range(first, first + _BLOCK)]

    assert {outcome.seed: outcome.violation for outcome in outcomes if outcome.violation} == {}


# All with deaths, webhooks and payments: not every seed has them.
@pytest.mark.parametrize("seed", [3, 9, 11])
def test_whatever_goes_wrong_every_period_is_paid_once_and_nothing_after_the_end(seed: int):
    outcome = simulate(seed, days=12, subscriptions=3)

    assert outcome.deaths > 0
    assert outcome.violation is None, "\n".join([*outcome.story[-60:], str(outcome.violation)])


def test_the_same_seed_tells_the_same_story():
    first, second = simulate(3, days=6), simulate(3, days=6)

    assert first.story == second.story
    assert len(first.story) > 5


def test_a_planted_bug_is_caught():
    with planted("charges_have_no_name_of_ours_and_a_random_key"):
        assert any(simulate(seed, days=12, subscriptions=3).violation for seed in (3, 8, 11))
