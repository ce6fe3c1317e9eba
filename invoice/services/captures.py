"""Money that is set aside: captured in full or in parts, and its deadline watched.

No unique name fences a capture at the provider. So one at a time on each charge, with the sum that it must come to
written into the act before it is first sent: whether it has happened is read from the charge's history, which names
keys, or else from the provider's sum, never guessed.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta

from sqlalchemy import update

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChargeStatus
from invoice.money import MINIMUM
from invoice.providers.base import ChargeView, PaymentProvider
from invoice.services import books, brakes, idempotency, outbox
from invoice.services.accounts import Accounts
from invoice.services.idempotency import Attempt
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Operation, Subscription

logger = logging.getLogger(__name__)

CAPTURE = "CAPTURE"
# How long the provider surely remembers an idempotency key. Source: observed for 24 h 19 min in apitest, August 2026.
_KEY_LIFE = timedelta(hours=24)
# What was accepted (202) is done a little later: so long it is only looked for, and not sent again.
_SHOWS_WITHIN = timedelta(minutes=1)


class Captures:
    """Captures reservations; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(CAPTURE, self)

    def capture(self, charge_id: int, amount: int | None, attempt: Attempt | None = None) -> None:
        """Ask for reserved money to be taken, all that is left or a part of it.

        amount: minor units; None: all that is left.  attempt: this very request may have come before.
        Raises Invalid for an amount that is not there, Conflict when nothing can be captured now, ProviderUnavailable
        while the books may be behind.
        """
        with transaction():
            if idempotency.made_by(attempt) is not None:
                return
            brakes.refuse_while_frozen()
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
            request = json.dumps({"amount": wanted})
            # A refusal sticks to its key at Vipps, so one that is asked for again has another name. The same request
            # has the same one, even after a restore.
            number = f"{queries.times_staged(charge.id, CAPTURE)}-{charge.captured}"
            name = f"{charge.name}-c{attempt.tag if attempt else number}"
            stage(Act(CAPTURE, charge.id, subscription.id, name, account=account, request=request))
            idempotency.remember(attempt, charge.id)

    def call(self, claim: Claim) -> ChargeView:
        """Send it unless the provider's sum says that it has happened; believe only what reads back."""
        with reading():
            charge = db.session.get_one(Charge, claim.subject_id)
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            name, agreement_id, whole = charge.name, str(agreement.provider_agreement_id), charge.amount
        wish = json.loads(claim.request)
        payments = self._accounts.of(str(claim.account))
        view = _look(payments, agreement_id, name)
        if view.captured == whole or claim.key in view.captures:
            return view
        goal = wish.get("goal") or _count_from(claim, view.captured, wish["amount"], whole)
        if view.captured >= goal:
            return view
        # All that is left cannot be taken twice: Vipps takes no more than it has set aside. A part could.
        since = utc_now() - claim.first_sent_at
        if "goal" in wish and goal < whole and since > _KEY_LIFE:
            raise ProviderRefused("it does not show after a day; what was captured must be looked at before the next")
        if claim.in_doubt and goal < whole and since < _SHOWS_WITHIN:
            raise ProviderUncertain("it may have been accepted, and does not show yet")
        refused = None
        try:
            payments.capture_charge(agreement_id, name, payments.capture_request(wish["amount"]), key=claim.key)
        except ProviderRefused as refusal:
            refused = refusal  # perhaps because it has been captured: by an earlier try, or in the portal
        view = _look(payments, agreement_id, name)
        if view.captured < goal and claim.key not in view.captures:
            raise refused or ProviderUncertain("the capture was accepted and does not show yet")
        return view

    def settle(self, claim: Claim, result: ChargeView) -> None:
        """The money is taken: written down at once, so that the next part is counted from it, and looked at again."""
        charge = db.session.get_one(Charge, claim.subject_id, with_for_update=True)
        books.adopt(db.session.get_one(Subscription, charge.subscription_id), charge, result, bells={})

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The provider will not, the deadline may have passed: the charge is looked at, and a person told."""
        charge = db.session.get_one(Charge, claim.subject_id)
        charge.check_at = utc_now()
        logger.error("Capture of %s was refused: %s", charge.name, refusal.message)
        subscription = db.session.get_one(Subscription, charge.subscription_id)
        outbox.record(subscription, "capture.failed", charge=charge.name, reason=refusal.message)


def _check_capturable(subscription: Subscription, charge: Charge) -> None:
    """Raise Conflict, in words for a person, when nothing of this charge can be captured now."""
    if charge.status != ChargeStatus.RESERVED or charge.captured == charge.amount:
        raise Conflict(f"Charge {charge.name} cannot be captured: it is {charge.status}.")
    if charge.is_surplus or charge.cancel_requested_at is not None:
        raise Conflict(f"Charge {charge.name} is being given back.")
    if subscription.cancel_requested_at is not None:
        raise Conflict(f"Charge {charge.name} cannot be captured: its subscription is cancelled.")
    if charge.capture_by is not None and charge.capture_by <= utc_now():
        raise Conflict(f"Charge {charge.name} should have been captured by {charge.capture_by:%Y-%m-%d}.")
    if queries.is_open_for(charge.id, CAPTURE):
        raise Conflict(f"Charge {charge.name} has a capture under way.")


def _count_from(claim: Claim, before: int, amount: int, whole: int) -> int:
    """Write down what the provider's sum must come to before it is sent for the first time; return that.

    Somebody may have captured in the provider's portal since this was asked for. Only one worker's count holds.
    """
    if before + amount > whole:
        raise ProviderRefused("less is left at the provider than was asked for")
    counted = json.dumps({"amount": amount, "goal": before + amount})
    uncounted = (Operation.id == claim.id, Operation.request == claim.request)
    with transaction():
        statement = update(Operation).where(*uncounted).values(request=counted)
        if not db.session.execute(statement).rowcount:  # type: ignore[attr-defined]
            raise ProviderUncertain("another worker has taken this over")
    return before + amount


def _look(payments: PaymentProvider, agreement_id: str, name: str) -> ChargeView:
    """Return how the charge stands. A look that fails says nothing of the capture: it leaves it in doubt."""
    try:
        view = payments.find_charge(agreement_id, name)
    except ProviderError as error:
        raise ProviderUncertain(error.message) from error
    if view is None:
        raise ProviderUncertain("the charge does not show")
    return view


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
