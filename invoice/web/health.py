"""Whether the process is alive, and whether it can do its work."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from invoice.services import health
from invoice.web.auth import public

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@public
def healthz() -> ResponseReturnValue:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
def readyz() -> ResponseReturnValue:
    """200 when everything holds that the work needs, else 503, and what does not."""
    checks = health.check()
    return checks, 200 if all(checks.values()) else 503
