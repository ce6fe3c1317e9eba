"""From a press of the button to an active subscription, whatever is lost on the way."""

from __future__ import annotations

import json
from datetime import date

import pytest

from invoice.clock import utc_now
from invoice.errors import NotFound, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    agreements,
    an_active_subscription,
    charges,
    event_types,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments


def a_link(services: Services, **changes: object) -> tuple[int, str]:
    number = services.subscriptions.request(a_partner(), a_wish(**changes)).subscription_id
    return number, subscription(number).link_token


def test_the_first_press_uses_the_draft_made_at_the_request(services: Services, payments: FakePayments):
    _, token = a_link(services)

    opened = services.consents.open(token)

    assert opened.url == "https://api.vipps.no/landing/agr_1"
    assert payments.calls == ["draft"]


def test_a_press_when_the_draft_is_old_makes_a_new_one(services: Services, time: StandingClock):
    _, token = a_link(services)
    time.move(minutes=4)

    opened = services.consents.open(token)

    assert opened.url == "https://api.vipps.no/landing/agr_2"


def test_a_second_press_gets_the_same_draft_while_it_lives_at_vipps(services: Services, payments: FakePayments):
    _, token = a_link(services)
    services.consents.open(token)

    again = services.consents.open(token)

    assert again.url == "https://api.vipps.no/landing/agr_1"
    assert payments.calls == ["draft", "find_agreement"]


def test_who_went_back_from_vipps_page_gets_a_new_draft(services: Services, payments: FakePayments):
    _, token = a_link(services)
    services.consents.open(token)
    payments.end("agr_1", AgreementStatus.EXPIRED)

    again = services.consents.open(token)

    assert again.url == "https://api.vipps.no/landing/agr_2"


def test_a_lost_draft_asks_the_person_to_try_again_and_the_next_press_works(
    services: Services, payments: FakePayments, time: StandingClock
):
    number, token = a_link(services)
    time.move(minutes=5)
    payments.faults.after("draft", ProviderUncertain("timeout"))

    first = services.consents.open(token)
    second = services.consents.open(token)

    assert first.notice == "try_again"
    assert second.url == "https://api.vipps.no/landing/agr_3"
    assert [a.status for a in agreements(number)] == [
        AgreementStatus.PENDING,
        AgreementStatus.LOST,
        AgreementStatus.PENDING,
    ]


def test_an_unknown_link_opens_nothing(services: Services):
    with pytest.raises(NotFound):
        services.consents.open("no-such-link")


def test_acceptance_activates_with_the_market_date_of_signing(
    services: Services, payments: FakePayments, time: StandingClock
):
    a_partner()
    # 23:30 UTC is half past midnight of the next day in Oslo.
    time.move_to(time.at.replace(hour=23, minute=30))

    number = an_active_subscription(services, payments)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert subscription(number).anchor_on == date(2026, 11, 11)


def test_the_initial_charge_stands_in_the_books_as_period_nought(services: Services, payments: FakePayments):
    a_partner()

    number = an_active_subscription(services, payments, campaign_amount=1000)

    [charge] = charges(number)
    assert (charge.period, charge.amount, charge.captured, charge.status) == (0, 1000, 1000, ChargeStatus.CHARGED)
    assert event_types(number)[-2:] == ["subscription.activated", "charge.charged"]


def test_a_webhook_about_the_initial_charge_that_comes_before_its_row_is_heard(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, _ = a_link(services)
    name = newest_agreement(number).initial_name
    payments.accept("agr_1")

    def given_back_there() -> None:
        if payments.calls[-1] != "list_charges":
            payments.during_look = given_back_there
            return
        payments.give_back(name, 500)
        ring = {"agreement_id": "agr_1", "external_id": None, "charge_name": name}
        services.inbox.take_webhook(json.dumps(ring).encode(), "123456")

    payments.during_look = given_back_there
    services.consents.refresh(newest_agreement(number).id)
    _later(jobs)
    time.move(hours=1)
    _later(jobs)

    assert charges(number)[0].refunded == 500


def test_a_refusal_in_the_app_leaves_the_link_open(services: Services, payments: FakePayments):
    number, token = a_link(services)
    payments.end("agr_1")

    services.consents.refresh(newest_agreement(number).id)

    assert subscription(number).status == SubscriptionStatus.PENDING
    assert event_types(number)[-1] == "consent.declined"
    assert services.consents.open(token).url == "https://api.vipps.no/landing/agr_2"


def test_two_accepted_drafts_leave_one_and_give_the_others_money_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, token = a_link(services)
    time.move(minutes=5)
    services.consents.open(token)
    payments.accept("agr_1")
    payments.accept("agr_2")

    for agreement in agreements(number):
        services.consents.refresh(agreement.id)
    settle(jobs)
    settle(jobs)

    assert payments.agreements["agr_1"].view.status == AgreementStatus.ACTIVE
    assert payments.agreements["agr_2"].view.status == AgreementStatus.STOPPED
    kept, surplus = charges(number)
    assert (kept.status, kept.refunded) == (ChargeStatus.CHARGED, 0)
    assert (surplus.status, surplus.refunded, surplus.is_surplus) == (ChargeStatus.REFUNDED, 9900, True)
    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_a_draft_whose_answer_was_lost_and_that_is_accepted_all_the_same_is_taken_up(
    services: Services, payments: FakePayments, jobs: Jobs
):
    payments.faults.after("draft", ProviderUncertain("timeout"))
    number, _ = a_link(services)
    ulid = subscription(number).ulid
    payments.accept("agr_1")

    body = json.dumps({"agreement_id": "agr_1", "external_id": ulid, "charge_name": None}).encode()
    services.inbox.take_webhook(body, "123456")
    # Nobody could place it yet: it is tried again.
    _later(jobs)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
    assert [c.captured for c in charges(number)] == [9900]


def _later(jobs: Jobs) -> None:
    from invoice import clock  # noqa: PLC0415

    clock_before = utc_now()
    clock.follow(lambda: clock_before.replace(minute=clock_before.minute + 1))
    settle(jobs)


def test_who_accepts_and_stops_between_two_looks_has_been_a_subscriber(services: Services, payments: FakePayments):
    number, _ = a_link(services)
    payments.accept("agr_1")
    payments.end("agr_1")

    services.consents.refresh(newest_agreement(number).id)

    assert subscription(number).status == SubscriptionStatus.STOPPED
    assert [c.captured for c in charges(number)] == [9900]
    assert event_types(number)[1:] == ["subscription.activated", "charge.charged", "subscription.stopped"]


def test_an_old_webhook_does_not_bring_an_ended_subscription_back(
    services: Services, payments: FakePayments, jobs: Jobs
):
    a_partner()
    number = an_active_subscription(services, payments)
    services.subscriptions.cancel(number)
    settle(jobs)

    body = json.dumps({"agreement_id": "agr_1", "external_id": None, "charge_name": None}).encode()
    services.inbox.take_webhook(body, "123456")
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_a_kill_between_the_request_and_its_draft_loses_neither_the_text_nor_the_link(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock, sms: object
):
    payments.faults.before("draft", SystemExit())  # the process dies in the call
    partner = a_partner()
    with pytest.raises(SystemExit):
        services.subscriptions.request(partner, a_wish(send_sms=True))

    time.move(minutes=3)  # the dead worker's lease runs out
    settle(jobs)

    assert len(sms.sent) == 1  # type: ignore[attr-defined]
    token = subscription(1).link_token
    assert services.consents.open(token).url == "https://api.vipps.no/landing/agr_1"


def test_a_waiting_person_makes_us_look_at_most_once_in_two_seconds(
    services: Services, payments: FakePayments, time: StandingClock
):
    number, _ = a_link(services)
    agreement_id = newest_agreement(number).id

    for _ in range(10):
        services.consents.ring(agreement_id)
    looks = payments.calls.count("find_agreement")
    time.move(seconds=2)
    services.consents.ring(agreement_id)

    assert (looks, payments.calls.count("find_agreement")) == (1, 2)


def test_a_late_yes_to_an_older_draft_counts(services: Services, payments: FakePayments, time: StandingClock):
    number, token = a_link(services)
    time.move(minutes=5)
    services.consents.open(token)
    payments.accept("agr_1")

    services.consents.refresh(agreements(number)[0].id)

    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_acceptance_is_found_by_the_timer_alone(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    number, _ = a_link(services)
    payments.accept("agr_1")

    time.move(minutes=1)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_who_has_accepted_an_old_draft_unseen_is_not_asked_again(
    services: Services, payments: FakePayments, time: StandingClock
):
    number, token = a_link(services)
    services.consents.open(token)
    payments.accept("agr_1")
    time.move(minutes=6)

    opened = services.consents.open(token)

    assert opened.notice == "already_active"
    assert payments.calls.count("draft") == 1
    assert subscription(number).status == SubscriptionStatus.ACTIVE
