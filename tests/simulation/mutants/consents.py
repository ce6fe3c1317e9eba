"""Planted bugs: asking for consent, and hearing of it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from invoice.clock import utc_now
from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from invoice.providers import vipps
from invoice.services import consents, sweep
from tests.simulation.mutants.planting import Patches, mutant


@mutant
def a_second_agreement_is_adopted_as_well() -> Patches:
    real = consents.stops.request_stop

    def request_stop(subscription: Any, agreement: Any) -> None:
        if subscription.status in (SubscriptionStatus.CANCELLING, SubscriptionStatus.CANCELLED):
            real(subscription, agreement)

    return [patch.object(consents.stops, "request_stop", request_stop)]


@mutant
def a_draft_expires_by_our_own_clock() -> Patches:
    real = consents.Consents._apply

    def apply(self: Any, subscription: Any, agreement: Any, view: Any, initial: Any) -> None:
        if agreement.status == AgreementStatus.PENDING and utc_now() - agreement.created_at > timedelta(minutes=2):
            agreement.status, agreement.check_at = AgreementStatus.EXPIRED, None
            return
        real(self, subscription, agreement, view, initial)

    return [patch.object(consents.Consents, "_apply", apply)]


@mutant
def a_draft_has_a_new_key_each_time_and_nobody_looks_for_lost_ones() -> Patches:
    real = vipps.VippsClient.draft_agreement

    def draft(self: Any, request: str, *, key: str) -> Any:
        return real(self, request, key=f"{key[:24]}{uuid.uuid4().hex[:12]}")

    return [
        patch.object(vipps.VippsClient, "draft_agreement", draft),
        patch.object(consents.Consents, "find", lambda *_: True),
        patch.object(sweep.Sweep, "sweep", lambda _: 0),
    ]


@mutant
def an_end_in_the_app_goes_unseen() -> Patches:
    return [patch.object(consents.stops, "ended", lambda *_: None)]


@mutant
def nobody_looks_without_a_webhook() -> Patches:
    return [
        patch.object(consents, "_next_look", lambda *_: None),
        patch.object(consents, "next_consent_look", lambda *_: None),
        patch("invoice.services.drafts.next_consent_look", lambda *_: None, create=True),
    ]
