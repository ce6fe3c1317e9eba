"""/api/events/...: what partners pull, where they have it sent, and what they have sent again."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from invoice.errors import Invalid
from invoice.services import feed
from invoice.services.endpoints import EndpointView, Secret
from invoice.services.feed import Fate
from invoice.services.outbox import instant
from invoice.web.auth import current_partner, partner_required
from invoice.web.bodies import read_object
from invoice.web.idempotency import idempotent
from invoice.web.parameters import check_version
from invoice.web.services import services

blueprint = Blueprint("events", __name__, url_prefix="/api/events")
blueprint.before_request(check_version)

MAX_PAGE, _PAGE = 200, 100
MAX_URL = 2000
_EVENT = re.compile(r"evt_[0-9a-f]{32}")
# RFC 3339 with its zone, so that nobody has to guess whose noon is meant.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


@blueprint.get("")
@partner_required
def pull() -> ResponseReturnValue:
    """List events in the order in which they entered the list, a page at a time."""
    limit = _argument("limit")
    if limit is not None and not (re.fullmatch(r"[1-9][0-9]{0,2}", limit) and int(limit) <= MAX_PAGE):
        raise Invalid({"limit": [f"limit must be from 1 to {MAX_PAGE}."]})
    after = _argument("after")
    if after is not None and not _EVENT.fullmatch(after):
        raise Invalid({"after": ["after must be the id of an event."]})
    found = feed.page(current_partner().id, after, int(limit or _PAGE))
    return jsonify({"events": found.events, "nextAfter": found.next_after, "hasMore": found.has_more})


@blueprint.get("/<token:event_id>")
@partner_required
def get_event(event_id: str) -> ResponseReturnValue:
    """Show one event and how it fared on its way."""
    event, fates = feed.find(current_partner().id, event_id)
    return jsonify({**event, "deliveries": [_fate(fate) for fate in fates]})


@blueprint.post("/<token:event_id>/replay")
@partner_required
@idempotent
def replay_event(event_id: str) -> ResponseReturnValue:
    """Send one event again: the same id, the same bytes."""
    feed.replay(current_partner().id, event_id)
    return jsonify({"queued": 1}), 202


@blueprint.post("/replay")
@partner_required
@idempotent
def replay_events() -> ResponseReturnValue:
    """Send again what happened from `from` until before `to`."""
    body = read_object(request)
    since, until = _instant(body, "from"), _instant(body, "to")
    if until <= since:
        raise Invalid({"to": ["to must be later than from."]})
    return jsonify({"queued": feed.replay_between(current_partner().id, since, until)}), 202


@blueprint.put("/endpoint")
@partner_required
@idempotent
def put_endpoint() -> ResponseReturnValue:
    """Register where signed events go: 201 with the secret when it is new, 200 when only the address changed."""
    url = read_object(request).get("url")
    if not isinstance(url, str) or not 1 <= len(url) <= MAX_URL:
        raise Invalid({"url": [f"url must be a text of 1 to {MAX_URL} characters."]})
    secret = services().endpoints.put(current_partner().id, url)
    answer = _endpoint(services().endpoints.get(current_partner().id))
    return (jsonify(answer), 200) if secret is None else (jsonify({**answer, **_secret(secret)}), 201)


@blueprint.get("/endpoint")
@partner_required
def get_endpoint() -> ResponseReturnValue:
    """Show where signed events go, and how that does; never the secret."""
    return jsonify(_endpoint(services().endpoints.get(current_partner().id)))


@blueprint.delete("/endpoint")
@partner_required
@idempotent
def delete_endpoint() -> ResponseReturnValue:
    """Send no more signed events."""
    services().endpoints.remove(current_partner().id)
    return "", 204


@blueprint.post("/endpoint/rotate")
@partner_required
@idempotent
def rotate_secret() -> ResponseReturnValue:
    """Make a new secret; the one before it signs as well for a day."""
    return jsonify(_secret(services().endpoints.rotate(current_partner().id)))


def _argument(name: str) -> str | None:
    given = request.args.getlist(name)
    if len(given) > 1:
        raise Invalid({name: [f"{name} must stand there once."]})
    return given[0] if given else None


def _instant(body: dict[str, Any], name: str) -> datetime:
    text = body.get(name)
    if isinstance(text, str) and _INSTANT.fullmatch(text):
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            # A zone must not carry it out of the calendar.
            if 2000 <= found.year <= 2999:
                return found
    raise Invalid({name: [f"{name} must be an instant such as 2026-11-10T11:00:00Z."]})


def _endpoint(view: EndpointView) -> dict[str, Any]:
    return {
        "url": view.url,
        "createdUtc": instant(view.created_at),
        "previousSecretUntilUtc": _maybe(view.previous_secret_until),
        "failingSinceUtc": _maybe(view.failing_since),
        "pausedUntilUtc": _maybe(view.paused_until),
        "waiting": view.waiting,
        "parked": view.parked,
    }


def _secret(secret: Secret) -> dict[str, Any]:
    return {"secret": secret.secret, "previousSecretUntilUtc": _maybe(secret.previous_until)}


def _fate(fate: Fate) -> dict[str, Any]:
    return {
        "channel": fate.channel.lower(),
        "status": fate.status.lower(),
        "tries": fate.tries,
        "nextTryUtc": _maybe(fate.next_at),
        "lastFault": fate.last_fault,
        "settledUtc": _maybe(fate.settled_at),
    }


def _maybe(at: datetime | None) -> str | None:
    return None if at is None else instant(at)
