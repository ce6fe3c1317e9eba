"""What Vipps' lists of agreements are for, on the day on which no webhook comes.

`sweep` finds those whose draft's answer was lost; while nothing is lost, nothing is asked. `call_the_roll` sees
thousands of living ones with one call, so that only those that do not answer are looked at one by one.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from invoice.clock import utc_now
from invoice.errors import ProviderError
from invoice.lifecycle import AgreementStatus
from invoice.providers.base import PaymentProvider
from invoice.services.accounts import Accounts
from invoice.services.consents import ACTIVE_LOOK, Consents
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import JobRun

logger = logging.getLogger(__name__)

# A draft can be accepted for ten minutes; what has not shown in a week of looking was never made.
_LOOK_FOR = timedelta(days=7)
_CLOCKS_DIFFER = timedelta(minutes=10)
_EVER = datetime(2000, 1, 1, tzinfo=UTC)
# Twice within the day after which an agreement that was not seen is looked at by itself.
_ROLL_EVERY = timedelta(hours=11)


class Sweep:
    """Looks for what was lost."""

    def __init__(self, accounts: Accounts, consents: Consents) -> None:
        self._accounts = accounts
        self._consents = consents

    def sweep(self) -> int:
        """Take up every living agreement that is ours and that we hold no answer for; return how many there were.

        One account's failure does not keep the others from being looked at; raises the last ProviderError then.
        """
        with reading():
            lost = queries.lost_drafts_since(utc_now() - _LOOK_FOR)
        found, failure = 0, None
        for account, since in lost.items():
            try:
                found += self._look(self._accounts.of(account), since)
            except ProviderError as error:
                logger.warning("The agreements of account %s are looked at later: %s", account, error.message)
                failure = error
        if failure is not None:
            raise failure
        return found

    def call_the_roll(self) -> int:
        """Put off the daily look at every agreement that Vipps lists as active; return how many pages were read.

        Goes on where it was stopped by the share of calls. Raises ProviderError when Vipps cannot say.
        """
        return sum(self._call_roll_of(payments) for payments in self._accounts.every())

    def _call_roll_of(self, payments: PaymentProvider) -> int:
        name, pages = f"roll {payments.account}", 0
        while number := _next_page(name):
            page = payments.page_of_agreements(AgreementStatus.ACTIVE, _EVER, number)
            now = utc_now()
            with transaction():
                seen = [view.agreement_id for view in page.views]
                queries.put_off_looks(payments.account, seen, now, now + ACTIVE_LOOK)
                run = db.session.get_one(JobRun, name)
                run.page = 1 if page.is_last else number + 1
                run.next_at = now + _ROLL_EVERY if page.is_last else now
            pages += 1
        return pages

    def _look(self, payments: PaymentProvider, since: datetime) -> int:
        # Whoever has accepted and stopped again has paid all the same.
        statuses = (AgreementStatus.ACTIVE, AgreementStatus.STOPPED)
        found = [view for status in statuses for view in payments.list_agreements(status, since - _CLOCKS_DIFFER)]
        with reading():
            known = queries.known_agreements([view.agreement_id for view in found])
        strangers = [view for view in found if view.agreement_id not in known and view.external_id]
        return sum(
            self._consents.find(str(view.external_id), view.agreement_id, payments.account) for view in strangers
        )


def _next_page(name: str) -> int:
    """Return the page at which a roll goes on, or 0 when the next roll is not due yet."""
    with transaction():
        queries.insert_ignoring(JobRun, [{"name": name, "next_at": utc_now(), "failures": 0, "page": 1}])
        run = db.session.get_one(JobRun, name)
        return run.page if run.next_at <= utc_now() else 0
