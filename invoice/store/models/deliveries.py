"""What we owe partners: an event on its way by one channel, and where that leads."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from invoice.lifecycle import Channel, DeliveryStatus
from invoice.store.db import Base, Encrypted, UTCDateTime
from invoice.store.models.columns import index_where, status_of

_IS_HEAD = text("status IN ('READY', 'INFLIGHT')")
_IS_BEHIND = text("status = 'WAITING'")
HOLDS_ADDRESS = text("url IS NOT NULL")  # not forgotten yet


class EventEndpoint(Base):
    """Where a partner takes signed events, and the secret that they are signed with."""

    __tablename__ = "event_endpoints"

    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"), primary_key=True, autoincrement=False)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(Encrypted)
    previous_secret: Mapped[str | None] = mapped_column(Encrypted)  # signs as well, until:
    previous_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class CallbackLogin(Base):
    """The credentials that stood in a subscription's callback address."""

    __tablename__ = "callback_logins"

    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"), primary_key=True)
    channel: Mapped[Channel] = mapped_column(status_of(Channel), primary_key=True)
    login: Mapped[str] = mapped_column(Encrypted)  # "name:password"


class Lane(Base):
    """A partner's channel, and how it does. Calls are counted and held back by lane, so that none slows another."""

    __tablename__ = "delivery_lanes"
    __table_args__ = (UniqueConstraint("partner_id", "channel", name="uq_delivery_lanes_channel"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    channel: Mapped[Channel] = mapped_column(status_of(Channel))
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    failing_since: Mapped[datetime | None] = mapped_column(UTCDateTime)
    paused_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    alarms: Mapped[int] = mapped_column(default=0)  # how often an operator was told of this row of failures


class Delivery(Base):
    """One event for one channel, written in the event's transaction. What is sent is frozen here: same id, same bytes.

    Of one subscription and channel only the first is READY or INFLIGHT, and the table itself holds to that.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "lane_id", name="uq_deliveries_event"),
        Index(
            "uq_deliveries_head",
            "subscription_id",
            "lane_id",
            unique=True,
            sqlite_where=_IS_HEAD,
            postgresql_where=_IS_HEAD,
        ),
        Index(
            "ix_deliveries_behind",
            "subscription_id",
            "lane_id",
            "seq",
            sqlite_where=_IS_BEHIND,
            postgresql_where=_IS_BEHIND,
        ),
        Index("ix_deliveries_due", "lane_id", "status", "next_at", "id"),
        index_where("ix_deliveries_address", "settled_at", HOLDS_ADDRESS),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"))
    lane_id: Mapped[int] = mapped_column(ForeignKey("delivery_lanes.id"))
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    seq: Mapped[int]  # the event's, for the order
    url: Mapped[str | None] = mapped_column(Text)  # a templated callback: resolved, without credentials
    body: Mapped[str | None] = mapped_column(Text)  # a signed event; it goes wherever the endpoint is by then
    status: Mapped[DeliveryStatus] = mapped_column(status_of(DeliveryStatus))
    tries: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)  # counts claims: only the newest may settle
    next_at: Mapped[datetime] = mapped_column(UTCDateTime)
    lease_until: Mapped[datetime | None] = mapped_column(UTCDateTime)
    owed_since: Mapped[datetime] = mapped_column(UTCDateTime)  # its event or replay, later by what we were away
    last_fault: Mapped[str | None] = mapped_column(String(300))
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
