"""What a partner does with agreements and charges by the provider's ids: the use cases of the second contract.

Whatever moves money or ends something is an operation like any other, performed at once where there is time. What
our books know to be impossible is put to the provider all the same where that is harmless, so that the partner reads
the provider's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from invoice.clock import stopwatch, utc_now
from invoice.errors import (
    Conflict,
    Exchange,
    Forbidden,
    Invalid,
    InvoiceError,
    NotFound,
    ProviderError,
    ProviderUnavailable,
)
from invoice.lifecycle import ChargeStatus, RefundStatus, SubscriptionStatus
from invoice.names import new_guid
from invoice.providers.http import overhearing
from invoice.services import cancels, outcomes, refunds, stops
from invoice.services.accounts import Accounts
from invoice.services.charges import Charges
from invoice.services.entries import Wish
from invoice.services.extras import Extras
from invoice.services.operations import Claim, Operations
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.services.scopes import UNKNOWN, Held, Scopes
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Subscription

UNKNOWN_CHARGE = "This charge does not exist"
_READ_PATIENCE_S = 60.0


class Direct:
    """One partner's verbs; each outcome is for itself."""

    def __init__(self, accounts: Accounts, operations: Operations, scopes: Scopes, extras: Extras) -> None:
        self._accounts = accounts
        self._operations = operations
        self._scopes = scopes
        self._extras = extras
        self._charges = Charges(accounts)

    # Looking

    def check_keys(self, partner: PartnerView) -> None:
        """Make sure that the provider can be called for this partner. Raises ProviderError."""
        self._scopes.of(partner).check_keys()

    def token(self, partner: PartnerView) -> str:
        """Return an access token of the partner's own account.

        Raises Forbidden without the right to it. One of the platform's account would open what other partners have
        there, so nobody has that right.
        """
        payments = self._scopes.own(partner)
        if not partner.may_see_token or payments is None:
            raise Forbidden("These credentials do not give access to the token.")
        return payments.access_token()

    def show(self, partner: PartnerView, agreement_id: str) -> dict[str, Any]:
        """Return an agreement word for word. Raises NotFound, or what the provider says."""
        return self._scopes.ask(partner, agreement_id, lambda payments: payments.show_agreement(agreement_id))

    def charges_of(
        self, partner: PartnerView, agreement_ids: Sequence[str]
    ) -> list[list[dict[str, Any]] | InvoiceError]:
        """Return the charges of each agreement word for word, in order; an error in the place of what is not to be had.

        An agreement that is named twice is asked about once.
        """
        deadline = stopwatch() + _READ_PATIENCE_S
        known: dict[str, list[dict[str, Any]] | InvoiceError] = {}
        for agreement_id in agreement_ids:
            if agreement_id not in known:
                known[agreement_id] = (
                    self._charges_of(partner, agreement_id)
                    if stopwatch() < deadline
                    else ProviderUnavailable("There was no time left for this one: ask for fewer at once")
                )
        return [known[agreement_id] for agreement_id in agreement_ids]

    def _charges_of(self, partner: PartnerView, agreement_id: str) -> list[dict[str, Any]] | InvoiceError:
        try:
            found = self._scopes.ask(partner, agreement_id, lambda payments: payments.show_charges(agreement_id))
        except (NotFound, ProviderError) as error:
            return error
        return [charge | {"id": self._scopes.shown(partner, charge["id"])} for charge in found]

    # Acting

    def make(
        self, partner: PartnerView, wishes: Sequence[Wish], *, key: str | None, literal: bool = False
    ) -> list[Outcome]:
        """Make charges, each for itself; see `Extras.make`."""
        return self._extras.make(partner, wishes, key=key, literal=literal)

    def stop(self, partner: PartnerView, agreement_id: str, *, literal: bool = False) -> Outcome:
        """End an agreement: from now on nothing is charged, and the provider is told until it agrees.

        literal: what is ending already is put to the provider once more.
        """
        held = self._find(partner, agreement_id)
        if not isinstance(held, Held):
            return outcomes.no(agreement_id, held)
        claim = None
        with transaction():
            subscription = queries.lock_subscription(held.subscription_id)
            agreement = db.session.get_one(Agreement, held.agreement_id)
            is_ending = subscription.status == SubscriptionStatus.CANCELLING
            if subscription.status == SubscriptionStatus.ACTIVE and agreement.is_adopted:
                stops.begin_cancel(subscription)
                claim, is_ending = self._take(stops.STOP, agreement.id), True
        if claim is not None:
            error, heard = self._perform(claim, "PATCH")
            return Outcome(agreement_id, Standing.ACCEPTED if error else Standing.DONE, error, heard)
        if is_ending and not literal:
            return Outcome(agreement_id, Standing.ACCEPTED)
        ask = self._accounts.of(held.account).stop_agreement
        return self._put(agreement_id, "PATCH", lambda: ask(held.provider_id, key=new_guid()), lambda: _ring(held))

    def cancel(self, partner: PartnerView, agreement_id: str, charge_id: str, *, literal: bool = False) -> Outcome:
        """Have a charge not taken; a second time changes nothing. literal: as in `stop`."""
        held = self._find(partner, agreement_id)
        found = self._find_charge(partner, held, charge_id) if isinstance(held, Held) else held
        if not isinstance(held, Held) or not isinstance(found, int):
            return outcomes.no(charge_id, found if isinstance(found, InvoiceError) else NotFound(UNKNOWN))
        claim, is_late = None, False
        with transaction():
            charge, subscription = _lock(found)
            try:
                cancels.request_cancel(subscription, charge)
                claim = self._take(cancels.CANCEL, charge.id)
            except Conflict:
                is_late = True
            name, is_void = charge.name, charge.status == ChargeStatus.VOID
        if claim is not None:
            error, heard = self._perform(claim, "DELETE")
            return _called_off(charge_id, found, error, heard)
        if not is_late and (is_void or not literal):
            return Outcome(charge_id, Standing.DONE)
        ask = self._accounts.of(held.account).cancel_charge
        return self._put(charge_id, "DELETE", lambda: ask(held.provider_id, name, key=new_guid()), lambda: _look(found))

    def refund(self, partner: PartnerView, wish: Wish, *, mark: str) -> Outcome:
        """Give money back. mark: of the request; one that has been asked for already is not asked for again."""
        held = self._find(partner, wish.agreement_id)
        found = self._find_charge(partner, held, wish.charge_id) if isinstance(held, Held) else held
        if not isinstance(found, int):
            return outcomes.no(wish.charge_id, found)
        refunded = self._ask_for(found, wish, mark)
        if isinstance(refunded, InvoiceError):
            # What the books lack the provider may have by now.
            with suppress(ProviderError):
                self._charges.refresh(found)
            refunded = self._ask_for(found, wish, mark)
        if isinstance(refunded, Claim):
            error, heard = self._perform(refunded, "POST")
            return outcomes.of(wish.charge_id, error, heard)
        return refunded if isinstance(refunded, Outcome) else outcomes.no(wish.charge_id, refunded)

    def _ask_for(self, charge_id: int, wish: Wish, mark: str) -> Claim | Outcome | InvoiceError:
        with transaction():
            charge, subscription = _lock(charge_id)
            known = queries.refund_marked(charge.id, mark)
            if known is not None:
                is_done = known.status == RefundStatus.DONE
                return Outcome(wish.charge_id, Standing.DONE if is_done else Standing.ACCEPTED)
            try:
                reason = wish.description or subscription.name
                refund_id = refunds.ask(subscription, charge, wish.amount, reason, mark=mark)
            except (Conflict, Invalid) as error:
                return _in_words(error)
            claim = self._take(refunds.REFUND, refund_id)
            return claim or Outcome(wish.charge_id, Standing.ACCEPTED)

    # Helpers

    def _find(self, partner: PartnerView, agreement_id: str) -> Held | InvoiceError:
        try:
            return self._scopes.find(partner, agreement_id) or NotFound(UNKNOWN)
        except ProviderError as error:
            return error

    def _find_charge(self, partner: PartnerView, held: Held, charge_id: str) -> int | InvoiceError:
        try:
            return self._scopes.find_charge(partner, held, charge_id) or NotFound(UNKNOWN_CHARGE)
        except ProviderError as error:
            return error

    def _take(self, kind: str, subject_id: int) -> Claim | None:
        """Claim what was staged a moment ago, in the same transaction."""
        operation = queries.unclaimed(kind, subject_id)
        return self._operations.take(operation) if operation else None

    def _perform(self, claim: Claim, method: str) -> tuple[ProviderError | None, Exchange | None]:
        with overhearing() as heard:
            error = self._operations.perform(claim)
        return error, _last(heard, method)

    def _put(self, act_id: str, method: str, ask: Callable[[], None], then: Callable[[], None]) -> Outcome:
        """Put to the provider what our books know to be over, for its words; a yes is a reason to look again."""
        with overhearing() as heard:
            try:
                ask()
            except ProviderError as error:
                return Outcome(act_id, Standing.REFUSED, error, _last(heard, method))
        then()
        return Outcome(act_id, Standing.DONE, heard=_last(heard, method))


def mark_of(key: str | None, number: int, wish: Wish) -> str:
    """Return what tells one wish for a refund of a charge from another: without a key, its amount.

    Source: the original module, whose key for a refund was agreement, charge and amount.
    """
    return sha256(f"{key}|{number}".encode()).hexdigest() if key else str(wish.amount)


def _lock(charge_id: int) -> tuple[Charge, Subscription]:
    """Lock a charge and, before it, what it hangs on."""
    charge = db.session.get_one(Charge, charge_id)
    subscription = queries.lock_subscription(charge.subscription_id)
    db.session.refresh(charge, with_for_update=True)
    return charge, subscription


def _ring(held: Held) -> None:
    with transaction():
        db.session.get_one(Agreement, held.agreement_id).check_at = utc_now()


def _look(charge_id: int) -> None:
    with transaction():
        db.session.get_one(Charge, charge_id).check_at = utc_now()


def _last(heard: Sequence[Exchange], method: str) -> Exchange | None:
    """Return the answer to the act itself, and not to the looks around it or to the fetching of a token."""
    return next((e for e in reversed(heard) if e.method == method and "/accesstoken/" not in e.url), None)


def _called_off(shown: str, charge_id: int, error: ProviderError | None, heard: Exchange | None) -> Outcome:
    outcome = outcomes.of(shown, error, heard)
    if error is None:
        with reading():
            status = db.session.get_one(Charge, charge_id).status
        if status not in (ChargeStatus.CANCELLED, ChargeStatus.VOID):
            return Outcome(
                shown, Standing.REFUSED, Conflict(f"The charge could not be called off: it is {status}"), heard
            )
    return outcome


def _in_words(error: InvoiceError) -> InvoiceError:
    """Return an error whose message says all: what is wrong with a field stands beside it otherwise."""
    if not isinstance(error, Invalid) or not error.errors:
        return error
    return Invalid(message=" ".join(text for texts in error.errors.values() for text in texts))
