"""Every error as an answer: JSON in the contract's shapes for programs, a helpful page for people.

Mobile Invoice answers wrong fields with the original framework's `{"message", "modelState"}`, what cannot be done
with a bare string, and the rest with `{"message"}`. The last handler is the only place beside the job runner that
catches everything; what it tells holds nothing of what went wrong.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, SecurityError

from invoice.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvoiceError,
    KeyReused,
    Limited,
    NotFound,
    ProviderError,
    ProviderRefused,
    Unauthenticated,
)
from invoice.services.health import STORE_FAILURES
from invoice.web import module_format
from invoice.web.auth import CHALLENGES

logger = logging.getLogger(__name__)

_FOR_PROGRAMS = ("/api/", module_format.PREFIX, "/hooks/", "/healthz", "/readyz", "/openapi.json")
# Addresses under /api/ that people's browsers open.
_FOR_PEOPLE = ("/api/recurring/process/", "/api/recurring/return/")

# Where the last part of the address is a link that we gave out.
_LINKS = ("/s/", "/manage/", *_FOR_PEOPLE)

# HTTP status -> the message page that tells it to a person
_PAGES = {
    400: "bad_request",
    403: "bad_request",
    404: "not_found",
    405: "method",
    413: "too_large",
    429: "too_often",
    503: "unavailable",
}

# error -> (HTTP status, whether the contract tells it as a bare string)
STATUSES: dict[type[InvoiceError], tuple[int, bool]] = {
    Invalid: (400, False),
    Unauthenticated: (401, False),
    Forbidden: (403, False),
    Limited: (429, False),
    NotFound: (404, True),
    Conflict: (409, True),
    KeyReused: (422, True),
    ProviderRefused: (400, True),
    ProviderError: (503, False),
    InvoiceError: (500, False),
}


_XML = ("application/xml", "text/xml")
# Source: the original's landing page shows such an error.
_XML_STRING = '<string xmlns="http://schemas.microsoft.com/2003/10/Serialization/">{}</string>'
# What XML 1.0 cannot hold, not even escaped.
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def register(app: Flask) -> None:
    """Take over every error of the application."""
    app.register_error_handler(InvoiceError, tell)
    app.register_error_handler(SecurityError, _tell_stranger)
    app.register_error_handler(HTTPException, _tell_http)
    app.register_error_handler(Exception, _tell_nothing)
    for failure in STORE_FAILURES:
        app.register_error_handler(failure, _tell_store_failure)


def page(kind: str, status: int, *, merchant: str | None = None) -> ResponseReturnValue:
    """Return a page that says what happened and what to do now."""
    return render_template("pages/message.html", kind=kind, merchant=merchant), status


def bare(text: str, status: int) -> Response:
    """Answer with a bare string: in JSON, or in XML when the caller would rather have that."""
    best = max(_XML, key=_quality)
    if _quality(best) > _quality("application/json"):
        answer = Response(_XML_STRING.format(escape(_NO_XML.sub("\ufffd", text))), status, mimetype=best)
    else:
        answer = jsonify(text)
        answer.status_code = status
    answer.vary.add("Accept")
    return answer


def _quality(media_type: str) -> float:
    """Return how much the caller wants a media type; what follows a semicolon, a charset perhaps, does not matter."""
    asked = reversed(list(request.accept_mimetypes))  # the best last, so that it stays
    ranges = {name.partition(";")[0].strip().lower(): quality for name, quality in asked}
    names = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((ranges[name] for name in names if name in ranges), 0)


def tell(error: InvoiceError) -> ResponseReturnValue:
    """Answer with one of our errors, in the shape that its address has."""
    status, is_bare = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    if status >= 500:
        logger.error("%s: %s", type(error).__name__, error.message)
    answer: Response
    if _is_for_people():
        answer = make_response(page(_kind(status), status))
    elif is_bare:
        answer = bare(error.message, status)
    else:
        answer = jsonify(_object(error))
        answer.status_code = status
    if isinstance(error, Unauthenticated):
        for challenge in CHALLENGES:
            answer.headers.add("WWW-Authenticate", challenge)
    if (wait_s := getattr(error, "retry_after_s", None)) is not None and status < 500:
        answer.headers["Retry-After"] = str(wait_s)
    return answer


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
    elif request.path.startswith(module_format.PREFIX):
        reply = module_format.answer({"message": module_format.refusal(error)}, status)
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


def _tell_store_failure(error: Exception) -> ResponseReturnValue:
    """Have them ask again: nothing is known here, not even whether a commit that was begun has come to its end."""
    logger.error("A request to %s could not use the database.", request.endpoint, exc_info=error)
    if _is_for_people():
        reply = make_response(page("unavailable", 503))
    else:
        reply = make_response({"message": "This is out of order for a moment. Send the same request again."}, 503)
    reply.headers["Retry-After"] = "5"
    return reply


def _is_for_people() -> bool:
    path = request.path
    return path.startswith(_FOR_PEOPLE) or not path.startswith(_FOR_PROGRAMS)
