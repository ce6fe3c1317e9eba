"""Telling partners: what is owed is written with its event, claimed, called, settled, until they have taken it.

Threads make the calls and nothing else; claims and settlements stay with the engine, which never waits for a partner
that is slow. Of one subscription and channel only the first goes out, so that a partner sees things in order. A kill
anywhere leaves a row whose lease runs out, and then the same bytes go out again.
"""

from __future__ import annotations

import logging
import random
import threading
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from standardwebhooks import Webhook

from invoice.clock import stopwatch, utc_now
from invoice.lifecycle import Channel, DeliveryStatus
from invoice.providers.outbound import PartnerPipe, Reply
from invoice.request_ids import HEADER
from invoice.schedule import DELIVERY_LIFE, DELIVERY_MINIMUM_TRIES, delivery_wait, lane_pause
from invoice.services import callbacks
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import CallbackLogin, Delivery, Event, EventEndpoint, Lane, Subscription

logger = logging.getLogger(__name__)

# Far longer than a call: its answer is settled by the engine's next round, which may have other things to do first.
LEASE = timedelta(minutes=3)
WIDTH = 32  # calls under way at once in this process
_ROUND_S = 0.25  # at most so long in one round while partners answer quickly
_BLINK_S = 0.02  # so long is an answer waited for before other work goes on
_IDLE_S = 0.25  # likewise, when there is no other work
_ALARMS = (timedelta(hours=1), timedelta(hours=24))
_AWAY = timedelta(days=1)


@dataclass(frozen=True)
class Letter:
    """One call, complete. Address, headers and body do not show in `repr`: each may hold a secret."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Claim:
    """A delivery in this worker's hands."""

    id: int
    lane_id: int
    subscription_id: int
    event: str
    fence: int
    tries: int
    owed_since: datetime


def owe(subscription: Subscription, event: Event, body: str) -> None:
    """Write down, in the event's transaction, what its partner is to be told. The caller holds the subscription's lock.

    body: the signed event's text, for a partner that has an endpoint by now.
    """
    for channel, url in callbacks.owed(subscription, event):
        add(event, channel, url=url)
    if db.session.get(EventEndpoint, event.partner_id) is not None:
        add(event, Channel.EVENTS, body=body)


def add(event: Event, channel: Channel, *, url: str | None = None, body: str | None = None) -> None:
    """Owe an event by one channel: to be sent at once, or behind what is owed before it."""
    lane_id = queries.lane_of(event.partner_id, channel)
    now = utc_now()
    db.session.add(
        Delivery(
            event_id=event.id,
            lane_id=lane_id,
            subscription_id=event.subscription_id,
            seq=event.seq,
            url=url,
            body=body,
            status=_place(event.subscription_id, lane_id),
            next_at=now,
            owed_since=now,
        )
    )
    db.session.flush()


def send_again(delivery: Delivery) -> bool:
    """Owe a delivery anew, the same bytes; return whether that makes a difference. The caller holds the lock."""
    is_forgotten = delivery.url is None and delivery.body is None
    if delivery.settled_at is None or is_forgotten:
        return False
    delivery.status = _place(delivery.subscription_id, delivery.lane_id)
    delivery.next_at = delivery.owed_since = utc_now()
    delivery.tries, delivery.settled_at = 0, None
    db.session.flush()
    return True


def _place(subscription_id: int, lane_id: int) -> DeliveryStatus:
    return DeliveryStatus.WAITING if queries.has_head(subscription_id, lane_id) else DeliveryStatus.READY


class Deliveries:
    """Sends what is owed."""

    def __init__(self, pipe: PartnerPipe) -> None:
        self._pipe = pipe
        self._round = threading.Lock()
        self._calls: dict[Future[Reply], Claim] = {}
        self._threads = ThreadPoolExecutor(WIDTH, thread_name_prefix="delivery")

    @property
    def is_busy(self) -> bool:
        """Whether an answer is awaited, or one is here that has not been written down."""
        return bool(self._calls)

    def deliver(self) -> int:
        """Settle what was answered, send what is due; return how much that was. Does not wait for who is slow."""
        if not self._round.acquire(blocking=False):
            return 0
        try:
            done, until = 0, stopwatch() + _ROUND_S
            while True:
                done += self._settle_answered() + self._hand_over()
                if stopwatch() > until or not self._is_answered_within(_BLINK_S):
                    return done
        finally:
            self._round.release()

    def linger(self) -> int:
        """Wait a moment for an answer, when there is nothing else to do; return how many are awaited."""
        self._is_answered_within(_IDLE_S)
        return len(self._calls)

    def _is_answered_within(self, seconds: float) -> bool:
        return bool(wait(list(self._calls), timeout=seconds, return_when=FIRST_COMPLETED).done)

    def _hand_over(self) -> int:
        room = WIDTH - len(self._calls)
        handed = 0
        if room > 0:
            with reading():
                lanes = list(queries.lanes_with_work(utc_now(), 1000))
            # Whoever comes first today is last tomorrow: no lane is starved by those before it.
            random.shuffle(lanes)
            for lane_id in lanes:
                for claim, letter in _claim(lane_id, room - handed) if handed < room else ():
                    call = self._threads.submit(
                        self._pipe.call, letter.method, letter.url, headers=letter.headers, body=letter.body
                    )
                    self._calls[call] = claim
                    handed += 1
        return handed

    def _settle_answered(self) -> int:
        answered = [call for call in self._calls if call.done()]
        for call in answered:
            # Gone from here whatever happens: a settlement that fails leaves a lease that runs out.
            claim = self._calls.pop(call)
            _settle(claim, call.result())
        return len(answered)


def _claim(lane_id: int, most: int) -> list[tuple[Claim, Letter]]:
    """Take what a lane may send now, and write the letters; nothing of this is open when they go out."""
    with transaction():
        now = utc_now()
        found = [(d, _letter(d)) for d in queries.claim_deliveries(lane_id, now, LEASE, most)]
        if any(letter is None for _, letter in found):
            # The partner has taken its endpoint away while this was being written.
            void_lane(lane_id)
            return []
        for delivery, _ in found:
            # While we were away, or since the day to which the books were set back, nobody tried: that does not count.
            if now - delivery.next_at > _AWAY:
                delivery.owed_since += now - delivery.next_at
                delivery.next_at = now
        events = {d.id: db.session.get_one(Event, d.event_id).public_id for d, _ in found}
        return [(_claim_of(d, events[d.id]), letter) for d, letter in found if letter is not None]


def _claim_of(row: Delivery, event: str) -> Claim:
    return Claim(row.id, row.lane_id, row.subscription_id, event, row.fence, row.tries, row.owed_since)


def void_lane(lane_id: int) -> None:
    """Owe nothing more on a lane that leads nowhere."""
    queries.change_open(lane_id, status=DeliveryStatus.VOID, settled_at=utc_now(), lease_until=None)


def _letter(delivery: Delivery) -> Letter | None:
    """Write what goes out. None: there is no endpoint any more."""
    lane = db.session.get_one(Lane, delivery.lane_id)
    event = db.session.get_one(Event, delivery.event_id)
    headers = {"User-Agent": "Mobile-Invoice/1.0", "webhook-id": event.public_id}
    if event.request_id is not None:
        headers[HEADER] = event.request_id
    if lane.channel == Channel.EVENTS:
        endpoint = db.session.get(EventEndpoint, lane.partner_id)
        if endpoint is None:
            return None
        body = str(delivery.body)
        headers |= {"Content-Type": "application/json"} | _signature(endpoint, event.public_id, body)
        return Letter("POST", endpoint.url, headers, body.encode())
    login = db.session.get(CallbackLogin, (delivery.subscription_id, lane.channel))
    if login is not None:
        headers["Authorization"] = f"Basic {b64encode(login.login.encode()).decode()}"
    return Letter("GET", str(delivery.url), headers, None)


def _signature(endpoint: EventEndpoint, event: str, body: str) -> dict[str, str]:
    """Sign for this very moment: what was signed five minutes ago is refused. Source: Standard Webhooks, 2024."""
    now = utc_now()
    secrets = [endpoint.secret]
    if endpoint.previous_secret is not None and endpoint.previous_until is not None and now < endpoint.previous_until:
        secrets.append(endpoint.previous_secret)
    signatures = [Webhook(secret).sign(event, now, body) for secret in secrets]
    return {"webhook-timestamp": str(int(now.timestamp())), "webhook-signature": " ".join(signatures)}


def _settle(claim: Claim, reply: Reply) -> None:
    """Write down what came of a call, if this claim is still the newest; the next in its row may go when it is over."""
    now = utc_now()
    outcome = {"status": DeliveryStatus.DELIVERED, "settled_at": now, "last_fault": None}
    if reply.fault:
        outcome = _after_failure(claim, reply.fault, now)
    with transaction():
        queries.lock_subscription(claim.subscription_id)
        if not _write(claim, lease_until=None, **outcome):
            logger.warning("Delivery %s was taken over before it could be settled.", claim.id)
            return
        if outcome["status"] != DeliveryStatus.READY:
            queries.promote_next(claim.subscription_id, claim.lane_id, now)
        if reply.fault:
            _failed(claim, reply.fault, now)
        else:
            _worked(claim)
    if outcome["status"] == DeliveryStatus.PARKED:
        said = "Event %s of subscription %s is parked after %s tries: %s. It can be replayed."
        facts = {"subscription_id": claim.subscription_id, "event": claim.event, "outcome": "parked"}
        logger.error(said, claim.event, claim.subscription_id, claim.tries, reply.fault, extra=facts)


def _after_failure(claim: Claim, fault: str, now: datetime) -> dict[str, Any]:
    next_at = now + delivery_wait(claim.tries)
    if next_at > claim.owed_since + DELIVERY_LIFE and claim.tries >= DELIVERY_MINIMUM_TRIES:
        return {"status": DeliveryStatus.PARKED, "settled_at": now, "last_fault": fault[:300]}
    return {"status": DeliveryStatus.READY, "next_at": next_at, "last_fault": fault[:300]}


def _write(claim: Claim, **values: Any) -> bool:
    is_mine = (Delivery.id == claim.id, Delivery.fence == claim.fence, Delivery.status == DeliveryStatus.INFLIGHT)
    statement = update(Delivery).where(*is_mine).values(**values)
    return bool(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]


def _failed(claim: Claim, fault: str, now: datetime) -> None:
    """Count a failure against the lane: from the third in a row on it is left alone for a while."""
    lane = db.session.get_one(Lane, claim.lane_id, with_for_update=True)
    lane.failures += 1
    lane.failing_since = lane.failing_since or now
    pause = lane_pause(lane.failures)
    lane.paused_until = now + pause if pause else None
    facts = {"partner_id": lane.partner_id, "channel": lane.channel.value, "failures": lane.failures}
    if lane.alarms < len(_ALARMS) and now - lane.failing_since >= _ALARMS[lane.alarms]:
        lane.alarms += 1
        said = "Partner %s has not taken anything by %s since %s: %s"
        logger.error(said, lane.partner_id, lane.channel, lane.failing_since, fault, extra=facts)
    else:
        logger.warning("Delivery %s of event %s is put off: %s", claim.id, claim.event, fault, extra=facts)


def _worked(claim: Claim) -> None:
    """The lane is well. Written only when it was not: it is shared by all of the partner's subscriptions."""
    well = {"failures": 0, "failing_since": None, "paused_until": None, "alarms": 0}
    db.session.execute(update(Lane).where(Lane.id == claim.lane_id, Lane.failures > 0).values(**well))
