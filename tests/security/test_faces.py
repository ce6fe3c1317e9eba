"""What whoever is not a partner may try at the doors: guess a link, be led elsewhere, go unseen."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from invoice import names
from invoice.lifecycle import SubscriptionStatus
from invoice.services import partners
from invoice.services.jobs import Services
from invoice.store.db import db, reading
from invoice.store.models import Subscription
from tests.factories import a_partner, a_wish, newest_agreement, subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import GOOD, basic, everything
from tests.web.isolation import registered

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def of_a_token(made: str) -> int:
    return int.from_bytes(urlsafe_b64decode(made + "=="))


def of_a_guid(made: str) -> int:
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made)
    return int(made.replace("-", ""), 16)


@pytest.mark.parametrize(("make", "read"), [(names.new_token, of_a_token), (names.new_guid, of_a_guid)])
def test_a_link_has_128_bits_and_each_of_them_is_thrown_anew(make: Callable[[], str], read: Callable[[str], int]):
    made = [read(make()) for _ in range(4000)]

    assert len(set(made)) == len(made)
    assert max(made).bit_length() == 128
    # One in two, give or take: six standard deviations of 4,000 throws are 190.
    odd = [bit for bit in range(128) if not 1810 < sum(value >> bit & 1 for value in made) < 2190]
    assert odd == []


def test_nothing_but_the_very_link_opens_it(client: FlaskClient, services: Services):
    requested = services.subscriptions.request(a_partner(), a_wish())
    stored, link = subscription(requested.subscription_id), newest_agreement(requested.subscription_id).return_id
    for prefix, token in (
        ("/s/", stored.link_token),
        ("/manage/", stored.manage_token),
        ("/api/recurring/return/10295/", link),
    ):
        assert client.get(prefix + token).status_code == 200
        near = {token[:place] + sign + token[place + 1 :] for place in range(len(token)) for sign in LETTERS[::16]}
        near |= {token[1:], token[:-1], token + "A", token + "%20", token + "%00", token + "%0a", "%", "*", "_" * 22}
        near |= {token.swapcase(), token.lower(), token.upper(), token[::-1], f"{token}/", f"./{token}x"}
        near -= {token}

        # 429: so many links that open nothing came from here that no more is said of them.
        opened = {each for each in near if client.get(prefix + each).status_code not in (404, 429)}

        # A return id is a GUID; letters of it that are written otherwise are others.
        assert opened == set()
        assert client.get(prefix + token).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender", "prefetch;anonymous-client-ip"])
def test_a_browser_that_fetches_ahead_gets_nothing(client: FlaskClient, services: Services, purpose: str):
    url = services.subscriptions.request(a_partner(), a_wish()).url
    ahead = {"Sec-Purpose": purpose}

    for path in (url, f"/s/{url.rpartition('/')[2]}", f"/manage/{subscription(1).manage_token}"):
        answer = client.get(path, headers=ahead)
        assert (answer.status_code, answer.data, answer.headers.get("Location")) == (204, b"", None)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["next", "url", "redirect", "return_to", "notice", "recurring", "_format"])
def test_no_address_in_a_query_leads_anywhere(client: FlaskClient, services: Services, name: str):
    token = services.subscriptions.request(a_partner(), a_wish()).url.rsplit("/", 1)[1]
    manage = subscription(1).manage_token
    evil = ("https://evil.example", "//evil.example", "\\\\evil.example", "https:evil.example", "/\\evil.example")
    evil += ("https://vipps.no@evil.example", "javascript:alert(1)", "x\r\nLocation: //evil.example", "%E3%80%82evil")

    for value in evil:
        for ask, path in ((client.post, f"/s/{token}"), (client.get, f"/manage/{manage}"), (client.get, "/docs")):
            answer = ask(path, query_string={name: value})
            assert "evil" not in answer.headers.get("Location", "")
            assert "evil" not in answer.text


@pytest.mark.parametrize("said", ["", "http", "http, https", "httpss", "ftp", "\xe9"])
def test_plain_http_is_refused_and_never_led_to_https_unseen(client: FlaskClient, said: str):
    a_partner()
    headers = basic() | ({"X-Forwarded-Proto": said} if said else {})

    for path in ("/api/recurring/subscribe", "/hooks/vipps/x", "/s/x", "/none"):
        answer = client.post(path, json=GOOD, headers=headers, base_url="http://pay.example.com")

        assert (answer.status_code, answer.headers.get("Location")) == (403, None)
    with reading():
        assert db.session.scalars(select(Subscription.id)).all() == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("said", ["https", "HTTPS", "https, http"])
def test_what_came_by_https_to_its_proxy_is_answered(client: FlaskClient, said: str):
    a_partner()
    headers = basic() | {"X-Forwarded-Proto": said}

    answer = client.post("/api/recurring/subscribe", json=GOOD, headers=headers, base_url="http://pay.example.com")

    assert answer.status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_watches_the_process_asks_it_without_a_proxy(client: FlaskClient):
    assert client.get("/healthz", base_url="http://pay.example.com").status_code == 200
    assert client.get("/readyz", base_url="http://pay.example.com").status_code in (200, 503)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "\xe9"])
def test_no_page_of_another_site_can_use_the_credentials_that_a_browser_keeps(client: FlaskClient, site: str):
    a_partner()
    browser = basic() | {"Sec-Fetch-Site": site, "Origin": "https://evil.example"}
    before = everything()

    answers = [
        client.open(path, method=method, data="[]", content_type="text/plain", headers=browser)
        for method, path in (
            ("POST", "/api/recurring/subscribe"),
            ("DELETE", "/api/recurring/cancel/1"),
            ("PUT", "/api/events/endpoint"),
            ("POST", "/vipps-recurring-payments/charge/make"),
            ("POST", f"/s/{'A' * 22}"),
        )
    ]

    assert [answer.status_code for answer in answers] == [403] * 5
    assert everything() == before


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_other_site_may_read_an_answer(client: FlaskClient):
    a_partner()
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}

    answers = [
        client.open(path, method=method, headers=basic() | asks)
        for method in ("GET", "OPTIONS")
        for path in ("/api/events", "/openapi.json", "/healthz", "/static/site.css", "/api/recurring/cancel/1")
    ]

    assert [name for a in answers for name in a.headers.keys() if name.startswith("Access-Control")] == []  # noqa: SIM118
    for answer in answers:
        answer.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "path", ["/static/", "/static", "/.git/config", "/static/../../../.git/config", "/.env", "/app.py"]
)
def test_no_folder_is_listed_and_no_file_but_our_own_is_given(client: FlaskClient, path: str):
    assert client.get(path).status_code == 404


def test_nobody_gets_in_before_the_operator_lets_somebody_in(client: FlaskClient):
    assert partners.list_all() == []
    for name in ("1", "10295", "0", "admin", "root", ""):
        for secret in ("", "admin", "demo-secret", name):
            proof = "Basic " + b64encode(f"{name}:{secret}".encode()).decode()
            assert client.get("/api/events", headers={"Authorization": proof}).status_code == 401


def test_what_a_partner_may_not_set_is_not_taken_from_its_body(client: FlaskClient):
    a_partner()
    own = {"state": "ACTIVE", "status": "ACTIVE", "partner_id": 2, "agreement_id": "agr_1", "id": 77, "anchor_on": "x"}

    answer = client.post("/api/recurring/subscribe", json=GOOD | own | {"link_token": "A" * 22}, headers=basic())

    row = subscription(answer.json["subscriptionId"])
    assert (row.id, row.partner_id, row.status, row.anchor_on) == (1, 10295, SubscriptionStatus.PENDING, None)
    assert row.link_token != "A" * 22


def test_who_is_turned_away_is_written_down(
    client: FlaskClient, payments: FakePayments, sms: FakeSms, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "invoice")
    payments.genuine = sms.genuine = False
    a_partner()
    hook = registered("R")

    client.get("/api/events", headers=basic(secret="wrong"))
    client.get("/api/recurring/subscriptions/7/5/2026-11-21", headers=basic())
    client.post(f"/hooks/vipps/{hook}", data=json.dumps({"msisdn": "4799887766"}))
    client.post("/hooks/twilio/1", data={"To": "+4799887766"})

    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Refused: partner 10295 from 127.0.0.1: Authorization has been denied for this request.",
        "Refused: partner 10295 from 127.0.0.1: another partner's number at mobile_invoice.list_subscriptions.",
        "Refused: somebody from 127.0.0.1: a webhook of account 23456R that is not genuine at hooks.vipps.",
        "Refused: somebody from 127.0.0.1: a receipt that is not genuine at hooks.twilio.",
    ]
    assert hook not in caplog.text
