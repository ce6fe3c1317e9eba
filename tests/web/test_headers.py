"""What every answer carries, whatever it answers, and what an unexpected failure tells: nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from invoice.config import Settings
from invoice.services.jobs import Services
from invoice.store.db import db
from tests.conftest import environ_for
from tests.factories import a_partner, a_wish
from tests.web.bad_bodies import basic, what_is_wrong_with

_SECRET = "SELECT secret FROM partner_secrets -- /etc/passwd +4799887766"


@pytest.fixture
def app(app_of_its_own: Flask) -> Flask:
    return app_of_its_own


def _fail() -> str:
    raise RuntimeError(_SECRET)


@pytest.fixture(autouse=True)
def _failing_routes(app: Flask) -> None:
    """Two addresses that fail unexpectedly: one for people, one for programs."""
    app.testing = False
    app.add_url_rule("/boom", "boom_page", _fail)
    app.add_url_rule("/api/boom", "boom_api", _fail)


@pytest.fixture
def answers(client: FlaskClient, services: Services) -> Iterator[dict[str, TestResponse]]:
    """One answer of every kind."""
    token = services.subscriptions.request(a_partner(), a_wish()).url.rsplit("/", 1)[1]
    asked = {
        "200 page": client.get(f"/s/{token}"),
        "303 page": client.post(f"/s/{token}"),
        "403 page": client.post(f"/s/{token}", headers={"Sec-Fetch-Site": "cross-site"}),
        "404 page": client.get("/no-such-page"),
        "404 link": client.get(f"/s/{'A' * 22}"),
        "405 page": client.put(f"/s/{token}"),
        "500 page": client.get("/boom"),
        "200 API": client.get("/api/recurring/subscriptions/10295/5/2026-11-10", headers=basic()),
        "400 API": client.post("/api/recurring/subscribe", data=b"", content_type="text/json", headers=basic()),
        "401 API": client.post("/api/recurring/subscribe"),
        "403 API": client.get("/api/recurring/subscriptions/1/5/2026-11-10", headers=basic()),
        "404 API": client.delete("/api/recurring/cancel/4711", headers=basic()),
        "404 address": client.get("/api/recurring/nothing"),
        "405 API": client.get("/api/recurring/subscribe"),
        "413 API": client.post(
            "/api/recurring/subscribe", data=b" " * 70_000, content_type="text/json", headers=basic()
        ),
        "415 API": client.post("/api/recurring/subscribe", data=b"{}", content_type="text/plain", headers=basic()),
        "500 API": client.get("/api/boom"),
        "404 hook": client.post("/hooks/vipps/nothing"),
        "200 health": client.get("/healthz"),
    }
    yield asked
    for answer in asked.values():
        answer.close()


def test_the_answers_are_of_the_kinds_that_they_stand_for(answers: dict[str, TestResponse]):
    assert {what: str(a.status_code) for what, a in answers.items()} == {what: what[:3] for what in answers}


def test_every_answer_keeps_browsers_from_what_we_did_not_ask_for(answers: dict[str, TestResponse]):
    wanted = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex, nofollow",
        "Cache-Control": "no-store",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    }

    missing = {
        f"{what}: {name}": a.headers.get(name)
        for what, a in answers.items()
        for name, value in wanted.items()
        if a.headers.getlist(name) != [value]
    }

    assert missing == {}


def test_every_answer_has_one_request_id_of_its_own(answers: dict[str, TestResponse]):
    ids = {what: a.headers.getlist("X-Request-Id") for what, a in answers.items()}

    assert {what: given for what, given in ids.items() if not re.fullmatch("[0-9a-f]{32}", "".join(given))} == {}
    assert len({given[0] for given in ids.values()}) == len(ids)


def test_every_answer_has_a_policy_that_lets_nothing_foreign_in(answers: dict[str, TestResponse]):
    policies = {a.headers.get("Content-Security-Policy", "") for a in answers.values()}

    (policy,) = policies
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert parts["base-uri"] == parts["frame-ancestors"] == "'none'"
    assert parts["form-action"].startswith("'self' https://vipps.example.com https://*.vipps.no")
    assert "unsafe" not in policy


def test_pages_hold_no_script_or_style_of_their_own(answers: dict[str, TestResponse]):
    pages = [a.text for what, a in answers.items() if a.mimetype == "text/html" and what != "303 page"]

    assert pages
    assert not [p for p in pages if re.search(r"<style|\bstyle=|<script(?![^>]*\bsrc=)|\bon[a-z]+=", p)]
    assert not [p for p in pages if re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", p)]


def test_no_answer_sets_a_cookie_or_names_its_server(answers: dict[str, TestResponse]):
    given_away = {
        what: list(a.headers) for what, a in answers.items() if {"Set-Cookie", "X-Powered-By"} & set(a.headers.keys())
    }

    assert given_away == {}


def test_programs_get_json_and_people_a_page(answers: dict[str, TestResponse]):
    kinds = {what: a.mimetype for what, a in answers.items() if not what.startswith("303")}

    programs = {what for what in kinds if what.split()[1] in ("API", "address", "hook", "health")}
    assert kinds == {what: "application/json" if what in programs else "text/html" for what in kinds}


def test_a_405_names_the_methods_that_there_are(answers: dict[str, TestResponse]):
    allowed = {what: set(a.headers.get("Allow", "").split(", ")) for what, a in answers.items() if what[:3] == "405"}

    assert allowed == {"405 page": {"GET", "HEAD", "POST", "OPTIONS"}, "405 API": {"POST", "OPTIONS"}}


def test_what_may_be_kept_is_kept(client: FlaskClient):
    with client.get("/static/site.css") as answer:
        assert answer.status_code == 200
        assert "no-store" not in answer.headers.get("Cache-Control", "")
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/healthz", "/no-such-page", "/boom", "/api/boom", "/api/recurring/subscribe"])
def test_the_callers_request_id_comes_back(client: FlaskClient, path: str):
    answer = client.get(path, headers={"X-Request-Id": "order-1.a_B"})

    assert answer.headers.getlist("X-Request-Id") == ["order-1.a_B"]


def test_a_request_without_a_proper_id_gets_one(client: FlaskClient):
    odd = ["", " ", "a b", "x" * 65, "é", "<script>", "a,b", "1\t2"]

    made = [client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] for given in odd]
    made += [client.get("/healthz").headers["X-Request-Id"]]

    assert [m for m in made if not re.fullmatch(r"[0-9a-f]{32}", m)] == []
    assert len(set(made)) == len(made)


def test_an_answer_to_a_foreign_host_has_the_headers_too(client: FlaskClient):
    answer = client.get("/healthz", environ_overrides={"HTTP_HOST": "evil.example.com"})

    assert answer.status_code == 400
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    assert "evil" not in answer.headers.get("Location", "")


@pytest.mark.parametrize(("path", "mimetype"), [("/boom", "text/html"), ("/api/boom", "application/json")])
def test_an_unexpected_failure_tells_nothing_of_what_went_wrong(client: FlaskClient, path: str, mimetype: str):
    answer = client.get(path)

    assert (answer.status_code, answer.mimetype) == (500, mimetype)
    assert what_is_wrong_with(answer) == "answered 500"
    assert not re.search(r"SELECT|secret|passwd|9988|RuntimeError|Traceback|\.py", answer.text)
    assert not re.search(r"SELECT|passwd|RuntimeError", str(answer.headers))


def test_an_unexpected_failure_is_logged_without_the_links_token(client: FlaskClient, caplog: pytest.LogCaptureFixture):
    client.get("/boom?token=a-token-of-a-link")

    assert "RuntimeError" in caplog.text
    assert "a-token-of-a-link" not in caplog.text


def test_only_https_asks_browsers_to_stay_with_https(tmp_path: Path):
    here = {
        **environ_for(f"sqlite:///{tmp_path / 'empty.sqlite3'}"),
        "INVOICE_PUBLIC_URL": "http://localhost:8000",
    }
    app = create_app(Settings.from_environ(here))

    answer = app.test_client().get("/healthz", base_url="http://localhost:8000")

    with app.app_context():
        db.engine.dispose()
    assert answer.status_code == 200
    assert "Strict-Transport-Security" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
