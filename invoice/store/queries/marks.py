"""How far the books have come: what a worker notes outside of them, and what a restore must not give out again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import and_, cast, func, literal, select, text, union_all, update
from sqlalchemy.dialects.postgresql import REGCLASS

from invoice.clock import utc_now
from invoice.lifecycle import ChargeStatus, OperationStatus, RefundStatus
from invoice.store.db import Base, db
from invoice.store.models import (
    Change,
    Charge,
    Event,
    JobRun,
    Message,
    Operation,
    Partner,
    ProviderAccount,
    Refund,
    Subscription,
)
from invoice.store.queries.work import insert_ignoring

# Numbers that stand in names, links and addresses outside the house.
_NUMBERED: dict[str, type[Base]] = {
    "subscriptions": Subscription,
    "messages": Message,
    "refunds": Refund,
    "changes": Change,
}
_EPOCH = "epoch"
# Numbers may have been given away after the last note.
_GAP = 1000
_FIRST = text(
    "INSERT INTO sqlite_sequence (name, seq) SELECT :name, 0"
    " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name)"
)
_LAST = {
    "sqlite": text("SELECT seq FROM sqlite_sequence WHERE name = :name"),
    "postgresql": text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id')::regclass)"),
}
_UNCOUNTED_CAPTURES = (
    select(Operation, Charge.captured)
    .join(Charge, Charge.id == Operation.subject_id)
    .where(Operation.kind == "CAPTURE", Operation.settled_at.is_(None), Operation.request != "")
)
_TIMELINE = text("SELECT timeline_id FROM pg_control_checkpoint()")


@dataclass(frozen=True)
class Marks:
    """How far the books are. epoch: how often they were read back.  timeline: PostgreSQL's, or 0."""

    epoch: int
    timeline: int
    operations: int
    events: int
    subscriptions: int
    messages: int
    refunds: int
    changes: int

    def is_behind(self, noted: Marks) -> bool:
        """Tell whether the books have gone back since `noted`: rows are gone, or a standby has taken over."""
        if self.epoch != noted.epoch:
            return self.epoch < noted.epoch
        names = ("operations", "events", *_NUMBERED)
        return self.timeline != noted.timeline or any(getattr(self, n) < getattr(noted, n) for n in names)

    def as_dict(self) -> dict[str, int]:
        """Return the marks as they are noted."""
        return asdict(self)


def marks() -> Marks:
    """Return how far the books are."""
    highest = [func.coalesce(func.max(model.id), 0) for model in (Operation, Event, *_NUMBERED.values())]  # type: ignore[attr-defined]
    numbers = db.session.execute(select(*(select(number).scalar_subquery() for number in highest))).one()
    epoch = db.session.scalar(select(JobRun.page).where(JobRun.name == _EPOCH)) or 0
    is_sqlite = db.session.get_bind().dialect.name == "sqlite"
    timeline = 0 if is_sqlite else int(db.session.execute(_TIMELINE).scalar_one())
    return Marks(epoch, timeline, *map(int, numbers))


def is_anybody_there() -> bool:
    """Tell whether there is any partner: without one nothing can have been lost."""
    return db.session.scalar(select(Partner.id).limit(1)) is not None


def begin_epoch(epoch: int, now: object) -> None:
    """Write down that the books were read back, so that older notes of other workers no longer count."""
    insert_ignoring(JobRun, [{"name": _EPOCH, "next_at": now, "failures": 0, "page": epoch}])
    db.session.execute(update(JobRun).where(JobRun.name == _EPOCH).values(page=epoch))


def skip_numbers(last: Marks) -> None:
    """Have new rows numbered well above these: a number that was given away once stays with whom it was given to."""
    is_sqlite = db.session.get_bind().dialect.name == "sqlite"
    for table, model in _NUMBERED.items():
        number = last.as_dict()[table] + _GAP
        if is_sqlite:
            there = {"name": table, "number": number}
            db.session.execute(_FIRST, there)
            db.session.execute(text("UPDATE sqlite_sequence SET seq = max(seq, :number) WHERE name = :name"), there)
        else:
            sequence = func.pg_get_serial_sequence(table, "id")
            given = func.coalesce(func.pg_sequence_last_value(cast(sequence, REGCLASS)), 0)
            highest = select(func.coalesce(func.max(model.id), 0)).scalar_subquery()  # type: ignore[attr-defined]
            db.session.execute(select(func.setval(sequence, func.greatest(given, highest, number, 1))))


def lost_refund_numbers() -> list[range]:
    """Return the numbers that were given to refunds and stand in no row, or are taken for given; the newest first."""
    last = db.session.execute(_LAST[db.session.get_bind().dialect.name], {"name": "refunds"}).scalar() or 0
    ids = union_all(select(literal(0).label("id")), select(Refund.id)).subquery()
    following = func.lead(ids.c.id, 1, int(last) + 1).over(order_by=ids.c.id)
    pairs = select(ids.c.id, following.label("following")).subquery()
    gaps = select(pairs).where(pairs.c.following > pairs.c.id + 1).order_by(pairs.c.id.desc())
    return [range(before + 1, after) for before, after in db.session.execute(gaps)]


def doubt_open_operations() -> int:
    """Take every act that is open for one that may have happened; return how many there are.

    A refund or a capture that was not sent when the books were kept is held against the sum of that time. A change that
    was to go later than now has not gone yet.
    """
    kept = select(Charge.refunded).where(Charge.id == Refund.charge_id).scalar_subquery()
    unsent = (Refund.status == RefundStatus.REQUESTED, Refund.refunded_before < 0)
    db.session.execute(update(Refund).where(*unsent).values(refunded_before=kept))
    for capture, captured in db.session.execute(_UNCOUNTED_CAPTURES):
        wish = json.loads(capture.request)
        capture.request = json.dumps({"goal": captured + wish["amount"]} | wish)
    db.session.flush()
    is_to_come = and_(Operation.kind == "CHANGE", Operation.attempts == 0, Operation.next_at > utc_now())
    open_ones = and_(Operation.status.in_([OperationStatus.READY, OperationStatus.INFLIGHT]), ~is_to_come)
    sent_at = func.coalesce(Operation.first_sent_at, Operation.created_at)
    in_doubt = {"status": OperationStatus.UNKNOWN, "first_sent_at": sent_at, "lease_until": None}
    statement = update(Operation).where(open_ones).values(**in_doubt, fence=Operation.fence + 1)
    return int(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def make_room(subscription_id: int, period: int) -> None:
    """Take out of the books what was planned for a period and never sent: another charge has its place."""
    unsent = (Charge.status == ChargeStatus.PLANNED, Charge.sends == 0)
    mine = (Charge.subscription_id == subscription_id, Charge.period == period, *unsent)
    db.session.execute(update(Charge).where(*mine).values(status=ChargeStatus.VOID, check_at=None))


def owner_of(account: str) -> int | None:
    """The partner who brought an account, or None for the platform's own."""
    return db.session.scalar(select(ProviderAccount.owner_id).where(ProviderAccount.account == account))


def partners_managing_at(place: str) -> Sequence[int]:
    """The partners whose subscriptions are managed at addresses that begin so."""
    mine = Subscription.agreement_url.startswith(place, autoescape=True)
    return db.session.scalars(
        select(Subscription.partner_id).where(mine).distinct().order_by(Subscription.partner_id)
    ).all()


def partner_ids() -> Sequence[int]:
    """All partners' numbers."""
    return db.session.scalars(select(Partner.id).order_by(Partner.id)).all()
