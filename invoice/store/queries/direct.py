"""What a partner names by the provider's ids: agreements and charges of its own, whoever made them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select

from invoice.lifecycle import RefundStatus
from invoice.store.db import db
from invoice.store.models import Agreement, Charge, Operation, ProviderAccount, Refund, Subscription
from invoice.store.queries.subscriptions import lock_subscription


def agreement_of(partner_id: int, provider_agreement_id: str) -> tuple[Agreement, Subscription] | None:
    """A partner's agreement that the provider calls so, with its subscription."""
    found = (
        select(Agreement, Subscription)
        .join(Subscription, Subscription.id == Agreement.subscription_id)
        .where(Agreement.provider_agreement_id == provider_agreement_id, Subscription.partner_id == partner_id)
    )
    row = db.session.execute(found).first()
    return None if row is None else (row[0], row[1])


def own_accounts(partner_id: int, *, but: str) -> Sequence[str]:
    """The accounts that a partner has brought, the newest first; `but` is not one of them, whoever says so."""
    mine = (ProviderAccount.owner_id == partner_id, ProviderAccount.account != but)
    return db.session.scalars(
        select(ProviderAccount.account).where(*mine).order_by(ProviderAccount.created_at.desc())
    ).all()


def lock_subscriptions(subscription_ids: Collection[int]) -> dict[int, Subscription]:
    """Many subscriptions, locked one after the other in the order that everybody takes."""
    found: dict[int, Subscription] = {}
    wanted = sorted(subscription_ids)
    for start in range(0, len(wanted), 500):
        statement = select(Subscription).where(Subscription.id.in_(wanted[start : start + 500]))
        locked = statement.order_by(Subscription.id).with_for_update().execution_options(populate_existing=True)
        found |= {row.id: row for row in db.session.scalars(locked)}
    return found


def lock_charge(charge_id: int) -> tuple[Subscription, Charge]:
    """A charge, locked, and before it the subscription that it hangs on."""
    charge = db.session.get_one(Charge, charge_id)
    subscription = lock_subscription(charge.subscription_id)
    # Its batch settles without the subscription's lock.
    db.session.refresh(charge, with_for_update=True)
    return subscription, charge


def charges_named(account: str, names: Collection[str]) -> dict[str, Charge]:
    """Those charges of an account that have one of these names, by name."""
    found: dict[str, Charge] = {}
    wanted = sorted(names)
    for start in range(0, len(wanted), 500):
        chosen = (Charge.account == account, Charge.name.in_(wanted[start : start + 500]))
        found |= {charge.name: charge for charge in db.session.scalars(select(Charge).where(*chosen))}
    return found


def refund_marked(charge_id: int, mark: str) -> Refund | None:
    """The refund that a request like this one asked for, unless it was refused."""
    mine = (Refund.charge_id == charge_id, Refund.mark == mark, Refund.status != RefundStatus.FAILED)
    return db.session.scalar(select(Refund).where(*mine).order_by(Refund.id.desc()).limit(1))


def refund_keys(charge_id: int) -> frozenset[str]:
    """The keys under which a charge's refunds went out."""
    ours = select(Refund.id).where(Refund.charge_id == charge_id)
    found = select(Operation.key).where(Operation.kind == "REFUND", Operation.subject_id.in_(ours))
    return frozenset(db.session.scalars(found))


def only_member(operation_id: int) -> tuple[Charge, Agreement] | None:
    """The charge that waits for a batch of one, with its agreement."""
    found = select(Charge, Agreement).join(Agreement, Agreement.id == Charge.agreement_id)
    row = db.session.execute(found.where(Charge.operation_id == operation_id)).first()
    return None if row is None else (row[0], row[1])


def agreements_with(agreement_ids: Collection[int]) -> dict[int, Agreement]:
    """Many attempts at consent, by their number."""
    found: dict[int, Agreement] = {}
    wanted = sorted(agreement_ids)
    for start in range(0, len(wanted), 500):
        chosen = Agreement.id.in_(wanted[start : start + 500])
        found |= {row.id: row for row in db.session.scalars(select(Agreement).where(chosen))}
    return found
