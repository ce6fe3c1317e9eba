"""Things to test with, with defaults: `a_partner()`, `a_wish(amount=9900)`, `an_active_subscription(...)`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from invoice.lifecycle import Interval
from invoice.services import partners
from invoice.services.jobs import Jobs, Services
from invoice.services.partners import PartnerView
from invoice.services.wishes import SubscriptionRequest
from invoice.store.db import db, reading
from invoice.store.models import Agreement, Charge, Subscription
from tests.fakes import FakePayments

SECRET = "a-partner-secret"


def a_partner(
    number: int = 10295, *, secret: str = SECRET, market: str = "NO", request_limit: int = 100_000
) -> PartnerView:
    """request_limit: high, because the tests' clock stands still while they ask."""
    terms = {"market": market, "sms_originator": "2119", "request_limit": request_limit}
    partners.add(number, f"Partner {number}", secret=f"{secret}-{number}", **terms)
    return partners.get(number)


def a_wish(**changes: Any) -> SubscriptionRequest:
    defaults: dict[str, Any] = {
        "msisdn": "+4791234567",
        "currency": "NOK",
        "amount": 9900,
        "campaign_amount": None,
        "interval": Interval.MONTH,
        "name": "Avisen",
        "description": "Avisen hver dag",
        "order_number": None,
        "member_id": None,
        "agreement_url": "https://www.example.com/mine",
        "status_callback_url": None,
        "confirm_callback_url": None,
        "send_sms": False,
        "sms_text": None,
        "sms_originator": None,
    }
    return SubscriptionRequest(**{**defaults, **changes})


def an_active_subscription(services: Services, payments: FakePayments, **changes: Any) -> int:
    """Return the number of a subscription whose person has accepted just now."""
    subscription_id = services.subscriptions.request(the_partner(), a_wish(**changes)).subscription_id
    accept(services, payments, subscription_id)
    return subscription_id


def accept(services: Services, payments: FakePayments, subscription_id: int) -> None:
    """Have the person accept the newest attempt, and look."""
    agreement = newest_agreement(subscription_id)
    assert agreement.provider_agreement_id is not None
    payments.accept(agreement.provider_agreement_id)
    services.consents.refresh(agreement.id)


def the_partner() -> PartnerView:
    return partners.list_all()[0]


# Jobs that tidy up and look for damage.
_HOUSEKEEPING = frozenset({"audit", "idempotency", "nonces", "openings", "proof", "rates", "retention"})


def unhurried(jobs: Jobs) -> Jobs:
    """Have housekeeping done once a week, for tests that live through months."""
    weekly = dict.fromkeys(_HOUSEKEEPING, timedelta(days=7))
    jobs.table = tuple(replace(job, every=weekly.get(job.name, job.every)) for job in jobs.table)
    return jobs


def undisturbed(jobs: Jobs) -> Jobs:
    """Have no housekeeping done but by those who ask for it: the proof's questions alone cost more than most tests."""
    jobs.table = tuple(replace(job, every=None) if job.name in _HOUSEKEEPING else job for job in jobs.table)
    return jobs


def settle(jobs: Jobs) -> None:
    """Run the recurring work until nothing is due at this moment."""
    for _ in range(200):
        if not jobs.run_pending():
            return
    raise AssertionError("The work does not end.")


def subscription(subscription_id: int) -> Subscription:
    with reading():
        found = db.session.get_one(Subscription, subscription_id)
        db.session.expunge(found)
        return found


def newest_agreement(subscription_id: int) -> Agreement:
    return agreements(subscription_id)[-1]


def agreements(subscription_id: int) -> list[Agreement]:
    with reading():
        wanted = select(Agreement).where(Agreement.subscription_id == subscription_id).order_by(Agreement.attempt)
        found = list(db.session.scalars(wanted))
        db.session.expunge_all()
        return found


def charges(subscription_id: int) -> list[Charge]:
    with reading():
        wanted = select(Charge).where(Charge.subscription_id == subscription_id).order_by(Charge.id)
        found = list(db.session.scalars(wanted))
        db.session.expunge_all()
        return found


def event_types(subscription_id: int) -> list[str]:
    from invoice.store.queries import timeline  # noqa: PLC0415

    with reading():
        return [event.type for event in timeline(subscription_id)]
