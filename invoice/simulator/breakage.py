"""Faults as they look on the wire. Which one is due, `faults` says."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime

from flask import Response, request

from invoice.simulator.answers import Answer
from invoice.simulator.http import respond, world
from invoice.simulator.models import Fault
from invoice.simulator.problems import Breakdown, GatewayRefusal, Refusal

Work = Callable[[], Response]

_HTML = "text/html; charset=utf-8"
_BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_DEFAULT_SECONDS = {"slow": 3.0, "timeout_before": 30.0, "timeout_after": 30.0, "429": 2.0}


def vendor_call(name: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Mark a view as the vendor's call `name`: ordered faults are played on it."""

    def wrap(view: Callable[..., Response]) -> Callable[..., Response]:
        @functools.wraps(view)
        def run(**path: str) -> Response:
            fault = world().faults.take(name, path.get("agreement_id"), request.get_data())
            if fault:
                request.environ["simulator.fault"] = fault.kind  # for whoever listens at the door
            work = functools.partial(view, **path)
            return _FAULTS[fault.kind](fault, work) if fault else work()

        return run

    return wrap


def hang_up() -> Response:
    """Close the caller's connection without an answer; where the server does not let us, answer an empty 502."""
    connection = request.environ.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):  # the caller may have gone by himself
            connection.shutdown(socket.SHUT_RDWR)
    return respond(Answer(502))


def _wait(fault: Fault) -> None:
    seconds = fault.seconds if fault.seconds is not None else _DEFAULT_SECONDS[fault.kind]
    world().stopping.wait(seconds)


def _down(_fault: Fault, _work: Work) -> Response:
    return hang_up()


def _timeout_before(fault: Fault, _work: Work) -> Response:
    _wait(fault)
    return hang_up()


def _timeout_after(fault: Fault, work: Work) -> Response:
    work()
    _wait(fault)
    return hang_up()


def _slow(fault: Fault, work: Work) -> Response:
    answer = work()
    _wait(fault)
    return answer


def _drop_after(_fault: Fault, work: Work) -> Response:
    work()
    return hang_up()


def _error(_fault: Fault, _work: Work) -> Response:
    return respond(Breakdown("An error was ordered.").answer(request.path))


def _error_after(fault: Fault, work: Work) -> Response:
    work()
    return _error(fault, work)


def _bad_gateway(_fault: Fault, _work: Work) -> Response:
    return respond(Answer(502, _BAD_GATEWAY, _HTML))


def _unauthorized(_fault: Fault, _work: Work) -> Response:
    return respond(
        GatewayRefusal(401, "Unauthorized. The access token is missing, expired or invalid.").answer(request.path)
    )


def _too_many(fault: Fault, _work: Work) -> Response:
    seconds = fault.seconds if fault.seconds is not None else _DEFAULT_SECONDS["429"]
    return respond(too_many_requests(int(seconds)).answer(request.path))


def too_many_requests(seconds: int) -> Refusal:
    """Return the gateway's 429; the switch says how it tells when to come again.

    Source: Vipps' developer pages: Retry-After may be seconds or a date.
    """
    here = world()
    later = (here.clock.now() + timedelta(seconds=seconds)).replace(microsecond=0)
    forms = {"seconds": str(seconds), "http-date": format_datetime(later, usegmt=True)}
    form = forms.get(here.switchboard.values.retry_after)
    return GatewayRefusal(429, "Rate limit is exceeded.", {"Retry-After": form} if form else {})


def _page(_fault: Fault, _work: Work) -> Response:
    return respond(Answer(200, "<html><body>Maintenance</body></html>", _HTML))


def _broken_json(_fault: Fault, _work: Work) -> Response:
    return respond(Answer(200, '{"agreementId": "agr_', "application/json"))


_FAULTS: dict[str, Callable[[Fault, Work], Response]] = {
    "down": _down,
    "timeout_before": _timeout_before,
    "timeout_after": _timeout_after,
    "slow": _slow,
    "401": _unauthorized,
    "429": _too_many,
    "500": _error,
    "502": _bad_gateway,
    "html": _page,
    "malformed": _broken_json,
    "500_after": _error_after,
    "drop_after": _drop_after,
}
