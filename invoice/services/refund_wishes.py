"""How a partner's wishes for refunds enter the books: each finds the refund that it asked for before, or a new one."""

from __future__ import annotations

import logging
from datetime import timedelta
from hashlib import sha256

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, InvoiceError, ProviderUnavailable
from invoice.lifecycle import RefundStatus
from invoice.services import refunds
from invoice.services.entries import Wish
from invoice.services.operations import Claim
from invoice.services.outcomes import Outcome, Standing
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Refund

logger = logging.getLogger(__name__)

# As long as an Idempotency-Key is remembered: nobody asks once more for something older.
_ASKED_AGAIN_WITHIN = timedelta(days=30)


def mark_of(key: str | None, number: int, wish: Wish) -> str:
    """Return what tells one wish for a refund of a charge from another: without a key, its amount.

    Source: the original module, whose key for a refund was agreement, charge and amount.
    """
    return sha256(f"{key}|{number}".encode()).hexdigest() if key else str(wish.amount)


def enter(charge_id: int, wish: Wish, mark: str) -> int | Outcome | InvoiceError:
    """Write a refund down in the caller's transaction; return its id, or how the one stands that was asked for before.

    An error in its place: no such refund is possible now.
    """
    subscription, charge = queries.lock_charge(charge_id)
    known = queries.refund_marked(charge.id, mark) or _lost(charge.id, wish.amount, mark)
    if known is not None:
        return _known(wish, known)
    try:
        return refunds.ask(subscription, charge, wish.amount, wish.description or subscription.name, mark=mark)
    except (Conflict, Invalid, ProviderUnavailable) as error:
        return _in_words(error)


def _lost(charge_id: int, amount: int, mark: str) -> Refund | None:
    """Return a refund of that amount whose request was lost not long ago; it is this request's from now on."""
    found = queries.refund_marked(charge_id, refunds.lost_mark(amount))
    if found is None or utc_now() - found.created_at > _ASKED_AGAIN_WITHIN:
        return None
    logger.warning("Refund %s was read back after a restore: a request for as much is taken for its own.", found.id)
    found.mark = mark
    return found


def withdraw(claim: Claim) -> None:
    """Take a refund that was not sent out of the books."""
    db.session.delete(db.session.get_one(Refund, claim.subject_id))


def _known(wish: Wish, refund: Refund) -> Outcome:
    """Return how a refund stands that was asked for before."""
    if refund.status == RefundStatus.DONE:
        return Outcome(wish.charge_id, Standing.DONE)
    if queries.is_waiting(refunds.REFUND, refund.id):
        return Outcome(wish.charge_id, Standing.ACCEPTED)
    # Whoever is sending it now may yet take it back.
    return Outcome(wish.charge_id, Standing.UNKNOWN, Conflict("Vipps has not answered yet"))


def _in_words(error: InvoiceError) -> InvoiceError:
    """Return an error whose message says all: what is wrong with a field stands beside it otherwise."""
    if not isinstance(error, Invalid) or not error.errors:
        return error
    return Invalid(message=" ".join(text for texts in error.errors.values() for text in texts))
