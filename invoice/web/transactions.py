"""/api/transactions/...: what became of each payment, and the capture of money that is set aside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from invoice.errors import Invalid
from invoice.lifecycle import ChargeStatus
from invoice.money import MINIMUM, to_major, to_minor
from invoice.services import transactions
from invoice.services.transactions import Transaction
from invoice.web.auth import must_be, partner_required
from invoice.web.errors import bare
from invoice.web.idempotency import attempt, idempotent
from invoice.web.parameters import argument, check_version, instant, utc, whole_number
from invoice.web.services import services

blueprint = Blueprint("transactions", __name__, url_prefix="/api/transactions")
blueprint.before_request(check_version)

_PAGE = 500
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REFERENCE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")
_PARTNER = "<int(max=2147483647):partner_id>"

# status -> (the original's statusCode, the status as Vipps or we call it, what that means)
STATUSES: dict[ChargeStatus, tuple[str, str, str]] = {
    ChargeStatus.PLANNED: ("Registered", "PLANNED", "Vipps gets it a few days before it is due."),
    ChargeStatus.SUBMITTING: ("Registered", "SUBMITTING", "On its way to Vipps."),
    ChargeStatus.SUBMITTED: ("Registered", "DUE", "Vipps takes it on the day that it is due."),
    ChargeStatus.RESERVED: ("Authorized", "RESERVED", "Set aside until it is captured."),
    ChargeStatus.CHARGED: ("Captured", "CHARGED", "Paid."),
    ChargeStatus.PARTIALLY_REFUNDED: ("Captured", "PARTIALLY_REFUNDED", "Paid, and a part of it given back."),
    ChargeStatus.REFUNDED: ("Annulled", "REFUNDED", "Paid, and all of it given back."),
    ChargeStatus.FAILED: ("Failed", "FAILED", "Not paid, and the last retry is over."),
    ChargeStatus.CANCELLED: ("Annulled", "CANCELLED", "Called off before it was paid."),
    ChargeStatus.VOID: ("Annulled", "VOID", "Never sent to Vipps."),
    ChargeStatus.REFUSED: ("Failed", "REFUSED", "Vipps would not take it."),
}
_SUCCESSES = ("Authorized", "Captured")
# Before this Vipps has nothing under the name.
_UNSENT = (ChargeStatus.PLANNED, ChargeStatus.SUBMITTING, ChargeStatus.VOID)


@blueprint.get("")
@partner_required
def find_transaction() -> ResponseReturnValue:
    """Find one by its reference, or the first payment of an order."""
    given = {name: argument(name) for name in ("partnerId", "referenceId")}
    for name, value in given.items():
        if not value:
            return bare(f"Missing required parameter {name}.", 400)
    partner = must_be(whole_number("partnerId", str(given["partnerId"])))
    reference = str(given["referenceId"])
    if not _REFERENCE.fullmatch(reference):
        raise Invalid({"referenceId": ["referenceId must be at most 64 characters, none of them a control character."]})
    return jsonify(_shown(transactions.by_reference(partner.id, reference)))


@blueprint.get(f"/search/{_PARTNER}")
@partner_required
def list_transactions(partner_id: int) -> ResponseReturnValue:
    """List those created at or after `fromDate`, a page at a time."""
    partner = must_be(partner_id)
    since = argument("fromDate")
    if not since:
        return bare("Missing required parameter fromDate.", 400)
    return _page(transactions.created_since(partner.id, instant("fromDate", since), _after(), _PAGE))


@blueprint.get(f"/search/{_PARTNER}/<recurring_payment_id>")
@partner_required
def list_of_subscription(partner_id: int, recurring_payment_id: str) -> ResponseReturnValue:
    """List those of one subscription, a page at a time."""
    partner = must_be(partner_id)
    number = whole_number("recurringPaymentId", recurring_payment_id)
    return _page(transactions.of_subscription(partner.id, number, _after(), _PAGE))


@blueprint.get(f"/{_PARTNER}/<transaction_id>")
@partner_required
def get_transaction(partner_id: int, transaction_id: str) -> ResponseReturnValue:
    """Show one."""
    return jsonify(_shown(transactions.by_guid(must_be(partner_id).id, _guid("transactionId", transaction_id))))


@blueprint.put(f"/{_PARTNER}/<transaction_id>/capture")
@partner_required
@idempotent
def capture(partner_id: int, transaction_id: str) -> ResponseReturnValue:
    """Ask for money that is set aside, all that is left or a part: 200 once accepted, Captured when Vipps says so."""
    partner, guid = must_be(partner_id), _guid("transactionId", transaction_id)
    wanted, amount = transactions.by_guid(partner.id, guid), _amount()
    try:
        services().captures.capture(wanted.charge_id, amount, attempt())
    except Invalid as error:
        left = wanted.amount - wanted.captured
        least = min(MINIMUM[wanted.currency], left)
        told = f"amount must be from {to_major(least)} to {to_major(left)}, which is what is left."
        raise Invalid({"amount": [told]}) from error
    return jsonify(_shown(transactions.by_guid(partner.id, guid)))


def _amount() -> int | None:
    """Return what is to be captured, in minor units; None without a word about it."""
    text = argument("amount")
    try:
        return None if text is None else to_minor(text)
    except Invalid as error:
        raise Invalid({"amount": [f"amount {error.message}."]}) from error


def _guid(name: str, text: str) -> str:
    if not _GUID.fullmatch(text):
        raise Invalid({name: [f"{name} must be a GUID."]})
    return text


def _after() -> str | None:
    after = argument("after")
    return None if after is None else _guid("after", after)


def _page(found: Sequence[Transaction]) -> ResponseReturnValue:
    answer: dict[str, Any] = {"transactions": [_shown(item) for item in found]}
    if len(found) == _PAGE:
        answer["nextAfter"] = found[-1].guid
    return jsonify(answer)


def _shown(item: Transaction) -> dict[str, Any]:
    """Return the original's `TransactionResponseV2`, and behind `ocr` what recurring payments have beside it."""
    code, status, meaning = STATUSES[item.status]
    return {
        "transactionId": item.guid,
        "createdDateUtc": utc(item.created_at),
        "paymentTransactionId": None if item.status in _UNSENT else item.name,
        "status": status,
        "success": code in _SUCCESSES,
        "statusDescription": item.failure_reason or meaning,
        "statusCode": code,
        "paymentSetup": None,  # the person has accepted: there is nothing left to set up
        "paymentDateUtc": utc(item.paid_at),
        "partnerId": item.partner_id,
        "currency": item.currency,
        "amount": to_major(item.amount),
        "returnUrl": None,
        "statusCallbackUrl": item.status_callback_url,
        "referenceId": item.name,
        "paymentProvider": "Vipps",
        "paymentEntity": item.msisdn,
        "description": item.description[:500],
        "ocr": None,
        "subscriptionId": item.subscription_id,
        "orderNumber": item.order_number,
        "memberId": item.member_id,
        "period": item.period,
        "dueDate": item.due_on.isoformat(),
        "capturedAmount": to_major(item.captured),
        "refundedAmount": to_major(item.refunded),
        "captureBeforeUtc": utc(item.capture_by),
    }
