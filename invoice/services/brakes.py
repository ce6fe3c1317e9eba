"""Brakes: an operator, the proof, or a day that looks wrong holds what would be charged. Cancels always go through.

A brake is read where charges are chosen, where a batch is sent, and where a partner asks for a charge of its own. It
holds new charges only: what Vipps already has goes its way, and stops, refunds and looks go on. A frozen house, after
its database has gone back, sends nothing at all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import literal, select

from invoice.clock import business_date, utc_now
from invoice.config import Settings
from invoice.errors import NotFound, ProviderUnavailable
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import EVERYONE, Brake, Charge, Partner

logger = logging.getLogger(__name__)

# A month has up to 31 days, and most people sign on the same few of them.
_LOOK_BACK = timedelta(days=35)
_UNLIKELY = 1.5
_TRUSTED_FOR = timedelta(hours=24)  # after an operator has let go


@dataclass(frozen=True)
class BrakeView:
    """A brake as an operator sees it. partner_id: None for everyone's."""

    partner_id: int | None
    reason: str
    is_frozen: bool
    pulled_at: datetime
    released_at: datetime | None


def list_all() -> list[BrakeView]:
    """Return all brakes, the released ones as well."""
    with reading():
        return [
            BrakeView(row.partner_id or None, row.reason, row.is_frozen, row.pulled_at, row.released_at)
            for row in queries.all_brakes()
        ]


def stop(partner_id: int | None, reason: str) -> None:
    """Pull a brake, a partner's or everyone's, by hand. Raises NotFound for an unknown partner."""
    with transaction():
        if partner_id is not None and db.session.get(Partner, partner_id) is None:
            raise NotFound(f"There is no partner {partner_id}.")
        pull(partner_id, reason)


def start(partner_id: int | None) -> None:
    """Let go of a brake; for a day no amount is thought unlikely. Raises NotFound when it is not pulled."""
    with transaction():
        brake = db.session.get(Brake, partner_id or EVERYONE, with_for_update=True)
        if brake is None or brake.released_at is not None:
            raise NotFound("That brake is not pulled.")
        brake.released_at, brake.is_frozen = utc_now(), False


def pull(partner_id: int | None, reason: str, *, is_frozen: bool = False) -> None:
    """Pull a brake in the caller's transaction; one that is pulled already keeps its reason."""
    row = {"partner_id": partner_id or EVERYONE, "reason": reason[:200], "is_frozen": is_frozen, "pulled_at": utc_now()}
    if queries.insert_ignoring(Brake, [row]) == 0:
        brake = db.session.get_one(Brake, partner_id or EVERYONE, with_for_update=True, populate_existing=True)
        if brake.released_at is None and (brake.is_frozen or not is_frozen):
            return
        brake.reason, brake.is_frozen = reason[:200], is_frozen
        brake.pulled_at, brake.released_at = utc_now(), None
    logger.error("Charging is held for %s: %s", "everyone" if partner_id is None else f"partner {partner_id}", reason)


def holds(partner_id: int) -> bool:
    """Tell, in the caller's transaction, whether a partner's charges are held."""
    return bool(db.session.scalar(select(queries.is_braked(literal(partner_id)))))


def refuse_while_frozen() -> None:
    """Let no new wish for money into books that may be behind: perhaps it has been granted, and nobody here knows.

    Raises ProviderUnavailable. In the caller's transaction.
    """
    if is_frozen():
        raise ProviderUnavailable("The books are being read back. Send the same request again later.")


def is_frozen() -> bool:
    """Tell, in the caller's transaction, whether nothing may leave."""
    return bool(db.session.scalar(select(queries.is_frozen())))


def count(sent: Iterable[tuple[int, Charge]]) -> None:
    """Add charges that leave for the first time to their partners' day; (partner, charge)."""
    sums: Counter[int] = Counter()
    for partner_id, charge in sent:
        sums[partner_id] += charge.amount
    today = {partner_id: business_date(queries.market_of(partner_id)) for partner_id in sums}
    queries.add_to_days({partner_id: (today[partner_id], amount) for partner_id, amount in sums.items()})


def hold_unlikely(partner_ids: Collection[int], today: date, settings: Settings) -> frozenset[int]:
    """Pull the brake of each partner whose day would come to far more than any before; return which they are.

    Far more: half as much again as the greatest day of the last five weeks, and more than the floor of the settings.
    """
    if not partner_ids:
        return frozenset()
    trusted = {b.partner_id for b in queries.all_brakes() if b.released_at and utc_now() - b.released_at < _TRUSTED_FOR}
    waiting = queries.waiting_amounts(partner_ids, today)
    days = queries.day_amounts(partner_ids, today - _LOOK_BACK)
    held = set()
    for partner_id in sorted(set(partner_ids) - trusted):
        total = waiting.get(partner_id, 0) + days[partner_id].pop(today, 0)
        usual = max(days[partner_id].values(), default=0)
        if total > max(_UNLIKELY * usual, settings.invoice_daily_floor * 100):
            held.add(partner_id)
            pull(partner_id, f"{total / 100:.2f} on {today}; the greatest day before was {usual / 100:.2f}")
    return frozenset(held)
