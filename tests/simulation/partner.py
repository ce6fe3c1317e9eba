"""The partner's own side: where its events arrive."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from invoice.providers.outbound import Reply
from tests.simulation.network import FAULTS, Weather

if TYPE_CHECKING:
    from tests.simulation.house import House

URL = "https://partner.example/events"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class Partner:
    """Stands in for the pipe to partners. received: subscription -> number of an event -> its text."""

    def __init__(self, house: House, dice: random.Random) -> None:
        self._house = house
        self.weather = Weather(dice)
        self.received: dict[int, dict[int, bytes]] = {}

    def call(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Take an event, or not; and say so, or not."""
        self._house.boundary("before partner")
        kind = self.weather.fault()
        happens, _ = FAULTS[kind] if kind else (True, None)
        if happens:
            assert (method, url) == ("POST", URL)
            self._take(headers, body or b"")
        self._house.linger(self.weather)
        self._house.boundary("after partner")
        return Reply(None, kind) if kind else Reply(200, "")

    def _take(self, headers: Mapping[str, str], body: bytes) -> None:
        """E2, E3: one after the other without a gap, and what comes again is the same to the letter."""
        event = json.loads(body)
        number, subscription = event["sequence"], event["subscriptionId"]
        known = self.received.setdefault(subscription, {})
        if known.setdefault(number, body) != body or headers["webhook-id"] != event["id"]:
            self._house.wrong(f"E3: event {number} of subscription {subscription} comes in two forms")
        if max(known) != len(known):
            self._house.wrong(f"E2: event {number} of subscription {subscription} comes before one that is older")
