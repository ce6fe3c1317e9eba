"""The description of the service as tests use it: its operations, its shapes sealed, and a world for its examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from invoice.providers.guard import Guard
from invoice.providers.outbound import PartnerPipe
from invoice.services.jobs import Jobs, Services, beat
from invoice.web.openapi import samples
from invoice.web.openapi.document import TABLE, document
from invoice.web.openapi.parts import Example
from tests.conftest import StandingClock, environ_for, opened
from tests.factories import a_partner, a_wish, accept, charges, newest_agreement, settle, subscription, the_partner
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import DOCUMENTED, basic

SERVER = "https://pay.example.com"
METHODS = ("get", "post", "put", "patch", "delete", "options")


@dataclass(frozen=True)
class Described:
    """One operation of the document."""

    path: str
    method: str
    operation: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.operation["operationId"])

    @property
    def body(self) -> dict[str, Any] | None:
        """The schema of what is read as JSON, None where nothing is."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")

    def examples(self) -> dict[str, Any]:
        """Name -> body, of the examples."""
        content = next(iter(self.operation["requestBody"]["content"].values()))
        return {name: each["value"] for name, each in content["examples"].items()}


def operations(found: dict[str, Any]) -> list[Described]:
    """Return every operation of a document."""
    return [
        Described(path, method, item[method])
        for path, item in found["paths"].items()
        for method in METHODS
        if method in item
    ]


def sealed(found: dict[str, Any]) -> dict[str, Any]:
    """Return the document with every answer's object closed: what it does not know must not be there."""
    closed = deepcopy(found)
    requests = {"SubscriptionRequest", "ResendRequest", "TimeSpan", "EndpointRequest", "Webhook", "Receipt"}
    for name, schema in closed["components"]["schemas"].items():
        if name not in requests:
            _seal(schema)
    return closed


def _seal(node: Any) -> None:
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _seal(each)
    if isinstance(node, dict) and isinstance(node.get("properties"), dict):
        node.setdefault("additionalProperties", False)


def faults(found: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """Return what a schema of the document has against a value."""
    validator = Draft202012Validator({**schema, "components": found["components"]})
    return [error.message for error in validator.iter_errors(value)]


def undocumented(found: dict[str, Any], at: Described, answer: TestResponse) -> list[str]:
    """Return what an answer has that the (sealed) document does not know."""
    responses = at.operation["responses"]
    known = responses.get(str(answer.status_code), responses.get(f"{answer.status_code // 100}XX"))
    if known is None:
        return [f"status {answer.status_code}"]
    wrong = [f"no header {name}" for name in ("X-Request-Id",) if name not in answer.headers]
    content = known.get("content", {})
    if not content:
        return wrong + ([f"a body: {answer.text[:100]}"] if answer.data else [])
    if answer.mimetype not in content:
        return [*wrong, f"media type {answer.mimetype}"]
    if answer.mimetype == "application/json":
        wrong += faults(found, content["application/json"]["schema"], answer.get_json())
    return wrong


# Examples


def examples() -> Iterator[tuple[str, str, Example]]:
    """Yield (endpoint, name, example)."""
    for endpoint, row in TABLE.items():
        for name, example in row.examples.items():
            yield endpoint, name, example


class World:
    """What the examples speak of: subscription 1 is active, 2 waits for its person, 3 has money set aside."""

    def __init__(self, app: Flask, client: FlaskClient, services: Services, payments: FakePayments, jobs: Jobs) -> None:
        self.client, self.payments = client, payments
        self.document = document(app, SERVER)
        a_partner()
        said = client.post(
            "/api/recurring/subscribe",
            data=DOCUMENTED,
            content_type="application/json",
            headers={**basic(), "X-Request-Id": "order-12346"},
        )
        assert said.status_code == 200, said.text
        services.subscriptions.request(the_partner(), a_wish(member_id="member-2", send_sms=True))
        services.subscriptions.request(the_partner(), a_wish())
        settle(jobs)
        accept(services, payments, 1)
        payments.agreements[payments.newest()].draft["initial"]["is_reserved"] = True
        accept(services, payments, 3)
        settle(jobs)
        beat()
        self.real = self._drawn()

    @cached_property
    def sealed(self) -> dict[str, Any]:
        """The document with every answer's object closed."""
        return sealed(self.document)

    def _drawn(self) -> dict[str, str]:
        """Return sample -> what was really drawn."""
        [paid, *_], [aside, *_] = charges(1), charges(3)
        first = self.client.get("/api/events?limit=1", headers=basic()).get_json()["events"][0]
        transactions = {
            each["referenceId"]: each["transactionId"]
            for number in (1, 3)
            for each in self.client.get(f"/api/transactions/search/10295/{number}", headers=basic()).get_json()[
                "transactions"
            ]
        }
        return {
            samples.LINK: subscription(2).link_token,
            samples.RETURN: newest_agreement(2).return_id,
            samples.MANAGE: subscription(1).manage_token,
            samples.AGREEMENT: str(newest_agreement(1).provider_agreement_id),
            samples.REFERENCE: paid.name,
            samples.TRANSACTION: transactions[paid.name],
            samples.RESERVED: transactions[aside.name],
            samples.EVENT: first["id"],
        }

    def send(self, at: Described, example: Example) -> TestResponse:
        """Send an example with what was really drawn in the place of the samples."""
        path, query = at.path, {}
        for parameter in at.operation["parameters"]:
            if (value := example.given.get(parameter["name"])) is None:
                continue
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(self._put_in(str(value))))
            else:
                query[parameter["name"]] = self._put_in(str(value))
        headers = basic() if at.operation["security"] else {}
        raw: Any = None
        if example.body is not None:
            media_type = next(iter(at.operation["requestBody"]["content"]))
            raw = urlencode(example.body) if "form" in media_type else self._put_in(json.dumps(example.body))
            headers = {**headers, "Content-Type": media_type}
        return self.client.open(
            path, method=at.method.upper(), query_string=query, data=raw, headers=headers, buffered=True
        )

    def _put_in(self, text: str) -> str:
        for sample, real in self.real.items():
            text = text.replace(sample, real)
        return text

    def told(self, answer: TestResponse) -> Any:
        """Return an answer with the samples in the place of what was really drawn."""
        text = answer.get_data(as_text=True)
        for sample, real in self.real.items():
            text = text.replace(real, sample)
        text = re.sub(r"(/process/10295/)[A-Za-z0-9_-]{22}", rf"\g<1>{samples.LINK}", text)
        text = re.sub(r"whsec_[A-Za-z0-9+/]{43}=", samples.SECRET, text)
        return json.loads(text)


# Fixtures. A test module imports those that it uses.


class Names:
    """Knows one name, and can be made to know none: then nothing is called."""

    def __init__(self) -> None:
        self._known = {"www.example.com": ["93.184.216.34"]}

    def resolve(self, host: str, port: int) -> list[str]:
        return self._known.get(host, [])

    @contextmanager
    def unknown(self) -> Iterator[None]:
        known, self._known = self._known, {}
        yield
        self._known = known


@pytest.fixture(name="names")
def some_names() -> Names:
    return Names()


@pytest.fixture(name="app")
def an_app(
    database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock, names: Names
) -> Iterator[Flask]:
    guard = Guard(resolve=names.resolve)
    with opened(environ_for(database_url), payments=payments, sms=sms, partners=PartnerPipe(guard)) as app:
        yield app


@pytest.fixture(name="world")
def a_world(
    app: Flask, client: FlaskClient, services: Services, payments: FakePayments, sms: FakeSms, jobs: Jobs
) -> World:
    payments.genuine = sms.genuine = False
    return World(app, client, services, payments, jobs)
