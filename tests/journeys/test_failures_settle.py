"""What goes wrong with Vipps while batches are created and charges settled, and what must come of it all the same.

Each test provokes one row of the failure tables (2.8, the bulk rows, and 2.9) in the stand-in, over real sockets.
"""

from __future__ import annotations

import pytest

from invoice.lifecycle import ChargeStatus
from tests.journeys.agreeing import assert_books_agree
from tests.journeys.stand import (
    PHONE,
    TO_SUBMISSION,
    Stand,
    a_stand,  # noqa: F401 - a fixture
    a_stand_on_each_database,  # noqa: F401 - a fixture
    norway,
    row,
)

SUBMITTED, CHARGED, REFUSED = ChargeStatus.SUBMITTED, ChargeStatus.CHARGED, ChargeStatus.REFUSED

# 2.8, flow H: create charges in bulk


@row("2.8", "bulk timeout")
@pytest.mark.parametrize("kind", ["502", "timeout_after"])
def test_a_batch_in_doubt_is_sent_again_as_it_was_and_takes_nobody_else_in(stand_on_each: Stand, kind: str):
    stand = stand_on_each
    first = [stand.active() for _ in range(2)]
    stand.advance(days=1)
    later = [stand.active() for _ in range(2)]
    stand.advance(days=3)
    stand.fault("create", kind)
    stand.leap(4, hours=6)

    stand.end_faults()
    stand.leap(4, minutes=15)

    batches = {sent.body: sent.charges for sent in stand.sent("create")}
    assert list(batches.values()) == [[stand.renewal(n).name for n in numbers] for numbers in (first, later)]
    assert len({sent.key for sent in stand.sent("create")}) == 2
    assert len(stand.sent("create")) > 4
    assert [stand.renewal(number).status for number in (*first, *later)] == [SUBMITTED] * 4
    assert_books_agree(stand)


@row("2.8", "bulk 202 then charge-creation-failed (async)")
@pytest.mark.parametrize("lost", [False, True], ids=["it is told", "its webhook is lost"])
def test_charges_that_vipps_took_in_and_dropped_are_made_again_under_their_names(stand: Stand, lost: bool):
    numbers = [stand.active() for _ in range(2)]
    names = [stand.renewal(number).name for number in numbers]
    stand.advance(**TO_SUBMISSION)
    stand.switch(bulk_creation_fails=True, bulk_failure_keeps_order_id=False, webhooks_lost=lost)
    stand.settle()
    stand.switch(bulk_creation_fails=False)
    stand.leap(2, minutes=690)
    assert not lost or len(stand.sent("create")) == 1  # without a word from Vipps it may still show

    stand.leap(4, minutes=45)

    assert ("charge-creation-failed" in [hook.event for hook in stand.hooks]) is not lost
    assert [sorted(sent.charges) for sent in stand.sent("create")] == [sorted(names)] * 2
    assert [stand.renewal(number).status for number in numbers] == [SUBMITTED] * 2
    assert_books_agree(stand)


@row("2.8", "bulk 202 then charge-creation-failed (async)")
def test_dropped_charges_whose_names_stay_taken_are_left_to_an_operator(stand: Stand):
    numbers = [stand.active() for _ in range(2)]
    stand.advance(**TO_SUBMISSION)
    stand.switch(bulk_creation_fails=True, bulk_failure_keeps_order_id=True)
    stand.settle()
    stand.switch(bulk_creation_fails=False)

    stand.leap(9, hours=3)

    for number in numbers:
        assert (stand.renewal(number).status, stand.renewal(number).attempt) == (REFUSED, 0)
        assert stand.events(number).count("charge.refused") == 1
        assert [name for name, *_ in stand.taken(number)] == ["p0000-a0"]
    assert_books_agree(stand)


@row("2.8", "bulk: some invalid")
def test_one_charge_that_is_turned_down_leaves_the_others_of_its_batch_be(stand: Stand):
    numbers = [stand.active() for _ in range(3)]
    stand.switch(webhooks_lost=True)
    stand.advance(**TO_SUBMISSION)
    stand.ahead("create", lambda: stand.decide(stand.at_vipps(numbers[1]), "stop"))

    stand.work()

    assert [len(sent.charges) for sent in stand.sent("create")] == [3]
    assert "Not active" in str(stand.renewal(numbers[1]).failure_reason)
    assert [stand.renewal(number).status for number in (numbers[0], numbers[2])] == [SUBMITTED] * 2
    stand.leap(3, minutes=20)
    assert_books_agree(stand)


@row("2.8", "creation-failed arrives before our T3")
def test_a_failure_that_is_told_before_the_answer_is_in_does_not_confuse_the_batch(stand: Stand):
    numbers = [stand.active() for _ in range(2)]
    names = [stand.renewal(number).name for number in numbers]
    stand.advance(**TO_SUBMISSION)
    stand.switch(bulk_creation_fails=True, bulk_failure_keeps_order_id=False)
    stand.behind("create", stand.tell)

    stand.work()

    assert stand.hooks[-1].event == "charge-creation-failed"
    stand.switch(bulk_creation_fails=False)
    stand.leap(9, hours=3)
    assert [sorted(sent.charges) for sent in stand.sent("create")] == [sorted(names)] * 2
    assert [stand.renewal(number).status for number in numbers] == [SUBMITTED] * 2
    assert_books_agree(stand)


@row("2.8", "kill switch flipped mid-run")
def test_a_partner_that_is_suspended_during_a_run_has_it_finished_and_nothing_new_sent(stand: Stand):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.behind("create", stand.suspend)

    stand.work()
    stand.leap(4, days=2)

    assert stand.renewal(number).status == CHARGED
    assert len(stand.sent("create")) == 1
    stand.resume()
    stand.leap(2, days=2)
    assert stand.renewal(number, 2).status in (SUBMITTED, CHARGED)
    assert_books_agree(stand)


# 2.9, flow I: settle


@row("2.9", "charge stays DUE for days")
def test_a_person_without_money_is_waited_for_and_asked_once(stand: Stand):
    number = stand.active()
    stand.switch(funds={"phone": PHONE, "available": False})
    stand.leap(5, days=2)
    assert stand.renewal(number).status == SUBMITTED

    stand.switch(funds={"phone": PHONE, "available": True})
    stand.leap(2, hours=6)

    assert stand.renewal(number).status == CHARGED
    assert stand.events(number).count("charge.charged") == 2
    assert [sent.charges for sent in stand.sent("create")].count([stand.renewal(number).name]) == 1
    assert_books_agree(stand)


@row("2.9", "PROCESSING/unknown (test amount 201)")
def test_a_payment_whose_outcome_vipps_does_not_know_is_kept_and_not_asked_for_again(stand: Stand):
    number = stand.active(amount="2.01", campaignAmount="0")
    due_on = stand.renewal(number).due_on
    stand.fault("fetch_charge", "502")  # so that nobody has looked before
    stand.leap(1, **TO_SUBMISSION)
    stand.advance_to(norway(due_on, 9, 30))
    stand.end_faults()
    stand.work()
    assert [status for _, status, *_ in stand.taken(number)] == ["PROCESSING"]
    assert (stand.renewal(number).status, stand.renewal(number).operation_id) == (SUBMITTED, None)

    stand.leap(1, hours=1)

    assert stand.renewal(number).status == CHARGED
    assert len(stand.sent("create")) == 1
    assert_books_agree(stand)


@row("2.9", "CHARGED in DB, provider later REFUNDED (portal)")
def test_money_that_is_given_back_in_the_portal_is_adopted(stand: Stand):
    number = stand.active()
    stand.leap(2, days=4)
    assert stand.renewal(number).status == CHARGED
    path = f"/recurring/v3/agreements/{stand.at_vipps(number)}/charges/{stand.renewal(number).name}/refund"

    assert stand.merchant("POST", path, {"amount": 4000, "description": "Kulanse"}).status_code == 204
    stand.settle()
    part = stand.renewal(number)
    assert stand.merchant("POST", path, {"amount": 5900, "description": "Resten"}).status_code == 204
    stand.settle()

    assert (part.status, part.refunded) == (ChargeStatus.PARTIALLY_REFUNDED, 4000)
    assert (stand.renewal(number).status, stand.renewal(number).refunded) == (ChargeStatus.REFUNDED, 9900)
    assert stand.events(number)[-2:] == ["charge.partially_refunded", "charge.refunded"]
    assert stand.sent("refund") == []
    assert_books_agree(stand)


@row("2.9", "FAILED")
@pytest.mark.parametrize("lost", [False, True], ids=["it is told", "its webhook is lost"])
def test_a_charge_that_failed_is_told_and_has_no_second_attempt(stand: Stand, lost: bool):
    number = stand.active()
    stand.switch(funds={"phone": PHONE, "available": False}, webhooks_lost=lost)

    stand.leap(7, days=2)

    assert stand.renewal(number).status == ChargeStatus.FAILED
    assert stand.events(number).count("charge.failed") == 1
    assert {c.attempt for c in stand.charges(number)} == {0}
    assert stand.renewal(number, 2).status == SUBMITTED
    assert_books_agree(stand)


@row("2.9", "webhook says captured, GET still DUE")
def test_a_look_that_is_older_than_the_webhook_is_followed_by_another(stand: Stand):
    number = stand.active()
    due_on = stand.renewal(number).due_on
    stand.advance(**TO_SUBMISSION)
    stand.behind("find_charge", lambda: stand.advance_to(norway(due_on, 9, 30)))

    stand.work()

    assert stand.hooks[-1].event == "charge-captured"
    assert stand.renewal(number).status == CHARGED
    assert_books_agree(stand)


@row("2.9", "poll storm")
def test_a_flood_of_webhooks_does_not_make_us_ask_faster_than_vipps_allows(stand: Stand):
    stand.switch(rate_limits=True, webhooks_doubled=True)
    numbers = [stand.active() for _ in range(4)]

    stand.leap(2, hours=93)
    for hook in [*stand.hooks] * 6:
        assert stand.replay(hook).status_code == 200
        stand.work()

    assert [stand.renewal(number).status for number in numbers] == [CHARGED] * 4
    assert [str(exchange) for exchange in stand.exchanges if exchange.status == 429] == []
    assert_books_agree(stand)
