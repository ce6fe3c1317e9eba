"""The life of a payment after it has left the house: looked at until it is settled, sent again when it never came."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from invoice.clock import business_date, utc_now
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.schedule import MINIMUM_LEAD_DAYS
from invoice.services import books, cancels, outbox, refunds
from invoice.services.accounts import Accounts
from invoice.services.books import READ_BACK_EVERY
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Operation, Subscription

logger = logging.getLogger(__name__)

# A charge that was accepted may show late, or be turned down later without a word.
_UNSEEN_LOOK = timedelta(minutes=2)
_ACCEPTED_SHOWS = timedelta(hours=24)
_DOUBTED_SHOWS = timedelta(minutes=10)
_GIVEN_UP_LOOK = timedelta(hours=24)
_MAX_SENDS = 3  # one that never shows after so many is for an operator


class Charges:
    """Looks at charges."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def refresh(self, charge_id: int) -> None:
        """Ask Vipps how a charge stands and bring our row up to it, forward only.

        Raises ProviderError when Vipps cannot say; nothing has changed then.
        """
        with reading():
            charge = db.session.get_one(Charge, charge_id)
            subscription_id, name, seen = charge.subscription_id, charge.name, charge.check_at
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            agreement_id, account = str(agreement.provider_agreement_id), agreement.account
        view = self._accounts.of(account).find_charge(agreement_id, name)
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            # Locked: its batch settles, and bells ring, without the subscription's lock.
            charge = db.session.get_one(Charge, charge_id, with_for_update=True)
            was_rung = charge.check_at != seen
            if view is not None:
                was_out = charge.status == ChargeStatus.VOID
                books.adopt(subscription, charge, view, bells={name: seen})
                if was_out:
                    cancels.request_anew(subscription, charge)
                return
            if charge.status in (ChargeStatus.SUBMITTING, ChargeStatus.SUBMITTED):
                _missing(subscription, charge)
            else:
                charge.check_at = _last_looks(subscription, charge)
            if was_rung:
                # The bell rang while we looked: what it rang for may have come after our answer.
                charge.check_at = utc_now()

    def read_back(self, agreement_id: int) -> None:
        """Compare all charges of an agreement with Vipps', settled ones too, and ring for each that differs.

        Somebody may give money back in Vipps' portal, or pay late, and the webhook about it may never come.
        Raises ProviderError when Vipps cannot say; it is asked again after the lease.
        """
        with reading():
            agreement = db.session.get_one(Agreement, agreement_id)
            account, provider_id = agreement.account, str(agreement.provider_agreement_id)
            rung_at = agreement.read_back_at
        views = self._accounts.of(account).list_charges(provider_id)
        seen = {view.name: (view.captured, view.refunded) for view in views}
        with transaction():
            agreement = db.session.get_one(Agreement, agreement_id, with_for_update=True)
            for charge in queries.lock_charges_named(account, list(seen)).values():
                if (charge.captured, charge.refunded) != seen[charge.name]:
                    charge.check_at = utc_now()
            if agreement.read_back_at != rung_at:
                return  # asked for anew while we looked
            last = queries.last_capture(agreement_id)
            is_over = last is None or utc_now() - last > refunds.LIFE + READ_BACK_EVERY
            agreement.read_back_at = None if is_over else utc_now() + READ_BACK_EVERY


def _missing(subscription: Subscription, charge: Charge) -> None:
    """Vipps shows no charge of this name. One look is no proof: what was taken in may show late."""
    batch = db.session.get(Operation, charge.operation_id) if charge.operation_id else None
    if batch is None:
        # Made at signing and never by us, or seen at Vipps before: it is there.
        charge.check_at = utc_now() + _UNSEEN_LOOK
    elif batch.settled_at is None:
        charge.check_at = None  # its batch is on the way, and has everyone looked at when it is settled
    elif utc_now() - batch.settled_at < _patience(charge):
        charge.check_at = utc_now() + _UNSEEN_LOOK
    elif charge.failure_reason is not None:
        _turned_down(subscription, charge)
    else:
        send_again(subscription, charge)


def _last_looks(subscription: Subscription, charge: Charge) -> datetime | None:
    """Return when to look again at one that we gave up or set aside: daily, while Vipps might still take it."""
    today = business_date(queries.market_of(subscription.partner_id))
    may_come = charge.period != 0 and today <= charge.due_on + timedelta(days=charge.retry_days + 3)
    return utc_now() + _GIVEN_UP_LOOK if may_come else None


def _turned_down(subscription: Subscription, charge: Charge) -> None:
    """Vipps gave a reason: a date that has come too near is moved; anything else is for an operator."""
    is_passing = _is_too_near(subscription, charge) or charge.failure_reason == books.NOT_CREATED
    if is_passing or not is_wanted(subscription, charge):
        send_again(subscription, charge)
    else:
        _set_aside(subscription, charge)


def send_again(subscription: Subscription, charge: Charge) -> None:
    """Put it back under the same name, so that it can exist only once; or take it out when nobody is to pay."""
    charge.operation_id = charge.check_at = None
    if not is_wanted(subscription, charge):
        charge.status, charge.failure_reason = ChargeStatus.VOID, None
        charge.check_at = _last_looks(subscription, charge)
    elif charge.sends >= _MAX_SENDS:
        charge.failure_reason = charge.failure_reason or f"sent {charge.sends} times and never seen at Vipps"
        _set_aside(subscription, charge)
    else:
        charge.status, charge.failure_reason = ChargeStatus.PLANNED, None


def _is_too_near(subscription: Subscription, charge: Charge) -> bool:
    today = business_date(queries.market_of(subscription.partner_id))
    return charge.due_on < today + timedelta(days=MINIMUM_LEAD_DAYS)


def is_wanted(subscription: Subscription, charge: Charge) -> bool:
    """Tell whether a charge is still to be made."""
    return subscription.status == SubscriptionStatus.ACTIVE and charge.cancel_requested_at is None


def _set_aside(subscription: Subscription, charge: Charge) -> None:
    """Leave it to an operator, and go on looking for a while."""
    charge.status, charge.check_at = ChargeStatus.REFUSED, _last_looks(subscription, charge)
    # The likeliest reason is an agreement that has ended without our knowing.
    db.session.get_one(Agreement, charge.agreement_id).check_at = utc_now()
    logger.error("Charge %s was refused: %s", charge.name, charge.failure_reason)
    outbox.record(subscription, "charge.refused", charge=charge.name, reason=charge.failure_reason)


def turn_down(subscription: Subscription, charge: Charge, reason: str) -> None:
    """Vipps' no to an extra charge is final: its partner is told, and may ask for it again under the same name.

    A date that has come too near while Vipps was away is moved.
    """
    if _is_too_near(subscription, charge):
        send_again(subscription, charge)
        return
    charge.status, charge.failure_reason = ChargeStatus.REFUSED, reason[:200]
    charge.operation_id = charge.check_at = None
    db.session.get_one(Agreement, charge.agreement_id).check_at = utc_now()  # it may have ended without our knowing
    outbox.record(subscription, "charge.refused", charge=charge.name, reason=charge.failure_reason)


def _patience(charge: Charge) -> timedelta:
    """Return how long to wait for a charge to show: a day for one that Vipps took in, else some minutes."""
    is_accepted = charge.status == ChargeStatus.SUBMITTED and charge.failure_reason is None
    return _ACCEPTED_SHOWS if is_accepted else _DOUBTED_SHOWS
