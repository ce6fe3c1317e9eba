"""Asking Vipps for a consent: one draft for one attempt, sent once.

Vipps does not honour idempotency keys on drafts (seen in 2025), so a draft whose answer is lost is never sent again.
Nobody holds the address of such a one; it dies by itself in ten minutes, and the next press of the button drafts anew.
"""

from __future__ import annotations

import logging

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import ProviderDenied, ProviderError, ProviderRefused
from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from invoice.names import charge_name, new_guid
from invoice.providers.base import Draft, Drafted, FixedPrice, InitialCharge
from invoice.schedule import next_consent_look
from invoice.services import messages, outbox, stops
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Agreement, Subscription

logger = logging.getLogger(__name__)

DRAFT = "DRAFT"


class Drafts:
    """Drafts consents; a handler of operations."""

    def __init__(self, settings: Settings, accounts: Accounts, operations: Operations) -> None:
        self._settings = settings
        self._accounts = accounts
        self._operations = operations
        operations.handle(DRAFT, self)

    def begin(self, subscription: Subscription) -> Claim:
        """Write the next attempt down, in the caller's transaction, and claim its draft for this very worker."""
        account = self._accounts.for_partner(subscription.partner_id)
        agreement = next_attempt(subscription, AgreementStatus.DRAFTING, account)
        request = self._accounts.own.draft_request(self._draft_of(subscription, agreement))
        name = f"{subscription.ulid}-d{agreement.attempt}"
        act = Act(DRAFT, agreement.id, subscription.id, name, account=account, request=request)
        return self._operations.take(stage(act))

    def _draft_of(self, subscription: Subscription, agreement: Agreement) -> Draft:
        returning = f"/api/recurring/return/{subscription.partner_id}/{agreement.return_id}"
        return Draft(
            external_id=subscription.ulid,
            product_name=subscription.name,
            description=subscription.description,
            price=FixedPrice(subscription.amount, subscription.currency),
            interval=subscription.interval,
            phone=subscription.msisdn,
            redirect_url=self._settings.invoice_public_url + returning,
            manage_url=subscription.agreement_url,
            initial=_initial(subscription, agreement),
        )

    def call(self, claim: Claim) -> Drafted | None:
        """Draft once. None: the answer is lost or never came, and so is this attempt."""
        if claim.in_doubt:
            return None
        try:
            return self._accounts.of(str(claim.account)).draft_agreement(claim.request, key=claim.key)
        except ProviderDenied as denial:
            logger.error("A draft failed: %s", denial.message)
            raise ProviderRefused(denial.message) from denial
        except ProviderRefused:
            raise
        except ProviderError as error:
            logger.warning("Draft %s is lost: %s", claim.name, error.message)
            return None

    def settle(self, claim: Claim, result: Drafted | None) -> None:
        """The draft stands, or is lost; either way the invitation can go out."""
        agreement = db.session.get_one(Agreement, claim.subject_id)
        subscription = db.session.get_one(Subscription, agreement.subscription_id)
        if agreement.status == AgreementStatus.DRAFTING:
            self._write_draft(agreement, claim, result)
        if subscription.status == SubscriptionStatus.PENDING:
            if agreement.attempt == 0:
                messages.release(subscription, self._settings.invoice_public_url)
        else:
            if agreement.attempt == 0:  # whoever accepted or cancelled meanwhile needs no invitation
                messages.withdraw(subscription)
            if agreement.status == AgreementStatus.PENDING:
                stops.request_stop(subscription, agreement)
        stops.finish_if_over(subscription)

    def _write_draft(self, agreement: Agreement, claim: Claim, result: Drafted | None) -> None:
        if result is None:
            agreement.status = AgreementStatus.LOST
            return
        agreement.status = AgreementStatus.PENDING
        agreement.provider_agreement_id = result.agreement_id
        agreement.confirmation_url = result.confirmation_url
        # Its ten minutes may have begun as early as we asked.
        agreement.drafted_at = claim.first_sent_at
        agreement.check_at = next_consent_look(claim.first_sent_at, utc_now())

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """Vipps will not have it. The first refusal ends the subscription: the partner is told, and may ask again."""
        agreement = db.session.get_one(Agreement, claim.subject_id)
        subscription = db.session.get_one(Subscription, agreement.subscription_id)
        agreement.status = AgreementStatus.REFUSED
        if agreement.attempt == 0 and subscription.status == SubscriptionStatus.PENDING:
            subscription.status, subscription.ended_at = SubscriptionStatus.REFUSED, utc_now()
            messages.withdraw(subscription)
            outbox.record(subscription, "subscription.refused", reason=refusal.message)
        else:
            outbox.record(subscription, "consent.refused", reason=refusal.message)
        stops.finish_if_over(subscription)


def _initial(subscription: Subscription, agreement: Agreement) -> InitialCharge | None:
    if not agreement.initial_amount:
        return None
    return InitialCharge(agreement.initial_amount, agreement.initial_name, is_reserved=subscription.reserves_initial)


def next_attempt(subscription: Subscription, status: AgreementStatus, account: str) -> Agreement:
    """Write the next attempt at consent down, in the caller's transaction."""
    before = queries.latest_agreement(subscription.id)
    attempt = before.attempt + 1 if before else 0
    agreement = Agreement(
        subscription_id=subscription.id,
        attempt=attempt,
        account=account,
        status=status,
        return_id=new_guid(),
        initial_amount=subscription.initial_amount,
        initial_name=charge_name(subscription.ulid, 0, attempt),
        created_at=utc_now(),
    )
    db.session.add(agreement)
    db.session.flush()
    return agreement
