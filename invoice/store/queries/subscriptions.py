"""Partners and subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import exists, select, update

from invoice.lifecycle import AGREEMENT_LIVE, CHARGE_OPEN, ChangeStatus, ChargeStatus, SubscriptionStatus
from invoice.store.db import db
from invoice.store.models import Agreement, Change, Charge, Event, Operation, Partner, Subscription
from invoice.store.queries.due import is_to_end, is_to_expire, is_to_plan

# Vipps tries for at most fourteen days; what has come to no end long after that was set aside.
_LONGEST_WAIT = timedelta(days=20)


def market_of(partner_id: int) -> str:
    """Whose calendar a partner's charges follow."""
    return db.session.scalars(select(Partner.market).where(Partner.id == partner_id)).one()


def lock_subscription(subscription_id: int) -> Subscription:
    """The subscription, locked: whoever changes it or what hangs on it holds this first."""
    statement = select(Subscription).where(Subscription.id == subscription_id).with_for_update()
    return db.session.execute(statement.execution_options(populate_existing=True)).scalar_one()


def subscription_by_order(partner_id: int, order_number: str) -> Subscription | None:
    """The subscription that holds an order number."""
    return db.session.scalar(
        select(Subscription).where(
            Subscription.partner_id == partner_id,
            Subscription.order_number == order_number,
            Subscription.status != SubscriptionStatus.REFUSED,
        )
    )


def subscription_by_link(token: str) -> Subscription | None:
    """The subscription that a texted link opens."""
    return db.session.scalar(select(Subscription).where(Subscription.link_token == token))


def subscription_by_manage_link(token: str) -> Subscription | None:
    """The subscription that a manage link opens."""
    return db.session.scalar(select(Subscription).where(Subscription.manage_token == token))


def subscription_by_ulid(ulid: str) -> Subscription | None:
    """The subscription behind an external id."""
    return db.session.scalar(select(Subscription).where(Subscription.ulid == ulid))


def subscriptions_to_cancel(partner_id: int, number: int | None, member_id: str) -> Sequence[Subscription]:
    """A partner's subscription of that number, or else those of that member, newest first."""
    own = select(Subscription).where(Subscription.partner_id == partner_id)
    if number is not None:
        found = db.session.scalars(own.where(Subscription.id == number)).all()
        if found:
            return found
    members = own.where(Subscription.member_id == member_id).order_by(Subscription.id.desc()).limit(100)
    return db.session.scalars(members).all()


def subscriptions_created_since(partner_id: int, since: datetime, after_id: int, limit: int) -> Sequence[Subscription]:
    """A page of a partner's subscriptions, by number."""
    return db.session.scalars(
        select(Subscription)
        .where(Subscription.partner_id == partner_id, Subscription.created_at >= since, Subscription.id > after_id)
        .order_by(Subscription.id)
        .limit(limit)
    ).all()


def is_any_to_plan(market: str, today: date) -> bool:
    """Tell whether `subscriptions_to_plan` would find one, or somebody else has it in hand; locks nothing."""
    found = select(Subscription.id).join(Partner).where(is_to_plan(today), Partner.market == market)
    return db.session.scalar(found.limit(1)) is not None


def subscriptions_to_plan(market: str, today: date, limit: int) -> Sequence[Subscription]:
    """Active subscriptions whose next period is to enter the books, locked; those in other hands are skipped."""
    return db.session.scalars(
        select(Subscription)
        .join(Partner)
        .where(is_to_plan(today), Partner.market == market)
        .order_by(Subscription.next_plan_on, Subscription.id)
        .limit(limit)
        .with_for_update(of=Subscription, skip_locked=True)
    ).all()


def subscriptions_to_expire(now: datetime, limit: int) -> Sequence[int]:
    """Subscriptions whose link has run out and which nobody can accept any more."""
    live = exists().where(Agreement.subscription_id == Subscription.id, Agreement.status.in_(AGREEMENT_LIVE))
    return db.session.scalars(
        select(Subscription.id).where(is_to_expire(now), ~live).order_by(Subscription.id).limit(limit)
    ).all()


def subscriptions_to_end(market: str, today: date, limit: int) -> Sequence[int]:
    """Active subscriptions whose paid period is over, and no charge of it under way any more."""
    under_way = exists().where(
        Charge.subscription_id == Subscription.id,
        Charge.status.in_(CHARGE_OPEN - {ChargeStatus.PLANNED}),  # what has not left by now never will
        Charge.due_on < Subscription.stop_on,
        Charge.due_on >= today - _LONGEST_WAIT,
    )
    return db.session.scalars(
        select(Subscription.id)
        .join(Partner)
        .where(is_to_end(today), Partner.market == market, ~under_way)
        .order_by(Subscription.id)
        .limit(limit)
    ).all()


def open_change(subscription_id: int) -> Change | None:
    """The change that is asked for and not settled yet."""
    mine = (Change.subscription_id == subscription_id, Change.status == ChangeStatus.REQUESTED)
    return db.session.scalar(select(Change).where(*mine))


def bring_changes_forward(subscription_id: int, period: int) -> int:
    """Have all new prices that were to count from a later period count from this one; return how many those were."""
    later = (Change.subscription_id == subscription_id, Change.amount.is_not(None), Change.from_period > period)
    statement = update(Change).where(*later, Change.status == ChangeStatus.DONE).values(from_period=period)
    return int(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def timeline(subscription_id: int, limit: int = 1000) -> Sequence[Event]:
    """What happened to a subscription, in order."""
    return db.session.scalars(
        select(Event).where(Event.subscription_id == subscription_id).order_by(Event.seq).limit(limit)
    ).all()


def first_draft(subscription_id: int) -> Operation:
    """The act that asked for a subscription's first consent."""
    drafts = (Operation.subscription_id == subscription_id, Operation.kind == "DRAFT")
    return db.session.scalars(select(Operation).where(*drafts).order_by(Operation.id).limit(1)).one()


def subscription_of(partner_id: int, subscription_id: int) -> Subscription | None:
    """A partner's subscription of that number."""
    mine = (Subscription.id == subscription_id, Subscription.partner_id == partner_id)
    return db.session.scalar(select(Subscription).where(*mine))
