"""Texts that hardly anybody opens are paused for their partner alone, until an operator lets them go on."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from invoice.clock import utc_now
from invoice.errors import Limited, NotFound
from invoice.lifecycle import MessageStatus
from invoice.services import openings, partners
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.models import Message, Subscription
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, settle, subscription
from tests.services.test_partners_commands import told

pytestmark = pytest.mark.usefixtures("housekeeping")

PARTNER = 10295


def sent(services: Services, count: int, *, opened: int, number: int = PARTNER, hours: float = 2) -> None:
    """Enter texts of a partner, of which so many were opened, as if sent so long ago. One subscription of each kind."""
    wish = [services.subscriptions.request(partners.get(number), a_wish(msisdn="+4791234567")) for _ in range(2)]
    at = utc_now() - timedelta(hours=hours)
    with transaction():
        read, unread = (db.session.get_one(Subscription, one.subscription_id) for one in wish)
        read.opened_at = at
        for place in range(count):
            db.session.add(a_text(read if place < opened else unread, at))


def a_text(sub: Subscription, at: datetime, status: MessageStatus = MessageStatus.DELIVERED) -> Message:
    facts = {"recipient": sub.msisdn, "originator": "2119", "body": "x", "segments": 1}
    return Message(subscription_id=sub.id, partner_id=sub.partner_id, status=status, created_at=at, **facts)


def is_paused(number: int = PARTNER) -> bool:
    return partners.get(number).texts_paused_at is not None


@pytest.mark.parametrize(
    ("count", "opened", "hours", "paused"),
    [
        (201, 40, 2, True),
        (201, 41, 2, False),  # a fifth, and a little more
        (200, 0, 2, False),
        (300, 0, 23.9, True),
        (300, 0, 24.1, False),  # yesterday's
        (300, 0, 0.9, False),  # nobody had the time
    ],
)
def test_more_than_200_texts_of_a_day_of_which_a_fifth_is_not_opened_pause_their_partner(
    services: Services, count: int, opened: int, hours: float, *, paused: bool
):
    a_partner()
    sent(services, count, opened=opened, hours=hours)

    assert services.openings.pause_unopened() == paused
    assert is_paused() == paused


def test_the_job_pauses_says_so_and_no_further_text_goes_out_and_nobody_elses_is_held(
    services: Services, jobs: Jobs, caplog: pytest.LogCaptureFixture
):
    for number in (PARTNER, 20000):
        a_partner(number)
    sent(services, 300, opened=10)

    settle(jobs)  # the job "openings" is one of them

    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "The texts of partner 10295 are paused: of 300 within 24 hours 10 were opened. "
        "`flask partner resume-texts` lets them go on."
    ]
    with pytest.raises(Limited, match="paused"):
        services.subscriptions.request(partners.get(PARTNER), a_wish(send_sms=True))
    services.subscriptions.request(partners.get(PARTNER), a_wish(send_sms=False))
    services.subscriptions.request(partners.get(20000), a_wish(send_sms=True))


def test_an_operator_sees_it_and_lets_texts_go_on_and_what_was_before_counts_no_more(
    app: Flask, services: Services, time: StandingClock
):
    a_partner()
    sent(services, 300, opened=0)
    services.openings.pause_unopened()

    assert "texts\tpaused since 2026-11-10 11:00 UTC\n" in told(app, "show", str(PARTNER))
    assert "\ttexts paused" in told(app, "list")
    assert told(app, "resume-texts", str(PARTNER)) == "partner 10295: texts go out again.\n"

    assert services.openings.pause_unopened() == 0
    services.subscriptions.request(partners.get(PARTNER), a_wish(send_sms=True))
    time.move(hours=3)
    sent(services, 300, opened=0, hours=2)
    assert services.openings.pause_unopened() == 1
    with pytest.raises(NotFound):
        openings.resume(7)


def test_texts_that_never_left_do_not_count(services: Services):
    a_partner()
    sent(services, 150, opened=0)
    with transaction():
        sub = db.session.get_one(Subscription, 1)
        for status in (MessageStatus.VOID, MessageStatus.QUEUED):
            db.session.add_all(a_text(sub, utc_now() - timedelta(hours=2), status) for _ in range(100))

    assert services.openings.pause_unopened() == 0


def test_a_link_counts_as_opened_when_a_browser_has_shown_it_or_its_button_was_pressed(
    client: FlaskClient, services: Services
):
    a_partner()
    shown, pressed, fetched = (services.subscriptions.request(partners.get(PARTNER), a_wish()) for _ in range(3))
    link = {one: f"/s/{subscription(one.subscription_id).link_token}" for one in (shown, pressed, fetched)}

    assert client.get(link[fetched]).status_code == 200
    assert client.post(f"{link[shown]}/seen").status_code == 204
    assert client.post(f"{link[shown]}/seen").status_code == 204
    assert client.post(link[pressed]).status_code == 303
    assert client.post("/s/unknown/seen").status_code == 404

    opened = [subscription(one.subscription_id).opened_at is not None for one in (shown, pressed, fetched)]
    assert opened == [True, True, False]
