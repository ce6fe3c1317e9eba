"""Numbers of cards are found however they are written, and nothing else is taken for one."""

from __future__ import annotations

from random import Random

import pytest

from invoice.cards import holds_card_number

# The networks' published test numbers.
CARDS = [
    *("4111111111111111", "4012888888881881", "4222222222222", "4000056655665556"),
    *("5555555555554444", "5105105105105100", "2223003122003222", "2720990000000007"),
    *("378282246310005", "371449635398431", "30569309025904", "38520000023237", "3530111333300000"),
    *("6011111111111117", "6011000990139424", "6200000000000005", "6304000000000000", "5019717010103742"),
]


@pytest.mark.parametrize("number", CARDS)
@pytest.mark.parametrize("text", ["{}", "Kort {}.", "a{}b", "({})", "1 {}", "{} 12/28 123", "KID:{};"])
def test_a_card_is_found_wherever_it_stands(number: str, text: str):
    assert holds_card_number(text.format(number))


@pytest.mark.parametrize("sign", [" ", "-", ".", "\u00a0", "\u2011", "\u2013"])
def test_a_card_is_found_in_groups(sign: str):
    assert holds_card_number(sign.join(["4111", "1111", "1111", "1111"]))
    assert holds_card_number(f"kort 3782{sign}822463{sign}10005, takk")


@pytest.mark.parametrize("number", CARDS)
def test_a_wrong_digit_is_no_card(number: str):
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)

    assert not holds_card_number(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unique-order-number-12346",
        "The name of the product",
        "+4712457890",
        "1700000000006",  # milliseconds since 1970, with a check digit that fits
        "9578000000000004",  # a member's card of a shop
        "7038010000232",  # a product's bar code
        "00411111111111111111111",  # one long number is a number of its own
        "0000000000000000",
        "41111111111111",
        "4111 1111 1111 111",
        "4111  1111  1111  1111",  # nobody writes it so; two blanks part numbers
        "123 4111111111111112",
        "2026-11-21 08:00:00 2026-12-21 08:00:00",
    ],
)
def test_other_numbers_are_left_alone(text: str):
    assert not holds_card_number(text)


def test_of_long_numbers_at_random_one_in_thirty_is_taken_for_a_card():
    chance = Random(7)
    references = [str(chance.randrange(10**15, 10**16)) for _ in range(5000)]

    assert sum(map(holds_card_number, references)) < 0.04 * len(references)
