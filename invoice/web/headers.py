"""What every answer carries: a request id, and headers that keep browsers from doing anything we did not ask for.

And what no browser may ask for at all: that something be done by the page of another site.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.exceptions import BadRequest, Forbidden
from werkzeug.wsgi import ClosingIterator

from invoice import request_ids

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_ASKING = ("GET", "HEAD", "OPTIONS")
# What asks for them stands beside the process, not before the proxy.
_PROBES = ("health.healthz", "health.readyz")
_OUR_OWN = ("same-origin", "none", None)  # None: of no browser, or of an old one


class RequestIds:
    """Names each request: the caller's own id, or one of ours. It stands in the answer and in every line until its end.

    Outermost, so that no failure further in leaves an answer without it.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request_id = request_ids.named(environ.get("HTTP_X_REQUEST_ID", ""))

        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            return start_response(status, [*headers, (request_ids.HEADER, request_id)], *failure)

        request_ids.enter(request_id)
        with ExitStack() as end:
            end.callback(request_ids.enter, None)
            return ClosingIterator(self._app(environ, start), end.pop_all().close)


def register(app: Flask, *, form_targets: str, is_https: bool) -> None:
    """form_targets: sources, as in a Content-Security-Policy, that our forms may lead to.

    is_https: that is how we are published, and nobody is answered who comes otherwise, or led to it unseen.
    """
    policy = (
        "default-src 'none'; object-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        f"img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self' {form_targets}"
    )
    always = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex, nofollow",
    }
    if is_https:
        always["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"

    app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]

    for check in (*((_refuse_clear_text,) if is_https else ()), _read_query, _refuse_other_sites):
        app.before_request(check)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(always)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
            response.vary.add("Accept-Language")
        return response


def _refuse_clear_text() -> None:
    # Whoever writes the proxy's word into a request of its own betrays nobody but itself.
    first = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    if not request.is_secure and first != "https" and request.endpoint not in _PROBES:
        raise Forbidden("This service is reached by https only; a proxy before it says so in X-Forwarded-Proto.")


def _read_query() -> None:
    try:
        _ = request.args
    except UnicodeDecodeError as error:
        raise BadRequest("The query must be UTF-8.") from error


def _refuse_other_sites() -> None:
    # A partner's credentials may be kept by a browser, too. Origin does not tell: `no-referrer` makes it "null" for
    # our own forms as well.
    if request.method not in _ASKING and request.headers.get("Sec-Fetch-Site") not in _OUR_OWN:
        raise Forbidden("This request comes from another site.")
