"""Who may what: every route of the application, asked with every proof there is; and nobody sees what is another's.

The rows are held against the application's own map: a route without a row fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from invoice.lifecycle import SubscriptionStatus
from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from invoice.services import partners
from invoice.services.jobs import Services, beat
from tests.conftest import StandingClock, environ_for, opened
from tests.factories import subscription
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import GOOD, basic, everything, what_is_wrong_with
from tests.web.isolation import (
    KINDS,
    NOBODY,
    UNKNOWN,
    Secrets,
    World,
    a_world,
    bring_keys,
    everything_of,
    filled,
    seen_in,
    send,
    settle_deliveries,
    texts,
    told,
)

A, B = 10295, 20000
API, MODULE = "/api/recurring", "/vipps-recurring-payments"
DENIED = {"message": "Authorization has been denied for this request."}
INVALID = {"message": "Invalid HMAC"}
STRANGER = {"message": "This route can only be accessed by authenticated users."}
TEXTS = {"basic": DENIED, "bearer": DENIED, "hmac": INVALID, "hmac-sha256": INVALID}


@dataclass(frozen=True)
class Row:
    """One request that really exists for the first partner, and its status for each of those who ask.

    none: without credentials.  wrong: an unknown partner, a wrong proof, and the right one of a suspended partner.
    other: the second partner.  own: the first one; what succeeded is told as `again` when it is asked once more, by
    the other proofs.  by_kind: what only some proofs of its own are good for.
    """

    route: str
    target: str
    body: Any = None
    none: int = 401
    wrong: int = 401
    other: int = 404
    own: int = 200
    again: int | None = None
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.route.partition(" ")[0]

    @property
    def is_public(self) -> bool:
        return self.none not in (401, 403)

    @property
    def names(self) -> list[str]:
        """The ids that stand in it."""
        parts = [part for text in (self.target, *texts(self.body)) for part in Formatter().parse(text)]
        return sorted({str(name) for _, name, _, _ in parts if name} - {"partner"})

    def expected(self, first: int) -> dict[str, int]:
        """Return what each proof gets, one after the other."""
        later = self.again if self.again is not None and first < 400 else first
        return dict(zip(KINDS, [first, *[later] * (len(KINDS) - 1)], strict=True))

    def fill(self, ids: Mapping[str, Any]) -> tuple[str, bytes]:
        body = b"" if self.body is None else json.dumps(filled(self.body, ids)).encode()
        return self.target.format(**ids), body


def module(path: str, body: Any, **more: Any) -> Row:
    return Row(f"POST {MODULE}{path}", f"{MODULE}{path}", body, wrong=403, **{"other": 200, **more})


def page(route: str, target: str, status: int = 200, **more: Any) -> Row:
    """A page: its link opens it, whoever holds that, and no credentials matter."""
    return Row(route, target, **{"none": status, "wrong": status, "other": status, "own": status, **more})


ITEM = {"agreement_id": "{agreement}", "charge_id": "{charge}", "price": "100", "description": "x"}
ROWS = [
    # Mobile Invoice
    Row(
        f"POST {API}/subscribe",
        f"{API}/subscribe",
        {**GOOD, "orderNumber": "order-new", "partnerId": "{partner}"},
        other=403,
    ),
    Row(
        f"GET {API}/subscriptions/<partner_id>/<payment_type_id>/<since>",
        f"{API}/subscriptions/{{partner}}/5/2026-11-10?after=0",
        other=403,
    ),
    Row(f"DELETE {API}/cancel/<identifier>", f"{API}/cancel/{{subscription}}", again=400),
    Row(f"DELETE {API}/cancel/<identifier>", f"{API}/cancel/{{member}}", again=400),
    Row(f"DELETE {API}/cancel/<identifier>", f"{API}/cancel/{{waiting}}", again=400),
    Row(f"POST {API}/<identifier>/resend", f"{API}/{{waiting}}/resend", {}, again=409),
    Row(f"POST {API}/<identifier>/resend", f"{API}/{{member}}/resend", {}, own=409),
    # Transactions
    Row("GET /api/transactions", "/api/transactions?partnerId={partner}&referenceId={charge}", other=403),
    Row(
        "GET /api/transactions", "/api/transactions?partnerId={partner}&referenceId=order-{member}", other=403, own=404
    ),
    Row(
        "GET /api/transactions/search/<partner_id>",
        "/api/transactions/search/{partner}?fromDate=2026-11-10&after={transaction}",
        other=403,
    ),
    Row(
        "GET /api/transactions/search/<partner_id>/<recurring_payment_id>",
        "/api/transactions/search/{partner}/{subscription}?after={transaction}",
        other=403,
    ),
    Row("GET /api/transactions/<partner_id>/<transaction_id>", "/api/transactions/{partner}/{transaction}", other=403),
    Row(
        "PUT /api/transactions/<partner_id>/<transaction_id>/capture",
        "/api/transactions/{partner}/{transaction}/capture",
        other=403,
        again=409,
    ),
    # Events
    Row("GET /api/events", "/api/events?after={event}", other=400),
    Row("GET /api/events/<event_id>", "/api/events/{event}"),
    Row("POST /api/events/<event_id>/replay", "/api/events/{event}/replay", own=202, again=409),
    Row(
        "POST /api/events/replay",
        "/api/events/replay",
        {"from": "2026-11-10T00:00:00Z", "to": "2026-11-11T00:00:00Z"},
        other=202,
        own=202,
    ),
    Row("PUT /api/events/endpoint", "/api/events/endpoint", {"url": "https://www.example.com/new"}, other=200),
    Row("GET /api/events/endpoint", "/api/events/endpoint", other=200),
    Row("DELETE /api/events/endpoint", "/api/events/endpoint", other=204, own=204, again=404),
    Row("POST /api/events/endpoint/rotate", "/api/events/endpoint/rotate", other=200),
    # Vipps Recurring Payments
    *[
        Row(
            f"{method} {MODULE}/test/auth",
            f"{MODULE}/test/auth",
            wrong=403,
            other=403,
            own=403,
            by_kind={"bearer": 200},
        )
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    ],
    module("/agreement/get", "{agreement}"),
    module("/agreement/cancel", ["{agreement}"]),
    module("/charge/make", [{**ITEM, "charge_id": "{named}"}]),
    module("/charge/make", [ITEM]),
    module("/charge/get", [{"agreement_id": "{agreement}"}]),
    module("/charge/cancel", [ITEM]),
    module("/charge/refund", [ITEM]),
    # Pages
    page("GET /s/<token>", "/s/{link}"),
    page("POST /s/<token>", "/s/{link}", 303),
    page("POST /s/<token>/seen", "/s/{link}/seen", 204),
    page(f"GET {API}/process/<partner_id>/<token>", f"{API}/process/{{partner}}/{{link}}", 302),
    page(f"GET {API}/return/<partner_id>/<return_id>", f"{API}/return/{{partner}}/{{return}}"),
    page(f"POST {API}/return/<partner_id>/<return_id>", f"{API}/return/{{partner}}/{{return}}"),
    page("GET /manage/<token>", "/manage/{manage}"),
    page("GET /manage/<token>/stop", "/manage/{manage}/stop"),
    page("POST /manage/<token>/stop", "/manage/{manage}/stop", 303),
    # Hooks: a partner's credentials are no provider's signature
    Row("POST /hooks/vipps/<registration>", "/hooks/vipps/{registration}", {}, other=401, own=401),
    Row("POST /hooks/twilio/<message_id>", "/hooks/twilio/{message}", none=403, wrong=403, other=403, own=403),
    # The service itself
    page("GET /healthz", "/healthz"),
    page("GET /readyz", "/readyz"),
    page("GET /static/<filename>", "/static/site.css"),
    page("GET /openapi.json", "/openapi.json"),
    page("GET /docs", "/docs"),
]
# A suspended partner's links lead nobody to Vipps any more: the same request is another answer then.
_CONVERTER = re.compile("<[^:<>]*:")
SUSPENDED = {f"{API}/process/{{partner}}/{{link}}": 200}


def routes(app: Flask) -> set[str]:
    """Return every method and address there is; those that Flask answers by itself follow from them."""
    return {
        f"{method} {_CONVERTER.sub('<', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method != "HEAD" and (method != "OPTIONS" or rule.provide_automatic_options is False)
    }


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    pipe = PartnerPipe(Guard(resolve=lambda *_: ["93.184.216.34"]))
    with opened(environ_for(database_url), payments=payments, sms=sms, partners=pipe) as app:
        yield app


@pytest.fixture
def worlds(services: Services, payments: FakePayments, sms: FakeSms, app: Flask) -> tuple[World, World]:
    """Two partners that both have everything; nothing is signed by a provider."""
    found = a_world(services, payments, A, "1"), a_world(services, payments, B, "2")
    for world in found:
        settle_deliveries(world.secrets.number)
    bring_keys(found[0])
    beat()
    app.testing = payments.genuine = sms.genuine = False
    return found


def test_every_route_has_a_row(app: Flask):
    rows = {row.route for row in ROWS}

    assert routes(app) - rows == set(), "routes without a row"
    assert rows - routes(app) == set(), "rows without a route"


def test_a_new_route_would_be_missed(app_of_its_own: Flask):
    app_of_its_own.add_url_rule("/api/partners/<int(max=5):number>/keys", "new", str, methods=["DELETE"])

    assert routes(app_of_its_own) - {row.route for row in ROWS} == {"DELETE /api/partners/<number>/keys"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.target}")
def test_each_is_answered_as_the_row_says(
    row: Row, client: FlaskClient, worlds: tuple[World, World], time: StandingClock
):
    first, second = worlds
    target, body = row.fill(first.ids)

    def ask(secrets: Secrets | None, kind: str = "") -> TestResponse:
        proof = secrets.proof(kind, time, row.method, target, body) if secrets else None
        answer = send(client, row.method, target, body, proof)
        assert what_is_wrong_with(answer) == ""
        return answer

    def by_each_proof(secrets: Secrets) -> tuple[dict[str, int], str]:
        answers = {kind: ask(secrets, kind) for kind in KINDS}
        return {kind: a.status_code for kind, a in answers.items()}, answers["basic"].text

    before = everything()
    assert ask(None).status_code == row.none
    for kind in KINDS:
        unknown, wrong = ask(NOBODY, kind), ask(first.secrets.wrong(), kind)
        partners.suspend(A)
        suspended = ask(first.secrets, kind)
        partners.resume(A)
        assert (unknown.status_code, wrong.status_code) == (row.wrong, row.wrong)
        assert suspended.status_code == SUSPENDED.get(row.target, row.wrong)
        assert row.is_public or told(unknown, {}) == told(wrong, {}) == told(suspended, {})
    assert row.is_public or everything() == before, "who is turned away has changed something"

    before = everything_of(A)
    statuses, others_text = by_each_proof(second.secrets)
    assert statuses == row.expected(row.other)
    assert row.is_public or everything_of(A) == before, "another partner has changed something"
    assert row.is_public or seen_in(others_text, first.ids, but=target + body.decode()) == []

    statuses, text = by_each_proof(first.secrets)
    assert statuses == row.expected(row.own) | row.by_kind
    # The second contract's answers are 200 whatever came of it.
    if row.route.startswith(f"POST {MODULE}") and row.names:
        assert ("does not exist" in others_text, "does not exist" in text) == (True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_turned_away_reads_the_documented_texts(client: FlaskClient, time: StandingClock, app: Flask, kind: str):
    contracts = {
        "/api/events": (DENIED, TEXTS[kind]),
        f"{MODULE}/charge/get": ({"message": "No authentication credentials provided."}, STRANGER),
    }

    for target, (nobody, stranger) in contracts.items():
        method = "GET" if target == "/api/events" else "POST"
        proof = NOBODY.proof(kind, time, method, target, b"")
        assert send(client, method, target, b"", None).json == nobody
        assert send(client, method, target, b"", proof).json == stranger


def test_names_that_another_partner_has_taken_are_free(client: FlaskClient, worlds: tuple[World, World]):
    ours = {**GOOD, "partnerId": B, "orderNumber": "order-1", "memberId": "member-1"}
    headers = {"Idempotency-Key": "the-first-partners-own"}
    first, second = (basic(str(number)) | headers for number in (A, B))

    kept = client.post(f"{API}/subscribe", json={**GOOD, "orderNumber": "order-5"}, headers=first)
    made = client.post(f"{API}/subscribe", json=ours, headers=second)

    assert (kept.status_code, made.status_code) == (200, 200)
    assert "Idempotent-Replayed" not in made.headers
    assert made.json["subscriptionId"] not in (kept.json["subscriptionId"], worlds[0].ids["subscription"])
    assert client.delete(f"{API}/cancel/member-1", headers=basic(str(B))).status_code == 200
    assert subscription(worlds[0].ids["subscription"]).status == SubscriptionStatus.ACTIVE


def _sets(row: Row) -> list[tuple[str, ...]]:
    """Return the sets of ids in a row that may be another's: every single one, and all together."""
    return sorted({*((name,) for name in row.names), tuple(row.names)})


_HOLDING_IDS = [
    row
    for row in ROWS
    if row.names and "/hooks/vipps" not in row.target and (not row.is_public or "{partner}" in row.target)
]


@pytest.mark.parametrize("row", _HOLDING_IDS, ids=lambda row: f"{row.method} {row.target}")
def test_what_is_another_partners_looks_like_what_is_nobodys(
    row: Row, client: FlaskClient, worlds: tuple[World, World], time: StandingClock
):
    first, second = worlds
    differences = {}

    for names in _sets(row):
        seen = []
        for ids in (first.ids, UNKNOWN):
            said = {name: ids[name] for name in names}
            target, body = row.fill({**second.ids, **said})
            proof = second.secrets.proof("basic", time, row.method, target, body)
            answer = send(client, row.method, target, body, proof)
            assert what_is_wrong_with(answer) == ""
            assert seen_in(answer.text, first.ids, but=target + body.decode()) == []
            seen.append(told(answer, said))
        if seen[0] != seen[1]:
            differences[names] = seen

    assert differences == {}
