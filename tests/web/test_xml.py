"""The contract's bare strings, in JSON, or in XML for whoever would rather have that."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.web.bad_bodies import basic, body

pytestmark = pytest.mark.usefixtures("as_in_production", "the_usual_partner")

NAMESPACE = "{http://schemas.microsoft.com/2003/10/Serialization/}"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def cancel(client: FlaskClient, accept: str | None, identifier: str = "4711") -> TestResponse:
    headers = basic() if accept is None else {**basic(), "Accept": accept}
    return client.delete(f"/api/recurring/cancel/{identifier}", headers=headers)


def parsed(xml: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(xml)  # noqa: S314 - it is our own


def test_an_error_is_told_in_xml_as_the_original_did(client: FlaskClient):
    answer = cancel(client, "application/xml")

    assert answer.status_code == 404
    assert answer.content_type == "application/xml; charset=utf-8"
    assert answer.text == (
        '<string xmlns="http://schemas.microsoft.com/2003/10/Serialization/">Recurring not found</string>'
    )
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("text/json", "application/json"),
        ("image/png", "application/json"),
        ("application/xml, application/json", "application/json"),
        ("application/json;q=0.5, application/xml;q=0.6", "application/xml"),
        ("application/json;q=0.6, application/xml;q=0.5", "application/json"),
        ("application/xml;q=0", "application/json"),
        ("application/xml;q=0, */*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "application/xml"),
        ("application/xml, */*;q=0.1", "application/xml"),
        ("text/xml", "text/xml"),
        ("text/xml;q=0.4, application/xml;q=0.8", "application/xml"),
        ("TEXT/XML; charset=utf-8", "text/xml"),
        (BROWSER, "application/xml"),
        ("application/xml;q=NaN", "application/json"),
        ("application/xml;q=2", "application/json"),
        ("application/xml; charset=utf-8, application/json; charset=utf-8; q=0.5", "application/xml"),
        (";;,q=,\xe9", "application/json"),
    ],
)
def test_the_caller_chooses(client: FlaskClient, accept: str | None, media_type: str):
    answer = cancel(client, accept)

    assert (answer.status_code, answer.mimetype) == (404, media_type)
    said = answer.json if media_type.endswith("json") else parsed(answer.data).text
    assert said == "Recurring not found"


def test_what_was_sent_stays_text(client: FlaskClient):
    hostile = "<a href='x'>&amp;]]>\"</a>"

    answer = client.get(
        "/api/transactions",
        query_string={"partnerId": "10295", "referenceId": hostile},
        headers={**basic(), "Accept": "text/xml"},
    )

    element = parsed(answer.data)
    assert (element.tag, len(element)) == (f"{NAMESPACE}string", 0)
    assert element.text == f"Transaction for partner id '10295' and reference id '{hostile}' not found."


def test_letters_that_xml_does_not_have_are_replaced(client: FlaskClient):
    answer = client.get(
        "/api/transactions",
        query_string={"partnerId": "10295", "referenceId": "a\ufffe\U0001f600"},
        headers={**basic(), "Accept": "text/xml"},
    )

    assert "'a\ufffd\U0001f600'" in str(parsed(answer.data).text)


def test_every_bare_string_has_both_forms(client: FlaskClient):
    key = {"Idempotency-Key": "k"}
    asked = [
        ("DELETE", "/api/recurring/cancel/0", {}, 400),
        ("POST", "/api/recurring/4711/resend", {}, 404),
        ("GET", "/api/transactions?partnerId=10295", {}, 400),
        ("GET", "/api/transactions/10295/00000000-0000-4000-8000-000000000000", {}, 404),
        ("DELETE", "/api/recurring/cancel/4711", key, 404),
        ("DELETE", "/api/recurring/cancel/4712", key, 422),
    ]

    for method, path, headers, status in asked:
        answer = client.open(path, method=method, headers={**basic(), **headers, "Accept": "application/xml"})
        assert (answer.status_code, answer.mimetype) == (status, "application/xml"), path
        assert parsed(answer.data).tag == f"{NAMESPACE}string"


def test_what_is_no_bare_string_stays_json(client: FlaskClient):
    headers = {**basic(), "Accept": "application/xml"}

    wrong = client.post(
        "/api/recurring/subscribe", data=body(amount=0), content_type="application/json", headers=headers
    )
    right = client.post("/api/recurring/subscribe", data=body(), content_type="application/json", headers=headers)
    stranger = client.get("/api/transactions", headers={"Accept": "application/xml"})

    assert [a.mimetype for a in (wrong, right, stranger)] == ["application/json"] * 3
    assert [a.status_code for a in (wrong, right, stranger)] == [400, 200, 401]
