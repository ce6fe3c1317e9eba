"""What is to be done outside the house, and who is alive to do it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from invoice.lifecycle import OperationStatus
from invoice.store.db import Base, UTCDateTime
from invoice.store.models.columns import index_where, status_of

# The kinds whose requests hold a phone number, not forgotten yet.
HOLDS_REQUEST = text("kind IN ('DRAFT', 'SEND') AND request <> ''")


class Operation(Base):
    """One act on the outside world: written with its reason, claimed, called, settled."""

    __tablename__ = "operations"
    __table_args__ = (
        Index("ix_operations_due", "status", "next_at"),
        Index("ix_operations_lease", "status", "lease_until"),
        Index("ix_operations_subject", "kind", "subject_id"),
        index_where("ix_operations_request", "created_at", HOLDS_REQUEST),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    subject_id: Mapped[int]  # a row of the table that the kind speaks of; for a batch, how many charges it holds
    subscription_id: Mapped[int | None] = mapped_column(ForeignKey("subscriptions.id"), index=True)
    account: Mapped[str | None] = mapped_column(String(10))  # at the payment provider; None: another kind of neighbour
    name: Mapped[str] = mapped_column(String(80))  # ours, for logs and for asking the provider
    key: Mapped[str] = mapped_column(String(36))  # the idempotency key: one key, one body, for ever
    request: Mapped[str] = mapped_column(Text)  # the frozen body
    request_id: Mapped[str | None] = mapped_column(String(64))  # of the request that asked for it, if one did
    status: Mapped[OperationStatus] = mapped_column(status_of(OperationStatus))
    in_doubt: Mapped[bool] = mapped_column(default=False)  # this claim follows one whose outcome nobody knows
    attempts: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)  # counts claims: only the newest may settle
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)
    lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    first_sent_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    last_error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class JobRun(Base):
    """When a job that runs at intervals, or that failed, is to run again; "engine" is the worker's heartbeat."""

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    page: Mapped[int] = mapped_column(default=1)  # for one that goes through a long list: where it goes on


class RateLimit(Base):
    """How far the calls of one kind have used up their share: what all workers count together."""

    __tablename__ = "rate_limits"

    bucket: Mapped[str] = mapped_column(String(200), primary_key=True)
    used_until: Mapped[datetime] = mapped_column(UTCDateTime, index=True)  # the instant at which none is used any more
    held_until: Mapped[datetime | None] = mapped_column(UTCDateTime)  # the provider said: not before
