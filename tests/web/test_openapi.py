"""The description of the service: valid, whole, and true: every example is sent and answered as it says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from invoice.services.outbox import EVENTS
from invoice.web import schemas
from invoice.web.openapi import bodies
from invoice.web.openapi.document import TABLE, VERSION, document
from invoice.web.openapi.parts import Example
from tests.web.bad_bodies import basic
from tests.web.described import (  # noqa: F401 - fixtures
    SERVER,
    World,
    a_world,
    an_app,
    examples,
    faults,
    operations,
    sealed,
    some_names,
    undocumented,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = list(examples())


@pytest.fixture
def found(app: Flask) -> dict[str, Any]:
    return document(app, SERVER)


# One database is enough for what does not depend on it.
once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@once
def test_the_document_is_valid_and_served(client: FlaskClient, found: dict[str, Any]):
    OpenAPIV31SpecValidator(found).validate()
    served = client.get("/openapi.json")

    assert served.get_json() == found
    assert found["openapi"] == "3.1.0"


@once
def test_every_route_is_described_with_its_methods(app: Flask, found: dict[str, Any]):
    routes = {
        (re.sub(r"<[^>]*>", "{}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - ({"HEAD", "OPTIONS"} if rule.provide_automatic_options else {"HEAD"})
    }

    assert {(re.sub(r"{[^}]*}", "{}", at.path), at.method) for at in operations(found)} == routes
    assert TABLE.keys() == {rule.endpoint for rule in app.url_map.iter_rules()}


@once
def test_a_route_that_nobody_has_described_is_refused(app_of_its_own: Flask):
    app_of_its_own.add_url_rule("/api/new", "mobile_invoice.new", lambda: "")

    with pytest.raises(LookupError, match=r"mobile_invoice\.new"):
        document(app_of_its_own, SERVER)


@once
def test_each_operation_says_what_it_is_and_has_an_example_of_every_parameter_it_needs(found: dict[str, Any]):
    missing = []
    for at in operations(found):
        missing += [f"{at.name}: {part}" for part in ("summary", "tags") if not at.operation[part]]
        names = {name for endpoint, name, _ in EXAMPLES if found_name(endpoint) in at.name}
        for parameter in at.operation["parameters"]:
            if parameter.get("required") and names - parameter.get("examples", {}).keys():
                missing.append(f"{at.name}: {parameter['name']}")
    names = [at.name for at in operations(found)]

    assert missing == []
    assert len(set(names)) == len(names)
    assert TABLE.keys() == {endpoint for endpoint, _, _ in EXAMPLES}


def found_name(endpoint: str) -> str:
    first, *rest = endpoint.rpartition(".")[2].split("_")
    return first + "".join(word.capitalize() for word in rest)


@once
@pytest.mark.parametrize(("endpoint", "name", "example"), EXAMPLES, ids=[f"{e}-{n}" for e, n, _ in EXAMPLES])
def test_every_example_works_and_is_answered_as_it_says(world: World, endpoint: str, name: str, example: Example):
    at = next(each for each in operations(world.document) if each.name.startswith(found_name(endpoint)))
    if endpoint != "events.put_endpoint":
        made = world.client.put("/api/events/endpoint", json={"url": _URL}, headers=basic())
        assert made.status_code == 201, made.text

    answer = world.send(at, example)

    assert answer.status_code == example.status, answer.text
    assert undocumented(world.sealed, at, answer) == []
    if example.answer is not None:
        assert world.told(answer) == example.answer


_URL = "https://www.example.com/vipps-events"


@once
def test_what_a_good_example_sends_fits_the_shape_that_it_is_described_with(found: dict[str, Any]):
    wrong = []
    for at in operations(found):
        if at.body is None:
            continue
        for name, body in at.examples().items():
            example = next(e for endpoint, n, e in EXAMPLES if n == name and found_name(endpoint) == at.name)
            refused = example.status >= 400 or (isinstance(example.answer, dict) and example.answer.get("errors"))
            if not refused and (example.answer or {}) and "success" not in example.answer:
                wrong += [f"{at.name} {name}: {fault}" for fault in faults(found, at.body, body)]

    assert wrong == []


@pytest.mark.parametrize("schema", [schemas.SubscribeSchema, schemas.ResendSchema])
def test_each_field_that_is_read_is_described(schema: Any):
    described = bodies.described(schema())
    fields = {field.data_key or name: field for name, field in schema().fields.items()}

    assert set(described["properties"]) == set(fields)
    assert set(described.get("required", ())) == {name for name, field in fields.items() if field.required}


@once
def test_every_event_is_named(found: dict[str, Any]):
    assert found["components"]["schemas"]["Event"]["properties"]["type"]["examples"] == list(EVENTS)


def test_the_version_is_that_of_the_package_and_of_the_newest_change():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "docs" / "api" / "changelog.md").read_text(), re.MULTILINE)

    assert newest is not None
    assert package == newest[1] == VERSION
