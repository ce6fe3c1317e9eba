"""Which agreements are a partner's, when it names them by the provider's id.

Those in the books, and those that it had signed elsewhere under an account of its own: such a one is taken into the
books when it is first used. An agreement of somebody else does not exist here. About the platform's account, which
many partners share, the provider is never asked by an id that we do not know.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from invoice.clock import business_date, utc_now
from invoice.errors import (
    InvoiceError,
    NotFound,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, SubscriptionStatus
from invoice.money import MINIMUM
from invoice.names import adopted_ulid, charge_name, new_guid, new_token
from invoice.providers.base import AgreementView, ChargeView, PaymentProvider
from invoice.services import books, brakes, outbox, refunds
from invoice.services.accounts import Accounts
from invoice.services.partners import PartnerView
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Subscription

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNKNOWN = "This agreement does not exist"
NO_TIME = "There was no time left for this one: ask for fewer at once"
EXTRA = -1  # the period of a charge that is none's payment
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STATUSES = {
    AgreementStatus.PENDING: SubscriptionStatus.PENDING,
    AgreementStatus.ACTIVE: SubscriptionStatus.ACTIVE,
    AgreementStatus.STOPPED: SubscriptionStatus.STOPPED,
    AgreementStatus.EXPIRED: SubscriptionStatus.EXPIRED,
}
_LIVES = (AgreementStatus.PENDING, AgreementStatus.ACTIVE)


@dataclass(frozen=True)
class Held:
    """An agreement of a partner. account: at the provider; `is_own`: the partner's, and not the platform's."""

    agreement_id: int
    subscription_id: int
    ulid: str  # the subscription's
    provider_id: str
    account: str
    is_own: bool


class Scopes:
    """Finds what is a partner's."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def of(self, partner: PartnerView) -> PaymentProvider:
        """Return the provider as this partner uses it at present."""
        with reading():
            account = self._accounts.for_partner(partner.id)
        return self._accounts.of(account)

    def own(self, partner: PartnerView) -> PaymentProvider | None:
        """Return the provider under the partner's own account, or None while it uses the platform's."""
        with reading():
            account = self._accounts.for_partner(partner.id)
            is_own = account in self._brought(partner)
        return self._accounts.of(account) if is_own else None

    def find(self, partner: PartnerView, provider_id: str, *, may_ask: bool = True) -> Held | None:
        """Return an agreement of the partner, taken into the books if need be; None: it has no such agreement.

        Raises ProviderError when the provider cannot say, or may not be asked.
        """
        if not _ID.fullmatch(provider_id):
            return None
        held, brought = self._look(partner, provider_id)
        if brought and not may_ask:
            raise ProviderUnavailable(NO_TIME)
        failure = None
        for account in brought:
            try:
                view = self._accounts.of(account).find_agreement(provider_id)
            except ProviderError as error:  # one account's trouble hides nothing that is under another
                failure = error
                continue
            if view is not None:
                return self._adopt(partner, account, view)
        if failure is not None:
            raise failure
        if held is None:
            with reading():
                brakes.refuse_while_frozen()  # it may be one whose row is lost
        return held

    def find_charge(self, partner: PartnerView, held: Held, charge_id: str, *, may_ask: bool = True) -> int | None:
        """Return the number of an agreement's charge, whoever made it; None: there is none of this name.

        Raises ProviderError as `find` does.
        """
        if not _ID.fullmatch(charge_id):
            return None
        names = self.names_of(partner, held, charge_id)
        with reading():
            known = queries.charges_named(held.account, names)
            for name in names:
                if name in known and known[name].agreement_id == held.agreement_id:
                    return known[name].id
            if not held.is_own:
                brakes.refuse_while_frozen()  # as above
                return None
        if not may_ask:
            raise ProviderUnavailable(NO_TIME)
        view = self._accounts.of(held.account).find_charge(held.provider_id, charge_id)
        if view is None or view.name != charge_id or view.currency not in MINIMUM:
            return None
        return _enter_charge(held, view, business_date(partner.market))

    def names_of(self, partner: PartnerView, held: Held, charge_id: str) -> tuple[str, ...]:
        """Return the names that a partner's word for a charge may stand for, the one that a new charge gets first.

        On an account that many share each partner has names of its own.
        """
        return (charge_id,) if held.is_own else (f"{partner.id}-{charge_id}", charge_id)

    def shown(self, partner: PartnerView, account: str, name: str) -> str:
        """Return the name of a charge in an account as the partner calls it."""
        return name.removeprefix(f"{partner.id}-") if account == self._accounts.own.account else name

    def ask(self, partner: PartnerView, provider_id: str, question: Callable[[PaymentProvider], T]) -> T:
        """Ask the provider about an agreement of the partner, without taking it into the books.

        Raises NotFound for an agreement that is none of the partner's, and what the provider says to the question.
        """
        if not _ID.fullmatch(provider_id):
            raise NotFound(UNKNOWN)
        held, brought = self._look(partner, provider_id)
        failure: InvoiceError = NotFound(UNKNOWN)
        for account in brought if held is None else [held.account]:
            try:
                return question(self._accounts.of(account))
            except ProviderError as error:
                # That it is unknown in one place says less than that another cannot say.
                is_unknown = isinstance(error, ProviderRefused) and error.status == 404
                if not is_unknown or isinstance(failure, NotFound):
                    failure = error
        raise failure

    def _look(self, partner: PartnerView, provider_id: str) -> tuple[Held | None, list[str]]:
        """Return the agreement in the books; or the accounts under which it may be, when it stands in none."""
        with reading():
            found = queries.agreement_of(partner.id, provider_id)
            return (self._held(*found), []) if found else (None, self._brought(partner))

    def _brought(self, partner: PartnerView) -> list[str]:
        """Return the partner's accounts; the platform's is none, even when a partner holds keys for it."""
        return list(queries.own_accounts(partner.id, but=self._accounts.own.account))

    def _held(self, agreement: Agreement, subscription: Subscription) -> Held:
        return Held(
            agreement.id,
            subscription.id,
            subscription.ulid,
            str(agreement.provider_agreement_id),
            agreement.account,
            is_own=agreement.account != self._accounts.own.account,
        )

    def _adopt(self, partner: PartnerView, account: str, view: AgreementView) -> Held | None:
        if view.status is None or view.currency not in MINIMUM:
            raise ProviderUncertain("Vipps shows an agreement of a kind that we do not know")
        try:
            with transaction():
                if view.external_id and queries.subscription_by_ulid(view.external_id) is not None:
                    # Signed here, and its draft's answer was lost: the sweep takes it up where it belongs.
                    raise ProviderUnavailable("This agreement is on its way into the books: ask again in some minutes")
                subscription = _enter(partner, account, view)
                agreement = _enter_agreement(subscription, account, view)
                outbox.record(subscription, "subscription.adopted", amount=subscription.amount)
                return self._held(agreement, subscription)
        except IntegrityError:
            # Two requests at once, and the other one was quicker.
            return self._look(partner, view.agreement_id)[0]


def _enter(partner: PartnerView, account: str, view: AgreementView) -> Subscription:
    """Write down a subscription that we do not schedule. Who pays the provider never says."""
    now = utc_now()
    status = _STATUSES[view.status or AgreementStatus.PENDING]
    subscription = Subscription(
        ulid=adopted_ulid(account, view.agreement_id),
        partner_id=partner.id,
        request_digest=sha256(view.agreement_id.encode()).digest(),
        msisdn="",
        name=(view.product_name or view.agreement_id)[:200],
        description=view.description[:2000],
        currency=view.currency,
        amount=view.amount or 0,
        initial_amount=0,
        interval=view.interval or Interval.MONTH,  # nothing is counted by it
        agreement_url="",
        link_token=new_token(),
        manage_token=new_token(),
        link_expires_at=now,
        status=status,
        created_at=now,
        activated_at=view.started_at,
        anchor_on=business_date(partner.market, view.started_at) if view.started_at else None,
        ended_at=None if view.status in _LIVES else now,
        is_scheduled=False,
        event_count=0,
    )
    db.session.add(subscription)
    db.session.flush()
    return subscription


def _enter_agreement(subscription: Subscription, account: str, view: AgreementView) -> Agreement:
    now = utc_now()
    agreement = Agreement(
        subscription_id=subscription.id,
        attempt=0,
        account=account,
        status=view.status,
        is_adopted=view.status != AgreementStatus.PENDING,
        return_id=new_guid(),
        provider_agreement_id=view.agreement_id,
        initial_amount=0,
        initial_name=charge_name(subscription.ulid, 0, 0),
        created_at=now,
        drafted_at=now,
        check_at=now if view.status in _LIVES else None,
    )
    db.session.add(agreement)
    db.session.flush()
    return agreement


def _enter_charge(held: Held, view: ChargeView, today: date) -> int:
    """Write a charge down that was made elsewhere, and bring it up to what the provider says."""
    with transaction():
        subscription = queries.lock_subscription(held.subscription_id)
        charge = queries.lock_charges_named(held.account, [view.name]).get(view.name)
        if charge is None:
            charge = Charge(
                subscription_id=held.subscription_id,
                agreement_id=held.agreement_id,
                account=held.account,
                period=EXTRA,
                attempt=0,
                name=view.name,
                amount=view.amount,
                currency=view.currency,
                due_on=view.due_on or today,
                submit_on=today,
                retry_days=0,  # the provider knows how many; we only look
                status=ChargeStatus.SUBMITTED,
                is_reserved=view.reserved_at is not None,
                is_extra=True,
                captured=0,
                refunded=0,
                created_at=utc_now(),
            )
            db.session.add(charge)
            db.session.flush()
            refunds.take_up(charge, view.refunds)  # it stood in the books that were lost, perhaps
        # While it stood in no book, a webhook about it found nothing to ring.
        books.adopt(subscription, charge, view, bells={})
        return charge.id
