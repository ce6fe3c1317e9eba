"""How many parts a text is sent in. Source: GSM 03.38; Twilio, "How many SMS segments" (2025)."""

from __future__ import annotations

_BASIC = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = set("\f^{}\\[~]|€")


def count_segments(body: str) -> int:
    """Return the number of segments: at least 1.

    GSM-7: 160 septets alone, 153 in each of several. UCS-2: 70 and 67 UTF-16 units. No character is split.
    """
    if all(char in _BASIC or char in _EXTENDED for char in body):
        return _pack([2 if char in _EXTENDED else 1 for char in body], single=160, several=153)
    return _pack([2 if ord(char) > 0xFFFF else 1 for char in body], single=70, several=67)


def _pack(sizes: list[int], *, single: int, several: int) -> int:
    if sum(sizes) <= single:
        return 1
    parts, room = 1, several
    for size in sizes:
        if size > room:
            parts, room = parts + 1, several
        room -= size
    return parts
