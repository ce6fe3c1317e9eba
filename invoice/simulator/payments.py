"""Taking, holding and giving back money on one charge. Every sum is kept on the charge, every step in its history."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete

from invoice.simulator import ids, market
from invoice.simulator.act import Act
from invoice.simulator.events import tell_charge
from invoice.simulator.funds import REFUND_REFUSED_AMOUNTS, UNKNOWN_FOR_AN_HOUR, has_money, is_refused_amount
from invoice.simulator.models import Agreement, Charge, ChargeEvent, ChargeStatus
from invoice.simulator.problems import Problem

REFUND_DAYS = 365  # Source: Vipps agent-toolkit, payment lifecycle, 2026-08-21.

_CANCELLABLE = (ChargeStatus.PENDING, ChargeStatus.DUE, ChargeStatus.RESERVED)
_CAPTURABLE = (ChargeStatus.RESERVED, ChargeStatus.PARTIALLY_CAPTURED)
_REFUNDABLE = (ChargeStatus.CHARGED, ChargeStatus.PARTIALLY_CAPTURED, ChargeStatus.PARTIALLY_REFUNDED)


def note(act: Act, charge: Charge, event: str, amount: int, description: str | None = None) -> None:
    """Add a line to the history. What the system does by itself has a key of this form in the real one, too."""
    key = act.key or f"{charge.id}-{charge.agreement_id}-ProcessPayment"
    if event == "REFUND" and not act.switches.refund_history_has_key:
        key = f"{charge.id}-{charge.agreement_id}-Refund"
    act.session.add(
        ChargeEvent(
            charge_number=charge.number,
            occurred_at=act.now,
            event=event,
            amount=amount,
            idempotency_key=key,
            success=event != "FAIL",
            description=description,
        )
    )


def show(charge: Charge) -> None:
    """Make a charge DUE: visible to the person, with its number."""
    charge.status = ChargeStatus.DUE
    charge.transaction_id = charge.transaction_id or ids.transaction_id()


def take(act: Act, agreement: Agreement, charge: Charge) -> bool:
    """Try to take or hold the whole amount. Returns False, with nothing changed, if the payment is refused."""
    if refusal(act, agreement, charge):
        return False
    take_now(act, charge)
    return True


def take_now(act: Act, charge: Charge) -> None:
    """Take or hold the whole amount, whatever stands in the way."""
    charge.transaction_id = charge.transaction_id or ids.transaction_id()
    if charge.transaction_type == "RESERVE_CAPTURE":
        charge.status = ChargeStatus.RESERVED
        charge.wake_at = act.now + timedelta(days=_capture_days(act, charge))
        note(act, charge, "RESERVE", charge.amount)
        tell_charge(act, charge, "reserved")
    else:
        _captured(act, charge, charge.amount)


def _capture_days(act: Act, charge: Charge) -> int:
    return market.LATE_CAPTURE_DAYS if act.switches.late_capture else charge.market.capture_days


def refusal(act: Act, agreement: Agreement, charge: Charge) -> str | None:
    """Return the failureReason that stands in the way of this payment now, or None."""
    if act.switches.charge_failure != "none":
        return act.switches.charge_failure
    if is_refused_amount(charge.amount, charge.market.country) or not has_money(act.session, agreement):
        return "user_action_required"
    if (
        agreement.pricing_type == "VARIABLE"
        and charge.type != "INITIAL"
        and charge.amount > (agreement.max_amount or 0)
    ):
        return "charge_amount_too_high"
    return None


def _captured(act: Act, charge: Charge, amount: int) -> None:
    charge.captured += amount
    charge.captured_at = act.now
    charge.status = _status_by_sums(charge)
    if not charge.capturable:
        charge.wake_at = None
    note(act, charge, "CAPTURE", amount)
    tell_charge(act, charge, "captured")


def _status_by_sums(charge: Charge) -> ChargeStatus:
    """Return the status of a charge from which something was captured."""
    if charge.capturable:
        return ChargeStatus.PARTIALLY_CAPTURED
    if not charge.refunded:
        return ChargeStatus.CHARGED
    return ChargeStatus.PARTIALLY_REFUNDED if charge.refundable else ChargeStatus.REFUNDED


def attempt(act: Act, agreement: Agreement, charge: Charge) -> None:
    """Do what the batch does to a DUE charge: take the money, or plan the next attempt, or give up."""
    if charge.amount == UNKNOWN_FOR_AN_HOUR:
        charge.status = ChargeStatus.PROCESSING
        charge.wake_at = act.now + timedelta(hours=1)
    elif not take(act, agreement, charge):
        _after_refusal(act, agreement, charge)


def _after_refusal(act: Act, agreement: Agreement, charge: Charge) -> None:
    last_day = charge.due + timedelta(days=charge.retry_days)
    charge.wake_at = charge.market.batch_after(act.now, last_day)
    if charge.processing_mode == "SINGLE_ATTEMPT":
        fail(act, charge, refusal(act, agreement, charge) or "technical_error")
    elif charge.wake_at is None:
        # The last batch has run; the charge is FAILED when its last day is over. Source: Vipps guide, 2023-12.
        charge.wake_at = charge.market.end_of(last_day)


def is_out_of_attempts(charge: Charge, at: datetime) -> bool:
    """Whether the last retry day has passed."""
    return at >= charge.market.end_of(charge.due + timedelta(days=charge.retry_days))


def fail(act: Act, charge: Charge, reason: str) -> None:
    """Give up on a charge."""
    charge.status = ChargeStatus.FAILED
    charge.failure_reason = reason
    charge.wake_at = None
    note(act, charge, "FAIL", charge.amount)
    tell_charge(act, charge, "failed")


def capture(act: Act, charge: Charge, amount: int) -> None:
    """Take `amount` of what is reserved. Raises Problem."""
    if charge.status not in _CAPTURABLE:
        raise Problem("charge-capture-failed", f"Cannot capture a charge with status {charge.status}.")
    if charge.wake_at and act.now >= charge.wake_at:  # let go in this very moment
        raise Problem("charge-capture-failed", f"The capture deadline has passed. Status is {charge.status}.")
    if amount > charge.capturable:
        detail = (
            f"Amount is higher than the remaining capturable amount ({charge.capturable}). Status is {charge.status}."
        )
        raise Problem("charge-capture-failed", detail, [("amount", "Too high")])
    _captured(act, charge, amount)


def cancel(act: Act, charge: Charge) -> None:
    """Call a charge off, or release what is left of a partly captured one. Raises Problem."""
    if charge.status == ChargeStatus.PARTIALLY_CAPTURED:
        release(act, charge)
    elif charge.status in _CANCELLABLE:
        call_off(act, charge)
    else:
        raise Problem("cancel-charge-failed", f"Cannot cancel a charge with status {charge.status}.")


def call_off(act: Act, charge: Charge) -> None:
    """Cancel the whole charge."""
    charge.cancelled = charge.amount
    charge.status = ChargeStatus.CANCELLED
    charge.wake_at = None
    note(act, charge, "CANCEL", charge.amount)
    tell_charge(act, charge, "canceled")


def release(act: Act, charge: Charge) -> None:
    """Give the rest of a reservation back to the person; what was captured stays."""
    rest = charge.capturable
    charge.cancelled += rest
    charge.status = _status_by_sums(charge)
    charge.wake_at = None
    note(act, charge, "CANCEL", rest)
    tell_charge(act, charge, "canceled")


def refund(act: Act, charge: Charge, amount: int, description: str) -> None:
    """Give `amount` back. Raises Problem: never more than was captured and not yet refunded."""
    _check_refund(act, charge, amount)
    charge.refunded += amount
    charge.refunded_at = act.now
    charge.status = _status_by_sums(charge)
    note(act, charge, "REFUND", amount, description)
    tell_charge(act, charge, "refunded")


def _check_refund(act: Act, charge: Charge, amount: int) -> None:
    if act.switches.single_settlement:
        raise Problem("operation-failed", "Refund is not possible.")
    if charge.status not in _REFUNDABLE or charge.captured_at is None:
        raise Problem("operation-failed", f"Cannot refund a charge with status {charge.status}.")
    pause = timedelta(seconds=act.switches.refund_conflict_seconds)
    if charge.refunded_at and act.now - charge.refunded_at < pause:
        raise Problem("conflict", f"Another refund is being made. Status is {charge.status}.")
    if amount in REFUND_REFUSED_AMOUNTS:
        raise Problem("operation-failed", REFUND_REFUSED_AMOUNTS[amount])
    if act.now > charge.captured_at + timedelta(days=REFUND_DAYS):
        raise Problem("operation-failed", f"The refund period of {REFUND_DAYS} days has expired.")
    if amount > charge.refundable:
        detail = (
            f"Amount is higher than the remaining refundable amount ({charge.refundable}). Status is {charge.status}."
        )
        raise Problem("operation-failed", detail, [("amount", "Too high")])


def forget(act: Act, charge: Charge) -> None:
    """Remove a charge that never came to be, with its history."""
    act.session.flush()
    act.session.execute(delete(ChargeEvent).where(ChargeEvent.charge_number == charge.number))
    act.session.delete(charge)
