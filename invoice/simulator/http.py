"""The two steps every view shares: getting at the stand-in, and turning an answer into HTTP."""

from __future__ import annotations

from flask import Response, current_app

from invoice.simulator.answers import Answer
from invoice.simulator.world import World


def world() -> World:
    """Return the stand-in that this application shows."""
    found: World = current_app.extensions["simulator_world"]
    return found


def respond(answer: Answer) -> Response:
    """Return an answer as HTTP."""
    content_type = answer.content_type if answer.body else None
    response = Response(answer.body, answer.status, dict(answer.headers), content_type=content_type)
    if not answer.body:
        del response.headers["Content-Type"]
    return response
