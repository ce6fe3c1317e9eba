"""Our address at the payment provider: one registration whose secret we hold, and none whose secret we do not.

The secret is told once, in the answer to the registering call. When that answer is lost, or we were killed before it
was stored, the provider signs with a secret that nobody knows; such a registration is ended and made anew.
"""

from __future__ import annotations

import logging

from sqlalchemy import delete, select

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.names import new_token
from invoice.providers.base import PaymentProvider
from invoice.store.db import db, reading, transaction
from invoice.store.models import WebhookRegistration

logger = logging.getLogger(__name__)

PATH = "/hooks/vipps/"


class WebhookRegistrations:
    """Keeps our registration alive."""

    def __init__(self, settings: Settings, payments: PaymentProvider) -> None:
        self._base = settings.invoice_public_url + PATH
        self._payments = payments

    def ensure(self) -> int:
        """Compare with the provider, end what nobody can verify, register when there is none; return changes made.

        Raises ProviderError when the provider cannot say.
        """
        there = [w for w in self._payments.list_webhooks() if w.url.startswith(self._base)]
        with reading():
            ours = set(db.session.scalars(select(WebhookRegistration.provider_webhook_id)))
        orphans = [w for w in there if w.webhook_id not in ours]
        for orphan in orphans:
            self._payments.delete_webhook(orphan.webhook_id)
        if any(w.webhook_id in ours for w in there):
            return len(orphans)
        self._register()
        return len(orphans) + 1

    def _register(self) -> None:
        token = new_token()
        address, secret = self._payments.register_webhook(self._base + token)
        with transaction():
            db.session.execute(delete(WebhookRegistration))
            db.session.add(
                WebhookRegistration(
                    token=token,
                    provider_webhook_id=address.webhook_id,
                    url=address.url,
                    secret=secret,
                    created_at=utc_now(),
                )
            )
        logger.info("Webhooks are registered.")
