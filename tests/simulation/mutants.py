"""Planted bugs: who judges the judge? Each is a fault that somebody could write, and must be caught.

A mutant is a function that returns patches over the real code; `python -m tests.simulation --mutants` lives through
seeds with each of them until one is judged to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import _patch, patch

from dateutil.relativedelta import relativedelta
from sqlalchemy import update

from invoice.clock import utc_now
from invoice.errors import ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, SubscriptionStatus
from invoice.providers import http
from invoice.services import batches, books, charges, consents, endings, operations, outbox, plans, refunds, stops
from invoice.services.operations import Claim
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Operation

MUTANTS: dict[str, Callable[[], list[_patch[Any]]]] = {}
Patches = list[Any]
# What shows only after months: simulated days.
LONG = {"months_are_thirty_days": 70, "each_month_is_counted_from_the_one_before": 120}


def _mutant(build: Callable[[], Patches]) -> Callable[[], Patches]:
    MUTANTS[build.__name__] = build
    return build


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have a bug in the code."""
    with ExitStack() as stack:
        for each in MUTANTS[name]():
            stack.enter_context(each)
        yield


# What leaves the house


@_mutant
def no_fence_when_settling() -> Patches:
    def write(claim: Claim, **values: Any) -> bool:
        return bool(db.session.execute(update(Operation).where(Operation.id == claim.id).values(**values)).rowcount)  # type: ignore[attr-defined]

    return [patch.object(operations, "_write", write)]


@_mutant
def a_timeout_is_taken_for_a_no() -> Patches:
    real = http.outcome_of

    def outcome_of(error: Exception, provider: str) -> Any:
        found = real(error, provider)
        return ProviderRefused(found.message) if isinstance(found, ProviderUncertain) else found

    return [patch.object(http, "outcome_of", outcome_of)]


@_mutant
def a_timeout_is_taken_for_unsent() -> Patches:
    real = http.outcome_of

    def outcome_of(error: Exception, provider: str) -> Any:
        found = real(error, provider)
        return ProviderUnavailable(found.message) if isinstance(found, ProviderUncertain) else found

    return [patch.object(http, "outcome_of", outcome_of)]


@_mutant
def what_was_left_behind_is_never_taken_up() -> Patches:
    def due(now: Any) -> Any:
        status = operations.OperationStatus
        return queries.and_(Operation.status.in_([status.READY, status.UNKNOWN]), Operation.next_at <= now)

    return [patch("invoice.store.queries.work.operation_is_due", due)]


@_mutant
def what_is_unknown_is_never_asked_again() -> Patches:
    def due(now: Any) -> Any:
        return queries.and_(Operation.status == operations.OperationStatus.READY, Operation.next_at <= now)

    return [patch("invoice.store.queries.work.operation_is_due", due)]


# Cancels


@_mutant
def a_cancel_is_a_flag_only() -> Patches:
    def begin(subscription: Any) -> None:
        subscription.status, subscription.ended_at = SubscriptionStatus.CANCELLED, utc_now()
        subscription.cancel_requested_at = utc_now()
        queries.void_planned_charges(subscription.id)
        outbox.record(subscription, "subscription.cancelled")

    return [patch.object(stops, "begin_cancel", begin)]


@_mutant
def a_stop_is_believed_before_it_is_seen() -> Patches:
    def stop(self: stops.Stops, claim: Claim) -> Any:
        with stops.reading():
            agreement = db.session.get_one(stops.Agreement, claim.subject_id)
            provider_id, account = agreement.provider_agreement_id, agreement.account
        if provider_id:
            with suppress(ProviderUncertain):
                self._ask(self._accounts.of(account), claim, provider_id)
        view = stops.AgreementView(provider_id or "", None, AgreementStatus.STOPPED, None)
        return stops.Stopped(view, [])

    return [patch.object(stops.Stops, "_stop", stop)]


@_mutant
def charges_are_not_read_back_after_a_stop() -> Patches:
    real = stops.Stops._stop

    def stop(self: stops.Stops, claim: Claim) -> Any:
        return stops.Stopped(real(self, claim).agreement, [])

    return [patch.object(stops.Stops, "_stop", stop), patch.object(charges.Charges, "refresh", lambda *_: None)]


@_mutant
def a_cancel_leaves_what_is_planned() -> Patches:
    return [
        patch.object(queries, "void_planned_charges", lambda _: None),
        patch.object(queries, "chargeable_members", _count),
    ]


def _count(operation_id: int) -> int:
    return len(queries.members_of(operation_id))


@_mutant
def what_is_taken_after_the_cancel_is_kept() -> Patches:
    return [patch.object(refunds, "_undue", lambda *_: "")]


@_mutant
def a_draft_that_comes_in_after_the_cancel_lives_on() -> Patches:
    return [patch.object(stops, "request_stop", lambda *_: None)]


# Consents


@_mutant
def a_second_agreement_is_adopted_as_well() -> Patches:
    real = consents.stops.request_stop

    def request_stop(subscription: Any, agreement: Any) -> None:
        if subscription.status in (SubscriptionStatus.CANCELLING, SubscriptionStatus.CANCELLED):
            real(subscription, agreement)

    return [patch.object(consents.stops, "request_stop", request_stop)]


@_mutant
def a_draft_expires_by_our_own_clock() -> Patches:
    real = consents.Consents._apply

    def apply(self: Any, subscription: Any, agreement: Any, view: Any, initial: Any) -> None:
        if agreement.status == AgreementStatus.PENDING and utc_now() - agreement.created_at > timedelta(minutes=2):
            agreement.status, agreement.check_at = AgreementStatus.EXPIRED, None
            return
        real(self, subscription, agreement, view, initial)

    return [patch.object(consents.Consents, "_apply", apply)]


@_mutant
def nobody_looks_for_lost_drafts() -> Patches:
    return [patch.object(consents.Consents, "find", lambda *_: True)]


@_mutant
def an_end_in_the_app_goes_unseen() -> Patches:
    return [patch.object(consents.stops, "ended", lambda *_: None)]


@_mutant
def nobody_looks_without_a_webhook() -> Patches:
    return [
        patch.object(consents, "_next_look", lambda *_: None),
        patch.object(consents, "next_consent_look", lambda *_: None),
        patch("invoice.services.drafts.next_consent_look", lambda *_: None, create=True),
    ]


# The calendar


@_mutant
def months_are_thirty_days() -> Patches:
    def due(anchor: date, interval: Interval, period: int) -> date:
        days = {Interval.WEEK: 7, Interval.MONTH: 30, Interval.YEAR: 360}[interval]
        return anchor + timedelta(days=days * period)

    return [patch.object(plans, "due_date", due), patch.object(consents, "due_date", due)]


@_mutant
def each_month_is_counted_from_the_one_before() -> Patches:
    def due(anchor: date, interval: Interval, period: int) -> date:
        step = {Interval.WEEK: {"weeks": 1}, Interval.MONTH: {"months": 1}, Interval.YEAR: {"years": 1}}[interval]
        for _ in range(period):
            anchor += relativedelta(**step)  # type: ignore[arg-type]
        return anchor

    return [patch.object(plans, "due_date", due), patch.object(consents, "due_date", due)]


@_mutant
def the_day_is_counted_in_greenwich() -> Patches:
    def day(market: str, at: datetime | None = None) -> date:
        return (at or utc_now()).astimezone(UTC).date()

    return [patch.object(consents, "business_date", day)]


@_mutant
def the_planner_forgets_a_period_when_it_is_late() -> Patches:
    real = plans.Plans._due_date

    def due(self: Any, subscription: Any, today: date) -> date | None:
        found = real(self, subscription, today)
        if found is None:
            subscription.next_period += 1
        return found

    return [patch.object(plans.Plans, "_due_date", due)]


@_mutant
def the_campaign_price_stays() -> Patches:
    real = plans.Plans._row

    def row(self: Any, subscription: Any, *args: Any) -> Any:
        found = real(self, subscription, *args)
        if subscription.campaign_amount:
            found["amount"] = subscription.campaign_amount
        return found

    return [patch.object(plans.Plans, "_row", row)]


@_mutant
def an_end_with_the_period_is_forgotten_by_the_planner() -> Patches:
    real = plans.Plans._plan_next

    def plan(self: Any, subscription: Any, today: date) -> Any:
        stop_on, subscription.stop_on = subscription.stop_on, None
        try:
            return real(self, subscription, today)
        finally:
            subscription.stop_on = stop_on

    return [patch.object(plans.Plans, "_plan_next", plan), patch.object(endings, "over", list)]


# Charges


@_mutant
def a_charge_is_created_under_a_new_name_when_in_doubt() -> Patches:
    real = charges.send_again

    def send_again(subscription: Any, charge: Any) -> None:
        real(subscription, charge)
        if charge.status == ChargeStatus.PLANNED:
            charge.name = f"{charge.name[:-1]}{int(charge.name[-1]) + 1}"

    def missing(subscription: Any, charge: Any) -> None:
        send_again(subscription, charge)

    return [patch.object(charges, "send_again", send_again), patch.object(charges, "_missing", missing)]


@_mutant
def a_batch_in_doubt_is_sent_under_new_names() -> Patches:
    original = operations.Operations.put_back

    def put_back(self: Any, claim: Claim, error: Any, *rest: Any) -> None:
        original(self, claim, error, *rest)
        if claim.kind != batches.CREATE or not isinstance(error, ProviderUncertain):
            return
        with operations.transaction():
            db.session.get_one(Operation, claim.id).status = operations.OperationStatus.VOID
            for charge, _, _ in queries.members_of(claim.id):
                charge.name = f"{charge.name[:-1]}{int(charge.name[-1]) + 1}"
                charge.status, charge.operation_id = ChargeStatus.PLANNED, None

    return [patch.object(operations.Operations, "put_back", put_back)]


@_mutant
def what_vipps_says_is_not_told() -> Patches:
    return [patch.object(books, "_tell", lambda *_: None)]


@_mutant
def a_charge_is_never_looked_at_again() -> Patches:
    return [patch.object(books, "next_look", lambda _: None), patch.object(queries, "ring_charges", lambda *_: None)]


@_mutant
def an_initial_charge_is_not_entered() -> Patches:
    return [patch.object(consents.books, "enter_initial", lambda *_, **__: _Nothing())]


class _Nothing:
    """Takes everything and keeps nothing."""

    def __getattr__(self, _: str) -> Any:
        return 0

    def __setattr__(self, *_: Any) -> None:
        return
