"""Planted bugs: charges on their way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

from flask import current_app
from sqlalchemy import false

from invoice.clock import business_date, utc_now
from invoice.errors import ProviderUncertain
from invoice.lifecycle import ChargeStatus
from invoice.services import batches, books, brakes, charges, consents, jobs, operations
from invoice.services.operations import Claim
from invoice.store import queries
from invoice.store.db import db, reading
from invoice.store.models import Charge, Operation
from tests.simulation.house import PARTNERS
from tests.simulation.mutants.planting import Patches, mutant, unguarded


@mutant
def a_name_is_enough_to_adopt() -> Patches:
    return [patch.object(books, "_is_ours", lambda *_: True)]


@mutant
def a_charge_that_failed_is_asked_for_again() -> Patches:
    real = books._tell

    def tell(subscription: Any, charge: Any) -> None:
        real(subscription, charge)
        if charge.status != ChargeStatus.FAILED or charge.period == 0 or charge.attempt > 2:
            return
        with db.session.no_autoflush:
            row = {column: getattr(charge, column) for column in _KEPT}
        row |= {"attempt": charge.attempt + 1, "name": f"{charge.name[:-1]}{charge.attempt + 1}"}
        today = business_date("NO")
        row |= {"due_on": today + timedelta(days=3), "submit_on": today, "status": ChargeStatus.PLANNED}
        row |= {"sends": 0, "captured": 0, "refunded": 0, "is_surplus": False, "created_at": utc_now()}
        db.session.flush()
        queries.insert_ignoring(Charge, [row])

    return [patch.object(books, "_tell", tell)]


_KEPT = ("subscription_id", "agreement_id", "account", "period", "amount", "currency", "retry_days", "is_reserved")


@mutant
def the_brake_is_read_when_a_round_begins() -> Patches:
    run, submit, call = jobs.Jobs.run_pending, batches.Batches.submit, batches.Batches.call

    def run_pending(self: Any) -> int:
        with reading():
            current_app.extensions["is held"] = brakes.holds(next(iter(PARTNERS)))
        return run(self)

    def submit_unless_held(self: Any) -> int:
        return 0 if current_app.extensions.get("is held") else submit(self)

    def call_unless_held(self: Any, claim: Claim) -> Any:
        if current_app.extensions.get("is held"):
            return None if claim.in_doubt else batches.UNSENT
        return call(self, claim)

    return [
        patch("invoice.store.queries.charges.is_braked", lambda _: false()),
        patch.object(jobs.Jobs, "run_pending", run_pending),
        patch.object(batches.Batches, "submit", submit_unless_held),
        patch.object(batches.Batches, "call", call_unless_held),
    ]


@mutant
def a_charge_is_created_under_a_new_name_when_in_doubt() -> Patches:
    real = charges.send_again

    def send_again(subscription: Any, charge: Any) -> None:
        real(subscription, charge)
        if charge.status == ChargeStatus.PLANNED:
            charge.name = f"{charge.name[:-1]}{int(charge.name[-1]) + 1}"

    def missing(subscription: Any, charge: Any) -> None:
        send_again(subscription, charge)

    return [
        *unguarded("TRIGGER charges_frozen"),
        patch.object(charges, "send_again", send_again),
        patch.object(charges, "_missing", missing),
    ]


@mutant
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

    return [*unguarded("TRIGGER charges_frozen"), patch.object(operations.Operations, "put_back", put_back)]


@mutant
def what_vipps_says_is_not_told() -> Patches:
    return [patch.object(books, "_tell", lambda *_: None)]


@mutant
def a_charge_is_never_looked_at_again() -> Patches:
    return [patch.object(books, "next_look", lambda _: None), patch.object(queries, "ring_charges", lambda *_: None)]


@mutant
def an_initial_charge_is_not_entered() -> Patches:
    return [patch.object(consents.books, "enter_initial", lambda *_, **__: _Nothing())]


class _Nothing:
    """Takes everything and keeps nothing."""

    def __getattr__(self, _: str) -> Any:
        return 0

    def __setattr__(self, *_: Any) -> None:
        return
