"""How money, dates and periods read to the person who opened the link, and in which language.

Here: the choice of language and the template filters that depend on it. Not here: what is shown (templates), what
is owed (services), and any rounding: amounts come in as whole minor units and leave as text.
"""

import unicodedata
from datetime import date
from decimal import Decimal
from pathlib import Path

from babel.dates import format_date
from babel.numbers import format_decimal
from flask import Flask, has_request_context, request
from flask_babel import Babel, get_locale, gettext  # type: ignore[import-untyped]
from jinja2 import pass_eval_context
from jinja2.nodes import EvalContext

from invoice.lifecycle import Language

LANGUAGES = tuple(language.value for language in Language)
DEFAULT_LANGUAGE = Language.NORWEGIAN.value

# Nynorsk and the old common code for Norwegian are read by the same people.
_READS_AS = {**{language: language for language in LANGUAGES}, "nn": "nb", "no": "nb"}

# "en" alone would date and count as in the United States, which no reader of these pages expects.
_REGIONAL = {"en": "en_GB"}

# CLDR writes "99,00 Nkr" for a Swede and "99,00 NOK" for a Dane; a person says "kr" for the own country's money and
# needs the code for a neighbour's, since four countries have something called a krone, krona or króna.
_HOME_CURRENCY = {"nb": "NOK", "da": "DKK", "sv": "SEK"}

_NO_BREAK_SPACE = "\u00a0"

# Letters that reorder what stands after them. In a merchant's name they can only serve to mislead.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def money(minor: int, currency: str) -> str:
    """Return an amount as the reader would say it: "99 kr", "12,50 kr", "9,90 €", "99.00 NOK".

    minor: whole minor units (øre, cents).  currency: ISO 4217, upper case.
    The blanks are plain ones: a no-break space is outside GSM-7 and would make three text messages of one.
    """
    amount = Decimal(minor).scaleb(-2)  # Two decimals, as in every currency of Vipps.
    is_euro = currency == "EUR"
    is_at_home = is_euro or _HOME_CURRENCY.get(_language()) == currency
    pattern = "#,##0" if is_at_home and amount == amount.to_integral_value() else "#,##0.00"
    digits = format_decimal(amount, format=pattern, locale=_region()).replace(_NO_BREAK_SPACE, " ")
    if is_euro:
        return f"€{digits}" if _language() == "en" else f"{digits} €"
    return f"{digits} kr" if is_at_home else f"{digits} {currency}"


def long_date(day: date) -> str:
    """Return a date with its month in words: "21. november 2026", "21 November 2026", "21. marraskuuta 2026"."""
    return format_date(day, format="long", locale=_region())


def short_date(day: date) -> str:
    """Return a date for a narrow column: "21. nov. 2026", "21 Nov 2026", "21.11.2026"."""
    return format_date(day, format="medium", locale=_region())


def every(interval: str) -> str:
    """Return what follows a price: "i måneden", "a week", "vuodessa".  interval: WEEK, MONTH or YEAR."""
    words: dict[str, str] = {"WEEK": gettext("a week"), "MONTH": gettext("a month"), "YEAR": gettext("a year")}
    return words[interval]


def plain(text: str | None) -> str:
    """Return a partner's text on one line, without control letters and without letters that turn the reading order."""
    kept = (" " if unicodedata.category(c) == "Cc" else c for c in text or "" if c not in _REORDERING)
    return " ".join("".join(kept).split())


def register(app: Flask) -> None:
    """Give the templates their filters, and the language of the page for `<html lang>`."""
    filters = {"money": _money_in_template, "long_date": long_date, "short_date": short_date, "every": every}
    app.jinja_env.filters.update(filters, plain=plain)
    app.jinja_env.globals["page_language"] = _language


def make_babel(app: Flask) -> Babel:
    """Set up the texts in five languages; the reader's browser chooses, and Norwegian is what remains."""
    return Babel(
        app,
        default_locale=DEFAULT_LANGUAGE,
        default_translation_directories=str(Path(__file__).parent / "translations"),
        locale_selector=choose_language,
    )


def choose_language() -> str:
    """Return the first language of ours that the browser asks for, in its order of preference.

    The tags are read one by one because `best_match` prefers an exact "en" of low quality to an "sv-SE" above it.
    """
    if not has_request_context():
        return DEFAULT_LANGUAGE
    for tag, quality in request.accept_languages:
        language = _READS_AS.get(tag.replace("_", "-").split("-")[0].lower())
        if language and quality > 0:
            return language
    return DEFAULT_LANGUAGE


@pass_eval_context
def _money_in_template(context: EvalContext, minor: int, currency: str) -> str:
    """On a page the thousands must not part at the end of a line ("1" above "299 kr"); in a text message they may."""
    text = money(minor, currency)
    if not context.autoescape:
        return text
    digits, blank, unit = text.rpartition(" ")
    return digits.replace(" ", _NO_BREAK_SPACE) + blank + unit


def _language() -> str:
    """Return the language of the page or message that is being written."""
    locale = get_locale()
    return _READS_AS.get(locale.language, DEFAULT_LANGUAGE) if locale else DEFAULT_LANGUAGE


def _region() -> str:
    """Return the locale that dates and digits follow."""
    language = _language()
    return _REGIONAL.get(language, language)
