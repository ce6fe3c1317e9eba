"""How instants, amounts and intervals are written: for machines, and in Norwegian for the person with the phone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from invoice.simulator.market import MARKETS, Market

_NORWAY = MARKETS["NO"]
_SIGNS = {"EUR": "€"}  # the others are kroner

_MONTHS = [
    "januar",
    "februar",
    "mars",
    "april",
    "mai",
    "juni",
    "juli",
    "august",
    "september",
    "oktober",
    "november",
    "desember",
]
_DAYS = ["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"]
# unit -> (every one, every <count>)
_EVERY = {
    "DAY": ("hver dag", "dag"),
    "WEEK": ("hver uke", "uke"),
    "MONTH": ("hver måned", "måned"),
    "YEAR": ("hvert år", "år"),
}
_ORDINALS = {2: "annen", 3: "tredje", 4: "fjerde", 6: "sjette"}


def timestamp(at: datetime) -> str:
    """Return an instant as Vipps writes it, "2026-08-20T12:31:23Z"."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact_timestamp(at: datetime) -> str:
    """Return an instant with milliseconds, as webhooks carry it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def interval_text(unit: str, count: int) -> str:
    """Return an interval as Vipps describes it, "every 2 weeks"."""
    return f"every {unit.lower()}" if count == 1 else f"every {count} {unit.lower()}s"


def money(amount: int, currency: str) -> str:
    """Return minor units as Norwegians write money: 129900 as "1 299,00 kr", with spaces that do not break."""
    whole = f"{amount // 100:,}".replace(",", "\u00a0")
    return f"{whole},{amount % 100:02d}\u00a0{sign(currency)}"


def read_money(text: str) -> int | None:
    """Return an amount that a person wrote, "1 299,50" or "1299.5", in minor units; None for what is none."""
    plain = "".join(text.split()).replace(",", ".")
    if not re.fullmatch(r"\d{1,9}(\.\d{1,2})?", plain, re.ASCII):
        return None
    return int(Decimal(plain) * 100)


def sign(currency: str) -> str:
    """Return "kr" or "€"."""
    return _SIGNS.get(currency, "kr")


def every(unit: str | None, count: int | None) -> str:
    """Return an interval in Norwegian, "hver måned"."""
    if unit is None or count is None:
        return "når du bruker tjenesten"
    if count == 1:
        return _EVERY[unit][0]
    start = "hvert" if unit == "YEAR" else "hver"
    return f"{start} {_ORDINALS.get(count, f'{count}.')} {_EVERY[unit][1]}"


def length(unit: str, count: int) -> str:
    """Return a duration in Norwegian, "3 måneder"."""
    plural = {"DAY": "dager", "WEEK": "uker", "MONTH": "måneder", "YEAR": "år"}
    return f"1 {_EVERY[unit][1]}" if count == 1 else f"{count} {plural[unit]}"


def long_date(day: date) -> str:
    """Return "4. november 2026"."""
    return f"{day.day}. {_MONTHS[day.month - 1]} {day.year}"


def weekday_date(at: datetime, market: Market = _NORWAY) -> str:
    """Return "tirsdag 4. november", as it is in the market."""
    local = at.astimezone(market.zone)
    return f"{_DAYS[local.weekday()]} {local.day}. {_MONTHS[local.month - 1]}"


def clock_face(at: datetime, market: Market = _NORWAY) -> str:
    """Return "09:41", as it is in the market."""
    return at.astimezone(market.zone).strftime("%H:%M")


def pretty_phone(msisdn: str) -> str:
    """Return "+47 900 00 123" for a Norwegian number, else "+" and the digits."""
    if msisdn.startswith("47") and len(msisdn) == 10:
        return f"+47 {msisdn[2:5]} {msisdn[5:7]} {msisdn[7:]}"
    return f"+{msisdn}"
