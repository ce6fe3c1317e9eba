"""Reading what the module is asked for, in both manners.

As documented: the documented strings are taken for numbers, and each item that is wrong says so for itself. As the
module does: only what PHP's types let pass, and an item that they do not let pass drops itself and all after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from invoice.cards import holds_card_number
from invoice.errors import Invalid
from invoice.services.entries import Wish
from invoice.web.bodies import read_json
from invoice.web.module_format import BROKEN_JSON, wrong_type

MAX_ITEMS = 2000
# An agreement or a charge as they are named; what is no such name is none that exists.
_WHOLE = re.compile(r"[0-9]{1,12}")
_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_DESCRIPTION = 500  # characters; what Vipps does not take of them is cut
_LONG_NUMBER = 18  # digits: a longer one is no integer in PHP
_CARD = "description must not hold the number of a card."
_TYPES = {"agreement_id": str, "charge_id": str, "description": str, "price": int}
NAMES = tuple(_TYPES)


@dataclass(frozen=True)
class Faulty:
    """An item that says nothing that could be done. id: as far as it has one."""

    id: str
    fault: str
    fatal: str = ""  # with these words it ends the module's whole request


def parse(raw: bytes, *, strict: bool) -> Any:
    """Return the JSON value of a body. Raises Invalid, in one sentence, for what is none."""
    if strict:
        return _parse_like_php(raw)
    try:
        return read_json(raw)
    except Invalid as error:
        raise Invalid(message=" ".join(said for texts in error.errors.values() for said in texts)) from error


def listed(value: Any) -> list[Any]:
    """Return a list of items. Raises Invalid for anything else, and for a list that is too long."""
    if not isinstance(value, list):
        raise Invalid(message="The body must be a JSON list.")
    check_size(value)
    return value


def check_size(value: Any) -> None:
    """Raise Invalid for a list that is too long, before anything of it is done."""
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise Invalid(message=f"The list has {len(value)} items: send at most {MAX_ITEMS} at once. Nothing was done.")


def read_ids(values: Sequence[Any]) -> list[Wish | Faulty]:
    """Return a list of agreements' ids as wishes."""
    return [Wish(value, 0) if isinstance(value, str) else _no_id(n, value) for n, value in enumerate(values, 1)]


def _no_id(number: int, value: Any) -> Faulty:
    fatal = wrong_type("cancelAgreement", "agreementId", "string", value)
    return Faulty(f"item {number}", "An item must be an agreement's id, a text.", fatal)


def read_all(
    values: Sequence[Any], required: Sequence[str], only: Sequence[str], *, told_by: str
) -> list[Wish | Faulty]:
    """Return each item as a wish, or with what is wrong with it.

    only: the fields that are looked at.  told_by: the one that the item is told by.
    """
    found: list[Wish | Faulty] = []
    for number, value in enumerate(values, 1):
        wish = _read(value, required, only)
        found.append(wish if isinstance(wish, Wish) else Faulty(_id_of(value, told_by) or f"item {number}", wish))
    return found


def _id_of(value: Any, told_by: str) -> str:
    shown = value.get(told_by) if isinstance(value, dict) else None
    return shown if isinstance(shown, str) and not _NO_TEXT.search(shown) else ""


def read_until_wrong(value: Any, required: Sequence[str], only: Sequence[str], *, told_by: str) -> list[Wish | Faulty]:
    """Return the items before the first that the module's own parser cannot take; none of what is no list.

    The module would take a card's number along to the provider: here such an item is told as faulty.
    """
    found: list[Wish | Faulty] = []
    for item in value if isinstance(value, list) else []:
        if not isinstance(item, dict):
            break
        given = {name: item[name] for name in only if item.get(name) is not None}
        if set(required) - given.keys() or any(type(given[name]) is not _TYPES[name] for name in given):
            break
        is_card = holds_card_number(given.get("description", ""))
        found.append(Faulty(str(given.get(told_by, "")), _CARD) if is_card else _wish(given))
    return found


def _read(item: Any, required: Sequence[str], only: Sequence[str]) -> Wish | str:
    """Return an item as a wish, or what is wrong with it."""
    if not isinstance(item, dict):
        return f"An item must be an object with {', '.join(required)}."
    given = {name: item[name] for name in only if item.get(name) not in (None, "")}
    missing = [f"{name} is missing." for name in required if name not in given]
    wrong = [fault for name, value in given.items() if (fault := _FAULTS[name](name, value))]
    if missing or wrong:
        return " ".join([*missing, *wrong])
    if "price" in given:
        given["price"] = int(given["price"])
    return _wish(given)


def _wish(given: dict[str, Any]) -> Wish:
    text = _NO_TEXT.sub(" ", given.get("description", ""))
    return Wish(given["agreement_id"], given.get("price", 0), text, given.get("charge_id", ""))


def _name_fault(name: str, value: Any) -> str:
    if not isinstance(value, str):
        return f"{name} must be a text."
    return f"{name} holds a character that is not text." if _NO_TEXT.search(value) else ""


def _text_fault(name: str, value: Any) -> str:
    fault = _name_fault(name, value)
    if not fault and len(value) > _MAX_DESCRIPTION:
        fault = f"{name} must be at most {_MAX_DESCRIPTION} characters."
    return fault or (_CARD if holds_card_number(value) else "")


def _price_fault(name: str, value: Any) -> str:
    is_whole = type(value) is int or (isinstance(value, str) and _WHOLE.fullmatch(value))
    return "" if is_whole else f"{name} must be a whole number of øre or cents, such as 25000 for 250 kroner."


_FAULTS: dict[str, Callable[[str, Any], str]] = {
    "agreement_id": _name_fault,
    "charge_id": _name_fault,
    "description": _text_fault,
    "price": _price_fault,
}


def _parse_like_php(raw: bytes) -> Any:
    """Return what PHP's decoder makes of a body: of two equal names the last counts, long numbers are floats."""
    try:
        return json.loads(raw.decode(), parse_int=_number, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise Invalid(message="json_decode error: Malformed UTF-8 characters, possibly incorrectly encoded") from error
    except RecursionError as error:
        raise Invalid(message="json_decode error: Maximum stack depth exceeded") from error
    except ValueError as error:
        raise Invalid(message=BROKEN_JSON) from error


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONG_NUMBER else float(digits)


def _refuse(_constant: str) -> NoReturn:
    raise ValueError
