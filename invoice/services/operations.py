"""Stage, claim, call, settle: everything that leaves the house.

An act on the outside world is a row, written with its reason. A worker claims it (lease and fence), makes the call
with no transaction open, and settles it in a second transaction that only the newest claim may write. A kill between
any two leaves a row that says what to do next: READY was never sent; anything else may have been, so the next claim
is `in_doubt` and its handler asks before it sends again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import update

from invoice import request_ids
from invoice.clock import utc_now
from invoice.errors import ProviderDenied, ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import OperationStatus
from invoice.names import idempotency_key
from invoice.schedule import backoff
from invoice.store.db import db, transaction
from invoice.store.models import Operation
from invoice.store.queries import claim_operation, lock_subscription, release_leases

logger = logging.getLogger(__name__)

# Twice the longest run of calls in one handler (four calls, or one batch) and some air.
LEASE = timedelta(seconds=120)
_LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True)
class Claim:
    """An operation in this worker's hands."""

    id: int
    kind: str
    subject_id: int
    subscription_id: int | None
    account: str | None
    name: str
    key: str
    request: str
    in_doubt: bool
    attempts: int
    fence: int
    lease_until: datetime
    created_at: datetime
    first_sent_at: datetime
    request_id: str | None  # of the request that asked for it


class Handler(Protocol):
    """What one kind of operation does."""

    def call(self, claim: Claim) -> Any:
        """Make the call; no transaction is open. Return what `settle` needs, or raise a ProviderError."""
        ...

    def settle(self, claim: Claim, result: Any) -> None:
        """Write down a success, inside the settling transaction and under the subscription's lock."""
        ...

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """Write down a definite no, likewise."""
        ...


@dataclass(frozen=True)
class GiveUp:
    """Taking back what was surely not sent, for a caller that is told that it has failed."""

    is_wanted: Callable[[ProviderError], bool]
    withdraw: Callable[[Claim], None]  # in the very transaction that voids the operation: nobody sees one without it


@dataclass(frozen=True)
class Act:
    """One act on the outside world, to be staged.

    subject_id: a row of the table that the kind speaks of; for a batch, how many charges it holds.
    account: at the payment provider; None for another neighbour.  not_before: None for now.
    """

    kind: str
    subject_id: int
    subscription_id: int | None
    name: str
    account: str | None = None
    request: str = ""
    not_before: datetime | None = None


def stage(act: Act) -> Operation:
    """Write an act down in the caller's transaction, to be run from now on."""
    now = utc_now()
    operation = Operation(
        kind=act.kind,
        subject_id=act.subject_id,
        subscription_id=act.subscription_id,
        account=act.account,
        name=act.name,
        key=idempotency_key(act.name, act.kind, act.request),
        request=act.request,
        request_id=request_ids.current(),
        status=OperationStatus.READY,
        next_at=act.not_before or now,
        created_at=now,
    )
    db.session.add(operation)
    db.session.flush()
    return operation


def end_leases() -> None:
    """End every claim: for a process that knows that whoever held one is dead."""
    with transaction():
        release_leases(utc_now())


class Operations:
    """Runs what was staged."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def handle(self, kind: str, handler: Handler) -> None:
        """Name the handler of a kind."""
        self._handlers[kind] = handler

    def claim_next(self) -> Claim | None:
        """Claim what is due longest, one at a time: each has the whole lease to itself."""
        with transaction():
            row = claim_operation(self._handlers.keys(), utc_now(), LEASE)
            return None if row is None else _claim_of(row)

    def take(self, operation: Operation) -> Claim:
        """Claim an operation in the very transaction that stages it, so that it is never seen unclaimed."""
        now = utc_now()
        operation.status, operation.lease_until, operation.first_sent_at = OperationStatus.INFLIGHT, now + LEASE, now
        operation.attempts = operation.fence = 1
        db.session.flush()
        return _claim_of(operation)

    def perform(self, claim: Claim, give_up: GiveUp | None = None) -> ProviderError | None:
        """Call and settle, or have it tried again unless it is given up; one that came too late is left to the next.

        Returns what the provider had against it, for a caller who tells its own.
        """
        if utc_now() >= claim.lease_until:
            return ProviderUnavailable("it came too late and is tried again")
        with request_ids.during(claim.request_id):
            return self._perform(claim, give_up)

    def _perform(self, claim: Claim, give_up: GiveUp | None) -> ProviderError | None:
        handler = self._handlers[claim.kind]
        try:
            result = handler.call(claim)
        except ProviderRefused as refusal:
            self._settle(claim, OperationStatus.REFUSED, refusal)
            return refusal
        except ProviderError as error:
            self.put_back(claim, error, give_up)
            return error
        self._settle(claim, OperationStatus.DONE, result)
        return None

    def _settle(self, claim: Claim, status: OperationStatus, outcome: Any) -> None:
        handler = self._handlers[claim.kind]
        with transaction():
            # The subscription is locked before anything that hangs on it, here as everywhere: no deadlock.
            if claim.subscription_id is not None:
                lock_subscription(claim.subscription_id)
            error = outcome.message[:500] if isinstance(outcome, ProviderRefused) else None
            if not _write(claim, status=status, settled_at=utc_now(), last_error=error, lease_until=None):
                logger.warning("Operation %s was taken over before it could be settled.", claim.id)
                return
            if isinstance(outcome, ProviderRefused):
                logger.warning("Operation %s (%s) was refused: %s", claim.id, claim.kind, outcome.message)
                handler.refuse(claim, outcome)
            else:
                handler.settle(claim, outcome)

    def put_back(self, claim: Claim, error: ProviderError, give_up: GiveUp | None = None) -> None:
        """Have it tried again; what was surely not sent goes back to READY, unless an earlier try is in doubt."""
        surely_not = isinstance(error, ProviderUnavailable | ProviderDenied) and not claim.in_doubt
        if surely_not and give_up is not None and give_up.is_wanted(error):
            _give_up(claim, error, give_up)
            return
        wait = backoff(claim.attempts)
        if isinstance(error, ProviderUnavailable) and error.retry_after_s:
            wait = max(wait, min(timedelta(seconds=error.retry_after_s), _LONGEST_WAIT))
        level = logging.WARNING if isinstance(error, ProviderUnavailable | ProviderUncertain) else logging.ERROR
        logger.log(level, "Operation %s (%s) is put off: %s", claim.id, claim.kind, error.message)
        values = {"next_at": utc_now() + wait, "last_error": error.message[:500], "lease_until": None}
        if surely_not:
            values |= {"status": OperationStatus.READY, "first_sent_at": None}
        with transaction():
            _write(claim, **({"status": OperationStatus.UNKNOWN} | values))


def _give_up(claim: Claim, error: ProviderError, give_up: GiveUp) -> None:
    with transaction():
        if claim.subscription_id is not None:
            lock_subscription(claim.subscription_id)
        void = {"status": OperationStatus.VOID, "settled_at": utc_now(), "lease_until": None}
        if _write(claim, **void, last_error=error.message[:500]):
            logger.warning("Operation %s (%s) is given up: %s", claim.id, claim.kind, error.message)
            give_up.withdraw(claim)


def _write(claim: Claim, **values: Any) -> bool:
    """Change the operation if this claim is still the newest."""
    statement = (
        update(Operation)
        .where(
            Operation.id == claim.id,
            Operation.fence == claim.fence,
            Operation.status == OperationStatus.INFLIGHT,
        )
        .values(**values)
    )
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def _claim_of(row: Operation) -> Claim:
    return Claim(
        id=row.id,
        kind=row.kind,
        subject_id=row.subject_id,
        subscription_id=row.subscription_id,
        account=row.account,
        name=row.name,
        key=row.key,
        request=row.request,
        in_doubt=row.in_doubt,
        attempts=row.attempts,
        fence=row.fence,
        lease_until=row.lease_until or row.next_at,
        created_at=row.created_at,
        first_sent_at=row.first_sent_at or row.created_at,
        request_id=row.request_id,
    )
