"""Recurring v3: agreements. Source of paths, parameters and answers: Vipps Recurring v3 OpenAPI 3.1.2 (2025-10)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from flask import Blueprint, request
from sqlalchemy import select

from invoice.simulator import agreements, later
from invoice.simulator.act import Call
from invoice.simulator.answers import Answer, json_answer, nothing
from invoice.simulator.drafts import read_draft
from invoice.simulator.finding import the_agreement
from invoice.simulator.front import reading, writing
from invoice.simulator.funds import EXPIRED_CARD, NOBODY
from invoice.simulator.models import Agreement, AgreementStatus
from invoice.simulator.problems import Breakdown, Problem, invalid, missing
from invoice.simulator.shapes import agreement_as_dict
from invoice.simulator.wishes import read_accept

agreement_api = Blueprint("agreement_api", __name__)

_PAGE_SIZE, _PAGE_MOST = 500, 2000
_LAST = 253_402_300_799_000  # milliseconds until the last second of the year 9999
_PATH = "/recurring/v3/agreements"


@agreement_api.post(_PATH, strict_slashes=False)
@writing("draft", kept=False)
def draft(act: Call) -> Answer:
    """Ask for an agreement."""
    agreement = agreements.draft(act, read_draft(act.body, act.now, act.unit.market, act.switches))
    body = {
        "agreementId": agreement.id,
        "uuid": agreement.uuid,
        "vippsConfirmationUrl": agreement.confirmation_url,
        "chargeId": agreement.initial_charge_id,
    }
    return json_answer(201, body)


@agreement_api.get(_PATH, strict_slashes=False)
@reading("list_agreements")
def list_agreements(act: Call) -> Answer:
    """Show agreements of one status, ACTIVE unless asked for another, page by page."""
    status = request.args.get("status", AgreementStatus.ACTIVE)
    if status not in list(AgreementStatus):
        raise invalid(("status", f"Must be one of {', '.join(AgreementStatus)}"))
    number = _query_integer("pageNumber", default=1, most=2**31 - 1)
    size = _query_integer("pageSize", default=_PAGE_SIZE, most=_PAGE_MOST)
    after = _instant(_query_integer("createdAfter", default=0, least=-(2**63), most=2**63 - 1))
    visible = act.now - timedelta(seconds=act.switches.visibility_seconds)
    asked = (
        select(Agreement)
        .where(Agreement.msn == act.msn, Agreement.status == status)
        .where(Agreement.created_at >= after, Agreement.created_at <= visible)
        .order_by(Agreement.number)
        .limit(size)
        .offset((number - 1) * size)
    )
    return json_answer(200, [agreement_as_dict(act, row) for row in act.session.scalars(asked)])


def _query_integer(name: str, *, default: int, most: int, least: int = 1) -> int:
    text = request.args.get(name, "")
    if not text:
        return default
    # Nineteen digits hold the largest bound; more would only cost time to convert.
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or not least <= int(text) <= most:
        raise invalid((name, f"Must be from {least} to {most}"))
    return int(text)


def _instant(milliseconds: int) -> datetime:
    """Return the instant so long after 1970, or the nearest one that can be told: nothing here is made outside."""
    within = min(max(milliseconds, 0), _LAST)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=within)


@agreement_api.get(f"{_PATH}/<agreement_id>", strict_slashes=False)
@reading("fetch_agreement")
def fetch_agreement(act: Call, agreement_id: str) -> Answer:
    """Show one agreement."""
    return json_answer(200, agreement_as_dict(act, the_agreement(act, agreement_id)))


@agreement_api.patch(f"{_PATH}/<agreement_id>", strict_slashes=False)
@writing("update_agreement")
def update_agreement(act: Call, agreement_id: str) -> Answer:
    """Change or stop one agreement."""
    return later.change(act, "update_agreement", agreement_id)


@agreement_api.patch(f"{_PATH}/<agreement_id>/accept", strict_slashes=False)
@writing("accept")
def accept(act: Call, agreement_id: str) -> Answer:
    """Approve in the person's stead, as only the test environment lets one."""
    if not act.switches.force_accept_allowed:
        raise missing("Resource")
    agreement = the_agreement(act, agreement_id)
    phone = read_accept(act.body)
    if phone in NOBODY:
        raise missing("User")
    if phone in EXPIRED_CARD:
        request.environ["simulator.fault"] = "500"  # for whoever listens at the door: it is meant
        raise Breakdown("The agreement could not be accepted.")
    if not agreements.is_open(act, agreement):
        reason = ("status", "Cannot accept an agreement which is not pending.")
        raise Problem("illegal-agreement-update", "Illegal update", [reason])
    agreements.approve(act, agreement, phone=phone, forced=True)
    return nothing()
