"""What must never be, as questions about the books: each finds (subject, partner) of every row that breaks its rule.

Money first. The numbers are those of docs/guarantees.md; how rules are run and told is in services/proof.py.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Date,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from invoice.lifecycle import (
    CHARGE_FREES_PERIOD,
    CHARGE_OPEN,
    AgreementStatus,
    ChangeStatus,
    ChargeStatus,
    RefundStatus,
    SubscriptionStatus,
)
from invoice.store.db import UTCDateTime
from invoice.store.models import EVERYONE, Agreement, Brake, Change, Charge, Operation, Refund, Subscription

Found = Select[str, int]
Condition = ColumnElement[bool] | InstrumentedAttribute[bool]

_C, _S = ChargeStatus, SubscriptionStatus
_SOON = timedelta(hours=1)  # what arises and is put right by itself has this long for it
_MOST_A_DAY = 3


# Each question is put together once and asked again and again: its instants are worked out from that of the asking.
_AGO: dict[str, timedelta] = {}
_DAYS_AGO: dict[str, timedelta] = {}


@cache
def ago(by: timedelta = timedelta(0)) -> BindParameter[datetime]:
    """Return an instant so long before that of the asking."""
    name = f"instant_{len(_AGO)}"
    _AGO[name] = by
    return bindparam(name, type_=UTCDateTime())


@cache
def days_ago(days: int) -> BindParameter[date]:
    """Return a date so many days before that of the asking, in UTC."""
    name = f"date_{days}"
    _DAYS_AGO[name] = timedelta(days=days)
    return bindparam(name, type_=Date())


def as_of(now: datetime) -> dict[str, datetime | date]:
    """Return what the questions ask with at this instant."""
    instants: dict[str, datetime | date] = {name: now - by for name, by in _AGO.items()}
    return instants | {name: (now - by).date() for name, by in _DAYS_AGO.items()}


def of_charge(*wrong: Condition) -> Found:
    """Charges of which all of this is true."""
    return (
        select(Charge.name, Subscription.partner_id)
        .join(Subscription, Subscription.id == Charge.subscription_id)
        .join(Agreement, Agreement.id == Charge.agreement_id)
        .where(*wrong)
    )


def of_subscription(*wrong: Condition) -> Found:
    """Subscriptions of which all of this is true."""
    return select(_number(), Subscription.partner_id).where(*wrong)


def _number() -> ColumnElement[str]:
    return literal("subscription ") + cast(Subscription.id, String)


def paid_twice() -> Found:
    """S1: two charges that hold one period."""
    held = (Charge.status.not_in(CHARGE_FREES_PERIOD), ~Charge.is_surplus, ~Charge.is_extra)
    several = (
        select(Charge.subscription_id)
        .where(*held)
        .group_by(Charge.subscription_id, Charge.period)
        .having(func.count() > 1)
    )
    return of_subscription(Subscription.id.in_(several))


def at_odds() -> Found:
    """S2: a status that says something else than the money, with no look due that would settle it."""
    nothing, all_back = Charge.captured == 0, Charge.refunded == Charge.captured
    is_true: dict[ChargeStatus, ColumnElement[bool]] = {
        _C.CHARGED: and_(~nothing, Charge.refunded == 0),
        _C.PARTIALLY_REFUNDED: and_(~nothing, Charge.refunded > 0, ~all_back),
        _C.REFUNDED: and_(~nothing, all_back),
        _C.PLANNED: nothing,
        _C.VOID: nothing,
        _C.REFUSED: nothing,
    }
    is_settled = or_(Charge.check_at.is_(None), Charge.check_at > ago())
    wrong = or_(*(and_(Charge.status == status, ~held) for status, held in is_true.items()))
    return of_charge(is_settled, wrong)


def created_after_a_cancel() -> Found:
    """S3: a batch that was formed after the cancel was accepted."""
    return of_charge(Charge.period != 0, Charge.sent_at > Subscription.cancel_requested_at)


def taken_after_an_end() -> Found:
    """S3: money that was taken after a cancel was done, and has not gone back within the hour."""
    is_late = and_(Subscription.status == _S.CANCELLED, Charge.captured_at > Subscription.ended_at)
    is_going = exists().where(Refund.charge_id == Charge.id, Refund.status == RefundStatus.REQUESTED)
    return of_charge(is_late, Charge.refunded < Charge.captured, Charge.captured_at < ago(_SOON), ~is_going)


def due_after_the_stop() -> Found:
    """S4: a charge on its way that falls due after the agreed end, and was not called off."""
    is_beyond = and_(Subscription.stop_on.is_not(None), Charge.due_on >= Subscription.stop_on, Charge.period != 0)
    is_due = Charge.status.in_(CHARGE_OPEN) & Charge.cancel_requested_at.is_(None)
    return of_charge(is_beyond, is_due, Subscription.status == _S.ACTIVE)


def another_price() -> Found:
    """S5: an amount that is not the price of its period, or another currency."""
    before = (
        select(Change.amount_before)
        .where(
            Change.subscription_id == Charge.subscription_id,
            Change.status == ChangeStatus.DONE,
            Change.amount.is_not(None),
            Change.from_period > Charge.period,
        )
        .order_by(Change.from_period, Change.id)
        .limit(1)
        .correlate(Charge)
        .scalar_subquery()
    )
    price = case((Charge.period == 0, Agreement.initial_amount), else_=func.coalesce(before, Subscription.amount))
    # One that was called off took nothing, and the next of its period may come at a new price.
    never = [_C.VOID, _C.REFUSED, _C.CANCELLED]
    is_renewal = and_(~Charge.is_extra, ~Charge.is_surplus, Charge.status.not_in(never))
    return of_charge(or_(and_(is_renewal, Charge.amount != price), Charge.currency != Subscription.currency))


def more_back_than_taken() -> Found:
    """S6: more given back than taken, or more by our own refunds than the provider shows."""
    ours = (
        select(func.coalesce(func.sum(Refund.amount), 0))
        .where(Refund.charge_id == Charge.id, Refund.status == RefundStatus.DONE)
        .correlate(Charge)
        .scalar_subquery()
    )
    return of_charge(or_(Charge.refunded > Charge.captured, ours > Charge.refunded))


def two_agreements() -> Found:
    """S7: an agreement besides the adopted one that lives for more than an hour, or whose money was kept."""
    is_living = and_(Agreement.status == AgreementStatus.ACTIVE, ~Agreement.is_adopted)
    found = select(_number(), Subscription.partner_id).join(Agreement, Agreement.subscription_id == Subscription.id)
    return found.where(is_living, Agreement.created_at < ago(_SOON + timedelta(minutes=10)))


def surplus_kept() -> Found:
    """S7: money taken under such an agreement that has not gone back, and is not going."""
    is_going = exists().where(Refund.charge_id == Charge.id, Refund.status == RefundStatus.REQUESTED)
    is_kept = and_(Charge.is_surplus, Charge.refunded < Charge.captured)
    return of_charge(is_kept, ~is_going, Charge.captured_at < ago(_SOON))


def tried_again_too_early() -> Found:
    """S8: a further attempt at a period while the one before it is not over at the provider."""
    earlier = aliased(Charge)
    stands = exists().where(
        earlier.subscription_id == Charge.subscription_id,
        earlier.period == Charge.period,
        earlier.attempt < Charge.attempt,
        earlier.status.not_in(CHARGE_FREES_PERIOD),
    )
    return of_charge(Charge.period > 0, Charge.status.not_in(CHARGE_FREES_PERIOD), stands)


def charged_without_consent() -> Found:
    """S9: a charge sent under an agreement that nobody had seen accepted."""
    is_early = or_(Subscription.activated_at.is_(None), Charge.sent_at < Subscription.activated_at)
    return of_charge(Charge.period != 0, Charge.sent_at.is_not(None), or_(is_early, ~Agreement.is_adopted))


def one_key_two_bodies() -> Found:
    """S10: an idempotency key that stands for two bodies."""
    several = select(Operation.key).group_by(Operation.key).having(func.count(Operation.request.distinct()) > 1)
    return select(Operation.name, literal(EVERYONE)).where(Operation.key.in_(several))


def ended_and_alive() -> Found:
    """S11: a subscription that ended and has an agreement that is charged, or the reverse."""
    is_over = Subscription.status.in_([_S.CANCELLED, _S.STOPPED, _S.EXPIRED, _S.REFUSED])
    return of_subscription(
        or_(
            is_over & Subscription.ended_at.is_(None),
            (Subscription.status == _S.ACTIVE) & Subscription.ended_at.is_not(None),
            (Subscription.status == _S.ACTIVE) & Subscription.activated_at.is_(None),
        )
    )


def too_many_a_day() -> Found:
    """S15: more than three renewals of one subscription sent within a day."""
    several = (
        select(Charge.subscription_id)
        .where(Charge.period > 0, Charge.sent_at.is_not(None))
        .group_by(Charge.subscription_id, func.date(Charge.sent_at))
        .having(func.count() > _MOST_A_DAY)
    )
    return of_subscription(Subscription.id.in_(several))


def sent_under_a_brake() -> Found:
    """S15: a charge of a batch that was formed while its partner's brake was pulled."""
    is_held = exists().where(
        Brake.partner_id.in_([EVERYONE, Subscription.partner_id]),
        Brake.pulled_at < Charge.sent_at,
        or_(Brake.released_at.is_(None), Brake.released_at > Charge.sent_at),
    )
    return of_charge(Charge.period != 0, Charge.sent_at.is_not(None), is_held)


def of_another_account() -> Found:
    """T2: a charge under another account than its agreement."""
    return of_charge(Charge.account != Agreement.account)
