"""Some stories of `python -m tests.proofs --only stateful`, always the same ones."""

from __future__ import annotations

from tests.proofs.stateful import prove


def test_no_story_that_can_be_made_up_goes_wrong():
    (figure,) = prove(0.001)

    assert figure.is_clean, figure
    assert figure.reached >= figure.wanted
