"""What we say to people by SMS.

The text is a row from the moment the subscription is; it is sent once its consent has been drafted, looked up when
the answer to a send was lost, and moves forward only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from hmac import compare_digest

from invoice.clock import utc_now
from invoice.errors import (
    Forbidden,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import MESSAGE_MOVES, MessageStatus, SubscriptionStatus, may_move
from invoice.phone import segments
from invoice.providers.base import Receipt, SmsProvider
from invoice.services import outbox
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store.db import db, reading, seals, transaction
from invoice.store.models import Message, Operation, Subscription
from invoice.store.queries import lock_subscription, other_texts_at_provider

logger = logging.getLogger(__name__)

SEND = "SEND"
# A text whose send was lost shows in Twilio's list after a while; only then is it sent again, and only once.
_EVIDENCE_AFTER = timedelta(minutes=10)
_MAX_SENDS = 2


def enter(subscription: Subscription, body: str, originator: str) -> Message:
    """Write an invitation down in the caller's transaction; `release` or `withdraw` decides about it."""
    message = Message(
        subscription_id=subscription.id,
        partner_id=subscription.partner_id,
        recipient=subscription.msisdn,
        originator=originator,
        body=body,
        segments=segments(body),
        status=MessageStatus.QUEUED,
        created_at=utc_now(),
    )
    db.session.add(message)
    db.session.flush()
    return message


def release(subscription: Subscription, public_url: str) -> None:
    """Have what was written down sent. The caller holds the lock."""
    for message in _queued(subscription):
        request = json.dumps(
            {
                "to": message.recipient,
                "originator": message.originator,
                "body": message.body,
                "receipt_url": f"{public_url}/hooks/twilio/{message.id}?seal={seals(_receipt_of(message.id))[0]}",
            },
            ensure_ascii=False,
        )
        message.is_sealed = True
        name = f"{subscription.ulid}-m{message.id}"
        stage(Act(SEND, message.id, subscription.id, name, request=request))


def _receipt_of(message_id: int) -> str:
    """Return what is sealed in the address that a receipt comes to."""
    return f"receipt of message {message_id}"


def withdraw(subscription: Subscription) -> None:
    """There is nothing to invite to."""
    for message in _queued(subscription):
        message.status = MessageStatus.VOID


def _queued(subscription: Subscription) -> list[Message]:
    queued = (Message.subscription_id == subscription.id, Message.status == MessageStatus.QUEUED)
    return list(db.session.scalars(db.select(Message).where(*queued)))


class Messages:
    """Sends texts and reads receipts; a handler of operations."""

    def __init__(self, sms: SmsProvider, operations: Operations) -> None:
        self._sms = sms
        operations.handle(SEND, self)

    def call(self, claim: Claim) -> Receipt | None:
        """Send it, or find out whether an earlier send arrived. None: nobody is waiting for it any more."""
        with reading():
            subscription = db.session.get_one(Subscription, claim.subscription_id)
            message = db.session.get_one(Message, claim.subject_id)
            is_wanted = subscription.status == SubscriptionStatus.PENDING and message.status == MessageStatus.QUEUED
            token = subscription.link_token
            others = other_texts_at_provider(message.id, subscription.id)
        text = json.loads(claim.request)
        if claim.in_doubt:
            found = self._find(text["to"], claim, token, others)
            if found is not None:
                return found
        if not is_wanted:
            return None
        if not claim.in_doubt:
            return self._sms.send(**text)
        self._wait_for_evidence(claim)
        try:
            return self._sms.send(**text)
        except (ProviderUnavailable, ProviderDenied):
            _uncount(claim)  # surely not sent
            raise

    def _find(self, number: str, claim: Claim, token: str, others: Sequence[str]) -> Receipt | None:
        """Look the text up, by a link that other texts hold too. A look that fails leaves it in doubt."""
        since = claim.first_sent_at - timedelta(days=1)
        try:
            return self._sms.find(to=number, since=since, containing=token, but_not=others)
        except ProviderError as error:
            raise ProviderUncertain(error.message) from error

    def _wait_for_evidence(self, claim: Claim) -> None:
        if utc_now() - claim.first_sent_at < _EVIDENCE_AFTER:
            raise ProviderUncertain("no trace of this text yet")
        with transaction():
            message = db.session.get_one(Message, claim.subject_id)
            if message.sends >= _MAX_SENDS:
                raise ProviderRefused("sent twice, and neither send shows at the SMS provider")
            message.sends += 1
            # The second has as long to show as the first had.
            db.session.get_one(Operation, claim.id).first_sent_at = utc_now()

    def settle(self, claim: Claim, result: Receipt | None) -> None:
        """The SMS provider has it, or nobody wants it."""
        message = db.session.get_one(Message, claim.subject_id)
        if result is None:
            if message.status == MessageStatus.QUEUED:
                message.status = MessageStatus.VOID
            return
        _move(db.session.get_one(Subscription, message.subscription_id), message, result, MessageStatus.ACCEPTED)

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The SMS provider will not send it."""
        message = db.session.get_one(Message, claim.subject_id)
        subscription = db.session.get_one(Subscription, message.subscription_id)
        _move(subscription, message, Receipt("", MessageStatus.FAILED, refusal.problem or "refused"), None)

    def receive(self, message_id: int, receipt: Receipt, seal: str | None) -> bool:
        """Take a receipt that the provider signed; return whether there is such a message. Late ones change nothing.

        seal: as it stood in the address. Raises Forbidden for a wrong one, and without one unless the text went out
        before there were any.
        """
        given = None if seal is None else seal.encode("utf-8", "replace")
        if given is not None and not any(compare_digest(given, s.encode()) for s in seals(_receipt_of(message_id))):
            raise Forbidden("The seal in the address does not fit.")
        with transaction():
            found = db.session.get(Message, message_id)
            if found is not None and found.is_sealed and seal is None:
                raise Forbidden("The address lacks its seal.")
            if found is None or found.provider_message_id not in (None, receipt.message_id):
                return False
            subscription = lock_subscription(found.subscription_id)
            db.session.refresh(found)
            _move(subscription, found, receipt, None)
            return True


def _uncount(claim: Claim) -> None:
    """Take back what `_wait_for_evidence` wrote down."""
    with transaction():
        db.session.get_one(Message, claim.subject_id).sends -= 1
        db.session.get_one(Operation, claim.id).first_sent_at = claim.first_sent_at


def _move(subscription: Subscription, message: Message, receipt: Receipt, otherwise: MessageStatus | None) -> None:
    """Move a message forward and say so. A receipt may be the first news of a send whose answer was lost."""
    message.provider_message_id = message.provider_message_id or receipt.message_id or None
    status = receipt.status or otherwise
    if status is None or not may_move(MESSAGE_MOVES, message.status, status):
        return
    message.status = status
    message.error_code = receipt.error_code
    facts = {"error": receipt.error_code} if receipt.error_code else {}
    outbox.record(subscription, f"message.{status.lower()}", message=message.id, segments=message.segments, **facts)
