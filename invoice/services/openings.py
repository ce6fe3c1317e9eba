"""Whether the links that are texted are opened. A partner's texts that hardly anybody opens are paused.

Texts that nobody wants cost money and annoy people; whoever has them sent to numbers that earn by each text (SMS
pumping) opens none of them either. Only an operator resumes.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import NotFound
from invoice.services import partners
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Partner

logger = logging.getLogger(__name__)

_WINDOW = timedelta(hours=24)
_TIME_TO_OPEN = timedelta(hours=1)  # a text that has just arrived tells nothing yet
_MANY = 200  # fewer than these tell nothing, either


class Openings:
    """Looks at what came of texts."""

    def __init__(self, settings: Settings) -> None:
        self._percent = settings.invoice_sms_opened_percent

    def pause_unopened(self) -> int:
        """Pause the texts of each partner with more than 200 of them, of which fewer are opened than the settings want.

        Counted are those of the last 24 hours that are at least an hour old, and since an operator last resumed.
        """
        now = utc_now()
        with transaction():
            found = queries.openings(now - _WINDOW, now - _TIME_TO_OPEN)
            shut = [(partner_id, sent, opened) for partner_id, sent, opened in found if self._is_shut(sent, opened)]
            for partner_id, _, _ in shut:
                db.session.get_one(Partner, partner_id).texts_paused_at = now
        for partner_id, sent, opened in shut:
            logger.error(
                "The texts of partner %s are paused: of %s within 24 hours %s were opened. "
                "`flask partner resume-texts` lets them go on.",
                *(partner_id, sent, opened),
            )
        return len(shut)

    def _is_shut(self, sent: int, opened: int) -> bool:
        return sent > _MANY and 100 * opened < self._percent * sent


def resume(partner_id: int) -> None:
    """Let a partner's texts go on; what was sent before counts no more. Raises NotFound when they are not paused."""
    partners.get(partner_id)
    with transaction():
        partner = db.session.get_one(Partner, partner_id, with_for_update=True)
        if partner.texts_paused_at is None:
            raise NotFound(f"The texts of partner {partner_id} are not paused.")
        partner.texts_paused_at, partner.texts_resumed_at = None, utc_now()


def mark(link_token: str) -> None:
    """Write down that a person has opened a link. Raises NotFound."""
    with reading():
        found = queries.subscription_by_link(link_token)
        if found is None:
            raise NotFound
        subscription_id, is_new = found.id, found.opened_at is None
    if is_new:
        with transaction():
            queries.lock_subscription(subscription_id).opened_at = utc_now()
