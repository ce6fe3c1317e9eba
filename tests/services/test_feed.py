"""What partners pull and have sent again: nothing is skipped, whoever commits when."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask

from invoice.errors import Conflict, Invalid, NotFound
from invoice.services import feed, outbox
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, transaction
from invoice.store.queries import lock_subscription
from tests.conftest import StandingClock
from tests.factories import a_partner, settle
from tests.fakes import FakePayments, FakeSms
from tests.receivers import Receiver, on_this_machine
from tests.services.test_deliveries import a_subscription, register, rows, statuses, tell, timeline_ids

PARTNER = 10295


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with on_this_machine(database_url, payments, sms) as app:
        yield app


def pulled(after: str | None = None, limit: int = 200, partner: int = PARTNER) -> list[str]:
    return [event["id"] for event in feed.page(partner, after, limit).events]


def test_everything_that_happened_can_be_pulled_page_by_page(services: Services, jobs: Jobs):
    a_partner()
    numbers = [a_subscription(services) for _ in range(4)]
    for number in numbers:
        tell(number, "consent.declined", "consent.expired")
    settle(jobs)

    seen: list[str] = []
    after, has_more = None, True
    while has_more:
        page = feed.page(PARTNER, after, 5)
        seen += [event["id"] for event in page.events]
        after, has_more = page.next_after, page.has_more

    assert len(seen) == len(set(seen)) == 12
    assert seen == pulled()
    for number in numbers:
        assert [event for event in seen if event in timeline_ids(number)] == timeline_ids(number)


def test_what_is_pulled_is_what_is_pushed(services: Services, jobs: Jobs, receiver: Receiver):
    register(services, receiver)
    number = a_subscription(services)
    tell(number)
    settle(jobs)

    assert [json.loads(got.body) for got in receiver.got] == feed.page(PARTNER, None, 200).events


def test_at_the_end_the_cursor_stays_where_it_is(services: Services, jobs: Jobs):
    a_partner()
    number = a_subscription(services)
    settle(jobs)
    (last,) = pulled()

    at_the_end = feed.page(PARTNER, last, 10)
    tell(number)
    settle(jobs)

    assert (at_the_end.events, at_the_end.next_after, at_the_end.has_more) == ([], last, False)
    assert pulled(at_the_end.next_after) == timeline_ids(number)[1:]


def test_an_event_is_there_for_readers_once_it_has_a_place(services: Services, jobs: Jobs):
    a_partner()
    number = a_subscription(services)
    unplaced = timeline_ids(number)[0]

    before = pulled(), pulled(after=unplaced)
    settle(jobs)

    assert before == ([], [])
    assert pulled() == [unplaced]


def test_an_event_that_commits_later_is_not_skipped(app: Flask, services: Services, jobs: Jobs):
    """Two transactions at once: the one that drew the lower row number commits last."""
    a_partner()
    slow, quick = a_subscription(services), a_subscription(services)
    settle(jobs)
    start = pulled()[-1]
    is_postgres = db.engine.dialect.name == "postgresql"
    has_written, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with app.app_context(), transaction():
            outbox.record(lock_subscription(slow), "consent.declined", attempt=1)
            has_written.set()
            may_commit.wait(30)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert has_written.wait(30)
    if not is_postgres:
        may_commit.set()  # SQLite has one writer: the other waits for it
    tell(quick, "consent.expired")
    feed.place()
    first = feed.page(PARTNER, start, 10)
    may_commit.set()
    writer.join(30)
    feed.place()
    second = feed.page(PARTNER, first.next_after, 10)

    if is_postgres:
        assert [event["type"] for event in first.events] == ["consent.expired"]
        assert [event["type"] for event in second.events] == ["consent.declined"]
    seen = [event["id"] for event in [*first.events, *second.events]]
    assert sorted(seen) == sorted([timeline_ids(slow)[-1], timeline_ids(quick)[-1]])


def test_places_given_by_several_workers_at_once_are_all_different(app: Flask, services: Services, jobs: Jobs):
    a_partner()
    numbers = [a_subscription(services) for _ in range(6)]
    start = threading.Barrier(4)

    def place() -> None:
        with app.app_context():
            start.wait(30)
            while feed.place():
                pass

    threads = [threading.Thread(target=place) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(pulled()) == sorted(event for number in numbers for event in timeline_ids(number))


def test_another_partners_events_do_not_exist(services: Services, jobs: Jobs, receiver: Receiver):
    a_partner()
    a_partner(20000)
    (event,) = timeline_ids(a_subscription(services))
    settle(jobs)

    assert pulled(partner=20000) == []
    with pytest.raises(Invalid):
        pulled(after=event, partner=20000)
    with pytest.raises(NotFound) as foreign:
        feed.find(20000, event)
    with pytest.raises(NotFound) as unknown:
        feed.find(20000, "evt_" + "0" * 32)
    with pytest.raises(NotFound):
        feed.replay(20000, event)
    assert foreign.value.message == unknown.value.message


def test_the_same_news_has_the_same_id_and_other_news_another(services: Services):
    a_partner()
    number = a_subscription(services)
    tell(number, "consent.declined", "consent.declined", "consent.expired")

    ids = timeline_ids(number)
    assert len(set(ids)) == 4
    assert all(len(event) == 36 and event.startswith("evt_") for event in ids)


# Sent again


def test_one_event_is_sent_again_with_the_same_id_and_bytes(services: Services, jobs: Jobs, receiver: Receiver):
    register(services, receiver)
    number = a_subscription(services)
    tell(number)
    settle(jobs)

    assert feed.replay(PARTNER, timeline_ids(number)[0]) == 1
    settle(jobs)

    assert receiver.events() == [*timeline_ids(number), timeline_ids(number)[0]]
    assert receiver.got[2].body == receiver.got[0].body


def test_a_parked_event_is_sent_again_and_has_thirty_days_anew(
    services: Services, jobs: Jobs, receiver: Receiver, time: StandingClock
):
    register(services, receiver)
    number = a_subscription(services)
    receiver.always = 500
    settle(jobs)
    while statuses(number) == ["READY"]:
        time.move_to(max(rows(number)[0].next_at, time.at + timedelta(minutes=5)))  # the longest pause of a lane
        settle(jobs)
    assert statuses(number) == ["PARKED"]

    feed.replay(PARTNER, timeline_ids(number)[0])
    time.move(minutes=10)
    settle(jobs)
    after_a_failure = statuses(number), rows(number)[0].tries
    receiver.always = 204
    time.move(minutes=10)
    settle(jobs)

    assert after_a_failure == (["READY"], 1)
    assert statuses(number) == ["DELIVERED"]


def test_events_from_before_there_was_an_endpoint_can_be_sent(services: Services, jobs: Jobs, receiver: Receiver):
    a_partner()
    number = a_subscription(services)
    tell(number)
    settle(jobs)
    services.endpoints.put(PARTNER, receiver.url)

    assert feed.replay(PARTNER, timeline_ids(number)[0]) == 1
    settle(jobs)

    assert receiver.events() == timeline_ids(number)[:1]


def test_a_span_of_time_is_sent_again_in_order(services: Services, jobs: Jobs, receiver: Receiver, time: StandingClock):
    register(services, receiver)
    number = a_subscription(services)
    began = time.at
    for _ in range(4):
        time.move(hours=1)
        tell(number)
    settle(jobs)
    receiver.got.clear()

    count = feed.replay_between(PARTNER, began + timedelta(hours=1), began + timedelta(hours=3))
    settle(jobs)

    assert count == 2
    assert receiver.events() == timeline_ids(number)[1:3]


def test_what_is_on_its_way_is_not_sent_a_second_time(services: Services, jobs: Jobs, receiver: Receiver):
    register(services, receiver)
    number = a_subscription(services)

    with pytest.raises(Conflict):
        feed.replay(PARTNER, timeline_ids(number)[0])


def test_without_an_endpoint_there_is_nowhere_to_send_it(services: Services, jobs: Jobs):
    a_partner()
    number = a_subscription(services)

    with pytest.raises(Conflict):
        feed.replay(PARTNER, timeline_ids(number)[0])


def test_too_long_a_span_is_refused(services: Services, time: StandingClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "MAX_REPLAY", 2)
    a_partner()
    number = a_subscription(services)
    tell(number, "consent.declined", "consent.expired")

    with pytest.raises(Invalid):
        feed.replay_between(PARTNER, time.at, time.at + timedelta(hours=1))


def test_an_event_tells_how_it_fared(services: Services, jobs: Jobs, receiver: Receiver, time: StandingClock):
    register(services, receiver)
    number = a_subscription(services)
    receiver.answers.append(503)
    settle(jobs)

    event, (fate,) = feed.find(PARTNER, timeline_ids(number)[0])

    assert event["sequence"] == 1
    assert (fate.channel, fate.status, fate.tries, fate.last_fault) == ("EVENTS", "READY", 1, "answered 503")
    assert fate.next_at is not None
    assert fate.next_at > time.at


def test_the_job_feed_says_how_much_it_did(services: Services, jobs: Jobs):
    a_partner()
    a_subscription(services)

    assert "feed" in {job.name for job in jobs.table}
    assert feed.place() == 1
    assert feed.place() == 0
