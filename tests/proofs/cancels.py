"""Cancels against the charge run and the webhooks: all three reach for the same subscription at the same moment.

A lane is a process with a database and a provider of its own. In it three threads, each with its own connections,
meet at a gate before every small group of subscriptions: one cancels and has the provider told, one plans and
submits, one has news come from the provider and looks. A witness in the database writes down what is planned or
claimed for a subscription whose end has been committed.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from json import dumps
from threading import Barrier, RLock
from typing import Any

from flask import Flask, current_app
from sqlalchemy import insert, text

from invoice import clock
from invoice.clock import business_date
from invoice.errors import Conflict
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval
from invoice.names import charge_name
from invoice.providers.base import AgreementView
from invoice.services.jobs import Jobs, Services
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge
from tests.conftest import NOON, StandingClock
from tests.fakes import FakeAgreement, FakePayments
from tests.proofs.figures import Figure
from tests.proofs.ground import ACCOUNT, AMOUNT, MARKETS, Server, Subscriber, enter, opened, processes

TRIPLES = 100_000
LANES = 2
_GROUPS = 100  # between two judgements
_LARGEST = 8
_PATIENCE_S = 60
_WORK = ("operations", "inbox", "consents", "charges")


class Stage(Enum):
    """How far a subscription's period has come when the cancel arrives."""

    TO_PLAN = auto()
    TO_SUBMIT = auto()
    AT_PROVIDER = auto()


class News(Enum):
    """What the provider's webhook is about."""

    OLD = auto()  # one that came before, late: nothing has changed
    STOPPED = auto()  # the person has just ended it in the app
    CAPTURED = auto()  # the money has just been taken


@dataclass(frozen=True)
class Triple:
    """One subscription and what meets at it."""

    subscriber: Subscriber
    stage: Stage
    news: News

    @property
    def name(self) -> str:
        """The charge's name at the provider."""
        return charge_name(self.subscriber.ulid, 1, 0)


class Vipps(FakePayments):
    """A provider that does one thing after another, whoever asks."""

    def __init__(self) -> None:
        super().__init__()
        self._one = RLock()

    def open_for(self, triple: Triple) -> None:
        """The agreement lives, with the charge that has been created already."""
        one = triple.subscriber
        view = AgreementView(one.agreement, one.ulid, AgreementStatus.ACTIVE, NOON, AMOUNT, "Avisen", "Avisen hver dag")
        held = FakeAgreement(view, {"price": {"currency": MARKETS[one.market][1]}, "initial": None})
        self.agreements[one.agreement] = held
        if triple.stage is Stage.AT_PROVIDER:
            held.charges[triple.name] = self._charge(held, triple.name, AMOUNT, ChargeStatus.SUBMITTED)

    def bring(self, triple: Triple) -> None:
        """Have what the webhook is about happen."""
        with self._one:
            if triple.news is News.STOPPED:
                self.end(triple.subscriber.agreement)
            held = self.agreements[triple.subscriber.agreement].charges
            charge = held.get(triple.name)
            if triple.news is News.CAPTURED and charge and charge.status == ChargeStatus.SUBMITTED:
                taken = replace(charge, status=ChargeStatus.CHARGED, captured=AMOUNT, captured_at=clock.utc_now())
                held[triple.name] = taken

    def end(self, agreement_id: str, status: AgreementStatus = AgreementStatus.STOPPED) -> None:
        """End an agreement, unless it has ended."""
        with self._one:
            if self.agreements[agreement_id].view.status == AgreementStatus.ACTIVE:
                super().end(agreement_id, status)

    def _create(self, item: dict[str, Any]) -> str | None:
        with self._one:
            return super()._create(item)


@dataclass(frozen=True)
class Result:
    """What came of a lane's triples. ends: how the charges ended, which tells who was first."""

    count: int
    wrong: list[str]
    ends: Counter[str]


def race(server: Server, size: float) -> Iterator[Figure]:
    """Let cancels, charge runs and webhooks meet; nothing may be charged for whoever has cancelled."""
    began, count = time.perf_counter(), max(1, round(TRIPLES * size))
    lanes = min(LANES, count)
    shares = [(count + lane) // lanes for lane in range(lanes)]
    addresses = [server.database(f"lane{lane}") for lane in range(lanes)]
    with ProcessPoolExecutor(lanes, processes(__name__)) as pool:
        results = list(pool.map(_live, addresses, shares, range(lanes)))
    wrong = [one for result in results for one in result.wrong]
    print(*wrong[:20], sep="\n", file=sys.stderr, end="")  # noqa: T201 - what to look into
    ends = sum((result.ends for result in results), Counter[str]())
    notes = ", ".join(f"{times} {end}" for end, times in sorted(ends.items()))
    reached = sum(result.count for result in results)
    what = "cancels that meet a charge run and a webhook"
    yield Figure("races", what, count, reached, len(wrong), time.perf_counter() - began, notes)


def _live(address: str, count: int, seed: int) -> Result:
    """Live through so many triples in a process of its own."""
    payments, standing = Vipps(), StandingClock(NOON)
    clock.follow(standing.now)
    with opened(address, payments) as services, _errors_heard() as errors:
        with transaction():
            for statement in _WITNESS:
                db.session.execute(text(statement))
        lane = Lane(services, payments, standing, random.Random(seed))
        while lane.count < count:
            lane.heat(count - lane.count)
            print(f"lane {seed}: {lane.count} of {count}", file=sys.stderr, flush=True)  # noqa: T201 - shows it lives
        return Result(lane.count, lane.wrong + errors, lane.ends)


class Lane:
    """Three threads on one database."""

    def __init__(self, services: Services, payments: Vipps, standing: StandingClock, dice: random.Random) -> None:
        self._services, self._payments, self._time, self._dice = services, payments, standing, dice
        self._app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._work = {job.name: job.run_once for job in Jobs(services).table}
        self._roles = (self._cancel, self._charge, self._ring)
        self._pool = ThreadPoolExecutor(len(self._roles))
        self._accepted: set[int] = set()
        self.count = 0
        self.wrong: list[str] = []
        self.ends: Counter[str] = Counter()

    def heat(self, most: int) -> None:
        """Have some groups of triples, at most so many triples, meet, work end, and judge."""
        first = self.count + 1
        groups = list(self._groups(most))
        triples = [triple for group in groups for triple in group]
        coming = iter(groups)
        gate = Barrier(len(self._roles), action=lambda: self._enter(next(coming)))
        for done in as_completed([self._pool.submit(self._play, role, groups, gate) for role in self._roles]):
            done.result()
        self._settle()
        self.wrong += self._judge(first, triples)
        for triple in triples:
            del self._payments.agreements[triple.subscriber.agreement]

    def _groups(self, most: int) -> Iterator[list[Triple]]:
        for _ in range(_GROUPS):
            size = min(self._dice.randint(1, _LARGEST), most)
            most -= size
            if size:
                yield [self._triple() for _ in range(size)]

    def _triple(self) -> Triple:
        self.count += 1
        stage, news = self._dice.choice(list(Stage)), self._dice.choice(list(News))
        market = self._dice.choice(list(MARKETS))
        today = business_date(market)
        plan_on = today + timedelta(days=0 if stage is Stage.TO_PLAN else 3)
        subscriber = Subscriber(
            number=self.count,
            anchor_on=today - timedelta(days=4),
            plan_on=plan_on,
            interval=Interval.WEEK,
            market=market,
            next_period=1 if stage is Stage.TO_PLAN else 2,
        )
        return Triple(subscriber, stage, news)

    def _enter(self, group: Sequence[Triple]) -> None:
        for triple in group:
            self._payments.open_for(triple)
        with transaction():
            enter(triple.subscriber for triple in group)
            charges = [_charge_row(triple) for triple in group if triple.stage is not Stage.TO_PLAN]
            if charges:
                db.session.execute(insert(Charge), charges)

    # The three, each in a thread of its own

    def _play(self, role: Callable[[Sequence[Triple]], None], groups: list[list[Triple]], gate: Barrier) -> None:
        with self._app.app_context():
            try:
                for group in groups:
                    gate.wait(_PATIENCE_S)
                    role(group)
            except BaseException:
                gate.abort()
                raise

    def _cancel(self, group: Sequence[Triple]) -> None:
        for triple in group:
            try:
                self._services.subscriptions.cancel(triple.subscriber.number)
                self._accepted.add(triple.subscriber.number)
            except Conflict:
                pass  # the person was quicker
            claim = self._services.operations.claim_next()
            if claim is not None:
                self._services.operations.perform(claim)

    def _charge(self, group: Sequence[Triple]) -> None:
        for _ in range(self._dice.randint(1, 2)):  # a second time for what was in other hands
            self._services.plans.plan()
            self._services.batches.submit()

    def _ring(self, group: Sequence[Triple]) -> None:
        for triple in group[::-1] if len(group) % 2 else group:
            self._payments.bring(triple)
            body = {"agreement_id": triple.subscriber.agreement, "external_id": None, "charge_name": None}
            if triple.news is News.CAPTURED:
                body["charge_name"] = triple.name
            self._services.inbox.take_webhook(dumps(body).encode(), ACCOUNT)
            self._work["consents"]()
            self._work["charges"]()

    # The end

    def _settle(self) -> None:
        """Do what is due, three at once, and let time pass until nothing is under way."""
        for _ in range(300):
            while any(self._pool.map(self._round, self._roles)):
                pass
            with reading():
                if not db.session.execute(text(_UNDER_WAY)).first():
                    return
            self._time.move(minutes=5)

    def _round(self, _: object) -> int:
        with self._app.app_context():
            return sum(self._work[name]() for name in _WORK)

    def _judge(self, first: int, triples: Sequence[Triple]) -> list[str]:
        span = {"first": first, "last": self.count}
        with reading():
            wrong = [f"{rule}: {row}" for rule, sql in _RULES.items() for row in db.session.execute(text(sql), span)]
            rows = db.session.execute(text(_CHARGES), span).all()
            cancelled = set(db.session.scalars(text(_CANCELLED), span))
        ours = {row.name: row for row in rows}
        self.ends.update(row.status for row in rows)
        wrong += [f"a cancel was accepted and {n} is not cancelled, or the reverse" for n in self._accepted ^ cancelled]
        self._accepted.clear()
        return wrong + [one for triple in triples for one in self._differences(triple, ours)]

    def _differences(self, triple: Triple, ours: dict[str, Any]) -> Iterator[str]:
        """Compare a subscription's only charge with the provider's: taken, called off, or never there."""
        held = self._payments.agreements[triple.subscriber.agreement].charges
        if held.keys() - {triple.name}:
            yield f"S1: the provider has {sorted(held)}"
        there, here = held.get(triple.name), ours.get(triple.name)
        as_there = (there.status, there.captured) if there else (ChargeStatus.VOID, 0)
        if (here or there) and (here is None or (here.status, here.captured) != as_there):
            yield f"S2: {triple.name} is {there} there and {here} here"


def _charge_row(triple: Triple) -> dict[str, Any]:
    one, is_there = triple.subscriber, triple.stage is Stage.AT_PROVIDER
    due_on = one.anchor_on + timedelta(days=7)
    return {
        "subscription_id": one.number,
        "agreement_id": one.number,
        "period": 1,
        "attempt": 0,
        "account": ACCOUNT,
        "name": triple.name,
        "amount": AMOUNT,
        "currency": MARKETS[one.market][1],
        "due_on": due_on,
        "submit_on": due_on - timedelta(days=3),
        "retry_days": 5,
        "status": ChargeStatus.SUBMITTED if is_there else ChargeStatus.PLANNED,
        "sends": int(is_there),
        "created_at": clock.utc_now(),
    }


@contextmanager
def _errors_heard() -> Iterator[list[str]]:
    """Collect what is logged as an error: no fault is injected here, so there is none to be."""
    heard: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: heard.append(f"logged: {record.getMessage()}")  # type: ignore[method-assign]
    logging.getLogger("invoice").addHandler(handler)
    try:
        yield heard
    finally:
        logging.getLogger("invoice").removeHandler(handler)


# Whatever is planned or claimed sees the newest committed end: the trigger's query has a snapshot of its own.
_WITNESS = (
    "CREATE TABLE witnessed (subscription_id int, what text)",
    """CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT status FROM subscriptions WHERE id = NEW.subscription_id) <> 'ACTIVE' THEN
            INSERT INTO witnessed VALUES (NEW.subscription_id, NEW.status);
        END IF;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER witness_plan AFTER INSERT ON charges FOR EACH ROW EXECUTE FUNCTION witness()""",
    """CREATE TRIGGER witness_claim AFTER UPDATE ON charges FOR EACH ROW
    WHEN (NEW.status = 'SUBMITTING' AND OLD.status <> 'SUBMITTING') EXECUTE FUNCTION witness()""",
)
_UNDER_WAY = """
    SELECT 1 WHERE EXISTS (SELECT FROM operations WHERE status IN ('READY', 'INFLIGHT', 'UNKNOWN'))
        OR EXISTS (SELECT FROM subscriptions WHERE status IN ('ACTIVE', 'CANCELLING'))
        OR EXISTS (SELECT FROM charges WHERE status IN ('PLANNED', 'SUBMITTING', 'SUBMITTED'))
        OR EXISTS (SELECT FROM inbound_events WHERE read_at IS NULL)"""
_CHARGES = "SELECT name, status, captured FROM charges WHERE subscription_id BETWEEN :first AND :last"
_CANCELLED = "SELECT id FROM subscriptions WHERE status = 'CANCELLED' AND id BETWEEN :first AND :last"
_RULES = {
    "S3 nothing is planned or claimed after the end": "SELECT * FROM witnessed WHERE subscription_id >= :first",
    "S1 one charge for a period": """
        SELECT subscription_id, period FROM charges WHERE subscription_id BETWEEN :first AND :last
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "L3, L4 nothing is left under way": _UNDER_WAY,
    "E2 events are counted without gaps": """
        SELECT s.id FROM subscriptions s LEFT JOIN events e ON e.subscription_id = s.id
        WHERE s.id BETWEEN :first AND :last
        GROUP BY s.id HAVING count(e.id) <> s.event_count OR max(e.seq) <> s.event_count""",
    "E1 a cancel and its end are told once, and so is an end of another kind": """
        SELECT s.id, s.status, string_agg(e.type, ' ' ORDER BY e.seq) AS told FROM subscriptions s
        LEFT JOIN events e ON e.subscription_id = s.id AND e.type LIKE 'subscription.%'
        WHERE s.id BETWEEN :first AND :last GROUP BY s.id
        HAVING string_agg(e.type, ' ' ORDER BY e.seq) IS DISTINCT FROM CASE s.status
            WHEN 'CANCELLED' THEN 'subscription.cancelling subscription.cancelled'
            WHEN 'STOPPED' THEN 'subscription.stopped' END""",
    "E1 a payment is told once": """
        SELECT c.name FROM charges c
        LEFT JOIN events e ON e.subscription_id = c.subscription_id AND e.type = 'charge.charged'
        WHERE c.subscription_id BETWEEN :first AND :last
        GROUP BY c.id HAVING count(e.id) <> (c.status = 'CHARGED')::int""",
}
