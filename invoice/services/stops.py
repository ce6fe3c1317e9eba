"""The end of an agreement: told to Vipps until Vipps says STOPPED, and its charges read back.

A cancel serialises at Vipps: from its commit on nothing is created here, and only what Vipps says makes it done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from invoice.clock import business_date, utc_now
from invoice.errors import ProviderRefused, ProviderUncertain
from invoice.lifecycle import AGREEMENT_MOVES, AgreementStatus, SubscriptionStatus, may_move
from invoice.names import idempotency_key
from invoice.providers.base import AgreementView, ChargeView, PaymentProvider
from invoice.services import books, messages, outbox
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading
from invoice.store.models import Agreement, Charge, Partner, Subscription

logger = logging.getLogger(__name__)

STOP = "STOP"
_OVER = frozenset({AgreementStatus.STOPPED, AgreementStatus.EXPIRED})


@dataclass(frozen=True)
class Stopped:
    """What Vipps says after the end. bells: of the charges, from before it was asked."""

    agreement: AgreementView | None
    charges: list[ChargeView]
    bells: books.Bells = field(default_factory=dict)


def request_stop(subscription: Subscription, agreement: Agreement) -> None:
    """Write down that Vipps must end this agreement. The caller holds the lock."""
    name = f"{subscription.ulid}-s{agreement.attempt}"
    stage(Act(STOP, agreement.id, subscription.id, name, account=agreement.account))


def begin_cancel(subscription: Subscription) -> None:
    """From this commit on nothing is created any more, and Vipps is told. The caller holds the lock."""
    subscription.status = SubscriptionStatus.CANCELLING
    subscription.cancel_requested_at = utc_now()
    queries.void_planned_charges(subscription.id)
    outbox.record(subscription, "subscription.cancelling")
    for agreement in queries.live_agreements(subscription.id):
        # One that is being drafted right now is stopped when its answer is in.
        if agreement.provider_agreement_id is not None:
            request_stop(subscription, agreement)
    finish_if_over(subscription)


def ended(subscription: Subscription, agreement: Agreement) -> None:
    """Vipps says that an attempt is over, and not because a cancel of ours was just confirmed."""
    agreement.check_at = None
    if agreement.is_adopted and subscription.status == SubscriptionStatus.ACTIVE:
        subscription.status, subscription.ended_at = SubscriptionStatus.STOPPED, utc_now()
        queries.void_planned_charges(subscription.id)
        queries.ring_charges(Charge.subscription_id == subscription.id, utc_now())
        outbox.record(subscription, "subscription.stopped")
    elif subscription.status == SubscriptionStatus.PENDING:
        declined = agreement.status == AgreementStatus.STOPPED
        outbox.record(subscription, "consent.declined" if declined else "consent.expired", attempt=agreement.attempt)


def finish_if_over(subscription: Subscription) -> None:
    """Announce a cancel as done when no attempt at consent lives any more, and each that was stopped is read back."""
    is_cancelling = subscription.status == SubscriptionStatus.CANCELLING
    if (
        is_cancelling
        and not queries.live_agreements(subscription.id)
        and not queries.is_under_way(subscription.id, STOP)
    ):
        subscription.status, subscription.ended_at = SubscriptionStatus.CANCELLED, utc_now()
        messages.withdraw(subscription)
        outbox.record(subscription, "subscription.cancelled")


class Stops:
    """Ends agreements; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(STOP, self)

    def call(self, claim: Claim) -> Stopped:
        """Ask for the end unless it has come; raise ProviderUncertain until Vipps says that it has.

        A refusal is no end either: this is tried for ever.
        """
        try:
            return self._stop(claim)
        except ProviderRefused as refusal:
            logger.error("Agreement %s cannot be stopped yet: %s", claim.subject_id, refusal.message)
            raise ProviderUncertain(refusal.message) from refusal

    def _stop(self, claim: Claim) -> Stopped:
        with reading():
            agreement = db.session.get_one(Agreement, claim.subject_id)
            provider_id, wants_initial = agreement.provider_agreement_id, agreement.initial_amount > 0
            status, bells = agreement.status, queries.bells_of(agreement.id)
            is_capturing = queries.has_open_capture(agreement.id)
        if is_capturing:
            raise ProviderUncertain("a capture is under way: the stop would let go of the money")
        if provider_id is None:
            return Stopped(None, [])
        payments = self._accounts.of(str(claim.account))
        view = payments.find_agreement(provider_id)
        if view is None and status in _OVER:
            return Stopped(None, [])  # over, and forgotten at Vipps
        was_accepted = AgreementStatus.ACTIVE in (status, view.status if view else None)
        if view is None or view.status not in _OVER:
            self._ask(payments, claim, provider_id)
            view = payments.find_agreement(provider_id)
        if view is None or view.status not in _OVER:
            raise ProviderUncertain("Vipps has not stopped the agreement yet")
        charges = payments.list_charges(provider_id)
        # Who accepted has paid: the money must be found before it can be given back.
        was_accepted = was_accepted or view.started_at is not None
        if wants_initial and was_accepted and not any(c.is_initial for c in charges):
            raise ProviderUncertain("the initial charge does not show yet")
        return Stopped(view, charges, bells)

    def _ask(self, payments: PaymentProvider, claim: Claim, provider_id: str) -> None:
        # A refusal sticks to its key at Vipps, and stopping twice is stopping once: each try has a key of its own.
        key = idempotency_key(claim.name, "stop", str(claim.attempts))
        try:
            payments.stop_agreement(provider_id, key=key)
        except ProviderRefused as refusal:
            # A draft that waits for its person may not be stoppable; it ends by itself within ten minutes.
            logger.info("Vipps would not stop agreement %s: %s", claim.subject_id, refusal.message)

    def settle(self, claim: Claim, result: Stopped) -> None:
        """Write down the end and every charge as it stands; then, and only then, a cancel is done."""
        agreement = db.session.get_one(Agreement, claim.subject_id)
        subscription = db.session.get_one(Subscription, agreement.subscription_id)
        status = result.agreement.status if result.agreement else None
        if status is not None and may_move(AGREEMENT_MOVES, agreement.status, status):
            agreement.status = status
        agreement.check_at = None
        known = queries.lock_charges_named(agreement.account, [view.name for view in result.charges])
        for view in result.charges:
            charge = known.get(view.name)
            if charge is None and view.is_initial and result.agreement is not None:
                charge = _enter_unseen(subscription, agreement, view)
            if charge is not None:
                books.adopt(subscription, charge, view, bells=result.bells)
            elif subscription.is_scheduled:
                logger.error("Agreement %s holds a charge that stands in no book.", agreement.id)
        finish_if_over(subscription)

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """Never comes here: `call` turns a refusal into another try."""
        raise AssertionError(f"Stop {claim.name} was given up: {refusal.message}")


def _enter_unseen(subscription: Subscription, agreement: Agreement, view: ChargeView) -> Charge:
    """Write down an initial charge that stands in no book; under an agreement that was not adopted it goes back."""
    agreement.initial_name = view.name
    partner = db.session.get_one(Partner, subscription.partner_id)
    return books.enter_initial(
        subscription,
        agreement,
        signed_on=business_date(partner.market, view.captured_at),
        is_surplus=not agreement.is_adopted,
    )
