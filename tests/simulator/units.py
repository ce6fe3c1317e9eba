"""Merchants of other sales units, and what they pay with."""

from __future__ import annotations

from typing import Any

from invoice.simulator.accounts import DEMO_UNIT_DK, DEMO_UNIT_FI, SalesUnit
from invoice.simulator.app import Simulator
from tests.simulator.conftest import Merchant


class UnitMerchant(Merchant):
    """A merchant with the keys of one sales unit, who asks for its currency."""

    def __init__(self, simulator: Simulator, unit: SalesUnit) -> None:
        super().__init__(simulator)
        self.unit = unit

    def keys(self) -> dict[str, str]:
        return {
            "client_id": self.unit.client_id,
            "client_secret": self.unit.client_secret,
            "Ocp-Apim-Subscription-Key": self.unit.subscription_key,
        }

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        own = {
            "Ocp-Apim-Subscription-Key": self.unit.subscription_key,
            "Merchant-Serial-Number": self.unit.merchant_serial_number,
        }
        return super().headers(key) | own | more

    def draft_body(self, **changes: Any) -> dict[str, Any]:
        pricing = {"type": "LEGACY", "amount": 9900, "currency": self.unit.currency}
        return super().draft_body(**{"pricing": pricing, **changes})


def danish(simulator: Simulator) -> UnitMerchant:
    return UnitMerchant(simulator, DEMO_UNIT_DK)


def finnish(simulator: Simulator) -> UnitMerchant:
    return UnitMerchant(simulator, DEMO_UNIT_FI)
