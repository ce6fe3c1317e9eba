"""Agreements and charges as version 2 of Vipps Recurring wrote them, made from what version 3 answers.

Pure. Version 2 itself is gone (technical updates of November 2024 and February 2025), but a contract of ours hands its
objects on word for word. Source of the fields: the examples in that contract's README (2020), and the vendor's guide
from version 2 to version 3 (2023-12).
"""

from __future__ import annotations

from typing import Any


def agreement(body: Any) -> dict[str, Any]:
    """Return an agreement; raises what `reading` turns into ProviderUncertain."""
    pricing, interval = body.get("pricing") or {}, body.get("interval") or {}
    return {
        "id": body["id"],
        "start": body.get("start"),
        "stop": body.get("stop"),
        "status": body["status"],
        "productName": body.get("productName"),
        # A variable price has none of its own: then what was suggested stands for it.
        "price": pricing.get("amount", pricing.get("suggestedMaxAmount")),
        "productDescription": body.get("productDescription"),
        "interval": interval.get("unit"),
        "intervalCount": interval.get("count"),
        "currency": pricing.get("currency"),
        "campaign": _campaign(body.get("campaign")),
    }


def charge(body: Any) -> dict[str, Any]:
    """Return a charge, likewise."""
    return {
        "id": body["id"],
        "status": body["status"],
        "due": body.get("due"),
        "amount": body["amount"],
        "amountRefunded": (body.get("summary") or {}).get("refunded", 0),
        "transactionId": body.get("transactionId"),
        "description": body.get("description"),
        "type": body.get("type"),
    }


def _campaign(campaign: Any) -> dict[str, Any] | None:
    """Return a campaign; version 2 knew a lower price until an end, and nothing else."""
    if not campaign:
        return None
    return {"campaignPrice": campaign.get("price"), "end": campaign.get("end") or campaign.get("eventDate")}
