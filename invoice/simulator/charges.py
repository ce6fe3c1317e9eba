"""How charges come to be: checked against their agreement, one at a time or two thousand at once."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import func, select

from invoice.simulator import ids, market, payments
from invoice.simulator.act import Act, Call
from invoice.simulator.events import tell_charge
from invoice.simulator.models import Agreement, AgreementStatus, Charge, ChargeStatus, OrderId
from invoice.simulator.problems import Problem, invalid
from invoice.simulator.wishes import Wish, check_echoable, read_wish

BULK_MOST = 2000
# All charges of one interval together may be this many times the price. Source: agent-toolkit, 2026-08-21.
PRICE_FACTOR = 5
_DEAD = (ChargeStatus.FAILED, ChargeStatus.CANCELLED)

# What an invalid item of a batch is echoed with. Source: Vipps Recurring v3, ChargeBatchItemDto.
_ECHOED = (
    "due",
    "retryDays",
    "processingMode",
    "amount",
    "description",
    "transactionType",
    "orderId",
    "agreementId",
    "externalId",
)


def create(act: Act, agreement: Agreement, wish: Wish) -> Charge:
    """Make a charge on an agreement. Raises Problem if the agreement does not carry it."""
    check_wish(act, agreement, wish)
    charge_id = reserve_order_id(act, agreement, wish.order_id)
    charge = _new_charge(act, agreement, wish, charge_id)
    act.session.add(charge)
    act.session.flush()
    payments.note(act, charge, "CREATE", charge.amount)
    if wish.type == "UNSCHEDULED":
        payments.show(charge)
        payments.attempt(act, agreement, charge)
    return charge


def check_wish(act: Act, agreement: Agreement, wish: Wish) -> None:
    """Raise Problem if the agreement is not active or does not allow the amount."""
    if agreement.status != AgreementStatus.ACTIVE:
        raise Problem(
            "charge-creation-failed",
            f"Agreement is not active. Status is {agreement.status}.",
            [("agreementId", "Not active")],
        )
    if agreement.pricing_type == "LEGACY":
        _check_price(act, agreement, wish)
    elif agreement.pricing_type == "VARIABLE":
        ceiling = max(agreement.suggested_max_amount or 0, agreement.max_amount or 0)
        if wish.amount > ceiling:
            raise Problem(
                "charge-amount-too-high", f"Amount is higher than the max amount ({ceiling}).", [("amount", "Too high")]
            )


def _check_price(act: Act, agreement: Agreement, wish: Wish) -> None:
    ceiling = PRICE_FACTOR * (agreement.price or 0)
    if wish.amount + _already_asked(act, agreement, wish.due) > ceiling:
        detail = f"The charges of one interval may be at most {PRICE_FACTOR} times the price ({ceiling})."
        raise Problem("charge-amount-too-high", detail, [("amount", "Too high")])


def _already_asked(act: Act, agreement: Agreement, due: date) -> int:
    """Return the sum of living charges in the interval that holds `due`. The initial charge does not count."""
    if agreement.interval_unit is None or agreement.interval_count is None or agreement.started_at is None:
        return 0
    anchor = agreement.market.local_date(agreement.started_at)
    first, end = market.interval_around(due, anchor, agreement.interval_unit, agreement.interval_count)
    asked = select(func.coalesce(func.sum(Charge.amount), 0)).where(
        Charge.agreement_id == agreement.id,
        Charge.due >= first,
        Charge.due < end,
        Charge.type != "INITIAL",
        Charge.status.not_in(_DEAD),
    )
    return int(act.session.scalar(asked) or 0)


def reserve_order_id(act: Act, agreement: Agreement, wanted: str | None) -> str:
    """Take a name for a charge. Raises Problem if it is taken: an orderId is used once in a sales unit."""
    name = wanted or ids.charge_id()
    if act.session.get(OrderId, (agreement.msn, name)) is None:
        act.session.add(OrderId(msn=agreement.msn, id=name, agreement_id=agreement.id))
        return name
    if act.switches.taken_order_id_status == 400:
        raise invalid(("orderId", "Is already used"))
    raise Problem("conflict", "A charge with this orderId already exists.", [("orderId", "Is already used")])


def _new_charge(act: Act, agreement: Agreement, wish: Wish, charge_id: str) -> Charge:
    here = agreement.market
    charge = Charge(
        msn=agreement.msn,
        id=charge_id,
        agreement_id=agreement.id,
        type=wish.type,
        status=ChargeStatus.PENDING,
        amount=wish.amount,
        currency=agreement.currency,
        description=wish.description,
        transaction_type=wish.transaction_type,
        due=wish.due,
        due_at=act.now,
        retry_days=wish.retry_days,
        processing_mode=wish.processing_mode,
        external_id=wish.external_id,
        captured=0,
        refunded=0,
        cancelled=0,
        created_at=act.now,
        wake_at=here.visible_at(wish.due),
    )
    if wish.type == "RECURRING":
        # The response shows the date as a timestamp. Source: observed, 2026-08.
        charge.due_at = market.utc_midnight(wish.due)
    if here.is_visible(wish.due, act.now):
        payments.show(charge)
        charge.wake_at = here.first_batch(wish.due)
    return charge


def create_many(act: Call, items: Any) -> dict[str, Any]:
    """Make many charges; return the vendor's two lists. Raises Problem if the list that came is wrong itself."""
    if not isinstance(items, list) or not 0 < len(items) <= BULK_MOST:
        raise invalid(("body", f"Must be a list of 1 to {BULK_MOST} charges"))
    check_echoable(items)
    agreements = _agreements_of(act, items)
    valid: list[str] = []
    wrong: list[dict[str, Any]] = []
    for item in items:
        try:
            valid.append(_create_item(act, item, agreements))
        except Problem as problem:
            errors = [f"{name}: {reason}" for name, reason in problem.reasons] or [problem.detail]
            echo = {name: item[name] for name in _ECHOED if item.get(name) is not None}
            wrong.append({"chargeBatchItemDto": echo, "errors": errors})
    return {"validCharges": valid, "invalidCharges": wrong}


def _agreements_of(act: Call, items: list[dict[str, Any]]) -> dict[str, Agreement]:
    wanted = sorted({item["agreementId"] for item in items if isinstance(item.get("agreementId"), str)})
    found: dict[str, Agreement] = {}
    for start in range(0, len(wanted), 500):
        some = Agreement.id.in_(wanted[start : start + 500])
        rows = act.session.scalars(select(Agreement).where(Agreement.msn == act.msn, some))
        found.update({row.id: row for row in rows})
    return found


def _create_item(act: Call, item: dict[str, Any], agreements: dict[str, Agreement]) -> str:
    wish = read_wish(item, act.now, act.unit.market, act.switches, bulk=True)
    agreement = agreements.get(item["agreementId"])
    if agreement is None:
        raise Problem("resource-not-found", "Agreement not found.", [("agreementId", "Agreement not found.")])
    charge = create(act, agreement, wish)
    if act.switches.bulk_creation_fails:
        _fail_creation(act, charge)
    return charge.id


def _fail_creation(act: Act, charge: Charge) -> None:
    """Let a charge that the batch took come to nothing, as its asynchronous check may."""
    charge.failure_reason = "technical_error"
    tell_charge(act, charge, "creation-failed")
    name = act.session.get(OrderId, (charge.msn, charge.id))
    if name and not act.switches.bulk_failure_keeps_order_id:
        act.session.delete(name)
    payments.forget(act, charge)
