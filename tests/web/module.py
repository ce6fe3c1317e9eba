"""A partner that calls the module's endpoints over the wire, and what it expects to read."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import requests

from invoice.services import accounts, partners
from invoice.services.accounts import AccountKeys
from invoice.services.partners import Terms
from tests import factories
from tests.journeys.stand import PARTNER, TIMEOUT_S, Stand

FIXED, STRICT = "fixed", "strict"
MODES = (FIXED, STRICT)
PREFIX = "/vipps-recurring-payments/"
# A sales unit of the stand-in that is not the platform's.
OWN_UNIT = AccountKeys("234567", "demo-client-dk", "demo-secret-dk", "demo-subscription-key-dk")
NO_BODY = "getResponseBody(): Return value must be of type stdClass, null returned"


class Module:
    """A partner."""

    def __init__(self, stand: Stand, number: int = PARTNER) -> None:
        self.stand, self.number = stand, number
        self.auth = (str(number), f"{factories.SECRET}-{number}")

    def mode(self, mode: str) -> Module:
        partners.change(self.number, Terms(contract_mode=mode))
        return self

    def bring(self, keys: AccountKeys = OWN_UNIT) -> Module:
        """Use an own sales unit from now on."""
        accounts.bring(self.number, keys)
        return self

    def post(self, path: str, body: Any, *, key: str | None = None, **more: Any) -> requests.Response:
        """POST a body: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Idempotency-Key": key} if key else {}
        url = f"{self.stand.service}{PREFIX}{path}"
        return requests.post(url, data=raw, headers=headers, auth=self.auth, timeout=TIMEOUT_S, **more)

    def ask(self, path: str, body: Any, *, key: str | None = None) -> Any:
        """Return the JSON of an answer, which is a 200 whatever came of it."""
        answer = self.post(path, body, key=key)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), answer.text
        return answer.json()

    def ask_raw(self, path: str, body: str) -> Any:
        """Return the JSON of an answer to a body that is sent as it is."""
        answer = self.post(path, body.encode())
        assert answer.status_code == 200, answer.text
        return answer.json()

    def agreement(self, **changes: Any) -> str:
        """Return Vipps' id of an agreement that was accepted just now."""
        return self.stand.at_vipps(self.stand.active(**changes))


def elsewhere(stand: Stand, *, price: int = 9900, accepts: bool = True, unit: AccountKeys = OWN_UNIT) -> str:
    """Return an agreement that was signed with the unit's keys and not through us."""
    draft = {
        "pricing": {"type": "LEGACY", "amount": price, "currency": "DKK"},
        "interval": {"unit": "MONTH", "count": 1},
        "merchantRedirectUrl": "https://shop.example.com/back",
        "merchantAgreementUrl": "https://shop.example.com/mine",
        "productName": "Avisen",
        "externalId": "of-another-system",
    }
    made = merchant(stand, "POST", "/recurring/v3/agreements", draft, unit=unit)
    agreement_id = str(made.json()["agreementId"])
    if accepts:
        stand.decide(agreement_id, "approve")
    return agreement_id


def merchant(
    stand: Stand, method: str, path: str, body: Any = None, *, unit: AccountKeys = OWN_UNIT
) -> requests.Response:
    """Do something at Vipps with the unit's keys and not through us."""
    keys = {
        "client_id": unit.client_id,
        "client_secret": unit.client_secret,
        "Ocp-Apim-Subscription-Key": unit.subscription_key,
    }
    token = requests.post(f"{stand.vipps}/accesstoken/get", headers=keys, timeout=TIMEOUT_S).json()["access_token"]
    headers = keys | {"Authorization": f"Bearer {token}", "Idempotency-Key": f"portal-{len(stand.exchanges)}"}
    answer = requests.request(method, stand.vipps + path, json=body, headers=headers, timeout=TIMEOUT_S)
    assert answer.ok, answer.text
    return answer


def genuine(stand: Stand, method: str, path: str) -> str:
    """Return how the module tells Vipps' newest answer to such a call: worked out from the wire, not by our code."""
    said = [e for e in stand.exchanges if (e.method, e.path) == (method, path) and e.status >= 400][-1]
    label = "Client error" if said.status < 500 else "Server error"
    # The stand-in's server writes the reason in capitals.
    status, begin = f"{said.status} {HTTPStatus(said.status).phrase.upper()}", said.answer_body[:120].decode()
    assert begin
    cut = " (truncated...)" if len(said.answer_body) > 120 else ""
    return f"{label}: `{method} {stand.vipps}{path}` resulted in a `{status}` response:\n{begin}{cut}\n"
