"""What leaves the stand-in: webhooks and status callbacks, over real HTTP, never with a transaction open.

An event is marked as delivered after its receiver said so; a crash in between sends it a second time, never not at all.
"""

from __future__ import annotations

import logging
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
_TIMEOUT = 10
_GIVE_UP = timedelta(days=7)
_DELETE_REGISTRATION = timedelta(days=14)
_HOURLY_THROUGH = 29

# Twilio tries a status callback once more when it cannot connect. Source: Twilio, connection overrides (2025).
_RECEIPT_ATTEMPTS = 2
_RECEIPT_PAUSE = timedelta(seconds=1)


def pause_after(attempts: int) -> timedelta:
    """Return how long a webhook waits after its `attempts`-th failure: 2 s four times, 60 s, 120 s, hourly, daily."""
    if attempts <= 4:
        return timedelta(seconds=2)
    if attempts <= 6:
        return timedelta(seconds=60 * (attempts - 4))
    return timedelta(hours=1) if attempts < _HOURLY_THROUGH else timedelta(days=1)


class Post:
    """Sends what is owed, in order. Used by one thread at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._http = requests.Session()
        self._http.trust_env = False  # neither a proxy nor a .netrc of this machine

    def close(self) -> None:
        """Close the connections to receivers."""
        self._http.close()

    def send_due(self) -> None:
        """Send everything that is due now."""
        until = self._world.clock.now()
        while not self._world.stopping.is_set():
            if not self._send_webhook(until) and not self._send_receipt(until):
                return

    def _send_webhook(self, until: datetime) -> bool:
        with self._world.store.read() as session:
            due = select(Delivery).where(Delivery.wake_at <= until).order_by(Delivery.number).limit(1)
            delivery = session.scalar(due)
            webhook = session.scalar(select(Webhook).where(Webhook.id == delivery.webhook_id)) if delivery else None
        if delivery is None:
            return False
        if webhook is None:
            self._settle(delivery.number, "registration deleted")
            return True
        now = self._world.clock.now()
        signed_at = now if self._world.switchboard.values.webhook_retries_resigned else delivery.signed_at or now
        headers = self._headers(webhook, delivery, signed_at)
        if self._post(webhook.url, delivery.body.encode(), headers):
            self._settle(delivery.number, "delivered")
        else:
            self._put_off(delivery.number, signed_at)
        return True

    def _headers(self, webhook: Webhook, delivery: Delivery, signed_at: datetime) -> dict[str, str]:
        secret = "not the secret" if self._world.switchboard.values.webhooks_wrongly_signed else webhook.secret
        url = requests.Request("POST", webhook.url).prepare().url or webhook.url  # as it will be sent
        signed = signing.webhook_headers(url, delivery.body.encode(), secret, signed_at)
        return {"Content-Type": "application/json; charset=utf-8", "User-Agent": "Vipps MobilePay/Webhooks", **signed}

    def _post(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        try:
            with self._http.post(url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as answer:
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

    def _send_receipt(self, until: datetime) -> bool:
        with self._world.store.read() as session:
            receipt = session.scalar(select(Receipt).where(Receipt.wake_at <= until).order_by(Receipt.number).limit(1))
        if receipt is None:
            return False
        signature = signing.twilio_signature(receipt.url, receipt.form, DEMO_TWILIO.auth_token)
        reached = self._post_form(receipt.url, receipt.form, signature)
        with self._world.store.write() as session:
            row = session.get_one(Receipt, receipt.number)
            row.attempts += 1
            again = not reached and row.attempts < _RECEIPT_ATTEMPTS
            row.wake_at = self._world.clock.now() + _RECEIPT_PAUSE if again else None
        return True

    def _post_form(self, url: str, form: dict[str, str], signature: str) -> bool:
        headers = {"X-Twilio-Signature": signature, "User-Agent": "TwilioProxy/1.1"}
        try:
            with self._http.post(url, data=form, headers=headers, timeout=_TIMEOUT, allow_redirects=False):
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
