"""How a partner's wishes for charges enter the books: each finds the row that it made before, or becomes a new one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from invoice.clock import business_date, utc_now
from invoice.config import Settings
from invoice.errors import Conflict, Invalid, RequestError
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.money import MAXIMUM, MINIMUM
from invoice.names import is_ours
from invoice.schedule import due_date, interval_around
from invoice.services import brakes, outcomes
from invoice.services.batches import Member
from invoice.services.outcomes import Outcome
from invoice.services.partners import PartnerView
from invoice.services.plans import CEILING
from invoice.services.scopes import EXTRA, Held
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Charge, Operation, Subscription

_DUE_IN = timedelta(days=2)  # Source: the original module
_NAME = re.compile(r"[A-Za-z0-9-]+")
_MAX_NAME, _MAX_TEXT = 64, 100  # characters, at Vipps
_ANY_AMOUNT = (0, 2**31 - 1)


@dataclass(frozen=True)
class Wish:
    """A charge to make. amount: minor units.  charge_id: the partner's own name for it, or empty."""

    agreement_id: str
    amount: int
    description: str = ""
    charge_id: str = ""


@dataclass(frozen=True)
class Place:
    """A wish, its place in the list, what it is about, and the names under which it may stand in the books."""

    number: int
    wish: Wish
    held: Held
    names: tuple[str, ...]  # the first is the one that it gets
    is_known: bool  # whether the same request finds the charge again

    @property
    def shown(self) -> str:
        return self.wish.charge_id or self.names[0]


class Entry:
    """Writes the wishes of one request into the books, in the caller's transaction."""

    def __init__(self, settings: Settings, partner: PartnerView, *, any_amount: bool) -> None:
        """any_amount: leaves it to the provider to judge amounts."""
        self._settings = settings
        self._any_amount = any_amount
        self._due_on = business_date(partner.market) + _DUE_IN
        self._submit_on = business_date(partner.market)
        self._known: dict[tuple[str, str], Charge] = {}
        self._members: list[Member] = []
        self._charges: dict[int, Charge] = {}
        self._asked: Counter[int] = Counter()  # subscription -> what this request has added to it
        self.refused: dict[int, Outcome] = {}
        self.rows: dict[int, int] = {}  # place -> charge
        self.sent_with: dict[int, int] = {}  # charge -> operation

    def begin(self, places: Sequence[Place]) -> None:
        """Lock the subscriptions, and look what stands in the books already."""
        self._subscriptions = queries.lock_subscriptions({place.held.subscription_id for place in places})
        self._agreements = queries.agreements_with({place.held.agreement_id for place in places})
        for account in {place.held.account for place in places}:
            names = {n for p in places if p.held.account == account for n in p.names if _is_name(n)}
            self._known |= {(account, name): c for name, c in queries.charges_named(account, names).items()}

    def add(self, place: Place) -> None:
        """Enter a charge, or find the one that this wish made before; a wish that cannot be is noted as refused."""
        try:
            charge = self._held(place) or self._new(place)
        except RequestError as no:
            self.refused[place.number] = outcomes.no(place.shown, no)
            return
        self._charges[place.number] = charge

    def write(self) -> None:
        """Write the charges down. In the order of their names: of two requests with the same ones, one waits."""
        for charge in sorted([member[0] for member in self._members], key=_by_name):
            db.session.add(charge)
        db.session.flush()
        self.rows = {number: charge.id for number, charge in self._charges.items()}

    def send(self, stage: Callable[[Sequence[Member]], Operation]) -> list[Operation]:
        """Stage what is to leave, the charges of each account together."""
        operations = []
        for account in sorted({charge.account for charge, _, _ in self._members}):
            members = [member for member in self._members if member[0].account == account]
            operations.append(stage(members))
            self.sent_with |= {charge.id: operations[-1].id for charge, _, _ in members}
        return operations

    def _held(self, place: Place) -> Charge | None:
        """Return the charge that stands for this wish; one that was turned down is sent again."""
        held = place.held
        found = [c for n in place.names if (c := self._known.get((held.account, n)))]
        # Under the second spelling only what hangs on this very agreement is the partner's.
        found = [c for c in found if c.name == place.names[0] or c.agreement_id == held.agreement_id]
        if not found:
            return None
        charge = found[0]
        if charge.agreement_id != held.agreement_id or not charge.is_extra:
            raise Conflict(f"charge_id {place.shown} stands for another charge")
        is_same = charge.amount == place.wish.amount
        if not is_same and not _is_nowhere(charge):
            raise Conflict(f"charge_id {place.shown} stands for a charge of {charge.amount}")
        # The same under its old name can exist only once, wherever it may turn up.
        is_refused = charge.status == ChargeStatus.REFUSED and charge.cancel_requested_at is None
        if _is_nowhere(charge) or (is_same and is_refused):
            self._check(place)
            charge.amount, charge.description = place.wish.amount, place.wish.description[:_MAX_TEXT] or None
            charge.due_on, charge.submit_on = self._due_on, self._submit_on
            charge.status, charge.failure_reason, charge.check_at = ChargeStatus.PLANNED, None, None
            self._send(charge, place)
        return charge

    def _new(self, place: Place) -> Charge:
        _check_name(place)
        self._check(place)
        charge = Charge(
            subscription_id=place.held.subscription_id,
            agreement_id=place.held.agreement_id,
            account=place.held.account,
            period=EXTRA,
            attempt=0,
            name=place.names[0],
            amount=place.wish.amount,
            currency=self._subscriptions[place.held.subscription_id].currency,
            due_on=self._due_on,
            submit_on=self._submit_on,
            retry_days=self._settings.invoice_retry_days,
            status=ChargeStatus.PLANNED,
            is_extra=True,
            description=place.wish.description[:_MAX_TEXT] or None,
            sends=0,
            captured=0,
            refunded=0,
            created_at=utc_now(),
        )
        self._known[place.held.account, charge.name] = charge
        self._send(charge, place)
        return charge

    def _send(self, charge: Charge, place: Place) -> None:
        held = place.held
        self._members.append((charge, self._agreements[held.agreement_id], self._subscriptions[held.subscription_id]))
        self._asked[held.subscription_id] += charge.amount

    def _check(self, place: Place) -> None:
        """Raise Conflict or Invalid for what cannot be charged now."""
        subscription = self._subscriptions[place.held.subscription_id]
        is_active = subscription.status == SubscriptionStatus.ACTIVE
        if not is_active or not self._agreements[place.held.agreement_id].is_adopted:
            raise Conflict(f"This agreement is not active: it is {subscription.status}")
        if brakes.holds(subscription.partner_id):
            raise Conflict("Charging is paused for this partner; the charge was not made")
        if subscription.stop_on is not None and self._due_on >= subscription.stop_on:
            raise Conflict(f"This agreement ends on {subscription.stop_on}: nothing can fall due on {self._due_on}")
        currency = subscription.currency
        low, high = _ANY_AMOUNT if self._any_amount else (MINIMUM[currency], MAXIMUM[currency])
        if not low <= place.wish.amount <= high:
            raise Invalid(message=f"price must be from {low} to {high}, in the smallest unit of {currency}")
        left = self._left_beside_the_calendar(subscription)
        if left is not None and place.wish.amount > left:
            raise Conflict(
                f"price must be at most {max(left, 0)} now: the payment of this interval is still to be sent"
            )

    def _left_beside_the_calendar(self, subscription: Subscription) -> int | None:
        """Return how much more may fall due in this interval without taking the room of a renewal to come.

        None: none is to come, and what is too much the provider says.
        """
        if not subscription.is_scheduled or subscription.anchor_on is None:
            return None
        anchor, interval = subscription.anchor_on, subscription.interval
        first_on, end_on = interval_around(anchor, interval, self._due_on)
        is_unplanned = first_on <= due_date(anchor, interval, subscription.next_period) < end_on
        if not is_unplanned and not queries.has_unsent_renewal(subscription.id, first_on, end_on):
            return None
        taken = queries.sum_due_between(subscription.id, first_on, end_on) + self._asked[subscription.id]
        return (CEILING - is_unplanned) * subscription.amount - taken


def _by_name(charge: Charge) -> tuple[str, str]:
    return charge.account, charge.name


def _is_name(name: str) -> bool:
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def _check_name(place: Place) -> None:
    given, name = place.wish.charge_id, place.names[0]
    if given and not _is_name(name):
        most = _MAX_NAME - len(name) + len(given)
        raise Invalid(message=f"charge_id must be 1 to {most} letters, digits and dashes")
    if given and is_ours(given):
        raise Invalid(message="charge_id must not begin like a name that this service gives")


def _is_nowhere(charge: Charge) -> bool:
    """Tell whether nothing of this name is or will be at the provider, and nobody has called it off.

    It was turned down for good, or taken out before it was sent.
    """
    is_out = charge.status in (ChargeStatus.REFUSED, ChargeStatus.VOID)
    return is_out and charge.check_at is None and charge.cancel_requested_at is None
