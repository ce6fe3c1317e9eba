"""Charges as the Mobile Invoice contract shows them to their partner: it calls each a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from invoice.errors import Invalid, NotFound
from invoice.lifecycle import ChargeStatus
from invoice.phone import shown
from invoice.store import queries
from invoice.store.db import reading
from invoice.store.models import Charge, Subscription


@dataclass(frozen=True)
class Transaction:
    """One payment. The amounts are minor units."""

    guid: str
    charge_id: int
    name: str
    status: ChargeStatus
    failure_reason: str | None
    amount: int
    captured: int
    refunded: int
    currency: str
    period: int | None  # None: made at a partner's word, not by the calendar
    due_on: date
    created_at: datetime
    paid_at: datetime | None
    capture_by: datetime | None
    subscription_id: int
    partner_id: int
    order_number: str | None
    member_id: str | None
    msisdn: str
    description: str
    status_callback_url: str | None


def by_guid(partner_id: int, guid: str) -> Transaction:
    """Return a partner's transaction. Raises NotFound for an unknown one and for another partner's."""
    with reading():
        found = queries.charge_by_guid(partner_id, guid.lower())
        if found is None:
            raise NotFound(f"Transaction with id '{guid}' not found.")
        return _view(*found)


def by_reference(partner_id: int, reference: str) -> Transaction:
    """Return the transaction of that reference, or the first payment of that order number. Raises NotFound."""
    with reading():
        found = queries.charge_by_reference(partner_id, reference)
        if found is None:
            told = f"Transaction for partner id '{partner_id}' and reference id '{reference}' not found."
            raise NotFound(told)
        return _view(*found)


def created_since(partner_id: int, since: datetime, after: str | None, limit: int) -> Sequence[Transaction]:
    """Return a page of a partner's transactions created at or after `since`, oldest first."""
    with reading():
        after_id = _place_of(partner_id, after)
        return [_view(*row) for row in queries.charges_created_since(partner_id, since, after_id, limit)]


def of_subscription(partner_id: int, subscription_id: int, after: str | None, limit: int) -> Sequence[Transaction]:
    """Return a page of a subscription's transactions, oldest first.

    Raises NotFound when this partner has no such subscription.
    """
    with reading():
        subscription = queries.subscription_of(partner_id, subscription_id)
        if subscription is None:
            raise NotFound("Recurring not found")
        after_id = _place_of(partner_id, after)
        charges = queries.charges_after(subscription.id, after_id, limit)
        return [_view(charge, subscription) for charge in charges]


def _place_of(partner_id: int, after: str | None) -> int:
    """Return where a page begins. Raises Invalid for an `after` that is none of the partner's transactions."""
    if after is None:
        return 0
    found = queries.charge_by_guid(partner_id, after.lower())
    if found is None:
        raise Invalid({"after": ["after must be the nextAfter of the page before."]})
    return found[0].id


def _view(charge: Charge, subscription: Subscription) -> Transaction:
    return Transaction(
        guid=charge.guid,
        charge_id=charge.id,
        name=charge.name,
        status=charge.status,
        failure_reason=charge.failure_reason,
        amount=charge.amount,
        captured=charge.captured,
        refunded=charge.refunded,
        currency=charge.currency,
        period=None if charge.is_extra else charge.period,
        due_on=charge.due_on,
        created_at=charge.created_at,
        paid_at=charge.captured_at,
        capture_by=charge.capture_by,
        subscription_id=subscription.id,
        partner_id=subscription.partner_id,
        order_number=subscription.order_number,
        member_id=subscription.member_id,
        msisdn=shown(subscription.msisdn),
        description=charge.description or subscription.description,
        status_callback_url=subscription.status_callback_url,
    )
