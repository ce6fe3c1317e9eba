"""What the services ask of a payment provider and of an SMS provider, and the values that pass between them.

Calls raise ProviderRefused (a definite no), ProviderDenied (our keys), ProviderUnavailable (safe to send again) or
ProviderUncertain (it may have happened). `*_request` methods are pure: they freeze a body, which is stored before it
is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, MessageStatus


@dataclass(frozen=True)
class Draft:
    """A consent to ask for."""

    external_id: str  # the subscription's random id: finds the agreement again when the answer was lost
    product_name: str
    description: str
    amount: int
    currency: str
    interval: Interval
    phone: str  # E.164; only fills in the person's number
    redirect_url: str
    manage_url: str
    initial_amount: int  # 0: nothing is taken at signing
    initial_name: str


@dataclass(frozen=True)
class Drafted:
    """A consent that waits for its person."""

    agreement_id: str
    confirmation_url: str


@dataclass(frozen=True)
class AgreementView:
    """An agreement as the provider has it. `status` is None for a word that we do not know."""

    agreement_id: str
    external_id: str | None
    status: AgreementStatus | None
    started_at: datetime | None


@dataclass(frozen=True)
class NewCharge:
    """A charge to create."""

    agreement_id: str
    name: str
    amount: int
    description: str
    due_on: date
    retry_days: int


@dataclass(frozen=True)
class BatchAnswer:
    """What the provider said to a batch: names taken, names turned away with its words. Silence on the rest."""

    accepted: frozenset[str]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class ChargeView:
    """A charge as the provider has it. `status` is None for a word that we do not know."""

    name: str
    agreement_id: str
    amount: int
    currency: str
    status: ChargeStatus | None
    captured: int
    refunded: int
    captured_at: datetime | None
    failure_reason: str | None
    is_initial: bool


@dataclass(frozen=True)
class WebhookAddress:
    """A webhook registration as the provider lists it."""

    webhook_id: str
    url: str


@dataclass(frozen=True)
class Ring:
    """What a webhook is about. It carries no news: it only says where to look."""

    agreement_id: str
    external_id: str | None
    charge_name: str | None


@dataclass(frozen=True)
class Receipt:
    """A text message as the SMS provider has it. `status` is None for a word that we do not know."""

    message_id: str
    status: MessageStatus | None
    error_code: str | None = None


class PaymentProvider(Protocol):
    """Consents and charges."""

    def draft_request(self, draft: Draft) -> str:
        """Freeze a draft's body."""
        ...

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        """Ask for consent."""
        ...

    def find_agreement(self, agreement_id: str) -> AgreementView | None:
        """Return the agreement, or None when the provider does not know it."""
        ...

    def stop_agreement(self, agreement_id: str, *, key: str) -> None:
        """Ask for an agreement's end. Success means accepted: read back before believing."""
        ...

    def charges_request(self, charges: list[NewCharge]) -> str:
        """Freeze a batch's body; at most `max_batch` charges."""
        ...

    def create_charges(self, request: str, *, key: str) -> BatchAnswer:
        """Create a batch of charges. Success means accepted: read each back before believing."""
        ...

    def find_charge(self, agreement_id: str, name: str) -> ChargeView | None:
        """Return the charge of that name, or None when the provider does not know it."""
        ...

    def list_charges(self, agreement_id: str) -> list[ChargeView]:
        """Return all charges of an agreement, in no order."""
        ...

    def refund_request(self, amount: int, reason: str) -> str:
        """Freeze a refund's body."""
        ...

    def refund_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        """Give money back. Success means accepted: read back before believing."""
        ...

    def register_webhook(self, url: str) -> tuple[WebhookAddress, str]:
        """Ask for webhooks to `url`; return the registration and the secret, which is told only now."""
        ...

    def list_webhooks(self) -> list[WebhookAddress]:
        """Return the registrations."""
        ...

    def delete_webhook(self, webhook_id: str) -> None:
        """End a registration."""
        ...

    def is_genuine(self, url: str, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether the provider sent this webhook to the registered `url`."""
        ...

    def read_webhook(self, body: bytes) -> Ring:
        """Return what a genuine webhook is about. Raises Invalid when it cannot be read."""
        ...


class SmsProvider(Protocol):
    """Text messages."""

    def send(self, *, to: str, originator: str, body: str, receipt_url: str) -> Receipt:
        """Send a text. Not idempotent: after ProviderUncertain look it up before sending again."""
        ...

    def find(self, *, to: str, since: datetime, containing: str) -> Receipt | None:
        """Return the newest text to that number since then which holds `containing`, or None."""
        ...

    def is_genuine(self, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        """Tell whether the provider sent this receipt to the public `url`."""
        ...

    def read_receipt(self, form: Mapping[str, str]) -> Receipt:
        """Return what a genuine receipt says. Raises Invalid when it cannot be read."""
        ...
