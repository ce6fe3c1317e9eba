"""The life of a subscription: asked for, cancelled, expired.

What its consent does stands in `consents`, its money in `charges`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from sqlalchemy.exc import IntegrityError

from invoice.clock import glances, utc_now
from invoice.config import Settings
from invoice.errors import Busy, Conflict, NotFound, ProviderRefused
from invoice.lifecycle import CHARGE_STATUS_WORDS, OperationStatus, SubscriptionStatus
from invoice.names import new_token, new_ulid
from invoice.providers.guard import Guard
from invoice.services import brakes, callbacks, idempotency, messages, outbox, stops
from invoice.services.drafts import Drafts
from invoice.services.idempotency import Attempt
from invoice.services.invitations import Invitations, Words
from invoice.services.operations import Claim, Operations
from invoice.services.partners import PartnerView
from invoice.services.wishes import SubscriptionRequest
from invoice.store import queries
from invoice.store.db import db, reading, transaction, violates
from invoice.store.models import Message, Subscription

logger = logging.getLogger(__name__)

_CANCELLABLE = frozenset({SubscriptionStatus.PENDING, SubscriptionStatus.ACTIVE})
_INVITED = frozenset({SubscriptionStatus.PENDING})
_PATIENCE_S = 3.0
# No call takes longer: whoever asked for a draft before that is gone, and nobody will say no any more.
_LONGEST_DRAFT = timedelta(seconds=30)


@dataclass(frozen=True)
class Requested:
    """The answer to a request."""

    subscription_id: int
    url: str
    sms_parts: int | None = None  # of the text that goes out, if one does


class Subscriptions:
    """Requests, cancels and expiries."""

    def __init__(
        self, settings: Settings, operations: Operations, drafts: Drafts, invitations: Invitations, guard: Guard
    ) -> None:
        """guard: says which callback addresses of partners may be called."""
        self._settings = settings
        self._guard = guard
        self._operations = operations
        self._drafts = drafts
        self._invitations = invitations

    def request(self, partner: PartnerView, wish: SubscriptionRequest, attempt: Attempt | None = None) -> Requested:
        """Accept a request and draft its consent, in bounded time; the same order number and wish get the same answer.

        Raises Conflict when the order number stands for another wish, ProviderRefused when Vipps says no, Limited
        over a cap of texts, Busy while the same is asked of Vipps by somebody else.
        When Vipps says nothing the request is accepted all the same: the person's click drafts.
        """
        try:
            requested, claim = self._accept(partner, wish, attempt)
        except IntegrityError as error:
            if not violates(error, "uq_subscriptions_partner_order"):
                raise
            # Two at once: the other one has won, and its row is there now.
            requested, claim = self._accept(partner, wish, attempt)
        if claim is not None:
            self._operations.perform(claim)
        self._await_draft(requested.subscription_id, 0 if claim else _PATIENCE_S)
        return requested

    def _accept(
        self, partner: PartnerView, wish: SubscriptionRequest, attempt: Attempt | None
    ) -> tuple[Requested, Claim | None]:
        with transaction():
            held = self._held(partner, wish, attempt)
            if held is not None:
                idempotency.remember(attempt, held.id)
                text = queries.first_text(held.id) if wish.send_sms else None
                return self._answer(held, text), None
            brakes.refuse_while_frozen()
            subscription = self._enter(partner, wish)
            body = self._invitations.write(subscription, wish.sms_text)
            text = self._invitations.enter(subscription, body, wish.sms_originator) if wish.send_sms else None
            outbox.record(subscription, "subscription.requested", order=wish.order_number, sms=wish.send_sms)
            idempotency.remember(attempt, subscription.id)
            return self._answer(subscription, text), self._drafts.begin(subscription)

    def _held(self, partner: PartnerView, wish: SubscriptionRequest, attempt: Attempt | None) -> Subscription | None:
        """Return what was made for this very request before, under its key or its order number."""
        made = idempotency.made_by(attempt)
        if made is not None:
            return db.session.get_one(Subscription, made)
        if wish.order_number is None:
            return None
        held = queries.subscription_by_order(partner.id, wish.order_number)
        if held is not None and held.request_digest != wish.digest:
            raise Conflict(f'orderNumber "{wish.order_number}" is in use for another subscription')
        return held

    def _await_draft(self, subscription_id: int, patience_s: float) -> None:
        """Return when Vipps has answered the first draft, or nobody waits for it any more.

        Raises ProviderRefused when Vipps has said no, and Busy when another still waits for the answer: the link is
        dead if it will be a no.
        """
        for _ in glances(patience_s):
            with reading():
                draft = queries.first_draft(subscription_id)
                if draft.status == OperationStatus.REFUSED:
                    raise ProviderRefused(draft.last_error)
                is_asked = utc_now() - draft.created_at < _LONGEST_DRAFT
                if draft.status != OperationStatus.INFLIGHT or not is_asked:
                    return
        if patience_s:
            raise Busy

    def _enter(self, partner: PartnerView, wish: SubscriptionRequest) -> Subscription:
        now = utc_now()
        chosen = callbacks.targets(self._guard, wish.callback_urls)
        subscription = Subscription(
            ulid=new_ulid(),
            partner_id=partner.id,
            order_number=wish.order_number,
            request_digest=wish.digest,
            msisdn=wish.msisdn,
            name=wish.name,
            description=wish.description,
            currency=wish.currency,
            amount=wish.amount,
            campaign_amount=wish.campaign_amount,
            initial_amount=wish.initial_amount,
            interval=wish.interval,
            member_id=wish.member_id,
            agreement_url="",
            link_token=new_token(),
            manage_token=new_token(),
            link_expires_at=now + timedelta(days=self._settings.invoice_link_days),
            status=SubscriptionStatus.PENDING,
            created_at=now,
            event_count=0,
            next_period=1,
        )
        db.session.add(subscription)
        db.session.flush()
        subscription.agreement_url = self._manage_address(subscription, wish.agreement_url)
        callbacks.enter(subscription, chosen)
        return subscription

    def _manage_address(self, subscription: Subscription, given: str | None) -> str:
        """Return what stands behind "manage" in the app: the partner's page, or ours, with `recurring` in its query."""
        ours = self._settings.invoice_public_url
        if given is None or _place(given) == _place(ours):
            given = f"{self._settings.invoice_public_url}/manage/{subscription.manage_token}"
        return with_recurring(given, subscription.id)

    def _answer(self, subscription: Subscription, text: Message | None) -> Requested:
        path = f"/api/recurring/process/{subscription.partner_id}/{subscription.link_token}"
        parts = text.segments if text else None
        return Requested(subscription.id, self._settings.invoice_public_url + path, parts)

    def resend(
        self, partner: PartnerView, number: int | None, member_id: str, words: Words, attempt: Attempt | None = None
    ) -> Requested:
        """Text the link of a subscription once more.

        Raises NotFound as a cancel does, Conflict when nobody can accept it (any more), Limited over a cap of texts.
        """
        with transaction():
            made = idempotency.made_by(attempt)
            if made is not None:
                text = db.session.get_one(Message, made)
                return self._answer(db.session.get_one(Subscription, text.subscription_id), text)
            subscription = _named(partner, number, member_id, _INVITED)
            text = self._invitations.resend(subscription, member_id, words)
            idempotency.remember(attempt, text.id)
            return self._answer(subscription, text)

    # The end

    def cancel_for(
        self, partner: PartnerView, number: int | None, member_id: str, attempt: Attempt | None = None
    ) -> None:
        """Cancel a partner's subscription by its number, or by the member's id.

        Raises NotFound when this partner has no such subscription, Conflict (in the documented words) when it
        cannot be cancelled or when the member has several.
        """
        with transaction():
            if idempotency.made_by(attempt) is None:
                subscription = _named(partner, number, member_id, _CANCELLABLE)
                _cancel(subscription, member_id)
                idempotency.remember(attempt, subscription.id)

    def cancel(self, subscription_id: int) -> None:
        """Cancel for the person, who holds the manage link. Raises Conflict when it cannot be cancelled."""
        with transaction():
            _cancel(queries.lock_subscription(subscription_id), str(subscription_id))

    def to_expire(self) -> Sequence[int]:
        """Return subscriptions whose link has run out with nobody able to accept any more."""
        with reading():
            return queries.subscriptions_to_expire(utc_now(), 200)

    def expire(self, subscription_id: int) -> None:
        """End a subscription whose link has run out, unless somebody was quicker."""
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            is_pending = subscription.status == SubscriptionStatus.PENDING
            if is_pending and not queries.live_agreements(subscription.id):
                subscription.status, subscription.ended_at = SubscriptionStatus.EXPIRED, utc_now()
                messages.withdraw(subscription)
                outbox.record(subscription, "subscription.expired")


def _named(
    partner: PartnerView, number: int | None, member_id: str, wanted: frozenset[SubscriptionStatus]
) -> Subscription:
    """Return the subscription that a partner means, locked: of a member's several the one in a wanted status."""
    found = queries.subscriptions_to_cancel(partner.id, number, member_id)
    chosen = [s for s in found if s.status in wanted] or found[:1]
    if not chosen:
        brakes.refuse_while_frozen()  # it may be one whose row is lost
        raise NotFound("Recurring not found")
    if len(chosen) > 1:
        raise Conflict(f'"{member_id}" has {len(chosen)} subscriptions: name one by its subscriptionId')
    return queries.lock_subscription(chosen[0].id)


def _cancel(subscription: Subscription, called: str) -> None:
    if subscription.status not in _CANCELLABLE:
        word = CHARGE_STATUS_WORDS[subscription.status]
        raise Conflict(f'Subscription with status: "{word}" for "{called}" cannot be cancelled')
    stops.begin_cancel(subscription)


def with_recurring(url: str, subscription_id: int) -> str:
    """Return `url` with `recurring=<id>` at the end of its query, the rest of the query and the fragment kept."""
    parts = urlsplit(url)
    kept = [p for p in parts.query.split("&") if p and unquote_plus(p.split("=", 1)[0]).lower() != "recurring"]
    return urlunsplit(parts._replace(query="&".join([*kept, f"recurring={subscription_id}"])))


def _place(url: str) -> tuple[str | None, int]:
    """Return the host and port of an address, however they are spelled."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
