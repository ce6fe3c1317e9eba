"""How a view reaches the use cases that `app.py` built."""

from __future__ import annotations

from flask import current_app

from invoice.providers.base import PaymentProvider, SmsProvider
from invoice.services.jobs import Services

SERVICES, PAYMENTS, SMS, PUBLIC_URL = "invoice.services", "invoice.payments", "invoice.sms", "invoice.public_url"
PUBLIC_HOSTS = "invoice.public_hosts"


def services() -> Services:
    """The use cases."""
    found: Services = current_app.extensions[SERVICES]
    return found


def payments() -> PaymentProvider:
    """The payment provider: for its signatures only, calls belong to services."""
    found: PaymentProvider = current_app.extensions[PAYMENTS]
    return found


def sms() -> SmsProvider:
    """The SMS provider: for its signatures only."""
    found: SmsProvider = current_app.extensions[SMS]
    return found


def public_url() -> str:
    """Our own address as the world calls it; never taken from the request."""
    found: str = current_app.extensions[PUBLIC_URL]
    return found


def public_hosts() -> tuple[str, ...]:
    """All hosts that we are published under."""
    found: tuple[str, ...] = current_app.extensions[PUBLIC_HOSTS]
    return found
