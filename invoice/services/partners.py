"""Partners and their secrets: who may ask, for what, how often. Whether a request is theirs says `credentials`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Row

from invoice import signatures
from invoice.clock import MARKET_ZONES, utc_now
from invoice.errors import Conflict, Invalid, NotFound
from invoice.lifecycle import ContractMode, Language, SecretKind
from invoice.names import new_secret
from invoice.phone import is_originator
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Partner, PartnerSecret

MAX_ID = 2**31 - 1
MAX_ALIVE = 2  # of each kind: the old one and the new one, while a partner changes over
DEFAULT_REQUEST_LIMIT = 600
MAX_REQUEST_LIMIT = 1_000_000
MAX_SMS_LIMIT = 10_000_000
AS_SET = -1  # a partner's cap of texts is again what the settings say
_MAX_TEXT = 1000

_HMAC_KINDS = (SecretKind.HMAC, SecretKind.HMAC_FULL)


@dataclass(frozen=True)
class PartnerView:
    """A partner, as the faces know it."""

    id: int
    name: str
    market: str
    sms_originator: str
    contract_mode: ContractMode = ContractMode.FIXED
    request_limit: int = DEFAULT_REQUEST_LIMIT  # a minute
    language: str | None = None
    sms_text: str | None = None
    sms_limit: int | None = None
    is_suspended: bool = False
    texts_paused_at: datetime | None = None
    may_see_token: bool = False  # by the key that this request came with: the provider's access token


@dataclass(frozen=True)
class SecretView:
    """A living secret, without what is secret about it."""

    id: int
    kind: SecretKind
    may_see_token: bool
    created_at: datetime


@dataclass(frozen=True)
class Terms:
    """What can be set for a partner; None leaves it as it is, an empty text or AS_SET takes it away."""

    name: str | None = None
    market: str | None = None
    sms_originator: str | None = None
    contract_mode: str | None = None
    request_limit: int | None = None
    language: str | None = None
    sms_text: str | None = None
    sms_limit: int | None = None


def add(  # noqa: PLR0913 - the terms of a partner, each by its name
    partner_id: int,
    name: str,
    *,
    sms_originator: str,
    market: str = "NO",
    contract_mode: str = ContractMode.FIXED,
    request_limit: int = DEFAULT_REQUEST_LIMIT,
    language: str | None = None,
    sms_text: str | None = None,
    sms_limit: int | None = None,
    secret: str | None = None,
) -> str:
    """Add a partner and return its first secret, which is shown only now.

    Raises Invalid for a wrong number or term, Conflict when the number is taken.
    """
    if not 1 <= partner_id <= MAX_ID:
        raise Invalid({"id": [f"id must be from 1 to {MAX_ID}."]})
    terms = Terms(name, market, sms_originator, contract_mode, request_limit, language, sms_text, sms_limit)
    _check(terms)
    secret = secret or new_secret()
    with transaction():
        if db.session.get(Partner, partner_id):
            raise Conflict(f"Partner {partner_id} exists already.")
        partner = Partner(id=partner_id, created_at=utc_now())
        _set(partner, terms)
        db.session.add(partner)
        db.session.flush()
        _enter(partner_id, SecretKind.PASSWORD, digest=digest_of(secret))
    return secret


def change(partner_id: int, terms: Terms) -> PartnerView:
    """Set terms of a partner and return it as it is then.

    Raises Invalid for a wrong term, Conflict for another market once there are subscriptions: their due dates follow
    its calendar.
    """
    _check(terms)
    with transaction():
        partner = _lock(partner_id)
        if terms.market not in (None, partner.market) and queries.has_subscriptions(partner_id):
            raise Conflict(f"Partner {partner_id} has subscriptions: its market stays {partner.market}.")
        _set(partner, terms)
        return view_of(partner)


def suspend(partner_id: int) -> None:
    """Let a partner in no more and send nothing of it to be charged; what Vipps already has goes its way."""
    with transaction():
        partner = _lock(partner_id)
        partner.suspended_at = partner.suspended_at or utc_now()


def resume(partner_id: int) -> None:
    """Let a partner in again; the periods that were missed are charged one at a time."""
    with transaction():
        _lock(partner_id).suspended_at = None


def rotate(partner_id: int) -> str:
    """Add a secret and return it. The one before it goes on working until the next rotation; older ones end."""
    secret = new_secret()
    with transaction():
        _lock(partner_id)
        _end_all_but_newest(partner_id, (SecretKind.PASSWORD,))
        _enter(partner_id, SecretKind.PASSWORD, digest=digest_of(secret))
    return secret


def add_key(partner_id: int, *, may_see_token: bool = False) -> str:
    """Add an API key and return it, which is shown only now. Raises Conflict while two are alive."""
    key = f"mi_{partner_id}_{new_secret()}"
    with transaction():
        _lock(partner_id)
        if len(queries.living_secrets(partner_id, (SecretKind.KEY,))) >= MAX_ALIVE:
            raise Conflict(f"Partner {partner_id} has {MAX_ALIVE} keys already: revoke one first.")
        _enter(partner_id, SecretKind.KEY, digest=digest_of(key), may_see_token=may_see_token)
    return key


def revoke_key(partner_id: int, number: int) -> None:
    """End an API key at once. Raises NotFound when the partner has no living one of that number."""
    with transaction():
        _lock(partner_id)
        keys = {key.id: key for key in queries.living_secrets(partner_id, (SecretKind.KEY,))}
        if number not in keys:
            raise NotFound(f"Partner {partner_id} has no living key {number}.")
        keys[number].revoked_at = utc_now()


def turn_hmac_on(partner_id: int, *, takes_short: bool = False, secret: str | None = None) -> str:
    """Let a partner sign its requests, and return the secret that it signs with, which is shown only now.

    A second time adds another secret; the one before it goes on working until the next time.
    takes_short: the original's signature (MD5, 60 bits) is taken beside the whole one.
    secret: one that the partner has already, in base64.
    Raises Invalid when it is none.
    """
    secret = secret or signatures.new_secret()
    if len(secret) > 500 or signatures.decoded(secret) is None:
        least = signatures.MIN_SECRET_BYTES
        raise Invalid({"secret": [f"The secret must be base64 of at least {least} bytes."]})
    with transaction():
        _lock(partner_id)
        _end_all_but_newest(partner_id, _HMAC_KINDS)
        _enter(partner_id, SecretKind.HMAC if takes_short else SecretKind.HMAC_FULL, hmac_secret=secret)
    return secret


def turn_hmac_off(partner_id: int) -> None:
    """Take no signature of a partner any more; its secrets for them end."""
    with transaction():
        _lock(partner_id)
        for secret in queries.living_secrets(partner_id, _HMAC_KINDS):
            secret.revoked_at = utc_now()


def get(partner_id: int) -> PartnerView:
    """Return a partner. Raises NotFound for an unknown one."""
    with reading():
        partner = db.session.get(Partner, partner_id)
        if partner is None:
            raise _unknown(partner_id)
        return view_of(partner)


def list_all() -> Sequence[PartnerView]:
    """Return all partners, by number."""
    with reading():
        return [view_of(partner) for partner in queries.all_partners()]


def secrets_of(partner_id: int) -> Sequence[SecretView]:
    """Return what opens a partner's door at present, oldest first."""
    with reading():
        living = queries.living_secrets(partner_id, tuple(SecretKind))
        return [SecretView(s.id, s.kind, s.may_see_token, s.created_at) for s in living]


def exists(partner_id: int) -> bool:
    """Tell whether there is a partner of that number."""
    with reading():
        return db.session.get(Partner, partner_id) is not None


def view_of(partner: Partner | Row[Any], *, may_see_token: bool = False) -> PartnerView:
    """Return a row as a view, in the caller's transaction."""
    return PartnerView(
        partner.id,
        partner.name,
        partner.market,
        partner.sms_originator,
        contract_mode=partner.contract_mode,
        request_limit=partner.request_limit,
        language=partner.language,
        sms_text=partner.sms_text,
        sms_limit=partner.sms_limit,
        is_suspended=partner.suspended_at is not None,
        texts_paused_at=partner.texts_paused_at,
        may_see_token=may_see_token,
    )


def digest_of(secret: str) -> bytes:
    """Return what is kept of a secret. It has 256 random bits: nothing slower protects it better."""
    return sha256(secret.encode("utf-8", "replace")).digest()


# term -> (as it is called in errors, whether a value is right, what is said of a wrong one)
_RULES: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "name": ("name", lambda v: 1 <= len(v) <= 100 and v.isprintable(), "1 to 100 printable characters"),
    "market": ("market", MARKET_ZONES.__contains__, f"one of {', '.join(MARKET_ZONES)}"),
    "sms_originator": ("originator", is_originator, "a short number, a name of 2 to 11 characters, or a number with +"),
    "contract_mode": ("contractMode", list(ContractMode).__contains__, f"one of {', '.join(ContractMode)}"),
    "request_limit": ("requestLimit", lambda v: 1 <= v <= MAX_REQUEST_LIMIT, f"1 to {MAX_REQUEST_LIMIT} a minute"),
    "language": ("language", lambda v: v == "" or v in list(Language), f"one of {', '.join(Language)}"),
    "sms_text": ("smsText", lambda v: len(v) <= _MAX_TEXT, f"at most {_MAX_TEXT} characters"),
    "sms_limit": ("smsLimit", lambda v: AS_SET <= v <= MAX_SMS_LIMIT, f"0 to {MAX_SMS_LIMIT} a day, or {AS_SET}"),
}


def _check(terms: Terms) -> None:
    wrong = {
        called: [f"{called} must be {wanted}."]
        for term, (called, is_right, wanted) in _RULES.items()
        if (value := getattr(terms, term)) is not None and not is_right(value)
    }
    if wrong:
        raise Invalid(wrong)


def _set(partner: Partner, terms: Terms) -> None:
    for name, value in vars(terms).items():
        if value is not None:
            setattr(partner, name, None if value in ("", AS_SET) else value)


def _lock(partner_id: int) -> Partner:
    partner = db.session.get(Partner, partner_id, with_for_update=True)
    if partner is None:
        raise _unknown(partner_id)
    return partner


def _unknown(partner_id: int) -> NotFound:
    return NotFound(f"There is no partner {partner_id}.")


def _end_all_but_newest(partner_id: int, kinds: Collection[SecretKind]) -> None:
    for old in queries.living_secrets(partner_id, kinds)[: 1 - MAX_ALIVE]:
        old.revoked_at = utc_now()


def _enter(partner_id: int, kind: SecretKind, **what: object) -> None:
    db.session.add(PartnerSecret(partner_id=partner_id, kind=kind, created_at=utc_now(), **what))
