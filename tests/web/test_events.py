"""/api/events: what partners pull, register and have sent again, as HTTP shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from invoice.services.jobs import Jobs, Services
from tests.conftest import StandingClock, environ_for, opened
from tests.factories import a_partner, settle
from tests.fakes import FakePayments, FakeSms
from tests.services.test_deliveries import a_subscription, statuses, tell, timeline_ids
from tests.web.bad_bodies import basic

ENDPOINT = "/api/events/endpoint"
URL = "https://www.example.com/events?key=1"
_NAMES = {"www.example.com": ["93.184.216.34"], "inside.example.com": ["93.184.216.34", "10.0.0.7"]}


def resolve(host: str, port: int) -> list[str]:
    return _NAMES.get(host, [])


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    pipe = PartnerPipe(Guard(resolve=resolve))
    with opened(environ_for(database_url), payments=payments, sms=sms, partners=pipe) as app:
        yield app


@pytest.fixture(autouse=True)
def _partner(app: Flask) -> None:
    a_partner()


def put(client: FlaskClient, url: Any = URL) -> TestResponse:
    return client.put(ENDPOINT, json={"url": url}, headers=basic())


def test_an_endpoint_is_registered_and_its_secret_shown_once(client: FlaskClient):
    made, again, shown = put(client), put(client), client.get(ENDPOINT, headers=basic())

    assert (made.status_code, again.status_code, shown.status_code) == (201, 200, 200)
    assert made.json["secret"].startswith("whsec_")
    assert "secret" not in again.json
    assert "whsec" not in shown.text
    assert shown.json == {
        "url": URL,
        "createdUtc": "2026-11-10T11:00:00.000Z",
        "previousSecretUntilUtc": None,
        "failingSinceUtc": None,
        "pausedUntilUtc": None,
        "waiting": 0,
        "parked": 0,
    }


def test_an_endpoint_says_how_much_waits(client: FlaskClient, services: Services):
    put(client)
    tell(a_subscription(services))

    assert client.get(ENDPOINT, headers=basic()).json["waiting"] == 2


def test_a_secret_is_rotated_with_a_day_of_overlap(client: FlaskClient):
    first = put(client).json["secret"]

    rotated = client.post(f"{ENDPOINT}/rotate", headers=basic())

    assert rotated.status_code == 200
    assert rotated.json["secret"] != first
    assert rotated.json["previousSecretUntilUtc"] == "2026-11-11T11:00:00.000Z"
    assert client.get(ENDPOINT, headers=basic()).json["previousSecretUntilUtc"] == "2026-11-11T11:00:00.000Z"


def test_an_endpoint_is_removed_with_what_waits_for_it(client: FlaskClient, services: Services):
    put(client)
    number = a_subscription(services)

    removed = client.delete(ENDPOINT, headers=basic())

    assert (removed.status_code, removed.data) == (204, b"")
    assert statuses(number) == ["VOID"]
    for gone in (client.get(ENDPOINT, headers=basic()), client.delete(ENDPOINT, headers=basic())):
        assert gone.status_code == 404
    assert client.post(f"{ENDPOINT}/rotate", headers=basic()).status_code == 404
    assert put(client).status_code == 201


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        5,
        ["https://www.example.com/"],
        "http://www.example.com/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://localhost/",
        "https://user:pw@www.example.com/",
        "https://www.example.com/#a",
        "https://www.example.com:22/",
        "https://www.example.com/{{amount}}",
        "https://inside.example.com/",
        "https://unknown.example.com/",
        "https://www.example.com/" + "a" * 2000,
    ],
)
def test_an_endpoint_that_cannot_be_called_is_refused_by_name(client: FlaskClient, url: Any):
    answer = put(client, url)

    assert answer.status_code == 400
    (said,) = answer.json["modelState"]["request.Url"]
    assert said.startswith("url must ")
    assert "10.0.0.7" not in answer.text
    assert client.get(ENDPOINT, headers=basic()).status_code == 404


@pytest.mark.parametrize("field", ["statusCallbackUrl", "confirmSubscriptionCallbackUrl", "smsStatusCallbackUrl"])
@pytest.mark.parametrize("url", ["https://169.254.169.254/", "https://0x7f.1/{{a}}", "http://localhost/", "https://a/"])
def test_a_callback_that_cannot_be_called_is_refused_at_the_request(client: FlaskClient, field: str, url: str):
    wish = {
        "partnerId": 10295,
        "msisdn": "+4712457890",
        "currency": "NOK",
        "amount": "12.50",
        "paymentProvider": "Vipps",
        "description": "Avisen",
        "basis": 1,
        "name": "Avisen",
    }

    refused = client.post("/api/recurring/subscribe", json={**wish, field: url}, headers=basic())
    taken = client.post(
        "/api/recurring/subscribe", json={**wish, field: "https://u:p@www.example.com/?a={{status}}"}, headers=basic()
    )

    assert refused.status_code == 400
    assert list(refused.json["modelState"]) == [f"request.{field[0].upper()}{field[1:]}"]
    assert taken.status_code == 200


def test_events_are_pulled_page_by_page(client: FlaskClient, services: Services, jobs: Jobs):
    number = a_subscription(services)
    tell(number, "consent.declined", "consent.expired")
    settle(jobs)

    first = client.get("/api/events?limit=2", headers=basic()).json
    second = client.get(f"/api/events?limit=2&after={first['nextAfter']}", headers=basic()).json

    assert [event["id"] for event in first["events"] + second["events"]] == timeline_ids(number)
    assert (first["hasMore"], second["hasMore"]) == (True, False)
    assert second["nextAfter"] == timeline_ids(number)[-1]
    assert first["events"][0] == {
        "id": timeline_ids(number)[0],
        "type": "subscription.requested",
        "occurredAt": "2026-11-10T11:00:00.000Z",
        "sequence": 1,
        "subscriptionId": number,
        "requestId": None,
        "data": {"sendSMS": False},
    }


def test_before_anything_has_happened_there_is_nothing_to_pull(client: FlaskClient):
    assert client.get("/api/events", headers=basic()).json == {"events": [], "nextAfter": None, "hasMore": False}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1.5",
        "limit=",
        "limit=٣",
        "limit=99999999999999999999",
        "limit=1&limit=2",
        "after=",
        "after=1",
        "after=evt_",
        "after=evt_" + "g" * 32,
        "after=evt_" + "0" * 32,
        "after=%00",
        "after=%ff",
        "after=evt_" + "0" * 32 + "&after=evt_" + "0" * 32,
    ],
)
def test_a_wrong_page_is_refused(client: FlaskClient, query: str):
    assert client.get(f"/api/events?{query}", headers=basic()).status_code == 400


def test_one_event_is_shown_with_how_it_fared(client: FlaskClient, services: Services):
    put(client)
    (event,) = timeline_ids(a_subscription(services))

    shown = client.get(f"/api/events/{event}", headers=basic())

    assert shown.json["id"] == event
    assert shown.json["deliveries"] == [
        {
            "channel": "events",
            "status": "ready",
            "tries": 0,
            "nextTryUtc": "2026-11-10T11:00:00.000Z",
            "lastFault": None,
            "settledUtc": None,
        }
    ]


def test_events_are_sent_again_one_by_one_and_by_time(client: FlaskClient, services: Services):
    number = a_subscription(services)
    put(client)

    one = client.post(f"/api/events/{timeline_ids(number)[0]}/replay", headers=basic())
    again = client.post(f"/api/events/{timeline_ids(number)[0]}/replay", headers=basic())
    span = {"from": "2026-11-10T12:00:00+01:00", "to": "2026-11-10T11:00:00.001Z"}
    many = client.post("/api/events/replay", json=span, headers=basic())

    assert (one.status_code, one.json) == (202, {"queued": 1})
    assert again.status_code == 409
    assert (many.status_code, many.json) == (202, {"queued": 0})
    assert statuses(number) == ["READY"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": "2026-11-10T00:00:00Z"},
        {"from": "2026-11-10T00:00:00Z", "to": "2026-11-10T00:00:00Z"},
        {"from": "2026-11-10T00:00:00Z", "to": "2026-11-09T00:00:00Z"},
        {"from": "2026-11-10T00:00:00", "to": "2026-11-11T00:00:00Z"},
        {"from": "2026-11-10", "to": "2026-11-11"},
        {"from": "2026-13-10T00:00:00Z", "to": "2026-11-11T00:00:00Z"},
        {"from": "0001-01-01T00:00:00+14:00", "to": "2026-11-11T00:00:00Z"},
        {"from": "2026-11-10T00:00:00Z", "to": "9999-12-31T23:59:59-14:00"},
        {"from": 5, "to": "2026-11-11T00:00:00Z"},
        {"from": ["2026-11-10T00:00:00Z"], "to": None},
        {"from": "2026-11-10T00:00:00+99:99", "to": "2026-11-11T00:00:00Z"},
    ],
)
def test_a_span_that_is_none_is_refused(client: FlaskClient, body: dict[str, Any]):
    assert client.post("/api/events/replay", json=body, headers=basic()).status_code == 400


def test_another_partners_event_is_like_one_that_there_is_not(client: FlaskClient, services: Services):
    a_partner(20000)
    (foreign,) = timeline_ids(a_subscription(services, 20000))
    unknown = "evt_" + "0" * 32

    for method, path in (("GET", "/api/events/{}"), ("POST", "/api/events/{}/replay"), ("GET", "/api/events?after={}")):
        answers = [client.open(path.format(event), method=method, headers=basic()) for event in (foreign, unknown)]
        assert {answer.status_code for answer in answers} <= {400, 404}
        assert answers[0].data == answers[1].data
    assert json.loads(client.get("/api/events", headers=basic()).data)["events"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/events"),
        ("GET", "/api/events/evt_1"),
        ("POST", "/api/events/evt_1/replay"),
        ("POST", "/api/events/replay"),
        ("PUT", ENDPOINT),
        ("GET", ENDPOINT),
        ("DELETE", ENDPOINT),
        ("POST", f"{ENDPOINT}/rotate"),
    ],
)
def test_nobody_without_credentials_gets_in(client: FlaskClient, method: str, path: str):
    assert client.open(path, method=method, json={}).status_code == 401
