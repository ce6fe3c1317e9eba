"""Texts to people."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from invoice.lifecycle import MessageStatus
from invoice.store.db import Base, UTCDateTime
from invoice.store.models.columns import index_where, status_of

HOLDS_TEXT = text("body <> ''")  # not forgotten yet


class Message(Base):
    """One text message, from the wish to the delivery receipt."""

    __tablename__ = "messages"
    # What the caps count: texts to a number, and texts of a partner.
    __table_args__ = (
        Index("ix_messages_recipient", "recipient", "created_at"),
        Index("ix_messages_partner", "partner_id", "created_at"),
        index_where("ix_messages_text", "created_at", HOLDS_TEXT),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"), index=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    recipient: Mapped[str] = mapped_column(String(16))  # E.164; a pseudonym once it is forgotten
    originator: Mapped[str] = mapped_column(String(15))
    body: Mapped[str] = mapped_column(Text)
    segments: Mapped[int]
    status: Mapped[MessageStatus] = mapped_column(status_of(MessageStatus))
    provider_message_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    # Its receipt's address holds our own HMAC; False only for texts from before there was one.
    is_sealed: Mapped[bool] = mapped_column(default=False, server_default=false())
    sends: Mapped[int] = mapped_column(default=1)  # a lost one is sent a second time, and never a third
    error_code: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
