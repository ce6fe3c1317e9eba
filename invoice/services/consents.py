"""The life of a consent: lead a person to it, look how it stands, act on what it became.

A draft at Vipps lives ten minutes and a text is read hours later, so a subscription may see many attempts. At most
one is adopted; any other that somebody accepts all the same is stopped, and its money given back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from invoice.clock import business_date, utc_now
from invoice.config import Settings
from invoice.errors import NotFound, ProviderError, ProviderUncertain
from invoice.lifecycle import AGREEMENT_MOVES, AgreementStatus, SubscriptionStatus, may_move
from invoice.providers.base import AgreementView, ChargeView
from invoice.schedule import due_date, next_consent_look, plan_date
from invoice.services import books, outbox, stops
from invoice.services.accounts import Accounts
from invoice.services.drafts import Drafts, next_attempt
from invoice.services.operations import Operations
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Partner, Subscription

logger = logging.getLogger(__name__)

# A draft can be opened for ten minutes; one that is older than this may die in the person's hands.
FRESH = timedelta(minutes=4)
# While a draft's answer may still come, a second press of the button does not start another.
_PATIENCE = timedelta(seconds=15)
_RING_GAP = timedelta(seconds=2)  # Source: Vipps' limit of 120 reads a minute for each agreement
ACTIVE_LOOK = timedelta(hours=24)  # an end in the app is seen within a day even without any webhook
_STRANGE_LOOK = timedelta(minutes=15)
_FORGOTTEN = timedelta(hours=24)
PLAN_AHEAD_DAYS = 4  # a charge stands in the books this long before it is created


@dataclass(frozen=True)
class Opened:
    """Where a press of the button leads: to the app, or to a word for the page."""

    url: str | None = None
    notice: str = ""  # "try_again", "refused", or the reason why the link is closed


def is_fresh(agreement: Agreement | None, now: datetime) -> bool:
    """Tell whether an attempt's confirmation address can be handed out."""
    return (
        agreement is not None
        and agreement.status == AgreementStatus.PENDING
        and agreement.confirmation_url is not None
        and agreement.drafted_at is not None
        and now - agreement.drafted_at < FRESH
    )


def _was_accepted(view: AgreementView) -> bool:
    """Tell whether somebody said yes, even if it is over by now."""
    return view.status == AgreementStatus.ACTIVE or view.started_at is not None


def _is_on_its_way(agreement: Agreement, now: datetime) -> bool:
    return agreement.status == AgreementStatus.DRAFTING and now - agreement.created_at < _PATIENCE


def closed_because(subscription: Subscription, now: datetime) -> str:
    """Return why a link opens no offer any more, or an empty text while it does."""
    if subscription.status == SubscriptionStatus.PENDING:
        return "expired_link" if subscription.link_expires_at <= now else ""
    if subscription.status == SubscriptionStatus.EXPIRED:
        return "expired_link"
    return "already_active" if subscription.status == SubscriptionStatus.ACTIVE else "ended"


class Consents:
    """Attempts at consent."""

    def __init__(self, settings: Settings, accounts: Accounts, operations: Operations, drafts: Drafts) -> None:
        self._settings = settings
        self._accounts = accounts
        self._operations = operations
        self._drafts = drafts

    def open(self, link_token: str) -> Opened:
        """Lead the person who pressed the button to Vipps: by the draft at hand while it is fresh, else by a new one.

        Raises NotFound for an unknown link.
        """
        with transaction():
            found = queries.subscription_by_link(link_token)
            if found is None:
                raise NotFound
            found_id = found.id
            subscription = queries.lock_subscription(found_id)
            reason = _closed(subscription)
            if reason:
                return Opened(notice=reason)
            agreement = queries.latest_agreement(subscription.id)
            if agreement is None:
                raise AssertionError(f"Subscription {subscription.id} has no attempt at consent.")
            seen, is_old = agreement.id, not is_fresh(agreement, utc_now())
            if is_old and _is_on_its_way(agreement, utc_now()):
                return Opened(notice="try_again")
            if not is_old and not agreement.is_handed_out:
                _hand_out(subscription, agreement)
                return Opened(url=agreement.confirmation_url)
            may_live = agreement.status == AgreementStatus.PENDING
        return (self._reopen(seen) if may_live else None) or self._draft_anew(subscription_id=found_id, seen=seen)

    def _reopen(self, agreement_id: int) -> Opened | None:
        """Hand a draft out once more if it still lives and is fresh: going back from Vipps' page ends it there.

        Whoever has accepted it meanwhile is not asked twice.
        """
        try:
            self.refresh(agreement_id)
        except ProviderError:
            return Opened(notice="try_again")
        with reading():
            agreement = db.session.get_one(Agreement, agreement_id)
            return Opened(url=agreement.confirmation_url) if is_fresh(agreement, utc_now()) else None

    def _draft_anew(self, *, subscription_id: int, seen: int) -> Opened:
        """Draft the next attempt, unless another press has begun one since this one saw `seen`."""
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            reason = _closed(subscription)
            if reason:
                return Opened(notice=reason)
            latest = queries.latest_agreement(subscription_id)
            if latest is not None and latest.id != seen:
                return (
                    Opened(url=latest.confirmation_url) if is_fresh(latest, utc_now()) else Opened(notice="try_again")
                )
            claim = self._drafts.begin(subscription)
            _hand_out(subscription, db.session.get_one(Agreement, claim.subject_id))
        self._operations.perform(claim)
        with reading():
            agreement = db.session.get_one(Agreement, claim.subject_id)
            if agreement.status == AgreementStatus.PENDING:
                return Opened(url=agreement.confirmation_url)
            refused = agreement.status == AgreementStatus.REFUSED
            return Opened(notice="refused" if refused else "try_again")

    # Refresh: three doorbells, one look

    def ring(self, agreement_id: int) -> None:
        """Look for a person who waits, at most once in two seconds; when Vipps cannot say, the timer looks later."""
        now = utc_now()
        with transaction():
            if not queries.take_ring(agreement_id, now, now - _RING_GAP):
                return
        try:
            self.refresh(agreement_id)
        except ProviderError as error:
            logger.warning("Agreement %s is looked at later: %s", agreement_id, error.message)

    def refresh(self, agreement_id: int) -> None:
        """Ask Vipps how an attempt stands and bring our rows up to it, forward only.

        Raises ProviderError when Vipps cannot say; nothing has changed then.
        """
        with reading():
            agreement = db.session.get_one(Agreement, agreement_id)
            subscription_id, provider_id = agreement.subscription_id, agreement.provider_agreement_id
            wants_initial = agreement.status != AgreementStatus.ACTIVE and agreement.initial_amount > 0
            is_found, seen = agreement.status == AgreementStatus.LOST, agreement.check_at
            account = agreement.account
        if provider_id is None:
            return
        payments = self._accounts.of(account)
        view = payments.find_agreement(provider_id)
        initial = None
        if view is not None and _was_accepted(view) and wants_initial:
            initial = next((c for c in payments.list_charges(provider_id) if c.is_initial), None)
            if initial is None and is_found:
                # Its draft's answer was lost, and with it the name that the initial charge was given.
                raise ProviderUncertain("the initial charge does not show yet")
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            agreement = db.session.get_one(Agreement, agreement_id, with_for_update=True)
            was_rung = agreement.check_at != seen
            self._apply(subscription, agreement, view, initial)
            if was_rung:
                # The bell rang while we looked: what it rang for may have come after our answer.
                agreement.check_at = utc_now()

    def _apply(
        self, subscription: Subscription, agreement: Agreement, view: AgreementView | None, initial: ChargeView | None
    ) -> None:
        now = utc_now()
        if view is None and agreement.status != AgreementStatus.ACTIVE and now - agreement.created_at > _FORGOTTEN:
            # Ten minutes are a draft's life: one that Vipps does not know a day later is over.
            view = AgreementView("", None, AgreementStatus.EXPIRED, None)
        # One that was signed elsewhere is called something else there.
        names = {None, subscription.ulid} if subscription.is_scheduled else {view.external_id if view else None}
        if view is None or view.status is None or view.external_id not in names:
            logger.error("Agreement %s is not at Vipps as we know it.", agreement.id)
            # A new one may not show at once; one that never does is looked at now and then.
            agreement.check_at = min(next_consent_look(agreement.created_at, now), now + _STRANGE_LOOK)
            return
        # One that was accepted and stopped between two looks has been through both.
        if _was_accepted(view) and may_move(AGREEMENT_MOVES, agreement.status, AgreementStatus.ACTIVE):
            agreement.status = AgreementStatus.ACTIVE
            self._accepted(subscription, agreement, view, initial)
        if may_move(AGREEMENT_MOVES, agreement.status, view.status):
            agreement.status = view.status
            if view.status in (AgreementStatus.STOPPED, AgreementStatus.EXPIRED):
                stops.ended(subscription, agreement)
        agreement.check_at = _next_look(agreement, now)
        stops.finish_if_over(subscription)

    def _accepted(
        self, subscription: Subscription, agreement: Agreement, view: AgreementView, initial: ChargeView | None
    ) -> None:
        partner = db.session.get_one(Partner, subscription.partner_id)
        signed_on = business_date(partner.market, view.started_at)
        is_wanted = subscription.status == SubscriptionStatus.PENDING
        if is_wanted:
            self._activate(subscription, agreement, signed_on)
        else:
            outbox.record(subscription, "consent.surplus", attempt=agreement.attempt)
            stops.request_stop(subscription, agreement)
        if agreement.initial_amount:
            if initial is not None:
                agreement.initial_name = initial.name
            charge = books.enter_initial(subscription, agreement, signed_on=signed_on, is_surplus=not is_wanted)
            if initial is not None:
                # While it stood in no book, a webhook about it found nothing to ring.
                books.adopt(subscription, charge, initial, bells={})

    def _activate(self, subscription: Subscription, agreement: Agreement, signed_on: date) -> None:
        agreement.is_adopted = True
        subscription.status, subscription.activated_at = SubscriptionStatus.ACTIVE, utc_now()
        subscription.anchor_on = signed_on
        first_due_on = due_date(signed_on, subscription.interval, subscription.next_period)
        subscription.next_plan_on = plan_date(first_due_on, self._settings.invoice_lead_days + PLAN_AHEAD_DAYS)
        outbox.record(subscription, "subscription.activated", anchor=signed_on.isoformat(), attempt=agreement.attempt)

    def find(self, subscription_ulid: str, provider_agreement_id: str, account: str) -> bool:
        """Take up an agreement that Vipps says is ours and that we hold no answer for; return whether it was.

        account: under which Vipps has it; one that we never asked with is somebody else's.
        While a draft is on its way its answer will name it; nothing is taken up then.
        """
        with transaction():
            found = queries.subscription_by_ulid(subscription_ulid)
            if found is None:
                return False
            subscription = queries.lock_subscription(found.id)
            if queries.agreement_by_provider_id(provider_agreement_id) is not None:
                return True
            if account not in queries.accounts_of(subscription.id):
                logger.error("An agreement under account %s names subscription %s.", account, subscription.id)
                return False
            latest = queries.latest_agreement(subscription.id)
            if latest is None or latest.status == AgreementStatus.DRAFTING:
                return False
            agreement = next_attempt(subscription, AgreementStatus.LOST, account)
            agreement.provider_agreement_id, agreement.check_at = provider_agreement_id, utc_now()
            return True


def _closed(subscription: Subscription) -> str:
    """Return why nobody is led to Vipps now: what a link says, and that the partner is suspended."""
    partner = db.session.get_one(Partner, subscription.partner_id)
    return closed_because(subscription, utc_now()) or ("refused" if partner.suspended_at else "")


def _hand_out(subscription: Subscription, agreement: Agreement) -> None:
    """Lead the person to this attempt for the first time, and say so: the original tells it as "Accessed"."""
    agreement.is_handed_out = True
    charge = agreement.initial_name if agreement.initial_amount else None
    facts = {"attempt": agreement.attempt, "charge": charge, "amount": agreement.initial_amount}
    outbox.record(subscription, "consent.opened", **facts)


def _next_look(agreement: Agreement, now: datetime) -> datetime | None:
    if agreement.status == AgreementStatus.PENDING:
        return next_consent_look(agreement.drafted_at or agreement.created_at, now)
    return now + ACTIVE_LOOK if agreement.status == AgreementStatus.ACTIVE else None
