"""Brakes, and what partners' days come to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from invoice.lifecycle import SubscriptionStatus
from invoice.store.db import db
from invoice.store.models import Brake, Charge, PartnerDay, Subscription
from invoice.store.queries.due import is_to_submit


def all_brakes() -> Sequence[Brake]:
    """All brakes that were ever pulled, everyone's first."""
    return db.session.scalars(select(Brake).order_by(Brake.partner_id)).all()


def waiting_amounts(partner_ids: Collection[int], today: date) -> dict[int, int]:
    """What each of these partners' charges come to that would leave the house today."""
    rows = db.session.execute(
        select(Subscription.partner_id, func.sum(Charge.amount))
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .where(
            is_to_submit(today),
            Subscription.status == SubscriptionStatus.ACTIVE,
            Subscription.partner_id.in_(partner_ids),
        )
        .group_by(Subscription.partner_id)
    )
    return {partner_id: int(amount) for partner_id, amount in rows}


def day_amounts(partner_ids: Collection[int], since: date) -> dict[int, dict[date, int]]:
    """What left the house for each of these partners on each day since."""
    found: dict[int, dict[date, int]] = {partner_id: {} for partner_id in partner_ids}
    wanted = select(PartnerDay).where(PartnerDay.partner_id.in_(partner_ids), PartnerDay.day_on >= since)
    for row in db.session.scalars(wanted):
        found[row.partner_id][row.day_on] = row.amount
    return found


def add_to_days(amounts: Mapping[int, tuple[date, int]]) -> None:
    """Add to what partners' days have come to: partner -> (day, amount)."""
    if not amounts:
        return
    rows = [
        {"partner_id": number, "day_on": day, "amount": amount} for number, (day, amount) in sorted(amounts.items())
    ]
    dialect = sqlite if db.session.get_bind().dialect.name == "sqlite" else postgresql
    statement = dialect.insert(PartnerDay).values(rows)
    added = {"amount": PartnerDay.amount + statement.excluded.amount}
    db.session.execute(statement.on_conflict_do_update(index_elements=["partner_id", "day_on"], set_=added))
