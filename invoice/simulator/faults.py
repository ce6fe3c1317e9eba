"""Misbehaviour to order: which call, which fault, how often. How a fault looks on the wire is in `breakage`."""

from __future__ import annotations

import random
import threading
from typing import Any

from sqlalchemy import delete, select

from invoice.simulator.models import Fault
from invoice.simulator.store import Store

CALLS = (
    *("token", "draft", "list_agreements", "fetch_agreement", "update_agreement", "accept", "create_charge"),
    *(
        "create_charges",
        "list_charges",
        "fetch_charge",
        "fetch_charge_by_id",
        "cancel_charge",
        "capture",
        "refund",
        "webhooks",
    ),
    *("userinfo", "send_message", "list_messages", "fetch_message"),
)

# kind -> what the caller sees
KINDS = {
    "down": "the connection closes without an answer; nothing happened",
    "timeout_before": "nothing for some seconds, then the connection closes; nothing happened",
    "timeout_after": "the same, but it happened",
    "slow": "it happens, and the answer is late",
    "401": "the gateway does not know the token; nothing happened",
    "429": "too many requests, with Retry-After; nothing happened",
    "500": "an error; nothing happened",
    "502": "an error page in HTML; nothing happened",
    "html": "200 with a page in HTML; nothing happened",
    "malformed": "200 with half a JSON document; nothing happened",
    "500_after": "an error, but it happened",
    "drop_after": "it happened, and the connection closes without an answer",
}


class Faults:
    """The faults that are ordered, in order; the first that fits is used up first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._any = self._count() > 0

    def _count(self) -> int:
        return int(self._store.scalar("SELECT count(*) FROM faults"))

    def order(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock, self._store.write() as session:
            session.add(fault)
            self._any = True

    def clear(self) -> None:
        """Behave again."""
        with self._lock, self._store.write() as session:
            session.execute(delete(Fault))
            self._any = False

    def listed(self) -> list[dict[str, Any]]:
        """Return what is ordered and still to come."""
        with self._store.read() as session:
            return [as_dict(fault) for fault in session.scalars(select(Fault).order_by(Fault.number))]

    def take(self, call: str, agreement_id: str | None, body: bytes) -> Fault | None:
        """Return the fault for this call, one time used up, or None."""
        if not self._any:
            return None
        with self._lock, self._store.write() as session:
            for fault in session.scalars(select(Fault).where(Fault.call.in_([call, "*"])).order_by(Fault.number)):
                if _fits(fault, agreement_id, body):
                    if fault.remaining is not None:
                        fault.remaining -= 1
                    if fault.remaining == 0:
                        session.delete(fault)
                    return Fault(kind=fault.kind, seconds=fault.seconds)
        return None


def _fits(fault: Fault, agreement_id: str | None, body: bytes) -> bool:
    wanted = fault.agreement_id
    if wanted and wanted != agreement_id and wanted.encode() not in body:
        return False
    return random.random() < fault.chance  # noqa: S311 - no secret depends on it


def as_dict(fault: Fault) -> dict[str, Any]:
    """Return a fault as the control API shows it."""
    return {
        "call": fault.call,
        "fault": fault.kind,
        "times": fault.remaining,
        "agreementId": fault.agreement_id,
        "chance": fault.chance,
        "seconds": fault.seconds,
    }
