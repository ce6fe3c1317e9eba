"""What the tests of the Vipps client say and hear: wishes with defaults, answers as they were seen live, every call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

from invoice.errors import ProviderError, ProviderUnavailable
from invoice.lifecycle import AgreementStatus, Interval
from invoice.providers import vipps_bodies as bodies
from invoice.providers.base import Draft, FixedPrice, InitialCharge, NewCharge, Terms
from invoice.providers.vipps import VippsClient
from tests.providers.conftest import UNIT, Call, FakeVipps

AGREEMENTS = "/recurring/v3/agreements"
BATCH = "/recurring/v3/agreements/charges"
AGREEMENT = "/recurring/v3/agreements/agr_1"
ACCEPT = "/recurring/v3/agreements/agr_1/accept"
CHARGES = "/recurring/v3/agreements/agr_1/charges"
CHARGE = "/recurring/v3/agreements/agr_1/charges/name-1"
CAPTURE = "/recurring/v3/agreements/agr_1/charges/name-1/capture"
REFUND = "/recurring/v3/agreements/agr_1/charges/name-1/refund"
BY_NAME = "/recurring/v3/charges/name-1"
WEBHOOKS = "/webhooks/v1/webhooks"

# Ids as Vipps makes them.
HOOK, OTHER_HOOK = "497f6eca-6276-4993-bfeb-53cbbbba6f08", "0b2d4a5e-7c1f-4e0a-9d53-6f1b8a2c3d4e"
PAGE_2, PAGE_3 = "9a1f3c52-0d4b-4c6e-8f7a-2b5d8e1c4a70", "c7e2b6d9-5a38-4f01-9b64-7d3e0a8f1c25"
CONTEXT = "f70b8bf7-c843-4bea-95d9-94725b19895f"
KEY = "2c9b7f4e-61d3-4a58-8e0c-5f7a9d1b3e26"

HOOK_PATH = f"{WEBHOOKS}/{HOOK}"
HOOK_URL = "https://pay.example.com/hooks/vipps/1"
SINCE = datetime(2026, 11, 3, 11, 0, tzinfo=UTC)

INITIAL = InitialCharge(100, "01JD3000000000000000000000-p0000-a0")


def a_draft(**changes: Any) -> Draft:
    defaults: dict[str, Any] = {
        "external_id": "01JD3000000000000000000000",
        "product_name": "Avisen",
        "description": "Avisen hver dag",
        "price": FixedPrice(9900, "NOK"),
        "interval": Interval.MONTH,
        "phone": "+4791234567",
        "redirect_url": "https://pay.example.com/return/1",
        "manage_url": "https://pay.example.com/manage/1",
        "initial": None,
    }
    return Draft(**{**defaults, **changes})


def a_new_charge(**changes: Any) -> NewCharge:
    defaults: dict[str, Any] = {
        "agreement_id": "agr_1",
        "name": "01JD3000000000000000000000-p0012-a0",
        "amount": 9900,
        "currency": "NOK",
        "description": "Avisen",
        "due_on": date(2026, 12, 1),
        "retry_days": 5,
    }
    return NewCharge(**{**defaults, **changes})


# Bodies as they are frozen before they are sent.
A_DRAFT = bodies.draft(a_draft())
NEW_TERMS = bodies.terms(Terms(price=FixedPrice(12900, "NOK"), product_name="Avisen pluss"))
A_BATCH = bodies.batch([a_new_charge()])
A_CHARGE = bodies.single(a_new_charge())
A_CAPTURE = bodies.capture(9900)
A_REFUND = bodies.refund(500, "Feil pris")


def an_agreement(**changes: Any) -> dict[str, Any]:
    """An answer with the nineteen fields that were seen live in August 2026, and one that nobody has seen yet."""
    return {
        "id": "agr_1",
        "uuid": "5e2a6b7c-0000-4000-8000-000000000000",
        "externalId": "01JD3000000000000000000000",
        "status": "ACTIVE",
        "start": "2026-11-10T11:00:00Z",
        "stop": None,
        "created": "2026-11-10T10:55:00Z",
        "pricing": {"type": "LEGACY", "amount": 9900, "currency": "NOK"},
        "productName": "Avisen",
        "productDescription": "Avisen hver dag",
        "interval": {"unit": "MONTH", "count": 1, "text": "every month"},
        "campaign": None,
        "countryCode": "NO",
        "merchantAgreementUrl": "https://pay.example.com/manage/1",
        "merchantRedirectUrl": "https://pay.example.com/return/1",
        "vippsConfirmationUrl": None,
        "paymentMethod": {"type": "CARD"},
        "sub": None,
        "userinfoUrl": None,
        "fieldOfNextYear": {"a": [1]},
        **changes,
    }


def a_charge(**changes: Any) -> dict[str, Any]:
    """An answer, likewise."""
    return {
        "id": "name-1",
        "agreementId": "agr_1",
        "externalId": None,
        "externalAgreementId": "01JD3000000000000000000000",
        "amount": 9900,
        "currency": "NOK",
        "description": "Avisen",
        "due": "2026-12-01T00:00:00Z",
        "retryDays": 5,
        "processingMode": "MULTIPLE_ATTEMPTS",
        "status": "CHARGED",
        "type": "RECURRING",
        "transactionType": "DIRECT_CAPTURE",
        "transactionId": "5001419121",
        "failureReason": None,
        "failureDescription": None,
        "summary": {"captured": 9900, "refunded": 0, "cancelled": 0},
        "history": [
            {"occurred": "2026-11-20T08:00:00Z", "event": "CREATE", "amount": 9900, "success": True},
            {"occurred": "2026-12-01T08:00:00.123456789Z", "event": "CAPTURE", "amount": 9900, "success": True},
        ],
        "fieldOfNextYear": "x",
        **changes,
    }


def a_drafted(**changes: Any) -> dict[str, Any]:
    """An answer to a draft."""
    return {
        "agreementId": "agr_1",
        "uuid": "5e2a6b7c-0000-4000-8000-000000000000",
        "vippsConfirmationUrl": "https://pay.vipps.no/x?token=a.b.c",
        "chargeId": None,
        **changes,
    }


def page_of_agreements(number: int, *, status: str = "ACTIVE", since_ms: int = 1793703600000) -> str:
    """The address of a page of agreements, by default of those that live and were drafted after `SINCE`."""
    return f"{AGREEMENTS}?status={status}&createdAfter={since_ms}&pageNumber={number}&pageSize=2000"


# Every call of the client, and what it does on the wire.
CALLS: dict[str, tuple[str, str, Callable[[VippsClient], Any]]] = {
    "draft": ("POST", AGREEMENTS, lambda c: c.draft_agreement(A_DRAFT, key=KEY)),
    "find agreement": ("GET", AGREEMENT, lambda c: c.find_agreement("agr_1")),
    "show agreement": ("GET", AGREEMENT, lambda c: c.show_agreement("agr_1")),
    "list agreements": ("GET", page_of_agreements(1), lambda c: c.list_agreements(AgreementStatus.ACTIVE, SINCE)),
    "page of agreements": (
        "GET",
        page_of_agreements(3),
        lambda c: c.page_of_agreements(AgreementStatus.ACTIVE, SINCE, 3),
    ),
    "update": ("PATCH", AGREEMENT, lambda c: c.update_agreement("agr_1", NEW_TERMS, key=KEY)),
    "stop": ("PATCH", AGREEMENT, lambda c: c.stop_agreement("agr_1", key=KEY)),
    "accept": ("PATCH", ACCEPT, lambda c: c.accept_agreement("agr_1", "+4791234567", key=KEY)),
    "batch": ("POST", BATCH, lambda c: c.create_charges(A_BATCH, key=KEY)),
    "charge": ("POST", CHARGES, lambda c: c.create_charge("agr_1", A_CHARGE, key=KEY)),
    "find charge": ("GET", CHARGE, lambda c: c.find_charge("agr_1", "name-1")),
    "find charge by name": ("GET", BY_NAME, lambda c: c.find_charge_by_name("name-1")),
    "list charges": ("GET", CHARGES, lambda c: c.list_charges("agr_1")),
    "show charges": ("GET", CHARGES, lambda c: c.show_charges("agr_1")),
    "cancel": ("DELETE", CHARGE, lambda c: c.cancel_charge("agr_1", "name-1", key=KEY)),
    "capture": ("POST", CAPTURE, lambda c: c.capture_charge("agr_1", "name-1", A_CAPTURE, key=KEY)),
    "refund": ("POST", REFUND, lambda c: c.refund_charge("agr_1", "name-1", A_REFUND, key=KEY)),
    "register": ("POST", WEBHOOKS, lambda c: c.register_webhook(HOOK_URL)),
    "list webhooks": ("GET", WEBHOOKS, lambda c: c.list_webhooks()),
    "delete webhook": ("DELETE", HOOK_PATH, lambda c: c.delete_webhook(HOOK)),
}
KEYED = ("draft", "update", "stop", "accept", "batch", "charge", "cancel", "capture", "refund")
# Calls that return nothing: whatever a success says is not read.
SILENT = ("update", "stop", "accept", "charge", "cancel", "capture", "refund", "delete webhook")


def only_call(fake_vipps: FakeVipps) -> Call:
    [call] = fake_vipps.calls
    return call


def try_call(client: VippsClient, name: str) -> None:
    """Make a call of which only the request matters."""
    with suppress(ProviderError):
        CALLS[name][2](client)


class FakeRates:
    """A share of calls that is used up when told to be, and remembers who took and who held."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.held: list[tuple[str, float]] = []
        self.is_used_up = False

    def take(self, bucket: str, per_minute: int) -> None:
        self.taken.append((bucket, per_minute))
        if self.is_used_up:
            raise ProviderUnavailable("our share of calls is used up", retry_after_s=12.0)

    def hold(self, bucket: str, seconds: float) -> None:
        self.held.append((bucket, seconds))


def counting(fake_vipps: FakeVipps, rates: Any) -> VippsClient:
    """Our client with a share of calls."""
    return VippsClient(fake_vipps.url, UNIT, ("vipps.no",), rates=rates)
