"""A person on a phone, in a real browser: from the text to "active", and from the app to "stopped".

Needs Chromium (Debian: `apt-get install chromium`). Skipped with that reason where there is none, never in CI.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from tests.journeys.demo import Demo, disagreements
from tests.journeys.test_story import MONTHLY

pytestmark = [pytest.mark.journey, pytest.mark.browser]

PERSON = "+4791234567"
# A small phone, as of the last years.
SCREEN = {"width": 390, "height": 844}
# Without these Chromium looks for its maker's hosts at every start.
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@pytest.fixture
def screen() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        assert not os.environ.get("CI"), "CI must bring Chromium."
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        context = browser.new_context(viewport=SCREEN, locale="nb-NO", reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(30_000)
        yield page
        browser.close()


@pytest.fixture
def shot(request: pytest.FixtureRequest, screen: Page):
    """Check a page for what keeps people out, and keep its picture where `--screenshots DIR` says."""
    folder = request.config.getoption("--screenshots")
    taken: list[str] = []

    def take(name: str) -> None:
        taken.append(name)
        found = Axe().run(screen, options=WCAG)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        if folder:
            screen.screenshot(path=Path(folder) / f"{len(taken)}-{name}.png", full_page=False)

    return take


def test_a_person_subscribes_and_stops(demo: Demo, screen: Page, shot):
    demo.subscribe(MONTHLY).raise_for_status()
    demo.advance(seconds=5)

    # The text on the phone, and its link.
    screen.goto(f"{demo.simulator}/sim/phone/{PERSON.removeprefix('+')}")
    shot("text")
    screen.locator("a[href*='/s/']").click()

    # The offer: who asks, what it costs, one button.
    expect(screen.get_by_role("heading", name="Treningssenter")).to_be_visible()
    button = screen.get_by_role("button")
    expect(button).to_have_count(1)
    expect(button).to_have_text(re.compile("betal 49 kr nå, deretter 299 kr i måneden"))
    shot("offer")
    button.click()

    # Vipps, as the stand-in shows it.
    expect(screen.locator("button[value=approve]")).to_be_visible()
    shot("vipps")
    screen.locator("button[value=approve]").click()

    # Back, and active; the waiting page finds out by itself.
    screen.wait_for_url(re.compile(r"/api/recurring/return/10295/"))
    manage = screen.get_by_role("link", name=re.compile("abonnement", re.IGNORECASE))
    expect(manage).to_be_visible()
    shot("active")
    manage.click()
    expect(screen.get_by_text("Treningssenter").first).to_be_visible()
    shot("manage")

    # Two months later.
    demo.advance(months=2)
    screen.reload()
    expect(screen.get_by_text("299 kr").first).to_be_visible()
    shot("history")

    # Out as easily as in.
    screen.get_by_role("link", name=re.compile("Stopp")).click()
    shot("stop")
    screen.get_by_role("button", name=re.compile("Stopp|Ja")).click()
    demo.advance(minutes=5)
    screen.reload()
    shot("stopped")

    assert demo.listed()[0]["chargeStatus"] == "Cancelled"
    assert disagreements(demo) == []


def test_a_person_who_says_no_may_come_back(demo: Demo, screen: Page, shot):
    demo.subscribe(MONTHLY).raise_for_status()
    demo.advance(seconds=5)
    link = demo.texts(PERSON)[0]["links"][0]

    screen.goto(link)
    screen.get_by_role("button").click()
    screen.locator("button[value=reject]").click()
    screen.wait_for_url(re.compile(r"/api/recurring/return/10295/"))
    again = screen.locator("main a").first
    expect(again).to_be_visible()
    shot("declined")
    again.click()
    screen.get_by_role("button").click()
    screen.locator("button[value=approve]").click()
    screen.wait_for_url(re.compile(r"/api/recurring/return/10295/"))
    expect(screen.get_by_role("link", name=re.compile("abonnement", re.IGNORECASE))).to_be_visible()

    assert demo.listed()[0]["chargeStatus"] == "Active"


def test_the_app_leads_to_the_manage_page(demo: Demo, screen: Page):
    demo.subscribe(MONTHLY).raise_for_status()
    demo.advance(seconds=5)
    screen.goto(demo.texts(PERSON)[0]["links"][0])
    screen.get_by_role("button").click()
    screen.locator("button[value=approve]").click()
    screen.wait_for_url(re.compile(r"/api/recurring/return/10295/"))
    demo.advance(seconds=5)

    app = screen.context.new_page()  # the page that waits goes on by itself
    app.goto(f"{demo.simulator}/sim/phone/{PERSON.removeprefix('+')}#vipps")
    app.get_by_role("link", name=re.compile("Administrer")).click()

    expect(app).to_have_url(re.compile(r"/manage/[A-Za-z0-9_-]{22}\?recurring=1$"))
