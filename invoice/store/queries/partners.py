"""Partners: who they are, what opens their door, and who has knocked too often."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, exists, select

from invoice.lifecycle import SecretKind
from invoice.store.db import db
from invoice.store.models import IdempotencyKey, Partner, PartnerSecret, RateLimit, Subscription, UsedNonce


def door_of(partner_id: int, kinds: Collection[SecretKind]) -> Sequence[Row[Any]]:
    """A partner's terms beside each of its living secrets of these kinds, or once beside none.

    Plain columns: making objects of them takes so long that the time would tell whether there are any.
    """
    is_living = and_(
        PartnerSecret.partner_id == Partner.id, PartnerSecret.kind.in_(kinds), PartnerSecret.revoked_at.is_(None)
    )
    secrets = PartnerSecret.__table__.columns["digest", "hmac_secret", "may_see_token"]
    found = select(*Partner.__table__.columns, *secrets).outerjoin(PartnerSecret, is_living)
    found = found.where(Partner.id == partner_id)
    rows: Sequence[Row[Any]] = db.session.execute(found.order_by(PartnerSecret.id)).all()
    return rows


def living_secrets(partner_id: int, kinds: Collection[SecretKind]) -> Sequence[PartnerSecret]:
    """A partner's secrets of these kinds that still work, oldest first."""
    mine = (PartnerSecret.partner_id == partner_id, PartnerSecret.kind.in_(kinds), PartnerSecret.revoked_at.is_(None))
    return db.session.scalars(select(PartnerSecret).where(*mine).order_by(PartnerSecret.id)).all()


def all_partners() -> Sequence[Partner]:
    """All partners, by number."""
    return db.session.scalars(select(Partner).order_by(Partner.id)).all()


def has_subscriptions(partner_id: int) -> bool:
    """Tell whether a partner has ever asked for a subscription."""
    return bool(db.session.scalar(select(exists().where(Subscription.partner_id == partner_id))))


def used_until(buckets: Collection[str]) -> dict[str, datetime]:
    """Until when each of these shares is used up, of those that are counted at all."""
    rows = db.session.execute(select(RateLimit.bucket, RateLimit.used_until).where(RateLimit.bucket.in_(buckets)))
    return {row.bucket: row.used_until for row in rows}


def lock_bucket(bucket: str) -> RateLimit:
    """A share that is counted, locked."""
    return db.session.scalars(select(RateLimit).where(RateLimit.bucket == bucket).with_for_update()).one()


def forget_nonces(before: datetime) -> int:
    """Drop the nonces that were used before; return how many there were."""
    return int(db.session.execute(delete(UsedNonce).where(UsedNonce.used_at < before)).rowcount)  # type: ignore[attr-defined]


def kept_answers(*, after: int, limit: int = 500) -> Sequence[IdempotencyKey]:
    """What partners were answered under their keys, by number from the one after `after`, and locked."""
    kept = select(IdempotencyKey).where(IdempotencyKey.id > after, IdempotencyKey.body.is_not(None))
    return db.session.scalars(kept.order_by(IdempotencyKey.id).limit(limit).with_for_update()).all()
