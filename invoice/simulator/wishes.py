"""What a request about a charge must look like. Pure: says what is wrong, changes nothing.

Source: Vipps Recurring v3 OpenAPI 3.1.2 (2025-10); Vipps agent-toolkit (2026-08-21).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from invoice.simulator import market
from invoice.simulator.drafts import EXTERNAL_ID, ORDER_ID, TRANSACTION_TYPES
from invoice.simulator.fields import Fields
from invoice.simulator.market import Market
from invoice.simulator.problems import Problem, Reasons, invalid
from invoice.simulator.switches import Values

RETRY_DAYS = 14
PROCESSING_MODES = ("MULTIPLE_ATTEMPTS", "SINGLE_ATTEMPT")
_ANY = 2**31 - 1


@dataclass(frozen=True)
class Wish:
    """A checked request for a charge; `due` is a date in the sales unit's market."""

    amount: int
    description: str
    transaction_type: str
    type: str
    due: date
    retry_days: int
    processing_mode: str
    order_id: str | None
    external_id: str | None


def check_echoable(items: list[Any]) -> None:
    """Raise Problem unless every item of a batch could stand in an answer, which echoes those that are wrong.

    What is missing or of another type cannot be echoed, so it must be the request that is refused, not the item.
    Source: Vipps Recurring v3, ChargeBatchItemDto (2025-10).
    """
    reasons: Reasons = []
    for number, item in enumerate(items):
        fields = Fields(item, f"[{number}].", reasons)
        fields.text("due", size=(0, _ANY), required=True)
        fields.integer("retryDays", low=-_ANY - 1, required=True)
        fields.integer("amount", low=-_ANY - 1, required=True)
        fields.text("description", size=(0, _ANY), required=True)
        fields.choice("transactionType", TRANSACTION_TYPES, required=True)
        fields.text("orderId", size=(1, 64), required=True, pattern=rf"(?s:{ORDER_ID}.*)")
        fields.choice("processingMode", PROCESSING_MODES)
        fields.text("agreementId", size=(0, _ANY))
        fields.text("externalId", size=(0, _ANY))
    if reasons:
        raise invalid(*reasons)


def read_wish(body: Any, now: datetime, here: Market, switches: Values, *, bulk: bool = False) -> Wish:
    """Return the checked request. Raises Problem with every field that is wrong.

    here: the sales unit's market.  bulk: an item of the batch endpoint, where orderId and agreementId are required and
    only RECURRING is known.
    """
    fields = Fields(body)
    kind = "RECURRING" if bulk else fields.choice("type", ("RECURRING", "UNSCHEDULED")) or "RECURRING"
    if kind == "UNSCHEDULED" and not switches.unscheduled_allowed:
        raise Problem("unsupported-feature", "Cannot create a charge with type 'UNSCHEDULED'")
    if bulk:
        fields.text("agreementId", size=(1, 36), required=True)
    wish = Wish(
        amount=fields.integer("amount", low=here.least, high=here.most, required=True) or 0,
        description=fields.text("description", size=(1, switches.description_limit), required=True) or "",
        transaction_type=fields.choice("transactionType", TRANSACTION_TYPES, required=True) or "",
        type=kind,
        due=_due(fields, kind, here.local_date(now)),
        retry_days=_retry_days(fields, kind),
        processing_mode=_processing_mode(fields, kind),
        order_id=fields.text("orderId", size=(1, 64), pattern=ORDER_ID, required=bulk),
        external_id=fields.text("externalId", size=(1, 64), pattern=EXTERNAL_ID),
    )
    fields.refuse_others()
    if fields.reasons:
        raise invalid(*fields.reasons)
    _check_window(wish, here.local_date(now))
    return wish


def _due(fields: Fields, kind: str, today: date) -> date:
    due = fields.day("due", required=kind == "RECURRING")
    if kind == "UNSCHEDULED" and fields.has("due"):
        fields.wrong("due", "Is not allowed for UNSCHEDULED charges")
    return due or today


def _retry_days(fields: Fields, kind: str) -> int:
    return fields.integer("retryDays", low=0, high=RETRY_DAYS, required=kind == "RECURRING") or 0


def _processing_mode(fields: Fields, kind: str) -> str:
    mode = fields.choice("processingMode", PROCESSING_MODES)
    if mode and kind == "UNSCHEDULED":
        fields.wrong("processingMode", "Is not allowed for UNSCHEDULED charges")
    if mode == "SINGLE_ATTEMPT" and fields.raw("retryDays") != 0:
        fields.wrong("processingMode", "SINGLE_ATTEMPT needs retryDays 0")
    return mode or ("SINGLE_ATTEMPT" if kind == "UNSCHEDULED" else "MULTIPLE_ATTEMPTS")


def _check_window(wish: Wish, today: date) -> None:
    if wish.type == "UNSCHEDULED":
        return
    if (wish.due - today).days < market.EARLIEST_DAYS:
        raise Problem("charge-due-too-soon", "The due date must be at least 1 day ahead.", [("due", "Too soon")])
    if wish.due > market.latest_due(today):
        raise Problem("charge-due-in-too-long", "The due date must be at most 2 years ahead.", [("due", "Too late")])


def _least(here: Market, switches: Values) -> int:
    """Return the least capture and refund; the switch speaks of NOK, where a payment has a least amount, too."""
    return max(1, switches.least_operation_amount if here.currency == "NOK" else here.least)


def read_capture(body: Any, here: Market, switches: Values) -> int:
    """Return the amount to capture. Source: Vipps Recurring v3; the least amount from the 2023 specification."""
    fields = Fields(body)
    amount = fields.integer("amount", low=_least(here, switches), required=True)
    fields.text("description", size=(1, 100))
    fields.refuse_others()
    if fields.reasons or amount is None:
        raise invalid(*fields.reasons)
    return amount


def read_refund(body: Any, here: Market, switches: Values) -> tuple[int, str]:
    """Return (amount, description) of a refund."""
    fields = Fields(body)
    amount = fields.integer("amount", low=_least(here, switches), required=True)
    description = fields.text("description", size=(1, 100), required=True)
    fields.refuse_others()
    if fields.reasons or amount is None or description is None:
        raise invalid(*fields.reasons)
    return amount, description


def read_accept(body: Any) -> str:
    """Return the phone number (MSISDN) that an agreement is force-accepted for."""
    fields = Fields(body)
    phone = fields.text("phoneNumber", size=(1, 15), required=True, pattern=r"[1-9]\d{6,14}")
    fields.refuse_others()
    if fields.reasons or phone is None:
        raise invalid(*fields.reasons)
    return phone
