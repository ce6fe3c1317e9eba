"""Where a partner takes its signed events: one address, and the secret that they are signed with."""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from invoice.clock import utc_now
from invoice.errors import Invalid, NotFound
from invoice.lifecycle import Channel, DeliveryStatus
from invoice.providers.guard import Guard
from invoice.services.deliveries import void_lane
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import EventEndpoint, Lane, Partner

OVERLAP = timedelta(hours=24)
_RESOLVE_S = 5.0
_MISSING = "There is no event endpoint: register one with PUT /api/events/endpoint."


@dataclass(frozen=True)
class EndpointView:
    """An endpoint as its partner sees it, and how it does."""

    url: str
    created_at: datetime
    previous_secret_until: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    waiting: int
    parked: int


@dataclass(frozen=True)
class Secret:
    """A secret, to be shown once; the one before it signs as well until `previous_until`."""

    secret: str = field(repr=False)
    previous_until: datetime | None


class Endpoints:
    """Registers endpoints."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def put(self, partner_id: int, url: str) -> Secret | None:
        """Have a partner's events sent to `url`; return the secret of a new endpoint, None where there was one.

        What is owed already goes to the new address, at once. Raises Invalid for one that cannot be called.
        """
        try:
            self._guard.addresses(self._guard.check(url), _RESOLVE_S)
        except Invalid as refused:
            raise Invalid({"url": [f"url {refused.message}"]}) from refused
        now = utc_now()
        with transaction():
            _lock_partner(partner_id)
            endpoint = db.session.get(EventEndpoint, partner_id)
            secret = None if endpoint else _new_secret()
            if endpoint is None:
                endpoint = EventEndpoint(partner_id=partner_id, url=url, secret=secret, created_at=now)
                db.session.add(endpoint)
            endpoint.url = url
            lane = db.session.get_one(Lane, queries.lane_of(partner_id, Channel.EVENTS), with_for_update=True)
            lane.failures, lane.failing_since, lane.paused_until, lane.alarms = 0, None, None, 0
            queries.hurry(lane.id, now)
        return None if secret is None else Secret(secret, None)

    def get(self, partner_id: int) -> EndpointView:
        """Return a partner's endpoint. Raises NotFound."""
        with reading():
            endpoint = _endpoint(partner_id)
            lane = db.session.get_one(Lane, queries.lane_of(partner_id, Channel.EVENTS))
            counts = queries.delivery_counts(lane.id)
            parked = counts.pop(DeliveryStatus.PARKED, 0)
            return EndpointView(
                url=endpoint.url,
                created_at=endpoint.created_at,
                previous_secret_until=_until(endpoint),
                failing_since=lane.failing_since,
                paused_until=lane.paused_until,
                waiting=sum(counts.values()),
                parked=parked,
            )

    def rotate(self, partner_id: int) -> Secret:
        """Make a new secret; the present one signs as well for a day, an older one no longer. Raises NotFound."""
        secret = _new_secret()
        with transaction():
            _lock_partner(partner_id)
            endpoint = _endpoint(partner_id)
            endpoint.previous_secret, endpoint.previous_until = endpoint.secret, utc_now() + OVERLAP
            endpoint.secret = secret
            return Secret(secret, endpoint.previous_until)

    def remove(self, partner_id: int) -> None:
        """Send no more signed events, what is owed included; they can still be pulled. Raises NotFound."""
        with transaction():
            _lock_partner(partner_id)
            db.session.delete(_endpoint(partner_id))
            void_lane(queries.lane_of(partner_id, Channel.EVENTS))


def _lock_partner(partner_id: int) -> None:
    """One change of an endpoint at a time."""
    db.session.get_one(Partner, partner_id, with_for_update=True)


def _endpoint(partner_id: int) -> EventEndpoint:
    endpoint = db.session.get(EventEndpoint, partner_id)
    if endpoint is None:
        raise NotFound(_MISSING)
    return endpoint


def _until(endpoint: EventEndpoint) -> datetime | None:
    until = endpoint.previous_until
    return until if until is not None and until > utc_now() else None


def _new_secret() -> str:
    """Return a secret as Standard Webhooks writes it: 32 random bytes, of which 24 would do."""
    return f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
