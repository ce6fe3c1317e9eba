"""Reading JSON without trusting it: every wrong field is named, nothing is coerced, nothing else can be raised."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from invoice.simulator.problems import Reasons

_INT32 = 2**31 - 1
_MISSING = object()


class NotJSON(ValueError):
    """The body is not JSON that can be kept: broken, too deep, or with text that is no text."""


def _refuse_constant(name: str) -> NoReturn:
    raise NotJSON(f"{name} is not JSON.")


def parse_json(raw: bytes) -> Any:
    """Return the value in `raw` (UTF-8).

    Raises NotJSON for what is not JSON, is nested too deeply, or holds NUL or half a character (a lone surrogate).
    """
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
        text = "".join(_texts(value))
        text.encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise NotJSON("The request body is not valid JSON.") from error
    if "\0" in text:
        raise NotJSON("The request body holds a NUL character.")
    return value


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


class Fields:
    """One JSON object being read. Wrong fields are collected in `reasons`, under their dotted names."""

    def __init__(self, value: Any, prefix: str = "", reasons: Reasons | None = None) -> None:
        self.reasons: Reasons = [] if reasons is None else reasons
        self._prefix = prefix
        self._read: set[str] = set()
        self._values: dict[str, Any] = {}
        if isinstance(value, dict):
            self._values = value
        else:
            self.reasons.append((prefix.rstrip(".") or "body", "Must be an object"))

    def wrong(self, name: str, reason: str) -> None:
        """Note that `name` is wrong."""
        self.reasons.append((self._prefix + name, reason))

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._values.get(name) is not None

    def raw(self, name: str, *, required: bool = False) -> Any:
        """Return the field as it came; None if it is absent or null."""
        self._read.add(name)
        value = self._values.get(name, _MISSING)
        if required and (value is _MISSING or value is None):
            self.wrong(name, "Must not be null")
        return None if value is _MISSING else value

    def text(self, name: str, *, size: tuple[int, int], required: bool = False, pattern: str = "") -> str | None:
        """Return a string of `size` (least, most) characters that matches `pattern` as a whole."""
        value = self.raw(name, required=required)
        if value is None:
            return None
        if not isinstance(value, str):
            self.wrong(name, "Must be a string")
        elif not size[0] <= len(value) <= size[1]:
            self.wrong(name, f"Length must be between {size[0]} and {size[1]}")
        elif pattern and not re.fullmatch(pattern, value, re.ASCII):
            self.wrong(name, "Has an invalid format")
        else:
            return value
        return None

    def integer(self, name: str, *, low: int, high: int = _INT32, required: bool = False) -> int | None:
        """Return an integer within bounds. A decimal, a string or a boolean is none."""
        value = self.raw(name, required=required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, "Must be an integer")
        elif value < low:
            self.wrong(name, f"Must be greater than or equal to {low}")
        elif value > high:
            self.wrong(name, f"Must be less than or equal to {high}")
        else:
            return value
        return None

    def choice(self, name: str, allowed: Iterable[str], *, required: bool = False) -> str | None:
        """Return one of the allowed words."""
        value = self.raw(name, required=required)
        if value is None or (isinstance(value, str) and value in allowed):
            return value
        self.wrong(name, f"Must be one of {', '.join(allowed)}")
        return None

    def flag(self, name: str) -> bool:
        """Return a boolean; False if it is absent."""
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, "Must be a boolean")
        return value is True

    def day(self, name: str, *, required: bool = False) -> date | None:
        """Return a date written as YYYY-MM-DD."""
        value = self.text(name, size=(10, 10), required=required, pattern=r"\d{4}-\d{2}-\d{2}")
        try:
            return date.fromisoformat(value) if value else None
        except ValueError:
            self.wrong(name, "Must be a date, YYYY-MM-DD")
            return None

    def moment(self, name: str, *, required: bool = False) -> datetime | None:
        """Return an instant written in UTC, such as 2026-12-24T00:00:00Z."""
        value = self.text(name, size=(1, 40), required=required)
        try:
            at = datetime.fromisoformat(value) if value else None
        except ValueError:
            at = None
        if value and (at is None or at.utcoffset() != UTC.utcoffset(None)):
            self.wrong(name, "Must be a date and time in UTC")
            return None
        return at

    def child(self, name: str, *, required: bool = False) -> Fields | None:
        """Return the object under `name`, sharing our reasons."""
        value = self.raw(name, required=required)
        return None if value is None else Fields(value, f"{self._prefix}{name}.", self.reasons)

    def refuse_others(self) -> None:
        """Note every field that nobody read. Source: Vipps agent-toolkit, 2026-08-21: unknown fields are rejected."""
        for name in self._values.keys() - self._read:
            self.wrong(name[:64], "Unknown field")


def url_fault(url: str, *, deeplink: bool = False) -> str | None:
    """Return what is wrong with an address that must be https, or None.

    This machine's own addresses may use http and any port: that is what a stand-in is called from.
    deeplink: an app's own scheme, such as myApp://home, will do as well.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "Must be a valid URL"
    if (
        deeplink
        and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S*", url)
        and parts.scheme not in ("http", "https", "javascript", "data", "file")
    ):
        return None
    if re.search(r"[\s\x00-\x1f\x7f\\]", url) or not parts.hostname or parts.username is not None:
        return "Must be a valid URL"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)):
        return None
    return "Must use https"


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
