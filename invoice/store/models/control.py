"""What an operator holds in hand: brakes, and the breaks that the proof found."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from invoice.store.db import Base, UTCDateTime

EVERYONE = 0  # the brake that holds all partners; no partner has this number


class Brake(Base):
    """Nothing is created at the provider for a partner while its brake, or everyone's, is pulled."""

    __tablename__ = "brakes"

    partner_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # or EVERYONE
    reason: Mapped[str] = mapped_column(String(200))
    # The books may be behind what has happened: nothing leaves at all, until `flask reconcile` has read it back.
    is_frozen: Mapped[bool] = mapped_column(default=False)
    pulled_at: Mapped[datetime] = mapped_column(UTCDateTime)
    released_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class PartnerDay(Base):
    """What a partner's charges came to that left the house for the first time on one day: tells an unlikely day."""

    __tablename__ = "partner_days"

    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"), primary_key=True, autoincrement=False)
    day_on: Mapped[date] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)


class Break(Base):
    """Something that must hold and does not. Open until a later run no longer finds it."""

    __tablename__ = "breaks"
    __table_args__ = (
        Index(
            "uq_breaks_open",
            "rule",
            "subject",
            unique=True,
            sqlite_where=text("cleared_at IS NULL"),
            postgresql_where=text("cleared_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(String(10))  # the invariant's number, such as S1
    subject: Mapped[str] = mapped_column(String(200))  # which row of ours, or which name at the provider
    partner_id: Mapped[int | None]  # whose it is, where that is known
    found_at: Mapped[datetime] = mapped_column(UTCDateTime)
    seen_at: Mapped[datetime] = mapped_column(UTCDateTime)
    cleared_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
