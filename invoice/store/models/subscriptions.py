"""A subscription, its attempts at consent, and its timeline."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from invoice.lifecycle import AgreementStatus, ChangeStatus, Interval, SubscriptionStatus
from invoice.store.db import Base, UTCDateTime
from invoice.store.models.columns import index_where, status_of

# What is not forgotten yet (docs/privacy.md). A token has 22 characters, a GUID 36; what replaces them has fewer.
HOLDS_PERSON = text(
    "(substr(msisdn, 1, 1) = '+' OR member_id IS NOT NULL OR status_callback_url IS NOT NULL"
    " OR confirm_callback_url IS NOT NULL OR sms_callback_url IS NOT NULL)"
)
HOLDS_LINK = text("length(link_token) = 22")
HOLDS_MANAGE_LINK = text("length(manage_token) = 22")
HOLDS_RETURN_LINK = text("length(return_id) = 36")


class Subscription(Base):
    """What a partner asked for. Its integer id is the `recurring` of the manage link."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        # A request that Vipps refused leaves its order number free for a better one.
        Index(
            "uq_subscriptions_partner_order",
            "partner_id",
            "order_number",
            unique=True,
            sqlite_where=text("order_number IS NOT NULL AND status <> 'REFUSED'"),
            postgresql_where=text("order_number IS NOT NULL AND status <> 'REFUSED'"),
        ),
        Index("ix_subscriptions_partner_created", "partner_id", "created_at"),
        Index("ix_subscriptions_partner_member", "partner_id", "member_id"),
        Index("ix_subscriptions_to_plan", "status", "next_plan_on"),
        Index("ix_subscriptions_to_expire", "status", "link_expires_at"),
        Index("ix_subscriptions_to_end", "status", "stop_on"),
        Index("ix_subscriptions_msisdn", "msisdn"),
        Index("ix_subscriptions_ended_at", "ended_at"),
        index_where("ix_subscriptions_person", "ended_at", HOLDS_PERSON),
        index_where("ix_subscriptions_link", "link_expires_at", HOLDS_LINK),
        index_where("ix_subscriptions_manage_link", "ended_at", HOLDS_MANAGE_LINK),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    ulid: Mapped[str] = mapped_column(String(26), unique=True)  # random: the root of every name at the provider
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    order_number: Mapped[str | None] = mapped_column(String(50))
    request_digest: Mapped[bytes] = mapped_column(LargeBinary(32))  # tells a repeat from another request

    msisdn: Mapped[str] = mapped_column(String(16))  # E.164; a pseudonym once it is forgotten; empty: never known
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(String(2000))
    currency: Mapped[str] = mapped_column(String(3))
    amount: Mapped[int] = mapped_column(BigInteger)
    campaign_amount: Mapped[int | None] = mapped_column(BigInteger)
    initial_amount: Mapped[int] = mapped_column(BigInteger)  # taken at signing; 0: the first period is free
    reserves_initial: Mapped[bool] = mapped_column(default=False)  # at signing it is only set aside, captured later
    interval: Mapped[Interval] = mapped_column(status_of(Interval))
    member_id: Mapped[str | None] = mapped_column(String(100))
    agreement_url: Mapped[str] = mapped_column(String(1024))  # behind "manage" in the app, with `recurring` in it
    status_callback_url: Mapped[str | None] = mapped_column(String(2000))
    confirm_callback_url: Mapped[str | None] = mapped_column(String(2000))
    sms_callback_url: Mapped[str | None] = mapped_column(String(2000))

    link_token: Mapped[str] = mapped_column(String(22), unique=True)
    manage_token: Mapped[str] = mapped_column(String(22), unique=True)
    link_expires_at: Mapped[datetime] = mapped_column(UTCDateTime)

    status: Mapped[SubscriptionStatus] = mapped_column(status_of(SubscriptionStatus))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    opened_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # by a person: a page that was looked at, or more
    activated_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    anchor_on: Mapped[date | None]  # market date of signing: every due date is counted from it
    next_period: Mapped[int] = mapped_column(default=1)
    is_scheduled: Mapped[bool] = mapped_column(default=True)  # False: signed elsewhere; its partner makes each charge
    next_plan_on: Mapped[date | None]  # when `next_period` enters the books
    stop_on: Mapped[date | None]  # ends with the day before: nothing may fall due on this day or later
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    event_count: Mapped[int] = mapped_column(default=0)


class Agreement(Base):
    """One attempt at consent: a draft at Vipps that lives ten minutes, or what became of it."""

    __tablename__ = "agreements"
    __table_args__ = (
        UniqueConstraint("subscription_id", "attempt", name="uq_agreements_attempt"),
        Index(
            "uq_agreements_adopted",
            "subscription_id",
            unique=True,
            sqlite_where=text("is_adopted"),
            postgresql_where=text("is_adopted"),
        ),
        Index("ix_agreements_check_at", "check_at"),
        Index("ix_agreements_read_back_at", "read_back_at"),
        index_where("ix_agreements_return_link", "created_at", HOLDS_RETURN_LINK),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    attempt: Mapped[int]
    account: Mapped[str] = mapped_column(String(10))  # at the payment provider, under which it was asked for
    status: Mapped[AgreementStatus] = mapped_column(status_of(AgreementStatus))
    is_adopted: Mapped[bool] = mapped_column(default=False)  # the one whose consent the subscription stands on
    is_handed_out: Mapped[bool] = mapped_column(default=False)  # a person was sent to its confirmation address
    return_id: Mapped[str] = mapped_column(String(36), unique=True)  # unguessable: the person comes back with it
    provider_agreement_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    confirmation_url: Mapped[str | None] = mapped_column(Text)
    initial_amount: Mapped[int] = mapped_column(BigInteger)
    initial_name: Mapped[str] = mapped_column(String(64))  # the initial charge's unique name
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    drafted_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    check_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    # When all its charges are compared with the provider's, settled ones too; None once no money can go back any more.
    read_back_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    rung_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when a waiting person last made us look


class Change(Base):
    """A new price or new words for a subscription: asked for, shown in the app, and from then on charged."""

    __tablename__ = "changes"
    __table_args__ = (
        Index(
            "uq_changes_open",
            "subscription_id",
            unique=True,
            sqlite_where=text("status = 'REQUESTED'"),
            postgresql_where=text("status = 'REQUESTED'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    amount: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(String(2000))
    amount_before: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[ChangeStatus] = mapped_column(status_of(ChangeStatus))
    from_period: Mapped[int | None]  # the first that is charged so; known when the app shows it
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Event(Base):
    """What happened to a subscription, in order, without gaps. Written in the transaction of its cause."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("subscription_id", "seq", name="uq_events_seq"),
        Index("ix_events_feed", "partner_id", "position"),
        Index("ix_events_happened", "partner_id", "occurred_at"),
        Index(
            "ix_events_unplaced",
            "id",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(String(36), unique=True)  # partners know it by this
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"))
    # Its place in what partners pull, given after its commit: row numbers are drawn before, and commit in any order.
    position: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    seq: Mapped[int]
    type: Mapped[str] = mapped_column(String(50))
    occurred_at: Mapped[datetime] = mapped_column(UTCDateTime)
    request_id: Mapped[str | None] = mapped_column(String(64))  # of the request that caused it, if one did
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
