"""A request becomes a subscription, once; a cancel ends it, for good."""

from __future__ import annotations

import pytest

from invoice.errors import Conflict, NotFound, ProviderDenied, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.services.jobs import Jobs, Services
from invoice.services.subscriptions import with_recurring
from tests.conftest import StandingClock
from tests.factories import (
    a_partner,
    a_wish,
    accept,
    an_active_subscription,
    charges,
    event_types,
    newest_agreement,
    settle,
    subscription,
)
from tests.fakes import FakePayments, FakeSms

LOST = [ProviderUncertain("timeout"), ProviderUnavailable("refused connection")]


def test_a_request_drafts_the_agreement_and_answers_with_our_own_link(services: Services, payments: FakePayments):
    partner = a_partner()

    answer = services.subscriptions.request(partner, a_wish())

    assert answer.url.startswith("https://pay.example.com/api/recurring/process/10295/")
    assert newest_agreement(answer.subscription_id).status == AgreementStatus.PENDING
    assert payments.agreements["agr_1"].draft["manage_url"] == "https://www.example.com/mine?recurring=1"


def test_the_same_order_number_and_wish_get_the_same_answer_and_one_draft(services: Services, payments: FakePayments):
    partner = a_partner()
    first = services.subscriptions.request(partner, a_wish(order_number="7"))

    second = services.subscriptions.request(partner, a_wish(order_number="7"))

    assert second == first
    assert payments.calls == ["draft"]


def test_the_same_order_number_for_another_wish_is_a_conflict(services: Services):
    partner = a_partner()
    services.subscriptions.request(partner, a_wish(order_number="7"))

    with pytest.raises(Conflict, match="7"):
        services.subscriptions.request(partner, a_wish(order_number="7", amount=9901))


def test_a_refusal_is_told_sends_no_text_and_frees_the_order_number(
    services: Services, payments: FakePayments, sms: FakeSms, jobs: Jobs
):
    partner = a_partner()
    payments.faults.before("draft", ProviderRefused("amount is too low"))

    with pytest.raises(ProviderRefused, match="amount is too low"):
        services.subscriptions.request(partner, a_wish(order_number="7", send_sms=True))
    settle(jobs)
    again = services.subscriptions.request(partner, a_wish(order_number="7", amount=19900))

    assert sms.sent == []
    assert subscription(1).status == SubscriptionStatus.REFUSED
    assert subscription(again.subscription_id).status == SubscriptionStatus.PENDING


def test_refused_keys_are_told_to_the_partner(services: Services, payments: FakePayments):
    partner = a_partner()
    payments.faults.before("draft", ProviderDenied("our keys"))

    with pytest.raises(ProviderRefused, match="our keys"):
        services.subscriptions.request(partner, a_wish())


@pytest.mark.parametrize("error", LOST)
def test_a_request_is_accepted_and_texted_although_vipps_says_nothing(
    services: Services, payments: FakePayments, sms: FakeSms, jobs: Jobs, error: Exception
):
    partner = a_partner()
    payments.faults.before("draft", error)

    answer = services.subscriptions.request(partner, a_wish(send_sms=True, sms_text="Click to proceed"))
    settle(jobs)

    assert newest_agreement(answer.subscription_id).status == AgreementStatus.LOST
    token = subscription(answer.subscription_id).link_token
    assert [m["body"] for m in sms.sent] == [f"Click to proceed https://pay.example.com/s/{token}"]


def test_a_text_goes_out_once_after_the_draft(services: Services, sms: FakeSms, jobs: Jobs):
    partner = a_partner()
    services.subscriptions.request(partner, a_wish(send_sms=True))

    settle(jobs)
    settle(jobs)

    assert len(sms.sent) == 1
    assert sms.sent[0]["to"] == "+4791234567"
    assert sms.sent[0]["originator"] == "2119"


def test_no_campaign_takes_a_whole_period_at_signing(services: Services, payments: FakePayments):
    number = services.subscriptions.request(a_partner(), a_wish(campaign_amount=None)).subscription_id

    assert subscription(number).initial_amount == 9900
    assert payments.agreements["agr_1"].draft["initial"]["amount"] == 9900


def test_a_campaign_of_nothing_is_a_free_first_period(services: Services, payments: FakePayments):
    a_partner()

    number = an_active_subscription(services, payments, campaign_amount=0)

    assert charges(number) == []
    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_a_partner_without_a_page_gets_ours(services: Services, payments: FakePayments):
    number = services.subscriptions.request(a_partner(), a_wish(agreement_url=None)).subscription_id

    token = subscription(number).manage_token
    address = f"https://pay.example.com/manage/{token}?recurring={number}"
    assert payments.agreements["agr_1"].draft["manage_url"] == address


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://www.merchantwebsite.com", "https://www.merchantwebsite.com?recurring=635"),
        ("https://a.no/", "https://a.no/?recurring=635"),
        ("https://a.no/p?a=b", "https://a.no/p?a=b&recurring=635"),
        ("https://a.no/p?a=b%20c#top", "https://a.no/p?a=b%20c&recurring=635#top"),
        ("https://a.no/p?recurring=1&a=b", "https://a.no/p?a=b&recurring=635"),
    ],
)
def test_recurring_is_added_and_the_rest_kept(given: str, expected: str):
    assert with_recurring(given, 635) == expected


# The end


def test_a_cancel_is_done_only_when_vipps_says_stopped(services: Services, payments: FakePayments, jobs: Jobs):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    payments.stops_at_once = False

    services.subscriptions.cancel_for(partner, number, str(number))
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.CANCELLING
    assert "subscription.cancelled" not in event_types(number)


def test_a_cancel_that_vipps_does_not_hear_is_repeated_until_it_does(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    payments.faults.before("stop", ProviderUncertain("timeout"), ProviderUnavailable("down"), ProviderDenied("keys"))

    services.subscriptions.cancel_for(partner, number, str(number))
    for _ in range(6):
        settle(jobs)
        time.move(minutes=20)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert event_types(number)[-2:] == ["subscription.cancelling", "subscription.cancelled"]


def test_a_cancel_empties_the_books_and_nothing_is_created_after_it(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=24)
    settle(jobs)
    assert [c.status for c in charges(number)] == [ChargeStatus.CHARGED, ChargeStatus.PLANNED]

    services.subscriptions.cancel_for(partner, number, str(number))
    for _ in range(60):
        time.move(days=7)
        settle(jobs)

    assert [c.status for c in charges(number)] == [ChargeStatus.CHARGED, ChargeStatus.VOID]
    assert payments.batches == []


def test_a_cancel_calls_off_a_charge_that_is_on_its_way(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=28)
    settle(jobs)
    assert charges(number)[-1].status == ChargeStatus.SUBMITTED

    services.subscriptions.cancel_for(partner, number, str(number))
    settle(jobs)

    assert charges(number)[-1].status == ChargeStatus.CANCELLED


def test_money_taken_between_the_cancel_and_the_stop_is_given_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    time.move(days=28)
    settle(jobs)
    name = charges(number)[-1].name
    payments.faults.before("stop", ProviderUnavailable("down"))
    services.subscriptions.cancel_for(partner, number, str(number))
    settle(jobs)

    time.move(days=2)
    payments.settle_charge(name, ChargeStatus.CHARGED)
    settle(jobs)
    settle(jobs)

    assert payments.charge(name).refunded == 9900
    assert charges(number)[-1].status == ChargeStatus.REFUNDED


def test_a_cancel_before_anybody_accepted_waits_for_the_draft_to_end(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = services.subscriptions.request(partner, a_wish()).subscription_id
    services.subscriptions.cancel_for(partner, number, str(number))
    settle(jobs)
    assert subscription(number).status == SubscriptionStatus.CANCELLING

    payments.end("agr_1", AgreementStatus.EXPIRED)
    time.move(minutes=20)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_who_accepts_after_the_cancel_is_stopped_and_gets_everything_back(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    partner = a_partner()
    number = services.subscriptions.request(partner, a_wish()).subscription_id
    services.subscriptions.cancel_for(partner, number, str(number))
    settle(jobs)

    payments.accept("agr_1")
    time.move(minutes=20)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.CANCELLED
    assert payments.agreements["agr_1"].view.status == AgreementStatus.STOPPED
    assert payments.charge(charges(number)[0].name).refunded == 9900
    assert charges(number)[0].status == ChargeStatus.REFUNDED


def test_a_cancel_without_any_living_draft_is_done_at_once(services: Services, payments: FakePayments):
    partner = a_partner()
    payments.faults.before("draft", ProviderUncertain("timeout"))
    number = services.subscriptions.request(partner, a_wish()).subscription_id

    services.subscriptions.cancel_for(partner, number, str(number))

    assert subscription(number).status == SubscriptionStatus.CANCELLED


def test_a_second_cancel_is_refused_in_the_documented_words(services: Services, payments: FakePayments, jobs: Jobs):
    partner = a_partner()
    number = an_active_subscription(services, payments)
    services.subscriptions.cancel_for(partner, number, str(number))
    settle(jobs)

    with pytest.raises(Conflict) as refusal:
        services.subscriptions.cancel_for(partner, number, str(number))

    assert refusal.value.message == f'Subscription with status: "Cancelled" for "{number}" cannot be cancelled'


def test_another_partners_subscription_does_not_exist(services: Services, payments: FakePayments):
    a_partner()
    number = an_active_subscription(services, payments)
    other = a_partner(10296)

    with pytest.raises(NotFound, match="Recurring not found"):
        services.subscriptions.cancel_for(other, number, str(number))

    assert subscription(number).status == SubscriptionStatus.ACTIVE


def test_a_member_is_cancelled_by_the_partners_own_id(services: Services, payments: FakePayments):
    partner = a_partner()
    number = an_active_subscription(services, payments, member_id="M-77")

    services.subscriptions.cancel_for(partner, None, "M-77")

    assert subscription(number).status == SubscriptionStatus.CANCELLING


def test_a_member_with_two_living_subscriptions_must_be_named_by_number(services: Services, payments: FakePayments):
    partner = a_partner()
    an_active_subscription(services, payments, member_id="M-77")
    an_active_subscription(services, payments, member_id="M-77")

    with pytest.raises(Conflict, match="subscriptionId"):
        services.subscriptions.cancel_for(partner, None, "M-77")


def test_an_end_in_the_app_is_seen_within_a_day_without_any_webhook(
    services: Services, payments: FakePayments, jobs: Jobs, time: StandingClock
):
    a_partner()
    number = an_active_subscription(services, payments)

    payments.end("agr_1")
    time.move(hours=25)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.STOPPED
    assert event_types(number)[-1] == "subscription.stopped"


# Links


def test_a_link_that_nobody_used_expires_after_its_days(
    services: Services, jobs: Jobs, time: StandingClock, payments: FakePayments
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id
    payments.end("agr_1", AgreementStatus.EXPIRED)

    time.move(days=14, seconds=1)
    settle(jobs)

    assert subscription(number).status == SubscriptionStatus.EXPIRED


def test_a_link_does_not_expire_while_somebody_may_still_accept(
    services: Services, jobs: Jobs, time: StandingClock, payments: FakePayments
):
    number = services.subscriptions.request(a_partner(), a_wish()).subscription_id

    time.move(days=15)
    settle(jobs)
    assert subscription(number).status == SubscriptionStatus.PENDING
    accept(services, payments, number)

    assert subscription(number).status == SubscriptionStatus.ACTIVE
