"""The books, written ahead: every period of every active subscription becomes a row some days before it leaves."""

from __future__ import annotations

import logging
from datetime import date, timedelta
from typing import Any

from invoice.clock import MARKET_ZONES, business_date, utc_now
from invoice.config import Settings
from invoice.lifecycle import ChargeStatus
from invoice.names import charge_name
from invoice.providers.base import NewCharge
from invoice.schedule import (
    MINIMUM_LEAD_DAYS,
    coming_dues,
    due_date,
    interval_around,
    plan_date,
    planned_due,
    submit_date,
)
from invoice.services import outbox
from invoice.services.accounts import Accounts
from invoice.services.consents import PLAN_AHEAD_DAYS
from invoice.store import queries
from invoice.store.db import reading, transaction
from invoice.store.models import Agreement, Charge, Subscription

logger = logging.getLogger(__name__)

_SLICE = 500
# All charges of one interval together, in prices. Source: Vipps Recurring v3, pricing LEGACY (agent-toolkit, 2026-08).
CEILING = 5


class Plans:
    """Plans charges."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self._settings = settings
        self._accounts = accounts

    def plan(self) -> int:
        """Enter into the books every period whose time has come; return how many subscriptions were looked at.

        Two planners at once are harmless: a period's row is unique. Only a market that has some is locked: tomorrow's
        date begins earlier in one than in another.
        """
        with reading():
            markets = [market for market in MARKET_ZONES if queries.is_any_to_plan(market, business_date(market))]
        return sum(self._plan_slice(market) for market in markets)

    def _plan_slice(self, market: str) -> int:
        today = business_date(market)
        with transaction():
            subscriptions = queries.subscriptions_to_plan(market, today, _SLICE)
            rows = [row for s in subscriptions if (row := self._plan_next(s, today))]
            queries.insert_ignoring(Charge, rows)
            return len(subscriptions)

    def _plan_next(self, subscription: Subscription, today: date) -> dict[str, Any] | None:
        """Return the row of the next period and move on to the one after; None when it must wait, or never comes."""
        agreement = queries.adopted_agreement(subscription.id)
        if subscription.anchor_on is None or agreement is None:
            logger.error("Subscription %s is active without an anchor or an agreement.", subscription.id)
            subscription.next_plan_on = today + timedelta(days=1)
            return None
        period = subscription.next_period
        due_on = self._due_date(subscription, today)
        if due_on is None:
            subscription.next_plan_on = today + timedelta(days=1)
            return None
        if subscription.stop_on is not None and due_on >= subscription.stop_on:
            subscription.next_plan_on = None  # nobody pays for it, unless the stop is taken back
            return None
        next_on = due_date(subscription.anchor_on, subscription.interval, period + 1)
        subscription.next_period = period + 1
        subscription.next_plan_on = plan_date(next_on, self._settings.invoice_lead_days + PLAN_AHEAD_DAYS)
        return self._row(subscription, agreement, period, due_on)

    def _due_date(self, subscription: Subscription, today: date) -> date | None:
        """Return when the next period is to be paid; None when it is late and must wait its turn.

        Late ones come one at a time, days apart, and never more in one interval than Vipps takes.
        """
        assert subscription.anchor_on is not None  # the caller has looked
        anchor, interval, period = subscription.anchor_on, subscription.interval, subscription.next_period
        scheduled_on = due_date(anchor, interval, period)
        if scheduled_on >= today + timedelta(days=MINIMUM_LEAD_DAYS):
            return scheduled_on
        longest_wait = timedelta(days=self._settings.invoice_retry_days + 3)
        if queries.has_open_charge(subscription.id, today - longest_wait):
            return None
        coming = coming_dues(anchor, interval, period + 1, today)
        due_on = planned_due(scheduled_on, today, [*queries.due_dates(subscription.id), *coming])
        first_on, end_on = interval_around(anchor, interval, due_on)
        taken = queries.sum_due_between(subscription.id, first_on, end_on)
        return due_on if taken + subscription.amount <= CEILING * subscription.amount else None

    def _row(self, subscription: Subscription, agreement: Agreement, period: int, due_on: date) -> dict[str, Any]:
        name = charge_name(subscription.ulid, period, 0)
        retry_days = self._settings.invoice_retry_days
        new = NewCharge(
            agreement_id=str(agreement.provider_agreement_id),
            name=name,
            amount=subscription.amount,
            currency=subscription.currency,
            description=subscription.name,
            due_on=due_on,
            retry_days=retry_days,
        )
        fault = self._accounts.own.fault_of(new, business_date(queries.market_of(subscription.partner_id)))
        if fault is not None:
            logger.error("Charge %s is not one that Vipps takes: %s", name, fault)
            outbox.record(subscription, "charge.refused", charge=name, reason=fault)
        return {
            "subscription_id": subscription.id,
            "agreement_id": agreement.id,
            "account": agreement.account,
            "period": period,
            "attempt": 0,
            "name": name,
            "amount": subscription.amount,
            "currency": subscription.currency,
            "due_on": due_on,
            "submit_on": submit_date(due_on, self._settings.invoice_lead_days),
            "retry_days": retry_days,
            "status": ChargeStatus.REFUSED if fault else ChargeStatus.PLANNED,
            "failure_reason": fault,
            "is_surplus": False,
            "is_reserved": False,
            "sends": 0,
            "captured": 0,
            "refunded": 0,
            "created_at": utc_now(),
        }
