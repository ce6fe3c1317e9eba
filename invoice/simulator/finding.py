"""Finding what a call speaks of, in its own sales unit."""

from __future__ import annotations

from datetime import datetime, timedelta

from invoice.simulator.act import Act, Call
from invoice.simulator.models import Agreement, Charge
from invoice.simulator.problems import Problem, missing


def the_agreement(call: Call, agreement_id: str) -> Agreement:
    """Return the agreement. Raises Problem 404, also while it is not visible yet."""
    # The file lists this problem's status for what is written, and only 404 for what is read.
    if call.key and not agreement_id.startswith("agr_"):
        raise Problem(
            "invalid-agreement-id", "The agreement id is invalid.", [("agreementId", "Has an invalid format")]
        )
    agreement = call.find_agreement(agreement_id)
    if agreement is None or is_too_new(call, agreement.created_at):
        raise missing("Agreement")
    return agreement


def the_charge(call: Call, agreement_id: str, charge_id: str) -> Charge:
    """Return the charge of an agreement. Raises Problem 404, also while either is not visible yet."""
    the_agreement(call, agreement_id)
    charge = call.find_own_charge(charge_id)
    if charge is None or charge.agreement_id != agreement_id or is_too_new(call, charge.created_at):
        raise missing("Charge")
    return charge


def is_too_new(act: Act, created_at: datetime) -> bool:
    """Whether the switch for a delayed view still hides something made at `created_at`."""
    return act.now - created_at < timedelta(seconds=act.switches.visibility_seconds)
