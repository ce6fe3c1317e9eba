"""What time does by itself: drafts expire, charges become visible, are tried and given up, texts arrive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select

from invoice.simulator import agreements, later, messages, payments
from invoice.simulator.act import Act
from invoice.simulator.models import Agreement, AgreementStatus, Charge, ChargeStatus, Deferred, Message, instant_of
from invoice.simulator.world import World

# Rows in one transaction: few enough that an API call does not wait long for its turn.
_BATCH = 100

_TABLES = ("agreements", "charges", "deferred", "messages", "deliveries", "receipts")
_EARLIEST = "SELECT min(wake_at) AS at FROM {} WHERE wake_at IS NOT NULL"
_NEXT = f"SELECT min(at) FROM ({' UNION ALL '.join(map(_EARLIEST.format, _TABLES))})"  # noqa: S608 - fixed names


def next_due(world: World) -> datetime | None:
    """Return the next instant at which anything at all happens by itself; it may have passed already."""
    microseconds: int | None = world.store.scalar(_NEXT)
    return instant_of(microseconds)


def run_rows(world: World) -> bool:
    """Let rows that are due act, at most a batch of each kind, each row at its own instant. Says if there were any."""
    acted = [_run_batch(world, model, step) for model, step in _STEPS]
    return any(acted)


def _run_batch(world: World, model: Any, step: Callable[[Act, Any], None]) -> bool:
    now = world.clock.now()
    with world.store.read() as session:
        if session.scalar(select(model.number).where(model.wake_at <= now).limit(1)) is None:
            return False
    with world.store.write() as session:
        rows = session.scalars(
            select(model).where(model.wake_at <= now).order_by(model.wake_at, model.number).limit(_BATCH)
        ).all()
        for row in rows:
            step(Act(world, session, row.wake_at), row)
    return True


def _agreement_step(act: Act, agreement: Agreement) -> None:
    agreements.expire(act, agreement)


def _charge_step(act: Act, charge: Charge) -> None:
    agreement = act.find_agreement(charge.agreement_id)
    assert agreement is not None  # a foreign key says so
    _CHARGE_STEPS[ChargeStatus(charge.status)](act, agreement, charge)


def _become_due(_act: Act, _agreement: Agreement, charge: Charge) -> None:
    payments.show(charge)
    charge.wake_at = charge.market.first_batch(charge.due)


def _attempt(act: Act, agreement: Agreement, charge: Charge) -> None:
    if agreement.status != AgreementStatus.ACTIVE:
        charge.wake_at = None  # never taken: a stop has called it off or left it alone
    elif payments.is_out_of_attempts(charge, act.now):
        payments.fail(act, charge, payments.refusal(act, agreement, charge) or "user_action_required")
    else:
        payments.attempt(act, agreement, charge)


def _resolve(act: Act, agreement: Agreement, charge: Charge) -> None:
    if not payments.take(act, agreement, charge):
        payments.fail(act, charge, "technical_error")


def _let_go(act: Act, _agreement: Agreement, charge: Charge) -> None:
    """Give back a reservation that was not captured in time."""
    if charge.captured:
        payments.release(act, charge)
    else:
        payments.call_off(act, charge)


_CHARGE_STEPS = {
    ChargeStatus.PENDING: _become_due,
    ChargeStatus.DUE: _attempt,
    ChargeStatus.PROCESSING: _resolve,
    ChargeStatus.RESERVED: _let_go,
    ChargeStatus.PARTIALLY_CAPTURED: _let_go,
}

_STEPS: tuple[tuple[Any, Callable[[Act, Any], None]], ...] = (
    (Agreement, _agreement_step),
    (Charge, _charge_step),
    (Deferred, later.enact),
    (Message, messages.go_on),
)
