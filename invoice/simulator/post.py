"""What leaves the stand-in: webhooks and status callbacks, over real HTTP, never with a transaction open.

Each registration has a lane of its own, so that a receiver who is slow keeps nobody else waiting. An event is marked
as delivered after its receiver said so; a crash in between sends it a second time, never not at all.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

import requests
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoice.simulator import signing
from invoice.simulator.accounts import DEMO_TWILIO
from invoice.simulator.models import Delivery, Receipt, Webhook
from invoice.simulator.world import World

logger = logging.getLogger(__name__)

# Source: Vipps webhooks guide (agent-toolkit, 2026-08-21): answer within 10 s; tried for 7 days.
TIMEOUT = 10
_GIVE_UP = timedelta(days=7)
_DELETE_REGISTRATION = timedelta(days=14)
_HOURLY_THROUGH = 29

# Twilio tries a status callback once more when it cannot connect. Source: Twilio, connection overrides (2025).
_RECEIPT_ATTEMPTS = 2
_RECEIPT_PAUSE = timedelta(seconds=1)
_RECEIPTS = "receipts"  # the lane of all status callbacks
_MOST_LANES = 80  # twenty-five registrations for each of three sales units, and the status callbacks


def pause_after(attempts: int) -> timedelta:
    """Return how long a webhook waits after its `attempts`-th failure: 2 s four times, 60 s, 120 s, hourly, daily."""
    if attempts <= 4:
        return timedelta(seconds=2)
    if attempts <= 6:
        return timedelta(seconds=60 * (attempts - 4))
    return timedelta(hours=1) if attempts < _HOURLY_THROUGH else timedelta(days=1)


def new_http() -> requests.Session:
    """Return a client that uses neither a proxy nor a .netrc of this machine."""
    http = requests.Session()
    http.trust_env = False
    return http


def webhook_request(url: str, body: bytes, secret: str, at: datetime) -> dict[str, str]:
    """Return the headers with which Vipps sends an event."""
    sent_to = requests.Request("POST", url).prepare().url or url  # as it will stand on the wire
    signed = signing.webhook_headers(sent_to, body, secret, at)
    return {"Content-Type": "application/json; charset=utf-8", "User-Agent": "Vipps MobilePay/Webhooks", **signed}


class Post:
    """Sends what is owed, each lane in order. `send_due` is called by one thread at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._threads = ThreadPoolExecutor(_MOST_LANES, thread_name_prefix="post")
        self._lanes: dict[str, Future[None]] = {}

    def close(self) -> None:
        """End; waits for receivers who are being told right now."""
        self._threads.shutdown()

    def send_due(self, *, wait: bool) -> None:
        """Send everything that is due now. wait: until it is sent; otherwise it goes on by itself."""
        until = self._world.clock.now()
        for lane in self._due_lanes(until):
            running = self._lanes.get(lane)
            if running is None or running.done():
                self._lanes[lane] = self._threads.submit(self._empty, lane, until)
        for lane, running in list(self._lanes.items()):
            if wait or running.done():
                del self._lanes[lane]
                running.result()

    def _due_lanes(self, until: datetime) -> list[str]:
        with self._world.store.read() as session:
            lanes = list(session.scalars(select(Delivery.webhook_id).where(Delivery.wake_at <= until).distinct()))
            if session.scalar(select(Receipt.number).where(Receipt.wake_at <= until).limit(1)) is not None:
                lanes.append(_RECEIPTS)
        return lanes

    def _empty(self, lane: str, until: datetime) -> None:
        with new_http() as http:
            while not self._world.stopping.is_set():
                is_sent = self._send_receipt(http, until) if lane == _RECEIPTS else self._send(http, lane, until)
                if not is_sent:
                    return

    def _send(self, http: requests.Session, lane: str, until: datetime) -> bool:
        order = Delivery.number.desc() if self._world.switchboard.values.webhooks_reordered else Delivery.number
        due = select(Delivery).where(Delivery.webhook_id == lane, Delivery.wake_at <= until).order_by(order).limit(1)
        with self._world.store.read() as session:
            delivery = session.scalar(due)
            webhook = session.scalar(select(Webhook).where(Webhook.id == lane)) if delivery else None
        if delivery is None:
            return False
        if webhook is None:
            self._settle(delivery.number, "registration deleted")
            return True
        now = self._world.clock.now()
        switches = self._world.switchboard.values
        signed_at = now if switches.webhook_retries_resigned else delivery.signed_at or now
        secret = "not the secret" if switches.webhooks_wrongly_signed else webhook.secret
        body = delivery.body.encode()
        if self._post(http, webhook.url, body, webhook_request(webhook.url, body, secret, signed_at)):
            self._settle(delivery.number, "delivered")
        else:
            self._put_off(delivery.number, signed_at)
        return True

    def _post(self, http: requests.Session, url: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            with http.post(url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False) as answer:
                return 200 <= answer.status_code < 300
        except requests.RequestException as error:
            logger.info("A receiver could not be reached: %s", type(error).__name__)
            return False

    def _settle(self, number: int, outcome: str) -> None:
        with self._world.store.write() as session:
            delivery = session.get_one(Delivery, number)
            delivery.attempts += 1
            delivery.outcome = outcome
            delivery.wake_at = None
            webhook = session.scalar(select(Webhook).where(Webhook.id == delivery.webhook_id))
            if webhook and webhook.failing_since:
                webhook.failing_since = None

    def _put_off(self, number: int, signed_at: datetime) -> None:
        now = self._world.clock.now()
        with self._world.store.write() as session:
            delivery = session.get_one(Delivery, number)
            delivery.attempts += 1
            delivery.signed_at = delivery.signed_at or signed_at
            delivery.wake_at = now + pause_after(delivery.attempts)
            if delivery.wake_at - delivery.created_at > _GIVE_UP:
                logger.warning("Webhook %s was given up after %s attempts", delivery.event, delivery.attempts)
                delivery.outcome, delivery.wake_at = "given up", None
            else:
                _hold_back_later_ones(session, delivery)
            _note_failure(session, delivery.webhook_id, now)

    def _send_receipt(self, http: requests.Session, until: datetime) -> bool:
        with self._world.store.read() as session:
            receipt = session.scalar(select(Receipt).where(Receipt.wake_at <= until).order_by(Receipt.number).limit(1))
        if receipt is None:
            return False
        signature = signing.twilio_signature(receipt.url, receipt.form, DEMO_TWILIO.auth_token)
        reached = self._post_form(http, receipt, signature)
        with self._world.store.write() as session:
            row = session.get_one(Receipt, receipt.number)
            row.attempts += 1
            again = not reached and row.attempts < _RECEIPT_ATTEMPTS
            row.wake_at = self._world.clock.now() + _RECEIPT_PAUSE if again else None
        return True

    def _post_form(self, http: requests.Session, receipt: Receipt, signature: str) -> bool:
        headers = {"X-Twilio-Signature": signature, "User-Agent": "TwilioProxy/1.1"}
        try:
            with http.post(receipt.url, data=receipt.form, headers=headers, timeout=TIMEOUT, allow_redirects=False):
                return True
        except requests.RequestException as error:
            logger.info("A status callback could not be delivered: %s", type(error).__name__)
            return False


def _hold_back_later_ones(session: Session, delivery: Delivery) -> None:
    """Let what follows for the same payment wait as long as the event that failed."""
    later = select(Delivery).where(
        Delivery.webhook_id == delivery.webhook_id,
        Delivery.subject == delivery.subject,
        Delivery.number > delivery.number,
        Delivery.wake_at < delivery.wake_at,
    )
    for row in session.scalars(later):
        row.wake_at = delivery.wake_at


def _note_failure(session: Session, webhook_id: str, now: datetime) -> None:
    webhook = session.scalar(select(Webhook).where(Webhook.id == webhook_id))
    if webhook is None:
        return
    webhook.failing_since = webhook.failing_since or now
    if now - webhook.failing_since >= _DELETE_REGISTRATION:
        logger.warning("A webhook registration was deleted: it failed for two weeks")
        session.delete(webhook)
