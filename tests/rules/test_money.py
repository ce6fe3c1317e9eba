"""Amounts: decimals at the edge, whole minor units inside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoice.errors import Invalid
from invoice.money import CURRENCIES, MAXIMUM, MINIMUM, to_major, to_minor


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("0", 0),
        ("0.01", 1),
        ("0.1", 10),
        ("0.10", 10),
        ("1", 100),
        ("12.5", 1250),
        ("12.50", 1250),
        ("000012.50", 1250),
        ("19.99", 1999),
        ("999999.99", 99999999),
    ],
)
def test_a_decimal_becomes_whole_minor_units(text: str, minor: int) -> None:
    assert to_minor(text) == minor


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", ".5", "5.", "1.234", "1000000", "0000001", "-1", "+1", "1,50", "1 000", "1_000", "1e3", "0x10"),
        *(" 1", "1 ", "1\n", "1.50\n", "\n1", "1\x00", "1.5.0", "12x50", "NaN", "Infinity"),
        *("\u0661\u0662", "1.\u0665\u0660", "\uff11", "\u00b2", "\u00bd", "1\u00a0000"),
    ],
)
def test_anything_else_is_no_amount(text: str) -> None:
    with pytest.raises(Invalid, match=r"must be a number from 0 to 999999\.99"):
        to_minor(text)


@given(st.integers(0, 99_999_999))
def test_an_amount_survives_the_way_out_and_in(minor: int) -> None:
    assert to_minor(to_major(minor)) == minor


@given(st.text(max_size=12))
def test_no_text_breaks_an_amount(text: str) -> None:
    try:
        minor = to_minor(text)
    except Invalid:
        return
    assert 0 <= minor <= 99_999_999


@pytest.mark.parametrize(("minor", "text"), [(0, "0.00"), (1, "0.01"), (1250, "12.50"), (99999999, "999999.99")])
def test_an_amount_is_written_with_two_decimals(minor: int, text: str) -> None:
    assert to_major(minor) == text


@pytest.mark.parametrize("currency", CURRENCIES)
def test_every_currency_has_its_limits(currency: str) -> None:
    assert 0 < MINIMUM[currency] < MAXIMUM[currency] <= 99_999_999
