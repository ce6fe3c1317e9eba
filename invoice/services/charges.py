"""The life of a payment: planned in the books, submitted in batches, looked at until it is settled."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import update

from invoice.clock import MARKET_ZONES, business_date, utc_now
from invoice.config import Settings
from invoice.errors import ProviderRefused
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.names import charge_name, new_ulid
from invoice.providers.base import BatchAnswer, NewCharge, PaymentProvider
from invoice.schedule import MINIMUM_LEAD_DAYS, due_date, plan_date, planned_due, submit_date
from invoice.services import books, outbox
from invoice.services.consents import PLAN_AHEAD_DAYS
from invoice.services.operations import Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Operation, Subscription

logger = logging.getLogger(__name__)

CREATE = "CREATE"
MAX_BATCH = 2000  # Source: Vipps Recurring v3, bulk endpoint.
_SLICE = 500
# A charge that was accepted may show late, or be turned down later without a word.
_UNSEEN_LOOK = timedelta(minutes=2)
_ACCEPTED_SHOWS = timedelta(hours=24)
_DOUBTED_SHOWS = timedelta(minutes=10)
_GIVEN_UP_LOOK = timedelta(hours=24)

Member = tuple[Charge, Agreement, Subscription]


class Charges:
    """Plans, submits and looks; a handler of operations."""

    def __init__(self, settings: Settings, payments: PaymentProvider, operations: Operations) -> None:
        self._settings = settings
        self._payments = payments
        self._operations = operations
        operations.handle(CREATE, self)

    # Plan

    def plan(self) -> int:
        """Enter into the books every period whose time has come; return how many subscriptions were looked at.

        Two planners at once are harmless: a period's row is unique.
        """
        return sum(self._plan_slice(market) for market in MARKET_ZONES)

    def _plan_slice(self, market: str) -> int:
        today = business_date(market)
        with transaction():
            subscriptions = queries.subscriptions_to_plan(market, today, _SLICE)
            rows = [row for s in subscriptions if (row := self._plan_next(s, today))]
            queries.insert_ignoring(Charge, rows)
            return len(subscriptions)

    def _plan_next(self, subscription: Subscription, today: date) -> dict[str, Any] | None:
        """Return the row of the next period and move on to the one after; None when a late one must wait its turn."""
        agreement = queries.adopted_agreement(subscription.id)
        anchor, interval, period = subscription.anchor_on, subscription.interval, subscription.next_period
        if anchor is None or agreement is None:
            logger.error("Subscription %s is active without an anchor or an agreement.", subscription.id)
            subscription.next_plan_on = today + timedelta(days=1)
            return None
        scheduled_on = due_date(anchor, interval, period)
        is_late = scheduled_on < today + timedelta(days=MINIMUM_LEAD_DAYS)
        if is_late and queries.has_open_charge(subscription.id, today - self._longest_wait):
            subscription.next_plan_on = today + timedelta(days=1)
            return None
        next_on = due_date(anchor, interval, period + 1)
        taken = [*queries.due_dates(subscription.id), next_on] if is_late else []
        due_on = planned_due(scheduled_on, today, taken)
        subscription.next_period = period + 1
        subscription.next_plan_on = plan_date(next_on, self._settings.invoice_lead_days + PLAN_AHEAD_DAYS)
        return self._row(subscription, agreement, period, due_on)

    @property
    def _longest_wait(self) -> timedelta:
        """How long after its due date a charge is still expected to come to an end."""
        return timedelta(days=self._settings.invoice_retry_days + 3)

    def _row(self, subscription: Subscription, agreement: Agreement, period: int, due_on: date) -> dict[str, Any]:
        return {
            "subscription_id": subscription.id,
            "agreement_id": agreement.id,
            "period": period,
            "attempt": 0,
            "name": charge_name(subscription.ulid, period, 0),
            "amount": subscription.amount,
            "currency": subscription.currency,
            "due_on": due_on,
            "submit_on": submit_date(due_on, self._settings.invoice_lead_days),
            "retry_days": self._settings.invoice_retry_days,
            "status": ChargeStatus.PLANNED,
            "is_surplus": False,
            "captured": 0,
            "refunded": 0,
            "created_at": utc_now(),
        }

    # Submit

    def submit(self) -> int:
        """Create at Vipps what is planned for today, a batch for each market; return how many charges were sent."""
        return sum(self._submit_batch(market) for market in MARKET_ZONES)

    def _submit_batch(self, market: str) -> int:
        with transaction():
            today = business_date(market)
            members = queries.lock_charges_to_submit(market, today, today - self._longest_wait, MAX_BATCH)
            if not members:
                return 0
            # Claimed in the same commit: no batch lies about unclaimed while a cancel changes its members.
            claim = self._operations.take(self._stage(members))
        self._operations.perform(claim)
        return len(members)

    def _stage(self, members: Sequence[Member]) -> Operation:
        """Freeze a batch and bind its members to it, in the caller's transaction."""
        operation = stage(
            kind=CREATE,
            subject_id=len(members),
            subscription_id=None,
            name=f"batch-{new_ulid()}",
            request=self._payments.charges_request([self._new_charge(*member) for member in members]),
        )
        ids = [charge.id for charge, _, _ in members]
        _set(ids, status=ChargeStatus.SUBMITTING, operation_id=operation.id, failure_reason=None, check_at=None)
        return operation

    def _new_charge(self, charge: Charge, agreement: Agreement, subscription: Subscription) -> NewCharge:
        """Describe a charge; one whose date has come too near moves to the earliest that may be."""
        today = business_date(queries.market_of(subscription.partner_id))
        if charge.due_on < today + timedelta(days=MINIMUM_LEAD_DAYS):
            charge.due_on = planned_due(charge.due_on, today, _other_dues(charge, subscription))
        return NewCharge(
            agreement_id=str(agreement.provider_agreement_id),
            name=charge.name,
            amount=charge.amount,
            description=subscription.name,
            due_on=charge.due_on,
            retry_days=charge.retry_days,
        )

    # The batch, as a handler of operations

    def call(self, claim: Claim) -> BatchAnswer | None:
        """Send the batch while all its members are still to be charged, every time the very same bytes and key.

        None: they are not; each is asked for by its name.
        """
        with reading():
            if queries.chargeable_members(claim.id) != claim.subject_id:
                return None
        return self._payments.create_charges(claim.request, key=claim.key)

    def settle(self, claim: Claim, result: BatchAnswer | None) -> None:
        """Accepted is not created: every member is looked at before it is believed."""
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

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The whole batch was turned down, which says nothing of any one charge: halves are sent, down to the one."""
        members = queries.members_of(claim.id)
        if len(members) == 1:
            charge = members[0][0]
            charge.failure_reason, charge.check_at = refusal.message[:200], utc_now()
            return
        logger.error("A batch of %s charges was refused: %s", len(members), refusal.message)
        middle = len(members) // 2
        for half in (members[:middle], members[middle:]):
            if half:
                self._stage(half)

    # Refresh

    def refresh(self, charge_id: int) -> None:
        """Ask Vipps how a charge stands and bring our row up to it, forward only.

        Raises ProviderError when Vipps cannot say; nothing has changed then.
        """
        with reading():
            charge = db.session.get_one(Charge, charge_id)
            subscription_id, name, seen = charge.subscription_id, charge.name, charge.check_at
            agreement_id = str(db.session.get_one(Agreement, charge.agreement_id).provider_agreement_id)
        view = self._payments.find_charge(agreement_id, name)
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            # Locked: its batch settles, and bells ring, without the subscription's lock.
            charge = db.session.get_one(Charge, charge_id, with_for_update=True)
            was_rung = charge.check_at != seen
            if view is not None:
                books.adopt(subscription, charge, view)
            elif charge.status in (ChargeStatus.SUBMITTING, ChargeStatus.SUBMITTED):
                self._missing(subscription, charge)
            else:
                charge.check_at = self._last_looks(subscription, charge)
            if was_rung:
                # The bell rang while we looked: what it rang for may have come after our answer.
                charge.check_at = utc_now()

    def _missing(self, subscription: Subscription, charge: Charge) -> None:
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
            self._turned_down(subscription, charge)
        else:
            self._send_again(subscription, charge)

    def _last_looks(self, subscription: Subscription, charge: Charge) -> datetime | None:
        """Return when to look again at one that we gave up or set aside: daily, while Vipps might still take it."""
        today = business_date(queries.market_of(subscription.partner_id))
        may_come = charge.period > 0 and today <= charge.due_on + timedelta(days=charge.retry_days + 3)
        return utc_now() + _GIVEN_UP_LOOK if may_come else None

    def _turned_down(self, subscription: Subscription, charge: Charge) -> None:
        """Vipps gave a reason: a date that has come too near is moved; anything else is for an operator."""
        today = business_date(queries.market_of(subscription.partner_id))
        is_too_near = charge.due_on < today + timedelta(days=MINIMUM_LEAD_DAYS)
        if is_too_near or subscription.status != SubscriptionStatus.ACTIVE:
            self._send_again(subscription, charge)
            return
        charge.status, charge.check_at = ChargeStatus.REFUSED, self._last_looks(subscription, charge)
        # The likeliest reason is an agreement that has ended without our knowing.
        db.session.get_one(Agreement, charge.agreement_id).check_at = utc_now()
        logger.error("Charge %s was refused: %s", charge.name, charge.failure_reason)
        outbox.record(subscription, "charge.refused", charge=charge.name, reason=charge.failure_reason)

    def _send_again(self, subscription: Subscription, charge: Charge) -> None:
        """Put it back under the same name, so that it can exist only once; or take it out when nobody is to pay."""
        charge.operation_id = charge.failure_reason = charge.check_at = None
        if subscription.status == SubscriptionStatus.ACTIVE:
            charge.status = ChargeStatus.PLANNED
        else:
            charge.status, charge.check_at = ChargeStatus.VOID, self._last_looks(subscription, charge)


def _other_dues(charge: Charge, subscription: Subscription) -> list[date]:
    """Return what a late charge must keep its distance from: all other due dates, and the one that comes next."""
    dues = list(queries.due_dates(subscription.id, except_for=charge.id))
    if subscription.anchor_on is not None:
        dues.append(due_date(subscription.anchor_on, subscription.interval, subscription.next_period))
    return dues


def _patience(charge: Charge) -> timedelta:
    """Return how long to wait for a charge to show: a day for one that Vipps took in, else some minutes."""
    is_accepted = charge.status == ChargeStatus.SUBMITTED and charge.failure_reason is None
    return _ACCEPTED_SHOWS if is_accepted else _DOUBTED_SHOWS


def _set(ids: Iterable[int], **values: Any) -> None:
    """Change charges in slices that every database takes."""
    every = list(ids)
    for start in range(0, len(every), _SLICE):
        chosen = Charge.id.in_(every[start : start + _SLICE])
        db.session.execute(update(Charge).where(chosen).values(**values))
