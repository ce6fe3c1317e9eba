"""The pages and the text message that a person sees: every page, in every state, in every language."""

import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import Flask, render_template
from jinja2 import StrictUndefined

from invoice.web import formats

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "invoice" / "web" / "static"
TRANSLATIONS = ROOT / "invoice" / "web" / "translations"
TRANSLATED = [language for language in formats.LANGUAGES if language != "en"]

HOSTILE = '<svg onload=alert(1)>{{7*7}}%(x)s" \u202egnp'


@dataclass(frozen=True)
class Row:
    due_on: date
    amount: int
    refunded: int
    state: str


HISTORY = (
    Row(date(2027, 4, 21), 129900, 0, "planned"),
    Row(date(2027, 3, 21), 9900, 0, "upcoming"),
    Row(date(2027, 2, 21), 9900, 0, "reserved"),
    Row(date(2027, 1, 21), 9900, 0, "failed"),
    Row(date(2026, 12, 21), 9900, 2550, "paid"),
    Row(date(2026, 11, 25), 9900, 0, "cancelled"),
    Row(date(2026, 11, 21), 4950, 4950, "refunded"),
)


@dataclass(frozen=True)
class Sub:
    """The attributes that the pages read, for an offer, an outcome and a subscription alike."""

    merchant: str = "Nordlys Trening"
    product: str = "Månedskort Pluss"
    description: str = "Trening på alle senter, med gruppetimer og svømmehall."
    amount: int = 9900
    currency: str = "NOK"
    interval: str = "MONTH"
    initial_amount: int = 9900
    number: int = 635
    state: str = "active"
    next_charge_on: date | None = date(2026, 12, 21)
    next_amount: int | None = 9900
    link_expires_on: date = date(2026, 12, 5)
    started_on: date | None = date(2026, 11, 21)
    ended_on: date | None = None
    history: tuple[Row, ...] = field(default=HISTORY)


def an_offer(**changes: Any) -> dict[str, Any]:
    notice = changes.pop("notice", None)
    links = {"form_action": "/s/abc", "seen_url": "/s/abc/seen"}
    return {"offer": replace(Sub(), **changes), **links, "notice": notice}


def an_outcome(state: str, **changes: Any) -> dict[str, Any]:
    urls = {"manage_url": changes.pop("manage_url", None), "retry_url": changes.pop("retry_url", None)}
    return {"outcome": replace(Sub(), state=state, **changes), **urls}


def a_sub(**changes: Any) -> dict[str, Any]:
    stop_url = changes.pop("stop_url", None)
    return {"sub": replace(Sub(), **changes), "stop_url": stop_url}


KINDS = (
    "unknown_link",
    "expired_link",
    "not_found",
    "already_active",
    "ended",
    "bad_request",
    "too_large",
    "too_often",
    "method",
    "error",
    "unavailable",
)

PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "offer": ("offer", an_offer()),
    "offer_lower_first": ("offer", an_offer(amount=1250, initial_amount=1000, interval="WEEK", description="")),
    "offer_free_first": ("offer", an_offer(initial_amount=0, amount=129900, interval="YEAR")),
    "offer_long_names": ("offer", an_offer(merchant="Turnforening" * 5, product="Årsmedlemskap" * 4, amount=2000000)),
    "offer_try_again": ("offer", an_offer(notice="try_again")),
    "offer_refused": ("offer", an_offer(notice="refused")),
    "waiting": ("waiting", {"waiting": Sub(), "poll_url": "/s/abc/state"}),
    "outcome_active": ("outcome", an_outcome("active", manage_url="/manage/abc")),
    "outcome_active_bare": ("outcome", an_outcome("active", next_charge_on=None, initial_amount=0)),
    "outcome_declined": ("outcome", an_outcome("declined", retry_url="/s/abc")),
    "outcome_expired": ("outcome", an_outcome("expired", retry_url="/s/abc")),
    "outcome_ended": ("outcome", an_outcome("ended", manage_url="/manage/abc")),
    "manage_pending": ("manage", a_sub(state="pending", history=(), started_on=None, next_charge_on=None)),
    "manage_active": ("manage", a_sub(stop_url="/manage/abc/stop")),
    "manage_stopping": ("manage", a_sub(state="stopping")),
    "manage_stopped": ("manage", a_sub(state="stopped", ended_on=date(2027, 1, 2), next_charge_on=None)),
    "manage_expired": ("manage", a_sub(state="expired", history=(), started_on=None, next_charge_on=None)),
    "stop": ("stop", {"sub": Sub(), "form_action": "/manage/abc/stop", "back_url": "/manage/abc"}),
    **{f"message_{kind}": ("message", {"kind": kind, "merchant": "Nordlys Trening"}) for kind in KINDS},
    "message_of_nobody": ("message", {"kind": "unknown_link", "merchant": None}),
}


class Reading(HTMLParser):
    """What stands in a page: its elements, its words, and whether every element is closed."""

    VOID = frozenset({"meta", "link", "br", "path", "circle", "input"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.words = " ".join(f"{self.words} {data}".split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def app() -> Flask:
    app = Flask(__name__, template_folder=str(TEMPLATES), static_folder=str(STATIC), static_url_path="/static")
    app.jinja_env.undefined = StrictUndefined
    formats.make_babel(app)
    formats.register(app)
    return app


def render(app: Flask, template: str, context: dict[str, Any], language: str = "nb") -> str:
    with app.test_request_context(headers={"Accept-Language": language}):
        return render_template(template, **context)


def page(app: Flask, name: str, language: str = "nb") -> str:
    template, context = PAGES[name]
    return render(app, f"pages/{template}.html", context, language)


def read(app: Flask, template: str, context: dict[str, Any], language: str = "nb") -> Reading:
    return Reading(render(app, f"pages/{template}.html", context, language))


def button_text(source: str) -> str:
    match = re.search(r"<button[^>]*>(.*?)</button>", source, re.DOTALL)
    assert match
    return match[1].strip().replace("\u00a0", " ")


def with_every_text(value: Any, text: str) -> Any:
    """Return a context in which everything that a partner can write is `text`."""
    if isinstance(value, Sub):
        return replace(value, merchant=text, product=text, description=text)
    return value


# --- every page, in every language


@pytest.mark.parametrize("language", formats.LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_its_language_and_stays_out_of_search_engines(app: Flask, name: str, language: str) -> None:
    reading = Reading(page(app, name, language))

    assert reading.attributes("html") == [{"lang": language}]
    assert {"name": "robots", "content": "noindex, nofollow"} in reading.attributes("meta")
    assert any(meta.get("name") == "viewport" for meta in reading.attributes("meta"))


@pytest.mark.parametrize("language", formats.LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_obeys_the_content_security_policy(app: Flask, name: str, language: str) -> None:
    reading = Reading(page(app, name, language))

    assert not reading.attributes("style")
    assert all(script.get("src") for script in reading.attributes("script"))
    for tag, attributes in reading.elements:
        assert "style" not in attributes, tag
        assert not [key for key in attributes if key.startswith("on")], tag
        for address in (attributes.get("src"), attributes.get("href"), attributes.get("action")):
            assert address is None or address.startswith(("/", "#", "data:,")), address


@pytest.mark.parametrize("language", formats.LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_built_so_that_anyone_can_find_the_way(app: Flask, name: str, language: str) -> None:
    reading = Reading(page(app, name, language))

    assert (reading.unbalanced, reading.open) == ([], [])
    assert len(reading.attributes("h1")) == 1
    assert [main.get("id") for main in reading.attributes("main")] == ["main"]
    assert {"class": "skip", "href": "#main"} in reading.attributes("a")


@pytest.mark.parametrize("name", [name for name in PAGES if name not in {"message_of_nobody", "offer_long_names"}])
def test_a_page_says_whose_it_is(app: Flask, name: str) -> None:
    assert '<p class="merchant"><bdi>Nordlys Trening</bdi></p>' in page(app, name)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_a_hostile_text_as_text(app: Flask, name: str) -> None:
    template, context = PAGES[name]
    hostile = {key: with_every_text(value, HOSTILE) for key, value in context.items()}
    if hostile.get("merchant"):
        hostile["merchant"] = HOSTILE

    source = render(app, f"pages/{template}.html", hostile)

    if name != "message_of_nobody":
        assert "&lt;svg onload=alert(1)&gt;{{7*7}}%(x)s&#34; gnp" in source
    assert "<svg onload" not in source
    assert "\u202e" not in source


def test_no_template_switches_escaping_off() -> None:
    sources = {path: path.read_text() for path in TEMPLATES.joinpath("pages").glob("*.html")}
    sources[TEMPLATES / "base.html"] = (TEMPLATES / "base.html").read_text()

    assert sources
    for path, source in sources.items():
        assert not re.search(r"\|\s*safe|autoescape|Markup", source), path


# --- the offer


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("nb", "Abonner og betal 99 kr i måneden"),
        ("en", "Subscribe and pay 99.00 NOK a month"),
        ("da", "Abonner og betal 99,00 NOK om måneden"),
        ("fi", "Tilaa ja maksa 99,00 NOK kuukaudessa"),
        ("sv", "Abonnera och betala 99,00 NOK i månaden"),
    ],
)
def test_the_button_says_what_it_costs_and_how_often(app: Flask, language: str, text: str) -> None:
    assert button_text(page(app, "offer", language)) == text


@pytest.mark.parametrize(
    ("language", "currency", "text"),
    [
        ("nb", "NOK", "Abonner: betal 10 kr nå, deretter 12,50 kr i uken"),
        ("en", "NOK", "Subscribe: pay 10.00 NOK now, then 12.50 NOK a week"),
        ("da", "DKK", "Abonner: betal 10 kr nu, derefter 12,50 kr om ugen"),
        ("fi", "EUR", "Tilaa: maksa nyt 10 €, sitten 12,50 € viikossa"),
        ("sv", "SEK", "Abonnera: betala 10 kr nu, därefter 12,50 kr i veckan"),
    ],
)
def test_the_button_says_now_and_later_when_they_differ(app: Flask, language: str, currency: str, text: str) -> None:
    offer = an_offer(amount=1250, initial_amount=1000, interval="WEEK", currency=currency)

    assert button_text(render(app, "pages/offer.html", offer, language)) == text


def test_the_button_says_that_the_first_period_is_free(app: Flask) -> None:
    assert button_text(page(app, "offer_free_first")) == "Abonner: betal 0 kr nå, deretter 1 299 kr i året"


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("offer")])
def test_the_offer_has_one_button_that_works_without_script(app: Flask, name: str) -> None:
    reading = Reading(page(app, name))

    assert reading.attributes("form") == [{"method": "post", "action": "/s/abc"}]
    assert reading.attributes("button") == [{"class": "primary", "type": "submit"}]
    # The one script only says that the page was shown: the form stands without it.
    assert reading.attributes("script") == [{"src": "/static/offer.js", "defer": None}]


def test_the_offer_tells_when_the_payments_come_how_to_stop_and_what_is_never_asked(app: Flask) -> None:
    words = Reading(page(app, "offer")).words

    assert "Trening på alle senter" in words
    assert "Fra 21. desember 2026 99 kr i måneden" in words
    assert "godkjenner betalingen i Vipps-appen" in words
    assert "Du kan stoppe når som helst" in words
    assert "14 dagers angrerett" in words
    assert "aldri spurt om kortnummer" in words
    assert "Lenken virker til 5. desember 2026." in words


@pytest.mark.parametrize(("notice", "text"), [("try_again", "svarer ikke akkurat nå"), ("refused", "Vipps sa nei")])
def test_the_offer_tells_at_the_top_what_vipps_answered(app: Flask, notice: str, text: str) -> None:
    source = page(app, f"offer_{notice}")

    assert source.index('role="alert"') < source.index("<h1>")
    assert text in source
    assert 'role="alert"' not in page(app, "offer")


# --- waiting


def test_the_waiting_page_asks_by_script_and_reloads_itself_without(app: Flask) -> None:
    source = page(app, "waiting")
    reading = Reading(source)

    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in source
    assert {"src": "/static/waiting.js", "defer": None} in reading.attributes("script")
    assert any(part.get("data-poll-url") == "/s/abc/state" for part in reading.attributes("section"))
    assert any(part.get("aria-live") == "polite" for part in reading.attributes("div"))


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("nb", ("feil", "mislyk")),
        ("en", ("fail", "wrong", "error")),
        ("da", ("fejl", "mislyk")),
        ("fi", ("virhe", "epäonnis")),
        ("sv", ("fel", "misslyck")),
    ],
)
def test_the_waiting_page_never_says_that_it_failed(app: Flask, language: str, words: tuple[str, ...]) -> None:
    said = Reading(page(app, "waiting", language)).words.lower()

    assert not [word for word in words if word in said]


# --- outcome


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_each_outcome_has_its_own_headline(app: Flask, language: str) -> None:
    states = ("active", "declined", "expired", "ended")
    headlines = [re.findall(r"<h1>(.*?)</h1>", page(app, f"outcome_{state}", language))[0] for state in states]

    assert len(set(headlines)) == 4


def test_a_started_subscription_gets_a_receipt_and_a_way_to_stop(app: Flask) -> None:
    reading = read(app, "outcome", an_outcome("active", initial_amount=1000, manage_url="/manage/abc"))

    assert "Pris 99 kr i måneden Første betaling 10 kr Neste betaling 21. desember 2026" in reading.words
    assert {"class": "secondary", "href": "/manage/abc"} in reading.attributes("a")


def test_a_receipt_leaves_out_what_is_not_known(app: Flask) -> None:
    reading = Reading(page(app, "outcome_active_bare"))

    assert "Første betaling 0 kr" in reading.words
    assert "Neste betaling" not in reading.words
    assert len(reading.attributes("a")) == 1


@pytest.mark.parametrize("state", ["declined", "expired"])
def test_an_unfinished_approval_can_be_started_again_and_cost_nothing(app: Flask, state: str) -> None:
    reading = Reading(page(app, f"outcome_{state}"))

    assert {"class": "primary", "href": "/s/abc"} in reading.attributes("a")
    assert "Ingenting" in reading.words


# --- manage and stop


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_each_state_of_a_subscription_has_its_own_words(app: Flask, language: str) -> None:
    states = ("pending", "active", "stopping", "stopped", "expired")
    words = [
        re.findall(r'<p class="state \w+">(.*?)</p>', page(app, f"manage_{state}", language))[0] for state in states
    ]

    assert len(set(words)) == 5


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_each_state_of_a_payment_has_its_own_words(app: Flask, language: str) -> None:
    words = re.findall(r'<span class="row (\w+)">(.*?)</span>', page(app, "manage_active", language))

    assert [state for state, _ in words] == [row.state for row in HISTORY]
    assert len({text for _, text in words}) == len(HISTORY)


def test_the_history_shows_each_payment_in_the_order_given(app: Flask) -> None:
    source = page(app, "manage_active").replace("\u00a0", " ")
    words = Reading(source[source.index("<tbody>") : source.index("</tbody>")]).words

    assert words == (
        "21. apr. 2027 1 299 kr Planlagt "
        "21. mars 2027 99 kr Kommer "
        "21. feb. 2027 99 kr Reservert "
        "21. jan. 2027 99 kr Ikke betalt "
        "21. des. 2026 99 kr Betalt 25,50 kr betalt tilbake "
        "25. nov. 2026 99 kr Avlyst "
        "21. nov. 2026 49,50 kr Betalt tilbake"
    )


def test_a_subscription_without_payments_says_so(app: Flask) -> None:
    reading = Reading(page(app, "manage_pending"))

    assert "Det er ingen betalinger ennå." in reading.words
    assert not reading.attributes("table")


def test_a_running_subscription_shows_its_next_payment_and_can_be_stopped(app: Flask) -> None:
    reading = Reading(page(app, "manage_active"))

    assert "Neste betaling 21. desember 2026: 99 kr" in reading.words
    assert "Startet 21. november 2026" in reading.words
    assert "Abonnementsnummer 635" in reading.words
    assert {"class": "danger", "href": "/manage/abc/stop"} in reading.attributes("a")


def test_a_next_payment_of_unknown_amount_is_shown_by_its_day(app: Flask) -> None:
    reading = read(app, "manage", a_sub(next_amount=None))

    assert "Neste betaling 21. desember 2026 Startet" in reading.words


@pytest.mark.parametrize("state", ["pending", "stopping", "stopped", "expired"])
def test_a_subscription_that_does_not_run_promises_no_payment_and_no_button(app: Flask, state: str) -> None:
    reading = read(app, "manage", a_sub(state=state))

    assert "Neste betaling" not in reading.words
    assert len(reading.attributes("a")) == 1


def test_a_stopped_subscription_says_when_it_ended(app: Flask) -> None:
    assert "Avsluttet 2. januar 2027" in Reading(page(app, "manage_stopped")).words


def test_stopping_is_one_button_with_a_way_back(app: Flask) -> None:
    reading = Reading(page(app, "stop"))

    assert reading.attributes("form") == [{"method": "post", "action": "/manage/abc/stop"}]
    assert reading.attributes("button") == [{"class": "danger solid", "type": "submit"}]
    assert {"class": "secondary", "href": "/manage/abc"} in reading.attributes("a")
    assert "Etter dette blir det ingen flere betalinger." in reading.words
    assert "Det du allerede har betalt, blir ikke berørt." in reading.words


# --- messages


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_each_message_has_its_own_headline(app: Flask, language: str) -> None:
    headlines = [re.findall(r"<h1>(.*?)</h1>", page(app, f"message_{kind}", language))[0] for kind in KINDS]

    assert len(set(headlines)) == len(KINDS)


def test_a_message_without_a_merchant_speaks_of_the_sender(app: Flask) -> None:
    reading = Reading(page(app, "message_of_nobody"))

    assert "be bedriften som sendte deg tekstmeldingen om en ny" in reading.words
    assert not reading.attributes("header")


def test_a_message_of_a_kind_nobody_foresaw_is_the_general_one(app: Flask) -> None:
    reading = read(app, "message", {"kind": "something_new", "merchant": None})

    assert "Noe gikk galt hos oss" in reading.words


# --- the text message

GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_7_EXTENDED = frozenset("^{}\\[~]|€")
LINK = f"https://pay.example.no/s/{'x' * 22}".ljust(60, "y")


def invite(app: Flask, language: str, **changes: str) -> str:
    context = {"merchant": "Nordlys Trening", "product": "Månedskort Pluss", "price": "99 kr i måneden", "link": LINK}
    return render(app, "sms/invite.txt", {**context, **changes}, language)


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_the_text_message_begins_with_the_merchant_and_ends_with_the_link(app: Flask, language: str) -> None:
    text = invite(app, language)

    assert text.startswith("Nordlys Trening: Månedskort Pluss, 99 kr i måneden.")
    assert text.endswith(f" {LINK}")
    assert "Vipps" in text
    assert "\n" not in text


@pytest.mark.parametrize("language", formats.LANGUAGES)
def test_the_text_message_fits_in_two_segments_whatever_the_names(app: Flask, language: str) -> None:
    text = invite(app, language, merchant="M" * 200, product="P" * 200, price="1 234 567,89 € kuukaudessa")

    assert set(text) <= GSM_7 | GSM_7_EXTENDED
    assert len(text) + sum(letter in GSM_7_EXTENDED for letter in text) <= 2 * 153


def test_the_text_message_is_not_html(app: Flask) -> None:
    assert invite(app, "nb", merchant="Per & Kari").startswith("Per & Kari: ")


# --- the catalogues


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every text in the templates and in the code, as babel.cfg tells where to look."""
    with (ROOT / "babel.cfg").open() as config:
        methods, options = parse_mapping_cfg(config)
    found = extract_from_dir(ROOT, methods, options, directory_filter=lambda path: not Path(path).name.startswith("."))
    return {text if isinstance(text, str) else text[0] for _, _, text, _, _ in found}


def catalog(language: str) -> Catalog:
    with (TRANSLATIONS / language / "LC_MESSAGES" / "messages.po").open("rb") as source:
        return read_po(source, locale=language)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_holds_every_text_and_no_other(texts: set[str], language: str) -> None:
    assert {message.id for message in catalog(language) if message.id} == texts


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_catalogue_leaves_nothing_untranslated_or_unsure(language: str) -> None:
    doubtful = [message.id for message in catalog(language) if message.id and (not message.string or message.fuzzy)]

    assert doubtful == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_keeps_the_names_that_it_is_given(language: str) -> None:
    def names(text: str) -> list[str]:
        return sorted(set(re.findall(r"%\(\w+\)s", text)))

    for message in catalog(language):
        assert names(str(message.id)) == names(str(message.string)), message.id


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_compiled_catalogue_is_as_new_as_its_source(language: str) -> None:
    fresh = io.BytesIO()
    write_mo(fresh, catalog(language))

    assert (TRANSLATIONS / language / "LC_MESSAGES" / "messages.mo").read_bytes() == fresh.getvalue()


# --- in a browser

in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed"),
]


@contextmanager
def a_tab(document: Callable[[], str], **options: Any) -> Iterator["Page"]:
    """Open a phone's browser in which every page of page.test is `document()`, under the policy of the real pages."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'"
    )
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 844}, **options)
        tab.route("http://page.test/**", lambda route: route.fulfill(body=document(), headers=headers))
        tab.route("**/static/*", lambda route: route.fulfill(path=STATIC / route.request.url.rpartition("/")[2]))
        tab.route("**/seen", lambda route: route.fulfill(status=204))
        yield tab
        browser.close()


@pytest.mark.parametrize("name", [pytest.param("offer", marks=in_a_browser)])
def test_an_offer_that_a_browser_shows_says_so_once(app: Flask, name: str) -> None:
    with a_tab(lambda: page(app, name)) as tab:
        said: list[tuple[str, str]] = []
        tab.on("request", lambda request: said.append((request.method, request.url)))
        with tab.expect_request("**/seen"):
            tab.goto("http://page.test/s/abc")
        settle(tab)

    assert [what for what in said if what[0] != "GET"] == [("POST", "http://page.test/s/abc/seen")]


@pytest.mark.parametrize("scheme", [pytest.param(scheme, marks=in_a_browser) for scheme in ("light", "dark")])
def test_no_page_has_a_known_accessibility_fault(app: Flask, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    names = iter(PAGES)
    faults = {}

    with a_tab(lambda: page(app, next(names)), color_scheme=scheme, reduced_motion="reduce") as tab:
        tab.route("**/state", lambda route: route.abort())
        for name in PAGES:
            tab.goto("http://page.test/s/abc")
            result = Axe().run(tab, options={"runOnly": tags})
            if result.violations_count:
                faults[name] = result.generate_report()

    assert faults == {}


@pytest.mark.parametrize("language", [pytest.param(language, marks=in_a_browser) for language in ("fi", "en")])
def test_no_page_is_wider_than_the_narrowest_screen(app: Flask, language: str) -> None:
    names = iter(PAGES)
    sticks_out = """document.documentElement.scrollWidth > innerWidth
        || [...document.querySelectorAll(".card *")].some(
            (part) => part.getBoundingClientRect().right > part.closest(".card").getBoundingClientRect().right - 8)"""
    too_wide = []

    with a_tab(lambda: page(app, next(names), language)) as tab:
        tab.route("**/state", lambda route: route.abort())
        tab.set_viewport_size({"width": 320, "height": 640})
        for name in PAGES:
            tab.goto("http://page.test/s/abc")
            if tab.evaluate(sticks_out):
                too_wide.append(name)

    assert too_wide == []


def settle(tab: "Page") -> None:
    """Let the page digest the answer that came: what is asked for later comes later."""
    tab.evaluate("fetch('/static/site.css').then((answer) => answer.text())")


@pytest.mark.parametrize("name", [pytest.param("waiting", marks=in_a_browser)])
def test_the_waiting_page_outlasts_trouble_and_then_goes_on_by_itself(app: Flask, name: str) -> None:
    documents = iter([page(app, name), page(app, "outcome_active")])
    answers: list[dict[str, Any]] = [
        {"status": 500},
        {"body": "not json"},
        {"json": {"state": "waiting"}},
        {"json": {"state": "done"}},
    ]
    asked = []

    def answer(route: "Route") -> None:
        asked.append(route.request.method)
        route.fulfill(**answers.pop(0))

    with a_tab(lambda: next(documents)) as tab:
        tab.clock.install()
        tab.route("**/state", answer)
        with tab.expect_response("**/state"):
            tab.goto("http://page.test/s/abc")
        heading = tab.locator("h1").inner_text()
        while answers:
            settle(tab)
            with tab.expect_response("**/state"):
                tab.clock.run_for(1500)
        tab.locator("svg.good").wait_for()

        assert heading == "Venter på Vipps"
        assert tab.locator("h1").inner_text() == "Abonnementet er i gang"

    assert asked == ["POST"] * 4


@pytest.mark.parametrize("name", [pytest.param("waiting", marks=in_a_browser)])
def test_the_waiting_page_asks_less_often_after_a_minute_and_says_that_one_may_leave(app: Flask, name: str) -> None:
    asked = []

    def answer(route: "Route") -> None:
        asked.append(route.request.method)
        route.fulfill(json={"state": "waiting"})

    with a_tab(lambda: page(app, name)) as tab:
        tab.clock.install()
        tab.route("**/state", answer)
        with tab.expect_response("**/state"):
            tab.goto("http://page.test/s/abc")
        assert not tab.locator("[data-patience]").is_visible()

        for _ in range(15):
            settle(tab)
            with tab.expect_response("**/state"):
                tab.clock.run_for(1500)
        settle(tab)
        assert tab.locator("[data-patience]").is_visible()

        with tab.expect_response("**/state"):
            tab.clock.fast_forward(180_000)
        settle(tab)
        asked.clear()
        tab.clock.run_for(3000)
        settle(tab)
        assert not asked
        with tab.expect_response("**/state"):
            tab.clock.run_for(2000)
