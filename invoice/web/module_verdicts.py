"""What is said of an outcome: None for a success, or the text of an error.

`plain` is for the contract as it is documented. The others judge as the module does: by the answer that the provider
gave to the very act. Version 3 answers a stop, a cancel and a refund with 204 or 202 and no body, which the module
takes for an error although it was done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from invoice.errors import Exchange, InvoiceError, ProviderError, ProviderRefused
from invoice.services.outcomes import Outcome
from invoice.web import module_format as told


class Aborted(Exception):
    """The whole request ends here, and what was done before is not told."""


def plain(outcome: Outcome) -> str | None:
    """Tell what did not go well, and what is to be done about it."""
    return None if outcome.is_well else told.text_of_outcome(outcome)


def literal(outcome: Outcome) -> str | None:
    """Tell an error as it is, without what our books know beside it."""
    return None if outcome.is_well else text_of(outcome.error)


def of_stop(outcome: Outcome) -> str | None:
    """Take for a success only an answer that names the agreement, as version 2 gave; that one is needed to go on."""

    def judge(_: int, body: dict[str, Any]) -> str | None:
        if "agreementId" not in body:
            raise Aborted("Undefined property: stdClass::$agreementId")
        return None

    return _by_answer(outcome, judge)


def of_charge(outcome: Outcome) -> str | None:
    """Take for a success only a 200 with an object in it."""
    return _by_answer(
        outcome, lambda status, body: None if status == 200 else told.nested({"status": status, "error": body})
    )


def _by_answer(outcome: Outcome, judge: Callable[[int, dict[str, Any]], str | None]) -> str | None:
    """Judge an act by what the provider answered to it; `judge`: by the status and object of an answer below 400."""
    if outcome.heard is None:
        return _unheard(outcome)
    if outcome.heard.status >= 400:
        return told.text_of_exchange(outcome.heard)
    body = _body_of(outcome.heard)
    return judge(outcome.heard.status, body) if isinstance(body, dict) else told.wrong_return(body)


def _unheard(outcome: Outcome) -> str | None:
    """Judge an act that the provider gave no answer to: what was not asked is well, what broke off is not."""
    origin = outcome.error.origin if isinstance(outcome.error, ProviderError) else None
    if outcome.is_well and not (origin and (origin.failure or origin.exchange)):
        return None
    return text_of(outcome.error)


def text_of(error: InvoiceError | None) -> str:
    """Return an error in the module's words; what never came to the provider begins as if it had turned it down."""
    if error is None:
        return ""
    origin = error.origin if isinstance(error, ProviderError) else None
    is_plain = origin is None or (isinstance(origin, ProviderRefused) and origin.exchange is None)
    return f"Client error: {error.message}" if is_plain else told.text_of(error)


def _body_of(heard: Exchange) -> Any:
    try:
        return json.loads(heard.body)
    except ValueError:
        return None
