"""Reading a JSON body without trusting it.

Everything that breaks a plain endpoint stops here, with a 400 that names the field where there is one: other
encodings, NUL, lone surrogates, duplicate names, NaN, and nesting that no honest request has.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from invoice.errors import Invalid

MAX_BYTES = 64 * 1024
MAX_DEPTH = 20
# Source: the original's help page of subscribe (application/json, text/json).
_MEDIA_TYPES = ("application/json", "text/json")


def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body, its numbers with a point as Decimal.

    Raises Invalid for anything that is not one, UnsupportedMediaType for another content type.
    """
    if request.mimetype not in _MEDIA_TYPES:
        raise UnsupportedMediaType("Content-Type must be application/json.")
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("The charset must be utf-8.")
    value = read_json(request.get_data(cache=False))
    if not isinstance(value, dict):
        _refuse("The body must be a JSON object.")
    for name, member in value.items():
        _check(name, name)
        _check(member, name)
    return value


def read_json(raw: bytes) -> Any:
    """Return the JSON value in a body, likewise; what its texts hold is not looked at. Raises Invalid."""
    if not raw.strip():
        _refuse("The body is empty.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("The body must be UTF-8.")
    text, depth = _scan(text)
    if depth > MAX_DEPTH:
        _refuse(f"The body is nested deeper than {MAX_DEPTH}.")
    try:
        return json.loads(
            text, parse_float=_number, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
    except ValueError:
        _refuse("The body must be valid JSON.")


def _scan(text: str) -> tuple[str, int]:
    """Return the text with no-break spaces between its tokens made plain, and how deep its brackets go.

    The documented payload holds such spaces, and the original's parser took them.
    """
    signs = list(text)
    depth = deepest = 0
    in_string = escaped = False
    for place, sign in enumerate(signs):
        if escaped:
            escaped = False
        elif in_string:
            escaped = sign == "\\"
            in_string = sign != '"'
        elif sign == '"':
            in_string = True
        elif sign == "\u00a0":
            signs[place] = " "
        elif sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    return "".join(signs), deepest


def _number(text: str) -> Decimal:
    """Return a number with a point or an exponent; one beyond all measure is not a number, and its field says so."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _check(value: Any, name: str) -> None:
    """Refuse letters that no text has and no database takes."""
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            shown = name.encode("ascii", "replace").decode().replace("\x00", "?")
            raise Invalid({shown: [f"{shown} holds a character that is not text."]})
    elif isinstance(value, list):
        for member in value:
            _check(member, name)
    elif isinstance(value, dict):
        for key, member in value.items():
            _check(key, name)
            _check(member, name)


def _refuse_constant(constant: str) -> NoReturn:
    _refuse(f"{constant} is not JSON.")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; names are compared as the contract does, without regard to case."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name.lower() in seen:
            shown = name.encode("ascii", "replace").decode()[:60]
            raise Invalid({shown: [f"{shown} stands there twice."]})
        seen.add(name.lower())
    return dict(pairs)


def _refuse(why: str) -> NoReturn:
    raise Invalid({"body": [why]})
