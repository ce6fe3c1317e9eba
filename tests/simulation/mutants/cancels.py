"""Planted bugs: cancels and ends."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from unittest.mock import patch

from invoice.clock import utc_now
from invoice.errors import ProviderUncertain
from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from invoice.services import charges, outbox, refunds, stops
from invoice.services.operations import Claim
from invoice.store import queries
from invoice.store.db import db
from tests.simulation.mutants.planting import Patches, mutant, unguarded


@mutant
def a_cancel_is_a_flag_only() -> Patches:
    def begin(subscription: Any) -> None:
        subscription.status, subscription.ended_at = SubscriptionStatus.CANCELLED, utc_now()
        subscription.cancel_requested_at = utc_now()
        queries.void_planned_charges(subscription.id)
        outbox.record(subscription, "subscription.cancelled")

    return [*unguarded("TRIGGER subscriptions_moves"), patch.object(stops, "begin_cancel", begin)]


@mutant
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


@mutant
def charges_are_not_read_back_after_a_stop() -> Patches:
    real = stops.Stops._stop

    def stop(self: stops.Stops, claim: Claim) -> Any:
        return stops.Stopped(real(self, claim).agreement, [])

    return [patch.object(stops.Stops, "_stop", stop), patch.object(charges.Charges, "refresh", lambda *_: None)]


@mutant
def a_cancel_leaves_what_is_planned() -> Patches:
    return [
        patch.object(queries, "void_planned_charges", lambda _: None),
        patch.object(queries, "chargeable_members", _count),
    ]


def _count(operation_id: int) -> int:
    return len(queries.members_of(operation_id))


@mutant
def what_is_taken_after_the_cancel_is_kept() -> Patches:
    return [patch.object(refunds, "_undue", lambda *_: "")]


@mutant
def a_draft_that_comes_in_after_the_cancel_lives_on() -> Patches:
    return [patch.object(stops, "request_stop", lambda *_: None)]
