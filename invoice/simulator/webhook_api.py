"""Vipps' Webhooks API: register, list, delete. Source: Vipps Webhooks OpenAPI v1 (2026-04)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from flask import Blueprint, Response, request
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from invoice.simulator import ids
from invoice.simulator.accounts import SalesUnit
from invoice.simulator.answers import Answer, json_answer, nothing
from invoice.simulator.breakage import vendor_call
from invoice.simulator.fields import Fields, NotJSON, parse_json
from invoice.simulator.front import check_caller, unit_of_key
from invoice.simulator.http import respond, world
from invoice.simulator.models import Webhook
from invoice.simulator.problems import Problem, Refusal, WebhookProblem
from invoice.simulator.reach import is_reachable

webhook_api = Blueprint("webhook_api", __name__)

_PATH = "/webhooks/v1/webhooks"
_MOST_FOR_EVENT = 25
_EVENT = r"[a-z]+(\.[a-z0-9-]+)+\.v\d+"


def _view(view: Callable[..., Answer]) -> Callable[..., Response]:
    @vendor_call("webhooks")
    @functools.wraps(view)
    def run(**path: str) -> Response:
        try:
            unit = _checked_unit()
            with world().store.write() as session:
                return respond(view(session, unit, **path))
        except Refusal as refusal:
            return respond(refusal.answer(request.path))

    return run


def _checked_unit() -> SalesUnit:
    """Return the caller's sales unit; what Recurring has a problem for, this one says in its own shape."""
    unit = unit_of_key()
    try:
        check_caller(unit)
    except Problem as problem:
        raise WebhookProblem(problem.reasons or [("Merchant-Serial-Number", problem.detail)]) from problem
    return unit


def _is_of(unit: SalesUnit) -> ColumnElement[bool]:
    return Webhook.msn == unit.merchant_serial_number


@webhook_api.post(_PATH, strict_slashes=False)
@_view
def register(session: Session, unit: SalesUnit) -> Answer:
    """Register an address. The secret is shown this once."""
    url, events = _read_registration()
    known = session.scalars(select(Webhook).where(_is_of(unit))).all()
    full = [event for event in events if sum(event in row.events for row in known) >= _MOST_FOR_EVENT]
    if full:
        raise WebhookProblem([("events", f"There are {_MOST_FOR_EVENT} registrations for {full[0]} already")])
    msn, secret = unit.merchant_serial_number, ids.webhook_secret()
    webhook = Webhook(msn=msn, id=ids.new_uuid(), url=url, events=events, secret=secret)
    session.add(webhook)
    return json_answer(201, {"id": webhook.id, "secret": webhook.secret})


def _read_registration() -> tuple[str, list[str]]:
    if request.mimetype != "application/json":
        raise WebhookProblem([("Content-Type", "Must be application/json")])
    try:
        fields = Fields(parse_json(request.get_data()))
    except NotJSON as error:
        raise WebhookProblem([("body", str(error))]) from error
    url = fields.text("url", size=(1, 2048), required=True) or ""
    events = fields.raw("events", required=True)
    if url and not is_reachable(url):
        fields.wrong("url", "The URL and/or hostname you provided is not allowed")
    if not _are_events(events):
        fields.wrong("events", "Must be a list of one or more event names")
    fields.refuse_others()
    if fields.reasons:
        raise WebhookProblem(fields.reasons)
    return url, list(dict.fromkeys(events))


def _are_events(value: object) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= 100:
        return False
    return all(isinstance(name, str) and re.fullmatch(_EVENT, name, re.ASCII) for name in value)


@webhook_api.get(_PATH, strict_slashes=False)
@_view
def show(session: Session, unit: SalesUnit) -> Answer:
    """List the registrations, without their secrets."""
    rows = session.scalars(select(Webhook).where(_is_of(unit)).order_by(Webhook.number))
    return json_answer(200, {"webhooks": [{"id": row.id, "url": row.url, "events": row.events} for row in rows]})


@webhook_api.delete(f"{_PATH}/<webhook_id>", strict_slashes=False)
@_view
def remove(session: Session, unit: SalesUnit, webhook_id: str) -> Answer:
    """Delete a registration; what was owed to it is forgotten."""
    webhook = session.scalar(select(Webhook).where(_is_of(unit), Webhook.id == webhook_id))
    if webhook is None:
        raise WebhookProblem([("id", "There is no such webhook")])
    session.delete(webhook)
    return nothing()
