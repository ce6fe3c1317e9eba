"""The document: every route of the application, in the order of the tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Flask

from invoice.web.openapi import events, mobile_invoice, module, people, transactions
from invoice.web.openapi.common import Answers, Route, answers, parameters, routes
from invoice.web.openapi.parts import Answer, Example, Json, Operation, ref, text
from invoice.web.openapi.shapes import SHAPES

# Of the contract: docs/api/changelog.md says what changed with each.
VERSION = "0.1.0"

TABLE: dict[str, Operation] = {
    **mobile_invoice.TABLE,
    **transactions.TABLE,
    **events.TABLE,
    **module.TABLE,
    **people.TABLE,
}

# blueprint -> (its heading, what stands under it)
_TAGS = {
    "mobile_invoice": ("Subscriptions", "Ask for a subscription, end it, list them. Amounts are kroner or euros."),
    "transactions": ("Transactions", "What became of each payment, and the capture of money that is set aside."),
    "events": ("Events", "Everything that happens, pulled from a list or pushed to one address, signed."),
    "recurring_payments": (
        "Vipps Recurring Payments",
        "The endpoints of the Drupal module of that name. Prices are øre or cents. Whoever is let in gets 200, and "
        "what came of the request stands in the body. The strict manner answers as the module really does.",
    ),
    "pages": ("Pages", "What people's browsers open. The links are keys; opening one changes nothing."),
    "hooks": ("Hooks", "What the providers tell us, signed."),
    "health": ("Health", "Whether the process lives, and whether it can do its work."),
    "api_docs": ("This description", "As a document and as a page."),
    None: ("Files", "What the pages are made of."),
}

_HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "Names the request, with your own name if you sent one (1 to 64 of `A-Za-z0-9._-`).",
        "schema": text(),
    },
    "Retry-After": {"description": "Seconds after which it may be asked again.", "schema": text(pattern="^[0-9]+$")},
    "Allow": {"description": "The methods that there are.", "schema": text()},
    "Location": {"description": "Where it goes on.", "schema": text()},
    "WWW-Authenticate": {"description": "The four schemes.", "schema": text()},
}

_SCHEMES: dict[str, Json] = {
    "secret": {"type": "http", "scheme": "basic", "description": "Partner id and secret."},
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, `mi_<partner id>_...`."},
    "signature": {
        "type": "http",
        "scheme": "hmac-sha256",
        "description": "`hmac-sha256 <partner id>:<signature>:<nonce>:<timestamp>`, over the whole request.",
    },
    "short-signature": {
        "type": "http",
        "scheme": "hmac",
        "description": "The original's: `hmac <partner id>:<signature>:<nonce>:<timestamp>`.",
    },
}

_ABOUT = (
    "Send a text, get a paying subscriber. Every example works as it stands, once the ids in it are ones of yours. "
    "Answers may grow new members: ignore what you do not know. Every address answers `HEAD` like `GET`, and "
    "`OPTIONS` with its methods."
)


def document(app: Flask, public_url: str) -> Json:
    """Return the description of an application. Raises LookupError for a route that none of the tables knows."""
    order = list(TABLE)
    paths: Json = {}
    found = routes(app)
    if unknown := sorted({route.endpoint for route in found} - TABLE.keys()):
        raise LookupError(f"{', '.join(unknown)}: not described in invoice/web/openapi.")
    for route in sorted(found, key=lambda each: order.index(each.endpoint)):
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Mobile Invoice", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": public_url}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.values()],
        "paths": paths,
        "webhooks": {"event": {"post": _event()}},
        "components": {
            "schemas": {name: schema for name, (_, schema) in SHAPES.items()},
            "headers": _HEADERS,
            "securitySchemes": _SCHEMES,
        },
    }


def _operation(route: Route, method: str) -> Json:
    row = TABLE[route.endpoint]
    about = (route.view.__doc__ or "Show a file.").strip().splitlines()[0]
    found: Json = {
        "operationId": route.operation_id(method),
        "tags": [_TAGS[route.endpoint.rpartition(".")[0] or None][0]],
        "summary": about.rstrip("."),
        "parameters": [_with_examples(each, row) for each in parameters(route, row)],
        "responses": _responses(answers(route, row), row.examples),
        "security": [{scheme: []} for scheme in _SCHEMES] if route.is_for_partners else [],
    }
    if row.text:
        found["description"] = row.text
    if row.body:
        found["requestBody"] = _body(row)
    return found


def _with_examples(parameter: Json, row: Operation) -> Json:
    given = {
        name: {"value": example.given[parameter["name"]]}
        for name, example in row.examples.items()
        if parameter["name"] in example.given
    }
    return {**parameter, "examples": given} if given else parameter


def _body(row: Operation) -> Json:
    name = row.body.removesuffix("?")
    examples = {
        key: {"summary": example.title, "value": example.body}
        for key, example in row.examples.items()
        if example.body is not None
    }
    content = {media_type: {"schema": ref(name)} for media_type in row.media_types}
    content[row.media_types[0]]["examples"] = examples
    return {"required": not row.body.endswith("?"), "content": content}


def _responses(found: Answers, examples: dict[str, Example] | Any) -> Json:
    return {
        status: _response(answer, {n: e for n, e in examples.items() if str(e.status) == status})
        for status, answer in found.items()
    }


def _response(answer: Answer, examples: dict[str, Example]) -> Json:
    headers = {name: ref(name, "headers") for name in ("X-Request-Id", *answer.headers)}
    found: Json = {"description": answer.text, "headers": headers}
    content = _content(answer.shapes)
    shown = {n: {"summary": e.title, "value": e.answer} for n, e in examples.items() if e.answer is not None}
    if shown:
        content["application/json"]["examples"] = shown
    return {**found, "content": content} if content else found


def _content(shapes: Iterable[str]) -> Json:
    """Return media type -> schema; what can be one shape or another is told as such."""
    by_type: dict[str, list[str]] = {}
    for name in shapes:
        for media_type in SHAPES[name][0]:
            by_type.setdefault(media_type, []).append(name)
    return {
        media_type: {"schema": ref(names[0]) if len(names) == 1 else {"anyOf": [ref(name) for name in names]}}
        for media_type, names in by_type.items()
    }


def _event() -> Json:
    """Describe a signed event as we push it."""
    signed = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": "event",
        "tags": ["Events"],
        "summary": "What we send to your endpoint, signed by Standard Webhooks",
        "parameters": [{"name": name, "in": "header", "required": True, "schema": text()} for name in signed],
        "requestBody": {"required": True, "content": {"application/json": {"schema": ref("Event")}}},
        "responses": {
            "2XX": {"description": "Taken, within 15 seconds. Anything else is tried again for 30 days."},
        },
    }
