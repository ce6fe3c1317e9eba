"""Phone numbers (E.164 inside, MSISDN at Vipps' edge) and the length of a text message.

Only the shape of a number decides whether it is accepted: the contract's own example, +4712457890, is one that a
strict library calls invalid. Such doubts become warnings.
"""

from __future__ import annotations

import re
import unicodedata

import phonenumbers

from invoice.errors import Invalid

# Begins what stands in a number's place once it is forgotten; no number begins so.
PSEUDONYM = "#"

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
_SPACES = dict.fromkeys("\t\u00a0\u2007\u2008\u2009\u200a\u202f", " ")
_DASHES = dict.fromkeys("\u2010\u2011\u2012–—\u2212", "-")
_QUOTES = {"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "‚": ","}
_GSM_TWINS = str.maketrans({**_SPACES, **_DASHES, **_QUOTES, "…": "..."})
# What nobody sees and what turns the reading order; joiners (U+200C, U+200D) are none of them.
_UNSEEN = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

# Source: the original's SMS gateway, types SHORTNUMBER, ALPHANUMERIC (2 to 11 characters) and MSISDN. A blank may
# stand inside a name: the documents have "My Company".
_ORIGINATOR = re.compile(r"[0-9]{1,14}|(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 ]{0,9}[A-Za-z0-9]|\+[1-9][0-9]{7,14}")


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


def shown(number: str) -> str:
    """Return a number as it may be shown: empty once it is forgotten."""
    return "" if number.startswith(PSEUDONYM) else number


def is_originator(text: str) -> bool:
    """Tell whether a text message can come from this: a short number, a name, or a number with +."""
    return _ORIGINATOR.fullmatch(text) is not None


def to_gsm(text: str) -> str:
    """Return `text` with typographic signs replaced by their twins in the GSM alphabet; letters stay what they are."""
    return unicodedata.normalize("NFC", text).translate(_GSM_TWINS)


def printable(text: str) -> str:
    """Return `text` without control letters (line breaks stay), unseen ones, and such as turn the reading order."""
    lines = _UNSEEN.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c in "\n\t" or unicodedata.category(c) != "Cc")


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
