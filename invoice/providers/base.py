"""What the services ask of a payment provider and of an SMS provider, and the values that pass between them.

Calls raise ProviderRefused (a definite no), ProviderDenied (our keys), ProviderUnavailable (safe to send again) or
ProviderUncertain (it may have happened). `*_request` methods are pure: they freeze a body, which is stored before it
is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from invoice.lifecycle import AgreementStatus, ChargeStatus, Interval, MessageStatus


@dataclass(frozen=True)
class FixedPrice:
    """The same amount for every interval."""

    amount: int
    currency: str


@dataclass(frozen=True)
class VariablePrice:
    """Any amount up to a ceiling that the person chooses; we suggest one."""

    suggested_max: int
    currency: str


@dataclass(frozen=True)
class FlexiblePrice:
    """Any amount, without a ceiling."""

    currency: str


@dataclass(frozen=True)
class PriceCampaign:
    """A lower price for each interval until an instant."""

    price: int
    ends_at: datetime


@dataclass(frozen=True)
class PeriodCampaign:
    """One price for a whole first stretch of `count` intervals."""

    price: int
    interval: Interval
    count: int


@dataclass(frozen=True)
class EventCampaign:
    """A price until something happens, told in at most 15 characters."""

    price: int
    happens_at: datetime
    text: str


@dataclass(frozen=True)
class InitialCharge:
    """What is taken at signing, or only reserved."""

    amount: int
    name: str
    is_reserved: bool = False


@dataclass(frozen=True)
class Draft:
    """A consent to ask for."""

    external_id: str  # the subscription's random id: finds the agreement again when the answer was lost
    product_name: str
    description: str
    price: FixedPrice | VariablePrice | FlexiblePrice
    interval: Interval | None  # None: whenever something was used
    phone: str  # E.164; only fills in the person's number
    redirect_url: str
    manage_url: str
    initial: InitialCharge | None = None
    campaign: PriceCampaign | PeriodCampaign | EventCampaign | None = None


@dataclass(frozen=True)
class Drafted:
    """A consent that waits for its person."""

    agreement_id: str
    confirmation_url: str


@dataclass(frozen=True)
class Terms:
    """What an agreement that lives is to say from now on; None leaves a thing as it is."""

    price: FixedPrice | VariablePrice | None = None  # of the kind that it has: that can never change
    product_name: str | None = None
    description: str | None = None
    manage_url: str | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class AgreementView:
    """An agreement as the provider has it. `status` is None for a word that we do not know."""

    agreement_id: str
    external_id: str | None
    status: AgreementStatus | None
    started_at: datetime | None
    amount: int | None = None  # of a fixed price, or the suggested ceiling of a variable one
    product_name: str = ""
    description: str = ""
    currency: str = ""
    interval: Interval | None = None  # None: none at all, or one that we have no word for
    manage_url: str = ""  # what stands behind "manage" in the app


@dataclass(frozen=True)
class AgreementPage:
    """A page of a list of agreements."""

    views: list[AgreementView]
    is_last: bool


@dataclass(frozen=True)
class NewCharge:
    """A charge to create. `is_reserved`: the money is only set aside on the due date, and captured when we say so."""

    agreement_id: str
    name: str
    amount: int
    currency: str
    description: str
    due_on: date
    retry_days: int
    is_reserved: bool = False


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
    due_on: date | None = None
    reserved_at: datetime | None = None
    captures: frozenset[str] = frozenset()  # idempotency key of each, as far as the provider names them
    refunds: tuple[tuple[str, int], ...] = ()  # idempotency key and amount of each, as far as the provider names them


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
    says_not_created: bool = False  # a charge that was taken in could not be created after all
    account: str | None = None  # whose it is, when it says so


@dataclass(frozen=True)
class Receipt:
    """A text message as the SMS provider has it. `status` is None for a word that we do not know."""

    message_id: str
    status: MessageStatus | None
    error_code: str | None = None


class PaymentProvider(Protocol):
    """Consents and charges, under one account at the provider (at Vipps: a sales unit, named by its serial number)."""

    account: str

    def check_keys(self) -> None:
        """Make sure that the keys are the right ones. Raises ProviderDenied when they are not."""
        ...

    def access_token(self) -> str:
        """Return a token that opens this account, for a caller who may have it."""
        ...

    def clock_skew(self) -> timedelta:
        """Return how far our clock is ahead of the provider's, as of the newest answer."""
        ...

    def draft_request(self, draft: Draft) -> str:
        """Freeze a draft's body. Raises ProviderRefused for what the provider would not take."""
        ...

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        """Ask for consent."""
        ...

    def find_agreement(self, agreement_id: str) -> AgreementView | None:
        """Return the agreement, or None when the provider does not know it."""
        ...

    def show_agreement(self, agreement_id: str) -> dict[str, Any]:
        """Return the agreement word for word, in the older shape that a contract of ours speaks."""
        ...

    def show_charges(self, agreement_id: str) -> list[dict[str, Any]]:
        """Return all charges of an agreement, likewise."""
        ...

    def list_agreements(self, status: AgreementStatus, created_after: datetime) -> list[AgreementView]:
        """Return the agreements of one status that were drafted since, in no order."""
        ...

    def page_of_agreements(self, status: AgreementStatus, created_after: datetime, number: int) -> AgreementPage:
        """Return one page of that list, counted from 1."""
        ...

    def terms_request(self, terms: Terms) -> str:
        """Freeze a change of terms. Raises ProviderRefused for what the provider would not take."""
        ...

    def update_agreement(self, agreement_id: str, request: str, *, key: str) -> None:
        """Change what an agreement says. Success means accepted: read back before believing."""
        ...

    def shows(self, view: AgreementView, request: str) -> bool:
        """Tell whether an agreement says what a frozen change of terms asks for."""
        ...

    def stop_agreement(self, agreement_id: str, *, key: str) -> None:
        """Ask for an agreement's end. Success means accepted: read back before believing."""
        ...

    def fault_of(self, charge: NewCharge, today: date) -> str | None:
        """Return why the provider would not take a charge, in a sentence, or None. `today`: the market's date."""
        ...

    def charges_request(self, charges: list[NewCharge]) -> str:
        """Freeze a batch's body; at most 2,000 charges."""
        ...

    def create_charges(self, request: str, *, key: str) -> BatchAnswer:
        """Create a batch of charges. Success means accepted: read each back before believing."""
        ...

    def charge_request(self, charge: NewCharge) -> str:
        """Freeze the body of one charge."""
        ...

    def create_charge(self, agreement_id: str, request: str, *, key: str) -> None:
        """Create one charge, and know at once whether the provider took it."""
        ...

    def find_charge(self, agreement_id: str, name: str) -> ChargeView | None:
        """Return the charge of that name, or None when the provider does not know it."""
        ...

    def find_charge_by_name(self, name: str) -> ChargeView | None:
        """Return the charge of that name whatever agreement it is under: for support, not for the daily work."""
        ...

    def list_charges(self, agreement_id: str) -> list[ChargeView]:
        """Return all charges of an agreement, in no order."""
        ...

    def cancel_charge(self, agreement_id: str, name: str, *, key: str) -> None:
        """Call off a charge, or let go what is reserved. Success means accepted: read back before believing."""
        ...

    def capture_request(self, amount: int) -> str:
        """Freeze a capture's body."""
        ...

    def capture_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        """Take reserved money, all or a part. Success means accepted: read back before believing."""
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


class RateLimits(Protocol):
    """How often a provider may be called, counted by all workers together."""

    def take(self, bucket: str, per_minute: int) -> None:
        """Take the right to one call. Raises ProviderUnavailable, with the seconds to wait, when there is none."""
        ...

    def hold(self, bucket: str, seconds: float) -> None:
        """Let nobody call for so long: the provider has said that it is too much."""
        ...


class SmsProvider(Protocol):
    """Text messages."""

    def send(self, *, to: str, originator: str, body: str, receipt_url: str) -> Receipt:
        """Send a text. Not idempotent: after ProviderUncertain look it up before sending again."""
        ...

    def find(self, *, to: str, since: datetime, containing: str, but_not: Sequence[str] = ()) -> Receipt | None:
        """Return the newest text to that number since then which holds `containing`, or None; not one of `but_not`."""
        ...

    def is_genuine(self, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        """Tell whether the provider sent this receipt to the public `url`."""
        ...

    def read_receipt(self, form: Mapping[str, str]) -> Receipt:
        """Return what a genuine receipt says. Raises Invalid when it cannot be read."""
        ...
