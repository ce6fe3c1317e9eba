"""How many calls to Vipps things take: the person who taps waits for them."""

from __future__ import annotations

from tests.journeys.stand import Stand, a_stand  # noqa: F401 - a fixture

MOST_TO_THE_REDIRECT = 2


def _names(stand: Stand, since: int) -> list[str]:
    return [sent.name for sent in stand.wire.sent[since:]]


def test_from_the_request_to_the_redirect_it_takes_a_draft_and_at_most_a_token(stand: Stand):
    before = len(stand.wire.sent)
    stand.advance(hours=2)  # the token is stale

    number = stand.subscribe()
    where = stand.press(number)

    assert where.startswith(stand.vipps)
    assert sorted(_names(stand, before)) == ["draft", "token"]
    assert len(_names(stand, before)) <= MOST_TO_THE_REDIRECT


def test_with_a_fresh_token_it_takes_the_draft_alone(stand: Stand):
    stand.subscribe()
    before = len(stand.wire.sent)

    stand.press(stand.subscribe())

    assert _names(stand, before) == ["draft"]


def test_a_click_on_an_old_link_takes_a_look_at_most_and_one_new_draft(stand: Stand):
    number = stand.subscribe()
    stand.advance(minutes=30)
    before = len(stand.wire.sent)

    stand.press(number)

    assert sorted(_names(stand, before)) == ["draft", "find_agreement"]
