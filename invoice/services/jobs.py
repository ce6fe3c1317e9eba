"""The table of recurring work. Each job does what is due now and says how much that was.

Nothing here remembers anything: every job asks the tables what is due. So two workers are harmless, and a killed one
leaves nothing behind but rows that say what to do next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update

from invoice import request_ids
from invoice.clock import MARKET_ZONES, business_date, stopwatch, utc_now
from invoice.errors import ProviderDenied, ProviderError, ProviderUncertain
from invoice.services import captures, credentials, endings, feed, idempotency, privacy, proof
from invoice.services.accounts import Accounts
from invoice.services.audit import Audit
from invoice.services.batches import Batches
from invoice.services.cancels import Cancels
from invoice.services.captures import Captures
from invoice.services.changes import Changes
from invoice.services.charges import Charges
from invoice.services.consents import Consents
from invoice.services.deliveries import Deliveries
from invoice.services.direct import Direct
from invoice.services.doctor import Doctor
from invoice.services.endpoints import Endpoints
from invoice.services.inbox import Inbox
from invoice.services.limits import SharedRates
from invoice.services.openings import Openings
from invoice.services.operations import Operations
from invoice.services.plans import Plans
from invoice.services.reconcile import Reconcile
from invoice.services.refunds import Refunds
from invoice.services.subscriptions import Subscriptions
from invoice.services.sweep import Sweep
from invoice.services.webhooks import WebhookRegistrations
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, JobRun

logger = logging.getLogger(__name__)

HEARTBEAT = "engine"
_BEAT_EVERY = timedelta(seconds=5)
# How long a row that is being looked at is left alone by others; one whose look failed comes back after it.
_LOOK_LEASE = timedelta(seconds=60)
_READ_BACK_LEASE = timedelta(hours=1)
_JOB_LEASE = timedelta(minutes=5)
_ROWS = 50
_PATIENCE = 3
# One that only fails is left alone ever longer: a provider that is away for days is asked now and then. A webhook
# ends that, being a sign of life.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
# So that a provider that hangs keeps neither the other jobs nor the sign of life waiting.
_ROUND_S = 20.0


@dataclass(frozen=True)
class Job:
    """One kind of recurring work. `every` holds it back between runs; None: it is run when its tables hold some.

    `run_once` returns how much was done, and raises when nothing could be.
    """

    name: str
    run_once: Callable[[], int]
    every: timedelta | None = None


@dataclass(frozen=True)
class Services:
    """The use cases that jobs and faces call."""

    accounts: Accounts
    operations: Operations
    subscriptions: Subscriptions
    consents: Consents
    changes: Changes
    plans: Plans
    batches: Batches
    charges: Charges
    captures: Captures
    cancels: Cancels
    refunds: Refunds
    inbox: Inbox
    webhooks: WebhookRegistrations
    sweep: Sweep
    rates: SharedRates
    doctor: Doctor
    deliveries: Deliveries
    endpoints: Endpoints
    direct: Direct
    audit: Audit
    reconcile: Reconcile
    openings: Openings


class Jobs:
    """Runs the table."""

    def __init__(self, services: Services) -> None:
        self._deliveries = services.deliveries
        self.table: tuple[Job, ...] = (
            Job("operations", lambda: _perform_due(services.operations)),
            Job("inbox", lambda: _each("inbox", services.inbox.claim_unread(), services.inbox.place)),
            Job("consents", lambda: _each("consents", _to_check(Agreement), services.consents.refresh)),
            Job("charges", lambda: _each("charges", _to_check(Charge), services.charges.refresh)),
            Job("read_back", lambda: _each("read_back", _to_read_back(), services.charges.read_back)),
            Job("plan", services.plans.plan),
            Job("submit", services.batches.submit),
            Job("expire", lambda: _each("expire", services.subscriptions.to_expire(), services.subscriptions.expire)),
            Job("endings", lambda: _each("endings", endings.over(), endings.end)),
            Job("reservations", lambda: _each("reservations", captures.due_warnings(), captures.warn)),
            Job("feed", feed.place),
            Job("deliveries", services.deliveries.deliver),
            # Without any webhook, what was accepted is active here within a quarter of an hour.
            Job("sweep", services.sweep.sweep, every=timedelta(minutes=15)),
            Job("roll", services.sweep.call_the_roll, every=timedelta(hours=1)),
            # Vipps deletes a registration that has been dead for two weeks; a lost one is noticed within the day.
            Job("webhooks", services.webhooks.ensure, every=timedelta(days=1)),
            Job("proof", proof.check, every=timedelta(minutes=15)),
            Job("audit", services.audit.compare, every=timedelta(days=1)),
            Job("openings", services.openings.pause_unopened, every=timedelta(minutes=10)),
            Job("nonces", credentials.forget_nonces, every=timedelta(hours=1)),
            Job("rates", services.rates.forget_old, every=timedelta(days=1)),
            Job("idempotency", idempotency.forget_old, every=timedelta(hours=1)),
            Job("retention", lambda: privacy.forget_old(services.accounts.own), every=timedelta(days=1)),
        )

    def run_pending(self) -> int:
        """Run every job once that has something to do; return how much was done. None's failure keeps others from it.

        One look tells which: a quiet round costs a millisecond and takes no lock. What one job leaves to another is
        done in the next round, which comes at once.
        """
        request_ids.enter(None)  # nobody's, until an operation says whose
        now = utc_now()
        with reading():
            due = queries.work_due(now, max(map(business_date, MARKET_ZONES)))
            put_off, failed = queries.jobs_put_off(now)
        due |= {"deliveries"} if self._deliveries.is_busy else set()
        runs = [job for job in self.table if job.name not in put_off and (job.every or job.name in due)]
        done = sum(self._run(job, had_failed=job.name in failed) for job in runs)
        # The pause of a quiet round is spent on partners that are about to answer.
        return done or self._deliveries.linger()

    def _run(self, job: Job, *, had_failed: bool) -> int:
        if job.every is not None and not _take(job):
            return 0
        try:
            done = job.run_once()
        except ProviderError as error:
            logger.warning("Job %s is put off: %s", job.name, error.message)
            done = -1
        except Exception:
            logger.exception("Job %s failed.", job.name)
            done = -1
        if job.every is not None or done < 0 or had_failed:
            _finish(job, is_failure=done < 0)
        return max(done, 0)


def beat() -> None:
    """Leave a sign of life, at most every five seconds."""
    now = utc_now()
    age = last_beat()
    if age is None or not timedelta(0) <= age < _BEAT_EVERY:
        with transaction():
            queries.insert_ignoring(JobRun, [{"name": HEARTBEAT, "next_at": now, "failures": 0}])
            db.session.execute(update(JobRun).where(JobRun.name == HEARTBEAT).values(finished_at=now))


def last_beat() -> timedelta | None:
    """Return how long ago the engine last ran, or None if it never did."""
    with reading():
        finished_at = db.session.scalar(select(JobRun.finished_at).where(JobRun.name == HEARTBEAT))
    return None if finished_at is None else utc_now() - finished_at


def _take(job: Job) -> bool:
    """Take the right to run a job now: its time has come, and no other worker has it."""
    with transaction():
        return queries.take_job(job.name, utc_now(), _JOB_LEASE)


def _finish(job: Job, *, is_failure: bool) -> None:
    """Write down when a job is to run again: after its interval or when there is work, and not at once if it failed."""
    now = utc_now()
    with transaction():
        if not is_failure:
            queries.finish_job(job.name, now, next_at=now + (job.every or timedelta(0)))
            return
        queries.insert_ignoring(JobRun, [{"name": job.name, "next_at": now, "failures": 0}])
        run = db.session.get_one(JobRun, job.name)
        run.failures += 1
        pause = min(job.every or _LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(run.failures, 10))
        run.finished_at, run.next_at = now, now + pause


def _to_check(model: type[Agreement | Charge]) -> Sequence[int]:
    """Take the rows whose time to be looked at has come."""
    with transaction():
        return queries.claim_to_check(model.check_at, utc_now(), _LOOK_LEASE, _ROWS)


def _to_read_back() -> Sequence[int]:
    """Take the agreements whose charges are to be compared; one that fails, perhaps for weeks, is tried every hour."""
    with transaction():
        return queries.claim_to_check(Agreement.read_back_at, utc_now(), _READ_BACK_LEASE, _ROWS)


def _each(name: str, row_ids: Sequence[int], run: Callable[[int], None]) -> int:
    """Do something for each row and return for how many; one row's failure leaves the others be.

    A provider that fails again and again is left alone: the rest comes back after its lease, and other work goes on.
    Raises what it says when nothing was done for anybody.
    """
    done = 0
    failures: list[ProviderError] = []
    for row_id in row_ids:
        if len(failures) == _PATIENCE:
            break
        try:
            run(row_id)
            done += 1
        except ProviderError as error:
            # Keys that are refused are one account's own trouble.
            failures += [] if isinstance(error, ProviderDenied) else [error]
            logger.warning("%s: row %s is put off: %s", name, row_id, error.message)
        except Exception:
            logger.exception("%s: row %s fails.", name, row_id)
    if failures and not done:
        raise failures[-1]
    return done


def _perform_due(operations: Operations) -> int:
    """Perform what is due, one after the other, for some seconds; our own failures are as uncertain as a provider's."""
    began = stopwatch()
    for done in range(_ROWS):
        claim = operations.claim_next() if stopwatch() - began < _ROUND_S else None
        if claim is None:
            return done
        try:
            operations.perform(claim)
        except Exception:
            logger.exception("Operation %s (%s) fails.", claim.id, claim.kind)
            operations.put_back(claim, ProviderUncertain("a failure of our own"))
    return _ROWS
