"""Traffic with Vipps held against the vendor's own OpenAPI files: Recurring v3, access token, webhooks.

The files lie in shared/specs beside the checkout, because they are the vendor's and not ours to publish. `absent()`
says why nothing can be checked without them. Where Vipps is known to differ from its files, or where they are silent,
CHANGES says so, with the sources; the changes are laid over the files before anything is checked.

A fixture with a simulator of its own holds all that is said to it against them in one line:

    with spec.held(simulator.app):
        yield simulator

Where that is done already: tests/simulator (its fixtures), tests/journeys (every process that a test starts through
`recorded` in demo.py), tests/providers (requests only: its Vipps answers what a test tells it to). The files describe
no webhook that is sent to us, so those are not held against anything.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import yaml
from flask import Flask
from jsonschema import ValidationError
from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest, MockResponse
from openapi_core.validation.request.exceptions import ParameterValidationError, RequestBodyValidationError

from tests.traffic import RECURRING, TOKEN, WEBHOOKS, Exchange, Sent, document_of, record

FILES = (RECURRING, TOKEN, WEBHOOKS)
SPECS = Path(__file__).parents[2] / "shared" / "specs"

# Faults of the stand-in that are meant to be outside the file; the others are answers that the vendor may give.
_BREAKS_THE_ANSWER = {
    *("down", "timeout_before", "timeout_after", "drop_after"),
    *("500", "500_after", "502", "html", "malformed"),
}
_METHODS = ("get", "post", "patch", "put", "delete")


def absent(specs: Path = SPECS) -> str | None:
    """Return why nothing can be checked, or None when the vendor's files are there.

    In continuous integration a folder that is there must be whole: a file that is missing from it is an error then.
    """
    if specs.is_dir() and os.environ.get("CI"):
        return None
    missing = [name for name in FILES if not (specs / f"{name}.yaml").is_file()]
    return f"the vendor's OpenAPI files are not in shared/specs beside the checkout: {missing}" if missing else None


# What is known to differ from the files, or is missing in them.


@dataclass(frozen=True, eq=False)
class Change:
    """What is laid over one of the files, and who says so."""

    document: str
    source: str

    def lay_over(self, found: dict[str, Any]) -> None:
        """Change the file."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Amendment(Change):
    """One place where something else holds than the file says.

    at: the keys that lead there.  value: what stands there instead; None: nothing.
    """

    at: tuple[str, ...]
    value: Any

    def lay_over(self, found: dict[str, Any]) -> None:
        """Change the file. Raises KeyError for a place that is not there: such an amendment is a mistake."""
        *way, last = self.at
        node = functools.reduce(operator.getitem, way, found)
        del node[last]
        if self.value is not None:
            node[last] = self.value


@dataclass(frozen=True, eq=False)
class Unlisted(Change):
    """An answer that operations give although the file does not list it for them.

    methods: of the operations; one that lists the status itself keeps its own.
    """

    status: int
    answer: dict[str, Any]
    methods: tuple[str, ...] = _METHODS

    def lay_over(self, found: dict[str, Any]) -> None:
        """Add the answer wherever it is missing."""
        for item in found["paths"].values():
            for method in item.keys() & set(self.methods):
                item[method]["responses"].setdefault(str(self.status), self.answer)


def _or_null(schema: str) -> dict[str, Any]:
    return {"anyOf": [{"$ref": f"#/components/schemas/{schema}"}, {"enum": [None]}]}


_LIVE = "observed in Vipps' test environment, 2026-08"
_NUMBER = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
_AGREEMENT = ("components", "schemas", "AgreementResponseV3", "properties")
_TOKEN_ANSWER = ("components", "schemas", "AuthorizationTokenResponse", "properties")
_ACCEPT = ("paths", "/recurring/v3/agreements/{agreementId}/accept", "patch")

AMENDMENTS = (
    # Typed as strings; the file's own examples are numbers, and numbers were seen.
    *(
        Amendment(TOKEN, _LIVE, (*_TOKEN_ANSWER, name), _NUMBER)
        for name in ("expires_in", "ext_expires_in", "expires_on", "not_before")
    ),
    # `nullable` beside `allOf` lets no null through, a slip of the file: most agreements have no campaign.
    Amendment(RECURRING, "the file's own nullable", (*_AGREEMENT, "campaign"), _or_null("campaignResponseV3")),
    # All nineteen fields were seen on every agreement, and one without an interval exists since 2024-02. That it shows
    # null there, and not no field, is our reading.
    Amendment(RECURRING, f"{_LIVE}; changelog, 2024-02", (*_AGREEMENT, "interval"), _or_null("TimePeriodResponse")),
    # The request's limit was raised to 2048, and the answer's forgotten.
    Amendment(RECURRING, "changelog, 2024-07", (*_AGREEMENT, "merchantRedirectUrl", "maxLength"), 2048),
    # A 204 has no content, whatever the file gives this one.
    Amendment(RECURRING, "RFC 9110, 15.3.5", (*_ACCEPT, "responses", "204", "content"), None),
)

_PROBLEM = {"$ref": "#/components/responses/ErrorResponseV3"}
_PROBLEMS = "Recurring API problems page, 2023-12, which ties no problem to an operation"
_WRITES, _WITH_BODY = ("post", "patch", "delete"), ("post", "patch")
# The Recurring file describes this one, for all its operations; the other two files stand behind the same gateway.
_GATEWAY = {
    "description": "ErrorFromAzure",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["responseInfo", "result"],
                "properties": {
                    "responseInfo": {
                        "type": "object",
                        "required": ["responseCode", "responseMessage"],
                        "properties": {"responseCode": {"type": "integer"}, "responseMessage": {"type": "string"}},
                    },
                    "result": {
                        "type": "object",
                        "required": ["message"],
                        "properties": {"message": {"type": "string"}},
                    },
                },
            }
        }
    },
}
_AZURE = "ErrorFromAzure in the Recurring file; knowledge base, 2023-11"

UNLISTED = (
    Unlisted(RECURRING, f"validation-error: {_PROBLEMS}", 400, _PROBLEM),
    Unlisted(RECURRING, f"invalid-sale-unit: {_PROBLEMS}", 403, _PROBLEM),
    Unlisted(RECURRING, f"idempotency-conflict: {_PROBLEMS}", 409, _PROBLEM, _WRITES),
    Unlisted(RECURRING, f"unsupported-media-type: {_PROBLEMS}", 415, _PROBLEM, _WITH_BODY),
    *(Unlisted(name, _AZURE, 401, _GATEWAY) for name in (RECURRING, WEBHOOKS)),
    *(Unlisted(name, _AZURE, 429, _GATEWAY) for name in FILES),
    *(Unlisted(name, f"RFC 9110, 15.5.14; {_AZURE}", 413, _GATEWAY) for name in (RECURRING, WEBHOOKS)),
)
CHANGES = (*AMENDMENTS, *UNLISTED)


def document(name: str, *, without: Change | None = None) -> dict[str, Any]:
    """Return one of the vendor's files with its changes, but the one that is told."""
    found = _file(name)
    for change in CHANGES:
        if change.document == name and change is not without:
            change.lay_over(found)
    return found


def _file(name: str) -> dict[str, Any]:
    """Return one of the vendor's files as it came."""
    found: dict[str, Any] = yaml.safe_load((SPECS / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def _sealed(node: Any) -> Any:
    """Return a schema, or anything that holds some, in which objects have no fields but the named ones."""
    if isinstance(node, list):
        return [_sealed(each) for each in node]
    if not isinstance(node, dict):
        return node
    sealed = {name: _sealed(value) for name, value in node.items()}
    if sealed.get("type") == "object" and isinstance(sealed.get("properties"), dict):
        sealed.setdefault("additionalProperties", False)
    return sealed


@functools.cache
def sealed(name: str, *, without: Change | None = None) -> dict[str, Any]:
    """Return one of the vendor's files, amended, and with no fields but the named ones.

    Vipps refuses unknown fields of a request. Source: agent-toolkit, 2026-08-21. A field of an answer that the file
    does not name would be an invention of the stand-in's.
    """
    found: dict[str, Any] = _sealed(document(name, without=without))
    return found


@functools.cache
def _openapi(name: str, *, without: Change | None = None) -> OpenAPI:
    config = Config(extra_media_type_deserializers={"application/problem+json": json.loads})
    return OpenAPI.from_dict(sealed(name, without=without), config=config)


# What is wrong with what was said.


@contextmanager
def held(app: Flask) -> Iterator[list[Exchange]]:
    """Record what is said to a simulator's `app` in the block, and check it at the end; yield the growing list."""
    exchanges = record(app)
    yield exchanges
    check(exchanges)


def check(exchanges: Iterable[Exchange]) -> None:
    """Raise AssertionError with all violations; do nothing where the files are absent."""
    complain([] if absent() else violations(exchanges))


def complain(found: list[str]) -> None:
    """Raise AssertionError if there is anything to complain about."""
    assert not found, "outside the vendor's files:\n" + "\n".join(found)


def violations(exchanges: Iterable[Exchange]) -> list[str]:
    """Return everything that is outside the vendor's files: all answers, and the requests that our client sent.

    Requests of tests are not judged: many are wrong on purpose. Answers that a fault broke are not judged either.
    What was right when it was said before, but for its names and its time, is not judged again.
    """
    found: list[str] = []
    seen: set[bytes] = set()
    for exchange in list(exchanges):
        mark = _mark(exchange)
        if mark in seen or mark in _right:
            continue
        seen.add(mark)
        wrong = request_violations(exchange) if exchange.is_ours else []
        if exchange.fault not in _BREAKS_THE_ANSWER:
            wrong += answer_violations(exchange)
        if not wrong:
            _right.add(mark)
        found += wrong
    return found


_right: set[bytes] = set()
# What is new each time, and of one form.
_FRESH = re.compile(
    rb"(?P<token>eyJ[\w-]+\.[\w-]+\.[\w-]+)"
    rb"|(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    rb"|(?P<ulid>\b[0-9A-HJKMNP-TV-Z]{26}\b)"
    rb"|(?P<agreement>\bagr_\w+)"
    rb"|(?P<day>\b20\d\d-(?:0[1-9]|1[0-2])-(?:[0-2]\d|3[01])(?=T|\b))"
    rb"|(?P<time>T[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d+)?Z)"
    rb"|(?P<date>\b\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)"
    rb'|(?P<digits>(?<=\\")\d{9,}(?=\\"))'
    rb"|(?P<seconds>\b1\d{9}\b)"
    rb"|(?P<number>(?<=[a-z]-)\d{4}\b)"
)


def _mark(exchange: Exchange) -> bytes:
    """Return what two exchanges have in common that are both right or both wrong."""
    formed = _FRESH.sub(lambda found: str(found.lastgroup).encode(), exchange.line())
    return hashlib.sha256(formed).digest()


def request_violations(sent: Sent, *, is_body_ours: bool = True) -> list[str]:
    """Return what is outside the files in a request.

    is_body_ours: whether the body is judged too.
    """
    name = document_of(sent.path)
    if name is None:
        return []
    errors = [
        error
        for error in _openapi(name).iter_request_errors(_request(sent))
        if is_body_ours or not isinstance(error, RequestBodyValidationError)
    ]
    return [f"request {sent}: {what}" for what in [*_words(errors), *_against_the_prose(sent)]]


def answer_violations(exchange: Exchange, *, without: Change | None = None) -> list[str]:
    """Return what is outside the files in an answer. A 404 to what is no operation is none.

    without: a change that is not made to the files, for once.
    """
    name = document_of(exchange.path)
    if name is None or not (is_operation(exchange) or exchange.status != 404):
        return []
    answer = MockResponse(
        data=exchange.answer_body,
        status_code=exchange.status,
        headers=dict(exchange.answer_headers),
        content_type=exchange.answer_headers.get("Content-Type", ""),
    )
    found = list(_words(_openapi(name, without=without).iter_response_errors(_request(exchange), answer)))
    if exchange.status == 204 and exchange.answer_body:
        found.append("a 204 has no body")
    return [f"answer {exchange}: {what}; {_start(exchange.answer_body)}" for what in found]


def is_operation(sent: Sent) -> bool:
    """Whether one of the files has this method on this path."""
    return operation_of(sent) is not None


def operation_of(sent: Sent) -> tuple[str, str] | None:
    """Return (method, path template) of the operation, or None."""
    name = document_of(sent.path)
    path = unquote(_bare(sent.path, name))
    for method, template in _templates(name) if name else ():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if method == sent.method and re.fullmatch(pattern, path):
            return method, template
    return None


@functools.cache
def _templates(name: str) -> tuple[tuple[str, str], ...]:
    """Return every operation of a file, those without names in the path first."""
    found = [(m.upper(), p) for p, item in document(name)["paths"].items() for m in item if m in _METHODS]
    return tuple(sorted(found, key=lambda each: each[1].count("{")))


def documented(name: str) -> set[tuple[str, str, int]]:
    """Return (method, path template, status) of every answer that a file lists as it came."""
    paths = _file(name)["paths"]
    return {(m, p, int(status)) for m, p in _templates(name) for status in paths[p][m.lower()]["responses"]}


def _bare(path: str, name: str | None) -> str:
    """Return the path as the file writes it.

    The token's path is taken in any case: Vipps' own collection and its WooCommerce plugin 6.0.5 call /accessToken/get.
    A slash may end a path: examples of Vipps' have one. The webhooks' file has the first step in its server's address.
    """
    path = path.lower() if name == TOKEN else path
    return (path.removeprefix("/webhooks") if name == WEBHOOKS else path).rstrip("/")


def _request(sent: Sent) -> MockRequest:
    name = document_of(sent.path)
    bare = _bare(sent.path, name)
    return MockRequest(
        host_url="https://api.vipps.no",
        method=sent.method,
        path=f"/webhooks{bare}" if name == WEBHOOKS else bare,
        args=parse_qs(sent.query, keep_blank_values=True),
        headers=dict(sent.headers),
        data=sent.body,
        content_type=sent.headers.get("Content-Type", ""),
    )


def _words(errors: Iterable[Exception]) -> Iterator[str]:
    for error in errors:
        chain = list(_chain(error))
        whole = f"{error.location} {error.name}" if isinstance(error, ParameterValidationError) else "the body"
        details = [_place(each, whole) for each in getattr(chain[-1], "schema_errors", ())]
        yield "; ".join(details or [str(each) or type(each).__name__ for each in chain])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, down to the one that lists what the schema says."""
    yield error
    if error.__cause__ is not None and not hasattr(error, "schema_errors"):
        yield from _chain(error.__cause__)


def _place(error: ValidationError, whole: str) -> str:
    where = "/".join(str(step) for step in error.absolute_path) or whole
    inner = "".join(f" ({_place(each, whole)})" for each in (error.context or [])[:4])
    return f"{where}: {error.message[:200]}{inner}"


def _start(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")


def _against_the_prose(sent: Sent) -> Iterator[str]:
    """Say what the files' descriptions forbid and their schemas let through."""
    key = sent.headers.get("Idempotency-Key")
    # "Key size can be between 1 to 40 characters. Key must not contain '#', '?', '/' or '\\'"
    if key is not None and not re.fullmatch(r"[^#?/\\]{1,40}", key):
        yield "Idempotency-Key has a form that the file forbids"
    # "The content type must be `application/json`"
    if sent.body and not sent.headers.get("Content-Type", "").startswith("application/json"):
        yield "a body must be application/json"
    for due in _dues(sent.body):
        # "Must be in the format `YYYY-MM-DD` and ISO 8601."
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(due)):
            yield f"due is not YYYY-MM-DD: {due}"


def _dues(body: bytes) -> list[Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return []
    items = value if isinstance(value, list) else [value]
    return [item["due"] for item in items if isinstance(item, Mapping) and "due" in item]
