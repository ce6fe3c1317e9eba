"""Lives made up by hypothesis, step by step, against a model that knows only what people and the provider really did.

Where the simulation rolls dice, hypothesis looks for the shortest story that goes wrong, and tells it.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from json import dumps
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from sqlalchemy import delete, text

from app import build_services
from invoice import clock
from invoice.clock import business_date, utc_now
from invoice.config import Settings
from invoice.errors import Conflict, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, SubscriptionStatus
from invoice.providers.base import ChargeView
from invoice.services import partners
from invoice.services.accounts import Accounts
from invoice.services.jobs import Jobs
from invoice.store.db import Base, db, reading, transaction
from tests.conftest import NOON, StandingClock, environ_for
from tests.factories import a_wish, agreements, charges, event_types, settle, subscription
from tests.fakes import FakeAgreement, FakePayments, FakeSms
from tests.proofs.days import dues
from tests.proofs.figures import Figure
from tests.proofs.ground import ACCOUNT, MARKETS, a_file, as_date, as_number, opened

STORIES = 5000
STEPS = 50
_DRAFT_LIFE = timedelta(minutes=10)
_AT_ONCE = 4  # subscriptions in a story
_INTERVALS = st.sampled_from([Interval.WEEK, Interval.WEEK, Interval.MONTH])  # few stories last a month, none a year
_CALLS = ("draft", "create", "stop", "find_agreement", "find_charge", "list_charges", "refund")
_DEAD = (ChargeStatus.FAILED, ChargeStatus.CANCELLED)
_LIVING = (ChargeStatus.SUBMITTED, ChargeStatus.RESERVED)


class Vipps(FakePayments):
    """Knows when drafts end and when charges fall due."""

    def __init__(self) -> None:
        super().__init__()
        self.drafted: dict[str, Any] = {}
        self.due: dict[str, str] = {}

    def draft_agreement(self, request: str, *, key: str) -> Any:
        """Draft, and remember when, though the answer may be lost."""
        try:
            return super().draft_agreement(request, key=key)
        finally:
            for agreement_id in self.agreements:
                self.drafted.setdefault(agreement_id, utc_now())

    def _create(self, item: dict[str, Any]) -> str | None:
        self.due.setdefault(item["name"], item["due_on"])
        return super()._create(item)

    def let_drafts_end(self) -> None:
        """End what nobody has accepted in time."""
        for agreement_id, at in self.drafted.items():
            is_open = self.agreements[agreement_id].view.status == AgreementStatus.PENDING
            if is_open and utc_now() - at >= _DRAFT_LIFE:
                self.end(agreement_id, AgreementStatus.EXPIRED)

    def of(self, ulid: str) -> list[FakeAgreement]:
        """All agreements of a subscription, oldest first."""
        return [a for a in self.agreements.values() if a.view.external_id == ulid]


@dataclass
class Life:
    """What really happened to one subscription."""

    number: int
    ulid: str
    interval: Interval
    is_cancelled: bool = False
    created_by_then: set[str] = field(default_factory=set)  # at the provider, when the cancel was accepted
    refunded: Counter[str] = field(default_factory=Counter)  # charge -> what was asked back, and accepted


class Story(RuleBasedStateMachine):
    """Everything that people, partners, the provider and time may do, in any order."""

    lives = Bundle("lives")
    told = 0

    def __init__(self) -> None:
        super().__init__()
        self.time, self.known = StandingClock(NOON), list[Life]()
        clock.follow(self.time.now)
        _empty()
        self.payments = Vipps()
        self.services = build_services(_settings(), Accounts(self.payments, lambda _: self.payments), FakeSms())
        self.jobs = Jobs(self.services)
        self.jobs.table = tuple(job for job in self.jobs.table if job.every is None or job.name == "sweep")

    # What partners do

    @rule(target=lives, interval=_INTERVALS)
    def subscribe(self, interval: Interval) -> Any:
        """All goes well: a partner asks, the person accepts at once, and we look. Most stories begin so."""
        life = self.request(interval)
        if isinstance(life, Life):
            self.accept(life, slice(None))
            self.work()
        return life

    @rule(target=lives, interval=_INTERVALS)
    def request(self, interval: Interval) -> Any:
        """A partner asks for a subscription."""
        if len(self.known) == _AT_ONCE:
            return multiple()
        partner = partners.get(MARKETS["NO"][0])
        number = self.services.subscriptions.request(partner, a_wish(interval=interval)).subscription_id
        life = Life(number, subscription(number).ulid, interval)
        self.known.append(life)
        return life

    @rule(life=lives)
    def cancel(self, life: Life) -> None:
        """A partner cancels: accepted once, while it is wanted or alive."""
        before = subscription(life.number).status
        try:
            self.services.subscriptions.cancel(life.number)
        except Conflict:
            assert before not in (SubscriptionStatus.PENDING, SubscriptionStatus.ACTIVE)
            return
        assert not life.is_cancelled
        life.is_cancelled, life.created_by_then = True, set(self._renewals(life))

    @rule(life=lives, share=st.sampled_from([1, 2, 3]))
    def refund(self, life: Life, share: int) -> None:
        """A partner gives back a part of the newest payment, or all of it."""
        paid = [charge for charge in charges(life.number) if charge.captured and not charge.is_surplus]
        if not paid:
            return
        amount = max(1, (paid[-1].captured - paid[-1].refunded) // share)
        try:
            self.services.refunds.refund(paid[-1].id, amount, "goodwill")
        except Conflict:
            return
        life.refunded[paid[-1].name] += amount

    # What people do

    @rule(life=lives, minutes=st.sampled_from([0, 5]))
    def press(self, life: Life, minutes: int) -> None:
        """The person opens the link and presses the button, at once or when the request is no longer fresh."""
        self.wait(minutes)
        self.services.consents.open(subscription(life.number).link_token)

    @rule(life=lives, which=st.sampled_from([slice(0, 1), slice(-1, None), slice(None)]))
    def accept(self, life: Life, which: slice) -> None:
        """The person says yes to the first request in the app, to the newest, or to all."""
        pending = [a for a in self.payments.of(life.ulid) if a.view.status == AgreementStatus.PENDING]
        for agreement in pending[which]:
            self.payments.accept(agreement.view.agreement_id)

    @rule(life=lives)
    def stop(self, life: Life) -> None:
        """The person ends, or turns down, what the app shows."""
        for agreement in self.payments.of(life.ulid):
            if agreement.view.status in (AgreementStatus.PENDING, AgreementStatus.ACTIVE):
                self.payments.end(agreement.view.agreement_id)

    # What the provider does

    @rule(life=lives, is_paid=st.booleans())
    def collect(self, life: Life, is_paid: bool) -> None:
        """What has fallen due is taken, or cannot be."""
        for agreement in self.payments.of(life.ulid):
            for name, charge in agreement.charges.items():
                is_due = self.payments.due.get(name, "9") <= business_date("NO").isoformat()
                if charge.status == ChargeStatus.SUBMITTED and is_due:
                    agreement.charges[name] = (
                        _collected(charge) if is_paid else replace(charge, status=ChargeStatus.FAILED)
                    )

    @rule(life=lives, of_charge=st.booleans(), times=st.integers(1, 2))
    def ring(self, life: Life, of_charge: bool, times: int) -> None:
        """A webhook comes, however late, and perhaps again."""
        agreement = next(reversed(self.payments.of(life.ulid)), None)
        if agreement is None:
            return
        name = next(reversed(agreement.charges), None) if of_charge else None
        for _ in range(times):
            self.services.inbox.take_webhook(_body(agreement.view.agreement_id, life.ulid, name), ACCOUNT)

    @rule(call=st.sampled_from(_CALLS), is_done=st.booleans(), is_sure=st.booleans())
    def trouble(self, call: str, is_done: bool, is_sure: bool) -> None:
        """The next such call fails: before anything has happened, or after, when nobody is told."""
        if is_done:
            self.payments.faults.after(call, ProviderUncertain("no answer"))
        else:
            error = ProviderUnavailable("away") if is_sure else ProviderUncertain("no answer")
            self.payments.faults.before(call, error)

    # What time does

    @rule()
    def work(self) -> None:
        """The engine does what is due."""
        settle(self.jobs)

    @rule(minutes=st.integers(1, 30))
    def wait(self, minutes: int) -> None:
        """Some minutes pass."""
        self._pass(timedelta(minutes=minutes))

    @rule(days=st.integers(1, 12), gap=st.integers(1, 2))
    def live(self, days: int, gap: int) -> None:
        """Days pass, with the engine at work on each, or on every other."""
        for _ in range(0, days, gap):
            self._pass(timedelta(days=gap))
            for _ in range(3):  # what failed is tried again on the same day
                settle(self.jobs)
                self._pass(timedelta(minutes=20))

    def _pass(self, span: timedelta) -> None:
        self.time.at += span
        self.payments.let_drafts_end()

    # What must hold

    @invariant()
    def nothing_is_made_twice_or_after_the_end(self) -> None:
        """S1, S3, E2, at every step."""
        with reading():
            wrong = [f"{name}: {row}" for name, sql in _ALWAYS.items() for row in db.session.execute(text(sql))]
        assert wrong == []
        for life in self.known:
            made = self._renewals(life)
            assert all(times == 1 for times in Counter(name[27:32] for name in made).values()), made
            assert not life.is_cancelled or set(made) <= life.created_by_then, made

    def teardown(self) -> None:
        """When all is well again, and two quiet days have passed, both sides and the model agree."""
        try:
            self.payments.faults = type(self.payments.faults)()
            self.live(3, 1)
            for life in self.known:
                self._both_agree(life)
                self._as_it_really_was(life)
            with reading():
                left = db.session.execute(text(_LEFT)).all()
            assert left == []
            Story.told += 1
        finally:
            clock.follow(None)

    def _renewals(self, life: Life) -> list[str]:
        return [n for a in self.payments.of(life.ulid) for n in a.charges if "-p0000-" not in n]

    def _both_agree(self, life: Life) -> None:
        """S2, S6, S7: money and states are the same on both sides; what a second consent paid has gone back."""
        ours = {c.name: c for c in charges(life.number)}
        adopted = {a.provider_agreement_id for a in agreements(life.number) if a.is_adopted}
        for agreement in self.payments.of(life.ulid):
            for name, there in agreement.charges.items():
                here = ours.pop(name)
                assert (here.status, here.captured, here.refunded) == (there.status, there.captured, there.refunded)
                is_kept = agreement.view.agreement_id in adopted
                back = life.refunded[name] if is_kept else there.captured
                assert there.refunded == back, f"{name}: {there.refunded} went back, not {back}"
        is_active = subscription(life.number).status == SubscriptionStatus.ACTIVE
        assert {c.status for c in ours.values()} <= {ChargeStatus.PLANNED if is_active else ChargeStatus.VOID}

    def _as_it_really_was(self, life: Life) -> None:
        """L1, L2, S14, E1: the state follows from what happened; while it lives every period is there on its day."""
        held, events = subscription(life.number), Counter(event_types(life.number))
        accepted = [a for a in self.payments.of(life.ulid) if a.view.started_at is not None]
        active = [a for a in accepted if a.view.status == AgreementStatus.ACTIVE]
        if life.is_cancelled:
            expected = {SubscriptionStatus.CANCELLED}
        elif accepted:
            expected = {SubscriptionStatus.ACTIVE if active else SubscriptionStatus.STOPPED}
        else:
            expected = {SubscriptionStatus.EXPIRED if held.link_expires_at <= utc_now() else SubscriptionStatus.PENDING}
        assert {held.status} == expected
        assert len(active) == (held.status == SubscriptionStatus.ACTIVE)
        assert events["subscription.activated"] == (held.activated_at is not None)
        is_over = held.status in (SubscriptionStatus.CANCELLED, SubscriptionStatus.STOPPED)
        assert events["subscription.cancelled"] + events["subscription.stopped"] == is_over
        assert events["charge.charged"] == sum(c.captured > 0 for c in charges(life.number))
        if active:
            self._on_its_day(life, active[0])

    def _on_its_day(self, life: Life, agreement: FakeAgreement) -> None:
        anchor, today = as_number(business_date("NO", agreement.view.started_at)), as_number(business_date("NO"))
        expected = [as_date(due) for due in dues(anchor, life.interval.value, today + 7)]
        rows = [c for c in charges(life.number) if c.period > 0]
        assert [(c.period, c.due_on) for c in rows] == list(enumerate(expected, 1))
        for charge in rows:
            is_to_be_there = as_number(charge.due_on) - 3 <= today
            assert (charge.name in agreement.charges) == is_to_be_there, charge.name


def _collected(charge: ChargeView) -> ChargeView:
    return replace(charge, status=ChargeStatus.CHARGED, captured=charge.amount, captured_at=utc_now())


def _body(agreement_id: str, ulid: str, name: str | None) -> bytes:
    return dumps({"agreement_id": agreement_id, "external_id": ulid, "charge_name": name}).encode()


def _settings() -> Settings:
    return Settings.from_environ(environ_for("sqlite:///unused.sqlite3"))


def _empty() -> None:
    """Leave nothing of the story before but the partners."""
    with transaction():
        for table in reversed(Base.metadata.sorted_tables):
            if not table.name.startswith("partner"):
                db.session.execute(delete(table))


_ALWAYS = {
    "S1 one charge for a period": """
        SELECT subscription_id, period FROM charges
        WHERE status NOT IN ('FAILED', 'CANCELLED', 'VOID') AND NOT is_surplus
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "S6 never more back than was taken": "SELECT name FROM charges WHERE refunded > captured",
    "S10 one key, one body": "SELECT key FROM operations GROUP BY key HAVING count(DISTINCT request) > 1",
    "E2 events are counted without gaps": """
        SELECT subscription_id FROM events GROUP BY 1 HAVING max(seq) <> count(*)""",
}
_LEFT = """
    SELECT kind, status FROM operations WHERE status IN ('READY', 'INFLIGHT', 'UNKNOWN')
    UNION ALL SELECT 'webhook', body FROM inbound_events WHERE read_at IS NULL"""


def prove(size: float) -> Iterator[Figure]:
    """Tell a share of the stories."""
    began, count = time.perf_counter(), max(1, round(STORIES * size))
    chosen = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    Story.told = found = 0
    with a_file() as address, opened(address):
        try:
            run_state_machine_as_test(Story, settings=chosen)
        except Exception:  # noqa: BLE001 - whatever it is, it went wrong
            found = 1
            traceback.print_exc(file=sys.stderr)
    notes = f"at most {STEPS} steps each, derandomized"
    yield Figure("stateful", "stories against a model", count, Story.told, found, time.perf_counter() - began, notes)
