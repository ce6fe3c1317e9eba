"""/hooks/...: what the providers tell us. Verify, store, ring, answer; the work is done afterwards."""

from __future__ import annotations

import logging

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from requests.structures import CaseInsensitiveDict

from invoice.errors import Forbidden, NotFound, Unauthenticated
from invoice.web.auth import public, target
from invoice.web.parameters import argument
from invoice.web.refusals import is_told, note
from invoice.web.services import payments, public_url, services, sms

logger = logging.getLogger(__name__)
blueprint = Blueprint("hooks", __name__, url_prefix="/hooks")


@blueprint.post("/vipps/<token:registration>")
@public
def vipps(registration: str) -> ResponseReturnValue:
    """Take a webhook that is signed with the registration's secret; 200 also for what we do not know yet."""
    found = services().inbox.registration(registration)
    if found is None:
        raise NotFound("There is no such registration.")
    body = request.get_data(cache=False)
    if not payments().is_genuine(found.url, found.secret, CaseInsensitiveDict(request.headers), body):
        note(f"a webhook of account {found.account} that is not genuine")
        is_told()
        raise Unauthenticated("The signature in the Authorization header does not fit.")
    logger.info("Admitted: a webhook of account %s from %s.", found.account, request.remote_addr)
    services().inbox.take_webhook(body, found.account)
    return {}


@blueprint.post("/twilio/<int(max=2147483647):message_id>")
@public
def twilio(message_id: int) -> ResponseReturnValue:
    """Take a delivery receipt that is signed for this very address, and whose address is sealed by us."""
    seal = argument("seal")
    form = request.form.to_dict()
    if not sms().is_genuine(public_url() + target(), CaseInsensitiveDict(request.headers), form):
        note("a receipt that is not genuine")
        is_told()
        raise Forbidden("The signature in the X-Twilio-Signature header does not fit.")
    logger.info("Admitted: a receipt of message %s from %s.", message_id, request.remote_addr)
    if not services().inbox.take_receipt(message_id, sms().read_receipt(form), form, seal=seal):
        raise NotFound("There is no such message.")
    return "", 204
