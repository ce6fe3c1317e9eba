"""/api/recurring/...: the Mobile Invoice contract, as partners' systems call it.

`process` and `return`, which people's browsers open, stand in `pages`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from invoice.errors import Conflict, Invalid, NotFound
from invoice.money import to_major
from invoice.phone import is_doubtful
from invoice.services import views
from invoice.services.views import ListedSubscription
from invoice.web.auth import current_partner, must_be, partner_required
from invoice.web.bodies import read_object
from invoice.web.schemas import MAX_ID, basis_of, load_subscribe
from invoice.web.services import services

blueprint = Blueprint("mobile_invoice", __name__, url_prefix="/api/recurring")

_API_VERSIONS = ("1.0", "2.0")
# The only payment type so far. Source: the example of the original's listing; that 5 is Vipps is our reading.
_PAYMENT_TYPES = {"5": "Vipps"}
_PAGE = 500
_FROM = {10: "%Y-%m-%d", 16: "%Y-%m-%dT%H:%M"}
_FROM_SHAPE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?")
_IDENTIFIER = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_NUMBER = re.compile(r"[0-9]{1,100}")


@blueprint.before_request
def check_version() -> None:
    """Take `api-version` 1.0 and 2.0, which are answered alike, and its absence; refuse others and repetitions."""
    versions = request.args.getlist("api-version")
    if versions and (len(versions) > 1 or versions[0] not in _API_VERSIONS):
        raise Invalid({"api-version": [f"api-version must be one of {', '.join(_API_VERSIONS)}."]})


@blueprint.post("/subscribe")
@partner_required
def subscribe() -> ResponseReturnValue:
    """Ask for a subscription: answers where to send the person."""
    partner_id, wish = load_subscribe(read_object(request))
    requested = services().subscriptions.request(must_be(partner_id), wish)
    answer: dict[str, Any] = {
        "method": "GET",
        "url": requested.url,
        "fields": {},
        "subscriptionId": requested.subscription_id,
    }
    if is_doubtful(wish.msisdn):
        answer["warnings"] = ["msisdn: no numbering plan knows this number; the text was accepted all the same."]
    return jsonify(answer)


@blueprint.get("/subscriptions/<int(max=2147483647):partner_id>/<payment_type_id>/<since>")
@partner_required
def list_subscriptions(partner_id: int, payment_type_id: str, since: str) -> ResponseReturnValue:
    """List the subscriptions created at or after `since`, a page at a time."""
    partner = must_be(partner_id)
    if payment_type_id not in _PAYMENT_TYPES:
        raise Invalid({"paymentTypeId": ["paymentTypeId must be 5 (Vipps)."]})
    found = views.listed(partner.id, _instant(since), _after(), _PAGE)
    answer: dict[str, Any] = {"subscriptions": [_listed(item) for item in found]}
    if len(found) == _PAGE:
        answer["nextAfter"] = found[-1].id
    return jsonify(answer)


@blueprint.delete("/cancel/<path:identifier>")
@partner_required
def cancel(identifier: str) -> ResponseReturnValue:
    """Cancel by subscription id or member id: 200 once accepted."""
    if not _IDENTIFIER.fullmatch(identifier):
        return jsonify("Invalid subscription identifier"), 400
    is_number = _NUMBER.fullmatch(identifier) is not None
    number = int(identifier) if is_number and 1 <= int(identifier) <= MAX_ID else None
    try:
        services().subscriptions.cancel_for(current_partner(), number, identifier)
    except NotFound:
        if is_number and number is None:
            # Neither a number that a subscription can have nor a member's id.
            return jsonify("Invalid subscription identifier"), 400
        raise
    except Conflict as error:
        # The contract tells this as a 400.
        return jsonify(error.message), 400
    return "", 200


def _instant(text: str) -> datetime:
    """Return the start of the listing; dates without a time begin at midnight, UTC like all of the contract's times."""
    if _FROM_SHAPE.fullmatch(text):
        try:
            return datetime.strptime(text, _FROM[len(text)]).replace(tzinfo=UTC)
        except ValueError:
            pass
    raise Invalid({"from": ["from must be a date such as 2026-11-21 or 2026-11-21T08:00."]})


def _after() -> int:
    given = request.args.getlist("after")
    if not given:
        return 0
    if len(given) > 1 or not _NUMBER.fullmatch(given[0]) or len(given[0]) > 10 or int(given[0]) > MAX_ID:
        raise Invalid({"after": ["after must be the nextAfter of the page before."]})
    return int(given[0])


def _listed(item: ListedSubscription) -> dict[str, Any]:
    return {
        "subscriptionId": item.id,
        "memberId": item.member_id,
        "msisdn": item.msisdn,
        "orderNumber": item.order_number,
        "name": item.name,
        "description": item.description,
        "currency": item.currency,
        "amount": to_major(item.amount),
        "campaignAmount": None if item.campaign_amount is None else to_major(item.campaign_amount),
        "basis": basis_of(item.interval),
        "chargeStatus": item.charge_status,
        "agreementUrl": item.agreement_url,
        "createdUtc": _utc(item.created_at),
        "startUtc": _utc(item.activated_at),
        "nextChargeDate": item.next_charge_on.isoformat() if item.next_charge_on else None,
        "endedUtc": _utc(item.ended_at),
    }


def _utc(at: datetime | None) -> str | None:
    """Return an instant as the contract writes it: 2023-11-30T15:05:33Z."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
