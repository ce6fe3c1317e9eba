"""/openapi.json, and /docs: the same document as a page. Both are made when the application is; nothing is fetched."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Flask, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue
from flask_babel import force_locale  # type: ignore[import-untyped]
from markupsafe import Markup, escape

from invoice.web.auth import public
from invoice.web.openapi.common import routes
from invoice.web.openapi.document import TABLE, document
from invoice.web.openapi.parts import Example, Json
from invoice.web.services import PUBLIC_URL

blueprint = Blueprint("api_docs", __name__)

_DOCUMENT, _EXAMPLES = "invoice.openapi", "invoice.openapi.examples"
_USER = "10295:$SECRET"  # for a shell that knows the secret: the one word that it may look into
_CODE = re.compile(r"`([^`]+)`")
_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def register(app: Flask) -> None:
    """Describe the application as it stands: call this when all its routes are there."""
    app.register_blueprint(blueprint)
    app.extensions[_DOCUMENT] = document(app, app.extensions[PUBLIC_URL])
    app.extensions[_EXAMPLES] = {
        route.operation_id(method): TABLE[route.endpoint].examples for route in routes(app) for method in route.methods
    }
    app.jinja_env.filters.update(api_text=_marked, api_type=_type, api_examples=_examples, api_json=_pretty)


@blueprint.get("/openapi.json")
@public
def show_document() -> ResponseReturnValue:
    """Show this description as OpenAPI 3.1."""
    return jsonify(_document())


@blueprint.get("/docs")
@public
def show_page() -> ResponseReturnValue:
    """Show this description as a page."""
    with force_locale("en"):
        return render_template("docs/api.html", api=_document())


def _document() -> Json:
    found: Json = current_app.extensions[_DOCUMENT]
    return found


def _marked(text: str) -> Markup:
    """Return a text with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped first


def _type(schema: Json) -> Markup:
    """Return what a value is, in words; a shape as a link to where it is described."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#shape-{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(", ").join(Markup("<code>{}</code>").format(json.dumps(value)) for value in values)
    if schema.get("type") == "array":
        return Markup("list of ") + _type(schema["items"])
    types = schema.get("type", "object")
    return Markup(" or ").join(_WORDS.get(name, name) for name in ([types] if isinstance(types, str) else types))


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _examples(api: Json, path: str, method: str) -> Iterator[tuple[str, Json]]:
    """Yield name -> title, status, answer and the line for a shell that asks for it, of each example."""
    operation = api["paths"][path][method]
    for name, example in current_app.extensions[_EXAMPLES][operation["operationId"]].items():
        line = _curl(operation, method, api["servers"][0]["url"] + path, example)
        yield name, {"title": example.title, "status": example.status, "answer": example.answer, "line": line}


def _curl(operation: Json, method: str, url: str, example: Example) -> str:
    """Return an example as a line for a shell."""
    query = {}
    for parameter in operation["parameters"]:
        value = example.given.get(parameter["name"])
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", quote(str(value)))
        elif value is not None:
            query[parameter["name"]] = value
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    words += ["-u", _USER] if operation["security"] else []
    if example.body is not None:
        media_type = next(iter(operation["requestBody"]["content"]))
        raw = urlencode(example.body) if "form" in media_type else json.dumps(example.body, ensure_ascii=False)
        words += ["-H", f"Content-Type: {media_type}", "-d", raw]
    words.append(f"{url}?{urlencode(query)}" if query else url)
    return " ".join(word if word == _USER else shlex.quote(word) for word in words)
