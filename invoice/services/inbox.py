"""What the providers tell us: stored, then rung. The payload carries no news; it says where to look.

A webhook may come before we hold the answer to the very call that it is about. It is stored all the same and
answered 200 (an error would hold back what comes behind it), and tried again until the row is there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, update

from invoice.clock import utc_now
from invoice.errors import Invalid
from invoice.lifecycle import ChargeStatus
from invoice.providers.base import PaymentProvider, Receipt, Ring
from invoice.services.books import NOT_CREATED
from invoice.services.consents import Consents
from invoice.services.messages import Messages
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, InboundEvent, WebhookRegistration

logger = logging.getLogger(__name__)

_RETRY = timedelta(seconds=10)
_LEASE = timedelta(seconds=60)
# Longer than any draft lives and as long as Vipps would repeat it.
_GIVE_UP = timedelta(days=7)
_TAKEN_IN = (ChargeStatus.SUBMITTING, ChargeStatus.SUBMITTED)


@dataclass(frozen=True)
class Registration:
    """Where a webhook was sent, and the secret that it must be signed with."""

    url: str
    secret: str
    account: str


class Inbox:
    """Takes in what was verified."""

    def __init__(self, payments: PaymentProvider, consents: Consents, messages: Messages) -> None:
        self._payments = payments
        self._consents = consents
        self._messages = messages

    def registration(self, token: str) -> Registration | None:
        """Return the registration whose address ends in `token`."""
        with reading():
            row = db.session.scalar(db.select(WebhookRegistration).where(WebhookRegistration.token == token))
            return Registration(row.url, row.secret, row.account) if row else None

    def take_webhook(self, body: bytes, account: str) -> None:
        """Store a genuine webhook and ring; the same bytes again change nothing.

        account: whose registration it came by; it can speak of that account's agreements only.

        Raises Invalid for one that cannot be read.
        """
        ring = self._payments.read_webhook(body)
        with transaction():
            digest = _store("vipps", body.decode("utf-8", "replace"), account)
            if digest is not None and _ring(ring, account):
                _mark_read(InboundEvent.digest == digest)

    def take_receipt(self, message_id: int, receipt: Receipt, form: Mapping[str, str], *, seal: str | None) -> bool:
        """Store a genuine receipt and move its message; return whether there is such a message.

        Raises Forbidden for one that came to another address than we gave out.
        """
        if not self._messages.receive(message_id, receipt, seal):
            return False
        facts = {"message": str(message_id), "sid": receipt.message_id, "status": form.get("MessageStatus", "")}
        with transaction():
            digest = _store("twilio", urlencode(facts), None)
            _mark_read(InboundEvent.digest == digest)
        return True

    def claim_unread(self) -> Sequence[int]:
        """Take what nobody could place yet; what fails comes back after the lease."""
        with transaction():
            return queries.claim_unread(utc_now(), _LEASE, 100)

    def place(self, event_id: int) -> None:
        """Try again to place a webhook."""
        with reading():
            event = db.session.get_one(InboundEvent, event_id)
            body, received_at, account = event.body, event.received_at, str(event.account)
        try:
            ring = self._payments.read_webhook(body.encode())
        except Invalid:
            logger.exception("Inbound event %s cannot be read.", event_id)
            with transaction():
                _mark_read(InboundEvent.id == event_id)
            return
        if ring.external_id is not None:
            self._consents.find(ring.external_id, ring.agreement_id, account)
        is_old = utc_now() - received_at > _GIVE_UP
        with transaction():
            is_placed = _ring(ring, account)
            if is_placed or is_old:
                _mark_read(InboundEvent.id == event_id)
            else:
                # The older it is, the rarer: after a day it is tried twice more in the next.
                event = db.session.get_one(InboundEvent, event_id)
                event.next_at = utc_now() + max(_RETRY, (utc_now() - received_at) / 2)
        if is_old and not is_placed:
            logger.warning("A webhook about an agreement that is not ours is laid aside.")


def _store(source: str, body: str, account: str | None) -> str | None:
    """Write down what came, unread; return its digest, or None when the same has come before."""
    now = utc_now()
    digest = sha256(f"{source}:{account or ''}:{body}".encode()).hexdigest()
    row = {
        "source": source,
        "account": account,
        "digest": digest,
        "body": body,
        "received_at": now,
        "next_at": now + _RETRY,
    }
    return digest if queries.insert_ignoring(InboundEvent, [row]) else None


def _mark_read(which: ColumnElement[bool]) -> None:
    db.session.execute(update(InboundEvent).where(which).values(read_at=utc_now()))


def _ring(ring: Ring, account: str) -> bool:
    """Have what a webhook is about looked at now; return whether we know it, and know it as this account's."""
    now = utc_now()
    if ring.account not in (None, account):
        return False
    if ring.charge_name is not None:
        charge = queries.charge_by_name(account, ring.charge_name)
        if charge is not None:
            # Whatever its row says: people pay late, and money may be given back in Vipps' portal.
            charge.check_at = now
            queries.end_pause("charges", now)
            if ring.says_not_created and charge.status in _TAKEN_IN:
                charge.failure_reason = NOT_CREATED
            return True
    agreement = queries.agreement_by_provider_id(ring.agreement_id)
    if agreement is None or agreement.account != account:
        return False
    db.session.execute(update(Agreement).where(Agreement.id == agreement.id).values(check_at=now))
    queries.end_pause("consents", now)
    return True
