"""How the original module writes: JSON as Symfony escapes it, and the sentences in which it tells errors.

Sources: the module's README (2020) for the sentences, and what the module answered when its own classes were run
(2026-11): 120 bytes of a provider's answer, a line break at the end, and what PHP says about a value of a wrong type.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from invoice.errors import Exchange, InvoiceError, ProviderError
from invoice.services.outcomes import Outcome, Standing

PREFIX = "/vipps-recurring-payments/"
BROKEN_JSON = "json_decode error: Syntax error"
UNEXPECTED = "The website encountered an unexpected error. Try again later."

_MOST = 120  # bytes of an answer that are told
_CUT = " (truncated...)"
_PRINTABLE = frozenset("LMNPSZ")  # general categories
_LABELS = {4: "Client error", 5: "Server error"}
_ESCAPED = {"<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "'": "\\u0027", "/": "\\/"}
_QUOTED = re.compile(r"\\.")
_SPECIAL = re.compile("[<>&'/]")
# What libcurl, with which the module called, says about calls that were not answered.
_CURL = {
    "connect": "cURL error 7: Failed to connect to the provider",
    "timeout": "cURL error 28: Operation timed out",
    "broken": "cURL error 56: The connection was closed",
}
_TYPES = {str: "string", int: "int", float: "float", bool: "bool", list: "array", dict: "stdClass", type(None): "null"}


def answer(value: Any, status: int = 200) -> Response:
    """Answer with JSON as Symfony writes it: what HTML could trip over is escaped, inside strings and nowhere else."""
    text = _QUOTED.sub(lambda found: "\\u0022" if found[0] == '\\"' else found[0], _compact(value))
    escaped = _SPECIAL.sub(lambda found: _ESCAPED[found[0]], text)
    return Response(escaped, status, content_type="application/json")


def nested(value: Any) -> str:
    """Return JSON that stands in a string of the answer, as PHP writes it."""
    return _compact(value).replace("/", "\\/")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def failure(text: str) -> Response:
    """Answer that a whole request has come to nothing."""
    return answer({"success": False, "error": text})


def text_of(error: InvoiceError) -> str:
    """Return an error as the text of an item."""
    if not isinstance(error, ProviderError):
        return error.message
    origin = error.origin
    if origin.exchange is not None:
        return text_of_exchange(origin.exchange)
    return _CURL.get(origin.failure, origin.message)


def text_of_exchange(exchange: Exchange) -> str:
    """Return a provider's answer as Guzzle's exception tells it: with the beginning of its body, if that is text."""
    label = _LABELS.get(exchange.status // 100, "Unsuccessful request")
    call, said = f"{exchange.method} {exchange.url}", f"{exchange.status} {exchange.reason}"
    line = f"{label}: `{call}` resulted in a `{said}` response"
    summary = _summary(exchange.body)
    return f"{line}:\n{summary}\n" if summary else line


def _summary(body: bytes) -> str:
    try:
        text = body[:_MOST].decode()
    except UnicodeDecodeError:  # no text, or cut inside a letter
        return ""
    if any(unicodedata.category(c)[0] not in _PRINTABLE and c not in "\n\r\t" for c in text):
        return ""
    return text + _CUT if len(body) > _MOST else text


def text_of_outcome(outcome: Outcome) -> str:
    """Return what did not go well as the text of an item, the provider's own words first."""
    if outcome.heard is not None and outcome.heard.status >= 400:
        return text_of_exchange(outcome.heard)
    reason = text_of(outcome.error) if outcome.error else ""
    if outcome.standing != Standing.UNKNOWN:
        return reason
    return (
        f"The outcome is not known yet ({reason.strip()}). {outcome.id} stays in the books and is settled by itself: "
        "look at it, and do not ask for it again under another name."
    )


def wrong_type(call: str, parameter: str, wanted: str, value: Any) -> str:
    """Return what PHP says when a function is called with a value of another type."""
    return f"{call}(): Argument #1 (${parameter}) must be of type {wanted}, {_type(value)} given"


def wrong_return(value: Any) -> str:
    """Return what PHP says about an answer whose body is not the object that the module takes it for."""
    return f"getResponseBody(): Return value must be of type stdClass, {_type(value)} returned"


def _type(value: Any) -> str:
    return _TYPES.get(type(value), "mixed")


def refusal(error: HTTPException) -> str:
    """Return how the module's framework words what it refuses by itself."""
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(set(error.valid_methods or ()) - {"OPTIONS", "HEAD"}))
        return f'No route found for "{request.method} {request.path}": Method Not Allowed (Allow: {allowed})'
    return error.description or error.name
