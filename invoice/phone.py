"""Phone numbers (E.164 inside, MSISDN at Vipps' edge) and the length of a text message.

Only the shape of a number decides whether it is accepted: the contract's own example, +4712457890, is one that a
strict library calls invalid. Such doubts become warnings.
"""

from __future__ import annotations

import re

import phonenumbers

from invoice.errors import Invalid

# Norway, Denmark, Finland and Sweden: where Vipps MobilePay has users.
COUNTRY_CODES = ("+47", "+45", "+358", "+46")

_E164 = re.compile(r"\+[1-9]\d{7,14}", re.ASCII)
_NATIONAL = re.compile(r"[2-9]\d{7}", re.ASCII)
_SPACING = str.maketrans("", "", " -().\u00a0")

# GSM 03.38: the basic set, and the characters that take two places. Source: 3GPP TS 23.038.
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("^{}\\[~]|€\f")
# Letters that look the same in GSM-7, so that one typographic dash does not cost a second message.
_GSM_TWINS = str.maketrans({"\u00a0": " ", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "…": "..."})


def normalise(text: str) -> str:
    """Return a phone number as E.164, such as "+4712457890".

    Takes spaces, dots, dashes and brackets, "00" for "+", and eight digits as Norwegian.
    Raises Invalid when the shape is wrong or the country is not served.
    """
    number = text.translate(_SPACING)
    if number.startswith("00"):
        number = "+" + number[2:]
    elif _NATIONAL.fullmatch(number):
        number = "+47" + number
    if not _E164.fullmatch(number):
        raise Invalid(message="must be a phone number with country code, such as +4791234567")
    if not number.startswith(COUNTRY_CODES):
        raise Invalid(message=f"must begin with one of {', '.join(COUNTRY_CODES)}")
    return number


def is_doubtful(number: str) -> bool:
    """Tell whether the numbering plans say that nobody can have this number."""
    return not phonenumbers.is_valid_number(phonenumbers.parse(number))


def to_msisdn(number: str) -> str:
    """Return "+4712457890" as Vipps wants it: "4712457890"."""
    return number.removeprefix("+")


def to_gsm(text: str) -> str:
    """Return `text` with typographic signs replaced by their twins in the GSM alphabet."""
    return text.translate(_GSM_TWINS)


def segments(text: str) -> int:
    """Return how many messages a text is sent as: 160 or 153 septets each, or 70 or 67 UTF-16 units."""
    if all(c in _GSM_BASIC or c in _GSM_EXTENDED for c in text):
        return _count([2 if c in _GSM_EXTENDED else 1 for c in text], single=160, joined=153)
    return _count([2 if ord(c) > 0xFFFF else 1 for c in text], single=70, joined=67)


def _count(widths: list[int], *, single: int, joined: int) -> int:
    """Fill segments one sign at a time: an escape or surrogate pair is never split between two."""
    if sum(widths) <= single:
        return 1
    count, room = 1, joined
    for width in widths:
        if width > room:
            count, room = count + 1, joined
        room -= width
    return count
