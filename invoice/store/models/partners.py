"""Who may ask."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from invoice.lifecycle import ContractMode, SecretKind
from invoice.store.db import Base, Encrypted, UTCDateTime
from invoice.store.models.columns import status_of


class Partner(Base):
    """A business that asks for subscriptions, known by the number in the contract, such as 10295."""

    __tablename__ = "partners"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100))  # what people read as the merchant
    market: Mapped[str] = mapped_column(String(2))  # whose calendar counts: NO, DK or FI
    sms_originator: Mapped[str] = mapped_column(String(15))
    # Whose agreements are drafted from now on: an account of the partner's own, or the platform's (None).
    account: Mapped[str | None] = mapped_column(ForeignKey("provider_accounts.account"))
    contract_mode: Mapped[ContractMode] = mapped_column(status_of(ContractMode), default=ContractMode.FIXED)
    language: Mapped[str | None] = mapped_column(String(2))  # of texts in our words; None: the market's
    sms_text: Mapped[str | None] = mapped_column(String(1000))  # of invitations that come without one; None: ours
    sms_limit: Mapped[int | None]  # texts in 24 hours, 0: no cap; None: as the settings say
    request_limit: Mapped[int] = mapped_column(default=600)  # a minute
    texts_paused_at: Mapped[datetime | None] = mapped_column(
        UTCDateTime
    )  # nobody opens them; until an operator resumes
    texts_resumed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # only texts after that count again
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
    """One secret of a partner. Two of a kind may be alive at once, so that a partner can change over."""

    __tablename__ = "partner_secrets"
    __table_args__ = (CheckConstraint("(digest IS NULL) != (hmac_secret IS NULL)", name="is_one_or_the_other"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"), index=True)
    kind: Mapped[SecretKind] = mapped_column(status_of(SecretKind), default=SecretKind.PASSWORD)
    # SHA-256 of what is sent to us: it has 256 random bits.
    digest: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    # What signatures are made with is never sent, and must be had to check one.
    hmac_secret: Mapped[str | None] = mapped_column(Encrypted)
    may_see_token: Mapped[bool] = mapped_column(default=False)  # the provider's access token, for tests of the keys
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class UsedNonce(Base):
    """A nonce that a partner has signed with: the same request is not carried out twice."""

    __tablename__ = "used_nonces"

    partner_id: Mapped[int] = mapped_column(ForeignKey("partners.id"), primary_key=True, autoincrement=False)
    nonce: Mapped[str] = mapped_column(String(50), primary_key=True)
    used_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)
