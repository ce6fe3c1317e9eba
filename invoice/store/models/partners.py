"""Who may ask."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from invoice.store.db import Base, Encrypted, UTCDateTime


class Partner(Base):
    """A business that asks for subscriptions, known by the number in the contract, such as 10295."""

    __tablename__ = "partners"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100))  # what people read as the merchant
    market: Mapped[str] = mapped_column(String(2))  # whose calendar counts: NO, DK or FI
    sms_originator: Mapped[str] = mapped_column(String(15))
    # Whose agreements are drafted from now on: an account of the partner's own, or the platform's (None).
    account: Mapped[str | None] = mapped_column(ForeignKey("provider_accounts.account"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    suspended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class ProviderAccount(Base):
    """A partner's own account at the payment provider (a sales unit at Vipps). Its agreements keep to it for ever."""

    __tablename__ = "provider_accounts"

    account: Mapped[str] = mapped_column(String(10), primary_key=True)  # the merchant serial number
    client_id: Mapped[str] = mapped_column(String(200))
    client_secret: Mapped[str] = mapped_column(Encrypted)
    subscription_key: Mapped[str] = mapped_column(Encrypted)
    owner_id: Mapped[int]  # the partner who brought it: nobody else may use it
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime)  # other keys, another client


class PartnerSecret(Base):
    """One secret of a partner. Two may be alive at once, so that a partner can change over."""

    __tablename__ = "partner_secrets"

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)  # SHA-256: the secret has 256 random bits
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
