"""Planted bugs: what leaves the house, from the claim to its settlement."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from sqlalchemy import update

from invoice.errors import ProviderError, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import OperationStatus
from invoice.providers import http, vipps
from invoice.providers.base import BatchAnswer
from invoice.services import batches, changes, operations, refunds
from invoice.services.operations import Claim
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Charge, Operation
from tests.simulation.mutants.planting import Patches, mutant, unguarded


def _without_names(*, keeps_key: bool) -> Patches:
    """Let Vipps name each charge, and take its name over."""

    def request(charge: Any) -> str:
        body = json.loads(vipps.bodies.single(charge))
        del body["orderId"]
        return json.dumps(body)

    def create(payments: Any, claim: Claim) -> BatchAnswer:
        with reading():
            found = queries.only_member(claim.id)
            if found is None:
                raise ProviderUncertain("it has just been seen")
            number, agreement_id = found[0].id, str(found[1].provider_agreement_id)
        key = claim.key if keeps_key else str(uuid.uuid4())
        path = f"/recurring/v3/agreements/{agreement_id}/charges"
        headers = {"Idempotency-Key": key}
        answer = payments._call("POST", path, name="create_charge", body=claim.request, extra=headers)
        name = str(answer.json["chargeId"])
        with transaction():
            db.session.get_one(Charge, number).name = name
        return BatchAnswer(frozenset({name}), {})

    return [
        *unguarded("TRIGGER charges_frozen"),
        patch.object(batches, "MAX_BATCH", 1),
        patch.object(vipps.VippsClient, "charge_request", staticmethod(request)),
        patch.object(batches, "_create_one", create),
    ]


@mutant
def charges_have_no_name_of_ours_and_a_random_key() -> Patches:
    return _without_names(keeps_key=False)


@mutant
def charges_have_no_name_of_ours_but_one_key() -> Patches:
    return _without_names(keeps_key=True)


@mutant
def an_act_is_settled_before_it_is_done() -> Patches:
    real = operations.Operations._perform
    hoped: dict[str, Any] = {refunds.REFUND: None, changes.CHANGE: True}

    def perform(self: Any, claim: Claim, give_up: Any) -> Any:
        if claim.kind not in hoped:
            return real(self, claim, give_up)
        self._settle(claim, OperationStatus.DONE, hoped[claim.kind])
        with suppress(ProviderError):
            self._handlers[claim.kind].call(claim)
        return None

    return [patch.object(operations.Operations, "_perform", perform)]


@mutant
def a_lease_is_shorter_than_a_call() -> Patches:
    return [patch.object(operations, "LEASE", timedelta(seconds=2))]


@mutant
def too_many_calls_burn_the_key() -> Patches:
    real = operations.Operations.put_back

    def put_back(self: Any, claim: Claim, error: ProviderError, *rest: Any) -> None:
        real(self, claim, error, *rest)
        if isinstance(error, ProviderUnavailable) and error.is_throttled:
            with transaction():
                db.session.get_one(Operation, claim.id).key = str(uuid.uuid4())

    return [patch.object(operations.Operations, "put_back", put_back)]


@mutant
def no_fence_when_settling() -> Patches:
    def write(claim: Claim, **values: Any) -> bool:
        return bool(db.session.execute(update(Operation).where(Operation.id == claim.id).values(**values)).rowcount)  # type: ignore[attr-defined]

    return [patch.object(operations, "_write", write)]


@mutant
def a_timeout_is_taken_for_a_no() -> Patches:
    real = http.outcome_of

    def outcome_of(error: Exception, provider: str) -> Any:
        found = real(error, provider)
        return ProviderRefused(found.message) if isinstance(found, ProviderUncertain) else found

    return [patch.object(http, "outcome_of", outcome_of)]


@mutant
def a_timeout_is_taken_for_unsent() -> Patches:
    real = http.outcome_of

    def outcome_of(error: Exception, provider: str) -> Any:
        found = real(error, provider)
        return ProviderUnavailable(found.message) if isinstance(found, ProviderUncertain) else found

    return [patch.object(http, "outcome_of", outcome_of)]


@mutant
def what_was_left_behind_is_never_taken_up() -> Patches:
    def due(now: Any) -> Any:
        status = operations.OperationStatus
        return queries.and_(Operation.status.in_([status.READY, status.UNKNOWN]), Operation.next_at <= now)

    return [patch("invoice.store.queries.work.operation_is_due", due)]


@mutant
def what_is_unknown_is_never_asked_again() -> Patches:
    def due(now: Any) -> Any:
        return queries.and_(Operation.status == operations.OperationStatus.READY, Operation.next_at <= now)

    return [patch("invoice.store.queries.work.operation_is_due", due)]
