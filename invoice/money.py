"""Decimal kroner at the edge, integer minor units (øre, cent) plus currency inside. Never float."""

from __future__ import annotations

import re
from decimal import Decimal

from invoice.errors import Invalid

CURRENCIES = ("NOK", "DKK", "EUR")

# Smallest payment, in minor units, and largest, in major. Source: Vipps MobilePay agent-toolkit, 2026-08-21.
MINIMUM = {"NOK": 100, "DKK": 1, "EUR": 1}
MAXIMUM = {"NOK": 20_000_00, "DKK": 300_000_00, "EUR": 2_000_00}

# The original contract's pattern with its unescaped dot mended; `re.ASCII` keeps other scripts' digits out.
_DECIMAL = re.compile(r"\d{1,6}(\.\d{1,2})?", re.ASCII)


def to_minor(text: str) -> int:
    """Return "12.50" as 1250.

    text: ASCII digits, at most six before and two after the point, no sign.
    Raises Invalid for anything else.  Source: Mobile Invoice help pages (range 0 to 999999.99).
    """
    if not _DECIMAL.fullmatch(text):
        raise Invalid(message="must be a number from 0 to 999999.99 with at most two decimals, such as 12.50")
    return int(Decimal(text) * 100)


def to_major(minor: int) -> str:
    """Return 1250 as "12.50"."""
    return f"{minor // 100}.{minor % 100:02d}"
