"""Recurring v3: charges. Source of paths, parameters and answers: Vipps Recurring v3 OpenAPI 3.1.2 (2025-10)."""

from __future__ import annotations

from flask import Blueprint, request
from sqlalchemy import select

from invoice.simulator import charges, ids, later, payments
from invoice.simulator.act import Call
from invoice.simulator.answers import Answer, json_answer, nothing
from invoice.simulator.finding import is_too_new, the_agreement, the_charge
from invoice.simulator.front import reading, writing
from invoice.simulator.models import Charge, ChargeStatus
from invoice.simulator.problems import invalid, missing
from invoice.simulator.shapes import charge_as_dict
from invoice.simulator.wishes import read_refund, read_wish

charge_api = Blueprint("charge_api", __name__)

# How many charges one answer of the list holds. The vendor does not say; fewer than a client may have.
LIST_PAGE = 100
_PATH = "/recurring/v3/agreements/<agreement_id>/charges"


@charge_api.post("/recurring/v3/agreements/charges", strict_slashes=False)
@writing("create_charges")
def create_charges(act: Call) -> Answer:
    """Make many charges; each one that is wrong is told, the others are made."""
    return json_answer(202, charges.create_many(act, act.body))


@charge_api.post(_PATH, strict_slashes=False)
@writing("create_charge")
def create_charge(act: Call, agreement_id: str) -> Answer:
    """Make one charge."""
    agreement = the_agreement(act, agreement_id)
    wish = read_wish(act.body, act.now, act.unit.market, act.switches)
    return json_answer(201, {"chargeId": charges.create(act, agreement, wish).id})


@charge_api.get(_PATH, strict_slashes=False)
@reading("list_charges")
def list_charges(act: Call, agreement_id: str) -> Answer:
    """Show an agreement's charges, in pages that Continuation-Token joins."""
    agreement = the_agreement(act, agreement_id)
    status = request.args.get("status")
    if status is not None and status not in list(ChargeStatus):
        raise invalid(("status", f"Must be one of {', '.join(ChargeStatus)}"))
    offset = _offset(act)
    asked = select(Charge).where(Charge.agreement_id == agreement.id).order_by(Charge.number)
    asked = asked.where(Charge.status == status) if status else asked
    rows = act.session.scalars(asked.offset(offset).limit(LIST_PAGE + 1)).all()
    more = len(rows) > LIST_PAGE
    headers = {"Continuation-Token": ids.continuation_token(offset + LIST_PAGE, act.now)} if more else {}
    shown = [charge_as_dict(act, row, agreement) for row in rows[:LIST_PAGE] if not is_too_new(act, row.created_at)]
    return json_answer(200, shown, headers)


def _offset(act: Call) -> int:
    token = request.headers.get("Continuation-Token")
    offset = ids.read_continuation_token(token, act.now) if token else 0
    if offset is None:
        raise invalid(("Continuation-Token", "Is malformed or too old"))
    return offset


@charge_api.get(f"{_PATH}/<charge_id>", strict_slashes=False)
@reading("fetch_charge")
def fetch_charge(act: Call, agreement_id: str, charge_id: str) -> Answer:
    """Show one charge."""
    charge = the_charge(act, agreement_id, charge_id)
    return json_answer(200, charge_as_dict(act, charge, the_agreement(act, agreement_id)))


@charge_api.get("/recurring/v3/charges/<charge_id>", strict_slashes=False)
@reading("fetch_charge_by_id")
def fetch_charge_by_id(act: Call, charge_id: str) -> Answer:
    """Show one charge whose agreement is not known."""
    charge = act.find_own_charge(charge_id)
    if charge is None or is_too_new(act, charge.created_at):
        raise missing("Charge")
    return json_answer(200, charge_as_dict(act, charge, the_agreement(act, charge.agreement_id)))


@charge_api.delete(f"{_PATH}/<charge_id>", strict_slashes=False)
@writing("cancel_charge", has_body=False)
def cancel_charge(act: Call, agreement_id: str, charge_id: str) -> Answer:
    """Call a charge off."""
    return later.change(act, "cancel_charge", agreement_id, charge_id)


@charge_api.post(f"{_PATH}/<charge_id>/capture", strict_slashes=False)
@writing("capture")
def capture(act: Call, agreement_id: str, charge_id: str) -> Answer:
    """Take some or all of what is reserved."""
    return later.change(act, "capture", agreement_id, charge_id)


@charge_api.post(f"{_PATH}/<charge_id>/refund", strict_slashes=False)
@writing("refund")
def refund(act: Call, agreement_id: str, charge_id: str) -> Answer:
    """Give some or all of what was captured back."""
    charge = the_charge(act, agreement_id, charge_id)
    payments.refund(act, charge, *read_refund(act.body, charge.market, act.switches))
    return nothing()
