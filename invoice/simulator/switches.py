"""Questions that the vendor leaves open, as switches: a product must be right whichever way each one is answered.

The defaults are what was observed, or else the harsher answer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from invoice.simulator.models import Setting
from invoice.simulator.store import Store

_NAME = "switches"
SMS_OUTCOMES = ("delivered", "undelivered", "failed", "silent")
CHARGE_FAILURES = ("none", "user_action_required", "non_technical_error", "technical_error")
_MOST = 1_000_000_000


def _switch(default: Any, what: str, choices: tuple[Any, ...] = ()) -> Any:
    return field(default=default, metadata={"what": what, "choices": choices})


@dataclass(frozen=True)
class Values:
    """Where every switch stands. Seconds are simulated ones."""

    # Idempotency keys
    draft_ignores_keys: bool = _switch(
        True, "the draft endpoint does not obey Idempotency-Key (official WooCommerce plugin 2.1.10, 2025)"
    )
    idempotency_hours: int = _switch(
        48, "how long an answer is kept for its key; 0: not at all (at least 24 h were observed, 2026-08)"
    )
    limits_burn_keys: bool = _switch(False, "a 429 of ours is kept for its key like any other 4xx")
    unauthorized_burns_keys: bool = _switch(False, "a 401 for the token is kept for its key like any other 4xx")

    # Names of charges
    taken_order_id_status: int = _switch(
        409, "a taken orderId on create: 409 (conflict) or 400 (validation-error)", (409, 400)
    )
    dead_draft_frees_order_id: bool = _switch(
        False, "the initial charge's orderId of an expired or rejected draft may be used again"
    )
    bulk_creation_fails: bool = _switch(False, "charges that the batch endpoint took fail afterwards")
    bulk_failure_keeps_order_id: bool = _switch(True, "the orderIds of charges that failed so stay taken")

    # Stops, answers that come before their effect, refunds
    stop_pending_allowed: bool = _switch(False, "a merchant may stop an agreement that is still PENDING")
    stop_reaches_processing: bool = _switch(False, "a stop reaches a charge that is PROCESSING")
    visibility_seconds: int = _switch(0, "for so long a new agreement or charge is not found")
    answer_202: bool = _switch(False, "update, cancel and capture are answered with 202 and done later")
    enact_seconds: int = _switch(5, "until a change that was answered with 202 is done")
    refund_conflict_seconds: int = _switch(0, "for so long after a refund the next one on the charge gets 409")
    refund_history_has_key: bool = _switch(True, "a refund's line in the history carries the request's key")

    # Webhooks
    webhook_retries_resigned: bool = _switch(True, "a second attempt carries a new date and signature")
    webhooks_doubled: bool = _switch(False, "each event is sent twice")
    webhooks_lost: bool = _switch(False, "events are never sent")
    webhooks_reordered: bool = _switch(False, "events of the same ten seconds are sent newest first")
    webhooks_wrongly_signed: bool = _switch(False, "events are signed with a secret that is not theirs")
    activated_before_captured: bool = _switch(
        False, "agreement-activated is sent before the initial charge's charge-captured"
    )

    # Limits
    rate_limits: bool = _switch(False, "calls per minute are limited as in Vipps' table, for each sales unit")
    retry_after: str = _switch("seconds", "how a 429 says Retry-After", ("seconds", "http-date", "none"))
    description_limit: int = _switch(100, "longest description: 100 (OpenAPI, 2025-10) or 45 (guide, 2026-08)")
    least_operation_amount: int = _switch(100, "least capture and refund in NOK, øre (OpenAPI, 2023-12)")

    # What the sales units may do
    recurring_activated: bool = _switch(True, "Recurring is activated; without it every call is invalid-sale-unit")
    unscheduled_allowed: bool = _switch(False, "charges may be UNSCHEDULED")
    skip_landing_page_allowed: bool = _switch(False, "a draft may skip the landing page")
    force_accept_allowed: bool = _switch(True, "the accept endpoint is there, as only in the test environment")
    single_settlement: bool = _switch(False, "settled one by one: no refund is possible")
    late_capture: bool = _switch(False, "a reservation in DK and FI lives 180 days instead of 14")

    # The rest
    link_opens_once: bool = _switch(
        False, "a link that is opened in a second browser is called off, as it is by going back"
    )
    charge_failure: str = _switch("none", "every attempt at a charge is refused for this reason", CHARGE_FAILURES)
    v2_status: int = _switch(404, "what the discontinued v2 answers", (404, 410))
    sms_outcome: str = _switch("delivered", "what becomes of texts; silent: sent, and no callback ever", SMS_OUTCOMES)
    twilio_list_delay_seconds: int = _switch(0, "for so long a new text is not in Twilio's list")


DEFAULTS = Values()
_FIELDS = {switch.name: switch for switch in fields(Values)}
MEANINGS: dict[str, str] = {name: switch.metadata["what"] for name, switch in _FIELDS.items()}


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
        moved = {name: value for name, value in asdict(values).items() if value != _FIELDS[name].default}
        with self._store.write() as session:
            session.merge(Setting(name=_NAME, value=json.dumps(moved)))
        self.values = values

    def as_dict(self) -> dict[str, Any]:
        """Return name -> value of every switch."""
        return asdict(self.values)


def _check(name: str, value: Any) -> None:
    switch = _FIELDS.get(name)
    if switch is None:
        raise ValueError(f"{name[:64]}: there is no such switch")
    choices = switch.metadata["choices"]
    if type(value) is not type(switch.default):
        raise ValueError(f"{name}: must be a {type(switch.default).__name__}")
    if choices and value not in choices:
        raise ValueError(f"{name}: must be one of {', '.join(map(str, choices))}")
    if isinstance(value, int) and not 0 <= value <= _MOST:
        raise ValueError(f"{name}: must be from 0 to {_MOST}")
