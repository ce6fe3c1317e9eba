"""Money, dates, periods and the choice of language, as a person reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest
from flask import Flask, render_template_string
from flask_babel import force_locale

from invoice.web import formats


@pytest.fixture(scope="module")
def app() -> Flask:
    app = Flask(__name__)
    formats.make_babel(app)
    formats.register(app)
    return app


@contextmanager
def a_reader(app: Flask, accept_language: str) -> Iterator[None]:
    with app.test_request_context(headers={"Accept-Language": accept_language}):
        yield


@pytest.mark.parametrize(
    ("language", "minor", "currency", "text"),
    [
        ("nb", 9900, "NOK", "99 kr"),
        ("nb", 1250, "NOK", "12,50 kr"),
        ("nb", 0, "NOK", "0 kr"),
        ("nb", 1, "NOK", "0,01 kr"),
        ("nb", 129900, "NOK", "1 299 kr"),
        ("nb", 123456789, "NOK", "1 234 567,89 kr"),
        ("nb", 9900, "DKK", "99,00 DKK"),
        ("nb", 990, "EUR", "9,90 €"),
        ("da", 9900, "DKK", "99 kr"),
        ("da", 129950, "DKK", "1.299,50 kr"),
        ("da", 9900, "NOK", "99,00 NOK"),
        ("sv", 9900, "SEK", "99 kr"),
        ("sv", 9900, "NOK", "99,00 NOK"),
        ("sv", 129900, "SEK", "1 299 kr"),
        ("fi", 990, "EUR", "9,90 €"),
        ("fi", 1000, "EUR", "10 €"),
        ("fi", 9900, "SEK", "99,00 SEK"),
        ("en", 9900, "NOK", "99.00 NOK"),
        ("en", 129950, "DKK", "1,299.50 DKK"),
        ("en", 990, "EUR", "€9.90"),
    ],
)
def test_money_reads_as_the_reader_would_say_it(
    app: Flask, language: str, minor: int, currency: str, text: str
) -> None:
    with a_reader(app, language):
        assert formats.money(minor, currency) == text


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_money_holds_no_blank_that_would_lengthen_a_text_message(app: Flask, language: str) -> None:
    with a_reader(app, language):
        texts = [formats.money(123456789, currency) for currency in ("NOK", "DKK", "SEK", "EUR")]

    assert not any(blank in text for text in texts for blank in "\u00a0\u202f\u2009")


def test_thousands_do_not_part_on_a_page(app: Flask) -> None:
    with a_reader(app, "nb"):
        assert render_template_string("{{ 129900|money('NOK') }}") == "1\u00a0299 kr"


def test_thousands_keep_a_plain_blank_in_a_text_message(app: Flask) -> None:
    with a_reader(app, "nb"):
        text = render_template_string("{% autoescape false %}{{ 129900|money('NOK') }}{% endautoescape %}")

    assert text == "1 299 kr"


@pytest.mark.parametrize(
    ("language", "long", "short"),
    [
        ("nb", "3. januar 2027", "3. jan. 2027"),
        ("da", "3. januar 2027", "3. jan. 2027"),
        ("sv", "3 januari 2027", "3 jan. 2027"),
        ("fi", "3. tammikuuta 2027", "3.1.2027"),
        ("en", "3 January 2027", "3 Jan 2027"),
    ],
)
def test_a_date_reads_day_month_year(app: Flask, language: str, long: str, short: str) -> None:
    with a_reader(app, language):
        assert (formats.long_date(date(2027, 1, 3)), formats.short_date(date(2027, 1, 3))) == (long, short)


@pytest.mark.parametrize(
    ("language", "week", "month", "year"),
    [
        ("nb", "i uken", "i måneden", "i året"),
        ("da", "om ugen", "om måneden", "om året"),
        ("sv", "i veckan", "i månaden", "om året"),
        ("fi", "viikossa", "kuukaudessa", "vuodessa"),
        ("en", "a week", "a month", "a year"),
    ],
)
def test_a_period_follows_a_price(app: Flask, language: str, week: str, month: str, year: str) -> None:
    with a_reader(app, language):
        assert [formats.every(interval) for interval in ("WEEK", "MONTH", "YEAR")] == [week, month, year]


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        ("nb-NO,nb;q=0.9,no;q=0.8,en;q=0.5", "nb"),
        ("nn-NO", "nb"),
        ("no", "nb"),
        ("en-US,en;q=0.9", "en"),
        ("da", "da"),
        ("fi-FI", "fi"),
        ("sv-FI", "sv"),
        ("sv_SE", "sv"),
        ("de-DE,de;q=0.9,fi;q=0.3", "fi"),
        ("de", "nb"),
        ("*", "nb"),
        ("", "nb"),
        ("en;q=0,da;q=0.1", "da"),
        ("\u00e6\u00f8,,;q=x,sv", "sv"),
    ],
)
def test_the_browser_chooses_the_language(app: Flask, accept_language: str, language: str) -> None:
    with a_reader(app, accept_language):
        assert formats.choose_language() == language


def test_the_first_language_wins_over_an_exact_match_further_down(app: Flask) -> None:
    with a_reader(app, "sv-SE,en;q=0.5"):
        assert formats.choose_language() == "sv"


def test_a_text_written_outside_a_request_is_norwegian(app: Flask) -> None:
    with app.app_context():
        assert formats.every("MONTH") == "i måneden"
        assert formats.money(9900, "NOK") == "99 kr"


def test_a_text_written_outside_a_request_can_be_in_a_chosen_language(app: Flask) -> None:
    with app.app_context(), force_locale("da"):
        assert formats.every("MONTH") == "om måneden"
        assert formats.money(9900, "DKK") == "99 kr"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Nordlys Trening", "Nordlys Trening"),
        ("two\r\nlines\tand\x00more", "two lines and more"),
        ("Bank\u202egnal\u202c", "Bankgnal"),
        ("  wide   apart ", "wide apart"),
        ("Kaffe 👩‍👧 & co", "Kaffe 👩‍👧 & co"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_partners_text_is_one_line_that_reads_in_its_order(text: str | None, shown: str) -> None:
    assert formats.plain(text) == shown
