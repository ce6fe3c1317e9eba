"""Texts: how many went where, and what the SMS provider knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select

from invoice.lifecycle import MessageStatus
from invoice.store.db import db, pseudonyms
from invoice.store.models import Message, Partner, Subscription


def hold_count(what: str) -> None:
    """Let nobody else count the same until the caller's transaction ends. SQLite has one writer at a time anyway."""
    if db.session.get_bind().dialect.name == "postgresql":
        db.session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))


@dataclass(frozen=True)
class Texts:
    """Which texts are counted: to a number, to a range of them, of a partner, for a product; None: of any."""

    recipient: str | None = None
    range: str | None = None  # a number without its last four digits
    partner_id: int | None = None
    product: str | None = None


def text_that_fills(cap: int, since: datetime, which: Texts) -> datetime | None:
    """When the oldest of the newest `cap` texts since then was asked for; None while there are fewer."""
    found = select(Message.created_at).where(Message.created_at > since, Message.status != MessageStatus.VOID)
    if which.recipient is not None:
        # A person whose number was forgotten meanwhile is sent no more than anybody else.
        found = found.where(Message.recipient.in_([which.recipient, *pseudonyms(which.recipient)]))
    if which.range is not None:
        found = found.where(Message.recipient.between(f"{which.range}0000", f"{which.range}9999"))
        found = found.where(Message.recipient.like(f"{which.range}____"))
    if which.partner_id is not None:
        found = found.where(Message.partner_id == which.partner_id)
    if which.product is not None:
        found = found.join(Subscription, Subscription.id == Message.subscription_id)
        found = found.where(Subscription.name == which.product)
    return db.session.scalar(found.order_by(Message.created_at.desc()).offset(cap - 1).limit(1))


def openings(since: datetime, until: datetime) -> Sequence[tuple[int, int, int]]:
    """How many texts each partner sent between, and of how many the link was opened (partner_id, sent, opened).

    Of partners whose texts are not paused, and since they were last resumed.
    """
    is_out = Message.status.not_in([MessageStatus.VOID, MessageStatus.QUEUED])
    was_opened = func.coalesce(Subscription.opened_at, Subscription.activated_at)
    counts = (func.count().label("sent"), func.count(was_opened).label("opened"))
    found = db.session.execute(
        select(Message.partner_id, *counts)
        .join(Subscription, Subscription.id == Message.subscription_id)
        .join(Partner, Partner.id == Message.partner_id)
        .where(Message.created_at > since, Message.created_at <= until, is_out, Partner.texts_paused_at.is_(None))
        .where(or_(Partner.texts_resumed_at.is_(None), Message.created_at > Partner.texts_resumed_at))
        .group_by(Message.partner_id)
        .order_by(Message.partner_id)
    )
    return [(row.partner_id, row.sent, row.opened) for row in found]


def first_text(subscription_id: int) -> Message | None:
    """The invitation that a subscription began with, if one was asked for."""
    mine = Message.subscription_id == subscription_id
    return db.session.scalar(select(Message).where(mine).order_by(Message.id).limit(1))


def last_text(subscription_id: int) -> Message | None:
    """What was last written to the person and not withdrawn."""
    mine = (Message.subscription_id == subscription_id, Message.status != MessageStatus.VOID)
    return db.session.scalar(select(Message).where(*mine).order_by(Message.id.desc()).limit(1))


def other_texts_at_provider(message_id: int, subscription_id: int) -> Sequence[str]:
    """The SMS provider's ids of the person's other texts: they hold the same link."""
    others = (Message.subscription_id == subscription_id, Message.id != message_id)
    known = Message.provider_message_id.is_not(None)
    return db.session.scalars(select(Message.provider_message_id).where(*others, known)).all()  # type: ignore[return-value]
