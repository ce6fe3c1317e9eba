"""Names that we give: random ids, link tokens, and the names that fence charges at the provider.

A charge's name is built from the subscription's random id, never from its integer: after a restore from a backup
integers are given out again, and the name would belong to somebody else's charge.
"""

from __future__ import annotations

import re
import secrets
import uuid
from hashlib import sha256

from invoice.clock import utc_now

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_OUR_NAME = re.compile(f"[{_CROCKFORD}]{{26}}(-|$)")
_CHARGE_NAME = re.compile(f"([{_CROCKFORD}]{{26}})-p([0-9]{{4,}})-a([0-9]+)")
_NAMESPACE = uuid.UUID("6f2c3f0e-5d0b-4c52-9d39-3a1f4d8a7b10")


def new_ulid() -> str:
    """Return a random id of 26 characters that sorts by the time of its making (ULID)."""
    return _crockford(int(utc_now().timestamp() * 1000) << 80 | secrets.randbits(80))


def adopted_ulid(account: str, agreement: str) -> str:
    """Return the id of an agreement that was signed elsewhere: the same each time that it comes into the books.

    What its partner charges without naming it is named by this, so it must come out the same after a restore.
    """
    return _crockford(int.from_bytes(sha256(f"{account}|{agreement}".encode()).digest()[:16]))


def _crockford(value: int) -> str:
    """Return 128 bits as 26 characters."""
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -5, -5))


def new_token() -> str:
    """Return a link token of 128 random bits: 22 characters that GSM-7 holds."""
    return secrets.token_urlsafe(16)


def new_secret() -> str:
    """Return a partner secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def new_guid() -> str:
    """Return a GUID of 128 random bits, such as stands in the return link; one of version 4 would have 122."""
    return str(uuid.UUID(bytes=secrets.token_bytes(16)))


def charge_name(subscription_ulid: str, period: int, attempt: int) -> str:
    """Return the provider's unique `orderId` of a charge: "<ulid>-p0012-a0".

    Source: Vipps Recurring v3, orderId 1..64 of [A-Za-z0-9-], unique for each sales unit.
    """
    return f"{subscription_ulid}-p{period:04d}-a{attempt}"


def extra_name(subscription_ulid: str, tag: str) -> str:
    """Return the `orderId` of a charge that a partner made without naming it: "<ulid>-x3f0c9a1b27de-a0"."""
    return f"{subscription_ulid}-x{tag}-a0"


def parse_charge_name(name: str) -> tuple[str, int, int] | None:
    """Return the subscription's random id, the period and the attempt of a name that `charge_name` gave, or None."""
    found = _CHARGE_NAME.fullmatch(name)
    return (found[1], int(found[2]), int(found[3])) if found else None


def is_ours(name: str) -> bool:
    """Tell whether a name has the shape of those that we give; nobody else may give such a one."""
    return _OUR_NAME.match(name) is not None


def event_id(subscription_ulid: str, seq: int, event_type: str, facts: str) -> str:
    """Return the id under which partners know an event: the same for the same news, even after a restore."""
    return "evt_" + uuid.uuid5(_NAMESPACE, f"{subscription_ulid}|{seq}|{event_type}|{facts}").hex


def transaction_id(charge: str) -> str:
    """Return the GUID under which the Mobile Invoice contract knows the charge of that name."""
    return str(uuid.uuid5(_NAMESPACE, f"transaction|{charge}"))


def is_derived(key: str) -> bool:
    """Tell whether a key may be one that `idempotency_key` made."""
    try:
        return uuid.UUID(key).version == 5  # RFC 9562, section 5.5: from a name
    except ValueError:
        return False


def idempotency_key(name: str, verb: str, body: str) -> str:
    """Return the key under which this very body may be sent again: same bytes, same key, even after a restore."""
    return str(uuid.uuid5(_NAMESPACE, f"{name}|{verb}|{sha256(body.encode()).hexdigest()}"))
