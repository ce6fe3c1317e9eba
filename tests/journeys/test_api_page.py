"""The page of the API in a real browser: readable on a phone and on a desk, for everybody, and from this host alone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.journeys.demo import Demo
from tests.journeys.test_person import WCAG, screen  # noqa: F401 - the fixture

pytestmark = [pytest.mark.journey, pytest.mark.browser]


def test_the_page_of_the_api_is_whole_on_every_screen_and_fetches_nothing_from_elsewhere(
    demo: Demo,
    screen: Page,  # noqa: F811 - the fixture
):
    fetched: list[str] = []
    complaints: list[str] = []
    screen.on("request", lambda request: fetched.append(request.url))
    screen.on("console", lambda message: complaints.append(message.text))
    problems = []

    for width, scheme in ((390, "light"), (1280, "dark")):
        screen.set_viewport_size({"width": width, "height": 844})
        screen.emulate_media(color_scheme=scheme)
        screen.goto(f"{demo.service}/docs")
        expect(screen.get_by_role("heading", name="POST /api/recurring/subscribe")).to_be_visible()
        for closed in screen.locator("summary").all()[:5]:
            closed.click()
        found = Axe().run(screen, options=WCAG)
        problems += [found.generate_report()] if found.violations_count else []
        overflow = screen.evaluate("document.documentElement.scrollWidth - innerWidth")
        problems += [f"{width}: {overflow} too wide"] if overflow > 0 else []

    assert problems == []
    assert complaints == []  # the browser's, about what the policy forbids
    assert [url for url in fetched if not url.startswith((demo.service, "data:"))] == []
    expect(screen.locator("html")).to_have_attribute("lang", "en")
