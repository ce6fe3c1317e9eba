"""What the providers told us: stored before it is answered, read afterwards."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from invoice.store.db import Base, Encrypted, UTCDateTime


class InboundEvent(Base):
    """One verified webhook or receipt. The same bytes twice are one row."""

    __tablename__ = "inbound_events"
    __table_args__ = (
        Index(
            "ix_inbound_events_unread",
            "next_at",
            sqlite_where=text("read_at IS NULL"),
            postgresql_where=text("read_at IS NULL"),
        ),
        Index("ix_inbound_events_received_at", "received_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(10))
    account: Mapped[str | None] = mapped_column(String(10))  # whose registration it came by
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    body: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(UTCDateTime)
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)
    read_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class WebhookRegistration(Base):
    """Where the payment provider sends its webhooks, and the secret that it signs them with."""

    __tablename__ = "webhook_registrations"

    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(10), unique=True)  # at the payment provider
    token: Mapped[str] = mapped_column(String(22), unique=True)  # the last part of the address
    provider_webhook_id: Mapped[str] = mapped_column(String(64), unique=True)
    url: Mapped[str] = mapped_column(String(500))
    secret: Mapped[str] = mapped_column(Encrypted)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
