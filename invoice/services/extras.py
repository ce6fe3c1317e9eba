"""Charges that a partner makes at its own word: rows of the same books, under the same fences.

A name stands for one charge for ever: the same request again finds the row that it made, and a charge that was
turned down may be asked for again under its name. Up to a hundred go to the provider one by one, each with an answer
of its own; more go in batches. What there is no time or no share of calls for is left to the worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

from sqlalchemy.exc import IntegrityError

from invoice.clock import stopwatch
from invoice.config import Settings
from invoice.errors import Conflict, InvoiceError, NotFound, ProviderError
from invoice.lifecycle import ChargeStatus, OperationStatus
from invoice.names import extra_name
from invoice.services import cancels, outcomes
from invoice.services.batches import Batches
from invoice.services.books import NOT_CREATED
from invoice.services.entries import Entry, Place, Wish
from invoice.services.operations import Claim, GiveUp, Operations
from invoice.services.outcomes import Outcome, Standing
from invoice.services.partners import PartnerView
from invoice.services.scopes import UNKNOWN, Held, Scopes
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Operation

ONE_BY_ONE = 100
_RACES = 3  # how often others may be quicker with the same names

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
        self,
        partner: PartnerView,
        wishes: Mapping[int, Wish],
        *,
        key: str | None = None,
        literal: bool = False,
        patience_s: float,
    ) -> dict[int, Outcome]:
        """Make charges, each for itself; return what came of each.

        wishes: by their place in the request.
        key: of the request: the same again makes nothing anew.
        literal: the caller is told what the provider says and nothing else, and takes an error for the end of it. So
        amounts are left to the provider to judge, and what the caller is told has failed is taken back: what could
        not be sent at once, and what may have come to the provider but could not be found again by its caller.
        """
        deadline = stopwatch() + patience_s
        found = {
            agreement_id: self._find(partner, agreement_id, may_ask=stopwatch() < deadline)
            for agreement_id in {wish.agreement_id for wish in wishes.values()}
        }
        results: dict[int, Outcome] = {}
        places = []
        for number, wish in wishes.items():
            held = found[wish.agreement_id]
            if isinstance(held, Held):
                names, is_known = self._names(partner, held, wish, key, number), bool(wish.charge_id or key)
                places.append(Place(number, wish, held, names, is_known=is_known))
            else:
                results[number] = outcomes.no(wish.charge_id, held)
        size = 1 if len(wishes) <= ONE_BY_ONE else len(wishes)
        for start in range(0, len(places), size):
            some = places[start : start + size]
            results |= self._make(partner, some, is_in_time=stopwatch() < deadline, literal=literal)
        return results

    def _find(self, partner: PartnerView, agreement_id: str, *, may_ask: bool) -> Held | InvoiceError:
        try:
            return self._scopes.find(partner, agreement_id, may_ask=may_ask) or NotFound(UNKNOWN)
        except ProviderError as error:
            return error

    def _names(self, partner: PartnerView, held: Held, wish: Wish, key: str | None, number: int) -> tuple[str, ...]:
        if wish.charge_id:
            return self._scopes.names_of(partner, held, wish.charge_id)
        # The same for the same request, and for no other.
        tag = sha256(f"{key}|{number}".encode()).hexdigest()[:12] if key else secrets.token_hex(6)
        return (extra_name(held.ulid, tag),)

    def _make(
        self, partner: PartnerView, places: Sequence[Place], *, is_in_time: bool, literal: bool
    ) -> dict[int, Outcome]:
        any_amount = literal and len(places) == 1  # in a batch a wrong one would have all turned down
        for race in range(1, _RACES + 1):
            entry = Entry(self._settings, partner, any_amount=any_amount)
            try:
                claims = self._enter(entry, places, is_in_time=is_in_time)
                break
            except IntegrityError:
                # The same name in two requests at once: the other one's row is there now.
                if race == _RACES:
                    raise
        give_up = GiveUp(lambda error: outcomes.is_failure(error, literal=literal), _withdraw)
        errors = {claim.id: self._operations.perform(claim, give_up) for claim in claims}
        results = dict(entry.refused)
        with reading():
            for place in places:
                if place.number in entry.rows:
                    charge = db.session.get_one(Charge, entry.rows[place.number])
                    error = errors.get(entry.sent_with.get(charge.id, 0))
                    results[place.number] = _outcome(place.shown, charge, error)
        for place in places if literal else ():
            if not place.is_known and results[place.number].standing == Standing.UNKNOWN:
                _call_off(entry.rows[place.number])
        return results

    def _enter(self, entry: Entry, places: Sequence[Place], *, is_in_time: bool) -> list[Claim]:
        """Write charges down, and claim what is to leave at once; the rest goes with the worker's next batch."""
        with transaction():
            entry.begin(places)
            for place in places:
                entry.add(place)
            entry.write()
            operations = entry.send(self._batches.stage) if is_in_time else []
            return [self._operations.take(operation) for operation in operations]


def _withdraw(claim: Claim) -> None:
    """Take charges that were not sent out of the books."""
    queries.lock_subscriptions_of(claim.id)
    for charge, _, _ in queries.members_of(claim.id):
        charge.status, charge.operation_id = ChargeStatus.VOID, None
        charge.sends -= 1


def _call_off(charge_id: int) -> None:
    """Have a charge not taken that may be at the provider: its caller takes it for failed, and will make another."""
    with transaction(), suppress(Conflict):
        cancels.request_cancel(*queries.lock_charge(charge_id))


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
    if charge.status == ChargeStatus.SUBMITTING and charge.failure_reason in (None, NOT_CREATED):
        operation = db.session.get(Operation, charge.operation_id) if charge.operation_id else None
        is_unsent = operation is not None and operation.status == OperationStatus.READY
        return (Standing.ACCEPTED if is_unsent else Standing.UNKNOWN), "Vipps has not answered yet"
    return Standing.REFUSED, charge.failure_reason or f"The charge is {charge.status}"
