"""A text is sent, found again when its answer was lost, and only ever moves forward."""

from __future__ import annotations

import logging

import pytest

from invoice.errors import ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import MessageStatus
from invoice.providers.base import Receipt
from invoice.services.invitations import compose
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading
from invoice.store.models import Message
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, accept, event_types, settle, subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.visiting import seal_of

LINK = "https://pay.example.com/s/abcdefghijklmnopqrstuv"


def the_message() -> Message:
    with reading():
        message = db.session.scalars(db.select(Message)).one()
        db.session.expunge(message)
        return message


def invited(services: Services) -> int:
    return services.subscriptions.request(a_partner(), a_wish(send_sms=True)).subscription_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Click to proceed", f"Click to proceed {LINK}"),
        ("Se {{url}} nå", f"Se {LINK} nå"),
        ("Se {{ PaymentSelectionPageUrl }}!", f"Se {LINK}!"),
        ("Hei – «Avisen»…", f"Hei - «Avisen»... {LINK}"),
        ("", LINK),
        ("{{amount}} {{Currency}} {{nobody}}til {{ url }}", f"99.00 NOK til {LINK}"),
        ("{{7*7}} {{}} {{a b}} {{{amount}}}", f"{{{{7*7}}}} {{{{}}}} {{{{a b}}}} {{99.00}} {LINK}"),
        ("a\x00\u202eb\r\nc", f"ab\nc {LINK}"),
    ],
)
def test_the_link_stands_where_the_partner_wants_it_or_at_the_end(text: str, expected: str):
    assert compose(text, LINK, {"amount": "99.00", "currency": "NOK"}) == expected


def test_a_value_is_not_read_as_a_text_with_placeholders():
    assert (
        compose("{{name}}", LINK, {"name": "{{url}} {{amount}}", "amount": "1"}) == f"{{{{url}}}} {{{{amount}}}} {LINK}"
    )


def test_a_text_of_our_own_says_who_asks_and_what_it_costs(services: Services, sms: FakeSms, jobs: Jobs):
    invited(services)

    settle(jobs)

    body = sms.sent[0]["body"]
    assert body.startswith("Partner 10295: Avisen, 99 kr i måneden")
    assert body.endswith(sms.sent[0]["body"].rpartition(" ")[2])
    assert the_message().segments <= 2


@pytest.mark.parametrize("error", [ProviderUnavailable("refused"), ProviderUncertain("timeout")])
def test_a_text_that_did_not_arrive_at_twilio_is_sent_later(
    services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock, error: ProviderError
):
    invited(services)
    sms.faults.before("send", error)

    for _ in range(15):
        settle(jobs)
        time.move(minutes=2)

    assert len(sms.sent) == 1
    assert the_message().status == MessageStatus.ACCEPTED


def test_a_text_whose_answer_was_lost_is_found_and_not_sent_again(
    services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    invited(services)
    sms.faults.after("send", ProviderUncertain("timeout"))

    for _ in range(15):
        settle(jobs)
        time.move(minutes=2)

    assert len(sms.sent) == 1
    assert the_message().provider_message_id == "SM1"


def test_a_text_that_leaves_no_trace_is_sent_twice_at_most(
    services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    invited(services)
    sms.faults.before("send", *[ProviderUncertain("timeout")] * 20)

    for _ in range(200):
        settle(jobs)
        time.move(minutes=30)

    assert sms.calls.count("send") == 2
    assert the_message().status == MessageStatus.FAILED


def test_a_second_send_whose_answer_is_lost_has_time_to_show_as_the_first_had(
    services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    number = invited(services)
    sms.faults.before("send", ProviderUncertain("timeout"))
    sms.faults.after("send", ProviderUncertain("timeout"))
    sms.shows = False
    while len(sms.sent) == 0:
        time.move(minutes=2)
        settle(jobs)

    for _ in range(4):
        time.move(minutes=2)
        settle(jobs)
    sms.shows = True
    time.move(minutes=30)
    settle(jobs)

    assert the_message().status == MessageStatus.SENT
    assert sms.calls.count("send") == 2
    assert "message.failed" not in event_types(number)


def test_a_second_send_that_surely_was_none_does_not_count(
    services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    number = invited(services)
    sms.faults.before("send", ProviderUncertain("timeout"), *[ProviderUnavailable("429")] * 3)

    for _ in range(60):
        settle(jobs)
        time.move(minutes=5)

    assert len(sms.sent) == 1
    assert the_message().status == MessageStatus.ACCEPTED
    assert "message.failed" not in event_types(number)


def test_a_refused_text_is_told_and_not_repeated(services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock):
    number = invited(services)
    sms.faults.before("send", ProviderRefused("no", problem="21211"))

    for _ in range(3):
        settle(jobs)
        time.move(hours=1)

    assert sms.calls == ["send"]
    assert the_message().error_code == "21211"
    assert event_types(number)[-1] == "message.failed"


def test_a_text_is_sent_whatever_is_logged(
    services: Services, sms: FakeSms, jobs: Jobs, caplog: pytest.LogCaptureFixture
):
    """What an operator wants to read must not change what is done: some names are logging's own."""
    with caplog.at_level(logging.DEBUG):
        number = services.subscriptions.request(a_partner(), a_wish(send_sms=True)).subscription_id
        settle(jobs)

    assert "message.accepted" in event_types(number)
    assert any(record.getMessage() == f"message.accepted: subscription {number}" for record in caplog.records)
    assert len(sms.sent) == 1


def test_receipts_move_a_text_forward_only(services: Services, jobs: Jobs):
    number = invited(services)
    settle(jobs)
    message_id = the_message().id

    for status in (MessageStatus.DELIVERED, MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.FAILED):
        services.inbox.take_receipt(message_id, Receipt("SM1", status), {}, seal=seal_of(message_id))

    assert the_message().status == MessageStatus.DELIVERED
    assert event_types(number)[-2:] == ["message.accepted", "message.delivered"]


def test_a_receipt_may_be_the_first_news_of_a_send_whose_answer_was_lost(
    services: Services, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    invited(services)
    sms.faults.after("send", ProviderUncertain("timeout"))
    settle(jobs)

    message_id = the_message().id
    services.inbox.take_receipt(message_id, Receipt("SM1", MessageStatus.SENT), {}, seal=seal_of(message_id))
    for _ in range(10):
        time.move(minutes=5)
        settle(jobs)

    assert sms.calls.count("send") == 1
    assert the_message().provider_message_id == "SM1"


def test_a_receipt_of_another_message_is_refused(services: Services, jobs: Jobs):
    invited(services)
    settle(jobs)

    message_id = the_message().id
    taken = services.inbox.take_receipt(
        message_id, Receipt("SM999", MessageStatus.FAILED), {}, seal=seal_of(message_id)
    )

    assert taken is False
    assert the_message().status == MessageStatus.ACCEPTED


def test_nothing_is_sent_for_a_subscription_that_was_cancelled_first(services: Services, sms: FakeSms, jobs: Jobs):
    number = invited(services)
    services.subscriptions.cancel(number)

    settle(jobs)

    assert sms.sent == []


def test_nobody_waits_for_a_text_whose_person_accepted_before_its_draft_was_given_up(
    services: Services, payments: FakePayments, sms: FakeSms, jobs: Jobs, time: StandingClock
):
    payments.faults.after("draft", SystemExit())  # the process dies before it hears the answer
    with pytest.raises(SystemExit):
        invited(services)
    time.move(minutes=1)
    services.consents.open(subscription(1).link_token)
    accept(services, payments, 1)

    time.move(minutes=5)
    settle(jobs)

    assert the_message().status == MessageStatus.VOID
    assert sms.sent == []
