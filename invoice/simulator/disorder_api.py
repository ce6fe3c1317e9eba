"""Ordering disorder under `/sim`: faults, switches, and who has money."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from sqlalchemy import delete, select

from invoice.simulator.control_api import MSISDN, Wrong, check_fields, control, json_body, read_fields
from invoice.simulator.faults import CALLS, KINDS, as_dict
from invoice.simulator.fields import Fields
from invoice.simulator.http import world
from invoice.simulator.models import Fault, Funds
from invoice.simulator.switches import MEANINGS

disorder_api = Blueprint("disorder_api", __name__, url_prefix="/sim")


@disorder_api.get("/faults")
@control
def show_faults() -> Any:
    """What is ordered, and what can be."""
    return {"faults": world().faults.listed(), "calls": list(CALLS), "kinds": KINDS}


@disorder_api.post("/faults")
@control
def order_fault() -> Any:
    """Order a fault."""
    fields = read_fields()
    fault = Fault(
        call=fields.choice("call", (*CALLS, "*"), required=True),
        kind=fields.choice("fault", KINDS, required=True),
        remaining=fields.integer("times", low=1),
        agreement_id=fields.text("agreementId", size=(1, 36)),
        chance=_number(fields, "chance", 1.0, most=1.0),
        seconds=_number(fields, "seconds", None, most=3600.0),
    )
    check_fields(fields)
    answer = as_dict(fault)
    world().faults.order(fault)
    return answer


def _number(fields: Fields, name: str, default: float | None, *, most: float) -> float | None:
    value = fields.raw(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        fields.wrong(name, f"Must be a number from 0 to {most:g}")
        return default
    return float(value)


@disorder_api.delete("/faults")
@control
def clear_faults() -> Any:
    """Behave again."""
    world().faults.clear()
    return {"faults": []}


@disorder_api.get("/switches")
@control
def show_switches() -> Any:
    """Where the switches stand, and who was given or denied money."""
    with world().store.read() as session:
        funds = [{"subject": row.subject, "available": row.available} for row in session.scalars(select(Funds))]
    return {"switches": world().switchboard.as_dict(), "funds": funds, "meanings": MEANINGS}


@disorder_api.post("/switches")
@control
def change_switches() -> Any:
    """Set switches by name. `funds`: {"phone" or "agreementId": who, "available": true, false, or null for neither}."""
    body = json_body()
    if not isinstance(body, dict):
        raise Wrong(400, "body: must be an object")
    funds = body.pop("funds", None)
    change = _read_funds(funds) if funds is not None else None
    try:
        world().switchboard.change(body)
    except ValueError as error:
        raise Wrong(400, str(error)) from error
    if change:
        _set_funds(*change)
    return {"switches": world().switchboard.as_dict()}


def _read_funds(value: Any) -> tuple[str, bool | None]:
    fields = Fields(value, "funds.")
    phone = fields.text("phone", size=(1, 16), pattern=MSISDN)
    agreement_id = fields.text("agreementId", size=(1, 36))
    available = fields.raw("available")
    if available is not None and not isinstance(available, bool):
        fields.wrong("available", "Must be a boolean or null")
    if (phone is None) == (agreement_id is None) and not fields.reasons:
        fields.wrong("phone", "Give either phone or agreementId")
    check_fields(fields)
    return (phone or "").lstrip("+") or agreement_id or "", available


def _set_funds(subject: str, available: bool | None) -> None:
    with world().store.write() as session:
        session.execute(delete(Funds).where(Funds.subject == subject))
        if available is not None:
            session.add(Funds(subject=subject, available=available))
