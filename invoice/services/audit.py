"""What should exist against what does: the nightly proof, and what a day would create.

Every period of every active subscription has one payment, or an exception that has a name; and what lives at Vipps
lives here, and the reverse. Nothing is mended: what is missing is told, and looked at again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar

from invoice.clock import business_date
from invoice.config import Settings
from invoice.errors import ProviderUnavailable, ProviderUncertain
from invoice.lifecycle import AgreementStatus, ChargeStatus
from invoice.providers.base import AgreementView, PaymentProvider
from invoice.schedule import due_date, submit_date
from invoice.services.accounts import Accounts
from invoice.store import queries
from invoice.store.db import reading

logger = logging.getLogger(__name__)

_PAGE = 500
_PAUSE_S, _LONGEST_PAUSE_S, _MOST_WAITS = 5.0, 300.0, 100
T = TypeVar("T")
Wait = Callable[[float], object]
_EVER = datetime(2000, 1, 1, tzinfo=UTC)
# A late period is made up for when those before it are over; rule L2 sees that this goes on.
_WAITS = "waits its turn"
# How a period without a payment may stand, and what it is called then. None: it has one, or one is on its way.
EXCEPTIONS: dict[ChargeStatus, str | None] = {
    **dict.fromkeys(ChargeStatus),
    ChargeStatus.FAILED: "the person could not pay",
    ChargeStatus.CANCELLED: "called off",
    ChargeStatus.REFUSED: "Vipps would not create it",
    ChargeStatus.VOID: "never sent",
}
# These need nobody: somebody wanted it so, or everybody was told.
_EXPLAINED = frozenset({_WAITS, EXCEPTIONS[ChargeStatus.FAILED], EXCEPTIONS[ChargeStatus.CANCELLED]})


@dataclass(frozen=True)
class Gap:
    """A period, or an agreement, that is not as it should be. partner_id: None where nobody knows."""

    subject: str
    partner_id: int | None
    why: str


@dataclass(frozen=True)
class Coming:
    """A charge that a day would create. before: the amount of the period before, None for a first one."""

    partner_id: int
    name: str
    currency: str
    due_on: date
    amount: int
    before: int | None
    is_held: bool


class Audit:
    """Compares."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self._settings = settings
        self._accounts = accounts

    def compare(self) -> int:
        """Look for periods that are not as they should be and tell them; return how many there are.

        What lives at Vipps and not here the sweep and the roll take up.
        """
        gaps = self.periods()[2]
        for gap in gaps:
            logger.error("%s: %s.", gap.subject, gap.why, extra={"partner_id": gap.partner_id})
        return len(gaps)

    # Periods

    def periods(self) -> tuple[int, int, list[Gap]]:
        """Return how many periods have fallen due, how many of them have an exception that has a name, and the rest."""
        due = explained = last = 0
        gaps: list[Gap] = []
        while page := self._page_of_periods(last):
            last = page[-1][0].id
            for row, charges in page:
                for period in range(1, _periods_due(row) + 1):
                    due += 1
                    why = _why_unpaid(row, period, charges.get(period, []))
                    explained += why in _EXPLAINED
                    if why is not None and why not in _EXPLAINED:
                        gaps.append(Gap(f"subscription {row.id} period {period}", row.partner_id, why))
        return due, explained, gaps

    def _page_of_periods(self, after_id: int) -> list[tuple[Any, dict[int, list[ChargeStatus]]]]:
        with reading():
            rows = queries.periods_of_active(after_id, _PAGE)
            found: dict[int, dict[int, list[ChargeStatus]]] = defaultdict(lambda: defaultdict(list))
            for charge in queries.charges_by_period([row.id for row in rows]):
                found[charge.subscription_id][charge.period].append(charge.status)
        return [(row, found[row.id]) for row in rows]

    # Agreements

    def agreements(self, wait: Wait) -> list[Gap]:
        """Return the agreements that live at Vipps and not here, and the reverse.

        wait: how to let seconds pass, where Vipps wants that.  Raises ProviderError.
        """
        return [gap for payments in self._accounts.every() for gap in self._agreements_of(payments, wait)]

    def _agreements_of(self, payments: PaymentProvider, wait: Wait) -> Iterator[Gap]:
        def lives(number: str) -> bool:
            view = patiently(lambda: payments.find_agreement(number), wait)
            return view is not None and view.status == AgreementStatus.ACTIVE

        there = {view.agreement_id for view in active_at(payments, wait)}
        with reading():
            here = queries.active_agreements(payments.account)
        # What began or ended while we listed is no gap: its own look decides.
        for number in sorted(there - here.keys()):
            if lives(number) and not _is_known(number):
                yield Gap(f"agreement {number}", None, f"active at Vipps ({payments.account}), unknown here")
        for number in sorted(here.keys() - there):
            if not lives(number):
                yield Gap(f"agreement {number}", here[number], f"active here, not at Vipps ({payments.account})")

    # A day

    def coming(self, day: date) -> list[Coming]:
        """Return what would be created at Vipps on `day`, in the order of partners; nothing is written."""
        with reading():
            rows = [Coming(*row) for row in queries.planned_until(day)]
            unplanned = [c for s in queries.to_be_planned(day) if (c := self._next_of(s, day))]
        return sorted([*rows, *unplanned], key=lambda coming: (coming.partner_id, coming.currency, coming.name))

    def _next_of(self, subscription: Any, day: date) -> Coming | None:
        if subscription.anchor_on is None:
            return None
        due_on = due_date(subscription.anchor_on, subscription.interval, subscription.next_period)
        is_beyond = subscription.stop_on is not None and due_on >= subscription.stop_on
        if submit_date(due_on, self._settings.invoice_lead_days) > day or is_beyond:
            return None
        return Coming(
            subscription.partner_id,
            f"subscription {subscription.id} period {subscription.next_period}",
            subscription.currency,
            due_on,
            subscription.amount,
            queries.amount_of_period(subscription.id, subscription.next_period - 1),
            is_held=False,
        )


def active_at(
    payments: PaymentProvider, wait: Wait, status: AgreementStatus = AgreementStatus.ACTIVE
) -> Iterator[AgreementView]:
    """Yield all agreements of a status that an account holds. wait: as above.  Raises ProviderError."""
    number = 1
    while True:
        page = patiently(lambda: payments.page_of_agreements(status, _EVER, number), wait)  # noqa: B023 - called at once
        yield from page.views
        if page.is_last:
            return
        number += 1


def patiently(ask: Callable[[], T], wait: Wait) -> T:
    """Ask, and ask again for as long as the provider is away or wants us to wait. For looking only.

    Raises ProviderError for anything else, when it is away for good, and for a pause that nobody sits through.
    """
    for _ in range(_MOST_WAITS):
        try:
            return ask()
        except (ProviderUnavailable, ProviderUncertain) as error:
            pause_s = getattr(error, "retry_after_s", None) or _PAUSE_S
            if pause_s > _LONGEST_PAUSE_S:
                raise
            logger.warning("Vipps cannot say yet: %s", error.message)
            wait(pause_s)
    return ask()


def by_partner(coming: list[Coming]) -> Iterator[tuple[int, str, list[Coming]]]:
    """Group a day's charges: partner, currency, charges."""
    for (partner_id, currency), group in groupby(coming, key=lambda c: (c.partner_id, c.currency)):
        yield partner_id, currency, list(group)


def _why_unpaid(row: Any, period: int, statuses: list[ChargeStatus]) -> str | None:
    """Return what a period without a payment is called, or None for one that has it."""
    if any(EXCEPTIONS[status] is None for status in statuses):
        return None
    if statuses:
        return EXCEPTIONS[statuses[-1]]
    return _WAITS if period >= row.next_period and row.next_plan_on is not None else "no row"


def _periods_due(row: Any) -> int:
    """Return how many periods of a subscription have fallen due until yesterday."""
    if row.anchor_on is None:
        return 0
    yesterday = business_date(row.market) - timedelta(days=1)
    until = yesterday if row.stop_on is None else min(yesterday, row.stop_on - timedelta(days=1))
    count = 0
    while due_date(row.anchor_on, row.interval, count + 1) <= until:
        count += 1
    return count


def _is_known(provider_agreement_id: str) -> bool:
    """Tell whether the books hold it, in whatever state: what is wrong with it is then another rule's matter."""
    with reading():
        return bool(queries.known_agreements([provider_agreement_id]))
