"""Phone numbers, and how many messages a text is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoice.errors import Invalid
from invoice.phone import is_doubtful, is_originator, normalise, printable, segments, shown, to_gsm, to_msisdn

# Numbers


@pytest.mark.parametrize(("kept", "told"), [("+4791234567", "+4791234567"), ("#Zm9yZ290dGVuIDp", ""), ("", "")])
def test_a_number_that_is_forgotten_is_not_shown(kept: str, told: str):
    assert shown(kept) == told


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+4712457890", "+4712457890"),  # the contract's own example, which the numbering plan does not know
        ("+47 912 34 567", "+4791234567"),
        ("+47-912-34-567", "+4791234567"),
        ("+47.91.23.45.67", "+4791234567"),
        ("(+47) 91234567", "+4791234567"),
        ("+47\u00a091234567", "+4791234567"),
        ("004791234567", "+4791234567"),
        ("00 47 912 34 567", "+4791234567"),
        ("91234567", "+4791234567"),
        ("912 34 567", "+4791234567"),
        ("+4520123456", "+4520123456"),
        ("+358401234567", "+358401234567"),
        ("+46701234567", "+46701234567"),
    ],
)
def test_a_number_is_written_in_one_way(text: str, number: str) -> None:
    assert normalise(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "+", "00", "+47", "4791234567", "12457890", "01234567", "9123456", "912345678", "+0091234567"),
        *("+47912345678901234", "++4791234567", "+4791234567x", "tel:+4791234567", "+47 9123 456seven"),
        *("+4791234567\n", "91234567\n", "\n91234567", "+47\t91234567", "+4791234567\x00"),
        *("+47\u0669\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "\u0669\u0661\u0662\u0663\u0664\u0665\u0666\u0667"),
        "\uff0b\uff14\uff1791234567",
    ],
)
def test_what_is_not_shaped_like_a_number_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="must be a phone number with country code"):
        normalise(text)


@pytest.mark.parametrize("text", ["+4915112345678", "+15005550006", "+88213123456", "0044 7911 123456", "+35312345678"])
def test_a_country_that_is_not_served_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"must begin with one of \+47, \+45, \+358, \+46"):
        normalise(text)


@given(st.text(max_size=20))
def test_no_text_breaks_a_number(text: str) -> None:
    try:
        number = normalise(text)
    except Invalid:
        return
    assert normalise(number) == number


@pytest.mark.parametrize(
    ("number", "doubtful"), [("+4712457890", True), ("+4791234567", False), ("+4520123456", False), ("+4790", True)]
)
def test_a_number_that_nobody_can_have_is_doubtful(number: str, doubtful: bool) -> None:
    assert is_doubtful(number) is doubtful


def test_vipps_gets_the_number_without_its_plus() -> None:
    assert to_msisdn("+4712457890") == "4712457890"


# The length of a text. The alphabet is written out again here, in the order of 3GPP TS 23.038, without its escape.

GSM = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
EXTENDED = "^{}\\[~]|€\f"
EMOJI = "\U0001f44d"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 459, 3),
        ("a" * 460, 4),
        ("æøåÆØÅäöÄÖ" * 16, 1),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 158 + "€", 1),
        ("a" * 159 + "€", 2),
        ("€" * 76 + "a" + "€" * 76 + "a", 2),  # 153 septets each
        ("€" * 152, 2),  # 76 to a message: the 153rd place stays empty
        ("€" * 153, 3),
        ("a" * 152 + "€" + "a" * 151, 2),  # an escape at the border goes to the next message whole
        ("a" * 152 + "€" + "a" * 152, 3),
    ],
)
def test_a_text_in_the_gsm_alphabet_is_counted_in_septets(text: str, count: int) -> None:
    assert segments(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("ł" * 70, 1),
        ("ł" * 71, 2),
        ("ł" * 134, 2),
        ("ł" * 135, 3),
        ("ł" + "a" * 69, 1),
        ("a" * 70 + "ł", 2),
        ("ł" + "€" * 69, 1),  # no escapes here
        (EMOJI * 35, 1),
        (EMOJI * 36, 2),
        ("a" * 66 + EMOJI + "a" * 65, 2),  # a pair at the border goes to the next message whole
        ("a" * 66 + EMOJI + "a" * 66, 3),
        (EMOJI * 66, 2),  # 33 to a message: the 67th place stays empty
        (EMOJI * 67, 3),
    ],
)
def test_any_other_text_is_counted_in_utf16_units(text: str, count: int) -> None:
    assert segments(text) == count


@pytest.mark.parametrize("sign", GSM)
def test_a_sign_of_the_gsm_alphabet_takes_one_place(sign: str) -> None:
    assert (segments(sign * 160), segments(sign * 161)) == (1, 2)


@pytest.mark.parametrize("sign", EXTENDED)
def test_a_sign_of_the_extension_takes_two_places(sign: str) -> None:
    assert (segments(sign * 80), segments(sign * 81)) == (1, 2)


@pytest.mark.parametrize(
    "sign", ["ç", "á", "ê", "õ", "`", "\t", "\x1b", "\u00a0", "–", "’", "“", "…", "«", "°", "½", "\x00"]
)
def test_a_sign_that_gsm_lacks_takes_the_text_to_utf16(sign: str) -> None:
    assert (segments("a" * 69 + sign), segments("a" * 70 + sign)) == (1, 2)


@given(st.text(st.sampled_from(GSM[:40] + EXTENDED), max_size=700))
def test_a_gsm_text_is_as_many_messages_as_filling_them_one_by_one(text: str) -> None:
    filled, used = 1, 0
    for width in (2 if sign in EXTENDED else 1 for sign in text):
        filled, used = (filled, used + width) if used + width <= 153 else (filled + 1, width)
    septets = len(text) + sum(sign in EXTENDED for sign in text)

    assert segments(text) == (1 if septets <= 160 else filled)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("99\u00a0kr – «nå»", "99 kr - «nå»"),
        ("it’s “here”…", 'it\'s "here"...'),
        ("a—b‘c", "a-b'c"),
        ("æøå € 1", "æøå € 1"),
    ],
)
def test_typographic_signs_become_their_twins(text: str, plain: str) -> None:
    assert to_gsm(text) == plain


def test_a_typographic_sign_no_longer_costs_a_second_message() -> None:
    text = "a" * 150 + "–"

    assert (segments(text), segments(to_gsm(text))) == (3, 1)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("bl\u0061\u030ab\u00e6r", "blåbær"),
        ("a\u2009b\u202fc\u00a0d\te", "a b c d e"),
        ("a\u2010b\u2011c\u2212d", "a-b-c-d"),
        ("„a“ ‚b‘", '"a" ,b\''),
        ("Čau «x» 你好", "Čau «x» 你好"),
    ],
)
def test_nothing_is_lost_on_the_way_to_the_gsm_alphabet(text: str, plain: str) -> None:
    assert to_gsm(text) == plain


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x00b\x1bc\x7fd\x85e", "abcde"),
        ("a\r\nb\rc\nd\te", "a\nb\nc\nd\te"),
        ("a\u202eb\u2066c\u200fd\u061ce", "abcde"),
        ("a\u200bb\ufeffc\u00add\u2060e", "abcde"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
    ],
)
def test_what_nobody_sees_is_left_out(text: str, seen: str) -> None:
    assert printable(text) == seen


@given(st.text(max_size=50))
def test_a_text_that_went_through_once_stays_as_it_is(text: str) -> None:
    once = to_gsm(printable(text))

    assert to_gsm(printable(once)) == once


# Who a text comes from


@pytest.mark.parametrize(
    "name", ["1", "2119", "12345678901234", "AB", "My Company", "ABCDEFGHIJK", "4U", "+4791234567"]
)
def test_a_text_can_come_from_a_short_number_a_name_or_a_number(name: str) -> None:
    assert is_originator(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "A", "ABCDEFGHIJKL", "123456789012345", " AB", "AB ", "A_B", "Bjørn", "2119\n", "٢١١٩", "AB\x00"),
        *("+0123456789", "+123", "+1234567890123456", "+47 91234567", "12 34"),
    ],
)
def test_a_text_comes_from_nobody_else(name: str) -> None:
    assert not is_originator(name)
