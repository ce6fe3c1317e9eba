"""The life of a consent: drafted, approved or rejected or too late, stopped."""

from __future__ import annotations

from sqlalchemy import select

from invoice.simulator import ids, payments
from invoice.simulator.act import Act, Call
from invoice.simulator.charges import reserve_order_id
from invoice.simulator.drafts import Draft, Update
from invoice.simulator.events import tell_agreement
from invoice.simulator.funds import UNDER_18
from invoice.simulator.models import Agreement, AgreementStatus, Charge, ChargeStatus, OrderId
from invoice.simulator.problems import Problem
from invoice.simulator.world import LINK_LIFE

# Which charges a stop calls off. Source: agent-toolkit, 2026-08-21; technical update 2024-09.
_STOPPED_WITH = {
    "MERCHANT": (ChargeStatus.PENDING, ChargeStatus.DUE, ChargeStatus.RESERVED),
    "USER": (ChargeStatus.PENDING, ChargeStatus.DUE),
    "ADMIN": (ChargeStatus.PENDING, ChargeStatus.DUE),
}


def draft(act: Call, wish: Draft) -> Agreement:
    """Make an agreement that waits ten minutes for its person. Raises Problem if the initial orderId is taken."""
    name = ids.agreement_id()
    agreement = Agreement(
        msn=act.msn,
        id=name,
        uuid=ids.new_uuid(),
        status=AgreementStatus.PENDING,
        created_at=act.now,
        expires_at=act.now + LINK_LIFE,
        wake_at=act.now + LINK_LIFE,
        product_name=wish.product_name,
        product_description=wish.product_description,
        external_id=wish.external_id,
        pricing_type=wish.pricing.type,
        currency=act.unit.currency,
        price=wish.pricing.price,
        suggested_max_amount=wish.pricing.suggested_max_amount,
        interval_unit=wish.interval[0] if wish.interval else None,
        interval_count=wish.interval[1] if wish.interval else None,
        redirect_url=wish.redirect_url,
        manage_url=wish.manage_url,
        phone=wish.phone,
        campaign=wish.campaign,
        initial_charge=wish.initial_charge,
        payment_method=wish.payment_method,
        scope=wish.scope,
        confirmation_url=act.world.link_for(name, int(act.now.timestamp()), is_app=wish.is_app),
        is_pushed=wish.is_pushed,
    )
    if wish.initial_charge:
        agreement.initial_charge_id = reserve_order_id(act, agreement, wish.initial_charge["orderId"])
    act.session.add(agreement)
    act.session.flush()
    return agreement


def is_open(act: Act, agreement: Agreement) -> bool:
    """Whether the person can still answer."""
    return agreement.status == AgreementStatus.PENDING and act.now < agreement.expires_at


def approve(
    act: Act, agreement: Agreement, *, phone: str | None = None, max_amount: int | None = None, forced: bool = False
) -> None:
    """Let the person say yes: the initial charge runs, then the agreement is ACTIVE, or else EXPIRED.

    phone: the number (MSISDN) that it is approved with.  max_amount: what the person will pay at most in an interval,
    for VARIABLE pricing.  forced: by the test endpoint, where no amount is refused.
    """
    agreement.phone = phone or agreement.phone
    agreement.max_amount = max_amount
    if agreement.phone in UNDER_18:
        expire(act, agreement)
        return
    charge = _initial_charge(act, agreement)
    reason = payments.refusal(act, agreement, charge) if charge and not forced else None
    if charge and reason:
        payments.fail(act, charge, reason)
        expire(act, agreement)
        return
    if act.switches.activated_before_captured:
        _activate(act, agreement)
    if charge:
        payments.take_now(act, charge)
    if not act.switches.activated_before_captured:
        _activate(act, agreement)


def set_max_amount(agreement: Agreement, amount: int) -> None:
    """Let the person change what he pays at most; a charge that was too high is taken by the next batch."""
    agreement.max_amount = amount


def _activate(act: Act, agreement: Agreement) -> None:
    agreement.status = AgreementStatus.ACTIVE
    agreement.started_at = act.now
    agreement.wake_at = None
    agreement.sub = ids.subject(agreement.msn, agreement.phone or agreement.id) if agreement.scope else None
    if agreement.pricing_type == "VARIABLE":
        agreement.max_amount = agreement.max_amount or agreement.suggested_max_amount
    tell_agreement(act, agreement, "activated", "USER")


def _initial_charge(act: Act, agreement: Agreement) -> Charge | None:
    asked = agreement.initial_charge
    if asked is None or agreement.initial_charge_id is None:
        return None
    charge = Charge(
        msn=agreement.msn,
        id=agreement.initial_charge_id,
        agreement_id=agreement.id,
        type="INITIAL",
        status=ChargeStatus.DUE,
        amount=asked["amount"],
        currency=agreement.currency,
        description=asked["description"],
        transaction_type=asked["transactionType"],
        due=agreement.market.local_date(act.now),
        due_at=act.now,
        retry_days=0,
        processing_mode="SINGLE_ATTEMPT",
        external_id=asked["externalId"],
        captured=0,
        refunded=0,
        cancelled=0,
        created_at=act.now,
        transaction_id=ids.transaction_id(),
    )
    act.session.add(charge)
    act.session.flush()
    payments.note(act, charge, "CREATE", charge.amount)
    return charge


def reject(act: Act, agreement: Agreement) -> None:
    """Let the person say no."""
    _end(act, agreement, AgreementStatus.STOPPED)
    tell_agreement(act, agreement, "rejected", "USER")


def expire(act: Act, agreement: Agreement) -> None:
    """End an agreement that was never approved."""
    _end(act, agreement, AgreementStatus.EXPIRED)
    tell_agreement(act, agreement, "expired", "USER")


def _end(act: Act, agreement: Agreement, status: AgreementStatus) -> None:
    agreement.status = status
    agreement.stopped_at = act.now
    agreement.wake_at = None
    wanted = agreement.initial_charge_id
    name = act.session.get(OrderId, (agreement.msn, wanted)) if wanted else None
    if name and act.switches.dead_draft_frees_order_id and act.find_charge(name.msn, name.id) is None:
        act.session.delete(name)


def stop(act: Act, agreement: Agreement, actor: str) -> None:
    """End an active agreement, and the charges that end with it. actor: MERCHANT, USER or ADMIN."""
    agreement.status = AgreementStatus.STOPPED
    agreement.stopped_at = act.now
    agreement.wake_at = None
    tell_agreement(act, agreement, "stopped", actor)
    statuses = list(_STOPPED_WITH[actor])
    if act.switches.stop_reaches_processing:
        statuses.append(ChargeStatus.PROCESSING)
    ended = (
        select(Charge).where(Charge.agreement_id == agreement.id, Charge.status.in_(statuses)).order_by(Charge.number)
    )
    for charge in act.session.scalars(ended).all():
        payments.call_off(act, charge)


def update(act: Act, agreement: Agreement, change: Update) -> None:
    """Change or stop an agreement for the merchant. Raises Problem if it is not active."""
    if change.stop and agreement.status == AgreementStatus.PENDING and act.switches.stop_pending_allowed:
        _end(act, agreement, AgreementStatus.STOPPED)
        tell_agreement(act, agreement, "stopped", "MERCHANT")
        return
    if agreement.status != AgreementStatus.ACTIVE:
        reason = ("status", "Cannot modify an agreement which is not active.")
        raise Problem("illegal-agreement-update", "Illegal update", [reason])
    if change.stop:
        stop(act, agreement, "MERCHANT")
    for column, value in change.columns.items():
        setattr(agreement, column, value)
