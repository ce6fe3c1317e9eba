"""Every error as an answer: JSON in the contract's shapes for programs, a helpful page for people.

Mobile Invoice answers wrong fields with the original framework's `{"message", "modelState"}`, what cannot be done
with a bare string, and the rest with `{"message"}`. The last handler is the only place beside the job runner that
catches everything; what it tells holds nothing of what went wrong.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, SecurityError

from invoice.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvoiceError,
    NotFound,
    ProviderError,
    ProviderRefused,
    Unauthenticated,
)

logger = logging.getLogger(__name__)

_FOR_PROGRAMS = ("/api/", "/hooks/", "/healthz", "/readyz")
# Addresses under /api/ that people's browsers open.
_FOR_PEOPLE = ("/api/recurring/process/", "/api/recurring/return/")

# Where the last part of the address is a link that we gave out.
_LINKS = ("/s/", "/manage/", *_FOR_PEOPLE)

# HTTP status -> the message page that tells it to a person
_PAGES = {403: "bad_request", 404: "not_found", 405: "method", 413: "too_large", 400: "bad_request", 503: "unavailable"}

# error -> (HTTP status, whether the contract tells it as a bare string)
STATUSES: dict[type[InvoiceError], tuple[int, bool]] = {
    Invalid: (400, False),
    Unauthenticated: (401, False),
    Forbidden: (403, False),
    NotFound: (404, True),
    Conflict: (409, True),
    ProviderRefused: (400, True),
    ProviderError: (503, False),
    InvoiceError: (500, False),
}


def register(app: Flask) -> None:
    """Take over every error of the application."""
    app.register_error_handler(InvoiceError, _tell_ours)
    app.register_error_handler(SecurityError, _tell_stranger)
    app.register_error_handler(HTTPException, _tell_http)
    app.register_error_handler(Exception, _tell_nothing)


def page(kind: str, status: int, *, merchant: str | None = None) -> ResponseReturnValue:
    """Return a page that says what happened and what to do now."""
    return render_template("pages/message.html", kind=kind, merchant=merchant), status


def _tell_ours(error: InvoiceError) -> ResponseReturnValue:
    status, is_bare = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    if status >= 500:
        logger.error("%s: %s", type(error).__name__, error.message)
    if _is_for_people():
        return page(_kind(status), status)
    answer = jsonify(error.message if is_bare else _object(error))
    if isinstance(error, Unauthenticated):
        answer.headers["WWW-Authenticate"] = 'Basic realm="Mobile Invoice", charset="UTF-8"'
    return answer, status


def _object(error: InvoiceError) -> dict[str, Any]:
    if not isinstance(error, Invalid) or not error.errors:
        return {"message": error.message}
    # The original's framework names a field as "request.Msisdn".
    state = {f"request.{name[:1].upper()}{name[1:]}": said for name, said in error.errors.items()}
    return {"message": "The request is invalid.", "modelState": state}


def _tell_http(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    if status < 400:
        return error
    if _is_for_people():
        reply = make_response(page(_kind(status), status))
    else:
        reply = make_response({"message": error.description or HTTPStatus(status).phrase}, status)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "retry-after"):
            reply.headers[name] = value
    return reply


def _tell_stranger(error: SecurityError) -> ResponseReturnValue:
    """Answer who called us by another name, without a page: no link of ours can be built for that name."""
    return jsonify({"message": error.description}), 400


def _kind(status: int) -> str:
    """Return the message page of an HTTP status at this address."""
    if status == 404 and request.path.startswith(_LINKS):
        return "unknown_link"
    return _PAGES.get(status, "error")


def _tell_nothing(error: Exception) -> ResponseReturnValue:
    logger.error("A request to %s failed.", request.endpoint, exc_info=error)
    if _is_for_people():
        return page("error", 500)
    return jsonify({"message": "Something went wrong here. It has been noted."}), 500


def _is_for_people() -> bool:
    path = request.path
    return path.startswith(_FOR_PEOPLE) or not path.startswith(_FOR_PROGRAMS)
