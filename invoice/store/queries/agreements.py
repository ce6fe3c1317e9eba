"""Attempts at consent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update

from invoice.lifecycle import AGREEMENT_LIVE, AgreementStatus
from invoice.store.db import db
from invoice.store.models import Agreement, Subscription


def latest_agreement(subscription_id: int) -> Agreement | None:
    """The newest attempt at consent."""
    return db.session.scalar(
        select(Agreement)
        .where(Agreement.subscription_id == subscription_id)
        .order_by(Agreement.attempt.desc())
        .limit(1)
    )


def adopted_agreement(subscription_id: int) -> Agreement | None:
    """The attempt that the subscription stands on."""
    return db.session.scalar(
        select(Agreement).where(Agreement.subscription_id == subscription_id, Agreement.is_adopted)
    )


def live_agreements(subscription_id: int) -> Sequence[Agreement]:
    """Attempts that somebody may still accept, or has accepted."""
    return db.session.scalars(
        select(Agreement)
        .where(Agreement.subscription_id == subscription_id, Agreement.status.in_(AGREEMENT_LIVE))
        .order_by(Agreement.attempt)
    ).all()


def lost_drafts_since(since: datetime) -> dict[str, datetime]:
    """For each account the oldest draft since then whose answer never came."""
    rows = db.session.execute(
        select(Agreement.account, func.min(Agreement.created_at).label("oldest"))
        .where(
            Agreement.status == AgreementStatus.LOST,
            Agreement.provider_agreement_id.is_(None),
            Agreement.created_at >= since,
        )
        .group_by(Agreement.account)
    )
    return {row.account: row.oldest for row in rows}


def known_agreements(provider_agreement_ids: Sequence[str]) -> set[str]:
    """Which of these the tables hold."""
    found: set[str] = set()
    for start in range(0, len(provider_agreement_ids), 500):
        chosen = Agreement.provider_agreement_id.in_(provider_agreement_ids[start : start + 500])
        found |= {str(known) for known in db.session.scalars(select(Agreement.provider_agreement_id).where(chosen))}
    return found


def put_off_looks(account: str, provider_agreement_ids: Sequence[str], now: datetime, until: datetime) -> None:
    """Look at these active agreements later: they have just been seen. One that is to be looked at now still is."""
    for start in range(0, len(provider_agreement_ids), 500):
        seen = Agreement.provider_agreement_id.in_(provider_agreement_ids[start : start + 500])
        quiet = (Agreement.status == AgreementStatus.ACTIVE, Agreement.check_at > now, Agreement.check_at < until)
        db.session.execute(update(Agreement).where(seen, *quiet, Agreement.account == account).values(check_at=until))


def agreement_by_provider_id(provider_agreement_id: str) -> Agreement | None:
    """The attempt that the provider calls so."""
    return db.session.scalar(select(Agreement).where(Agreement.provider_agreement_id == provider_agreement_id))


def accounts_of(subscription_id: int) -> Sequence[str]:
    """The accounts that a subscription's consent was ever asked for with."""
    return db.session.scalars(
        select(Agreement.account).where(Agreement.subscription_id == subscription_id).distinct()
    ).all()


def agreement_by_return(partner_id: int, return_id: str) -> Agreement | None:
    """The attempt from which a person comes back."""
    return db.session.scalar(
        select(Agreement)
        .join(Subscription, Subscription.id == Agreement.subscription_id)
        .where(Agreement.return_id == return_id, Subscription.partner_id == partner_id)
    )


def read_back_all(account: str, now: datetime) -> None:
    """Have the charges of every agreement of an account compared now, of which money can still go back."""
    mine = (Agreement.account == account, Agreement.read_back_at > now)
    db.session.execute(update(Agreement).where(*mine).values(read_back_at=now))
