"""The accounts that the stand-in knows: one Vipps sales unit, one Twilio account. Public on purpose, worth nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SalesUnit:
    """A sales unit and its keys."""

    client_id: str
    client_secret: str = field(repr=False)
    subscription_key: str = field(repr=False)
    merchant_serial_number: str
    name: str
    market: str
    currency: str


@dataclass(frozen=True)
class TwilioAccount:
    """A Twilio account and its token."""

    account_sid: str
    auth_token: str = field(repr=False)


DEMO_UNIT = SalesUnit(
    client_id="demo-client",
    client_secret="demo-secret",  # noqa: S106 - opens nothing but this stand-in
    subscription_key="demo-subscription-key",
    merchant_serial_number="123456",
    name="Demobutikken",
    market="NO",
    currency="NOK",
)

DEMO_TWILIO = TwilioAccount(
    account_sid="ACde" + "0" * 30,
    auth_token="demo-twilio-token",  # noqa: S106 - opens nothing but this stand-in
)
