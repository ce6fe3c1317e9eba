"""What should exist: periods that have no payment, and what tomorrow would create."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import and_, func, select

from invoice.lifecycle import AgreementStatus, ChargeStatus, SubscriptionStatus
from invoice.store.db import db
from invoice.store.models import Agreement, Charge, Partner, Subscription
from invoice.store.queries.due import is_braked, is_to_submit


def periods_of_active(after_id: int, limit: int) -> Sequence[Any]:
    """A page of the active subscriptions that we charge: id, partner, terms, and when the next row is written."""
    wanted = (
        select(
            Subscription.id,
            Subscription.partner_id,
            Subscription.anchor_on,
            Subscription.interval,
            Subscription.next_period,
            Subscription.next_plan_on,
            Subscription.stop_on,
            Partner.market,
        )
        .join(Partner, Partner.id == Subscription.partner_id)
        .where(
            Subscription.status == SubscriptionStatus.ACTIVE,
            Subscription.is_scheduled,
            Subscription.id > after_id,
        )
        .order_by(Subscription.id)
        .limit(limit)
    )
    return db.session.execute(wanted).all()


def charges_by_period(subscription_ids: Collection[int]) -> Sequence[Any]:
    """How the renewals of these subscriptions stand: subscription, period, status, and whether it was called off."""
    wanted = (
        select(Charge.subscription_id, Charge.period, Charge.status, Charge.cancel_requested_at)
        .where(Charge.subscription_id.in_(subscription_ids), Charge.period > 0, ~Charge.is_surplus)
        .order_by(Charge.subscription_id, Charge.period, Charge.attempt)
    )
    return db.session.execute(wanted).all()


def active_agreements(account: str) -> dict[str, int]:
    """What the books hold as living under an account: the provider's id -> the subscription's partner."""
    found = (
        select(Agreement.provider_agreement_id, Subscription.partner_id)
        .join(Subscription, Subscription.id == Agreement.subscription_id)
        .where(Agreement.account == account, Agreement.status == AgreementStatus.ACTIVE)
    )
    return {str(number): partner_id for number, partner_id in db.session.execute(found)}


def planned_until(day: date) -> Sequence[Any]:
    """The charges in the books that would leave by then, with the amount of the period before."""
    before = (
        select(Charge.subscription_id, Charge.period, func.max(Charge.amount).label("amount"))
        .where(_holds())
        .group_by(Charge.subscription_id, Charge.period)
        .subquery()
    )
    wanted = (
        select(
            Subscription.partner_id,
            Charge.name,
            Charge.currency,
            Charge.due_on,
            Charge.amount,
            before.c.amount.label("before"),
            is_braked(Subscription.partner_id).label("is_held"),
        )
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Partner, Partner.id == Subscription.partner_id)
        .outerjoin(
            before,
            and_(before.c.subscription_id == Charge.subscription_id, before.c.period == Charge.period - 1),
        )
        .where(is_to_submit(day), Subscription.status == SubscriptionStatus.ACTIVE, Partner.suspended_at.is_(None))
        .order_by(Subscription.partner_id, Charge.id)
    )
    return db.session.execute(wanted).all()


def to_be_planned(day: date) -> Sequence[Subscription]:
    """The active subscriptions whose next period may enter the books and leave by then."""
    is_ours = (Subscription.status == SubscriptionStatus.ACTIVE, Subscription.is_scheduled)
    found = select(Subscription).where(*is_ours, Subscription.next_plan_on <= day).order_by(Subscription.id)
    return db.session.scalars(found).all()


def amount_of_period(subscription_id: int, period: int) -> int | None:
    """What a period was charged with, or None."""
    mine = (Charge.subscription_id == subscription_id, Charge.period == period)
    return db.session.scalar(select(func.max(Charge.amount)).where(*mine, _holds()))


def _holds() -> Any:
    return and_(Charge.status.not_in([ChargeStatus.VOID, ChargeStatus.REFUSED]), ~Charge.is_surplus, ~Charge.is_extra)


@dataclass(frozen=True)
class Money:
    """What the books say of one charge, in minor units."""

    amount: int
    captured: int
    refunded: int
    status: ChargeStatus


def money_by_name() -> dict[str, Money]:
    """All charges in the books, by name."""
    rows = db.session.execute(select(Charge.name, Charge.amount, Charge.captured, Charge.refunded, Charge.status))
    return {row.name: Money(row.amount, row.captured, row.refunded, row.status) for row in rows}


def living_ulids() -> frozenset[str]:
    """The random ids of the active subscriptions that were signed here."""
    mine = (Subscription.status == SubscriptionStatus.ACTIVE, Subscription.is_scheduled)
    return frozenset(db.session.scalars(select(Subscription.ulid).where(*mine)))
