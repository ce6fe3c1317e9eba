"""The stand-in's own API under `/sim`: the clock, the texts, the ledger, and what a person decides."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, current_app, request
from sqlalchemy import select

from invoice.simulator import agreements, market
from invoice.simulator.accounts import UNITS
from invoice.simulator.act import Act
from invoice.simulator.answers import json_answer
from invoice.simulator.fields import Fields, NotJSON, parse_json
from invoice.simulator.funds import NOBODY
from invoice.simulator.http import respond, world
from invoice.simulator.messages import message_as_dict
from invoice.simulator.models import Agreement, AgreementStatus, Charge, ChargeEvent, Message
from invoice.simulator.shapes import agreement_as_dict, event_as_dict
from invoice.simulator.time_machine import Busy, TimeMachine
from invoice.simulator.wording import timestamp

control_api = Blueprint("control_api", __name__, url_prefix="/sim")

_UNITS = ("months", "weeks", "days", "hours", "minutes", "seconds")
_FARTHEST = timedelta(days=3653)  # ten years
MSISDN = r"\+?[1-9]\d{6,14}"


class Wrong(Exception):
    """A no from the control API."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


def control(view: Callable[..., Any]) -> Callable[..., Response]:
    """Make a view of the control API: what it returns is JSON, what it raises is told."""

    @functools.wraps(view)
    def run(**path: str) -> Response:
        try:
            return respond(json_answer(200, view(**path)))
        except Wrong as wrong:
            return respond(json_answer(wrong.status, {"error": wrong.error}))

    return run


def json_body() -> Any:
    """Return the JSON that was posted; nothing at all counts as an empty object. Raises Wrong."""
    try:
        return parse_json(request.get_data() or b"{}")
    except NotJSON as error:
        raise Wrong(400, f"body: {error}") from error


def read_fields() -> Fields:
    """Return the posted object, to be read field by field."""
    return Fields(json_body())


def check_fields(fields: Fields) -> None:
    """Raise Wrong, naming each field that is wrong or was not expected."""
    fields.refuse_others()
    if fields.reasons:
        raise Wrong(400, "; ".join(f"{name}: {reason[0].lower()}{reason[1:]}" for name, reason in fields.reasons))


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


@control_api.get("/clock")
@control
def show_clock() -> Any:
    """What time it is here."""
    return {"now": _iso(world().clock.now())}


@control_api.post("/clock/advance")
@control
def advance() -> Any:
    """Walk to a later time; answer when everything due on the way has happened."""
    fields = read_fields()
    amounts = {unit: fields.integer(unit, low=0, high=10**9) or 0 for unit in _UNITS}
    check_fields(fields)
    return {"now": _iso(move_clock(amounts))}


def move_clock(amounts: dict[str, int]) -> datetime:
    """Move the clock by so many months, weeks, days, hours, minutes and seconds. Raises Wrong."""
    now = world().clock.now()
    months = amounts.pop("months", 0)
    if months > 120:
        raise Wrong(400, "months: must be at most 120")
    by = timedelta(**amounts) + (market.add_months(now.date(), months) - now.date())
    if not timedelta(0) < by <= _FARTHEST:
        raise Wrong(400, f"{', '.join(_UNITS)}: must be more than nothing and at most ten years together")
    try:
        return time_machine().advance(by)
    except Busy as busy:
        raise Wrong(409, "the clock is being moved already") from busy


def time_machine() -> TimeMachine:
    """Return the machine that belongs to this application."""
    found: TimeMachine = current_app.extensions["simulator_time_machine"]
    return found


@control_api.get("/messages")
@control
def show_messages() -> Any:
    """Texts, oldest first; `to` narrows them to one phone."""
    asked = select(Message).order_by(Message.number)
    if to := request.args.get("to", "").strip():  # an unescaped plus arrives as a space
        asked = asked.where(Message.to == f"+{to.removeprefix('+')}")
    with world().store.read() as session:
        return {"messages": [message_as_dict(row) for row in session.scalars(asked)]}


@control_api.get("/ledger")
@control
def show_ledger() -> Any:
    """Agreements, charges and refunds as the vendor holds them."""
    with world().store.read() as session:
        act = Act(world(), session, world().clock.now())
        found = {row.id: row for row in session.scalars(select(Agreement).order_by(Agreement.number))}
        history: dict[int, list[ChargeEvent]] = {}
        for event in session.scalars(select(ChargeEvent).order_by(ChargeEvent.number)):
            history.setdefault(event.charge_number, []).append(event)
        charges = list(session.scalars(select(Charge).order_by(Charge.number)))
        return {
            "agreements": [
                agreement_as_dict(act, row) | {"phoneNumber": row.phone, "merchantSerialNumber": row.msn}
                for row in found.values()
            ],
            "charges": [_charge_line(row, found[row.agreement_id], history.get(row.number, [])) for row in charges],
            "refunds": [line for row in charges for line in _refund_lines(row, history.get(row.number, []))],
        }


def _charge_line(charge: Charge, agreement: Agreement, events: list[ChargeEvent]) -> dict[str, Any]:
    return {
        "id": charge.id,
        "orderId": charge.id,
        "agreementId": charge.agreement_id,
        "merchantSerialNumber": charge.msn,
        "amount": charge.amount,
        "currency": charge.currency,
        "description": charge.description,
        "due": timestamp(charge.due_at),
        "created": timestamp(charge.created_at),
        "externalId": charge.external_id,
        "externalAgreementId": agreement.external_id,
        "retryDays": charge.retry_days,
        "processingMode": charge.processing_mode,
        "status": charge.status,
        "transactionId": charge.transaction_id,
        "type": charge.type,
        "transactionType": charge.transaction_type,
        "failureReason": charge.failure_reason,
        "capturedAt": timestamp(charge.captured_at) if charge.captured_at else None,
        "summary": {"captured": charge.captured, "refunded": charge.refunded, "cancelled": charge.cancelled},
        "history": [event_as_dict(charge, event) for event in events],
    }


def _refund_lines(charge: Charge, events: list[ChargeEvent]) -> list[dict[str, Any]]:
    return [
        {
            "chargeId": charge.id,
            "agreementId": charge.agreement_id,
            "amount": event.amount,
            "description": event.description,
            "occurred": timestamp(event.occurred_at),
            "idempotencyKey": event.idempotency_key,
        }
        for event in events
        if event.event == "REFUND"
    ]


@control_api.post("/agreements/<agreement_id>/<decision>")
@control
def decide(agreement_id: str, decision: str) -> Any:
    """Let the person decide; `phoneNumber` and `maxAmount` may come with an approval, `maxAmount` alone raises it."""
    if decision not in _DECISIONS:
        raise Wrong(404, f"decision: must be one of {', '.join(_DECISIONS)}")
    fields = read_fields()
    phone = fields.text("phoneNumber", size=(1, 16), pattern=MSISDN)
    ceiling = fields.integer("maxAmount", low=1, required=decision == "max-amount")
    check_fields(fields)
    return act_for_person(agreement_id, decision, Said(phone and phone.lstrip("+"), ceiling))


@dataclass(frozen=True)
class Said:
    """What a person may say with a decision: a number (MSISDN), and what he pays at most."""

    phone: str | None = None
    max_amount: int | None = None


NOTHING = Said()


def act_for_person(agreement_id: str, decision: str, said: Said = NOTHING) -> dict[str, str]:
    """Do what the person decided; return id and status. Raises Wrong: 404 if it is unknown, 409 in a wrong state."""
    with world().store.write() as session:
        act = Act(world(), session, world().clock.now())
        agreement = act.find_agreement(agreement_id)
        if agreement is None:
            raise Wrong(404, "agreement: there is none with this id")
        while_it_is, do = _DECISIONS[decision]
        is_open = agreements.is_open(act, agreement)
        if agreement.status != while_it_is or (while_it_is == AgreementStatus.PENDING and not is_open):
            raise Wrong(409, f"agreement: cannot {decision} while it is {agreement.status}")
        do(act, agreement, said)
        result = {"id": agreement.id, "status": str(agreement.status)}
    world().new_work.set()
    return result


def approve(act: Act, agreement: Agreement, said: Said) -> None:
    """Let the person approve. Raises Wrong for a number without a profile, or an amount that cannot be chosen."""
    if (said.phone or agreement.phone) in NOBODY:
        raise Wrong(409, "phoneNumber: nobody has a profile with it")
    check_max_amount(agreement, said.max_amount)
    agreements.approve(act, agreement, phone=said.phone, max_amount=said.max_amount)


def _set_max_amount(_act: Act, agreement: Agreement, said: Said) -> None:
    if said.max_amount is None:
        raise Wrong(400, "maxAmount: must not be null")
    check_max_amount(agreement, said.max_amount)
    agreements.set_max_amount(agreement, said.max_amount)


def check_max_amount(agreement: Agreement, amount: int | None) -> None:
    """Raise Wrong unless a person may choose this amount: only with VARIABLE pricing, within the market's limits."""
    if amount is None:
        return
    least, most = agreement.market.least, agreement.market.most
    if agreement.pricing_type != "VARIABLE":
        raise Wrong(409, f"maxAmount: is not chosen with {agreement.pricing_type} pricing")
    if not least <= amount <= most:
        raise Wrong(400, f"maxAmount: must be from {least} to {most}")


Decision = Callable[[Act, Agreement, Said], None]
# decision -> (the status that it needs, what it does)
_DECISIONS: dict[str, tuple[AgreementStatus, Decision]] = {
    "approve": (AgreementStatus.PENDING, approve),
    "reject": (AgreementStatus.PENDING, lambda act, agreement, _: agreements.reject(act, agreement)),
    "stop": (AgreementStatus.ACTIVE, lambda act, agreement, _: agreements.stop(act, agreement, "USER")),
    "delete-profile": (AgreementStatus.ACTIVE, lambda act, agreement, _: agreements.stop(act, agreement, "ADMIN")),
    "max-amount": (AgreementStatus.ACTIVE, _set_max_amount),
}


@control_api.post("/profiles/<msisdn>/delete")
@control
def delete_profile(msisdn: str) -> Any:
    """Let a person leave Vipps: all of his active agreements stop, with ADMIN as the actor."""
    if not is_msisdn(msisdn):
        raise Wrong(404, "phone: is not a phone number")
    return {"stopped": delete_profiles(msisdn)}


def delete_profiles(msisdn: str) -> list[str]:
    """Stop all active agreements of a number, with or without a plus; return their ids."""
    theirs = select(Agreement.id).where(
        Agreement.phone == msisdn.lstrip("+"), Agreement.status == AgreementStatus.ACTIVE
    )
    with world().store.read() as session:
        found = session.scalars(theirs.order_by(Agreement.number)).all()
    return [act_for_person(agreement_id, "delete-profile")["id"] for agreement_id in found]


@control_api.get("/units")
@control
def show_units() -> Any:
    """The sales units and their keys, which open nothing else."""
    return {
        "units": [
            {
                "merchantSerialNumber": msn,
                "name": unit.name,
                "market": unit.market.country,
                "currency": unit.currency,
                "client_id": unit.client_id,
                "client_secret": unit.client_secret,
                "subscriptionKeys": [unit.subscription_key, unit.second_subscription_key],
            }
            for msn, unit in UNITS.items()
        ]
    }


def is_msisdn(text: str) -> bool:
    """Whether `text` is a phone number, with or without a plus."""
    return re.fullmatch(MSISDN, text, re.ASCII) is not None
