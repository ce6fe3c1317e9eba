"""Money that is set aside: captured in full or in parts, and its deadline watched.

No unique name fences a capture at the provider. So one at a time on each charge, with the sum that it must come to
written into the act: whether it has happened is read from the provider's sum, never guessed.
"""

from __future__ import annotations

import json
import logging

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChargeStatus
from invoice.money import MINIMUM
from invoice.providers.base import PaymentProvider
from invoice.services import outbox
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Subscription

logger = logging.getLogger(__name__)

CAPTURE = "CAPTURE"


class Captures:
    """Captures reservations; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(CAPTURE, self)

    def capture(self, charge_id: int, amount: int | None) -> None:
        """Ask for reserved money to be taken, all that is left or a part of it.

        amount: minor units; None: all that is left.
        Raises Invalid for an amount that is not there, Conflict when nothing can be captured now.
        """
        with transaction():
            charge = db.session.get_one(Charge, charge_id)
            subscription = queries.lock_subscription(charge.subscription_id)
            db.session.refresh(charge)
            left = charge.amount - charge.captured
            _check_capturable(subscription, charge)
            wanted = left if amount is None else amount
            least = min(MINIMUM[charge.currency], left)
            if not least <= wanted <= left:
                raise Invalid({"amount": [f"amount must be from {least} to {left}, which is what is left."]})
            account = db.session.get_one(Agreement, charge.agreement_id).account
            request = json.dumps({"amount": wanted, "goal": charge.captured + wanted})
            # Numbered: a refusal sticks to its key at Vipps, so one that is asked for again has another.
            name = f"{charge.name}-c{queries.times_staged(charge.id, CAPTURE)}"
            stage(Act(CAPTURE, charge.id, subscription.id, name, account=account, request=request))

    def call(self, claim: Claim) -> None:
        """Send it unless the provider's sum says that it has happened; believe only what reads back."""
        with reading():
            charge = db.session.get_one(Charge, claim.subject_id)
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            name, agreement_id = charge.name, str(agreement.provider_agreement_id)
        wish = json.loads(claim.request)
        payments = self._accounts.of(str(claim.account))
        if claim.in_doubt and _captured(payments, agreement_id, name) >= wish["goal"]:
            return
        refused = None
        try:
            payments.capture_charge(agreement_id, name, payments.capture_request(wish["amount"]), key=claim.key)
        except ProviderRefused as refusal:
            refused = refusal  # perhaps because it has been captured: by an earlier try, or in the portal
        if _captured(payments, agreement_id, name) < wish["goal"]:
            raise refused or ProviderUncertain("the capture was accepted and does not show yet")

    def settle(self, claim: Claim, result: None) -> None:  # noqa: ARG002 - a handler's signature
        """The money is taken; the charge is looked at and moves by itself."""
        db.session.get_one(Charge, claim.subject_id).check_at = utc_now()

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The provider will not, the deadline may have passed: the charge is looked at, and a person told."""
        charge = db.session.get_one(Charge, claim.subject_id)
        charge.check_at = utc_now()
        logger.error("Capture of %s was refused: %s", charge.name, refusal.message)
        subscription = db.session.get_one(Subscription, charge.subscription_id)
        outbox.record(subscription, "capture.failed", charge=charge.name, reason=refusal.message)


def _check_capturable(subscription: Subscription, charge: Charge) -> None:
    """Raise Conflict, in words for a person, when nothing of this charge can be captured now."""
    if charge.status != ChargeStatus.RESERVED:
        raise Conflict(f"Charge {charge.name} cannot be captured: it is {charge.status}.")
    if charge.is_surplus or charge.cancel_requested_at is not None:
        raise Conflict(f"Charge {charge.name} is being given back.")
    if subscription.cancel_requested_at is not None:
        raise Conflict(f"Charge {charge.name} cannot be captured: its subscription is cancelled.")
    if charge.capture_by is not None and charge.capture_by <= utc_now():
        raise Conflict(f"Charge {charge.name} should have been captured by {charge.capture_by:%Y-%m-%d}.")
    if queries.is_open_for(charge.id, CAPTURE):
        raise Conflict(f"Charge {charge.name} has a capture under way.")


def _captured(payments: PaymentProvider, agreement_id: str, name: str) -> int:
    """Return the provider's sum. A look that fails says nothing of the capture: it leaves it in doubt."""
    try:
        view = payments.find_charge(agreement_id, name)
    except ProviderError as error:
        raise ProviderUncertain(error.message) from error
    return view.captured if view else 0


def due_warnings() -> list[int]:
    """Return the charges whose deadline comes near."""
    with reading():
        return list(queries.charges_to_warn_of(utc_now(), 200))


def warn(charge_id: int) -> None:
    """Say, once, that a reservation will be let go of unless it is captured."""
    with transaction():
        charge = db.session.get_one(Charge, charge_id)
        subscription = queries.lock_subscription(charge.subscription_id)
        db.session.refresh(charge)
        if charge.warn_at is None:
            return
        charge.warn_at = None
        if charge.status == ChargeStatus.RESERVED and charge.capture_by is not None:
            logger.warning("Charge %s must be captured by %s.", charge.name, charge.capture_by)
            by = charge.capture_by.isoformat()
            outbox.record(subscription, "charge.capture_due", charge=charge.name, by=by)
