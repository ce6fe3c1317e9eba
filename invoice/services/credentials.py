"""Who is asking: the proof that came with a request, checked.

An unknown partner, one without that kind of secret, a suspended one and a wrong proof get the same answer after the
same work: one question to the database, and as many comparisons as a partner with all its secrets would cost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from hmac import compare_digest
from secrets import token_bytes
from typing import Any

from sqlalchemy import Row

from invoice import signatures
from invoice.clock import utc_now
from invoice.errors import Unauthenticated
from invoice.lifecycle import SecretKind
from invoice.services import throttle
from invoice.services.partners import MAX_ALIVE, MAX_ID, PartnerView, digest_of, view_of
from invoice.signatures import Sent, Signed
from invoice.store import queries
from invoice.store.db import decoy, reading, transaction
from invoice.store.models import UsedNonce

logger = logging.getLogger(__name__)

PASSWORDS = (SecretKind.PASSWORD, SecretKind.KEY)
KEYS = (SecretKind.KEY,)
_SIGNERS = {
    signatures.SHORT: (SecretKind.HMAC,),
    signatures.FULL: (SecretKind.HMAC, SecretKind.HMAC_FULL),
}
# A timestamp may be ten minutes ahead, and is taken until ten minutes after: that long a nonce must be known.
_NONCE_KEPT = timedelta(seconds=2 * signatures.WINDOW_S + 60)
_NOBODY = token_bytes(32)


@dataclass(frozen=True)
class Password:
    """A partner and what it says to be its secret, as one of these kinds."""

    partner_id: int
    secret: str = field(repr=False)
    kinds: tuple[SecretKind, ...] = PASSWORDS


@dataclass(frozen=True)
class Signature:
    """A signed request. signed: None when the header cannot be read.  hosts: all that we are published under."""

    scheme: str
    signed: Signed | None
    sent: Sent = field(repr=False)
    hosts: tuple[str, ...]

    @property
    def partner_id(self) -> int:
        return self.signed.partner_id if self.signed else 0


Proof = Password | Signature


def admit(proof: Proof, address: str) -> PartnerView:
    """Return the partner who sent a request. address: of the client.

    The right proof is let in however often others at its address have failed: nobody can lock a partner out.
    Raises Unauthenticated when the proof is none, Limited when this address has failed too often besides.
    """
    try:
        partner = verify(proof)
    except Unauthenticated as refusal:
        partner_id = _number(proof.partner_id)
        throttle.look(partner_id, address)
        throttle.count_failure(partner_id, address)
        logger.warning("Refused: partner %s from %s: %s", partner_id, address, refusal.message)
        raise
    how = "its password or key" if isinstance(proof, Password) else proof.scheme
    logger.info("Admitted: partner %s from %s by %s.", partner.id, address, how)
    return partner


def verify(proof: Proof) -> PartnerView:
    """Return the partner whose proof this is, counting nothing. Raises Unauthenticated; a signature is used up."""
    return _verify_password(proof) if isinstance(proof, Password) else _verify_signature(proof)


def _verify_password(given: Password) -> PartnerView:
    digest = digest_of(given.secret)
    with reading():
        rows = queries.door_of(_number(given.partner_id), given.kinds)
    kept = [row.digest or _NOBODY for row in rows]
    kept += [_NOBODY] * (len(given.kinds) * MAX_ALIVE - len(kept))
    fits = [compare_digest(digest, one) for one in kept]
    return _let_in([row for row, is_it in zip(rows, fits, strict=False) if is_it], Unauthenticated())


def _verify_signature(given: Signature) -> PartnerView:
    wrong = Unauthenticated("Invalid HMAC")
    if given.signed is None:
        raise wrong
    if not signatures.is_recent(given.signed, utc_now()):
        raise Unauthenticated("Hmac timestamp clock-drift too high")
    candidates = signatures.messages(given.scheme, given.signed, given.sent, given.hosts)
    with reading():
        rows = queries.door_of(_number(given.partner_id), _SIGNERS[given.scheme])
    secrets = [row.hmac_secret or decoy() for row in rows]
    secrets += [decoy() for _ in range(MAX_ALIVE - len(secrets))]
    keys = [signatures.decoded(secret) or _NOBODY for secret in secrets]
    fits = [signatures.is_signature(given.scheme, given.signed, key, candidates) for key in keys]
    partner = _let_in([row for row, is_it in zip(rows, fits, strict=False) if is_it], wrong)
    with transaction():
        used = {"partner_id": partner.id, "nonce": given.signed.nonce, "used_at": utc_now()}
        if not queries.insert_ignoring(UsedNonce, [used]):
            raise wrong
    return partner


def _let_in(fitting: list[Row[Any]], wrong: Unauthenticated) -> PartnerView:
    if not fitting or fitting[0].suspended_at is not None:
        raise wrong
    return view_of(fitting[0], may_see_token=any(row.may_see_token for row in fitting))


def _number(partner_id: int) -> int:
    """Return a number that the database takes; nobody has 0."""
    return partner_id if partner_id <= MAX_ID else 0


def forget_nonces() -> int:
    """Drop the nonces whose requests are too old to be taken anyway; return how many there were."""
    with transaction():
        return queries.forget_nonces(utc_now() - _NONCE_KEPT)
