"""Money on its way back.

No unique name fences a refund at the provider. So one at a time on each charge, with the provider's sum before it
written down: whether ours has happened is read from the charge's history, which names keys, or else from that sum,
never guessed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import update

from invoice.clock import utc_now
from invoice.errors import Conflict, Invalid, ProviderError, ProviderRefused, ProviderUncertain
from invoice.lifecycle import ChargeStatus, RefundStatus, SubscriptionStatus
from invoice.money import MINIMUM
from invoice.names import idempotency_key, is_derived
from invoice.providers.base import ChargeView, PaymentProvider
from invoice.services import brakes, outbox
from invoice.services.accounts import Accounts
from invoice.services.operations import Act, Claim, Operations, stage
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Refund, Subscription

logger = logging.getLogger(__name__)

REFUND = "REFUND"
# How long the provider surely remembers an idempotency key. Source: observed for 24 h 19 min in apitest, August 2026.
_KEY_LIFE = timedelta(hours=24)
# How long after its capture money can go back. Source: Vipps Recurring v3 (agent-toolkit, 2026-08-21).
LIFE = timedelta(days=365)
# What was accepted may be done a little later: so long a part is only looked for, and not sent again.
_SHOWS_WITHIN = timedelta(minutes=1)
_UNREAD = -1  # the provider's sum before a refund, until it is read for its first sending
_MAX_REASON = 100  # characters, in the table and at Vipps
_ENDING = frozenset({SubscriptionStatus.CANCELLING, SubscriptionStatus.CANCELLED})
_PAID = frozenset({ChargeStatus.CHARGED, ChargeStatus.PARTIALLY_REFUNDED})
_REFUNDABLE = _PAID | {ChargeStatus.RESERVED}  # of a reservation, what was captured already


def give_back_if_due(subscription: Subscription, charge: Charge) -> None:
    """Refund in full what should never have been taken: under a surplus agreement, or after an end was accepted."""
    reason = _undue(subscription, charge)
    left = charge.captured - charge.refunded
    if charge.status in _PAID and reason and left > 0 and not _is_under_way(charge):
        request(subscription, charge, left, reason)


def ask(subscription: Subscription, charge: Charge, amount: int | None, reason: str, *, mark: str | None = None) -> int:
    """Have money go back, all that is left (None) or a part of it; return the refund's id. The caller holds the lock.

    mark: of the caller's request, to find it again by.
    Raises Invalid for an amount that is not there, Conflict when nothing can go back now, ProviderUnavailable while the
    books may be behind.
    """
    brakes.refuse_while_frozen()
    left = charge.captured - charge.refunded
    _check_refundable(charge, left)
    wanted = left if amount is None else amount
    least = MINIMUM[charge.currency]
    if not least <= wanted <= left:
        raise Invalid({"amount": [f"amount must be from {least} to {left}, which is what is left."]})
    return request(subscription, charge, wanted, reason, mark)


def request(subscription: Subscription, charge: Charge, amount: int, reason: str, mark: str | None = None) -> int:
    """Write a refund down; it is sent from now on. The caller holds the lock and knows that `amount` is left."""
    refund = Refund(
        charge_id=charge.id,
        amount=amount,
        reason=reason[:_MAX_REASON],
        mark=mark,
        status=RefundStatus.REQUESTED,
        refunded_before=_UNREAD,
        created_at=utc_now(),
    )
    db.session.add(refund)
    db.session.flush()
    name = _name(charge, refund.id)
    agreement = db.session.get_one(Agreement, charge.agreement_id)
    stage(Act(REFUND, refund.id, subscription.id, name, account=agreement.account, request=str(amount)))
    return refund.id


def take_up(charge: Charge, given_back: Sequence[tuple[str, int]]) -> int:
    """Enter the refunds that we sent and whose rows were lost, known by their keys; return how many there were.

    given_back: key and amount of each, as the provider tells them.
    """
    # What was given back in the portal has no such key, and is not searched for.
    known = queries.refund_keys(charge.id)
    unknown = [(key, amount) for key, amount in given_back if key not in known and is_derived(key)]
    numbers = [n for some in queries.lost_refund_numbers() for n in reversed(some)] if unknown else []
    found = 0
    for key, amount in unknown:
        sent = (n for n in numbers if idempotency_key(_name(charge, n), REFUND, str(amount)) == key)
        if (number := next(sent, None)) is not None:
            db.session.add(_lost(number, charge, amount))
            found += 1
    return found


def _lost(number: int, charge: Charge, amount: int) -> Refund:
    now = utc_now()
    return Refund(
        id=number,
        charge_id=charge.id,
        amount=amount,
        reason="read back",
        mark=lost_mark(amount),
        status=RefundStatus.DONE,
        refunded_before=0,
        created_at=now,
        settled_at=now,
    )


def lost_mark(amount: int) -> str:
    """Return what marks a refund whose request is lost; the first that asks for as much is taken for it."""
    return f"lost {amount}"


def _name(charge: Charge, number: int) -> str:
    return f"{charge.name}-r{number}"


def _check_refundable(charge: Charge, left: int) -> None:
    """Raise Conflict, in words for a person, when no money of this charge can go back now."""
    if charge.status not in _REFUNDABLE or left <= 0:
        raise Conflict(f"Charge {charge.name} has nothing to give back: it is {charge.status}.")
    if charge.captured_at is None or utc_now() - charge.captured_at > LIFE:
        raise Conflict(f"Charge {charge.name} was captured more than {LIFE.days} days ago.")
    is_open = (Refund.charge_id == charge.id, Refund.status == RefundStatus.REQUESTED)
    if db.session.scalar(db.select(Refund.id).where(*is_open)) is not None:
        raise Conflict(f"Charge {charge.name} has a refund under way.")


def _undue(subscription: Subscription, charge: Charge) -> str:
    """Return why this money should never have been taken, or an empty text."""
    if charge.is_surplus:
        return "surplus agreement"
    if _is_late(subscription, charge):
        return "captured after the cancel"
    return "captured after the end" if _is_past_the_end(subscription, charge) else ""


def _is_past_the_end(subscription: Subscription, charge: Charge) -> bool:
    """Tell whether it was taken for a time after the end that was asked for, although we had called it off."""
    asked_at, taken_at, stop_on = charge.cancel_requested_at, charge.captured_at, subscription.stop_on
    if asked_at is None or taken_at is None or stop_on is None:
        return False
    return charge.period != 0 and charge.due_on >= stop_on and taken_at > asked_at


def _is_late(subscription: Subscription, charge: Charge) -> bool:
    cancelled_at = subscription.cancel_requested_at
    return (
        subscription.status in _ENDING
        and cancelled_at is not None
        and charge.captured_at is not None
        and charge.captured_at > cancelled_at
        and not charge.is_reserved  # set aside before, and captured because we said so
    )


def _is_under_way(charge: Charge) -> bool:
    """Tell whether a refund of this charge waits, or was refused and now waits for an operator."""
    undone = Refund.status.in_([RefundStatus.REQUESTED, RefundStatus.FAILED])
    found = db.select(Refund.id).where(Refund.charge_id == charge.id, undone).limit(1)
    return db.session.scalar(found) is not None


class Refunds:
    """Sends refunds; a handler of operations."""

    def __init__(self, accounts: Accounts, operations: Operations) -> None:
        self._accounts = accounts
        operations.handle(REFUND, self)

    def refund(self, charge_id: int, amount: int | None, reason: str) -> int:
        """Ask for money to go back, all that is left or a part of it; return the refund's id.

        amount: minor units; None: all that is left.
        Raises Invalid for an amount that is not there, Conflict when nothing can go back now.
        """
        with transaction():
            charge = db.session.get_one(Charge, charge_id)
            subscription = queries.lock_subscription(charge.subscription_id)
            db.session.refresh(charge)
            return ask(subscription, charge, amount, reason)

    def call(self, claim: Claim) -> None:
        """Send it unless the provider's sum says that it has happened; believe only what reads back."""
        with reading():
            refund = db.session.get_one(Refund, claim.subject_id)
            charge = db.session.get_one(Charge, refund.charge_id)
            agreement = db.session.get_one(Agreement, charge.agreement_id)
            name, agreement_id = charge.name, str(agreement.provider_agreement_id)
            amount, reason, before = refund.amount, refund.reason, refund.refunded_before
            captured, is_whole = charge.captured, before + amount == charge.captured
        payments = self._accounts.of(str(claim.account))
        seen = _look(payments, agreement_id, name)
        if before == _UNREAD:  # it was never sent
            goal = _count_from(claim, seen.refunded if seen else 0, amount, captured)
        else:
            goal = before + amount
            if _has_happened(seen, claim.key, goal):
                return
            # All that is left cannot go back twice: Vipps gives back no more than it took. A part could.
            since = utc_now() - claim.first_sent_at
            if not is_whole and claim.in_doubt and since < _SHOWS_WITHIN:
                raise ProviderUncertain("it may have been accepted, and does not show yet")
            if not is_whole and since > _KEY_LIFE:
                logger.error("Refund %s is unknown for a day: an operator decides.", claim.name)
                raise ProviderUncertain("the key may be forgotten, so this refund is not sent again")
        refused = None
        try:
            body = payments.refund_request(amount, reason)
            payments.refund_charge(agreement_id, name, body, key=claim.key)
        except ProviderRefused as refusal:
            if claim.attempts == 1:
                raise
            refused = refusal  # perhaps because an earlier try has done it
        seen = _look(payments, agreement_id, name)
        is_accepted = refused is None and seen is not None and seen.refunded >= goal
        if not is_accepted and not _has_happened(seen, claim.key, goal):
            raise refused or ProviderUncertain("the refund was accepted and does not show yet")

    def settle(self, claim: Claim, result: None) -> None:  # noqa: ARG002 - a handler's signature
        """The money is back; the charge is looked at and moves by itself."""
        refund = db.session.get_one(Refund, claim.subject_id)
        refund.status, refund.settled_at = RefundStatus.DONE, utc_now()
        charge = db.session.get_one(Charge, refund.charge_id)
        # Counted at once, so that a look that began before it cannot ask for another.
        charge.refunded = max(charge.refunded, refund.refunded_before + refund.amount)
        charge.check_at = utc_now()

    def refuse(self, claim: Claim, refusal: ProviderRefused) -> None:
        """The provider will not: a person must."""
        refund = db.session.get_one(Refund, claim.subject_id)
        refund.status, refund.settled_at = RefundStatus.FAILED, utc_now()
        charge = db.session.get_one(Charge, refund.charge_id)
        charge.check_at = utc_now()  # somebody may have given it back in the provider's portal
        logger.error("Refund of %s was refused: %s", charge.name, refusal.message)
        subscription = db.session.get_one(Subscription, charge.subscription_id)
        outbox.record(subscription, "refund.failed", charge=charge.name, reason=refusal.message)


def _count_from(claim: Claim, before: int, amount: int, captured: int) -> int:
    """Write down the provider's sum before the refund is sent for the first time; return what it must come to.

    Somebody may have given money back in the provider's portal since this refund was asked for. Only one worker's
    count holds: one that comes late might count what the other has sent.
    """
    if before + amount > captured:
        raise ProviderRefused("less is left at the provider than was asked for")
    with transaction():
        uncounted = (Refund.id == claim.subject_id, Refund.refunded_before == _UNREAD)
        statement = update(Refund).where(*uncounted).values(refunded_before=before)
        if not db.session.execute(statement).rowcount:  # type: ignore[attr-defined]
            raise ProviderUncertain("another worker has taken this over")
    return before + amount


def _look(payments: PaymentProvider, agreement_id: str, name: str) -> ChargeView | None:
    """Look at the charge. A look that fails says nothing of the refund: it leaves it in doubt."""
    try:
        return payments.find_charge(agreement_id, name)
    except ProviderError as error:
        raise ProviderUncertain(error.message) from error


def _has_happened(view: ChargeView | None, key: str, goal: int) -> bool:
    """Tell whether a refund has happened: its key says so. Where keys do not account for all, the sum does.

    Somebody may have given as much back in the provider's portal while ours was in doubt. Whether a history names our
    key in every case nobody knows, so what is sent again after a "no" goes out under the same key; and of all that was
    left nobody asks whose it was, once it is back.
    """
    if view is None:
        return False
    is_named = any(known == key for known, _ in view.refunds)
    is_anothers = sum(amount for _, amount in view.refunds) == view.refunded and goal < view.captured
    return is_named or (view.refunded >= goal and not is_anothers)
