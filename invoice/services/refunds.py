"""Money on its way back.

No unique name fences a refund at the provider. So one at a time on each charge, with the provider's sum before it
written down: whether ours has happened is read from that sum, never guessed.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChargeStatus, RefundStatus, SubscriptionStatus
from invoice.money import MINIMUM
from invoice.providers.base import PaymentProvider
from invoice.services import outbox
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Refund, Subscription

logger = logging.getLogger(__name__)

REFUND = "REFUND"
# How long the provider surely remembers an idempotency key. Source: observed for 24 h 19 min in apitest, August 2026.
_KEY_LIFE = timedelta(hours=24)
# How long after its capture money can go back. Source: Vipps Recurring v3 (agent-toolkit, 2026-08-21).
_LIFE = timedelta(days=365)
_ENDING = frozenset({SubscriptionStatus.CANCELLING, SubscriptionStatus.CANCELLED})
_PAID = frozenset({ChargeStatus.CHARGED, ChargeStatus.PARTIALLY_REFUNDED})
_REFUNDABLE = _PAID | {ChargeStatus.RESERVED}  # of a reservation, what was captured already


def give_back_if_due(subscription: Subscription, charge: Charge) -> None:
    """Refund in full what should never have been taken: under a surplus agreement, or after a cancel was accepted."""
    if charge.status not in _PAID or not (charge.is_surplus or _is_late(subscription, charge)):
        return
    left = charge.captured - charge.refunded
    if left > 0 and not _is_under_way(charge):
        reason = "surplus agreement" if charge.is_surplus else "captured after the cancel"
        request(subscription, charge, left, reason)


def request(subscription: Subscription, charge: Charge, amount: int, reason: str) -> int:
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
    agreement = db.session.get_one(Agreement, charge.agreement_id)
    stage(Act(REFUND, refund.id, subscription.id, name, account=agreement.account, request=str(amount)))
    return refund.id


def _check_refundable(charge: Charge, left: int) -> None:
    """Raise Conflict, in words for a person, when no money of this charge can go back now."""
    if charge.status not in _REFUNDABLE or left <= 0:
        raise Conflict(f"Charge {charge.name} has nothing to give back: it is {charge.status}.")
    if charge.captured_at is None or utc_now() - charge.captured_at > _LIFE:
        raise Conflict(f"Charge {charge.name} was captured more than {_LIFE.days} days ago.")
    is_open = (Refund.charge_id == charge.id, Refund.status == RefundStatus.REQUESTED)
    if db.session.scalar(db.select(Refund.id).where(*is_open)) is not None:
        raise Conflict(f"Charge {charge.name} has a refund under way.")


def _is_late(subscription: Subscription, charge: Charge) -> bool:
    cancelled_at = subscription.cancel_requested_at
    return (
        subscription.status in _ENDING
        and cancelled_at is not None
        and charge.captured_at is not None
        and charge.captured_at > cancelled_at
        and not charge.is_reserved  # set aside before, and captured because we said so
    )


def _is_under_way(charge: Charge) -> bool:
    """Tell whether a refund of this charge waits, or was refused and now waits for an operator."""
    undone = Refund.status.in_([RefundStatus.REQUESTED, RefundStatus.FAILED])
    found = db.select(Refund.id).where(Refund.charge_id == charge.id, undone).limit(1)
    return db.session.scalar(found) is not None


class Refunds:
    """Sends refunds; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(REFUND, self)

    def refund(self, charge_id: int, amount: int | None, reason: str) -> int:
        """Ask for money to go back, all that is left or a part of it; return the refund's id.

        amount: minor units; None: all that is left.
        Raises Invalid for an amount that is not there, Conflict when nothing can go back now.
        """
        with transaction():
            charge = db.session.get_one(Charge, charge_id)
            subscription = queries.lock_subscription(charge.subscription_id)
            db.session.refresh(charge)
            left = charge.captured - charge.refunded
            _check_refundable(charge, left)
            wanted = left if amount is None else amount
            least = MINIMUM[charge.currency]
            if not least <= wanted <= left:
                raise Invalid({"amount": [f"amount must be from {least} to {left}, which is what is left."]})
            return request(subscription, charge, wanted, reason)

    def call(self, claim: Claim) -> None:
        """Send it unless the provider's sum says that it has happened; believe only what reads back."""
        with reading():
            refund = db.session.get_one(Refund, claim.subject_id)
            charge = db.session.get_one(Charge, refund.charge_id)
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            name, agreement_id = charge.name, str(agreement.provider_agreement_id)
            amount, reason, goal = refund.amount, refund.reason, refund.refunded_before + refund.amount
            captured, is_whole = charge.captured, goal == charge.captured
        payments = self._accounts.of(str(claim.account))
        if claim.attempts == 1:
            goal = _count_from(claim, _refunded(payments, agreement_id, name), amount, captured)
        else:
            if _refunded(payments, agreement_id, name) >= goal:
                return
            # All that is left cannot go back twice: Vipps gives back no more than it took. A part could.
            if not is_whole and utc_now() - claim.first_sent_at > _KEY_LIFE:
                logger.error("Refund %s is unknown for a day: an operator decides.", claim.name)
                raise ProviderUncertain("the key may be forgotten, so this refund is not sent again")
        refused = None
        try:
            body = payments.refund_request(amount, reason)
            payments.refund_charge(agreement_id, name, body, key=claim.key)
        except ProviderRefused as refusal:
            if claim.attempts == 1:
                raise
            refused = refusal  # perhaps because an earlier try has done it
        if _refunded(payments, agreement_id, name) < goal:
            raise refused or ProviderUncertain("the refund was accepted and does not show yet")

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


def _count_from(claim: Claim, before: int, amount: int, captured: int) -> int:
    """Write down the provider's sum before the refund is sent for the first time; return what it must come to.

    Somebody may have given money back in the provider's portal since this refund was asked for.
    """
    if before + amount > captured:
        raise ProviderRefused("less is left at the provider than was asked for")
    with transaction():
        db.session.get_one(Refund, claim.subject_id).refunded_before = before
    return before + amount


def _refunded(payments: PaymentProvider, agreement_id: str, name: str) -> int:
    """Return the provider's sum. A look that fails says nothing of the refund: it leaves it in doubt."""
    try:
        view = payments.find_charge(agreement_id, name)
    except ProviderError as error:
        raise ProviderUncertain(error.message) from error
    return view.refunded if view else 0
