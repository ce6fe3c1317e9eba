"""Vipps' rate limits, by the simulated clock. Source: changelog 2025-09 (create), guide 2023-12 (the others).

Counted in memory: a restart forgives.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

_WINDOW = timedelta(minutes=1)

# call -> (calls per minute, counted for each: the sales unit, the agreement, or the agreement and charge).
# Of the batch endpoint no limit is known; the one for creating charges does not hold for it.
LIMITS = {
    "create_charge": (500, ""),
    "cancel_charge": (5, "charge"),
    "capture": (5, "charge"),
    "refund": (5, "charge"),
    "list_agreements": (5, ""),
    "update_agreement": (5, "agreement"),
    "fetch_charge": (10, "charge"),
    "fetch_charge_by_id": (100, ""),
    "list_charges": (10, "agreement"),
    "fetch_agreement": (120, "agreement"),
    "draft": (300, ""),
}


class Limits:
    """Calls of the last minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, ...], deque[datetime]] = {}

    def seconds_to_wait(self, call: str, msn: str, path: dict[str, str], now: datetime) -> int:
        """Count this call of a sales unit; return 0, or the seconds after which it may be tried again."""
        if call not in LIMITS:
            return 0
        most, scope = LIMITS[call]
        subject = {"": (), "agreement": ("agreement_id",), "charge": ("agreement_id", "charge_id")}[scope]
        with self._lock:
            calls = self._calls.setdefault((call, msn, *(path.get(name, "") for name in subject)), deque())
            while calls and calls[0] <= now - _WINDOW:
                calls.popleft()
            if len(calls) < most:
                calls.append(now)
                return 0
            return int((calls[0] + _WINDOW - now).total_seconds()) + 1
