"""Planted bugs: money on its way back."""

from __future__ import annotations

import uuid
from typing import Any
from unittest.mock import patch

from invoice.errors import Conflict
from invoice.providers import vipps
from invoice.providers.base import ChargeView
from invoice.services import books, charges, direct, refunds
from invoice.services.outcomes import Outcome, Standing
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Subscription
from tests.simulation.mutants.planting import Patches, mutant


@mutant
def a_refund_has_a_new_key_each_time() -> Patches:
    real = vipps.VippsClient.refund_charge

    def refund(self: Any, agreement_id: str, name: str, request: str, *, key: str) -> None:
        real(self, agreement_id, name, request, key=f"{key[:24]}{uuid.uuid4().hex[:12]}")

    return [patch.object(vipps.VippsClient, "refund_charge", refund)]


@mutant
def what_is_left_is_looked_up_before_the_lock() -> Patches:
    real = direct.Direct._ask_for

    def ask_for(self: Any, charge_id: int, wish: Any, mark: str, *, at_once: bool) -> Any:
        with reading():
            charge = db.session.get_one(Charge, charge_id)
            left = charge.captured - charge.refunded
            is_known = queries.refund_marked(charge_id, mark) is not None
            try:
                refunds._check_refundable(charge, left)
                is_possible = wish.amount is None or wish.amount <= left
            except Conflict:
                is_possible = False
        if is_known or not is_possible:
            return real(self, charge_id, wish, mark, at_once=at_once)
        with transaction():
            subscription, charge = queries.lock_charge(charge_id)
            found = refunds.request(subscription, charge, wish.amount or left, "back", mark)
            return self._take(refunds.REFUND, found, at_once=at_once) or Outcome(wish.charge_id, Standing.ACCEPTED)

    return [patch.object(direct.Direct, "_ask_for", ask_for)]


def _not_read_back() -> Any:
    def read_back(_: Any, agreement_id: int) -> None:
        with transaction():
            db.session.get_one(Agreement, agreement_id).read_back_at = None

    return patch.object(charges.Charges, "read_back", read_back)


@mutant
def settled_charges_are_not_read_back() -> Patches:
    return [_not_read_back()]


@mutant
def a_reading_silences_a_bell() -> Patches:
    real = books.adopt

    def adopt(subscription: Subscription, charge: Charge, view: ChargeView, *, bells: books.Bells) -> None:
        charge.check_at = None
        real(subscription, charge, view, bells={**bells, charge.name: None})

    return [patch.object(books, "adopt", adopt), _not_read_back()]
