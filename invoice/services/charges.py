"""The life of a payment: planned in the books, submitted in batches, looked at until it is settled."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from sqlalchemy import select, update

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
_UNSEEN_MAX = timedelta(hours=24)


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
        anchor, interval, period = subscription.anchor_on, subscription.interval, subscription.next_period
        if anchor is None:
            raise AssertionError(f"Subscription {subscription.id} is active without an anchor.")
        scheduled_on = due_date(anchor, interval, period)
        is_late = scheduled_on < today + timedelta(days=MINIMUM_LEAD_DAYS)
        if is_late and queries.has_open_charge(subscription.id):
            subscription.next_plan_on = today + timedelta(days=1)
            return None
        due_on = planned_due(scheduled_on, today, queries.last_due_on(subscription.id))
        subscription.next_period = period + 1
        ahead = self._settings.invoice_lead_days + PLAN_AHEAD_DAYS
        subscription.next_plan_on = plan_date(due_date(anchor, interval, period + 1), ahead)
        agreement = queries.adopted_agreement(subscription.id)
        if agreement is None:
            raise AssertionError(f"Subscription {subscription.id} is active without an agreement.")
        return self._row(subscription, agreement, period, due_on)

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
            members = queries.lock_charges_to_submit(market, business_date(market), MAX_BATCH)
            if not members:
                return 0
            new = [self._new_charge(c, a, s, business_date(market)) for c, a, s in members]
            operation = stage(
                kind=CREATE,
                subject_id=0,
                subscription_id=None,
                name=f"batch-{new_ulid()}",
                request=self._payments.charges_request(new),
            )
            ids = [charge.id for charge, _, _ in members]
            _set(ids, status=ChargeStatus.SUBMITTING, operation_id=operation.id, failure_reason=None, check_at=None)
            # Claimed in the same commit: no batch lies about unclaimed while a cancel changes its members.
            claim = self._operations.take(operation)
        self._operations.perform(claim)
        return len(ids)

    def _new_charge(self, charge: Charge, agreement: Agreement, subscription: Subscription, today: date) -> NewCharge:
        """Describe a charge; one whose date has come too near moves to the earliest that Vipps takes."""
        charge.due_on = planned_due(charge.due_on, today, None)
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
        """Send the batch. A second try sends the very same bytes and key, while all its members are still to be
        charged; None: they are not, and each is asked for by its name."""
        if claim.attempts > 1:
            with reading():
                if not queries.batch_is_chargeable(claim.id):
                    return None
        return self._payments.create_charges(claim.request, key=claim.key)

    def settle(self, claim: Claim, result: BatchAnswer | None) -> None:
        """Accepted is not created: every member is looked at before it is believed."""
        members, now = _members(claim.id), utc_now()
        if result is None:
            _set(members.values(), check_at=now)
            return
        for name, reason in result.refused.items():
            if name in members:
                _set([members.pop(name)], failure_reason=reason[:200], check_at=now)
        # A name that the answer leaves out is treated as accepted: it shows, or is sent again after a day.
        _set(members.values(), status=ChargeStatus.SUBMITTED, check_at=now)

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The whole batch was turned down; each member is looked at and set aside with the reason."""
        logger.error("A batch of charges was refused: %s", refusal.message)
        _set(_members(claim.id).values(), failure_reason=refusal.message[:200], check_at=utc_now())

    # Refresh

    def refresh(self, charge_id: int) -> None:
        """Ask Vipps how a charge stands and bring our row up to it, forward only.

        Raises ProviderError when Vipps cannot say; nothing has changed then.
        """
        with reading():
            charge = db.session.get_one(Charge, charge_id)
            subscription_id, name = charge.subscription_id, charge.name
            agreement_id = str(db.session.get_one(Agreement, charge.agreement_id).provider_agreement_id)
        view = self._payments.find_charge(agreement_id, name)
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            charge = db.session.get_one(Charge, charge_id)
            if view is not None:
                books.adopt(subscription, charge, view)
            elif charge.status in (ChargeStatus.SUBMITTING, ChargeStatus.SUBMITTED):
                self._missing(subscription, charge)
            else:
                charge.check_at = None

    def _missing(self, subscription: Subscription, charge: Charge) -> None:
        """Vipps knows no charge of this name."""
        if charge.failure_reason is not None:
            self._turned_down(subscription, charge)
        elif charge.status == ChargeStatus.SUBMITTED and not _was_sent_long_ago(charge):
            charge.check_at = utc_now() + _UNSEEN_LOOK
        else:
            self._send_again(subscription, charge)

    def _turned_down(self, subscription: Subscription, charge: Charge) -> None:
        """Vipps gave a reason: a date that has come too near is moved; anything else is for an operator."""
        today = business_date(queries.market_of(subscription.partner_id))
        is_too_near = charge.due_on < today + timedelta(days=MINIMUM_LEAD_DAYS)
        if is_too_near or subscription.status != SubscriptionStatus.ACTIVE:
            self._send_again(subscription, charge)
            return
        charge.status, charge.check_at = ChargeStatus.REFUSED, None
        # The likeliest reason is an agreement that has ended without our knowing.
        db.session.get_one(Agreement, charge.agreement_id).check_at = utc_now()
        logger.error("Charge %s was refused: %s", charge.name, charge.failure_reason)
        outbox.record(subscription, "charge.refused", charge=charge.name, reason=charge.failure_reason)

    def _send_again(self, subscription: Subscription, charge: Charge) -> None:
        """Put it back under the same name, so that it can exist only once; or take it out when nobody is to pay."""
        is_wanted = subscription.status == SubscriptionStatus.ACTIVE
        charge.status = ChargeStatus.PLANNED if is_wanted else ChargeStatus.VOID
        charge.operation_id = charge.failure_reason = charge.check_at = None


def _was_sent_long_ago(charge: Charge) -> bool:
    sent_at = db.session.scalar(select(Operation.first_sent_at).where(Operation.id == charge.operation_id))
    return sent_at is None or utc_now() - sent_at > _UNSEEN_MAX


def _members(operation_id: int) -> dict[str, int]:
    """Return name -> id of the charges that wait for this batch."""
    waiting = (Charge.operation_id == operation_id, Charge.status == ChargeStatus.SUBMITTING)
    rows = db.session.execute(select(Charge.name, Charge.id).where(*waiting))
    return {row.name: row.id for row in rows}


def _set(ids: Iterable[int], **values: Any) -> None:
    """Change charges in slices that every database takes."""
    every = list(ids)
    for start in range(0, len(every), _SLICE):
        chosen = Charge.id.in_(every[start : start + _SLICE])
        db.session.execute(update(Charge).where(chosen).values(**values))
