"""The books: a row for every period, and money on its way back."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapped, mapped_column

from invoice.lifecycle import CHARGE_FREES_PERIOD, ChargeStatus, RefundStatus
from invoice.names import transaction_id
from invoice.store.db import Base, UTCDateTime
from invoice.store.models.columns import sql_list, status_of

_HOLDS_PERIOD = text(f"status NOT IN ({sql_list(CHARGE_FREES_PERIOD)}) AND NOT is_surplus AND NOT is_extra")


def _guid(context: DefaultExecutionContext) -> str:
    return transaction_id(context.get_current_parameters()["name"])  # type: ignore[no-untyped-call]


class Charge(Base):
    """One payment for one period. Period 0 is the initial charge at signing, -1 an extra one that a partner made."""

    __tablename__ = "charges"
    __table_args__ = (
        Index(
            "uq_charges_period",
            "subscription_id",
            "period",
            unique=True,
            sqlite_where=_HOLDS_PERIOD,
            postgresql_where=_HOLDS_PERIOD,
        ),
        UniqueConstraint("account", "name"),
        CheckConstraint("0 <= refunded AND refunded <= captured AND captured <= amount", name="money"),
        Index("ix_charges_subscription_id", "subscription_id"),
        Index("ix_charges_guid", "guid"),
        Index("ix_charges_to_submit", "status", "submit_on"),
        Index("ix_charges_check_at", "check_at"),
        Index("ix_charges_warn_at", "warn_at"),
        Index("ix_charges_operation_id", "operation_id"),
        Index("ix_charges_agreement_id", "agreement_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id"))
    agreement_id: Mapped[int] = mapped_column(ForeignKey("agreements.id"))
    period: Mapped[int]
    attempt: Mapped[int]
    account: Mapped[str] = mapped_column(String(10))  # at the payment provider: the agreement's
    name: Mapped[str] = mapped_column(String(64))  # the provider's orderId, unique in its account
    guid: Mapped[str] = mapped_column(String(36), default=_guid)  # partners know it by this
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    due_on: Mapped[date]
    submit_on: Mapped[date]
    retry_days: Mapped[int]
    status: Mapped[ChargeStatus] = mapped_column(status_of(ChargeStatus))
    is_reserved: Mapped[bool] = mapped_column(default=False)  # the money is only set aside, until it is captured
    sends: Mapped[int] = mapped_column(default=0)  # in how many batches it left the house
    sent_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when the newest of them was formed
    # Made at a partner's word and not by the calendar: never a period's payment.
    is_extra: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str | None] = mapped_column(String(100))  # what the person reads; None: the subscription's name
    # Taken under a second agreement that should not have been: never a period's payment, only money to give back.
    is_surplus: Mapped[bool] = mapped_column(default=False)
    operation_id: Mapped[int | None] = mapped_column(ForeignKey("operations.id"))
    captured: Mapped[int] = mapped_column(BigInteger, default=0)
    refunded: Mapped[int] = mapped_column(BigInteger, default=0)
    failure_reason: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    captured_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when the provider says it took the money
    capture_by: Mapped[datetime | None] = mapped_column(UTCDateTime)  # then the provider lets go what is set aside
    warn_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # when to say that `capture_by` comes near
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    check_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Refund(Base):
    """Money to give back. While one is not settled, no other on the same charge may begin."""

    __tablename__ = "refunds"
    __table_args__ = (
        Index(
            "uq_refunds_open",
            "charge_id",
            unique=True,
            sqlite_where=text("status = 'REQUESTED'"),
            postgresql_where=text("status = 'REQUESTED'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charges.id"))
    amount: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(100))
    mark: Mapped[str | None] = mapped_column(String(64))  # of a caller's request: the same again is the same refund
    status: Mapped[RefundStatus] = mapped_column(status_of(RefundStatus))
    refunded_before: Mapped[int] = mapped_column(BigInteger)  # the provider's sum before: tells whether ours is in it
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
