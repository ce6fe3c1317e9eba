"""A charge that must not be taken: out of the books while it has not left the house, called off at Vipps after that."""

from __future__ import annotations

import logging

from invoice.clock import utc_now
from invoice.errors import Conflict, ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChargeStatus
from invoice.names import idempotency_key
from invoice.providers.base import ChargeView, PaymentProvider
from invoice.services import books, outbox
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Subscription

logger = logging.getLogger(__name__)

CANCEL = "CANCEL"
_AT_PROVIDER = frozenset({ChargeStatus.SUBMITTING, ChargeStatus.SUBMITTED, ChargeStatus.RESERVED})
_OUT = frozenset({ChargeStatus.VOID, ChargeStatus.CANCELLED})
# What Vipps calls off; one that is on its way there may still become one of these.
_CANCELLABLE = frozenset({ChargeStatus.SUBMITTED, ChargeStatus.RESERVED})


def request_cancel(subscription: Subscription, charge: Charge) -> None:
    """Have a charge not taken. The caller holds the subscription's lock. Raises Conflict when it is too late."""
    if charge.cancel_requested_at is not None and charge.status in _OUT | _AT_PROVIDER:
        return
    if charge.status == ChargeStatus.PLANNED:
        # One that was sent before may still turn up at Vipps: it is looked for.
        charge.status, charge.check_at = ChargeStatus.VOID, utc_now() if charge.sends else None
    elif charge.status in _AT_PROVIDER:
        _stage(subscription, charge)
    else:
        raise Conflict(f"Charge {charge.name} cannot be cancelled: it is {charge.status}.")
    charge.cancel_requested_at = utc_now()


def request_anew(subscription: Subscription, charge: Charge) -> None:
    """Call off what was taken out of the books and turns up at Vipps all the same. The caller holds the lock."""
    is_unwanted = charge.cancel_requested_at is not None and charge.status in _CANCELLABLE
    if is_unwanted and not queries.is_open_for(charge.id, CANCEL):
        _stage(subscription, charge)


def _stage(subscription: Subscription, charge: Charge) -> None:
    account = db.session.get_one(Agreement, charge.agreement_id).account
    name = f"{charge.name}-x{queries.times_staged(charge.id, CANCEL)}"
    stage(Act(CANCEL, charge.id, subscription.id, name, account=account))


class Cancels:
    """Calls charges off; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(CANCEL, self)

    def cancel(self, charge_id: int) -> None:
        """Have a charge not taken, or what is set aside let go of. A second time changes nothing.

        Raises Conflict when the money has been taken, or the charge has come to another end.
        """
        with transaction():
            charge = db.session.get_one(Charge, charge_id)
            subscription = queries.lock_subscription(charge.subscription_id)
            # Its batch may have taken it away since it was read, without the subscription's lock.
            db.session.refresh(charge, with_for_update=True)
            request_cancel(subscription, charge)

    def call(self, claim: Claim) -> ChargeView | None:
        """Call it off unless it has come to an end. None: it never came to Vipps, or is to be taken after all.

        Raises ProviderUncertain until Vipps shows an end.
        """
        with reading():
            charge = db.session.get_one(Charge, claim.subject_id)
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            name, agreement_id = charge.name, str(agreement.provider_agreement_id)
            is_wanted = charge.cancel_requested_at is None  # its subscription is kept
            if is_wanted or charge.status == ChargeStatus.VOID:
                return None
        payments = self._accounts.of(str(claim.account))
        view = _look(payments, agreement_id, name)
        if view is not None and view.status in _CANCELLABLE:
            self._ask(claim, agreement_id, name)
            view = _look(payments, agreement_id, name)
        if view is None or view.status is None or view.status in _CANCELLABLE:
            raise ProviderUncertain("Vipps has not called the charge off yet")
        return view

    def _ask(self, claim: Claim, agreement_id: str, name: str) -> None:
        try:
            # A refusal sticks to its key, and calling off twice is calling off once: each try has a key of its own.
            key = idempotency_key(claim.name, "cancel", str(claim.attempts))
            self._accounts.of(str(claim.account)).cancel_charge(agreement_id, name, key=key)
        except ProviderRefused as refusal:
            # While its batch is worked off Vipps may say no; what it has become is read back.
            logger.info("Vipps would not call off charge %s: %s", name, refusal.message)

    def settle(self, claim: Claim, result: ChargeView | None) -> None:
        """Write down what it came to: called off, or taken before we could."""
        charge = db.session.get_one(Charge, claim.subject_id, with_for_update=True)
        if result is None:
            return
        subscription = db.session.get_one(Subscription, charge.subscription_id)
        books.adopt(subscription, charge, result, bells={})
        if result.captured == result.amount:
            outbox.record(subscription, "charge.cancel_failed", charge=charge.name)

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """Never comes here: `call` turns a refusal into another look. Such a charge is looked at."""
        charge = db.session.get_one(Charge, claim.subject_id)
        charge.check_at = utc_now()
        logger.error("Charge %s cannot be called off: %s", charge.name, refusal.message)


def _look(payments: PaymentProvider, agreement_id: str, name: str) -> ChargeView | None:
    """Return how the charge stands. A look that is refused says nothing of the charge: it is called off later."""
    try:
        return payments.find_charge(agreement_id, name)
    except ProviderError as error:
        raise ProviderUncertain(error.message) from error
