"""The life of a subscription: asked for, cancelled, expired.

What its consent does stands in `consents`, its money in `charges`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from hashlib import sha256
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from sqlalchemy.exc import IntegrityError

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import Conflict, Invalid, NotFound, ProviderRefused
from invoice.lifecycle import CHARGE_STATUS_WORDS, Interval, OperationStatus, SubscriptionStatus
from invoice.names import new_token, new_ulid
from invoice.services import messages, outbox, stops
from invoice.services.drafts import Drafts
from invoice.services.messages import Invitation, InviteText
from invoice.services.operations import Claim, Operations
from invoice.services.partners import PartnerView
from invoice.store import queries
from invoice.store.db import db, reading, transaction, violates
from invoice.store.models import Operation, Partner, Subscription

logger = logging.getLogger(__name__)

_CANCELLABLE = frozenset({SubscriptionStatus.PENDING, SubscriptionStatus.ACTIVE})


@dataclass(frozen=True)
class SubscriptionRequest:
    """What a partner asks for; amounts in minor units, the number as E.164."""

    msisdn: str
    currency: str
    amount: int
    campaign_amount: int | None
    interval: Interval
    name: str
    description: str
    order_number: str | None
    member_id: str | None
    agreement_url: str | None
    status_callback_url: str | None
    confirm_callback_url: str | None
    send_sms: bool
    sms_text: str | None
    sms_originator: str | None

    @property
    def digest(self) -> bytes:
        """The same for the same wish, however it was spelled."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()

    @property
    def initial_amount(self) -> int:
        """What is taken at signing: the campaign's amount (0: a free first period), or else a whole period."""
        return self.amount if self.campaign_amount is None else self.campaign_amount


@dataclass(frozen=True)
class Requested:
    """The answer to a request."""

    subscription_id: int
    url: str


class Subscriptions:
    """Requests, cancels and expiries."""

    def __init__(self, settings: Settings, operations: Operations, drafts: Drafts, invite_text: InviteText) -> None:
        self._settings = settings
        self._operations = operations
        self._drafts = drafts
        self._invite_text = invite_text

    def request(self, partner: PartnerView, wish: SubscriptionRequest) -> Requested:
        """Accept a request and draft its consent, in bounded time; the same order number and wish get the same answer.

        Raises Conflict when the order number stands for another wish, ProviderRefused when Vipps says no.
        When Vipps says nothing the request is accepted all the same: the person's click drafts.
        """
        try:
            requested, claim = self._accept(partner, wish)
        except IntegrityError as error:
            if not violates(error, "uq_subscriptions_partner_order"):
                raise
            # Two at once: the other one has won, and its row is there now.
            requested, claim = self._accept(partner, wish)
        if claim is not None:
            self._operations.perform(claim)
            self._raise_if_refused(claim.id)
        return requested

    def _accept(self, partner: PartnerView, wish: SubscriptionRequest) -> tuple[Requested, Claim | None]:
        with transaction():
            if wish.order_number is not None:
                held = queries.subscription_by_order(partner.id, wish.order_number)
                if held is not None and held.request_digest != wish.digest:
                    raise Conflict(f'orderNumber "{wish.order_number}" is in use for another subscription')
                if held is not None:
                    return self._answer(held), None
            subscription = self._enter(partner, wish)
            body = self._invitation(subscription, wish)
            if wish.send_sms:
                messages.enter(subscription, body, wish.sms_originator or partner.sms_originator)
            outbox.record(subscription, "subscription.requested", order=wish.order_number, sms=wish.send_sms)
            return self._answer(subscription), self._drafts.begin(subscription)

    def _enter(self, partner: PartnerView, wish: SubscriptionRequest) -> Subscription:
        now = utc_now()
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
            status_callback_url=wish.status_callback_url,
            confirm_callback_url=wish.confirm_callback_url,
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
        return subscription

    def _invitation(self, subscription: Subscription, wish: SubscriptionRequest) -> str:
        """Return the text with the link. Raises Invalid when it is longer than can be sent, wanted now or not."""
        link = f"{self._settings.invoice_public_url}/s/{subscription.link_token}"
        partner = db.session.get_one(Partner, subscription.partner_id)
        text = wish.sms_text or self._invite_text(
            Invitation(
                merchant=partner.name,
                product=wish.name,
                amount=wish.amount,
                currency=wish.currency,
                interval=wish.interval.value,
                market=partner.market,
                link=link,
            )
        )
        body = messages.compose(text, link)
        if len(body) > messages.MAX_CHARACTERS:
            raise Invalid(
                {"smsText": [f"smsText must be at most {messages.MAX_CHARACTERS} characters, link included."]}
            )
        return body

    def _manage_address(self, subscription: Subscription, given: str | None) -> str:
        """Return what stands behind "manage" in the app: the partner's page, or ours, with `recurring` in its query."""
        ours = self._settings.invoice_public_url
        if given is None or _place(given) == _place(ours):
            given = f"{self._settings.invoice_public_url}/manage/{subscription.manage_token}"
        return with_recurring(given, subscription.id)

    def _answer(self, subscription: Subscription) -> Requested:
        path = f"/api/recurring/process/{subscription.partner_id}/{subscription.link_token}"
        return Requested(subscription.id, self._settings.invoice_public_url + path)

    def _raise_if_refused(self, operation_id: int) -> None:
        with reading():
            operation = db.session.get_one(Operation, operation_id)
            if operation.status == OperationStatus.REFUSED:
                raise ProviderRefused(operation.last_error)

    # The end

    def cancel_for(self, partner: PartnerView, number: int | None, member_id: str) -> None:
        """Cancel a partner's subscription by its number, or by the member's id.

        Raises NotFound when this partner has no such subscription, Conflict (in the documented words) when it
        cannot be cancelled or when the member has several.
        """
        with reading():
            found = queries.subscriptions_to_cancel(partner.id, number, member_id)
            living = [s.id for s in found if s.status in _CANCELLABLE]
            chosen = living or [s.id for s in found][:1]
        if not chosen:
            raise NotFound("Recurring not found")
        if len(chosen) > 1:
            raise Conflict(f'"{member_id}" has {len(chosen)} subscriptions: name one by its subscriptionId')
        self._cancel(chosen[0], member_id)

    def cancel(self, subscription_id: int) -> None:
        """Cancel for the person, who holds the manage link. Raises Conflict when it cannot be cancelled."""
        self._cancel(subscription_id, str(subscription_id))

    def _cancel(self, subscription_id: int, called: str) -> None:
        with transaction():
            subscription = queries.lock_subscription(subscription_id)
            if subscription.status not in _CANCELLABLE:
                word = CHARGE_STATUS_WORDS[subscription.status]
                raise Conflict(f'Subscription with status: "{word}" for "{called}" cannot be cancelled')
            stops.begin_cancel(subscription)

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


def with_recurring(url: str, subscription_id: int) -> str:
    """Return `url` with `recurring=<id>` at the end of its query, the rest of the query and the fragment kept."""
    parts = urlsplit(url)
    kept = [p for p in parts.query.split("&") if p and unquote_plus(p.split("=", 1)[0]).lower() != "recurring"]
    return urlunsplit(parts._replace(query="&".join([*kept, f"recurring={subscription_id}"])))


def _place(url: str) -> tuple[str | None, int]:
    """Return the host and port of an address, however they are spelled."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
