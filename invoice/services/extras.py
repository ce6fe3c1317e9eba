"""Charges that a partner makes at its own word: rows of the same books, under the same fences.

A name stands for one charge for ever: the same request again finds the row that it made, and a charge that was
turned down may be asked for again under its name. Up to a hundred go to the provider one by one, each with an answer
of its own; more go in batches. What there is no time or no share of calls for is left to the worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy.exc import IntegrityError

from invoice.clock import stopwatch
from invoice.config import Settings
from invoice.errors import Conflict, InvoiceError, NotFound, ProviderDenied, ProviderError, ProviderUnavailable
from invoice.lifecycle import ChargeStatus, OperationStatus
from invoice.names import extra_name
from invoice.services import outcomes
from invoice.services.batches import Batches
from invoice.services.entries import Entry, Place, Wish
from invoice.services.operations import Claim, Operations
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.services.scopes import UNKNOWN, Held, Scopes
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Operation

ONE_BY_ONE = 100
PATIENCE_S = 20.0  # for all items of a request together

_THERE = frozenset(
    {
        ChargeStatus.SUBMITTED,
        ChargeStatus.RESERVED,
        ChargeStatus.CHARGED,
        ChargeStatus.PARTIALLY_REFUNDED,
        ChargeStatus.REFUNDED,
    }
)


class Extras:
    """Makes extra charges."""

    def __init__(self, settings: Settings, operations: Operations, batches: Batches, scopes: Scopes) -> None:
        self._settings = settings
        self._operations = operations
        self._batches = batches
        self._scopes = scopes

    def make(
        self, partner: PartnerView, wishes: Sequence[Wish], *, key: str | None = None, literal: bool = False
    ) -> list[Outcome]:
        """Make charges, each for itself; return what came of each, in order.

        key: of the request: the same again makes nothing anew.
        literal: the caller is told what the provider says and nothing else. So amounts are left to it to judge, and
        what could not be sent at once is taken back, because the caller is told that it failed.
        """
        deadline = stopwatch() + PATIENCE_S
        found = {agreement_id: self._find(partner, agreement_id) for agreement_id in {w.agreement_id for w in wishes}}
        results: dict[int, Outcome] = {}
        places = []
        for number, wish in enumerate(wishes):
            held = found[wish.agreement_id]
            if isinstance(held, Held):
                places.append(Place(number, wish, held, self._names(partner, held, wish, _tag(key, number))))
            else:
                results[number] = outcomes.no(wish.charge_id, held)
        size = 1 if len(wishes) <= ONE_BY_ONE else len(wishes)
        for start in range(0, len(places), size):
            some = places[start : start + size]
            results |= self._make(partner, some, is_in_time=stopwatch() < deadline, literal=literal)
        return [results[number] for number in range(len(wishes))]

    def _find(self, partner: PartnerView, agreement_id: str) -> Held | InvoiceError:
        try:
            return self._scopes.find(partner, agreement_id) or NotFound(UNKNOWN)
        except ProviderError as error:
            return error

    def _names(self, partner: PartnerView, held: Held, wish: Wish, tag: str) -> tuple[str, ...]:
        if not wish.charge_id:
            return (extra_name(held.ulid, tag),)
        return self._scopes.names_of(partner, held, wish.charge_id)

    def _make(
        self, partner: PartnerView, places: Sequence[Place], *, is_in_time: bool, literal: bool
    ) -> dict[int, Outcome]:
        entry = Entry(self._settings, partner, literal=literal)
        try:
            claims = self._enter(entry, places, is_in_time=is_in_time)
        except IntegrityError:
            # The same name in two requests at once: the other one's row is there now.
            entry = Entry(self._settings, partner, literal=literal)
            claims = self._enter(entry, places, is_in_time=is_in_time)
        errors = {claim.id: self._operations.perform(claim) for claim in claims}
        for operation_id, error in errors.items():
            if _is_unsent(error, literal=literal):
                _withdraw(operation_id)
        with reading():
            for place in places:
                if place.number in entry.rows:
                    charge_id, sent_with = entry.rows[place.number]
                    charge = db.session.get_one(Charge, charge_id)
                    entry.refused[place.number] = _outcome(place.shown, charge, errors.get(sent_with or 0))
        return entry.refused

    def _enter(self, entry: Entry, places: Sequence[Place], *, is_in_time: bool) -> list[Claim]:
        """Write charges down, and claim what is to leave at once; the rest goes with the worker's next batch."""
        with transaction():
            entry.begin(places)
            for place in places:
                entry.add(place)
            operations = []
            if is_in_time:
                operations = [self._batches.stage(members) for members in entry.by_account()]
            entry.note()
            return [self._operations.take(operation) for operation in operations]


def _tag(key: str | None, number: int) -> str:
    """Return what tells an unnamed charge from the others of its agreement: the same for the same request."""
    return sha256(f"{key}|{number}".encode()).hexdigest()[:12] if key else secrets.token_hex(6)


def _is_unsent(error: ProviderError | None, *, literal: bool) -> bool:
    """Tell whether a charge surely did not go out and its caller is told so."""
    if isinstance(error, ProviderUnavailable):
        return literal and bool(error.origin.failure or error.origin.exchange)
    return isinstance(error, ProviderDenied)


def _withdraw(operation_id: int) -> None:
    """Take charges out of the books that their caller is told have failed, unless a worker is sending them by now."""
    with transaction():
        # The operation first, and the subscriptions after it: the order of those who settle it.
        if queries.take_back(operation_id):
            queries.lock_subscriptions_of(operation_id)
            for charge, _, _ in queries.members_of(operation_id):
                charge.status, charge.operation_id = ChargeStatus.VOID, None
                charge.sends -= 1


def _outcome(shown: str, charge: Charge, error: ProviderError | None) -> Outcome:
    """Return how a charge stands, in the words of the provider where it has just spoken."""
    standing, reason = _standing(charge)
    if standing in (Standing.DONE, Standing.ACCEPTED):
        return Outcome(shown, standing)
    return Outcome(shown, standing, error or Conflict(reason))


def _standing(charge: Charge) -> tuple[Standing, str]:
    if charge.status in _THERE:
        return Standing.DONE, ""
    if charge.status == ChargeStatus.PLANNED:
        return Standing.ACCEPTED, ""
    if charge.status == ChargeStatus.SUBMITTING and charge.failure_reason is None:
        operation = db.session.get(Operation, charge.operation_id) if charge.operation_id else None
        is_unsent = operation is not None and operation.status == OperationStatus.READY
        return (Standing.ACCEPTED if is_unsent else Standing.UNKNOWN), "Vipps has not answered yet"
    return Standing.REFUSED, charge.failure_reason or f"The charge is {charge.status}"
