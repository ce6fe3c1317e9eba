"""Who may ask: add, rotate, authenticate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import select

from invoice.clock import MARKET_ZONES, utc_now
from invoice.errors import Conflict, Invalid, NotFound, Unauthenticated
from invoice.names import new_secret
from invoice.store.db import db, reading, transaction
from invoice.store.models import Partner, PartnerSecret
from invoice.store.queries import living_secrets, partner_by_secret

MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class PartnerView:
    """A partner, as the faces know it."""

    id: int
    name: str
    market: str
    sms_originator: str


def authenticate(partner_id: str, secret: str) -> PartnerView:
    """Return the partner that these credentials belong to.

    Raises Unauthenticated, in the same words, for an unknown partner, a wrong secret and a suspended partner.
    A secret has 256 random bits, so its SHA-256 is looked up: nothing slower protects it better.
    """
    number = int(partner_id) if partner_id.isascii() and partner_id.isdigit() and len(partner_id) <= 10 else 0
    digest = _digest(secret)
    with reading():
        partner = partner_by_secret(min(number, MAX_ID), digest)
        if partner is None or partner.suspended_at is not None:
            raise Unauthenticated
        return _view(partner)


def add(partner_id: int, name: str, *, market: str = "NO", sms_originator: str, secret: str | None = None) -> str:
    """Add a partner and return its first secret, which is shown only now.

    Raises Invalid for a wrong number or market, Conflict when the number is taken.
    """
    if not 1 <= partner_id <= MAX_ID:
        raise Invalid({"id": [f"id must be from 1 to {MAX_ID}."]})
    if market not in MARKET_ZONES:
        raise Invalid({"market": [f"market must be one of {', '.join(MARKET_ZONES)}."]})
    secret = secret or new_secret()
    now = utc_now()
    with transaction():
        if db.session.get(Partner, partner_id):
            raise Conflict(f"Partner {partner_id} exists already.")
        partner = Partner(id=partner_id, name=name, market=market, sms_originator=sms_originator, created_at=now)
        db.session.add(partner)
        db.session.flush()
        db.session.add(PartnerSecret(partner_id=partner_id, digest=_digest(secret), created_at=now))
    return secret


def rotate(partner_id: int) -> str:
    """Add a secret and return it. The one before it goes on working until the next rotation; older ones end."""
    secret = new_secret()
    now = utc_now()
    with transaction():
        if db.session.get(Partner, partner_id, with_for_update=True) is None:
            raise NotFound(f"There is no partner {partner_id}.")
        for old in living_secrets(partner_id)[:-1]:
            old.revoked_at = now
        db.session.add(PartnerSecret(partner_id=partner_id, digest=_digest(secret), created_at=now))
    return secret


def list_all() -> Sequence[PartnerView]:
    """Return all partners, by number."""
    with reading():
        return [_view(p) for p in db.session.scalars(select(Partner).order_by(Partner.id))]


def exists(partner_id: int) -> bool:
    """Tell whether there is a partner of that number."""
    with reading():
        return db.session.get(Partner, partner_id) is not None


def _view(partner: Partner) -> PartnerView:
    return PartnerView(partner.id, partner.name, partner.market, partner.sms_originator)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()
