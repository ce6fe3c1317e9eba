"""Planted bugs: what falls due, and when."""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import patch

from dateutil.relativedelta import relativedelta

from invoice.clock import business_date, utc_now
from invoice.lifecycle import Interval
from invoice.services import consents, endings, plans
from invoice.store import queries
from invoice.store.db import transaction
from invoice.store.models import Charge
from tests.simulation.mutants.planting import Patches, mutant, unguarded


@mutant
def periods_are_read_first_and_written_later_under_a_random_name() -> Patches:
    class _Undone(Exception):
        pass

    def plan_slice(self: Any, market: str) -> int:
        today = business_date(market)
        rows: list[dict[str, Any]] = []
        moves: list[tuple[int, int, date | None]] = []
        try:
            with transaction():
                for subscription in queries.subscriptions_to_plan(market, today, 500):
                    row = self._plan_next(subscription, today)
                    rows += [row] if row else []
                    moves.append((subscription.id, subscription.next_period, subscription.next_plan_on))
                raise _Undone
        except _Undone:
            pass
        with transaction():
            for number, period, plan_on in moves:
                subscription = queries.lock_subscription(number)
                subscription.next_period, subscription.next_plan_on = period, plan_on
            named = [row | {"attempt": secrets.randbelow(10**6)} for row in rows]
            queries.insert_ignoring(Charge, [row | {"name": f"{row['name'][:-1]}{row['attempt']}"} for row in named])
        return len(moves)

    return [*unguarded("INDEX uq_charges_period"), patch.object(plans.Plans, "_plan_slice", plan_slice)]


@mutant
def months_are_thirty_days() -> Patches:
    def due(anchor: date, interval: Interval, period: int) -> date:
        days = {Interval.WEEK: 7, Interval.MONTH: 30, Interval.YEAR: 360}[interval]
        return anchor + timedelta(days=days * period)

    return [patch.object(plans, "due_date", due), patch.object(consents, "due_date", due)]


@mutant
def each_month_is_counted_from_the_one_before() -> Patches:
    def due(anchor: date, interval: Interval, period: int) -> date:
        step = {Interval.WEEK: {"weeks": 1}, Interval.MONTH: {"months": 1}, Interval.YEAR: {"years": 1}}[interval]
        for _ in range(period):
            anchor += relativedelta(**step)  # type: ignore[arg-type]
        return anchor

    return [patch.object(plans, "due_date", due), patch.object(consents, "due_date", due)]


@mutant
def the_day_is_counted_in_greenwich() -> Patches:
    def day(market: str, at: datetime | None = None) -> date:
        return (at or utc_now()).astimezone(UTC).date()

    return [patch.object(consents, "business_date", day)]


@mutant
def the_planner_forgets_a_period_when_it_is_late() -> Patches:
    real = plans.Plans._due_date

    def due(self: Any, subscription: Any, today: date) -> date | None:
        found = real(self, subscription, today)
        if found is None:
            subscription.next_period += 1
        return found

    return [patch.object(plans.Plans, "_due_date", due)]


@mutant
def the_campaign_price_stays() -> Patches:
    real = plans.Plans._row

    def row(self: Any, subscription: Any, *args: Any) -> Any:
        found = real(self, subscription, *args)
        if subscription.campaign_amount:
            found["amount"] = subscription.campaign_amount
        return found

    return [patch.object(plans.Plans, "_row", row)]


@mutant
def an_end_with_the_period_is_forgotten_by_the_planner() -> Patches:
    real = plans.Plans._plan_next

    def plan(self: Any, subscription: Any, today: date) -> Any:
        stop_on, subscription.stop_on = subscription.stop_on, None
        try:
            return real(self, subscription, today)
        finally:
            subscription.stop_on = stop_on

    return [patch.object(plans.Plans, "_plan_next", plan), patch.object(endings, "over", list)]
