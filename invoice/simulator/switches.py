"""Questions that the vendor leaves open, as switches: a product must be right whichever way each one is answered.

The defaults are what was observed, or else the harsher answer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from invoice.simulator.models import Setting
from invoice.simulator.store import Store

_NAME = "switches"
SMS_OUTCOMES = ("delivered", "undelivered", "failed", "silent")


@dataclass(frozen=True)
class Values:
    """Where every switch stands."""

    # The draft endpoint did not obey Idempotency-Key (official WooCommerce plugin 2.1.10, 2025).
    draft_ignores_keys: bool = True
    # How long an answer is kept for its key; 0: not at all. At least 24 h were observed (2026-08).
    idempotency_hours: int = 48
    # Whether a 429 of ours is kept for its key like any other 4xx.
    limits_burn_keys: bool = False
    # Status of a taken orderId on a single create: 409 (conflict) or 400 (validation-error).
    taken_order_id_status: int = 409
    # Whether the initial charge's orderId of an expired or rejected draft may be used again.
    dead_draft_frees_order_id: bool = False
    # Whether a merchant may stop an agreement that is still PENDING.
    stop_pending_allowed: bool = False
    # Whether a stop reaches a charge that is PROCESSING.
    stop_reaches_processing: bool = False
    # Whether a webhook's second attempt carries a new date and signature.
    webhook_retries_resigned: bool = True
    # Whether each webhook is sent twice; never; with a signature that does not fit.
    webhooks_doubled: bool = False
    webhooks_lost: bool = False
    webhooks_wrongly_signed: bool = False
    # Whether agreement-activated is sent before the initial charge's charge-captured.
    activated_before_captured: bool = False
    # Simulated seconds for which a new agreement or charge is not found.
    visibility_seconds: int = 0
    # Whether charges that the batch endpoint took fail afterwards, and whether their orderIds stay taken.
    bulk_creation_fails: bool = False
    bulk_failure_keeps_order_id: bool = True
    # Whether writes are answered with 202 instead of 204.
    answer_202: bool = False
    # Calls per minute (Vipps' table), by the simulated clock.
    rate_limits: bool = False
    # What the sales unit may do.
    unscheduled_allowed: bool = False
    skip_landing_page_allowed: bool = False
    single_settlement: bool = False
    # 100 (OpenAPI, 2025-10) or 45 (guide, 2026-08).
    description_limit: int = 100
    # Least capture and refund, øre (OpenAPI, 2023-12).
    least_operation_amount: int = 100
    # What becomes of texts: delivered, undelivered, failed, or silent (sent, no callback ever).
    sms_outcome: str = "delivered"
    # Simulated seconds until a text shows in Twilio's list.
    twilio_list_delay_seconds: int = 0


DEFAULTS = Values()


class Switchboard:
    """The switches, kept on the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.read() as session:
            row = session.get(Setting, _NAME)
        self.values = replace(DEFAULTS, **(json.loads(row.value) if row else {}))

    def change(self, wanted: dict[str, Any]) -> None:
        """Set the named switches, all or none. Raises ValueError that names the wrong one."""
        for name, value in wanted.items():
            _check(name, value)
        values = replace(self.values, **wanted)
        moved = {f.name: getattr(values, f.name) for f in fields(Values) if getattr(values, f.name) != f.default}
        with self._store.write() as session:
            session.merge(Setting(name=_NAME, value=json.dumps(moved)))
        self.values = values

    def as_dict(self) -> dict[str, Any]:
        """Return name -> value of every switch."""
        return asdict(self.values)


def _check(name: str, value: Any) -> None:
    default = asdict(DEFAULTS).get(name)
    if default is None:
        raise ValueError(f"{name[:64]}: there is no such switch")
    if type(value) is not type(default):
        raise ValueError(f"{name}: must be a {type(default).__name__}")
    if isinstance(value, int) and not 0 <= value <= 1_000_000_000:
        raise ValueError(f"{name}: must be from 0 to 1000000000")
    if name == "taken_order_id_status" and value not in (400, 409):
        raise ValueError(f"{name}: must be 400 or 409")
    if name == "sms_outcome" and value not in SMS_OUTCOMES:
        raise ValueError(f"{name}: must be one of {', '.join(SMS_OUTCOMES)}")
