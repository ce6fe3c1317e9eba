"""What stands in an address: versions, dates, numbers. Read as strictly as a body; and instants as we write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from flask import request

from invoice.errors import Invalid

MAX_ID = 2**31 - 1
API_VERSIONS = ("1.0", "2.0")

_DATES = {10: "%Y-%m-%d", 16: "%Y-%m-%dT%H:%M"}
_DATE_SHAPE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?")
NUMBER = re.compile(r"[0-9]{1,100}")


def check_version() -> None:
    """Take `api-version` 1.0 and 2.0, which are answered alike, and its absence; refuse others and repetitions."""
    versions = request.args.getlist("api-version")
    if versions and (len(versions) > 1 or versions[0] not in API_VERSIONS):
        raise Invalid({"api-version": [f"api-version must be one of {', '.join(API_VERSIONS)}."]})


def argument(name: str) -> str | None:
    """Return an argument of the query, None without it. Raises Invalid when it stands there twice."""
    given = request.args.getlist(name)
    if len(given) > 1:
        raise Invalid({name: [f"{name} stands there twice."]})
    return given[0] if given else None


def instant(name: str, text: str) -> datetime:
    """Return the instant of "2026-11-21" or "2026-11-21T08:00": UTC like all of the contract's times.

    Raises Invalid, with the parameter's name, for any other form.
    """
    if _DATE_SHAPE.fullmatch(text):
        try:
            return datetime.strptime(text, _DATES[len(text)]).replace(tzinfo=UTC)
        except ValueError:
            pass
    raise Invalid({name: [f"{name} must be a date such as 2026-11-21 or 2026-11-21T08:00."]})


def whole_number(name: str, text: str) -> int:
    """Return an id. Raises Invalid, with the parameter's name, for what none can be."""
    if NUMBER.fullmatch(text) and len(text) <= 10 and 1 <= int(text) <= MAX_ID:
        return int(text)
    raise Invalid({name: [f"{name} must be from 1 to {MAX_ID}."]})


def utc(at: datetime | None) -> str | None:
    """Return an instant as the contract writes it: 2023-11-30T15:05:33Z."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
