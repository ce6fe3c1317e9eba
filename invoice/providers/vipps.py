"""Vipps MobilePay Recurring v3 in our words.

Facts: the vendor's OpenAPI file of October 2025 and its agent-toolkit of 2026-08-21.
Vipps' own names stand only here.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from invoice.clock import utc_now
from invoice.errors import ProviderDenied, ProviderRefused, ProviderUnavailable, ProviderUncertain
from invoice.phone import to_msisdn
from invoice.providers import vipps_shapes as shapes
from invoice.providers.base import AgreementView, BatchAnswer, ChargeView, Draft, Drafted, NewCharge, WebhookAddress
from invoice.providers.http import READ_S, Answer, Pipe
from invoice.providers.vipps_webhooks import EVENTS, Webhooks

logger = logging.getLogger(__name__)
_HOST = re.compile(r"[a-z0-9.-]+", re.ASCII)

MAX_BATCH = 2000  # charges in one call
_BATCH_READ_S = 30.0  # two thousand take longer than one
_NAME, _DESCRIPTION, _CHARGE_TEXT = 45, 100, 45  # characters
_MAX_PAGES = 100
_TOKEN_MARGIN = timedelta(seconds=60)


@dataclass(frozen=True)
class SalesUnit:
    """The keys of one Vipps sales unit."""

    client_id: str
    client_secret: str
    subscription_key: str
    merchant_serial_number: str

    def __repr__(self) -> str:
        """Show whose keys these are, and no key."""
        return f"SalesUnit({self.merchant_serial_number})"


class VippsClient(Webhooks):
    """The payment provider behind `PaymentProvider`, for one sales unit."""

    def __init__(self, base_url: str, unit: SalesUnit, landing_domains: tuple[str, ...]) -> None:
        """landing_domains: where confirmation addresses may lead, besides the API's own host."""
        self._pipe = Pipe(base_url, "Vipps")
        self._own = urlsplit(base_url)
        self._landing_domains = landing_domains
        self._unit = unit
        self._token = ""
        self._token_until: datetime | None = None
        self._token_lock = threading.Lock()

    # Agreements

    def draft_request(self, draft: Draft) -> str:
        """Freeze a draft: pricing LEGACY, one interval, the initial charge captured at signing."""
        body: dict[str, Any] = {
            "pricing": {"type": "LEGACY", "amount": draft.amount, "currency": draft.currency},
            "interval": {"unit": draft.interval.value, "count": 1},
            "merchantRedirectUrl": draft.redirect_url,
            "merchantAgreementUrl": draft.manage_url,
            "phoneNumber": to_msisdn(draft.phone),
            "productName": shapes.cut(draft.product_name, _NAME),
            "productDescription": shapes.cut(draft.description, _DESCRIPTION),
            "externalId": draft.external_id,
        }
        if draft.initial_amount:
            body["initialCharge"] = {
                "amount": draft.initial_amount,
                "description": shapes.cut(draft.product_name, _CHARGE_TEXT),
                "transactionType": "DIRECT_CAPTURE",
                "orderId": draft.initial_name,
            }
        return shapes.freeze(body)

    def draft_agreement(self, request: str, *, key: str) -> Drafted:
        """POST a draft."""
        answer = self._call("POST", "/recurring/v3/agreements", body=request, extra=_keyed(key))
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
        answer = self._find(f"/recurring/v3/agreements/{shapes.part(agreement_id)}")
        if answer is None:
            return None
        return shapes.reading(lambda: shapes.agreement(answer.json))

    def stop_agreement(self, agreement_id: str, *, key: str) -> None:
        """PATCH an agreement to STOPPED; nothing else may stand in that body."""
        self._call(
            "PATCH",
            f"/recurring/v3/agreements/{shapes.part(agreement_id)}",
            body=shapes.freeze({"status": "STOPPED"}),
            extra=_keyed(key),
        )

    # Charges

    def charges_request(self, charges: list[NewCharge]) -> str:
        """Freeze a batch of at most 2,000 charges."""
        return shapes.freeze(
            [
                {
                    "agreementId": charge.agreement_id,
                    "orderId": charge.name,
                    "amount": charge.amount,
                    "description": shapes.cut(charge.description, _CHARGE_TEXT),
                    "transactionType": "DIRECT_CAPTURE",
                    "due": charge.due_on.isoformat(),
                    "retryDays": charge.retry_days,
                }
                for charge in charges
            ]
        )

    def create_charges(self, request: str, *, key: str) -> BatchAnswer:
        """POST a batch; Vipps answers 202 and sorts it into valid and invalid."""
        path = "/recurring/v3/agreements/charges"
        answer = self._call("POST", path, body=request, extra=_keyed(key), read_s=_BATCH_READ_S)
        return shapes.reading(lambda: shapes.batch(answer.json))

    def find_charge(self, agreement_id: str, name: str) -> ChargeView | None:
        """GET a charge by our name for it, which is its id at Vipps."""
        answer = self._find(f"/recurring/v3/agreements/{shapes.part(agreement_id)}/charges/{shapes.part(name)}")
        if answer is None:
            return None
        return shapes.reading(lambda: shapes.charge(answer.json, agreement_id))

    def list_charges(self, agreement_id: str) -> list[ChargeView]:
        """GET all charges of an agreement, page after page."""
        charges: list[ChargeView] = []
        token = ""
        for _ in range(_MAX_PAGES):
            extra = {"Continuation-Token": token} if token else {}
            answer = self._call("GET", f"/recurring/v3/agreements/{shapes.part(agreement_id)}/charges", extra=extra)
            charges += shapes.charges(answer.json, agreement_id)
            token = answer.headers.get("Continuation-Token", "")
            if not token:
                return charges
        raise ProviderUncertain("Vipps goes on listing charges")

    def refund_request(self, amount: int, reason: str) -> str:
        """Freeze a refund."""
        return shapes.freeze({"amount": amount, "description": shapes.cut(reason, _DESCRIPTION)})

    def refund_charge(self, agreement_id: str, name: str, request: str, *, key: str) -> None:
        """POST a refund."""
        path = f"/recurring/v3/agreements/{shapes.part(agreement_id)}/charges/{shapes.part(name)}/refund"
        self._call("POST", path, body=request, extra=_keyed(key))

    # Webhook registrations

    def register_webhook(self, url: str) -> tuple[WebhookAddress, str]:
        """POST a registration for all Recurring events."""
        body = shapes.freeze({"url": url, "events": list(EVENTS)})
        answer = self._call("POST", "/webhooks/v1/webhooks", body=body)
        return shapes.reading(
            lambda: (WebhookAddress(shapes.text(answer.json["id"]), url), shapes.text(answer.json["secret"]))
        )

    def list_webhooks(self) -> list[WebhookAddress]:
        """GET the registrations."""
        answer = self._call("GET", "/webhooks/v1/webhooks")
        return shapes.reading(lambda: [WebhookAddress(str(w["id"]), str(w["url"])) for w in answer.json["webhooks"]])

    def delete_webhook(self, webhook_id: str) -> None:
        """DELETE a registration; one that is gone already is as good."""
        try:
            self._call("DELETE", f"/webhooks/v1/webhooks/{shapes.part(webhook_id)}")
        except ProviderRefused as refusal:
            if refusal.status != 404:
                raise

    # The pipe

    def _find(self, path: str) -> Answer | None:
        try:
            return self._call("GET", path)
        except ProviderRefused as refusal:
            if refusal.status == 404:
                return None
            raise

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        extra: dict[str, str] | None = None,
        read_s: float = READ_S,
    ) -> Answer:
        """Call with a token; when it is refused, drop it and try once with a new one."""
        headers = {**self._headers(), **(extra or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        token = self._fetch_token()
        try:
            bearer = {"Authorization": f"Bearer {token}"}
            return self._pipe.call(method, path, headers={**headers, **bearer}, body=body, read_s=read_s)
        except ProviderDenied:
            self._drop_token(token)
        bearer = {"Authorization": f"Bearer {self._fetch_token()}"}
        return self._pipe.call(method, path, headers={**headers, **bearer}, body=body, read_s=read_s)

    def _headers(self) -> dict[str, str]:
        return {
            "Ocp-Apim-Subscription-Key": self._unit.subscription_key,
            "Merchant-Serial-Number": self._unit.merchant_serial_number,
            "Vipps-System-Name": "mobile-invoice",
            "Vipps-System-Version": "0.1.0",
            "Vipps-System-Plugin-Name": "mobile-invoice",
            "Vipps-System-Plugin-Version": "0.1.0",
        }

    def _fetch_token(self) -> str:
        """Return the cached token, or fetch one; only one thread fetches, the others wait for it."""
        with self._token_lock:
            if self._token_until is None or utc_now() >= self._token_until:
                headers = {
                    **self._headers(),
                    "client_id": self._unit.client_id,
                    "client_secret": self._unit.client_secret,
                }
                try:
                    answer = self._pipe.call("POST", "/accesstoken/get", headers=headers, body="")
                    # The specification says strings, the test environment sends numbers.
                    token, until = shapes.reading(
                        lambda: (
                            shapes.text(answer.json["access_token"]),
                            utc_now() + timedelta(seconds=int(answer.json["expires_in"])) - _TOKEN_MARGIN,
                        )
                    )
                # Without a token the call itself was never made.
                except ProviderRefused as refusal:
                    raise ProviderDenied(f"Vipps gave no token ({refusal.message})") from refusal
                except ProviderUncertain as error:
                    raise ProviderUnavailable(f"Vipps gave no token ({error.message})") from error
                self._token, self._token_until = token, until
            return self._token

    def _drop_token(self, refused: str) -> None:
        with self._token_lock:
            if self._token == refused:
                self._token_until = None


def _keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}
