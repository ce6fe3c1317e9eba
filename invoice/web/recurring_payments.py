"""/vipps-recurring-payments/...: the contract of the Drupal module "Vipps Recurring Payments".

Each partner's mode says which of two: as its README documents it, or as the module really behaves. What happens is the
same in both; what is read, and how it is told, is not. An answer to a partner that was let in is always 200.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotAcceptable

from invoice.clock import stopwatch
from invoice.errors import (
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    ProviderDenied,
    ProviderError,
    RequestError,
    Unauthenticated,
)
from invoice.lifecycle import ContractMode
from invoice.services import idempotency
from invoice.services.entries import Wish
from invoice.services.outcomes import Outcome
from invoice.services.refund_wishes import mark_of
from invoice.web import module_format as told
from invoice.web import module_items as items
from invoice.web import module_verdicts as verdicts
from invoice.web.auth import CHALLENGES, current_partner, partner_required
from invoice.web.module_items import Faulty
from invoice.web.module_verdicts import Aborted
from invoice.web.refusals import note
from invoice.web.services import services

blueprint = Blueprint("recurring_payments", __name__, url_prefix=told.PREFIX.rstrip("/"))

# Two thousand items, each with a name and a description, are more than other requests may be.
MAX_BYTES = 1024 * 1024
ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_STATUSES = ("PENDING", "ACTIVE", "STOPPED", "EXPIRED")
_MAKE, _NAMED = ("agreement_id", "price"), ("agreement_id", "charge_id")

Act = Callable[[Wish, int, bool], Outcome]  # the item, its place in the list, whether there is time to do it now
Judge = Callable[[Outcome], str | None]


@blueprint.before_request
def check_format() -> None:
    """Take a longer body than others do, and no format but JSON."""
    request.max_content_length = MAX_BYTES
    if request.args.get("_format", "json") != "json":
        raise NotAcceptable("No route found for the specified format. Supported formats: json.")


@blueprint.errorhandler(Unauthenticated)
def tell_stranger(_: Unauthenticated) -> ResponseReturnValue:
    """Ask for credentials where there were none; wrong ones are not asked for again."""
    if "Authorization" in request.headers:
        return told.answer({"message": "This route can only be accessed by authenticated users."}, 403)
    reply = told.answer({"message": "No authentication credentials provided."}, 401)
    for challenge in CHALLENGES:
        reply.headers.add("WWW-Authenticate", challenge)
    return reply


@blueprint.errorhandler(Forbidden)
def tell_forbidden(error: Forbidden) -> ResponseReturnValue:
    """Say what these credentials are not good for."""
    return told.answer({"message": error.message}, 403)


@blueprint.errorhandler(Invalid)
@blueprint.errorhandler(KeyReused)
@blueprint.errorhandler(NotFound)
@blueprint.errorhandler(ProviderError)
@blueprint.errorhandler(Aborted)
def tell_failure(error: Invalid | KeyReused | NotFound | ProviderError | Aborted) -> ResponseReturnValue:
    """Say that the whole request has come to nothing."""
    if isinstance(error, RequestError):
        note(type(error).__name__)
    return told.failure(str(error) if isinstance(error, Aborted) else told.text_of(error))


@blueprint.route("/test/auth", methods=ANY_METHOD, provide_automatic_options=False)
@partner_required
def test_auth() -> ResponseReturnValue:
    """Answer with the access token, for a key that may see it."""
    try:
        return Response(services().direct.token(current_partner()), content_type="text/html; charset=UTF-8")
    except ProviderError as error:
        if _is_strict():
            return Response(told.UNEXPECTED, 500, content_type="text/html; charset=UTF-8")
        return told.answer({"message": told.text_of(error)}, 503)


@blueprint.post("/agreement/get")
@partner_required
def get_agreement() -> ResponseReturnValue:
    """Show one agreement."""
    agreement_id = items.parse(request.get_data(), strict=_is_strict())
    if not isinstance(agreement_id, str):
        wrong = told.wrong_type("getAgreement", "agreementId", "string", agreement_id)
        raise Invalid(message=wrong if _is_strict() else "The body must be the agreement's id, a JSON string.")
    _check_keys()
    try:
        found = services().direct.show(current_partner(), agreement_id)
    except (NotFound, ProviderError) as error:
        if not _is_strict():
            raise
        if isinstance(error, NotFound):
            note(NotFound.__name__)
        found = {}
    if _is_strict() and found.get("status") not in _STATUSES:
        found = {}
    return told.answer(found)


@blueprint.post("/agreement/cancel")
@partner_required
def cancel_agreements() -> ResponseReturnValue:
    """End agreements."""
    ids, direct, partner, literal = _body(), services().direct, current_partner(), _is_strict()
    if literal and not isinstance(ids, list):
        raise Invalid(message=told.wrong_type("cancelAgreements", "agreementIds", "array", ids))
    wishes = items.read_ids(items.listed(ids))
    _check_keys()

    def stop(wish: Wish, _: int, at_once: bool) -> Outcome:
        return direct.stop(partner, wish.agreement_id, literal=literal, at_once=at_once)

    return _each(wishes, stop, told_by="agreement_id", judge=verdicts.of_stop if literal else verdicts.plain)


@blueprint.post("/charge/make")
@partner_required
def make_charges() -> ResponseReturnValue:
    """Make charges."""
    literal = _is_strict()
    wishes = _wishes(("agreement_id",) if literal else _MAKE, told_by="agreement_id")
    key = _key()
    _check_keys()
    good = {number: wish for number, wish in enumerate(wishes) if isinstance(wish, Wish)}
    made = services().direct.make(current_partner(), good, key=key, literal=literal)
    judge = verdicts.literal if literal else verdicts.plain
    return _each(wishes, lambda _, number, __: made[number], told_by="agreement_id", judge=judge)


@blueprint.post("/charge/get")
@partner_required
def get_charges() -> ResponseReturnValue:
    """Show all charges of agreements: JSON, each in a string."""
    wishes = _wishes(("agreement_id",), ("agreement_id",), told_by="agreement_id")
    _check_keys()
    good = [wish.agreement_id for wish in wishes if isinstance(wish, Wish)]
    found = iter(services().direct.charges_of(current_partner(), good))
    successes, errors = [], []
    for wish in wishes:
        charges = wish if isinstance(wish, Faulty) else next(found)
        if isinstance(charges, list):
            successes.append(told.nested(charges))
        else:
            if not isinstance(charges, ProviderError):
                note(Invalid.__name__ if isinstance(charges, Faulty) else type(charges).__name__)
            say = verdicts.text_of if _is_strict() else told.text_of
            fault = charges.fault if isinstance(charges, Faulty) else say(charges)
            errors.append(f"{wish.agreement_id if isinstance(wish, Wish) else wish.id}: {fault}")
    return told.answer({"successes": successes, "errors": errors})


@blueprint.post("/charge/cancel")
@partner_required
def cancel_charges() -> ResponseReturnValue:
    """Call charges off."""
    direct, partner, literal = services().direct, current_partner(), _is_strict()
    wishes = _wishes(("agreement_id",) if literal else _NAMED, _NAMED, told_by="charge_id")
    _check_keys()

    def cancel(wish: Wish, _: int, at_once: bool) -> Outcome:
        return direct.cancel(partner, wish.agreement_id, wish.charge_id, literal=literal, at_once=at_once)

    return _each(wishes, cancel, told_by="charge_id", judge=verdicts.of_charge if literal else verdicts.plain)


@blueprint.post("/charge/refund")
@partner_required
def refund_charges() -> ResponseReturnValue:
    """Give money back."""
    direct, partner, literal = services().direct, current_partner(), _is_strict()
    wishes = _wishes(("agreement_id",) if literal else (*_NAMED, "price"), told_by="charge_id")
    key = _key()
    _check_keys()

    def refund(wish: Wish, number: int, at_once: bool) -> Outcome:
        return direct.refund(partner, wish, mark=mark_of(key, number, wish), literal=literal, at_once=at_once)

    return _each(wishes, refund, told_by="charge_id", judge=verdicts.of_charge if literal else verdicts.plain)


def _each(wishes: Sequence[Wish | Faulty], act: Act, *, told_by: str, judge: Judge) -> Response:
    """Do something for each item and tell what came of it, in order.

    When the time for one request is up, the rest is written down and left to the worker.
    """
    deadline = stopwatch() + services().direct.patience_s
    successes: list[str] = []
    errors: list[str] = []
    for number, wish in enumerate(wishes):
        if isinstance(wish, Faulty):
            if wish.fatal and _is_strict():
                raise Aborted(wish.fatal)
            errors.append(f"{wish.id}: {wish.fault}")
            note(Invalid.__name__)
            continue
        outcome = act(wish, number, stopwatch() < deadline)
        fault = judge(outcome)
        if isinstance(outcome.error, RequestError):
            note(type(outcome.error).__name__)
        if fault is None:
            successes.append(outcome.id)
        else:
            errors.append(f"{getattr(wish, told_by)}: {fault}")
    return told.answer({"successes": successes, "errors": errors})


def _is_strict() -> bool:
    return current_partner().contract_mode == ContractMode.STRICT


def _key() -> str | None:
    """Return the request's Idempotency-Key, which stands for this very body from now on.

    Raises Invalid for one that is none (the module never looks at it), KeyReused for one of another request.
    """
    keys = request.headers.getlist("Idempotency-Key")
    if len(keys) == 1 and _KEY.fullmatch(keys[0]):
        digest = sha256(request.path.encode() + b"\n" + request.get_data()).digest()
        idempotency.bind(current_partner().id, keys[0], digest)
        return keys[0]
    if keys and not _is_strict():
        raise Invalid(message="Idempotency-Key must be 1 to 255 letters, digits and signs of ASCII, without blanks.")
    return None


def _check_keys() -> None:
    """Have a token at hand before the first item, as the module has. Raises ProviderError.

    As documented, a provider that is merely away is no reason to turn down what can be done when it is back.
    """
    try:
        services().direct.check_keys(current_partner())
    except ProviderDenied:
        raise
    except ProviderError:
        if _is_strict():
            raise


def _body() -> Any:
    """Return the body's value. Raises Invalid when it is none, or a list that is too long."""
    value = items.parse(request.get_data(), strict=_is_strict())
    items.check_size(value)
    return value


def _wishes(required: Sequence[str], only: Sequence[str] = items.NAMES, *, told_by: str) -> list[Wish | Faulty]:
    """Return the items of the body. only: the fields that are looked at.  Raises Invalid for what is no such list."""
    if not _is_strict():
        return items.read_all(items.listed(_body()), required, only, told_by=told_by)
    try:
        value = items.parse(request.get_data(), strict=True)
    except Invalid:
        return []
    items.check_size(value)
    return items.read_until_wrong(value, required, only, told_by=told_by)
