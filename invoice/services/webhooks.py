"""Our address at the payment provider: a registration for each account whose secret we hold, and none besides.

The secret is told once, in the answer to the registering call. When that answer is lost, or we were killed before it
was stored, the provider signs with a secret that nobody knows; such a registration is ended and made anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import ProviderError
from invoice.names import new_token
from invoice.providers.base import PaymentProvider
from invoice.services.accounts import Accounts
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import InboundEvent, WebhookRegistration

logger = logging.getLogger(__name__)

PATH = "/hooks/vipps/"


@dataclass(frozen=True)
class WebhookState:
    """A registration as the provider and we have it. `url` is None when we hold none."""

    url: str | None
    is_known_there: bool
    last_came_at: datetime | None


class WebhookRegistrations:
    """Keeps our registrations alive, one for each account at the provider."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self._base = settings.invoice_public_url + PATH
        self._accounts = accounts

    def ensure(self) -> int:
        """Do for every account what `ensure_for` does; return changes made.

        One account's failure does not keep the others from being looked at; raises the last ProviderError then.
        """
        changes, failure = 0, None
        for payments in self._accounts.every():
            try:
                changes += self.ensure_for(payments)
            except ProviderError as error:
                logger.warning("The webhooks of account %s are looked at later: %s", payments.account, error.message)
                failure = error
        if failure is not None:
            raise failure
        return changes

    def ensure_for(self, payments: PaymentProvider) -> int:
        """Compare with the provider, end what nobody can verify, register when there is none; return changes made.

        Raises ProviderError when the provider cannot say.
        """
        there = [w for w in payments.list_webhooks() if w.url.startswith(self._base)]
        with reading():
            known = select(WebhookRegistration.provider_webhook_id).where(
                WebhookRegistration.account == payments.account
            )
            ours = set(db.session.scalars(known))
        orphans = [w for w in there if w.webhook_id not in ours]
        for orphan in orphans:
            payments.delete_webhook(orphan.webhook_id)
        if any(w.webhook_id in ours for w in there):
            return len(orphans)
        self._register(payments)
        return len(orphans) + 1

    def state_of(self, payments: PaymentProvider) -> WebhookState:
        """Return how our registration with one account stands. Raises ProviderError when the provider cannot say."""
        there = {w.webhook_id for w in payments.list_webhooks()}
        with reading():
            mine = WebhookRegistration.account == payments.account
            row = db.session.scalar(select(WebhookRegistration).where(mine))
            came = select(func.max(InboundEvent.received_at)).where(InboundEvent.account == payments.account)
            is_alive = row is not None and row.provider_webhook_id in there
            return WebhookState(row.url if row else None, is_alive, db.session.scalar(came))

    def _register(self, payments: PaymentProvider) -> None:
        token = new_token()
        address, secret = payments.register_webhook(self._base + token)
        with transaction():
            db.session.execute(delete(WebhookRegistration).where(WebhookRegistration.account == payments.account))
            # Until now nothing reached us: what was given back meanwhile is told by nobody.
            queries.read_back_all(payments.account, utc_now())
            db.session.add(
                WebhookRegistration(
                    account=payments.account,
                    token=token,
                    provider_webhook_id=address.webhook_id,
                    url=address.url,
                    secret=secret,
                    created_at=utc_now(),
                )
            )
        logger.info("Webhooks are registered for account %s.", payments.account)
