"""What goes wrong with Vipps while periods are planned and charges created, and what must come of it all the same.

Each test provokes one row of the failure tables (2.7 and 2.8) in the stand-in, over real sockets.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from invoice.lifecycle import ChargeStatus, OperationStatus, SubscriptionStatus
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

SUBMITTED, CHARGED, REFUSED = ChargeStatus.SUBMITTED, ChargeStatus.CHARGED, ChargeStatus.REFUSED


# 2.7, flow F: plan charges


@row("2.7", "two schedulers at once")
def test_two_workers_at_once_charge_each_period_once(stand_on_each: Stand):
    stand = stand_on_each
    numbers = [stand.active() for _ in range(3)]
    stand.advance(**TO_SUBMISSION)
    stand.ahead("create", stand.another_worker.run_once)
    stand.behind("create", stand.another_worker.run_once)

    stand.work()

    assert len(stand.sent("create")) == 1
    assert [stand.renewal(number).status for number in numbers] == [SUBMITTED] * 3
    assert_books_agree(stand)


@row("2.7", "scheduler down for days")
@pytest.mark.parametrize(
    "days",
    [
        8,
        24,
        18,
    ],
)
def test_periods_that_were_missed_fall_due_once_each_and_never_two_within_three_days(stand: Stand, days: int):
    number = stand.active()
    stand.advance(days=days)

    stand.leap(30, days=1)

    paid = [c for c in stand.charges(number) if c.status == CHARGED]
    assert sorted(c.period for c in paid) == list(range(len(paid)))
    assert len(paid) >= 4
    assert_books_agree(stand)
    dues = sorted(c.due_on for c in paid if c.period > 0)
    assert min(later - before for before, later in pairwise(dues)) >= timedelta(days=3)


@row("2.7", "scheduler down for days")
def test_periods_that_were_missed_are_made_up_for_one_at_a_time(stand: Stand):
    number = stand.active()
    stand.advance(days=24)

    stand.work()

    assert_books_agree(stand)
    assert [c.period for c in stand.charges(number) if c.status == SUBMITTED] == [1]


@row("2.7", "clock wrong")
@pytest.mark.parametrize("minutes", [-7, 7])
def test_nothing_is_created_while_our_clock_and_vipps_clock_differ(stand: Stand, minutes: int):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.go_wrong(minutes=minutes)
    stand.subscribe()  # its answer tells the time
    stand.leap(3, minutes=20)
    assert stand.sent("create") == []

    stand.go_wrong(minutes=0)
    stand.subscribe()
    stand.leap(3, minutes=20)

    assert (len(stand.sent("create")), stand.renewal(number).status) == (1, SUBMITTED)
    assert_books_agree(stand)


@row("2.7", "5x cap / price cap")
def test_a_charge_above_what_vipps_lets_through_is_refused_once_and_told(stand: Stand):
    number = stand.active()
    others = [stand_in_the_way(stand, number, amount=9900, days=8) for _ in range(5)]
    stand.advance(**TO_SUBMISSION)

    stand.work()
    stand.leap(4, minutes=15)

    assert (stand.renewal(number).status, len(stand.sent("create"))) == (REFUSED, 1)
    assert stand.events(number).count("charge.refused") == 1
    assert_books_agree(stand, strangers=others)


def stand_in_the_way(stand: Stand, number: int, **changes: object) -> str:
    """Make a charge at Vipps that is not ours; return its id there."""
    due = stand.now().date() + timedelta(days=int(str(changes.pop("days", 7))))
    body = {
        "amount": 9900,
        "description": "Portal",
        "transactionType": "DIRECT_CAPTURE",
        "due": due.isoformat(),
        "retryDays": 0,
    }
    made = stand.merchant("POST", f"/recurring/v3/agreements/{stand.at_vipps(number)}/charges", body | changes)
    assert made.status_code == 201, made.text
    return str(made.json()["chargeId"])


# 2.8, flows G and H: create charges


@row("2.8", "killed before the POST left")
@pytest.mark.parametrize("stand", [{"mortal": True}], indirect=True)
def test_a_batch_whose_process_died_before_it_left_is_sent_after_its_lease(stand: Stand):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.die("before", "create")
    with pytest.raises(Killed):
        stand.work()
    assert stand.sent("create") == []

    stand.leap(2, minutes=3)

    assert (len(stand.sent("create")), stand.renewal(number).status) == (1, SUBMITTED)
    assert_books_agree(stand)


@row("2.8", "killed after the POST / response lost")
@pytest.mark.parametrize(
    ("several", "hours"),
    [(1, 48), (1, 0), (2, 0)],
    ids=["one", "one, and keys are forgotten", "two, and keys are forgotten"],
)
def test_a_batch_whose_process_died_after_vipps_took_it_is_there_once(stand_on_each: Stand, several: int, hours: int):
    stand = stand_on_each
    numbers = [stand.active() for _ in range(several)]
    stand.switch(idempotency_hours=hours)
    stand.advance(**TO_SUBMISSION)
    stand.die("after", "create")
    with pytest.raises(Killed):
        stand.work()

    stand.leap(5, minutes=6)

    first, again = stand.sent("create")
    assert (first.key, first.body) == (again.key, again.body)
    assert [stand.renewal(number).status for number in numbers] == [SUBMITTED] * several
    assert_books_agree(stand)


@row("2.8", "two workers, same op (lease expired but first still alive)")
def test_a_worker_that_outlives_its_lease_changes_nothing_any_more(
    stand_on_each: Stand, caplog: pytest.LogCaptureFixture
):
    stand = stand_on_each
    number = stand.active()
    stand.advance(**TO_SUBMISSION)

    def another_takes_over() -> None:
        stand.advance(minutes=3)
        stand.another_worker.run_once()

    stand.behind("create", another_takes_over)
    stand.work()

    first, again = stand.sent("create")
    assert (first.key, first.body) == (again.key, again.body)
    assert "was taken over before it could be settled" in caplog.text
    [operation] = stand.operations("CREATE")
    assert (operation.status, operation.fence) == (OperationStatus.DONE, 2)
    assert stand.renewal(number).status == SUBMITTED
    assert_books_agree(stand)


@row("2.8", "409 conflict: the name exists")
@pytest.mark.parametrize("status", [400, 409])
def test_a_name_that_is_taken_by_our_own_lost_charge_is_adopted(stand: Stand, status: int):
    number = stand.active()
    stand.switch(idempotency_hours=0, taken_order_id_status=status)
    stand.advance(**TO_SUBMISSION)
    stand.fault("create", "drop_after", times=1)

    stand.work()
    stand.leap(2, minutes=3)

    assert len(stand.sent("create")) == 2
    assert (stand.renewal(number).status, stand.renewal(number).failure_reason) == (SUBMITTED, None)
    assert_books_agree(stand)


@row("2.8", "409 idempotency-conflict")
def test_a_key_that_stands_for_another_body_is_an_alarm_and_no_second_charge(
    stand: Stand, caplog: pytest.LogCaptureFixture
):
    numbers = [stand.active() for _ in range(2)]
    stand.advance(**TO_SUBMISSION)
    stand.fault("create_charges", "500", times=1)
    stand.work()
    [batch] = stand.operations("CREATE")
    used = stand.merchant("POST", "/recurring/v3/agreements/charges", [], key=batch.key)
    assert used.status_code == 400

    stand.leap(5, minutes=6)

    assert "A batch of 2 charges was refused" in caplog.text
    assert [record.levelname for record in caplog.records if "A batch of 2" in record.message] == ["ERROR"]
    assert [stand.renewal(number).status for number in numbers] == [SUBMITTED] * 2
    assert_books_agree(stand)


@row("2.8", "400 due-too-soon (crossed midnight while retrying)")
def test_a_batch_that_is_kept_up_past_its_date_goes_out_with_the_next_one_under_the_same_name(stand: Stand):
    number = stand.active()
    due_on = stand.renewal(number).due_on
    stand.advance(**TO_SUBMISSION)
    stand.fault("create", "502")
    stand.work()
    stand.leap(2, days=1)
    stand.advance_to(norway(due_on, 6))
    stand.end_faults()

    stand.leap(5, minutes=20)

    first, last = stand.sent("create")[0], stand.sent("create")[-1]
    assert first.charges == last.charges == [stand.renewal(number).name]
    assert first.key != last.key
    assert stand.renewal(number).status == SUBMITTED
    [charge] = [c for c in stand.ledger()["charges"] if c["type"] == "RECURRING"]
    assert charge["due"][:10] == (due_on + timedelta(days=1)).isoformat()
    assert_books_agree(stand)


@row("2.8", "400/403 agreement not ACTIVE")
def test_a_charge_for_an_agreement_that_ended_meanwhile_is_never_made_and_the_end_is_found(stand: Stand):
    number = stand.active()
    stand.switch(webhooks_lost=True)
    stand.advance(**TO_SUBMISSION)
    stand.ahead("create", lambda: stand.decide(stand.at_vipps(number), "stop"))

    stand.work()
    stand.leap(4, minutes=15)

    assert stand.status(number) == SubscriptionStatus.STOPPED
    assert stand.renewal(number).status in (ChargeStatus.VOID, REFUSED)
    assert [name for name, *_ in stand.taken(number)] == ["p0000-a0"]
    stand.leap(3, days=5)
    assert len(stand.charges(number)) == 2
    assert_books_agree(stand)


@row("2.8", "401: an old token")
def test_a_token_that_vipps_refuses_once_is_fetched_anew_at_once(stand: Stand):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    tokens = len(stand.sent("token"))
    stand.fault("create", "401", times=1)

    stand.work()

    first, again = stand.sent("create")
    assert (first.key, first.body) == (again.key, again.body)
    assert len(stand.sent("token")) - tokens == 2  # the one of the day, and the one after the refusal
    assert stand.renewal(number).status == SUBMITTED
    assert_books_agree(stand)


@row("2.8", "401: our keys are refused")
def test_keys_that_vipps_refuses_keep_the_batch_ready_until_they_are_right(
    stand: Stand, caplog: pytest.LogCaptureFixture
):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.fault("create", "401")
    stand.leap(5, hours=1)
    [operation] = stand.operations("CREATE")
    assert operation.status == OperationStatus.READY
    assert "ERROR" in {r.levelname for r in caplog.records if "refused our keys" in r.message}

    stand.end_faults()
    stand.leap(4, minutes=15)

    assert len({sent.key for sent in stand.sent("create")}) == 1
    assert stand.renewal(number).status == SUBMITTED
    assert_books_agree(stand)


@row("2.8", "429")
def test_a_batch_that_came_too_fast_is_sent_again_when_vipps_says_so(stand: Stand):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.fault("create", "429", times=1, seconds=600)

    stand.leap(15, minutes=1)

    first, again = stand.sent("create")
    assert (first.key, first.body) == (again.key, again.body)
    assert again.at - first.at >= timedelta(seconds=600)
    assert stand.renewal(number).status == SUBMITTED
    assert_books_agree(stand)


@row("2.8", "5xx/timeouts for hours")
@pytest.mark.parametrize("kind", ["down", "500_after", "502", "html", "429"])
def test_an_outage_of_two_days_is_absorbed_by_the_lead(stand: Stand, kind: str):
    number = stand.active()
    due_on = stand.renewal(number).due_on
    stand.advance(**TO_SUBMISSION)
    stand.fault("*", kind)
    stand.leap(4, hours=11)
    assert stand.renewal(number).status == ChargeStatus.SUBMITTING
    stand.end_faults()

    stand.leap(4, minutes=20)
    assert stand.renewal(number).status == SUBMITTED
    stand.leap(2, days=1)

    assert [(c.status, c.due_on) for c in stand.charges(number) if c.period == 1] == [(CHARGED, due_on)]
    assert_books_agree(stand)


@row("2.8", "success but state differs: 201, GET 404")
def test_a_charge_that_does_not_show_is_looked_for_and_never_made_twice(stand: Stand):
    number = stand.active()
    stand.advance(**TO_SUBMISSION)
    stand.switch(visibility_seconds=3600)

    stand.leap(16, minutes=3)
    looks = len(stand.sent("find_charge"))
    stand.leap(5, minutes=4)

    assert looks > 5
    assert len(stand.sent("create")) == 1
    assert (stand.renewal(number).status, stand.renewal(number).operation_id) == (SUBMITTED, None)
    assert_books_agree(stand)


@row("2.8", "success but state differs: other amount or agreement")
def test_a_strangers_charge_of_our_name_is_set_aside_and_told_once(stand: Stand):
    number = stand.active()
    name = stand.renewal(number).name
    stand_in_the_way(stand, number, orderId=name, amount=5000)
    stand.advance(**TO_SUBMISSION)

    stand.leap(8, hours=6)

    ours = stand.renewal(number)
    assert (ours.amount, ours.captured, ours.attempt) == (9900, 0, 0)
    assert stand.events(number).count("charge.quarantined") == 1
    assert len(stand.sent("create")) == 1
    assert_books_agree(stand, strangers=[name])


@row("2.8", "success but state differs: other amount or agreement")
def test_a_name_that_stands_under_another_agreement_is_refused_and_told_once(stand: Stand):
    number, other = stand.active(), stand.active()
    name = stand.renewal(number).name
    stand_in_the_way(stand, other, orderId=name)
    stand.advance(**TO_SUBMISSION)

    stand.leap(8, hours=6)

    assert stand.renewal(number).status == REFUSED
    assert stand.events(number).count("charge.refused") == 1
    assert stand.renewal(other).status == SUBMITTED
    assert_books_agree(stand, strangers=[name])
