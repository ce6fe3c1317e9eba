"""A key is one request: taken once, answered for ever, taken over when whoever worked on it is gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, text

from invoice.errors import Busy, Conflict, KeyReused
from invoice.services import idempotency
from invoice.services.idempotency import Answer, Attempt
from invoice.services.jobs import Jobs
from invoice.store.db import db, reading, transaction
from invoice.store.models import IdempotencyKey
from tests.conftest import StandingClock
from tests.factories import a_partner
from tests.services.test_races import together

ONE, OTHER = b"1" * 32, b"2" * 32
SAID = Answer(200, "application/json", b'{"url":"x"}')


@pytest.fixture(autouse=True)
def _a_partner(app: Flask) -> None:
    a_partner()


def taken(key: str = "k", digest: bytes = ONE, partner_id: int = 10295) -> Attempt:
    found = idempotency.begin(partner_id, key, digest)
    assert isinstance(found, Attempt)
    return found


def keys() -> list[str]:
    with reading():
        return list(db.session.scalars(select(IdempotencyKey.key).order_by(IdempotencyKey.id)))


def test_what_was_answered_is_answered_again():
    idempotency.complete(taken(), SAID)

    assert idempotency.begin(10295, "k", ONE) == SAID


def test_another_request_under_the_key_is_refused_while_the_first_runs_and_afterwards():
    first = taken()
    with pytest.raises(KeyReused):
        idempotency.begin(10295, "k", OTHER)
    idempotency.complete(first, SAID)

    with pytest.raises(KeyReused):
        idempotency.begin(10295, "k", OTHER)


def test_a_key_belongs_to_its_partner():
    a_partner(20000)
    idempotency.complete(taken(), SAID)

    assert taken(partner_id=20000, digest=OTHER).fence == 1


def test_a_request_that_runs_is_waited_for_and_then_said_to_run(time: StandingClock):
    taken()
    time.move(seconds=90)

    with pytest.raises(Busy):
        idempotency.begin(10295, "k", ONE)


def test_whoever_waits_gets_the_answer(app: Flask):
    first = taken()

    waiting = [lambda: idempotency.begin(10295, "k", ONE)] * 3
    answers = together(app, *waiting, lambda: idempotency.complete(first, SAID))

    assert answers[:3] == [SAID] * 3


def test_many_at_once_are_one(app: Flask):
    found = together(app, *[_begin_and_answer] * 8)

    assert found == [SAID] * 8
    assert keys() == ["k"]


def _begin_and_answer() -> Answer:
    found = idempotency.begin(10295, "k", ONE)
    if isinstance(found, Attempt):
        assert found.fence == 1
        idempotency.complete(found, SAID)
        return SAID
    return found


def test_a_request_whose_worker_is_gone_is_taken_over_after_90_seconds(time: StandingClock):
    dead = taken()
    time.move(seconds=91)

    heir = taken()
    idempotency.complete(dead, Answer(500, "text/plain", b"too late"))
    idempotency.complete(heir, SAID)

    assert (heir.id, heir.fence) == (dead.id, dead.fence + 1)
    assert idempotency.begin(10295, "k", ONE) == SAID


def test_an_answer_that_is_no_outcome_leaves_the_key_free_for_the_same_request_at_once():
    idempotency.give_back(taken())

    assert taken().fence == 2
    with pytest.raises(KeyReused):
        idempotency.begin(10295, "k", OTHER)


def test_whoever_takes_over_finds_what_was_made(time: StandingClock):
    dead = taken()
    with transaction():
        assert idempotency.made_by(dead) is None
        idempotency.remember(dead, 635)
    time.move(seconds=91)

    with transaction():
        assert idempotency.made_by(taken_over(dead)) == 635


def taken_over(dead: Attempt) -> Attempt:
    return replace(dead, fence=dead.fence + 1)


def test_what_was_made_is_forgotten_with_a_transaction_that_fails():
    first = taken()
    with pytest.raises(Conflict):
        _make_and_fail(first)

    with transaction():
        assert idempotency.made_by(first) is None


def _make_and_fail(attempt: Attempt) -> None:
    with transaction():
        idempotency.remember(attempt, 635)
        raise Conflict


def test_of_a_slow_worker_and_its_heir_only_one_makes_anything(app: Flask, time: StandingClock):
    slow = taken()
    time.move(seconds=91)
    heir = taken()
    made: list[int] = []

    def make(attempt: Attempt, number: int) -> None:
        with transaction():
            if idempotency.made_by(attempt) is None:
                idempotency.remember(attempt, number)
                made.append(number)

    together(app, lambda: make(slow, 1), lambda: make(heir, 2))

    assert len(made) == 1


def test_a_request_without_a_key_makes_something_each_time():
    with transaction():
        idempotency.remember(None, 1)

        assert idempotency.made_by(None) is None


def test_an_answer_does_not_rest_in_clear():
    idempotency.complete(taken(), Answer(200, "application/json", b'"a secret that is shown once"'))

    with reading():
        (body,) = db.session.execute(text("SELECT body FROM idempotency_keys")).one()
    assert b"secret" not in bytes(body)
    assert idempotency.begin(10295, "k", ONE) == Answer(200, "application/json", b'"a secret that is shown once"')


def test_job_idempotency_forgets_keys_after_thirty_days(jobs: Jobs, time: StandingClock):
    idempotency.complete(taken("old"), SAID)
    time.move(days=29)
    idempotency.complete(taken("young"), SAID)
    time.move_to(time.at + timedelta(days=1, seconds=1))
    job = next(job for job in jobs.table if job.name == "idempotency")

    assert job.run_once() == 1
    assert keys() == ["young"]
