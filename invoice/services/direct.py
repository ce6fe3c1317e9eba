"""What a partner does with agreements and charges by the provider's ids: the use cases of the second contract.

Whatever moves money or ends something is an operation like any other, performed at once where there is time. What
our books know to be impossible is put to the provider all the same where that is harmless, so that the partner reads
the provider's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import update

from invoice.clock import stopwatch, utc_now
from invoice.errors import (
    Conflict,
    Exchange,
    Forbidden,
    InvoiceError,
    NotFound,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
)
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.names import new_guid
from invoice.providers.base import PaymentProvider
from invoice.providers.http import overhearing
from invoice.services import brakes, cancels, outcomes, refund_wishes, refunds, stops
from invoice.services.accounts import Accounts
from invoice.services.charges import Charges
from invoice.services.entries import Wish
from invoice.services.extras import Extras
from invoice.services.operations import Claim, GiveUp, Operations
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.services.scopes import NO_TIME, UNKNOWN, Held, Scopes
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge

UNKNOWN_CHARGE = "This charge does not exist"
_READ_PATIENCE_S = 60.0


class Direct:
    """One partner's verbs; each outcome is for itself.

    patience_s: for all items of a request together; what it does not suffice for is written down for the worker.
    """

    def __init__(self, accounts: Accounts, operations: Operations, scopes: Scopes, extras: Extras) -> None:
        self._accounts = accounts
        self._operations = operations
        self._scopes = scopes
        self._extras = extras
        self._charges = Charges(accounts)
        self.patience_s = 20.0

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
                    self._charges_of(partner, agreement_id) if stopwatch() < deadline else ProviderUnavailable(NO_TIME)
                )
        return [known[agreement_id] for agreement_id in agreement_ids]

    def _charges_of(self, partner: PartnerView, agreement_id: str) -> list[dict[str, Any]] | InvoiceError:
        def ask(payments: PaymentProvider) -> list[dict[str, Any]]:
            found = payments.show_charges(agreement_id)
            return [charge | {"id": self._scopes.shown(partner, payments.account, charge["id"])} for charge in found]

        try:
            return self._scopes.ask(partner, agreement_id, ask)
        except (NotFound, ProviderError) as error:
            return error

    # Acting

    def make(
        self, partner: PartnerView, wishes: Mapping[int, Wish], *, key: str | None, literal: bool = False
    ) -> dict[int, Outcome]:
        """Make charges, each for itself; see `Extras.make`."""
        return self._extras.make(partner, wishes, key=key, literal=literal, patience_s=self.patience_s)

    def stop(self, partner: PartnerView, agreement_id: str, *, literal: bool = False, at_once: bool = True) -> Outcome:
        """End an agreement: from now on nothing is charged, and the provider is told until it agrees.

        literal: what is ending already is put to the provider once more.
        at_once: False leaves it to the worker, and asks the provider nothing.
        """
        held = self._find(partner, agreement_id, may_ask=at_once)
        if not isinstance(held, Held):
            return outcomes.no(agreement_id, held)
        claim = None
        with transaction():
            subscription = queries.lock_subscription(held.subscription_id)
            agreement = db.session.get_one(Agreement, held.agreement_id)
            is_ending = subscription.status == SubscriptionStatus.CANCELLING
            if subscription.status == SubscriptionStatus.ACTIVE and agreement.is_adopted:
                stops.begin_cancel(subscription)
                claim, is_ending = self._take(stops.STOP, agreement.id, at_once=at_once), True
        if claim is not None:
            error, heard = self._perform(claim, "PATCH")
            return Outcome(agreement_id, Standing.ACCEPTED if error else Standing.DONE, error, heard)
        if is_ending and not (literal and at_once):
            return Outcome(agreement_id, Standing.ACCEPTED)
        if not at_once:
            return outcomes.no(agreement_id, ProviderUnavailable(NO_TIME))
        key = new_guid()
        error, heard = self._put(held, "PATCH", lambda payments: payments.stop_agreement(held.provider_id, key=key))
        if not isinstance(error, ProviderRefused):
            _look_again(Agreement, held.agreement_id)
        return outcomes.no(agreement_id, error, heard) if error else Outcome(agreement_id, Standing.DONE, heard=heard)

    def cancel(
        self,
        partner: PartnerView,
        agreement_id: str,
        charge_id: str,
        *,
        literal: bool = False,
        at_once: bool = True,
    ) -> Outcome:
        """Have a charge not taken; a second time changes nothing. literal, at_once: as in `stop`."""
        found = self._find_charge(partner, agreement_id, charge_id, may_ask=at_once)
        if isinstance(found, InvoiceError):
            return outcomes.no(charge_id, found)
        (held, number), claim, is_late = found, None, False
        with transaction():
            subscription, charge = queries.lock_charge(number)
            try:
                cancels.request_cancel(subscription, charge)
                claim = self._take(cancels.CANCEL, charge.id, at_once=at_once)
            except Conflict:
                is_late = True
            name, is_void = charge.name, charge.status == ChargeStatus.VOID
        if claim is not None:
            error, heard = self._perform(claim, "DELETE")
            return _called_off(charge_id, number, error, heard)
        if not is_late and (is_void or not (literal and at_once)):
            return Outcome(charge_id, Standing.DONE if is_void else Standing.ACCEPTED)
        if not at_once:
            return outcomes.no(charge_id, ProviderUnavailable(NO_TIME))
        key = new_guid()
        error, heard = self._put(
            held, "DELETE", lambda payments: payments.cancel_charge(held.provider_id, name, key=key)
        )
        if not isinstance(error, ProviderRefused):
            _look_again(Charge, number)
        return outcomes.no(charge_id, error, heard) if error else Outcome(charge_id, Standing.DONE, heard=heard)

    def refund(
        self, partner: PartnerView, wish: Wish, *, mark: str, literal: bool = False, at_once: bool = True
    ) -> Outcome:
        """Give money back. at_once: as in `stop`.

        mark: of the request; one that has been asked for already is not asked for again.
        literal: what could not be sent is taken back, because the caller is told that it failed.
        """
        found = self._find_charge(partner, wish.agreement_id, wish.charge_id, may_ask=at_once)
        if isinstance(found, InvoiceError):
            return outcomes.no(wish.charge_id, found)
        _, number = found
        refunded = self._ask_for(number, wish, mark, at_once=at_once)
        if isinstance(refunded, InvoiceError) and at_once:
            # What the books lack the provider may have by now.
            with suppress(ProviderError):
                self._charges.refresh(number)
            refunded = self._ask_for(number, wish, mark, at_once=at_once)
        if isinstance(refunded, Claim):
            give_up = GiveUp(lambda error: outcomes.is_failure(error, literal=literal), refund_wishes.withdraw)
            error, heard = self._perform(refunded, "POST", give_up)
            if error is not None and give_up.is_wanted(error):
                return outcomes.no(wish.charge_id, error, heard)
            return outcomes.of(wish.charge_id, error, heard)
        return refunded if isinstance(refunded, Outcome) else outcomes.no(wish.charge_id, refunded)

    def _ask_for(self, charge_id: int, wish: Wish, mark: str, *, at_once: bool) -> Claim | Outcome | InvoiceError:
        with transaction():
            found = refund_wishes.enter(charge_id, wish, mark)
            if not isinstance(found, int):
                return found
            claim = self._take(refunds.REFUND, found, at_once=at_once)
            return claim or Outcome(wish.charge_id, Standing.ACCEPTED)

    # Helpers

    def _find(self, partner: PartnerView, agreement_id: str, *, may_ask: bool) -> Held | InvoiceError:
        try:
            return self._scopes.find(partner, agreement_id, may_ask=may_ask) or NotFound(UNKNOWN)
        except ProviderError as error:
            return error

    def _find_charge(
        self, partner: PartnerView, agreement_id: str, charge_id: str, *, may_ask: bool
    ) -> tuple[Held, int] | InvoiceError:
        held = self._find(partner, agreement_id, may_ask=may_ask)
        if not isinstance(held, Held):
            return held
        try:
            number = self._scopes.find_charge(partner, held, charge_id, may_ask=may_ask)
        except ProviderError as error:
            return error
        return NotFound(UNKNOWN_CHARGE) if number is None else (held, number)

    def _take(self, kind: str, subject_id: int, *, at_once: bool) -> Claim | None:
        """Claim what was staged a moment ago, in the same transaction."""
        operation = queries.unclaimed(kind, subject_id) if at_once and not brakes.is_frozen() else None
        return self._operations.take(operation) if operation else None

    def _perform(
        self, claim: Claim, method: str, give_up: GiveUp | None = None
    ) -> tuple[ProviderError | None, Exchange | None]:
        with overhearing() as heard:
            error = self._operations.perform(claim, give_up)
        return error, _last(heard, method)

    def _put(
        self, held: Held, method: str, ask: Callable[[PaymentProvider], None]
    ) -> tuple[ProviderError | None, Exchange | None]:
        """Put to the provider what our books know to be over, for its words."""
        with overhearing() as heard:
            try:
                ask(self._accounts.of(held.account))
            except ProviderError as error:
                return error, _last(heard, method)
        return None, _last(heard, method)


def _look_again(model: type[Agreement | Charge], number: int) -> None:
    """Have a row looked at that the provider may see in another way than our books."""
    with transaction():
        db.session.execute(update(model).where(model.id == number).values(check_at=utc_now()))


def _last(heard: Sequence[Exchange], method: str) -> Exchange | None:
    """Return the answer to the act itself, and not to the looks around it or to the fetching of a token."""
    return next((e for e in reversed(heard) if e.method == method and "/accesstoken/" not in e.url), None)


def _called_off(shown: str, charge_id: int, error: ProviderError | None, heard: Exchange | None) -> Outcome:
    outcome = outcomes.of(shown, error, heard)
    if error is None:
        with reading():
            charge = db.session.get_one(Charge, charge_id)
        if charge.captured == charge.amount:
            return outcomes.no(shown, Conflict(f"The charge could not be called off: it is {charge.status}"), heard)
    return outcome
