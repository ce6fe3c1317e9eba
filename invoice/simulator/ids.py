"""Every name and number that the stand-in gives out, in one place."""

from __future__ import annotations

import secrets
import string
import uuid
from datetime import UTC, datetime, timedelta

_ALPHANUMERICS = string.ascii_letters + string.digits
_TOKEN_LIFE = timedelta(minutes=10)


def _alphanumerics(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERICS) for _ in range(length))


def agreement_id() -> str:
    """Return an agreement id, such as "agr_5kSeqzA"."""
    return f"agr_{_alphanumerics(7)}"


def charge_id() -> str:
    """Return the id of a charge that came without an orderId, such as "chr-5kSeqzA"."""
    return f"chr-{_alphanumerics(7)}"


def new_uuid() -> str:
    """Return a random UUID."""
    return str(uuid.uuid4())


def subject(msn: str, who: str) -> str:
    """Return the name under which a sales unit knows a person's profile: the same for each of his agreements."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{msn}/{who}"))


def transaction_id() -> str:
    """Return a payment's number: eleven digits. Source: Vipps Recurring v3, transactionId of at least ten digits."""
    return str(50_000_000_000 + secrets.randbelow(10_000_000_000))


def message_sid() -> str:
    """Return a Twilio message sid: "SM" and 32 hexadecimal digits."""
    return f"SM{secrets.token_hex(16)}"


def webhook_secret() -> str:
    """Return the secret of a webhook registration: 64 random bytes, written in base64-like characters."""
    return secrets.token_urlsafe(64)


def signing_key() -> str:
    """Return a key for the stand-in's own signatures."""
    return secrets.token_hex(32)


def continuation_token(offset: int, at: datetime) -> str:
    """Return a page's token: a UUID that holds `offset` and the second of its making."""
    return str(uuid.UUID(int=int(at.timestamp()) << 96 | 0x4 << 76 | 0x8 << 60 | offset))


def read_continuation_token(token: str, at: datetime) -> int | None:
    """Return the offset in `token`, or None if it is malformed or older than ten minutes."""
    try:
        value = uuid.UUID(token).int
        made = datetime.fromtimestamp(value >> 96, UTC)
    except (ValueError, OverflowError):
        return None
    fresh = timedelta(0) <= at - made + timedelta(seconds=1) <= _TOKEN_LIFE
    return value & 0xFFFFFFFFFFFF if fresh else None
