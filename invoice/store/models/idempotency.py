"""Requests that carry a key, so that sending them again does nothing again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from invoice.store.db import Base, EncryptedBytes, UTCDateTime


class IdempotencyKey(Base):
    """One request of a partner under its key: written before the work, completed with the answer."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        UniqueConstraint("partner_id", "key", name="uq_idempotency_keys_key"),
        Index("ix_idempotency_keys_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    key: Mapped[str] = mapped_column(String(255))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))  # of method, address and body: tells another request
    locked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # since when somebody works on it
    fence: Mapped[int] = mapped_column(default=1)  # counts those who did: only the newest may write the answer
    # What the work has made, written in the work's own transaction: whoever takes over finds it and makes no second.
    subject_id: Mapped[int | None]
    status: Mapped[int | None]  # the answer
    content_type: Mapped[str | None] = mapped_column(String(100))
    body: Mapped[bytes | None] = mapped_column(EncryptedBytes)  # a number, a secret that is shown once: what was said
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
