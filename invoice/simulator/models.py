"""What the stand-in remembers.

Amounts are minor units (øre, cent), instants aware UTC, `wake_at` is when a row next acts by itself.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from invoice.simulator.accounts import UNITS, SalesUnit
from invoice.simulator.market import Market

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_of(microseconds: int | None) -> datetime | None:
    """Return stored microseconds as an aware datetime."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, kept as whole microseconds so that it sorts and compares exactly."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return microseconds since 1970."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the aware datetime."""
        return instant_of(value)


class Base(DeclarativeBase):
    """Tables of the stand-in, and of nobody else."""

    type_annotation_map = {datetime: Instant, dict[str, Any]: JSON(none_as_null=True), list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's own


class AgreementStatus(StrEnum):
    """Source: Vipps Recurring v3, 2025-10."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"
    EXPIRED = "EXPIRED"


class ChargeStatus(StrEnum):
    """Source: Vipps Recurring v3, 2025-10."""

    PENDING = "PENDING"
    DUE = "DUE"
    PROCESSING = "PROCESSING"
    RESERVED = "RESERVED"
    PARTIALLY_CAPTURED = "PARTIALLY_CAPTURED"
    CHARGED = "CHARGED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"


def _waking(table: str) -> Index:
    """The index that answers "what is due?" without looking at rows that sleep for ever."""
    return Index(f"ix_{table}_wake_at", "wake_at", sqlite_where=text("wake_at IS NOT NULL"))


class _OfUnit:
    """What belongs to a sales unit, and does not exist for another. msn: its Merchant-Serial-Number."""

    msn: Mapped[str]

    @property
    def unit(self) -> SalesUnit:
        """The sales unit."""
        return UNITS[self.msn]

    @property
    def market(self) -> Market:
        """The sales unit's market."""
        return self.unit.market


class Setting(Base):
    """One named value: the clock's offset, the signing key, the switches."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Agreement(_OfUnit, Base):
    """A person's consent to be charged, or the asking for it."""

    __tablename__ = "agreements"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    uuid: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None]
    product_name: Mapped[str]
    product_description: Mapped[str | None]
    external_id: Mapped[str | None]
    pricing_type: Mapped[str]
    currency: Mapped[str]
    price: Mapped[int | None]
    suggested_max_amount: Mapped[int | None]
    max_amount: Mapped[int | None]
    interval_unit: Mapped[str | None]
    interval_count: Mapped[int | None]
    redirect_url: Mapped[str]
    manage_url: Mapped[str | None]
    phone: Mapped[str | None] = mapped_column(index=True)
    campaign: Mapped[dict[str, Any] | None]
    initial_charge: Mapped[dict[str, Any] | None]
    initial_charge_id: Mapped[str | None]
    payment_method: Mapped[dict[str, Any] | None]
    scope: Mapped[str | None]
    sub: Mapped[str | None] = mapped_column(index=True)
    confirmation_url: Mapped[str]
    is_pushed: Mapped[bool]
    opened_by: Mapped[str | None]
    __table_args__ = (_waking("agreements"), Index("ix_agreements_status", "msn", "status", "number"))


class Charge(_OfUnit, Base):
    """One payment on an agreement. `captured`, `refunded` and `cancelled` are sums so far."""

    __tablename__ = "charges"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str]
    agreement_id: Mapped[str] = mapped_column(ForeignKey("agreements.id"), index=True)
    type: Mapped[str]
    status: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str]
    description: Mapped[str]
    transaction_type: Mapped[str]
    due: Mapped[date]
    due_at: Mapped[datetime]
    retry_days: Mapped[int]
    processing_mode: Mapped[str]
    external_id: Mapped[str | None]
    transaction_id: Mapped[str | None]
    failure_reason: Mapped[str | None]
    captured: Mapped[int] = mapped_column(default=0)
    refunded: Mapped[int] = mapped_column(default=0)
    cancelled: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    captured_at: Mapped[datetime | None]
    refunded_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None]
    __table_args__ = (_waking("charges"), UniqueConstraint("msn", "id"))

    @property
    def capturable(self) -> int:
        """What is reserved and neither captured nor released."""
        return self.amount - self.captured - self.cancelled

    @property
    def refundable(self) -> int:
        """What was captured and not given back."""
        return self.captured - self.refunded


class ChargeEvent(Base):
    """One line of a charge's history."""

    __tablename__ = "charge_events"
    number: Mapped[int] = mapped_column(primary_key=True)
    charge_number: Mapped[int] = mapped_column(ForeignKey("charges.number"), index=True)
    occurred_at: Mapped[datetime]
    event: Mapped[str]
    amount: Mapped[int]
    idempotency_key: Mapped[str]
    success: Mapped[bool]
    description: Mapped[str | None]


class OrderId(Base):
    """A name that is taken in this sales unit, by a charge or by the initial charge of a draft."""

    __tablename__ = "order_ids"
    msn: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    agreement_id: Mapped[str]


class KeptAnswer(Base):
    """What was answered to an Idempotency-Key."""

    __tablename__ = "kept_answers"
    msn: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    kept_at: Mapped[datetime]
    status: Mapped[int]
    content_type: Mapped[str]
    body: Mapped[str]


class Deferred(_OfUnit, Base):
    """What was accepted with 202, and is done when it wakes."""

    __tablename__ = "deferred"
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    agreement_id: Mapped[str]
    charge_id: Mapped[str]
    key: Mapped[str]
    body: Mapped[dict[str, Any] | None]
    wake_at: Mapped[datetime | None]
    __table_args__ = (_waking("deferred"),)


class Webhook(_OfUnit, Base):
    """A registration: where to send which events."""

    __tablename__ = "webhooks"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    url: Mapped[str]
    events: Mapped[list[str]]
    secret: Mapped[str]
    failing_since: Mapped[datetime | None]


class Delivery(Base):
    """An event owed to a registration. The row stays after delivery, without `wake_at`."""

    __tablename__ = "deliveries"
    number: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str]
    event: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime]
    signed_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    outcome: Mapped[str | None]
    wake_at: Mapped[datetime | None]
    __table_args__ = (_waking("deliveries"), Index("ix_deliveries_queue", "webhook_id", "subject", "number"))


class Message(Base):
    """A text that was sent."""

    __tablename__ = "messages"
    number: Mapped[int] = mapped_column(primary_key=True)
    sid: Mapped[str] = mapped_column(unique=True)
    to: Mapped[str] = mapped_column("recipient", index=True)
    sender: Mapped[str | None]
    service_sid: Mapped[str | None]
    body: Mapped[str]
    segments: Mapped[int]
    status: Mapped[str]
    error_code: Mapped[int | None]
    status_callback: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None]
    __table_args__ = (_waking("messages"),)


class Receipt(Base):
    """A status callback owed to whoever sent the text."""

    __tablename__ = "receipts"
    number: Mapped[int] = mapped_column(primary_key=True)
    sid: Mapped[str]
    url: Mapped[str]
    form: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    wake_at: Mapped[datetime | None]
    __table_args__ = (_waking("receipts"),)


class Fault(Base):
    """A misbehaviour that was ordered. `remaining` None: for ever."""

    __tablename__ = "faults"
    number: Mapped[int] = mapped_column(primary_key=True)
    call: Mapped[str]
    kind: Mapped[str]
    remaining: Mapped[int | None]
    agreement_id: Mapped[str | None]
    chance: Mapped[float] = mapped_column(default=1.0)
    seconds: Mapped[float | None]


class Funds(Base):
    """Whether there is money: for an agreement id or a phone number (MSISDN)."""

    __tablename__ = "funds"
    subject: Mapped[str] = mapped_column(primary_key=True)
    available: Mapped[bool]
