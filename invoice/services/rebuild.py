"""A subscription whose row is lost, made anew from its agreement: what it costs, how often, its number, its partner.

What the provider never knew stays unknown: the phone number, the partner's order number and callbacks.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.lifecycle import AgreementStatus, SubscriptionStatus
from invoice.names import new_token
from invoice.providers.base import AgreementView
from invoice.services import outbox
from invoice.services.drafts import next_attempt
from invoice.store import queries
from invoice.store.db import db
from invoice.store.models import Subscription

logger = logging.getLogger(__name__)


def subscription_of(view: AgreementView, partner_id: int | None, account: str, settings: Settings) -> bool:
    """Write down the subscription that an agreement of ours belongs to, in the caller's transaction.

    False when nobody can tell whose it is (None), or what it costs.
    """
    if partner_id is None or view.interval is None or not view.amount:
        logger.error("Agreement %s is of a subscription that is lost, and of nobody known.", view.agreement_id)
        return False
    now = utc_now()
    subscription = Subscription(
        id=_number_of(view),
        ulid=str(view.external_id),
        partner_id=partner_id,
        request_digest=sha256(view.agreement_id.encode()).digest(),
        msisdn="",
        name=view.product_name[:200],
        description=view.description[:2000],
        currency=view.currency,
        amount=view.amount,
        initial_amount=0,
        interval=view.interval,
        agreement_url=view.manage_url,
        link_token=new_token(),
        manage_token=_manage_token_of(view, settings) or new_token(),
        link_expires_at=now,
        status=SubscriptionStatus.PENDING,
        created_at=now,
        event_count=0,
        next_period=1,
    )
    db.session.add(subscription)
    db.session.flush()
    next_attempt(subscription, AgreementStatus.LOST, account)
    outbox.record(subscription, "subscription.requested", amount=subscription.amount)
    logger.warning("Subscription %s is made anew from agreement %s.", subscription.id, view.agreement_id)
    return True


def partner_of(view: AgreementView, account: str, settings: Settings) -> int | None:
    """Return whose an agreement is: the account's owner, the only partner, or the one whose pages it is managed at.

    None when nobody can tell: the account serves several partners, and the page is ours or not of one alone.
    """
    owner = queries.owner_of(account)
    if owner is not None:
        return owner
    candidates = queries.partner_ids()
    if len(candidates) > 1:
        parts = urlsplit(view.manage_url)
        place = f"{parts.scheme}://{parts.netloc}/"
        is_ours = view.manage_url.startswith(f"{settings.invoice_public_url}/")
        candidates = [] if is_ours else queries.partners_managing_at(place)
    return candidates[0] if len(candidates) == 1 else None


def _number_of(view: AgreementView) -> int | None:
    """Return the number on the manage link, if nobody has it now; None has the database choose one."""
    (number,) = parse_qs(urlsplit(view.manage_url).query).get("recurring", ["0"])[:1]
    is_number = number.isascii() and number.isdigit() and 0 < int(number) < 2**31
    return int(number) if is_number and db.session.get(Subscription, int(number)) is None else None


def _manage_token_of(view: AgreementView, settings: Settings) -> str | None:
    """Return the token of our own manage page, when that stands behind "manage"."""
    prefix = f"{settings.invoice_public_url}/manage/"
    return urlsplit(view.manage_url).path.rpartition("/")[2] if view.manage_url.startswith(prefix) else None
