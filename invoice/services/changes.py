"""A new price or new words for a subscription: first shown in the app, then charged.

Nothing is charged at a price that the person cannot see. So the change goes to Vipps first, is read back, and counts
from the first period behind all that have been submitted then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChangeStatus, SubscriptionStatus
from invoice.money import MAXIMUM, MINIMUM
from invoice.providers.base import FixedPrice, Terms
from invoice.services import outbox
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Change, Subscription

logger = logging.getLogger(__name__)

CHANGE = "CHANGE"
# A rise above this share reaches the app only after a notice; above so many prices it needs a new consent.
_NOTICE_ABOVE, NOTICE = 0.20, timedelta(days=30)
_NEW_CONSENT_ABOVE = 5


@dataclass(frozen=True)
class NewTerms:
    """What is to hold from now on; None leaves a thing as it is. amount: minor units."""

    amount: int | None = None
    name: str | None = None
    description: str | None = None


class Changes:
    """Changes what is agreed; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(CHANGE, self)

    def change(self, subscription_id: int, terms: NewTerms) -> datetime:
        """Ask for a change and return when it goes to the app: now, or after the notice that a large rise needs.

        One that was asked for before and has not gone out yet is replaced.
        Raises Invalid for a wrong amount or no change at all, Conflict when nothing can be changed now.
        """
        if terms == NewTerms():
            raise Invalid(message="There is nothing to change.")
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            if subscription.status != SubscriptionStatus.ACTIVE:
                raise Conflict("Only an active subscription can be changed.")
            _check_amount(subscription, terms.amount)
            self._replace_waiting(subscription)
            agreement = queries.adopted_agreement(subscription.id)
            assert agreement is not None  # an active subscription stands on one
            return self._enter(subscription, agreement, terms)

    def _replace_waiting(self, subscription: Subscription) -> None:
        waiting = queries.open_change(subscription.id)
        if waiting is None:
            return
        if not queries.void_unsent(waiting.id, CHANGE):
            raise Conflict("Another change is on its way to the app; ask again in a minute.")
        waiting.status, waiting.settled_at = ChangeStatus.VOID, utc_now()
        db.session.flush()

    def _enter(self, subscription: Subscription, agreement: Agreement, terms: NewTerms) -> datetime:
        price = None if terms.amount is None else FixedPrice(terms.amount, subscription.currency)
        wanted = Terms(price=price, product_name=terms.name, description=terms.description)
        request = self._accounts.own.terms_request(wanted)
        now = utc_now()
        change = Change(
            subscription_id=subscription.id,
            amount=terms.amount,
            name=terms.name,
            description=terms.description,
            amount_before=subscription.amount,
            status=ChangeStatus.REQUESTED,
            created_at=now,
        )
        db.session.add(change)
        db.session.flush()
        is_large = terms.amount is not None and terms.amount > subscription.amount * (1 + _NOTICE_ABOVE)
        goes_at = now + NOTICE if is_large else now
        name = f"{subscription.ulid}-t{change.id}"
        act = Act(
            CHANGE, change.id, subscription.id, name, account=agreement.account, request=request, not_before=goes_at
        )
        stage(act)
        facts = {"amount": terms.amount, "goes_at": goes_at.isoformat()}
        outbox.record(subscription, "subscription.change_requested", **facts)
        return goes_at

    def call(self, claim: Claim) -> bool:
        """Have the app show it, and believe only what reads back. False: it is to be no more."""
        with reading():
            subscription = db.session.get_one(Subscription, claim.subscription_id)
            agreement = queries.adopted_agreement(subscription.id)
            is_wanted = db.session.get_one(Change, claim.subject_id).status == ChangeStatus.REQUESTED
            if subscription.status != SubscriptionStatus.ACTIVE or agreement is None or not is_wanted:
                return False
            agreement_id = str(agreement.provider_agreement_id)
        payments = self._accounts.of(str(claim.account))
        refused = None
        try:
            payments.update_agreement(agreement_id, claim.request, key=claim.key)
        except ProviderRefused as refusal:
            refused = refusal  # an earlier try may have done it: what the app shows is what counts
        try:
            view = payments.find_agreement(agreement_id)
        except ProviderError as error:
            raise ProviderUncertain(error.message) from error
        if view is None or not payments.shows(view, claim.request):
            raise refused or ProviderUncertain("the change was accepted and does not show yet")
        return True

    def settle(self, claim: Claim, result: bool) -> None:
        """From now on it counts: for the periods in the books that have not left the house, and all after them."""
        change = db.session.get_one(Change, claim.subject_id)
        subscription = db.session.get_one(Subscription, change.subscription_id)
        change.settled_at = utc_now()
        if not result or subscription.status != SubscriptionStatus.ACTIVE:
            change.status = ChangeStatus.VOID
            return
        change.status = ChangeStatus.DONE
        subscription.name = change.name or subscription.name
        subscription.description = subscription.description if change.description is None else change.description
        if change.amount is not None:
            subscription.amount = change.amount
        change.from_period = queries.reprice_planned(subscription.id, subscription.amount) or subscription.next_period
        facts = {"amount": subscription.amount, "from_period": change.from_period}
        outbox.record(subscription, "subscription.changed", **facts)

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """Vipps will not: everything stays as it was."""
        change = db.session.get_one(Change, claim.subject_id)
        change.status, change.settled_at = ChangeStatus.FAILED, utc_now()
        subscription = db.session.get_one(Subscription, change.subscription_id)
        logger.error("A change of subscription %s was refused: %s", subscription.id, refusal.message)
        outbox.record(subscription, "subscription.change_failed", reason=refusal.message)


def _check_amount(subscription: Subscription, amount: int | None) -> None:
    if amount is None:
        return
    low, high = MINIMUM[subscription.currency], MAXIMUM[subscription.currency]
    if not low <= amount <= high:
        raise Invalid({"amount": [f"amount must be from {low} to {high}."]})
    if amount > subscription.amount * _NEW_CONSENT_ABOVE:
        raise Conflict(f"A price of more than {_NEW_CONSENT_ABOVE} times the old needs a new subscription.")
