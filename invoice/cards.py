"""Whether a text holds the number of a payment card, which nobody should write to us. Pure rules.

A number counts as a card's when it begins as one network's cards do, has a length that they have, and its check digit
is right. The check digit alone would not do: one number in ten has it, and Norwegian payment references (KID) often
use the very same.

Source: ISO/IEC 7812-1 (length, check digit); the networks' published ranges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# How cards begin -> how long they are.
_NETWORKS: tuple[tuple[str, frozenset[int]], ...] = (
    (r"4", frozenset({13, 16, 18, 19})),  # Visa
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", frozenset({16})),  # Mastercard
    (r"3[47]", frozenset({15})),  # American Express
    (r"30[0-5]|309|3[689]", frozenset(range(14, 20))),  # Diners Club
    (r"35(2[89]|[3-8])", frozenset(range(16, 20))),  # JCB
    (r"6011|64[4-9]|65", frozenset(range(16, 20))),  # Discover
    (r"62|81", frozenset(range(16, 20))),  # UnionPay
    (r"5018|5020|5038|5893|6304|6759|676[1-3]", frozenset(range(13, 20))),  # Maestro
    (r"5019", frozenset({16})),  # Dankort
)
_BEGINS = tuple((re.compile(begins), lengths) for begins, lengths in _NETWORKS)
# Groups of digits, as cards show them: one sign between, and no other digit beside them.
_DIGITS = re.compile(r"(?<![0-9])[0-9]+(?:[ .\u00a0\u2010-\u2014-][0-9]+)*(?![0-9])")
_SHORTEST, _LONGEST = 13, 19


def holds_card_number(text: str) -> bool:
    """Tell whether a text holds a card's number, in one piece or in groups with a blank, hyphen or point between."""
    return any(_is_card(number) for found in _DIGITS.findall(text) for number in _joined(found))


def _joined(found: str) -> Iterator[str]:
    """Yield what neighbouring groups of digits come to: a number may stand beside others."""
    groups = re.findall("[0-9]+", found)
    for first in range(len(groups)):
        number = ""
        for group in groups[first:]:
            number += group
            if len(number) > _LONGEST:
                break
            if len(number) >= _SHORTEST:
                yield number


def _is_card(number: str) -> bool:
    is_known = any(len(number) in lengths and begins.match(number) for begins, lengths in _BEGINS)
    return is_known and _has_check_digit(number)


def _has_check_digit(number: str) -> bool:
    """Tell whether the last digit is the one that the others ask for (Luhn)."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2]]
    return (sum(doubled) + sum(map(int, number[::-2]))) % 10 == 0
