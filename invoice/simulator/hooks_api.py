"""Webhooks seen from behind, under `/sim`: what is owed to whom, forged events, and the vendor's own test vector."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import requests
from flask import Blueprint
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoice.simulator import ids, signing
from invoice.simulator.control_api import Wrong, check_fields, control, read_fields
from invoice.simulator.http import world
from invoice.simulator.models import Delivery, Webhook
from invoice.simulator.post import TIMEOUT, new_http, webhook_request
from invoice.simulator.wording import exact_timestamp, timestamp

hooks_api = Blueprint("hooks_api", __name__, url_prefix="/sim/webhooks")

_SHOWN = 100


@hooks_api.get("")
@control
def show_webhooks() -> Any:
    """Registrations of all sales units, each with its latest events."""
    with world().store.read() as session:
        return {
            "webhooks": [
                {
                    "id": row.id,
                    "merchantSerialNumber": row.msn,
                    "url": row.url,
                    "events": row.events,
                    "failingSince": timestamp(row.failing_since) if row.failing_since else None,
                    "deliveries": _deliveries(session, row),
                }
                for row in session.scalars(select(Webhook).order_by(Webhook.number))
            ]
        }


def _deliveries(session: Session, webhook: Webhook) -> list[dict[str, Any]]:
    latest = select(Delivery).where(Delivery.webhook_id == webhook.id).order_by(Delivery.number.desc()).limit(_SHOWN)
    return [
        {
            "event": row.event,
            "subject": row.subject,
            "attempts": row.attempts,
            "outcome": row.outcome,
            "next": timestamp(row.wake_at) if row.wake_at else None,
        }
        for row in session.scalars(latest)
    ]


@hooks_api.get("/self-check")
@control
def self_check() -> Any:
    """The vendor's published example of a signature, and what comes out here."""
    made = signing.example_headers()
    signature = made["Authorization"].rpartition("&Signature=")[2]
    fits = (made["x-ms-content-sha256"], signature) == (
        signing.EXAMPLE["x-ms-content-sha256"],
        signing.EXAMPLE["signature"],
    )
    return {"example": signing.EXAMPLE, "headers": made, "fits": fits}


@hooks_api.post("/<webhook_id>/probe")
@control
def probe(webhook_id: str) -> Any:
    """Send a forged event to a registration, once, and tell what its receiver answered."""
    fields = read_fields()
    kind = fields.choice("kind", PROBES, required=True) or ""
    event = fields.text("event", size=(1, 100)) or "recurring.agreement-activated.v1"
    subject = fields.text("agreementId", size=(1, 36)) or ids.agreement_id()
    check_fields(fields)
    with world().store.read() as session:
        webhook = session.scalar(select(Webhook).where(Webhook.id == webhook_id))
    if webhook is None:
        raise Wrong(404, "webhook: there is none with this id")
    now = world().clock.now()
    body = json.dumps(
        {
            "agreementId": subject,
            "agreementUUID": ids.new_uuid(),
            "eventType": event,
            "occurred": exact_timestamp(now),
            "actor": "USER",
            "msn": webhook.msn,
        },
        separators=(",", ":"),
    ).encode()
    return {"kind": kind, "status": _send(webhook, body, PROBES[kind](webhook, body, now))}


def _send(webhook: Webhook, body: bytes, headers: dict[str, str]) -> int | None:
    try:
        with (
            new_http() as http,
            http.post(webhook.url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False) as answer,
        ):
            return answer.status_code
    except requests.RequestException:
        return None


Forgery = Callable[[Webhook, bytes, datetime], dict[str, str]]


def _genuine(webhook: Webhook, body: bytes, now: datetime) -> dict[str, str]:
    return webhook_request(webhook.url, body, webhook.secret, now)


def _without_signature(webhook: Webhook, body: bytes, now: datetime) -> dict[str, str]:
    return {name: value for name, value in _genuine(webhook, body, now).items() if name != "Authorization"}


# kind -> headers of the event
PROBES: dict[str, Forgery] = {
    "unsigned": _without_signature,
    "wrong-secret": lambda webhook, body, now: webhook_request(webhook.url, body, "not the secret", now),
    "changed-body": lambda webhook, body, now: _genuine(webhook, body + b" ", now),
    "other-path": lambda webhook, body, now: webhook_request(f"{webhook.url}x", body, webhook.secret, now),
    "old-date": lambda webhook, body, now: _genuine(webhook, body, now - timedelta(days=1)),
    # Rightly signed, about an agreement that is not there or has not changed: an event is only a reason to look.
    "untrue": _genuine,
}
