"""What goes wrong with Vipps while money goes back and subscriptions end, and what must come of it all the same.

Each test provokes one row of the failure tables (2.10 and 2.11) in the stand-in, over real sockets.
"""

from __future__ import annotations

import pytest

from invoice.lifecycle import ChargeStatus, OperationStatus, SubscriptionStatus
from invoice.services import refunds
from invoice.store import queries
from invoice.store.db import db, transaction
from invoice.store.models import Charge
from tests.journeys.agreeing import assert_books_agree
from tests.journeys.stand import (
    TO_SUBMISSION,
    Stand,
    a_stand,  # noqa: F401 - a fixture
    a_stand_on_each_database,  # noqa: F401 - a fixture
    norway,
    row,
)
from tests.journeys.wire import Killed

SUBMITTED, CHARGED, REFUNDED = ChargeStatus.SUBMITTED, ChargeStatus.CHARGED, ChargeStatus.REFUNDED
CANCELLING, CANCELLED = SubscriptionStatus.CANCELLING, SubscriptionStatus.CANCELLED
NOTHING_HAPPENED = ["down", "502", "malformed", "429", "401"]
IT_HAPPENED = ["timeout_after", "500_after", "drop_after"]


def accepted_after_the_cancel(stand: Stand, **changes: str) -> int:
    """Return the number of a subscription that somebody accepted, and paid for, after its partner cancelled it."""
    number = stand.subscribe(**changes)
    assert stand.cancel(number).status_code == 200
    stand.decide(stand.at_vipps(number), "approve")
    stand.tell()
    return number


def given_back(stand: Stand) -> list[int]:
    """The refunds that Vipps made."""
    return [refund["amount"] for refund in stand.ledger()["refunds"]]


# 2.10, flow J: refund


@row("2.10", "timeout")
@pytest.mark.parametrize("kind", [*NOTHING_HAPPENED, *IT_HAPPENED])
def test_a_refund_whose_answer_is_lost_happens_once(stand: Stand, kind: str):
    number = accepted_after_the_cancel(stand)
    stand.fault("refund", kind, times=3)

    stand.leap(6, minutes=20)

    assert given_back(stand) == [9900]
    assert len({sent.key for sent in stand.sent("refund")}) == 1
    assert (stand.charges(number)[0].status, stand.status(number)) == (REFUNDED, CANCELLED)
    assert_books_agree(stand)


@row("2.10", "timeout")
@pytest.mark.parametrize(
    ("when", "hours"),
    [("before", 48), ("after", 48), ("after", 0)],
    ids=["before it left", "after Vipps made it", "after Vipps made it, and keys are forgotten"],
)
def test_a_refund_whose_process_died_happens_once(stand_on_each: Stand, when: str, hours: int):
    stand = stand_on_each
    stand.switch(idempotency_hours=hours)
    number = accepted_after_the_cancel(stand)
    stand.die(when, "refund_charge")
    with pytest.raises(Killed):
        stand.leap(6, minutes=20)

    stand.leap(6, minutes=20)

    assert given_back(stand) == [9900]
    assert stand.charges(number)[0].status == REFUNDED
    assert_books_agree(stand)


@row("2.10", "timeout")
def test_a_part_that_went_back_unseen_is_not_sent_again_though_vipps_forgets_keys(stand: Stand):
    stand.switch(idempotency_hours=0)
    number = stand.active()
    stand.fault("refund", "drop_after", times=1)
    stand.fault("fetch_charge", "500", times=3)
    _give_back(stand, number, 4000)

    stand.leap(6, minutes=20)

    assert given_back(stand) == [4000]
    assert stand.charges(number)[0].status == ChargeStatus.PARTIALLY_REFUNDED
    assert_books_agree(stand)


@row("2.10", "timeout")
def test_a_refund_whose_first_look_failed_is_not_taken_for_one_that_was_made_in_the_portal(stand: Stand):
    number = stand.active()
    stand.fault("fetch_charge", "502", times=1)
    _give_back(stand, number, 4000)
    stand.work()
    path = f"/recurring/v3/agreements/{stand.at_vipps(number)}/charges/{stand.charges(number)[0].name}/refund"
    assert stand.merchant("POST", path, {"amount": 4000, "description": "Kulanse"}).status_code == 204

    stand.leap(6, minutes=20)

    assert given_back(stand) == [4000, 4000]
    assert_books_agree(stand)


def _give_back(stand: Stand, number: int, amount: int) -> None:
    with transaction():
        subscription = queries.lock_subscription(number)
        charge = db.session.scalars(db.select(Charge).where(Charge.subscription_id == number, Charge.period == 0)).one()
        refunds.request(subscription, charge, amount, "Kulanse")


@row("2.10", "key retention passed while UNKNOWN (>24 h outage)")
@pytest.mark.parametrize("kind", ["drop_after", "500"])
def test_all_of_a_payment_goes_back_once_after_an_outage_longer_than_any_key_lives(stand: Stand, kind: str):
    stand.switch(idempotency_hours=24)
    number = accepted_after_the_cancel(stand)
    stand.fault("refund", kind, times=1)
    stand.leap(1, seconds=1)
    stand.fault("*", "502")
    stand.leap(5, hours=10)
    stand.end_faults()

    stand.leap(6, minutes=20)

    assert given_back(stand) == [9900]
    assert stand.charges(number)[0].status == REFUNDED
    assert_books_agree(stand)


@row("2.10", "key retention passed while UNKNOWN (>24 h outage)")
def test_a_part_that_is_unknown_for_a_day_is_left_to_an_operator(stand: Stand, caplog: pytest.LogCaptureFixture):
    number = stand.active()
    stand.fault("refund", "500")
    _give_back(stand, number, 4000)
    stand.leap(4, hours=7)
    stand.end_faults()
    tries = len(stand.sent("refund"))

    stand.leap(3, hours=8)

    assert (len(stand.sent("refund")), given_back(stand)) == (tries, [])
    assert "is unknown for a day: an operator decides" in caplog.text
    assert [operation.status for operation in stand.operations("REFUND")] == [OperationStatus.UNKNOWN]
    assert_books_agree(stand)


@row("2.10", "204 but not refunded yet")
def test_a_refund_that_vipps_acknowledges_is_not_believed_before_it_shows(stand: Stand):
    number = accepted_after_the_cancel(stand)
    stand.wire.acknowledge("refund", 3)
    stand.leap(1, seconds=2)
    assert stand.sent("refund") != []
    assert "charge.refunded" not in stand.events(number)

    stand.leap(4, minutes=15)

    assert len({sent.key for sent in stand.sent("refund")}) == 1
    assert given_back(stand) == [9900]
    assert stand.events(number).count("charge.refunded") == 1
    assert_books_agree(stand)


@row("2.10", ">365 days, deleted user, single-settlement MSN")
@pytest.mark.parametrize(
    ("amount", "reason"),
    [("99", "Refund is not possible."), ("1.23", "no receiving account"), ("1.24", "refund period has expired")],
)
def test_a_refund_that_vipps_will_never_make_is_told_with_its_reason(stand: Stand, amount: str, reason: str):
    stand.switch(single_settlement=amount == "99")
    number = accepted_after_the_cancel(stand, amount=amount)

    stand.leap(3, days=1)

    assert len(stand.sent("refund")) == 1
    assert stand.events(number).count("refund.failed") == 1
    assert reason in str(stand.operations("REFUND")[0].last_error)
    assert (stand.status(number), given_back(stand)) == (CANCELLED, [])
    assert_books_agree(stand)


# 2.11, flow K: cancel


@row("2.11", "cancel during a charge run")
def test_a_charge_that_wins_against_a_cancel_is_called_off_with_the_agreement(stand_on_each: Stand):
    stand = stand_on_each
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.behind("create", lambda: stand.cancel(number))

    stand.work()
    stand.leap(4, hours=84)

    assert stand.taken(number) == [("p0000-a0", "CHARGED", 9900, 0), ("p0001-a0", "CANCELLED", 0, 0)]
    assert (stand.renewal(number).status, stand.status(number)) == (ChargeStatus.CANCELLED, CANCELLED)
    assert_books_agree(stand)


@row("2.11", "cancel during a charge run")
def test_a_charge_that_loses_against_a_cancel_is_never_made(stand_on_each: Stand):
    stand = stand_on_each
    number = stand.active()
    stand.advance(**TO_SUBMISSION)

    def cancel_and_stop() -> None:
        stand.cancel(number)
        stand.another_worker.run_once()

    stand.ahead("create", cancel_and_stop)
    stand.work()
    stand.leap(4, hours=84)

    assert [name for name, *_ in stand.taken(number)] == ["p0000-a0"]
    assert (stand.renewal(number).status, stand.status(number)) == (ChargeStatus.VOID, CANCELLED)
    assert_books_agree(stand)


@row("2.11", "cancel during a charge run")
@pytest.mark.parametrize("kind", ["500", "500_after"])
def test_a_batch_in_doubt_is_not_sent_again_for_somebody_who_cancelled(stand: Stand, kind: str):
    leaving, staying = stand.active(), stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.fault("create", kind, times=1)
    stand.work()
    stand.end_faults()
    stand.fault("update_agreement", "down", times=2)
    stand.cancel(leaving)

    stand.leap(4, hours=84)

    sent_after = [sent for sent in stand.sent("create")[1:] if stand.renewal(leaving).name in sent.body.decode()]
    assert sent_after == []
    assert sum(captured - refunded for _, _, captured, refunded in stand.taken(leaving)) == 9900  # the first period's
    assert (stand.status(leaving), stand.renewal(staying).status) == (CANCELLED, CHARGED)
    assert_books_agree(stand)


@row("2.11", "charge already PROCESSING/CHARGED the same day")
def test_what_was_paid_before_the_cancel_on_the_same_day_is_kept(stand: Stand):
    number = stand.active()
    due_on = stand.renewal(number).due_on
    stand.leap(1, **TO_SUBMISSION)
    stand.advance_to(norway(due_on, 9, 30))

    assert stand.cancel(number).status_code == 200
    stand.settle()
    stand.leap(2, days=1)

    assert (stand.status(number), stand.renewal(number).status) == (CANCELLED, CHARGED)
    assert given_back(stand) == []
    assert_books_agree(stand)


@row("2.11", "charge already PROCESSING/CHARGED the same day")
@pytest.mark.parametrize("reached", [True, False], ids=["the stop reaches it", "it is taken after the stop"])
@pytest.mark.parametrize("lost", [False, True], ids=["it is told", "its webhook is lost"])
def test_a_payment_that_was_being_taken_during_the_cancel_ends_with_nothing_kept(
    stand: Stand, reached: bool, lost: bool
):
    number = stand.active(amount="2.01", campaignAmount="0")
    stand.switch(stop_reaches_processing=reached, webhooks_lost=lost)
    due_on = stand.renewal(number).due_on
    stand.leap(1, **TO_SUBMISSION)
    stand.advance_to(norway(due_on, 9, 30))
    stand.work()
    assert [status for _, status, *_ in stand.taken(number)] == ["PROCESSING"]

    stand.cancel(number)
    stand.work()
    stand.leap(6, hours=6)

    [(_, status, captured, refunded)] = stand.taken(number)
    assert (status, captured - refunded) == ("CANCELLED" if reached else "REFUNDED", 0)
    assert stand.status(number) == CANCELLED
    assert_books_agree(stand)


@row("2.11", "PATCH timeout / 5xx for hours")
@pytest.mark.parametrize("kind", ["down", "html", "429", "401"])
def test_a_stop_that_does_not_reach_vipps_for_days_is_tried_until_it_does(stand: Stand, kind: str):
    number = stand.active()
    stand.advance(days=1)
    stand.work()
    stand.fault("update_agreement", kind)
    assert stand.cancel(number).status_code == 200

    stand.leap(4, hours=42)
    assert stand.status(number) == CANCELLING
    assert "subscription.cancelled" not in stand.events(number)
    stand.end_faults()
    stand.leap(4, minutes=15)

    assert stand.status(number) == CANCELLED
    assert stand.sent("create") == []
    assert_books_agree(stand)


@row("2.11", "PATCH timeout / 5xx for hours")
@pytest.mark.parametrize("kind", IT_HAPPENED)
def test_a_stop_whose_answer_is_lost_is_found_done(stand: Stand, kind: str):
    number = stand.active()
    stand.switch(webhooks_lost=True)
    stand.fault("update_agreement", kind, times=2)
    stand.cancel(number)

    stand.leap(5, minutes=6)

    assert stand.status(number) == CANCELLED
    assert len(stand.sent("stop")) == 1
    assert_books_agree(stand)


@row("2.11", "PATCH timeout / 5xx for hours")
def test_a_charge_that_is_taken_while_the_stop_does_not_get_through_goes_back(stand_on_each: Stand):
    stand = stand_on_each
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.work()
    assert stand.renewal(number).status == SUBMITTED
    stand.fault("update_agreement", "500")
    stand.cancel(number)
    stand.leap(8, hours=12)
    assert stand.taken(number)[1][:3] == ("p0001-a0", "REFUNDED", 9900)

    stand.end_faults()
    stand.leap(6, minutes=20)

    assert given_back(stand) == [9900]
    assert (stand.status(number), stand.renewal(number).status) == (CANCELLED, REFUNDED)
    assert_books_agree(stand)


@row("2.11", "PATCH timeout / 5xx for hours")
@pytest.mark.parametrize("stand", [{"mortal": True}], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_whose_process_died_is_finished_by_another(stand: Stand, when: str):
    number = stand.active()
    stand.cancel(number)
    stand.die(when, "stop_agreement")
    with pytest.raises(Killed):
        stand.work()

    stand.leap(2, minutes=3)

    assert stand.status(number) == CANCELLED
    assert stand.events(number).count("subscription.cancelled") == 1
    assert_books_agree(stand)


@row("2.11", "PATCH 204 but GET says ACTIVE")
def test_a_stop_that_vipps_acknowledges_and_does_not_do_is_asked_for_again(stand: Stand):
    number = stand.active()
    stand.wire.acknowledge("stop", 3)
    stand.cancel(number)
    stand.work()
    assert stand.status(number) == CANCELLING
    assert "subscription.cancelled" not in stand.events(number)

    stand.leap(5, minutes=6)

    assert stand.status(number) == CANCELLED
    assert len(stand.sent("stop")) == len({sent.key for sent in stand.sent("stop")}) == 4
    assert_books_agree(stand)


@row("2.11", "user stops in the app")
@pytest.mark.parametrize("decision", ["stop", "delete-profile"])
@pytest.mark.parametrize("lost", [False, True], ids=["it is told", "its webhook is lost"])
def test_an_end_in_the_app_is_seen_within_a_day(stand: Stand, lost: bool, decision: str):
    number = stand.active()
    stand.switch(webhooks_lost=lost)
    stand.leap(1, days=5)
    assert stand.renewal(number).status == SUBMITTED

    stand.decide(stand.at_vipps(number), decision)
    if lost:
        stand.leap(2, hours=12)
    else:
        stand.settle()

    assert stand.status(number) == SubscriptionStatus.STOPPED
    assert stand.renewal(number).status == ChargeStatus.CANCELLED
    assert stand.events(number).count("subscription.stopped") == 1
    stand.leap(5, days=2)
    assert len(stand.sent("create")) == 1
    assert_books_agree(stand)


@row("2.11", "partner cancels while PENDING")
@row("2.6", "user accepts after we expired it")
def test_who_accepts_after_the_partner_cancelled_has_the_money_back_within_the_hour(stand_on_each: Stand):
    stand = stand_on_each
    number = accepted_after_the_cancel(stand)

    stand.leap(4, minutes=15)

    assert [agreement["status"] for agreement in stand.theirs(number)] == ["STOPPED"]
    assert stand.taken(number) == [("p0000-a0", "REFUNDED", 9900, 9900)]
    assert stand.status(number) == CANCELLED
    assert "subscription.activated" not in stand.events(number)
    assert_books_agree(stand)


@row("2.11", "partner cancels while PENDING")
@pytest.mark.parametrize("allowed", [True, False], ids=["it may be stopped", "it must run out"])
def test_a_cancel_before_anybody_accepted_is_done_when_nobody_can_any_more(stand: Stand, allowed: bool):
    stand.switch(stop_pending_allowed=allowed)
    number = stand.subscribe()
    assert stand.cancel(number).status_code == 200
    stand.leap(5, minutes=3)

    assert [agreement["status"] for agreement in stand.theirs(number)] == ["STOPPED" if allowed else "EXPIRED"]
    assert stand.status(number) == CANCELLED
    assert stand.taken(number) == []
    assert_books_agree(stand)


@row("2.11", "cancel twice")
def test_a_second_cancel_is_answered_in_the_documented_words_and_asks_vipps_for_nothing(stand: Stand):
    number = stand.active()
    assert stand.cancel(number).status_code == 200

    again = stand.cancel(number)
    stand.settle()
    after = stand.cancel(number)
    stand.settle()

    assert (again.status_code, after.status_code) == (400, 400)
    assert again.json() == f'Subscription with status: "Cancelling" for "{number}" cannot be cancelled'
    assert after.json() == f'Subscription with status: "Cancelled" for "{number}" cannot be cancelled'
    assert len(stand.sent("stop")) == 1
    assert_books_agree(stand)
