"""What goes wrong with Vipps while a person is asked for consent, and what must come of it all the same.

Each test provokes one row of the failure tables (2.5 and 2.6) in the stand-in, over real sockets. What comes after
consent stands in `test_failures_charges`, `test_failures_settle` and `test_failures_endings`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests

from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from tests.journeys.agreeing import assert_books_agree
from tests.journeys.stand import (
    PARTNER,
    Stand,
    a_stand,  # noqa: F401 - a fixture
    a_stand_on_each_database,  # noqa: F401 - a fixture
    row,
)
from tests.journeys.wire import Killed

ACTIVE, PENDING, CANCELLED = SubscriptionStatus.ACTIVE, SubscriptionStatus.PENDING, SubscriptionStatus.CANCELLED
LOST = AgreementStatus.LOST
NOTHING_HAPPENED = ["timeout_before", "502", "malformed", "429"]
IT_HAPPENED = ["timeout_after", "500_after", "drop_after"]


def states(stand: Stand, number: int) -> list[str]:
    """How a subscription's agreements stand at Vipps."""
    return [a["status"] for a in stand.theirs(number)]


def kept(stand: Stand, number: int) -> int:
    """What was taken from the person and not given back."""
    return sum(captured - refunded for _, _, captured, refunded in stand.taken(number))


# 2.5, flow C: the link is opened, an agreement is drafted


@row("2.5", "preview bot GETs or HEADs the link")
def test_looking_at_a_link_asks_vipps_for_nothing(stand: Stand):
    stand.fault("draft", "down", times=1)
    number = stand.subscribe()
    link = stand.subscription(number).link_token
    before = (stand.ledger(), stand.events(number), len(stand.wire.sent))

    for path in (f"/s/{link}", f"/api/recurring/process/{PARTNER}/{link}"):
        assert stand.get(path).status_code == 200
        assert requests.head(stand.service + path, timeout=60).status_code == 200
        assert requests.options(stand.service + path, timeout=60).status_code == 200

    assert (stand.ledger(), stand.events(number), len(stand.wire.sent)) == before
    assert_books_agree(stand)


@row("2.5", "double click, two tabs, two devices")
def test_two_presses_at_once_draft_once(stand: Stand):
    stand.fault("draft", "down", times=1)
    number = stand.subscribe()
    seen: list[str] = []
    stand.behind("draft", lambda: seen.append(stand.press(number)))

    first = stand.press(number)

    assert seen[0].endswith("notice=try_again")
    assert [a["vippsConfirmationUrl"] for a in stand.theirs(number)] == [first]
    assert stand.press(number) == first
    assert_books_agree(stand)


@row("2.5", "draft POST timeout/5xx")
@pytest.mark.parametrize("kind", [*NOTHING_HAPPENED, *IT_HAPPENED])
def test_a_draft_whose_answer_is_lost_is_never_sent_again_and_the_next_press_drafts_anew(stand: Stand, kind: str):
    stand.fault("draft", kind, times=2)
    number = stand.subscribe()
    stand.advance(seconds=3)  # which is how long a 429 asks to be left alone
    assert stand.press(number).endswith("notice=try_again")
    stand.advance(seconds=3)

    target = stand.press(number)
    stand.accept(number)
    stand.leap(4, minutes=3)

    assert target == stand.theirs(number)[-1]["vippsConfirmationUrl"]
    assert [a.status for a in stand.agreements(number)][:3] == [LOST, LOST, AgreementStatus.ACTIVE]
    assert len({draft.key for draft in stand.sent("draft")}) == len(stand.sent("draft")) == 3
    assert states(stand, number) == ([*["EXPIRED"] * 2, "ACTIVE"] if kind in IT_HAPPENED else ["ACTIVE"])
    assert kept(stand, number) == 9900
    assert_books_agree(stand)


@row("2.5", "both drafts accepted")
def test_a_lost_draft_that_is_accepted_beside_another_is_stopped_and_paid_back(stand_on_each: Stand):
    stand = stand_on_each
    stand.fault("draft", "drop_after", times=1)
    number = stand.subscribe()
    stand.press(number)
    lost, drafted = (a["id"] for a in stand.theirs(number))

    stand.decide(drafted, "approve")
    stand.decide(lost, "approve")
    stand.settle()
    stand.leap(6, minutes=5)

    assert states(stand, number) == ["STOPPED", "ACTIVE"]
    assert "consent.surplus" in stand.events(number)
    assert kept(stand, number) == 9900
    assert_books_agree(stand)


@row("2.5", "both drafts accepted")
def test_of_two_drafts_that_were_both_handed_out_and_accepted_one_stays(stand: Stand):
    number = stand.subscribe()
    first = stand.press(number)
    stand.advance(minutes=5)
    assert stand.press(number) != first

    for agreement in stand.theirs(number):
        stand.decide(agreement["id"], "approve")
    stand.settle()
    stand.leap(6, minutes=5)

    assert sorted(states(stand, number)) == ["ACTIVE", "STOPPED"]
    assert kept(stand, number) == 9900
    assert_books_agree(stand)


@row("2.5", "crash after 201 before T3")
@pytest.mark.parametrize("stand", [{"mortal": True}], indirect=True)
def test_an_agreement_whose_draft_died_with_its_process_is_found_by_its_webhook(stand: Stand):
    stand.fault("draft", "down", times=1)
    number = stand.subscribe()
    stand.die("after", "draft_agreement")
    with pytest.raises(Killed):
        stand.services.consents.open(stand.subscription(number).link_token)
    [orphan] = stand.theirs(number)

    stand.decide(orphan["id"], "approve")
    stand.tell()
    stand.leap(5, minutes=3)

    assert stand.status(number) == ACTIVE
    assert [c.name for c in stand.charges(number) if c.period == 0] == [c["id"] for c in stand.ledger()["charges"]]
    assert_books_agree(stand)


@row("2.5", "crash after 201 before T3")
@pytest.mark.parametrize("stand", [{"mortal": True}], indirect=True)
def test_an_agreement_whose_draft_died_with_its_process_is_found_without_any_webhook(stand: Stand):
    stand.switch(webhooks_lost=True)
    stand.fault("draft", "down", times=1)
    number = stand.subscribe()
    stand.die("after", "draft_agreement")
    with pytest.raises(Killed):
        stand.services.consents.open(stand.subscription(number).link_token)
    [orphan] = stand.theirs(number)

    stand.decide(orphan["id"], "approve")
    stand.leap(9, minutes=2)

    assert stand.status(number) == ACTIVE
    assert kept(stand, number) == 9900
    assert_books_agree(stand)


@row("2.5", "vippsConfirmationUrl points to a strange host")
@pytest.mark.parametrize("stand", [{"landing_host": "localhost"}], indirect=True)
def test_nobody_is_led_to_a_host_that_is_not_vipps(stand: Stand, caplog: pytest.LogCaptureFixture):
    number = stand.subscribe()

    target = stand.press(number)
    shown = stand.get(f"/api/recurring/process/{PARTNER}/{stand.subscription(number).link_token}")

    assert target.startswith(f"/s/{stand.subscription(number).link_token}")
    assert shown.status_code == 200
    assert "a host that is not on the list: localhost" in caplog.text
    stand.leap(1, minutes=15)
    assert states(stand, number) == ["EXPIRED", "EXPIRED"]
    assert_books_agree(stand)


@row("2.5", "draft 4xx (bad MSN, amount too high)")
@pytest.mark.parametrize(
    ("stand", "changes", "reason"),
    [
        ({}, {"currency": "DKK"}, "sales unit's market"),
        ({"VIPPS_MERCHANT_SERIAL_NUMBER": "999999"}, {}, "sales unit"),
    ],
    indirect=["stand"],
)
def test_a_draft_that_vipps_refuses_is_told_and_not_tried_again(stand: Stand, changes: dict[str, str], reason: str):
    answer = stand.request(orderNumber="7", **changes)

    assert 400 <= answer.status_code < 600
    assert reason in answer.text
    tries = len(stand.sent("draft"))
    stand.leap(2, hours=12)
    assert len(stand.sent("draft")) == tries
    assert stand.status(1) == SubscriptionStatus.REFUSED
    assert stand.events(1)[-1] == "subscription.refused"
    assert_books_agree(stand)


# 2.6, flows D and E: back from Vipps, and active


@row("2.6", "user never returns")
def test_a_person_who_never_comes_back_is_active_by_the_webhook(stand: Stand):
    number = stand.subscribe()

    stand.decide(stand.at_vipps(number), "approve")
    stand.settle()

    assert stand.status(number) == ACTIVE
    assert_books_agree(stand)


@row("2.6", "webhook lost")
@row("2.6", "user never returns")
def test_a_person_who_never_comes_back_is_active_without_any_webhook_within_a_quarter_of_an_hour(stand: Stand):
    stand.switch(webhooks_lost=True)
    number = stand.subscribe()

    stand.decide(stand.at_vipps(number), "approve")
    stand.leap(5, minutes=3)

    assert stand.hooks == []
    assert stand.status(number) == ACTIVE
    assert_books_agree(stand)


@row("2.6", "user returns first, status still PENDING")
def test_a_person_who_comes_back_too_early_waits_and_sees_it_happen(stand: Stand):
    stand.switch(webhooks_lost=True)
    number = stand.subscribe()
    assert [stand.come_back(number) for _ in range(5)] == ["waiting"] * 5
    assert len(stand.sent("find_agreement")) == 1  # Vipps is asked once in two seconds, however often we are

    stand.decide(stand.at_vipps(number), "approve")
    stand.advance(seconds=3)

    assert stand.come_back(number) == "done"
    assert stand.status(number) == ACTIVE
    assert_books_agree(stand)


@row("2.6", "forged return URL")
def test_a_return_that_nobody_made_changes_nothing(stand: Stand):
    number = stand.subscribe()
    before = stand.events(number)

    assert stand.come_back(number) == "waiting"
    forged = f"/api/recurring/return/{PARTNER}/00000000-0000-4000-8000-000000000000"
    assert requests.post(stand.service + forged, timeout=60).status_code == 404
    stand.leap(4, days=2)

    assert stand.events(number)[: len(before)] == before
    assert stand.status(number) == PENDING
    assert stand.sent("create") == []
    assert_books_agree(stand)


@row("2.6", "registration deleted")
def test_a_registration_that_vipps_has_deleted_is_made_anew_within_a_day(stand: Stand):
    [there] = stand.merchant("GET", "/webhooks/v1/webhooks").json()["webhooks"]
    assert stand.merchant("DELETE", f"/webhooks/v1/webhooks/{there['id']}").status_code == 204

    stand.leap(1, hours=25)

    [anew] = stand.merchant("GET", "/webhooks/v1/webhooks").json()["webhooks"]
    assert anew["url"] != there["url"]
    number = stand.active()
    assert {hook.path for hook in stand.hooks} == {anew["url"].removeprefix(stand.service)}
    assert stand.status(number) == ACTIVE
    assert_books_agree(stand)


@row("2.6", "webhook before our commit of agreementId")
def test_a_webhook_that_comes_before_the_answer_that_it_is_about_is_kept_and_placed(stand: Stand):
    def accept_at_once() -> None:
        stand.decide(stand.ledger()["agreements"][-1]["id"], "approve")
        stand.tell()

    stand.behind("draft", accept_at_once)

    number = stand.subscribe()

    assert [hook.event for hook in stand.hooks] == ["charge-captured", "agreement-activated"]
    assert stand.status(number) == PENDING
    stand.advance(seconds=11)  # before the timer's own first look
    stand.work()
    assert stand.status(number) == ACTIVE
    assert_books_agree(stand)


@row("2.6", "webhook duplicate / old (activated after stopped)")
def test_webhooks_that_come_twice_and_long_after_change_nothing(stand: Stand):
    stand.switch(webhooks_doubled=True)
    number = stand.active()
    stand.cancel(number)
    stand.settle()
    before = stand.events(number)

    stand.leap(1, hours=1)
    for hook in list(stand.hooks):
        assert stand.replay(hook).status_code == 200
    stand.leap(2, hours=15)

    assert stand.status(number) == CANCELLED
    assert stand.events(number) == before
    assert before.count("subscription.activated") == 1
    assert_books_agree(stand)


@row("2.6", "webhook duplicate / old (activated after stopped)")
def test_an_activation_that_is_told_after_the_stop_brings_nothing_back(stand: Stand):
    stand.refuse_hooks("agreement-activated")
    number = stand.active()
    stand.cancel(number)
    stand.settle()
    assert stand.status(number) == CANCELLED

    stand.refuse_hooks("")
    stand.leap(2, hours=1)

    assert [hook.event for hook in stand.hooks].count("agreement-activated") == 1
    assert stand.status(number) == CANCELLED
    assert stand.events(number).count("subscription.activated") == 1
    assert_books_agree(stand)


@row("2.6", "user accepts after we expired it")
@pytest.mark.parametrize("stand", [{"INVOICE_LINK_DAYS": "1"}], indirect=True)
def test_a_link_that_runs_out_while_its_person_reads_is_not_expired_by_our_clock(stand: Stand):
    number = stand.subscribe()
    stand.advance_to(stand.subscription(number).link_expires_at - timedelta(minutes=1))
    stand.work()
    stand.press(number)
    stand.advance(minutes=5)
    stand.work()
    assert stand.status(number) == PENDING

    stand.accept(number)

    assert stand.status(number) == ACTIVE
    assert_books_agree(stand)


@row("2.6", "captured webhook arrives before activated (initial charge)")
def test_the_first_money_pulls_the_activation_in(stand: Stand):
    stand.refuse_hooks("agreement-activated")
    number = stand.subscribe()

    stand.accept(number)

    assert [hook.event for hook in stand.hooks] == ["charge-captured"]
    assert stand.status(number) == ACTIVE
    assert [(c.period, c.captured) for c in stand.charges(number) if c.period == 0] == [(0, 9900)]
    assert_books_agree(stand)


@row("2.6", "activation while charging is paused / bounds tripped")
def test_an_activation_counts_while_its_partner_is_suspended_and_charges_wait(stand: Stand):
    number = stand.subscribe()
    stand.suspend()

    stand.accept(number)
    stand.leap(1, days=5)

    assert stand.status(number) == ACTIVE
    assert stand.sent("create") == []
    stand.resume()
    stand.leap(2, days=1)
    assert [name for name, *_ in stand.taken(number)][:2] == ["p0000-a0", "p0001-a0"]
    assert_books_agree(stand)
