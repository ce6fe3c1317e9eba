"""Agreements and charges as Vipps shows them: exactly the fields that were seen live (2026-08)."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import select

from invoice.simulator import market
from invoice.simulator.act import Act
from invoice.simulator.events import FAILURE_TEXTS
from invoice.simulator.models import Agreement, Charge, ChargeEvent
from invoice.simulator.wording import interval_text, sign, timestamp


def agreement_as_dict(act: Act, agreement: Agreement) -> dict[str, Any]:
    """Return an agreement. Who the person is does not stand in it."""
    userinfo = f"{act.world.base_url}/vipps-userinfo-api/userinfo/{agreement.sub}" if agreement.sub else None
    return {
        "campaign": _campaign(agreement),
        "countryCode": agreement.market.country,
        "created": timestamp(agreement.created_at),
        "externalId": agreement.external_id,
        "id": agreement.id,
        "interval": _interval(agreement),
        "merchantAgreementUrl": agreement.manage_url,
        "merchantRedirectUrl": agreement.redirect_url,
        "paymentMethod": agreement.payment_method,
        "pricing": _pricing(agreement),
        "productDescription": agreement.product_description,
        "productName": agreement.product_name,
        "start": _moment(agreement.started_at),
        "status": agreement.status,
        "stop": _moment(agreement.stopped_at),
        "sub": agreement.sub,
        "userinfoUrl": userinfo,
        "uuid": agreement.uuid,
        "vippsConfirmationUrl": agreement.confirmation_url,
    }


def _moment(at: datetime | None) -> str | None:
    return timestamp(at) if at else None


def _interval(agreement: Agreement) -> dict[str, Any] | None:
    if agreement.interval_unit is None or agreement.interval_count is None:
        return None
    unit, count = agreement.interval_unit, agreement.interval_count
    return {"unit": unit, "count": count, "text": interval_text(unit, count)}


def _pricing(agreement: Agreement) -> dict[str, Any]:
    pricing: dict[str, Any] = {"type": agreement.pricing_type, "currency": agreement.currency}
    if agreement.pricing_type == "LEGACY":
        pricing["amount"] = agreement.price
    if agreement.pricing_type == "VARIABLE":
        pricing["suggestedMaxAmount"] = agreement.suggested_max_amount
        if agreement.max_amount is not None:  # chosen by the person at approval
            pricing["maxAmount"] = agreement.max_amount
    return pricing


def campaign_end(agreement: Agreement) -> date | None:
    """Return the local date from which the ordinary price holds, or None without a campaign."""
    campaign = agreement.campaign
    if campaign is None:
        return None
    here = agreement.market
    if campaign["type"] == "PERIOD_CAMPAIGN":
        start = here.local_date(agreement.started_at or agreement.created_at)
        return market.add_interval(start, campaign["period"]["unit"], campaign["period"]["count"])
    return here.local_date(datetime.fromisoformat(campaign.get("end") or campaign["eventDate"]))


def _campaign(agreement: Agreement) -> dict[str, Any] | None:
    end = campaign_end(agreement)
    if agreement.campaign is None or end is None:
        return None
    price = (agreement.price or 0) / 100
    campaign = agreement.campaign | {
        "explanation": f"Ordinary price {price:g} {sign(agreement.currency)} starts {end.day}/{end.month}/{end.year}"
    }
    if campaign["type"] == "PERIOD_CAMPAIGN":
        campaign["end"] = timestamp(agreement.market.instant(end))
    return campaign


def charge_as_dict(act: Act, charge: Charge, agreement: Agreement) -> dict[str, Any]:
    """Return a charge with its sums and its history."""
    return {
        "id": charge.id,
        "agreementId": charge.agreement_id,
        "amount": charge.amount,
        "currency": charge.currency,
        "description": charge.description,
        "due": timestamp(charge.due_at),
        "externalId": charge.external_id,
        "externalAgreementId": agreement.external_id,
        "retryDays": charge.retry_days,
        "processingMode": charge.processing_mode,
        "status": charge.status,
        "transactionId": charge.transaction_id,
        "type": charge.type,
        "transactionType": charge.transaction_type,
        "failureReason": charge.failure_reason,
        "failureDescription": FAILURE_TEXTS[charge.failure_reason] if charge.failure_reason else None,
        "summary": {"captured": charge.captured, "refunded": charge.refunded, "cancelled": charge.cancelled},
        "history": [event_as_dict(charge, event) for event in history(act, charge)],
    }


def history(act: Act, charge: Charge) -> list[ChargeEvent]:
    """Return what happened to a charge, oldest first."""
    events = select(ChargeEvent).where(ChargeEvent.charge_number == charge.number).order_by(ChargeEvent.number)
    return list(act.session.scalars(events))


def event_as_dict(charge: Charge, event: ChargeEvent) -> dict[str, Any]:
    """Return one line of a history."""
    line: dict[str, Any] = {
        "occurred": timestamp(event.occurred_at),
        "event": event.event,
        "amount": event.amount,
        "idempotencyKey": event.idempotency_key,
        "success": event.success,
    }
    if charge.transaction_id:
        line["transactionId"] = charge.transaction_id
    return line
