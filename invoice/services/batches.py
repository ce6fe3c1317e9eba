"""Charges leave the house: what is planned for today goes to Vipps in batches, one account and market at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import update

from invoice.clock import MARKET_ZONES, business_date, utc_now
from invoice.config import Settings
from invoice.errors import ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import ChargeStatus
from invoice.names import new_ulid
from invoice.providers.base import BatchAnswer, ChargeView, NewCharge, PaymentProvider
from invoice.schedule import MINIMUM_LEAD_DAYS, coming_dues, planned_due
from invoice.services import brakes, charges
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Operation, Subscription

logger = logging.getLogger(__name__)

CREATE = "CREATE"
MAX_BATCH = 2000  # Source: Vipps Recurring v3, bulk endpoint.
_SLICE = 500
_TAKEN = 409  # the name is in use, or the key stands for another body
_ANOTHERS = "the name is another charge's"
# A clock that is this far from Vipps' may have us ask for money on a wrong day: nothing is created then.
_MAX_SKEW = timedelta(minutes=5)

Member = tuple[Charge, Agreement, Subscription]


class _Unsent:
    """The outcome of a batch that never left."""


UNSENT: Final = _Unsent()


class Batches:
    """Submits charges; a handler of operations."""

    def __init__(self, settings: Settings, accounts: Accounts, operations: Operations) -> None:
        self._settings = settings
        self._accounts = accounts
        self._operations = operations
        operations.handle(CREATE, self)

    def submit(self) -> int:
        """Create at Vipps what is planned for today, a batch for each market; return how many charges were sent.

        Only a market that has some is locked: what waits for a brake or for an earlier charge may wait for days.
        """
        with reading():
            markets = [market for market in MARKET_ZONES if queries.is_any_to_submit(market, *self._days(market))]
        return sum(self._submit_batch(market) for market in markets)

    def _days(self, market: str) -> tuple[date, date]:
        """Return today there, and the first due date of a charge that others still wait for."""
        today = business_date(market)
        return today, today - timedelta(days=self._settings.invoice_retry_days + 3)

    def _submit_batch(self, market: str) -> int:
        with transaction():
            today, since = self._days(market)
            found = queries.lock_charges_to_submit(market, today, since, MAX_BATCH)
            held = brakes.hold_unlikely({member[2].partner_id for member in found}, today, self._settings)
            members = [member for member in found if member[2].partner_id not in held and _is_in_time(*member)]
            if not members:
                return 0
            # One batch goes out under one account; the others' charges are next.
            account = members[0][1].account
            members = [member for member in members if member[1].account == account]
            # Claimed in the same commit: no batch lies about unclaimed while a cancel changes its members.
            claim = self._operations.take(self.stage(members))
        self._operations.perform(claim)
        return len(members)

    def stage(self, members: Sequence[Member]) -> Operation:
        """Freeze a batch and bind its members to it, in the caller's transaction. They are of one account.

        One alone goes by the call for one, which says at once what became of it.
        """
        new, own = [_new_charge(*member) for member in members], self._accounts.own
        request = own.charge_request(new[0]) if len(new) == 1 else own.charges_request(new)
        account = members[0][1].account
        operation = stage(Act(CREATE, len(members), None, f"batch-{new_ulid()}", account=account, request=request))
        brakes.count({(s.partner_id, charge) for charge, _, s in members if charge.sent_at is None})
        ids = [charge.id for charge, _, _ in members]
        sending = {"status": ChargeStatus.SUBMITTING, "sends": Charge.sends + 1, "sent_at": operation.created_at}
        _set(ids, **sending, operation_id=operation.id, failure_reason=None, check_at=None)
        return operation

    def call(self, claim: Claim) -> BatchAnswer | _Unsent | None:
        """Send the batch while all its members are still to be charged, every time the very same bytes and key.

        None: they are not, and some may be at Vipps: each is asked for by its name.
        """
        with reading():
            is_whole = queries.chargeable_members(claim.id) == claim.subject_id
        if not is_whole:
            return None if claim.in_doubt else UNSENT
        payments = self._accounts.of(str(claim.account))
        skew = payments.clock_skew()
        if abs(skew) > _MAX_SKEW:
            raise ProviderUnavailable(f"our clock is {skew} from Vipps'")
        if claim.subject_id == 1:
            return _create_one(payments, claim)
        return payments.create_charges(claim.request, key=claim.key)

    def settle(self, claim: Claim, result: BatchAnswer | _Unsent | None) -> None:
        """Accepted is not created: every member is looked at before it is believed."""
        if isinstance(result, _Unsent):
            self._form_anew(claim)
            return
        members = {charge.name: charge.id for charge, _, _ in queries.members_of(claim.id)}
        now = utc_now()
        if result is None:
            _set(members.values(), check_at=now)
            return
        for name, reason in result.refused.items():
            if name in members:
                _set([members.pop(name)], failure_reason=reason[:200], check_at=now)
        # A name that the answer leaves out is treated as accepted: it shows, or is sent again after a day.
        _set(members.values(), status=ChargeStatus.SUBMITTED, check_at=now)

    def _form_anew(self, claim: Claim) -> None:
        """Somebody cancelled before the batch left: the others go out with the next one, without any doubt."""
        queries.lock_subscriptions_of(claim.id)
        for charge, _, subscription in queries.members_of(claim.id):
            charge.sends -= 1
            charges.send_again(subscription, charge)

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The whole batch was turned down, which says nothing of any one charge: halves are sent, down to the one."""
        queries.lock_subscriptions_of(claim.id)
        members = queries.members_of(claim.id)
        if len(members) == 1:
            charge, _, subscription = members[0]
            if charge.is_extra and _is_definite(claim, refusal):
                charges.turn_down(subscription, charge, refusal.message)
                return
            charge.failure_reason, charge.check_at = refusal.message[:200], utc_now()
            return
        logger.error("A batch of %s charges was refused: %s", len(members), refusal.message)
        for charge, _, subscription in members:
            charge.sends -= 1  # for another's fault: that says nothing of this one
            if not charges.is_wanted(subscription, charge):
                charges.send_again(subscription, charge)
        members = [m for m in members if m[0].status == ChargeStatus.SUBMITTING and _is_in_time(*m)]
        middle = len(members) // 2
        for half in (members[:middle], members[middle:]):
            if half:
                self.stage(half)


def _create_one(payments: PaymentProvider, claim: Claim) -> BatchAnswer:
    """Create one charge. A name that is taken is as good as created when it is by this very charge."""
    with reading():
        found = queries.only_member(claim.id)
        if found is None:
            raise ProviderUncertain("the charge has just been seen")
        charge, agreement = found
        name, agreement_id = charge.name, str(agreement.provider_agreement_id)
        wanted = (agreement_id, charge.amount, charge.currency)
    try:
        payments.create_charge(agreement_id, claim.request, key=claim.key)
    except ProviderRefused as refusal:
        if refusal.status != _TAKEN:
            raise
        there = _look(payments, agreement_id, name)
        if there is None:  # it shows late, or stands under another agreement
            raise
        if (there.agreement_id, there.amount, there.currency) != wanted:
            refusal.problem = _ANOTHERS
            raise
    return BatchAnswer(frozenset({name}), {})


def _look(payments: PaymentProvider, agreement_id: str, name: str) -> ChargeView | None:
    try:
        return payments.find_charge(agreement_id, name)
    except ProviderError as error:
        raise ProviderUncertain(error.message) from error


def _is_definite(claim: Claim, refusal: ProviderRefused) -> bool:
    """Tell whether a refused charge is surely not at Vipps, neither by this try nor by one before it."""
    return not claim.in_doubt and (refusal.status != _TAKEN or refusal.problem == _ANOTHERS)


def _is_in_time(charge: Charge, _: Agreement, subscription: Subscription) -> bool:
    """Move a date that has come too near to the earliest that may be; take out what would then be due after the end."""
    today = business_date(queries.market_of(subscription.partner_id))
    if charge.due_on < today + timedelta(days=MINIMUM_LEAD_DAYS):
        charge.due_on = planned_due(charge.due_on, today, _other_dues(charge, subscription))
    if subscription.stop_on is None or charge.due_on < subscription.stop_on:
        return True
    charge.status, charge.operation_id, charge.cancel_requested_at = ChargeStatus.VOID, None, utc_now()
    charge.check_at = utc_now() if charge.sends else None
    return False


def _new_charge(charge: Charge, agreement: Agreement, subscription: Subscription) -> NewCharge:
    return NewCharge(
        agreement_id=str(agreement.provider_agreement_id),
        name=charge.name,
        amount=charge.amount,
        currency=charge.currency,
        description=charge.description or subscription.name,
        due_on=charge.due_on,
        retry_days=charge.retry_days,
        is_reserved=charge.is_reserved,
    )


def _other_dues(charge: Charge, subscription: Subscription) -> list[date]:
    """Return what a late charge must keep its distance from: all other due dates, and those that come next.

    An extra one keeps none: its partner chose the day.
    """
    if charge.is_extra:
        return []
    dues = list(queries.due_dates(subscription.id, except_for=charge.id))
    if subscription.anchor_on is not None:
        today = business_date(queries.market_of(subscription.partner_id))
        dues += coming_dues(subscription.anchor_on, subscription.interval, subscription.next_period, today)
    return dues


def _set(ids: Iterable[int], **values: Any) -> None:
    """Change charges in slices that every database takes."""
    every = list(ids)
    for start in range(0, len(every), _SLICE):
        chosen = Charge.id.in_(every[start : start + _SLICE])
        db.session.execute(update(Charge).where(chosen).values(**values))
