"""From HTTP to an act and back: keys and headers checked, limits kept, answers given once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import Response, request

from invoice.simulator import idempotency, signing
from invoice.simulator.accounts import DEMO_UNIT
from invoice.simulator.act import Act
from invoice.simulator.answers import Answer, json_answer
from invoice.simulator.breakage import vendor_call
from invoice.simulator.fields import NotJSON, parse_json
from invoice.simulator.http import respond, world
from invoice.simulator.problems import GatewayRefusal, Problem, Refusal, invalid
from invoice.simulator.world import World

View = Callable[..., Answer]

_SYSTEM_HEADERS = (
    "Vipps-System-Name",
    "Vipps-System-Version",
    "Vipps-System-Plugin-Name",
    "Vipps-System-Plugin-Version",
)


def reading(name: str) -> Callable[[View], Callable[..., Response]]:
    """Make a view of Recurring that changes nothing."""

    def wrap(view: View) -> Callable[..., Response]:
        @vendor_call(name)
        @functools.wraps(view)
        def run(**path: str) -> Response:
            try:
                _admit(name, path)
                with world().store.read() as session:
                    act = Act(world(), session, world().clock.now())
                    return respond(view(act, **path))
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
    here = world()
    check_keys(here)
    key = idempotency.check_key(request.headers.get("Idempotency-Key"))
    if not here.switchboard.values.limits_burn_keys:
        _keep_limits(name, path)
    raw = request.get_data()
    mark = idempotency.fingerprint(request.method, request.path, raw)

    with here.store.write() as session:
        act = Act(here, session, here.clock.now(), key)

        def work() -> Answer:
            if here.switchboard.values.limits_burn_keys:
                _keep_limits(name, path)
            body = read_json(raw) if has_body else None
            return view(Act(here, session, act.now, key, body), **path)

        if kept or not here.switchboard.values.draft_ignores_keys:
            return idempotency.once(act, mark, request.path, work)
        return idempotency.undone_if_refused(act, request.path, work)


def read_json(raw: bytes) -> Any:
    """Return the JSON body. Raises Problem: 415 for another type, 400 for what is no JSON."""
    if request.mimetype != "application/json":
        raise Problem("unsupported-media-type", "The content type must be application/json.")
    try:
        return parse_json(raw)
    except NotJSON as error:
        raise Problem("invalid-json", str(error)) from error


def _admit(name: str, path: dict[str, str]) -> None:
    check_keys(world())
    _keep_limits(name, path)


def _keep_limits(name: str, path: dict[str, str]) -> None:
    here = world()
    if here.switchboard.values.rate_limits:
        seconds = here.limits.seconds_to_wait(name, path, here.clock.now())
        if seconds:
            raise GatewayRefusal(429, "Rate limit is exceeded.", {"Retry-After": str(seconds)})


def check_keys(here: World) -> None:
    """Let only our sales unit's callers pass. Raises what the gateway answers."""
    check_subscription_key()
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not here.accepts_token(token.strip()):
        raise GatewayRefusal(401, "Unauthorized. The access token is missing, expired or invalid.")
    serial = request.headers.get("Merchant-Serial-Number")
    if serial and serial != DEMO_UNIT.merchant_serial_number:
        raise Problem("invalid-sale-unit", "The sales unit is unknown or not allowed to use Recurring.")
    for header in _SYSTEM_HEADERS:
        if len(request.headers.get(header, "")) > 30:
            raise invalid((header, "Length must be at most 30"))


def check_subscription_key() -> None:
    """Raise the gateway's 401 without the right subscription key."""
    key = request.headers.get("Ocp-Apim-Subscription-Key")
    if not key:
        raise GatewayRefusal(401, "Access denied due to missing subscription key.")
    if not signing.same(key, DEMO_UNIT.subscription_key):
        raise GatewayRefusal(401, "Access denied due to invalid subscription key.")


def unknown_address(_error: Exception) -> Response:
    """Answer for every path that neither vendor has, v2 included."""
    return respond(json_answer(404, {"statusCode": 404, "message": "Resource not found"}))
