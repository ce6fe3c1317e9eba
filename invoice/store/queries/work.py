"""Operations, jobs and rings: the claims, one conditional UPDATE each, and what is under way.

On PostgreSQL rows in other hands are skipped; SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, String, and_, bindparam, case, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute

from invoice.lifecycle import OperationStatus
from invoice.store.db import Base, UTCDateTime, db
from invoice.store.models import Agreement, Charge, InboundEvent, JobRun, Operation
from invoice.store.queries.due import is_unread, operation_is_due

_NOW, _THEN = bindparam("now", type_=UTCDateTime()), bindparam("then", type_=UTCDateTime())
_NAME = bindparam("job", type_=String())
_IS_OFF, _HAS_FAILED = JobRun.next_at > _NOW, JobRun.failures > 0
# Put together once, since they are asked several times a second.
_PUT_OFF = select(JobRun.name, _IS_OFF, _HAS_FAILED).where(or_(_IS_OFF, _HAS_FAILED))
_RUN = update(JobRun.__table__).where(JobRun.name == _NAME)  # type: ignore[arg-type]
_TAKE = _RUN.where(JobRun.next_at <= _NOW).values(next_at=_THEN)
_FINISH = _RUN.values(failures=0, finished_at=_NOW, next_at=_THEN)
Bell = InstrumentedAttribute[datetime | None]
_DUE = {
    bell: select(bell.class_.id).where(bell <= _NOW).order_by(bell, bell.class_.id).limit(bindparam("most"))
    for bell in (Agreement.check_at, Agreement.read_back_at, Charge.check_at)
}


def jobs_put_off(now: datetime) -> tuple[frozenset[str], frozenset[str]]:
    """Return the jobs that are not to run again yet, and those that failed when they last ran."""
    rows = db.session.execute(_PUT_OFF, {"now": now}).all()
    return frozenset(name for name, off, _ in rows if off), frozenset(name for name, _, failed in rows if failed)


def take_job(name: str, now: datetime, lease: timedelta) -> bool:
    """Take the right to run a job whose time has come."""
    found = db.session.execute(_TAKE, {"job": name, "now": now, "then": now + lease})
    is_taken = bool(found.rowcount)  # type: ignore[attr-defined]
    # The first run of all is whoever's who enters it.
    return is_taken or bool(insert_ignoring(JobRun, [{"name": name, "next_at": now + lease, "failures": 0}]))


def finish_job(name: str, now: datetime, *, next_at: datetime) -> None:
    """Write down that a job went well."""
    db.session.execute(_FINISH, {"job": name, "now": now, "then": next_at})


def end_pause(name: str, now: datetime) -> None:
    """Have a job that was put off because it failed run now; how often it failed is still known."""
    is_put_off = and_(JobRun.next_at > now, JobRun.failures > 0)
    db.session.execute(update(JobRun).where(JobRun.name == name, is_put_off).values(next_at=now))


def claim_to_check(bell: Bell, now: datetime, lease: timedelta, limit: int) -> Sequence[int]:
    """Take rows whose time to be looked at has come and put it off by a lease: one that fails comes back by itself.

    bell: the column that says when, one of Agreement.check_at, Agreement.read_back_at, Charge.check_at.
    """
    due = _DUE[bell].params(now=now, most=limit)
    return _claim(bell.class_, due, {bell.key: now + lease}, bell.class_.id)  # type: ignore[arg-type]


def claim_operation(kinds: Collection[str], now: datetime, lease: timedelta) -> Operation | None:
    """Take the operation that is due longest, or was left behind; `in_doubt` tells whether it may have been sent."""
    status = OperationStatus
    is_ours = and_(Operation.kind.in_(kinds), operation_is_due(now))
    wanted = select(Operation.id).where(is_ours).order_by(Operation.next_at, Operation.id).limit(1)
    values = {
        "status": status.INFLIGHT,
        "in_doubt": case((Operation.status == status.READY, False), else_=True),
        "attempts": Operation.attempts + 1,
        "fence": Operation.fence + 1,
        "lease_until": now + lease,
        "first_sent_at": func.coalesce(Operation.first_sent_at, now),
    }
    ids = _claim(Operation, wanted, values, Operation.id)
    return db.session.get_one(Operation, ids[0]) if ids else None


def claim_unread(now: datetime, lease: timedelta, limit: int) -> Sequence[int]:
    """Take inbound events that nobody could place yet."""
    due = select(InboundEvent.id).where(is_unread(now)).order_by(InboundEvent.next_at, InboundEvent.id).limit(limit)
    return _claim(InboundEvent, due, {"next_at": now + lease}, InboundEvent.id)


def _claim(
    model: type[Base], wanted: Select[Any], values: dict[str, Any], key: InstrumentedAttribute[int]
) -> list[int]:
    # Locked first and changed afterwards. In one statement PostgreSQL may look for what is wanted again for each row
    # that it changes, finds the next one each time, and claims them all.
    ids = list(db.session.scalars(wanted.with_for_update(skip_locked=True)))
    if ids:
        statement = update(model).where(key.in_(ids)).values(**values)
        db.session.execute(statement.execution_options(synchronize_session=False))
    return ids


def release_leases(now: datetime) -> None:
    """End all leases: for a process that knows that it is the only one left."""
    statement = update(Operation).where(Operation.status == OperationStatus.INFLIGHT).values(lease_until=now)
    db.session.execute(statement)


def unclaimed(kind: str, subject_id: int) -> Operation | None:
    """The operation of that kind that nobody has claimed yet, locked; None when there is none."""
    mine = (Operation.kind == kind, Operation.subject_id == subject_id)
    is_new = (Operation.status == OperationStatus.READY, Operation.fence == 0)
    return db.session.scalar(select(Operation).where(*mine, *is_new).with_for_update(skip_locked=True))


def is_waiting(kind: str, subject_id: int) -> bool:
    """Tell whether an operation of that kind is still to be sent, and nobody is sending it."""
    mine = (Operation.kind == kind, Operation.subject_id == subject_id, Operation.status == OperationStatus.READY)
    return db.session.scalar(select(Operation.id).where(*mine).limit(1)) is not None


def is_under_way(subscription_id: int, kind: str) -> bool:
    """Tell whether an operation of that kind is still to be settled for a subscription."""
    open_ones = [OperationStatus.READY, OperationStatus.INFLIGHT, OperationStatus.UNKNOWN]
    mine = (Operation.subscription_id == subscription_id, Operation.kind == kind, Operation.status.in_(open_ones))
    return db.session.scalar(select(Operation.id).where(*mine).limit(1)) is not None


def is_open_for(subject_id: int, kind: str) -> bool:
    """Tell whether an operation of that kind is still to be settled for this subject."""
    open_ones = [OperationStatus.READY, OperationStatus.INFLIGHT, OperationStatus.UNKNOWN]
    mine = (Operation.subject_id == subject_id, Operation.kind == kind, Operation.status.in_(open_ones))
    return db.session.scalar(select(Operation.id).where(*mine).limit(1)) is not None


def times_staged(subject_id: int, kind: str) -> int:
    """How often an act of that kind was staged for this subject."""
    mine = (Operation.subject_id == subject_id, Operation.kind == kind)
    return db.session.scalars(select(func.count()).select_from(Operation).where(*mine)).one()


def has_open_capture(agreement_id: int) -> bool:
    """Tell whether money that is set aside under an agreement is being captured."""
    charges = select(Charge.id).where(Charge.agreement_id == agreement_id)
    open_ones = [OperationStatus.READY, OperationStatus.INFLIGHT, OperationStatus.UNKNOWN]
    theirs = (Operation.kind == "CAPTURE", Operation.subject_id.in_(charges), Operation.status.in_(open_ones))
    return db.session.scalar(select(Operation.id).where(*theirs).limit(1)) is not None


def void_unsent(subject_id: int, kind: str) -> bool:
    """Take back an operation that has not been sent; return whether there was one."""
    mine = (Operation.subject_id == subject_id, Operation.kind == kind, Operation.status == OperationStatus.READY)
    statement = update(Operation).where(*mine).values(status=OperationStatus.VOID)
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def take_ring(agreement_id: int, now: datetime, before: datetime) -> bool:
    """Take the right to look at an agreement for a waiting person, if nobody has since `before`."""
    statement = (
        update(Agreement)
        .where(Agreement.id == agreement_id, or_(Agreement.rung_at.is_(None), Agreement.rung_at <= before))
        .values(rung_at=now)
    )
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def insert_ignoring(model: type[Base], rows: list[dict[str, Any]]) -> int:
    """Insert rows; those that a unique constraint forbids exist already. Return how many were new."""
    if not rows:
        return 0
    dialect = sqlite if db.session.get_bind().dialect.name == "sqlite" else postgresql
    key = next(iter(model.__table__.primary_key))
    # The rows beside the statement, not in it: one that holds them is put together anew each time.
    statement = dialect.insert(model.__table__).on_conflict_do_nothing().returning(key)
    return len(db.session.execute(statement, rows).all())
