"""What Vipps tells through webhooks. Owed in the same transaction as the change that it tells of."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from invoice.simulator.act import Act
from invoice.simulator.models import Agreement, Charge, Delivery, Webhook
from invoice.simulator.wording import exact_timestamp

# Source: Vipps webhooks events (2026-08); "canceled" with one l.
EVENTS = (
    *("recurring.agreement-activated.v1", "recurring.agreement-rejected.v1"),
    *("recurring.agreement-stopped.v1", "recurring.agreement-expired.v1"),
    *("recurring.charge-reserved.v1", "recurring.charge-captured.v1", "recurring.charge-canceled.v1"),
    *("recurring.charge-refunded.v1", "recurring.charge-failed.v1", "recurring.charge-creation-failed.v1"),
)

_WINDOW_SECONDS = 10

FAILURE_TEXTS = {
    "user_action_required": "User action required",
    "charge_amount_too_high": "Charge amount is higher than the user's max amount",
    "non_technical_error": "Non technical error",
    "technical_error": "Technical error",
}


def tell_agreement(act: Act, agreement: Agreement, what: str, actor: str) -> None:
    """Owe the event "agreement-<what>" to everybody who asked for it. actor: MERCHANT, USER or ADMIN."""
    payload = {
        "agreementId": agreement.id,
        "agreementUUID": agreement.uuid,
        "agreementExternalId": agreement.external_id,
        "eventType": f"recurring.agreement-{what}.v1",
        "occurred": exact_timestamp(act.now),
        "actor": actor,
        "msn": agreement.msn,
    }
    _owe(act, agreement.msn, agreement.id, {name: value for name, value in payload.items() if value is not None})


def tell_charge(act: Act, charge: Charge, what: str) -> None:
    """Owe the event "charge-<what>" to everybody who asked for it.

    Source: changelog: null failure fields and chargeExternalId left out (2024-12), failureReason (2025-01),
    transactionId (2025-12).
    """
    payload: dict[str, Any] = {
        "agreementId": charge.agreement_id,
        "chargeId": charge.id,
        "chargeType": charge.type,
        "amount": charge.amount,
        "amountCaptured": charge.captured,
        "amountCanceled": charge.cancelled,
        "amountRefunded": charge.refunded,
        "currency": charge.currency,
        "eventType": f"recurring.charge-{what}.v1",
        "occurred": exact_timestamp(act.now),
        "msn": charge.msn,
        "transactionId": charge.transaction_id,
    }
    if charge.external_id:
        payload["chargeExternalId"] = charge.external_id
    if charge.failure_reason:
        payload["failureReason"] = charge.failure_reason
    _owe(act, charge.msn, charge.id, payload)


def _owe(act: Act, msn: str, subject: str, payload: dict[str, Any]) -> None:
    if act.switches.webhooks_lost:
        return
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    for webhook in act.session.scalars(select(Webhook).where(Webhook.msn == msn).order_by(Webhook.number)):
        if payload["eventType"] in webhook.events:
            for _ in range(2 if act.switches.webhooks_doubled else 1):
                act.session.add(_delivery(act, webhook, subject, payload["eventType"], body))


def _delivery(act: Act, webhook: Webhook, subject: str, event: str, body: str) -> Delivery:
    wake_at = _end_of_window(act.now) if act.switches.webhooks_reordered else _turn(act, webhook, subject)
    return Delivery(
        webhook_id=webhook.id, subject=subject, event=event, body=body, created_at=act.now, attempts=0, wake_at=wake_at
    )


def _turn(act: Act, webhook: Webhook, subject: str) -> datetime:
    """Return when an event may be sent: not before an earlier one of the same payment that is still being tried."""
    waiting = act.session.scalar(
        select(func.max(Delivery.wake_at)).where(Delivery.webhook_id == webhook.id, Delivery.subject == subject)
    )
    return max(act.now, waiting) if waiting else act.now


def _end_of_window(at: datetime) -> datetime:
    """Return when the ten seconds that hold `at` are over: then their events go out together, newest first."""
    return datetime.fromtimestamp((at.timestamp() // _WINDOW_SECONDS + 1) * _WINDOW_SECONDS, UTC)
