"""What the faces show: values read from the tables, and the dates that follow from them. Nothing here changes a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from invoice.clock import business_date, utc_now
from invoice.errors import NotFound
from invoice.lifecycle import (
    CHARGE_STATUS_WORDS,
    AgreementStatus,
    ChargeStatus,
    Interval,
    SubscriptionStatus,
)
from invoice.phone import shown
from invoice.schedule import due_date
from invoice.services.consents import closed_because, is_fresh
from invoice.store import queries
from invoice.store.db import db, reading
from invoice.store.models import Agreement, Charge, Partner, Subscription


@dataclass(frozen=True)
class Offer:
    """What a person is asked to accept. `closed` says why the link opens nothing any more, or is empty."""

    number: int
    merchant: str
    product: str
    description: str
    amount: int
    currency: str
    interval: str
    initial_amount: int
    next_charge_on: date
    link_expires_on: date
    closed: str
    fresh_url: str | None  # the draft's own address while it can be handed out


@dataclass(frozen=True)
class Outcome:
    """How an attempt at consent stands: "waiting", "active", "declined", "expired" or "ended"."""

    agreement_id: int
    state: str
    merchant: str
    product: str
    amount: int
    currency: str
    interval: str
    initial_amount: int
    next_charge_on: date | None
    link_token: str
    manage_token: str


@dataclass(frozen=True)
class HistoryRow:
    """One payment as a person sees it."""

    due_on: date
    amount: int
    refunded: int
    state: str


@dataclass(frozen=True)
class ManagedSubscription:
    """A subscription as the person who pays sees it."""

    number: int
    merchant: str
    product: str
    description: str
    amount: int
    currency: str
    interval: str
    state: str
    started_on: date | None
    ended_on: date | None
    next_charge_on: date | None
    next_amount: int | None
    history: Sequence[HistoryRow]
    can_stop: bool


@dataclass(frozen=True)
class ListedSubscription:
    """A subscription as its partner lists it."""

    id: int
    member_id: str | None
    msisdn: str
    order_number: str | None
    name: str
    description: str
    currency: str
    amount: int
    campaign_amount: int | None
    interval: Interval
    charge_status: str
    agreement_url: str
    created_at: datetime
    activated_at: datetime | None
    next_charge_on: date | None
    ended_at: datetime | None


_STATES = {
    SubscriptionStatus.PENDING: "pending",
    SubscriptionStatus.ACTIVE: "active",
    SubscriptionStatus.CANCELLING: "stopping",
    SubscriptionStatus.CANCELLED: "stopped",
    SubscriptionStatus.STOPPED: "stopped",
    SubscriptionStatus.EXPIRED: "expired",
    SubscriptionStatus.REFUSED: "expired",
}
_STOPPABLE = frozenset({"pending", "active"})

_HISTORY_STATES = {
    ChargeStatus.PLANNED: "planned",
    ChargeStatus.SUBMITTING: "upcoming",
    ChargeStatus.SUBMITTED: "upcoming",
    ChargeStatus.RESERVED: "reserved",
    ChargeStatus.CHARGED: "paid",
    ChargeStatus.PARTIALLY_REFUNDED: "refunded",
    ChargeStatus.REFUNDED: "refunded",
    ChargeStatus.FAILED: "failed",
    ChargeStatus.CANCELLED: "cancelled",
}
_OUTCOMES = {
    AgreementStatus.DRAFTING: "waiting",
    AgreementStatus.LOST: "waiting",
    AgreementStatus.PENDING: "waiting",
    AgreementStatus.STOPPED: "declined",
    AgreementStatus.EXPIRED: "expired",
    AgreementStatus.REFUSED: "expired",
}


def offer(link_token: str) -> Offer:
    """Return the offer behind a texted link. Raises NotFound."""
    with reading():
        subscription = queries.subscription_by_link(link_token)
        if subscription is None:
            raise NotFound
        return _offer(subscription)


def offer_of(partner_id: int, link_token: str) -> Offer:
    """Return the offer behind the process link of that partner. Raises NotFound."""
    with reading():
        subscription = queries.subscription_by_link(link_token)
        if subscription is None or subscription.partner_id != partner_id:
            raise NotFound
        return _offer(subscription)


def outcome(partner_id: int, return_id: str) -> Outcome:
    """Return how the attempt stands that a person comes back from. Raises NotFound."""
    with reading():
        agreement = queries.agreement_by_return(partner_id, return_id)
        if agreement is None:
            raise NotFound
        subscription = db.session.get_one(Subscription, agreement.subscription_id)
        partner = db.session.get_one(Partner, subscription.partner_id)
        return Outcome(
            agreement_id=agreement.id,
            state=_outcome(subscription, agreement),
            merchant=partner.name,
            product=subscription.name,
            amount=subscription.amount,
            currency=subscription.currency,
            interval=subscription.interval.value,
            initial_amount=subscription.initial_amount,
            next_charge_on=_next_charge_on(subscription, _next_due(subscription)),
            link_token=subscription.link_token,
            manage_token=subscription.manage_token,
        )


def managed(manage_token: str) -> ManagedSubscription:
    """Return the subscription behind a manage link. Raises NotFound."""
    with reading():
        subscription = queries.subscription_by_manage_link(manage_token)
        if subscription is None:
            raise NotFound
        partner = db.session.get_one(Partner, subscription.partner_id)
        charges = queries.charges_of(subscription.id)
        next_on = _next_charge_on(subscription, _next_due(subscription))
        state = _STATES[subscription.status]
        return ManagedSubscription(
            number=subscription.id,
            merchant=partner.name,
            product=subscription.name,
            description=subscription.description,
            amount=subscription.amount,
            currency=subscription.currency,
            interval=subscription.interval.value,
            state=state,
            started_on=subscription.anchor_on,
            ended_on=business_date(partner.market, subscription.ended_at) if subscription.ended_at else None,
            next_charge_on=next_on,
            next_amount=subscription.amount if next_on else None,
            history=[_history_row(c) for c in charges if c.status in _HISTORY_STATES],
            can_stop=state in _STOPPABLE,
        )


def listed(partner_id: int, since: datetime, after_id: int, limit: int) -> list[ListedSubscription]:
    """Return a page of a partner's subscriptions created at or after `since`, by number."""
    with reading():
        page = queries.subscriptions_created_since(partner_id, since, after_id, limit)
        due = queries.next_due_dates([s.id for s in page])
        return [_listed(s, _next_charge_on(s, due.get(s.id))) for s in page]


def _offer(subscription: Subscription) -> Offer:
    partner = db.session.get_one(Partner, subscription.partner_id)
    agreement = queries.latest_agreement(subscription.id)
    now = utc_now()
    today = business_date(partner.market, now)
    may_go = partner.suspended_at is None
    return Offer(
        number=subscription.id,
        merchant=partner.name,
        product=subscription.name,
        description=subscription.description,
        amount=subscription.amount,
        currency=subscription.currency,
        interval=subscription.interval.value,
        initial_amount=subscription.initial_amount,
        next_charge_on=due_date(today, subscription.interval, 1),
        link_expires_on=business_date(partner.market, subscription.link_expires_at),
        closed=closed_because(subscription, now),
        fresh_url=agreement.confirmation_url if agreement and may_go and is_fresh(agreement, now) else None,
    )


def _outcome(subscription: Subscription, agreement: Agreement) -> str:
    if subscription.status == SubscriptionStatus.ACTIVE:
        return "active"
    if subscription.status != SubscriptionStatus.PENDING:
        return "ended"
    return _OUTCOMES[agreement.status]


def _next_due(subscription: Subscription) -> date | None:
    return queries.next_due_dates([subscription.id]).get(subscription.id)


def _next_charge_on(subscription: Subscription, on_its_way: date | None) -> date | None:
    """Return the day of the next payment: the earliest on its way, or else the one that the books come to next."""
    if subscription.status != SubscriptionStatus.ACTIVE or subscription.anchor_on is None:
        return None
    return on_its_way or due_date(subscription.anchor_on, subscription.interval, subscription.next_period)


def _history_row(charge: Charge) -> HistoryRow:
    return HistoryRow(charge.due_on, charge.amount, charge.refunded, _HISTORY_STATES[charge.status])


def _listed(subscription: Subscription, next_charge_on: date | None) -> ListedSubscription:
    return ListedSubscription(
        id=subscription.id,
        member_id=subscription.member_id,
        msisdn=shown(subscription.msisdn),
        order_number=subscription.order_number,
        name=subscription.name,
        description=subscription.description,
        currency=subscription.currency,
        amount=subscription.amount,
        campaign_amount=subscription.campaign_amount,
        interval=subscription.interval,
        charge_status=CHARGE_STATUS_WORDS[subscription.status],
        agreement_url=subscription.agreement_url,
        created_at=subscription.created_at,
        activated_at=subscription.activated_at,
        next_charge_on=next_charge_on,
        ended_at=subscription.ended_at,
    )
