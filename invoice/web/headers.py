"""What every answer carries: a request id, and headers that keep browsers from doing anything we did not ask for."""

from __future__ import annotations

import re
import uuid

from flask import Flask, Response, g, request
from werkzeug.exceptions import BadRequest

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def register(app: Flask, *, form_targets: str, is_https: bool) -> None:
    """form_targets: sources, as in a Content-Security-Policy, that our forms may lead to."""
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"base-uri 'none'; frame-ancestors 'none'; form-action 'self' {form_targets}"
    )
    always = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex, nofollow",
    }
    if is_https:
        always["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"

    @app.before_request
    def name_request() -> None:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        try:
            _ = request.args
        except UnicodeDecodeError as error:
            raise BadRequest("The query must be UTF-8.") from error

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(always)
        response.headers["X-Request-Id"] = g.get("request_id") or uuid.uuid4().hex
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
            response.vary.add("Accept-Language")
        return response
