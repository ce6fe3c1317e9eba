"""Vipps' limits, as tables: how long, how much, how often. Nothing here calls or reads anything.

Sources: the vendor's OpenAPI file of October 2025 (lengths, days), the agent-toolkit of 2026-08-21 (amounts, ceiling,
45 characters), the changelog of September 2025 (500 charges a minute) and the guide of December 2023 (other rates).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_BATCH = 2000  # charges in one call
NAME, DESCRIPTION, CHARGE_TEXT = 45, 100, 45  # characters; longer texts are cut
EVENT_TEXT = 15
MANAGE_URL, REDIRECT_URL = 1024, 2048
EXTERNAL_ID = 64
MAX_RETRY_DAYS = 14
EARLIEST_DAYS, LATEST_DAYS = 1, 2 * 365  # how far ahead a charge may fall due


@dataclass(frozen=True)
class Rate:
    """Calls in a minute, counted for each sales unit, and there for each agreement or charge that the path names."""

    per_minute: int
    scope: str = "unit"  # or "agreement", "charge"


RATES = {
    "draft": Rate(300),
    "list_agreements": Rate(5),
    "fetch_agreement": Rate(120, "agreement"),
    "update_agreement": Rate(5, "agreement"),
    "create_charge": Rate(500),
    "list_charges": Rate(10, "agreement"),
    "fetch_charge": Rate(10, "charge"),
    "fetch_charge_by_id": Rate(100),
    "cancel_charge": Rate(5, "charge"),
    "capture": Rate(5, "charge"),
    "refund": Rate(5, "charge"),
}
