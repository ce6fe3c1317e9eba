"""The accounts that the stand-in knows: a Vipps sales unit for each market, one Twilio account.

Public on purpose, worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from invoice.simulator.market import MARKETS, Market


@dataclass(frozen=True)
class SalesUnit:
    """A sales unit and its keys. Either subscription key will do: that is how they are rotated."""

    client_id: str
    client_secret: str = field(repr=False)
    subscription_key: str = field(repr=False)
    second_subscription_key: str = field(repr=False)
    merchant_serial_number: str
    name: str
    market: Market

    @property
    def currency(self) -> str:
        """The currency of its market."""
        return self.market.currency


@dataclass(frozen=True)
class TwilioAccount:
    """A Twilio account and its token."""

    account_sid: str
    auth_token: str = field(repr=False)


def _demo_unit(country: str, suffix: str, serial_number: str, name: str) -> SalesUnit:
    return SalesUnit(
        client_id=f"demo-client{suffix}",
        client_secret=f"demo-secret{suffix}",
        subscription_key=f"demo-subscription-key{suffix}",
        second_subscription_key=f"demo-subscription-key{suffix}-2",
        merchant_serial_number=serial_number,
        name=name,
        market=MARKETS[country],
    )


DEMO_UNIT = _demo_unit("NO", "", "123456", "Demobutikken")
DEMO_UNIT_DK = _demo_unit("DK", "-dk", "234567", "Demobutikken DK")
DEMO_UNIT_FI = _demo_unit("FI", "-fi", "345678", "Demokauppa")

# Merchant-Serial-Number -> sales unit
UNITS = {unit.merchant_serial_number: unit for unit in (DEMO_UNIT, DEMO_UNIT_DK, DEMO_UNIT_FI)}

DEMO_TWILIO = TwilioAccount(
    account_sid="ACde" + "0" * 30,
    auth_token="demo-twilio-token",  # noqa: S106 - opens nothing but this stand-in
)
