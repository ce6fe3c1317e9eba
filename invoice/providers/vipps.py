"""Vipps MobilePay Recurring v3 in our words: one method for each of Vipps' calls.

Facts: the vendor's OpenAPI file of October 2025 and its agent-toolkit of 2026-08-21. What is sent is frozen in
`vipps_bodies`, what is read is turned into our values in `vipps_shapes`; `vipps_caller` makes the calls.
Vipps' own names stand only in these files.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from invoice.errors import ProviderRefused, ProviderUncertain
from invoice.lifecycle import AgreementStatus
from invoice.phone import to_msisdn
from invoice.providers import vipps_bodies as bodies
from invoice.providers import vipps_shapes as shapes
from invoice.providers import vipps_v2 as v2
from invoice.providers.base import (
    AgreementPage,
    AgreementView,
    BatchAnswer,
    ChargeView,
    Drafted,
    RateLimits,
    WebhookAddress,
)
from invoice.providers.http import Answer
from invoice.providers.vipps_caller import Caller, SalesUnit
from invoice.providers.vipps_webhooks import EVENTS, Webhooks

logger = logging.getLogger(__name__)

_AGREEMENTS = "/recurring/v3/agreements"
_WEBHOOKS = "/webhooks/v1/webhooks"
_HOST = re.compile(r"[a-z0-9.-]+", re.ASCII)
_PAGE = 2000  # agreements on a page, the most that Vipps gives
_MAX_PAGES = 100


class VippsClient(Webhooks):
    """The payment provider behind `PaymentProvider`, for one sales unit."""

    draft_request = staticmethod(bodies.draft)
    terms_request = staticmethod(bodies.terms)
    shows = staticmethod(bodies.shows)
    fault_of = staticmethod(bodies.fault_of)
    charges_request = staticmethod(bodies.batch)
    charge_request = staticmethod(bodies.single)
    capture_request = staticmethod(bodies.capture)
    refund_request = staticmethod(bodies.refund)

    def __init__(
        self, base_url: str, unit: SalesUnit, landing_domains: tuple[str, ...], *, rates: RateLimits | None = None
    ) -> None:
        """landing_domains: where confirmation addresses may lead, besides the API's own host.

        rates: what all workers share; without it calls are not counted.
        """
        self.account = unit.merchant_serial_number
        self._caller = Caller(base_url, unit, rates)
        self._call = self._caller.call
        self._own = urlsplit(base_url)
        self._landing_domains = landing_domains

    def check_keys(self) -> None:
        """Fetch a token, or use the one at hand. Raises ProviderDenied when the keys are wrong."""
        self._caller.fetch_token()

    def access_token(self) -> str:
        """Return the token at hand, or fetch one."""
        return self._caller.fetch_token()

    def clock_skew(self) -> timedelta:
        """Return how far our clock is ahead of Vipps', as of the newest answer."""
        return self._caller.clock_skew()

    # Agreements

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        """POST a draft."""
        answer = self._call("POST", _AGREEMENTS, name="draft", body=request, extra=_keyed(key))
        drafted = shapes.reading(
            lambda: Drafted(shapes.text(answer.json["agreementId"]), shapes.text(answer.json["vippsConfirmationUrl"]))
        )
        self._check_landing(drafted.confirmation_url)
        return drafted

    def _check_landing(self, url: str) -> None:
        """Refuse to send people to a host that is not Vipps'."""
        parts = shapes.reading(lambda: urlsplit(url))
        # Browsers and urlsplit read a backslash or a name before the host differently, so the host stands alone.
        host = parts.netloc.lower()
        if parts.scheme == self._own.scheme and host == self._own.netloc.lower():
            return
        is_plain = parts.scheme == "https" and _HOST.fullmatch(host)
        if is_plain and host.endswith(tuple(f".{d}" for d in self._landing_domains)):
            return
        logger.error("Vipps named a confirmation address on a host that is not on the list: %s", host[:100])
        raise ProviderUncertain("Vipps answered with an address that is not its own")

    def find_agreement(self, agreement_id: str) -> AgreementView | None:
        """GET an agreement."""
        answer = self._find(_agreement(agreement_id), name="fetch_agreement")
        return None if answer is None else shapes.reading(lambda: shapes.agreement(answer.json))

    def show_agreement(self, agreement_id: str) -> dict[str, Any]:
        """GET an agreement, in the shape of version 2. Raises ProviderRefused for an unknown one."""
        answer = self._call("GET", _agreement(agreement_id), name="fetch_agreement")
        return shapes.reading(lambda: v2.agreement(answer.json))

    def list_agreements(self, status: AgreementStatus, created_after: datetime) -> list[AgreementView]:
        """GET the agreements of one status, page after page; Vipps has no list of all."""
        found: list[AgreementView] = []
        for number in range(1, _MAX_PAGES + 1):
            page = self.page_of_agreements(status, created_after, number)
            found += page.views
            if page.is_last:
                return found
        raise ProviderUncertain("Vipps goes on listing agreements")

    def page_of_agreements(self, status: AgreementStatus, created_after: datetime, number: int) -> AgreementPage:
        """GET one page of that list."""
        since = int(created_after.timestamp() * 1000)
        wanted = {"status": status.value, "createdAfter": since, "pageNumber": number, "pageSize": _PAGE}
        answer = self._call("GET", f"{_AGREEMENTS}?{urlencode(wanted)}", name="list_agreements")
        views = shapes.agreements(answer.json)
        return AgreementPage(views, is_last=len(views) < _PAGE)

    def update_agreement(self, agreement_id: str, request: str, *, key: str) -> None:
        """PATCH what an agreement says."""
        self._call("PATCH", _agreement(agreement_id), name="update_agreement", body=request, extra=_keyed(key))

    def stop_agreement(self, agreement_id: str, *, key: str) -> None:
        """PATCH an agreement to STOPPED; nothing else may stand in that body."""
        self.update_agreement(agreement_id, bodies.freeze({"status": "STOPPED"}), key=key)

    def accept_agreement(self, agreement_id: str, phone: str, *, key: str) -> None:
        """PATCH an agreement to accepted, as if its person had: only in Vipps' test environment."""
        body = bodies.freeze({"phoneNumber": to_msisdn(phone)})
        self._call("PATCH", f"{_agreement(agreement_id)}/accept", body=body, extra=_keyed(key))

    # Charges

    def create_charges(self, request: str, *, key: str) -> BatchAnswer:
        """POST a batch; Vipps answers 202 and sorts it into valid and invalid."""
        path = f"{_AGREEMENTS}/charges"
        answer = self._call("POST", path, name="create_charge", body=request, extra=_keyed(key))
        return shapes.reading(lambda: shapes.batch(answer.json))

    def create_charge(self, agreement_id: str, request: str, *, key: str) -> None:
        """POST one charge; the name in it becomes its id."""
        path = f"{_agreement(agreement_id)}/charges"
        self._call("POST", path, name="create_charge", body=request, extra=_keyed(key))

    def find_charge(self, agreement_id: str, name: str) -> ChargeView | None:
        """GET a charge by our name for it, which is its id at Vipps."""
        answer = self._find(_charge(agreement_id, name), name="fetch_charge")
        return None if answer is None else shapes.reading(lambda: shapes.charge(answer.json, agreement_id))

    def find_charge_by_name(self, name: str) -> ChargeView | None:
        """GET a charge without its agreement; Vipps means this for support."""
        answer = self._find(f"/recurring/v3/charges/{shapes.part(name)}", name="fetch_charge_by_id")
        return None if answer is None else shapes.reading(lambda: shapes.charge(answer.json, ""))

    def list_charges(self, agreement_id: str) -> list[ChargeView]:
        """GET all charges of an agreement, page after page."""
        return [view for page in self._pages_of_charges(agreement_id) for view in shapes.charges(page, agreement_id)]

    def show_charges(self, agreement_id: str) -> list[dict[str, Any]]:
        """GET all charges of an agreement, in the shape of version 2."""
        pages = self._pages_of_charges(agreement_id)
        return shapes.reading(lambda: [v2.charge(member) for page in pages for member in shapes.listed(page)])

    def _pages_of_charges(self, agreement_id: str) -> list[Any]:
        pages, token = [], ""
        for _ in range(_MAX_PAGES):
            extra = {"Continuation-Token": token} if token else {}
            answer = self._call("GET", f"{_agreement(agreement_id)}/charges", name="list_charges", extra=extra)
            pages.append(answer.json)
            token = answer.headers.get("Continuation-Token", "")
            if not token:
                return pages
        raise ProviderUncertain("Vipps goes on listing charges")

    def cancel_charge(self, agreement_id: str, name: str, *, key: str) -> None:
        """DELETE a charge that is pending, due or reserved."""
        self._call("DELETE", _charge(agreement_id, name), name="cancel_charge", extra=_keyed(key))

    def capture_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        """POST a capture."""
        path = f"{_charge(agreement_id, name)}/capture"
        self._call("POST", path, name="capture", body=request, extra=_keyed(key))

    def refund_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        """POST a refund."""
        path = f"{_charge(agreement_id, name)}/refund"
        self._call("POST", path, name="refund", body=request, extra=_keyed(key))

    # Webhook registrations

    def register_webhook(self, url: str) -> tuple[WebhookAddress, str]:
        """POST a registration for all Recurring events."""
        answer = self._call("POST", _WEBHOOKS, body=bodies.freeze({"url": url, "events": list(EVENTS)}))
        return shapes.reading(
            lambda: (WebhookAddress(shapes.text(answer.json["id"]), url), shapes.text(answer.json["secret"]))
        )

    def list_webhooks(self) -> list[WebhookAddress]:
        """GET the registrations."""
        answer = self._call("GET", _WEBHOOKS)
        return shapes.reading(lambda: [WebhookAddress(str(w["id"]), str(w["url"])) for w in answer.json["webhooks"]])

    def delete_webhook(self, webhook_id: str) -> None:
        """DELETE a registration; one that is gone already is as good, and for that Vipps has a 400 as well."""
        path = f"{_WEBHOOKS}/{shapes.part(webhook_id)}"
        try:
            self._call("DELETE", path)
        except ProviderRefused as refusal:
            if refusal.status not in (400, 404):
                raise
            if refusal.status == 400 and any(w.webhook_id == webhook_id for w in self.list_webhooks()):
                raise

    def _find(self, path: str, *, name: str) -> Answer | None:
        try:
            return self._call("GET", path, name=name)
        except ProviderRefused as refusal:
            if refusal.status == 404:
                return None
            raise


def _agreement(agreement_id: str) -> str:
    return f"{_AGREEMENTS}/{shapes.part(agreement_id)}"


def _charge(agreement_id: str, name: str) -> str:
    return f"{_agreement(agreement_id)}/charges/{shapes.part(name)}"


def _keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}
