"""Whether an account at the payment provider can do its work: each question asked, and answered in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from invoice.clock import utc_now
from invoice.config import Settings
from invoice.errors import ProviderError, ProviderUnavailable
from invoice.lifecycle import AgreementStatus
from invoice.providers.base import PaymentProvider
from invoice.providers.http import Pipe
from invoice.services.webhooks import WebhookRegistrations

_SKEW_SHOWS, _SKEW_STOPS = timedelta(seconds=30), timedelta(minutes=5)


@dataclass(frozen=True)
class Finding:
    """What a question came to: "ok", "weak" (works, and should be looked at) or "bad"."""

    question: str
    state: str
    words: str


class Doctor:
    """Examines accounts."""

    def __init__(self, settings: Settings, webhooks: WebhookRegistrations) -> None:
        self._public_url = settings.invoice_public_url
        self._webhooks = webhooks

    def examine(self, payments: PaymentProvider) -> Iterator[Finding]:
        """Ask everything about one account, each when the one before is answered; when the keys are wrong, no more."""
        keys = _asked("keys", lambda: _keys(payments))
        yield keys
        if keys.state == "ok":
            yield _asked("recurring", lambda: _recurring(payments))
            yield _asked("webhooks", lambda: self._webhook(payments))
            yield _asked("clock", lambda: _clock(payments))
        yield _asked("public address", self._address)

    def _webhook(self, payments: PaymentProvider) -> Finding:
        state = self._webhooks.state_of(payments)
        if state.url is None or not state.is_known_there:
            return Finding("webhooks", "bad", "none is registered: run `flask vipps webhooks register`")
        if state.last_came_at is None:
            return Finding("webhooks", "weak", "registered, and none has come yet")
        return Finding(
            "webhooks", "ok", f"registered, and the last one came at {state.last_came_at:%Y-%m-%d %H:%M} UTC"
        )

    def _address(self) -> Finding:
        Pipe(self._public_url, "Our public address").call("GET", "/healthz", headers={})
        parts = urlsplit(self._public_url)
        if parts.scheme != "https":
            return Finding("public address", "weak", f"{self._public_url} answers, but is not https: Vipps needs that")
        return Finding("public address", "ok", f"{self._public_url} answers")


def _asked(question: str, ask: Callable[[], Finding]) -> Finding:
    """Return the answer; a provider that says no, or nothing, is one as well."""
    try:
        return ask()
    except ProviderUnavailable as error:
        return Finding(question, "weak", f"not now: {error.message}")
    except ProviderError as error:
        return Finding(question, "bad", error.message)


def _keys(payments: PaymentProvider) -> Finding:
    payments.check_keys()
    return Finding("keys", "ok", f"Vipps gives a token for sales unit {payments.account}")


def _recurring(payments: PaymentProvider) -> Finding:
    payments.list_agreements(AgreementStatus.ACTIVE, utc_now() - timedelta(minutes=1))
    return Finding("recurring", "ok", "the sales unit may use Recurring")


def _clock(payments: PaymentProvider) -> Finding:
    skew = payments.clock_skew()
    seconds = round(skew / timedelta(seconds=1))
    if abs(skew) > _SKEW_STOPS:
        return Finding("clock", "bad", f"ours is {seconds} s ahead of Vipps': no charge is created")
    state = "weak" if abs(skew) > _SKEW_SHOWS else "ok"
    return Finding("clock", state, f"ours is {seconds} s ahead of Vipps'")
