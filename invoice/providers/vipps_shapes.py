"""Vipps' JSON, read: answers turned into our values, nonsense called by its name.

Pure. Facts: the vendor's OpenAPI file of October 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from invoice.errors import ProviderRefused, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval
from invoice.providers.base import AgreementView, BatchAnswer, ChargeView
from invoice.providers.http import printable

T = TypeVar("T")

AGREEMENT_STATUSES = {
    "PENDING": AgreementStatus.PENDING,
    "ACTIVE": AgreementStatus.ACTIVE,
    "STOPPED": AgreementStatus.STOPPED,
    "EXPIRED": AgreementStatus.EXPIRED,
}
CHARGE_STATUSES = {
    "PENDING": ChargeStatus.SUBMITTED,
    "DUE": ChargeStatus.SUBMITTED,
    "PROCESSING": ChargeStatus.SUBMITTED,
    "UNKNOWN": ChargeStatus.SUBMITTED,
    "RESERVED": ChargeStatus.RESERVED,
    "PARTIALLY_CAPTURED": ChargeStatus.RESERVED,
    "CHARGED": ChargeStatus.CHARGED,
    "PARTIALLY_REFUNDED": ChargeStatus.PARTIALLY_REFUNDED,
    "REFUNDED": ChargeStatus.REFUNDED,
    "FAILED": ChargeStatus.FAILED,
    "CANCELLED": ChargeStatus.CANCELLED,
}


def part(value: str) -> str:
    """Return an id as one safe part of a path."""
    if value in ("", ".", ".."):
        raise ProviderRefused(f"Vipps has no id {value!r}")
    return quote(value, safe="")


def reading(read: Callable[[], T]) -> T:
    """Read an answer; one of the wrong shape leaves the outcome unknown."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ProviderUncertain("Vipps answered in a shape that we do not know") from error


def _instant(value: object) -> datetime | None:
    if not value:
        return None
    at = datetime.fromisoformat(str(value))
    if at.tzinfo is None:
        raise ValueError("An instant without a zone.")
    return at


def agreement(body: Any) -> AgreementView:
    """Return an agreement; raises what `reading` turns into ProviderUncertain."""
    return AgreementView(
        agreement_id=text(body["id"]),
        external_id=body.get("externalId"),
        status=AGREEMENT_STATUSES.get(body["status"]),
        started_at=_instant(body.get("start")),
        amount=_price(body.get("pricing") or {}),
        product_name=str(body.get("productName") or ""),
        description=str(body.get("productDescription") or ""),
        currency=str((body.get("pricing") or {}).get("currency") or ""),
        interval=_interval(body.get("interval") or {}),
        manage_url=str(body.get("merchantAgreementUrl") or ""),
    )


def agreements(body: Any) -> list[AgreementView]:
    """Return a page of agreements. Raises ProviderUncertain for a wrong shape."""
    return reading(lambda: [agreement(member) for member in listed(body)])


def batch(body: Any) -> BatchAnswer:
    """Return what was said to a batch, likewise."""
    refused = {
        str(item["chargeBatchItemDto"]["orderId"]): printable(
            "; ".join(map(str, item.get("errors") or ["no reason given"]))
        )
        for item in listed(body.get("invalidCharges") or [])
    }
    return BatchAnswer(frozenset(map(text, listed(body.get("validCharges") or []))), refused)


def charges(body: Any, agreement_id: str) -> list[ChargeView]:
    """Return a page of charges. Raises ProviderUncertain for a wrong shape."""
    return reading(lambda: [charge(member, agreement_id) for member in listed(body)])


def charge(body: Any, agreement_id: str) -> ChargeView:
    """Return a charge, likewise."""
    summary = body.get("summary") or {}
    failure = body.get("failureReason") or body.get("failureDescription")
    return ChargeView(
        name=text(body["id"]),
        agreement_id=str(body.get("agreementId") or agreement_id),
        amount=_whole(body["amount"]),
        currency=str(body["currency"]),
        status=CHARGE_STATUSES.get(body["status"]),
        captured=_whole(summary.get("captured") or 0),
        refunded=_whole(summary.get("refunded") or 0),
        captured_at=_first_at(body.get("history") or [], "CAPTURE"),
        failure_reason=printable(str(failure))[:200] if failure else None,
        is_initial=body.get("type") == "INITIAL",
        due_on=_date(body.get("due")),
        reserved_at=_first_at(body.get("history") or [], "RESERVE"),
        captures=frozenset(key for key, _ in _moves(body.get("history") or [], "CAPTURE")),
        refunds=tuple(_moves(body.get("history") or [], "REFUND")),
    )


def text(value: object) -> str:
    """Return a text that must be there."""
    if not isinstance(value, str) or not value:
        raise TypeError("A text that is missing.")
    return value


def listed(value: object) -> list[Any]:
    """Return a list that must be one."""
    if not isinstance(value, list):
        raise TypeError("A list that is none.")
    return value


def _price(pricing: dict[str, Any]) -> int | None:
    """Return what stands for the price: the amount of a fixed one, the suggested ceiling of a variable one."""
    amount = pricing.get("suggestedMaxAmount") if pricing.get("amount") is None else pricing["amount"]
    return None if amount is None else _whole(amount)


def _interval(interval: dict[str, Any]) -> Interval | None:
    """Return an interval that we have a word for: one week, one month or one year."""
    unit = interval.get("unit")
    return Interval(unit) if interval.get("count") == 1 and unit in list(Interval) else None


def _date(value: object) -> date | None:
    """Return a due date, which Vipps writes as a timestamp although it is made from a date."""
    return date.fromisoformat(str(value)[:10]) if value else None


def _whole(value: object) -> int:
    """Return an amount, which is an integer of minor units and nothing else."""
    if type(value) is not int:
        raise TypeError("An amount that is no integer.")
    return value


def _moves(history: list[dict[str, Any]], kind: str) -> Iterator[tuple[str, int]]:
    """Return what was taken or went back, by whose key; one without a key is left out."""
    for event in history:
        if event["event"] == kind and event.get("success", True) and event.get("idempotencyKey"):
            yield str(event["idempotencyKey"]), _whole(event["amount"])


def _first_at(history: list[dict[str, Any]], event: str) -> datetime | None:
    """Return when the first event of a kind succeeded: when money was set aside, or taken."""
    times = [_instant(h["occurred"]) for h in history if h["event"] == event and h.get("success", True)]
    return min((t for t in times if t), default=None)
