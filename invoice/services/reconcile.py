"""After a restore: the books are brought up to what has really happened, by reading it back from the provider.

Nothing leaves meanwhile. Every act that was open is doubted, every agreement and every charge of ours is looked up and
entered where it is missing, a subscription whose very row is lost is made anew from its agreement, and no number
that was given away is given out again. Running it twice changes nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from invoice.clock import business_date, utc_now
from invoice.config import Settings
from invoice.errors import NotFound
from invoice.lifecycle import AgreementStatus, ChangeStatus, ChargeStatus, SubscriptionStatus
from invoice.names import is_ours, parse_charge_name
from invoice.providers.base import AgreementView, ChargeView, PaymentProvider
from invoice.schedule import due_date, plan_date, submit_date
from invoice.services import books, brakes, outbox, rebuild, refunds
from invoice.services.accounts import Accounts
from invoice.services.audit import Wait, active_at, patiently
from invoice.services.consents import PLAN_AHEAD_DAYS, Consents
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import EVERYONE, Agreement, Brake, Change, Charge, Subscription

logger = logging.getLogger(__name__)

_READING = "the books are being read back"
RECONCILED = "the books were read back: look at `flask proof --vipps`, then `flask charges start`"
_STATUSES = (AgreementStatus.ACTIVE, AgreementStatus.STOPPED, AgreementStatus.PENDING)
_EXTRA = -1


@dataclass
class Report:
    """What was found. strangers: agreements at the provider that nobody here can say whose they are.

    owners: agreement -> partner, as a person has said.
    """

    owners: Mapping[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    strangers: list[AgreementView] = field(default_factory=list)


class Reconcile:
    """Reads back."""

    def __init__(self, settings: Settings, accounts: Accounts, consents: Consents) -> None:
        self._settings = settings
        self._accounts = accounts
        self._consents = consents

    def run(self, noted: queries.Marks | None, wait: Wait, owners: Mapping[str, int] | None = None) -> Report:
        """Bring the books up to the provider, all accounts; afterwards charging stays held until an operator starts it.

        noted: how far the books had come, as far as anybody knows.
        wait: how to let seconds pass, where the provider wants that.
        owners: agreement -> partner, as a person says, of those that nobody here can say whose they are.
        Raises NotFound for a partner that does not exist, ProviderError when the provider cannot say for long: run it
        again.
        """
        report = Report(owners=owners or {})
        with reading():
            for partner_id in set(report.owners.values()) - set(queries.partner_ids()):
                raise NotFound(f"There is no partner {partner_id}.")
        with transaction():
            brakes.pull(None, _READING, is_frozen=True)
            marks = queries.marks()
            last = noted or marks
            queries.skip_numbers(last)
            report.counts["acts in doubt"] = queries.doubt_open_operations()
        for payments in self._accounts.every():
            for status in _STATUSES:
                for view in active_at(payments, wait, status):
                    self._take_up(payments, view, report, wait)
        with transaction():
            queries.begin_epoch(max(marks.epoch, last.epoch) + 1, utc_now())
            brake = db.session.get_one(Brake, EVERYONE, with_for_update=True, populate_existing=True)
            brake.is_frozen, brake.reason = False, RECONCILED
        return report

    def _take_up(self, payments: PaymentProvider, view: AgreementView, report: Report, wait: Wait) -> None:
        report.counts["agreements"] += 1
        agreement_id = self._enter(payments, view, report)
        if agreement_id is None:
            return
        patiently(lambda: self._consents.refresh(agreement_id), wait)
        with reading():
            bells = queries.bells_of(agreement_id)
        charges = patiently(lambda: payments.list_charges(view.agreement_id), wait)
        with transaction():
            agreement = db.session.get_one(Agreement, agreement_id)
            subscription = queries.lock_subscription(agreement.subscription_id)
            known = queries.lock_charges_named(agreement.account, [each.name for each in charges])
            charged = {}
            for each in sorted(charges, key=_place):  # the attempt that ended before the one in its place
                planned = known.get(each.name)
                charge = planned or self._enter_missing(subscription, agreement, each, report)
                if charge is None:
                    continue
                was_unsent = charge.status in books.UNSENT and charge.sends == 0
                if was_unsent and charge.period > 0 and charge.agreement_id == agreement.id:
                    # It was sent after the backup: at a new price perhaps, or on a later day.
                    if each.status != ChargeStatus.CANCELLED and (planned is None or planned.amount != each.amount):
                        charged[charge.period] = each.amount
                    charge.amount, charge.due_on = each.amount, each.due_on or charge.due_on
                charge.sends = max(charge.sends, 1)
                books.adopt(subscription, charge, each, bells=bells)
                report.counts["refunds entered"] += refunds.take_up(charge, each.refunds)
            if subscription.is_scheduled and agreement.is_adopted:
                self._take_up_prices(subscription, charged, view, report)

    def _enter(self, payments: PaymentProvider, view: AgreementView, report: Report) -> int | None:
        """Return our row of an agreement, made anew where it is missing; None for one that is not ours."""
        with transaction():
            known = queries.agreement_by_provider_id(view.agreement_id)
            if known is not None:
                return known.id
            if not view.external_id or not is_ours(view.external_id):
                return None  # signed elsewhere: its partner brings it when it is used
            is_lost = queries.subscription_by_ulid(view.external_id) is None
            if is_lost and not self._make_anew(view, payments.account, report.owners):
                report.strangers.append(view)
                return None
            report.counts["subscriptions made anew"] += is_lost
        if not self._consents.find(view.external_id, view.agreement_id, payments.account):
            report.strangers.append(view)
            return None
        report.counts["agreements entered"] += 1
        with transaction():
            found = queries.agreement_by_provider_id(view.agreement_id)
            return None if found is None else found.id

    def _make_anew(self, view: AgreementView, account: str, owners: Mapping[str, int]) -> bool:
        partner_id = owners.get(view.agreement_id) or rebuild.partner_of(view, account, self._settings)
        return rebuild.subscription_of(view, partner_id, account, self._settings)

    def _enter_missing(
        self, subscription: Subscription, agreement: Agreement, view: ChargeView, report: Report
    ) -> Charge | None:
        if not subscription.is_scheduled:
            return None
        report.counts["charges entered"] += 1
        enter = self._enter_initial if view.is_initial else self._enter_charge
        return enter(subscription, agreement, view)

    def _enter_initial(self, subscription: Subscription, agreement: Agreement, view: ChargeView) -> Charge:
        agreement.initial_name, agreement.initial_amount = view.name, view.amount
        signed_on = subscription.anchor_on or business_date(queries.market_of(subscription.partner_id))
        is_surplus = not agreement.is_adopted
        return books.enter_initial(subscription, agreement, signed_on=signed_on, is_surplus=is_surplus)

    def _enter_charge(self, subscription: Subscription, agreement: Agreement, view: ChargeView) -> Charge:
        """Write down a charge that was made after the backup, in its period's place."""
        name = parse_charge_name(view.name)
        is_renewal = name is not None and name[0] == subscription.ulid and name[1] > 0 and agreement.is_adopted
        _, period, attempt = name if name is not None and is_renewal else ("", _EXTRA, 0)
        due_on = view.due_on or business_date(queries.market_of(subscription.partner_id))
        if is_renewal:
            queries.make_room(subscription.id, period)
            self._plan_after(subscription, period)
        charge = Charge(
            subscription_id=subscription.id,
            agreement_id=agreement.id,
            account=agreement.account,
            period=period,
            attempt=attempt,
            name=view.name,
            amount=view.amount,
            currency=view.currency,
            due_on=due_on,
            submit_on=submit_date(due_on, self._settings.invoice_lead_days),
            retry_days=self._settings.invoice_retry_days,
            status=ChargeStatus.PLANNED,
            is_reserved=view.reserved_at is not None,
            is_extra=not is_renewal,
            is_surplus=False,
            sends=0,
            captured=0,
            refunded=0,
            created_at=utc_now(),
        )
        db.session.add(charge)
        db.session.flush()
        return charge

    def _plan_after(self, subscription: Subscription, period: int) -> None:
        """Go on planning after a period that has been charged."""
        if subscription.next_period > period or subscription.anchor_on is None:
            return
        subscription.next_period = period + 1
        if subscription.next_plan_on is not None:
            next_on = due_date(subscription.anchor_on, subscription.interval, period + 1)
            subscription.next_plan_on = plan_date(next_on, self._settings.invoice_lead_days + PLAN_AHEAD_DAYS)

    def _take_up_prices(
        self, subscription: Subscription, charged: dict[int, int], view: AgreementView, report: Report
    ) -> None:
        """What was charged, and what the app shows, at a price that the books do not know was changed after the backup.

        charged: period -> amount, of what was sent since and was not planned so.
        """
        for period in sorted(charged):
            _change(subscription, charged[period], period, report)
        shown = view.amount or subscription.amount
        if subscription.status == SubscriptionStatus.ACTIVE and (charged or shown != subscription.amount):
            from_period = queries.reprice_planned(subscription.id, shown) or subscription.next_period
            _change(subscription, shown, from_period, report)


def _change(subscription: Subscription, amount: int, from_period: int, report: Report) -> None:
    """Write down that the price was another from a period on; what was still to be changed to it brings its words."""
    if amount == subscription.amount:
        return
    now = utc_now()
    waiting = queries.open_change(subscription.id)
    if waiting is not None and waiting.amount in (None, amount):
        waiting.amount_before = amount
    elif waiting is not None:
        waiting.status, waiting.settled_at = ChangeStatus.VOID, now
    before, subscription.amount = subscription.amount, amount
    change = Change(
        subscription_id=subscription.id,
        amount=amount,
        amount_before=before,
        status=ChangeStatus.DONE,
        from_period=from_period,
        created_at=now,
        settled_at=now,
    )
    db.session.add(change)
    db.session.flush()
    report.counts["prices taken over"] += 1
    outbox.record(subscription, "subscription.changed", amount=amount, from_period=from_period)


def _place(view: ChargeView) -> tuple[int, int]:
    name = parse_charge_name(view.name)
    return (0, 0) if name is None else name[1:]
