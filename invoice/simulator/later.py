"""Changes that may be accepted now and done later: with the switch a 202 says yes, and the clock does the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from invoice.simulator import agreements, payments
from invoice.simulator.act import Act, Call
from invoice.simulator.answers import Answer, nothing
from invoice.simulator.drafts import read_update
from invoice.simulator.finding import the_agreement, the_charge
from invoice.simulator.models import Deferred
from invoice.simulator.problems import Refusal
from invoice.simulator.wishes import read_capture

logger = logging.getLogger(__name__)


def change(call: Call, kind: str, agreement_id: str, charge_id: str = "") -> Answer:
    """Make a change now, or try it out now and make it later. Raises Refusal if it cannot be made.

    kind: a name in _CHANGES.
    """
    if not call.switches.answer_202:
        _CHANGES[kind](call, agreement_id, charge_id)
        return nothing()
    trial = call.session.begin_nested()
    try:
        _CHANGES[kind](call, agreement_id, charge_id)
    finally:
        trial.rollback()
    seconds = call.switches.enact_seconds
    call.session.add(
        Deferred(
            msn=call.msn,
            kind=kind,
            agreement_id=agreement_id,
            charge_id=charge_id,
            key=call.key,
            body=call.body,
            wake_at=call.now + timedelta(seconds=seconds),
        )
    )
    return nothing(202, {"Retry-After": str(seconds)})


def enact(act: Act, deferred: Deferred) -> None:
    """Make a change that was accepted. If it has become impossible by now, nothing happens and nobody is told."""
    call = Call(act.world, act.session, act.now, deferred.key, deferred.body, unit=deferred.unit)
    act.session.delete(deferred)
    try:
        with act.session.begin_nested():
            _CHANGES[deferred.kind](call, deferred.agreement_id, deferred.charge_id)
    except Refusal:
        logger.info("What was accepted with 202 (%s) could not be done", deferred.kind)


def _update_agreement(call: Call, agreement_id: str, _charge_id: str) -> None:
    agreement = the_agreement(call, agreement_id)
    agreements.update(call, agreement, read_update(call.body, agreement))


def _cancel_charge(call: Call, agreement_id: str, charge_id: str) -> None:
    payments.cancel(call, the_charge(call, agreement_id, charge_id))


def _capture(call: Call, agreement_id: str, charge_id: str) -> None:
    charge = the_charge(call, agreement_id, charge_id)
    payments.capture(call, charge, read_capture(call.body, charge.market, call.switches))


_CHANGES: dict[str, Callable[[Call, str, str], None]] = {
    "update_agreement": _update_agreement,
    "cancel_charge": _cancel_charge,
    "capture": _capture,
}
