"""Names that we give: random ids, link tokens, and the names that fence charges at the provider.

A charge's name is built from the subscription's random id, never from its integer: after a restore from a backup
integers are given out again, and the name would belong to somebody else's charge.
"""

from __future__ import annotations

import secrets
import uuid
from hashlib import sha256

from invoice.clock import utc_now

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NAMESPACE = uuid.UUID("6f2c3f0e-5d0b-4c52-9d39-3a1f4d8a7b10")


def new_ulid() -> str:
    """Return a random id of 26 characters that sorts by the time of its making (ULID)."""
    value = int(utc_now().timestamp() * 1000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -5, -5))


def new_token() -> str:
    """Return a link token of 128 random bits: 22 characters that GSM-7 holds."""
    return secrets.token_urlsafe(16)


def new_secret() -> str:
    """Return a partner secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def new_guid() -> str:
    """Return a random GUID, such as stands in the return link."""
    return str(uuid.uuid4())


def charge_name(subscription_ulid: str, period: int, attempt: int) -> str:
    """Return the provider's unique `orderId` of a charge: "<ulid>-p0012-a0".

    Source: Vipps Recurring v3, orderId 1..64 of [A-Za-z0-9-], unique for each sales unit.
    """
    return f"{subscription_ulid}-p{period:04d}-a{attempt}"


def idempotency_key(name: str, verb: str, body: str) -> str:
    """Return the key under which this very body may be sent again: same bytes, same key, even after a restore."""
    return str(uuid.uuid5(_NAMESPACE, f"{name}|{verb}|{sha256(body.encode()).hexdigest()}"))
