"""Money on its way back.

No unique name fences a refund at the provider. So one at a time on each charge, with the provider's sum before it
written down: whether ours has happened is read from that sum, never guessed.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from invoice.clock import utc_now
from invoice.errors import ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChargeStatus, RefundStatus, SubscriptionStatus
from invoice.providers.base import PaymentProvider
from invoice.services import outbox
from invoice.services.operations import Claim, Operations, stage
from invoice.store.db import db, reading
from invoice.store.models import Agreement, Charge, Refund, Subscription

logger = logging.getLogger(__name__)

REFUND = "REFUND"
# How long the provider surely remembers an idempotency key. Source: observed for 24 h 19 min in apitest, August 2026.
_KEY_LIFE = timedelta(hours=24)
_ENDING = frozenset({SubscriptionStatus.CANCELLING, SubscriptionStatus.CANCELLED})
_PAID = frozenset({ChargeStatus.CHARGED, ChargeStatus.PARTIALLY_REFUNDED})


def give_back_if_due(subscription: Subscription, charge: Charge) -> None:
    """Refund in full what should never have been taken: under a surplus agreement, or after a cancel was accepted."""
    if charge.status not in _PAID or not (charge.is_surplus or _is_late(subscription, charge)):
        return
    left = charge.captured - charge.refunded
    if left > 0 and not _is_under_way(charge):
        reason = "surplus agreement" if charge.is_surplus else "captured after the cancel"
        request(subscription, charge, left, reason)


def request(subscription: Subscription, charge: Charge, amount: int, reason: str) -> None:
    """Write a refund down; it is sent from now on. The caller holds the lock and knows that `amount` is left."""
    refund = Refund(
        charge_id=charge.id,
        amount=amount,
        reason=reason,
        status=RefundStatus.REQUESTED,
        refunded_before=charge.refunded,
        created_at=utc_now(),
    )
    db.session.add(refund)
    db.session.flush()
    name = f"{charge.name}-r{refund.id}"
    stage(kind=REFUND, subject_id=refund.id, subscription_id=subscription.id, name=name, request=str(amount))


def _is_late(subscription: Subscription, charge: Charge) -> bool:
    cancelled_at = subscription.cancel_requested_at
    return (
        subscription.status in _ENDING
        and cancelled_at is not None
        and charge.captured_at is not None
        and charge.captured_at > cancelled_at
    )


def _is_under_way(charge: Charge) -> bool:
    """Tell whether a refund of this charge waits, or was refused and now waits for an operator."""
    undone = Refund.status.in_([RefundStatus.REQUESTED, RefundStatus.FAILED])
    found = db.select(Refund.id).where(Refund.charge_id == charge.id, undone).limit(1)
    return db.session.scalar(found) is not None


class Refunds:
    """Sends refunds; a handler of operations."""

    def __init__(self, payments: PaymentProvider, operations: Operations) -> None:
        self._payments = payments
        operations.handle(REFUND, self)

    def call(self, claim: Claim) -> None:
        """Send it unless the provider's sum says that it has happened; believe only what reads back."""
        with reading():
            refund = db.session.get_one(Refund, claim.subject_id)
            charge = db.session.get_one(Charge, refund.charge_id)
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            name, agreement_id = charge.name, str(agreement.provider_agreement_id)
            amount, reason, goal = refund.amount, refund.reason, refund.refunded_before + refund.amount
            is_whole = goal == charge.captured
        if claim.in_doubt:
            if self._refunded(agreement_id, name) >= goal:
                return
            # All that is left cannot go back twice: Vipps gives back no more than it took. A part could.
            if not is_whole and utc_now() - claim.first_sent_at > _KEY_LIFE:
                logger.error("Refund %s is unknown for a day: an operator decides.", claim.name)
                raise ProviderUncertain("the key may be forgotten, so this refund is not sent again")
        refused = None
        try:
            body = self._payments.refund_request(amount, reason)
            self._payments.refund_charge(agreement_id, name, body, key=claim.key)
        except ProviderRefused as refusal:
            refused = refusal  # perhaps because an earlier try has done it
        if self._refunded(agreement_id, name) < goal:
            raise refused or ProviderUncertain("the refund was accepted and does not show yet")

    def _refunded(self, agreement_id: str, name: str) -> int:
        """Return the provider's sum. A look that fails says nothing of the refund: it leaves it in doubt."""
        try:
            view = self._payments.find_charge(agreement_id, name)
        except ProviderError as error:
            raise ProviderUncertain(error.message) from error
        return view.refunded if view else 0

    def settle(self, claim: Claim, result: None) -> None:  # noqa: ARG002 - a handler's signature
        """The money is back; the charge is looked at and moves by itself."""
        refund = db.session.get_one(Refund, claim.subject_id)
        refund.status, refund.settled_at = RefundStatus.DONE, utc_now()
        charge = db.session.get_one(Charge, refund.charge_id)
        # Counted at once, so that a look that began before it cannot ask for another.
        charge.refunded = max(charge.refunded, refund.refunded_before + refund.amount)
        charge.check_at = utc_now()

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The provider will not: a person must."""
        refund = db.session.get_one(Refund, claim.subject_id)
        refund.status, refund.settled_at = RefundStatus.FAILED, utc_now()
        charge = db.session.get_one(Charge, refund.charge_id)
        logger.error("Refund of %s was refused: %s", charge.name, refusal.message)
        subscription = db.session.get_one(Subscription, charge.subscription_id)
        outbox.record(subscription, "refund.failed", charge=charge.name, reason=refusal.message)
