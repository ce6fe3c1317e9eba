"""The table of recurring work. Each job does what is due now and says how much that was.

Nothing here remembers anything: every job asks the tables what is due. So two workers are harmless, and a killed one
leaves nothing behind but rows that say what to do next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from invoice.clock import MARKET_ZONES, business_date, utc_now
from invoice.errors import ProviderError
from invoice.services.charges import Charges
from invoice.services.consents import Consents
from invoice.services.inbox import Inbox
from invoice.services.operations import Operations
from invoice.services.subscriptions import Subscriptions
from invoice.services.webhooks import WebhookRegistrations
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, JobRun

logger = logging.getLogger(__name__)

HEARTBEAT = "engine"
_BEAT_EVERY = timedelta(seconds=5)
# How long a row that is being looked at is left alone by others; one whose look failed comes back after it.
_LOOK_LEASE = timedelta(seconds=60)
_LOOKS = 50


@dataclass(frozen=True)
class Job:
    """One kind of recurring work. `every` holds it back between runs; None asks the tables each time."""

    name: str
    run_once: Callable[[], int]
    every: timedelta | None = None


@dataclass(frozen=True)
class Services:
    """The use cases that jobs and faces call."""

    operations: Operations
    subscriptions: Subscriptions
    consents: Consents
    charges: Charges
    inbox: Inbox
    webhooks: WebhookRegistrations


class Jobs:
    """Runs the table."""

    def __init__(self, services: Services) -> None:
        self.table: tuple[Job, ...] = (
            Job("operations", services.operations.run_due),
            Job("inbox", services.inbox.read_unread),
            Job("consents", lambda: _look(Agreement, services.consents.refresh)),
            Job("charges", lambda: _look(Charge, services.charges.refresh)),
            Job("plan", services.charges.plan),
            Job("submit", services.charges.submit),
            Job("expire", services.subscriptions.expire),
            # Vipps deletes a registration that has been dead for two weeks; a lost one is noticed within the day.
            Job("webhooks", services.webhooks.ensure, every=timedelta(days=1)),
        )

    def run_pending(self) -> int:
        """Run every job once; return how much was done. One job's failure does not keep the others from running.

        One look tells whether there is anything for them at all: a quiet round costs a millisecond and takes no lock.
        """
        with reading():
            is_due = queries.is_anything_due(utc_now(), max(map(business_date, MARKET_ZONES)))
        return sum(self._run(job) for job in self.table if is_due or job.every is not None)

    def _run(self, job: Job) -> int:
        if job.every is not None and not _is_time(job):
            return 0
        try:
            done = job.run_once()
        except ProviderError as error:
            logger.warning("Job %s is put off: %s", job.name, error.message)
            done = -1
        except Exception:
            logger.exception("Job %s failed.", job.name)
            done = -1
        if job.every is not None:
            _remember(job.name, is_failure=done < 0)
        return max(done, 0)


def beat() -> None:
    """Leave a sign of life, at most every five seconds."""
    age = last_beat()
    if age is None or not timedelta(0) <= age < _BEAT_EVERY:
        _remember(HEARTBEAT, is_failure=False)


def last_beat() -> timedelta | None:
    """Return how long ago the engine last ran, or None if it never did."""
    with reading():
        finished_at = db.session.scalar(select(JobRun.finished_at).where(JobRun.name == HEARTBEAT))
    return None if finished_at is None else utc_now() - finished_at


def _is_time(job: Job) -> bool:
    """Tell whether a job's interval is over; after failures it comes back sooner, after 5 s and then doubling."""
    with reading():
        run = db.session.get(JobRun, job.name)
        if run is None:
            return True
        every = job.every or timedelta(0)
        wait = min(every, timedelta(seconds=5 * 2 ** min(run.failures, 10))) if run.failures else every
        return utc_now() - run.finished_at >= wait


def _remember(name: str, *, is_failure: bool) -> None:
    with transaction():
        run = db.session.get(JobRun, name)
        if run is None:
            run = JobRun(name=name, finished_at=utc_now(), failures=0)
            db.session.add(run)
        run.finished_at = utc_now()
        run.failures = run.failures + 1 if is_failure else 0


def _look(model: type[Agreement | Charge], refresh: Callable[[int], None]) -> int:
    """Look at the rows whose time has come, one by one; one row's failure leaves the others be."""
    with transaction():
        ids: Sequence[int] = queries.claim_to_check(model, utc_now(), _LOOK_LEASE, _LOOKS)
    for row_id in ids:
        try:
            refresh(row_id)
        except ProviderError as error:
            logger.warning("%s %s is looked at later: %s", model.__tablename__, row_id, error.message)
        except Exception:
            logger.exception("%s %s cannot be looked at.", model.__tablename__, row_id)
    return len(ids)
