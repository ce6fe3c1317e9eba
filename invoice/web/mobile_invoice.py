"""/api/recurring/...: the Mobile Invoice contract, as partners' systems call it.

`process` and `return`, which people's browsers open, stand in `pages`.
"""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from invoice.errors import Conflict, Invalid, NotFound
from invoice.money import to_major
from invoice.phone import is_doubtful
from invoice.services import views
from invoice.services.subscriptions import Requested
from invoice.services.views import ListedSubscription
from invoice.web.auth import current_partner, must_be, partner_required
from invoice.web.bodies import read_object
from invoice.web.errors import bare
from invoice.web.idempotency import attempt, idempotent
from invoice.web.parameters import MAX_ID, NUMBER, argument, check_version, instant, utc
from invoice.web.schemas import basis_of, load_resend, load_subscribe
from invoice.web.services import services

blueprint = Blueprint("mobile_invoice", __name__, url_prefix="/api/recurring")
blueprint.before_request(check_version)

# The only payment type so far. Source: the example of the original's listing; that 5 is Vipps is our reading.
_PAYMENT_TYPES = {"5": "Vipps"}
_PAGE = 500
_IDENTIFIER = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_NO_IDENTIFIER = "Invalid subscription identifier"


@blueprint.post("/subscribe")
@partner_required
@idempotent
def subscribe() -> ResponseReturnValue:
    """Ask for a subscription: answers where to send the person."""
    partner_id, wish = load_subscribe(read_object(request))
    answer = _setup(services().subscriptions.request(must_be(partner_id), wish, attempt()))
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
    found = views.listed(partner.id, instant("from", since), _after(), _PAGE)
    answer: dict[str, Any] = {"subscriptions": [_listed(item) for item in found]}
    if len(found) == _PAGE:
        answer["nextAfter"] = found[-1].id
    return jsonify(answer)


@blueprint.delete("/cancel/<path:identifier>")
@partner_required
@idempotent
def cancel(identifier: str) -> ResponseReturnValue:
    """Cancel by subscription id or member id: 200 once accepted."""
    if not _IDENTIFIER.fullmatch(identifier):
        return bare(_NO_IDENTIFIER, 400)
    number = _number(identifier)
    try:
        services().subscriptions.cancel_for(current_partner(), number, identifier, attempt())
    except NotFound:
        if number is None and NUMBER.fullmatch(identifier):
            # Neither a number that a subscription can have nor a member's id.
            return bare(_NO_IDENTIFIER, 400)
        raise
    except Conflict as error:
        # The contract tells this as a 400.
        return bare(error.message, 400)
    return "", 200


@blueprint.post("/<path:identifier>/resend")
@partner_required
@idempotent
def resend(identifier: str) -> ResponseReturnValue:
    """Text the link of a subscription once more, in the same words or in others."""
    words = load_resend(read_object(request) if request.get_data() else {})
    if not _IDENTIFIER.fullmatch(identifier):
        return bare(_NO_IDENTIFIER, 400)
    partner, number = current_partner(), _number(identifier)
    return jsonify(_setup(services().subscriptions.resend(partner, number, identifier, words, attempt())))


def _number(identifier: str) -> int | None:
    """Return the subscription's number that an identifier may be; every one may be a member's id as well."""
    is_number = NUMBER.fullmatch(identifier) is not None
    return int(identifier) if is_number and 1 <= int(identifier) <= MAX_ID else None


def _setup(requested: Requested) -> dict[str, Any]:
    """Return the original's `PaymentSetupV2`, with the subscription's number and the length of its text."""
    answer = {"method": "GET", "url": requested.url, "fields": {}, "subscriptionId": requested.subscription_id}
    return answer if requested.sms_parts is None else {**answer, "smsNotificationParts": requested.sms_parts}


def _after() -> int:
    after = argument("after")
    if after is None:
        return 0
    if not NUMBER.fullmatch(after) or len(after) > 10 or int(after) > MAX_ID:
        raise Invalid({"after": ["after must be the nextAfter of the page before."]})
    return int(after)


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
        "createdUtc": utc(item.created_at),
        "startUtc": utc(item.activated_at),
        "nextChargeDate": item.next_charge_on.isoformat() if item.next_charge_on else None,
        "endedUtc": utc(item.ended_at),
    }
