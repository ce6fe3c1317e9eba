"""From HTTP to a call and back: keys and headers checked, limits kept, answers given once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import Response, request

from invoice.simulator import idempotency, signing
from invoice.simulator.accounts import UNITS, SalesUnit
from invoice.simulator.act import Call
from invoice.simulator.answers import Answer, json_answer
from invoice.simulator.breakage import too_many_requests, vendor_call
from invoice.simulator.fields import NotJSON, parse_json
from invoice.simulator.http import respond, world
from invoice.simulator.problems import GatewayRefusal, Problem, Refusal, invalid

View = Callable[..., Answer]

_SYSTEM_HEADERS = (
    "Vipps-System-Name",
    "Vipps-System-Version",
    "Vipps-System-Plugin-Name",
    "Vipps-System-Plugin-Version",
)
_ANSWER_TYPES = ("application/json", "application/problem+json")


def reading(name: str) -> Callable[[View], Callable[..., Response]]:
    """Make a view of Recurring that changes nothing."""

    def wrap(view: View) -> Callable[..., Response]:
        @vendor_call(name)
        @functools.wraps(view)
        def run(**path: str) -> Response:
            try:
                unit = unit_of_key()
                check_caller(unit)
                _check_service()
                _keep_limits(name, unit, path)
                with world().store.read() as session:
                    return respond(view(Call(world(), session, world().clock.now(), unit=unit), **path))
            except Refusal as refusal:
                return respond(refusal.answer(request.path))

        return run

    return wrap


def writing(name: str, *, kept: bool = True, has_body: bool = True) -> Callable[[View], Callable[..., Response]]:
    """Make a view of Recurring that changes something, once for each Idempotency-Key.

    kept: whether the key is obeyed.  has_body: whether JSON is expected.
    """

    def wrap(view: View) -> Callable[..., Response]:
        @vendor_call(name)
        @functools.wraps(view)
        def run(**path: str) -> Response:
            try:
                return respond(_write(name, view, path, kept=kept, has_body=has_body))
            except Refusal as refusal:
                return respond(refusal.answer(request.path))
            finally:
                world().new_work.set()

        return run

    return wrap


def _write(name: str, view: View, path: dict[str, str], *, kept: bool, has_body: bool) -> Answer:
    here, switches = world(), world().switchboard.values
    unit = unit_of_key()
    gates = [
        (switches.unauthorized_burns_keys, functools.partial(check_caller, unit)),
        (switches.limits_burn_keys, functools.partial(_keep_limits, name, unit, path)),
    ]
    for burns_keys, gate in gates:
        if not burns_keys:
            gate()
    _check_service()
    key = idempotency.check_key(request.headers.get("Idempotency-Key"))
    raw = request.get_data()
    mark = idempotency.fingerprint(request.method, request.path, raw)

    with here.store.write() as session:
        call = Call(here, session, here.clock.now(), key, unit=unit)

        def work() -> Answer:
            for burns_keys, gate in gates:
                if burns_keys:
                    gate()
            body = read_json(raw) if has_body else None
            return view(Call(here, session, call.now, key, body, unit=unit), **path)

        if kept or not switches.draft_ignores_keys:
            return idempotency.once(call, mark, request.path, work)
        return idempotency.undone_if_refused(call, request.path, work)


def read_json(raw: bytes) -> Any:
    """Return the JSON body. Raises Problem: 415 for another type, 400 for what is no JSON."""
    if request.mimetype != "application/json":
        raise Problem("unsupported-media-type", "The content type must be application/json.")
    try:
        return parse_json(raw)
    except NotJSON as error:
        raise Problem("invalid-json", str(error)) from error


def _keep_limits(name: str, unit: SalesUnit, path: dict[str, str]) -> None:
    here = world()
    if here.switchboard.values.rate_limits:
        seconds = here.limits.seconds_to_wait(name, unit.merchant_serial_number, path, here.clock.now())
        if seconds:
            raise too_many_requests(seconds)


def _check_service() -> None:
    """Raise Problem unless Recurring can serve the caller: it must be activated, and JSON be welcome."""
    if not world().switchboard.values.recurring_activated:
        raise Problem("invalid-sale-unit", "Recurring is not activated for the sales unit.")
    if request.accept_mimetypes and not request.accept_mimetypes.best_match(_ANSWER_TYPES):
        raise Problem("not-acceptable", "The answer is application/json.", [("Accept", "Is not supported")])


def unit_of_key() -> SalesUnit:
    """Return the sales unit whose subscription key was sent. Raises the gateway's 401."""
    key = request.headers.get("Ocp-Apim-Subscription-Key")
    if not key:
        raise GatewayRefusal(401, "Access denied due to missing subscription key.")
    for unit in UNITS.values():
        if signing.same(key, unit.subscription_key) or signing.same(key, unit.second_subscription_key):
            return unit
    raise GatewayRefusal(401, "Access denied due to invalid subscription key.")


def check_caller(unit: SalesUnit) -> None:
    """Let only callers pass whose token and headers are the sales unit's own. Raises what is answered."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    own = unit.merchant_serial_number
    if scheme.lower() != "bearer" or world().msn_in_token(token.strip()) != own:
        raise GatewayRefusal(401, "Unauthorized. The access token is missing, expired or invalid.")
    if request.headers.get("Merchant-Serial-Number", "") not in ("", own):
        raise Problem("invalid-sale-unit", "The sales unit is unknown or not the one that the keys belong to.")
    for header in _SYSTEM_HEADERS:
        if len(request.headers.get(header, "")) > 30:
            raise invalid((header, "Length must be at most 30"))


def unknown_address(_error: Exception) -> Response:
    """Answer for every path that neither vendor has, v2 included."""
    is_old = request.path.startswith("/recurring/v2/")
    status, said = (world().switchboard.values.v2_status if is_old else 404), "Resource not found"
    return respond(json_answer(status, {"statusCode": status, "message": said}))
