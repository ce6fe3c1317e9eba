"""Twilio's Messages through Twilio's own client: send a text, find a text, verify and read receipts.

Source: Twilio Messaging REST API 2010-04-01; statuses as of the Python client 9.13.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from twilio.base.exceptions import TwilioException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from invoice.errors import (
    Invalid,
    ProviderDenied,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUncertain,
)
from invoice.lifecycle import MessageStatus
from invoice.providers.base import Receipt
from invoice.providers.http import READ_S, outcome_of
from invoice.providers.tls import Adapter

T = TypeVar("T")
# Its debug lines hold the whole address of a call, with the number that a text is looked for by.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

# A text that an outage kept back for a day is better not sent in the middle of a later night.
_VALID_S = 14400
_LIST_SIZE = 50

STATUSES = {
    "accepted": MessageStatus.ACCEPTED,
    "scheduled": MessageStatus.ACCEPTED,
    "queued": MessageStatus.ACCEPTED,
    "sending": MessageStatus.ACCEPTED,
    "sent": MessageStatus.SENT,
    "delivered": MessageStatus.DELIVERED,
    "read": MessageStatus.DELIVERED,
    "undelivered": MessageStatus.UNDELIVERED,
    "failed": MessageStatus.FAILED,
    "canceled": MessageStatus.FAILED,
}


class _Redirected(TwilioHttpClient):  # type: ignore[misc]
    """Twilio's HTTP client, sent to another host where one is set, and silent: its log would hold numbers."""

    def __init__(self, base_url: str) -> None:
        silent = logging.Logger("twilio")
        silent.disabled = True
        super().__init__(timeout=READ_S, logger=silent)
        self.session.mount("https://", Adapter())
        self.session.trust_env = False  # no proxy or .netrc of the machine comes between
        self._base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """Make the call, to our host when there is one."""
        if self._base_url:
            parts = urlsplit(url)
            url = self._base_url + parts.path + (f"?{parts.query}" if parts.query else "")
        return super().request(method, url, *args, **kwargs)


class TwilioClient:
    """The SMS provider behind `SmsProvider`."""

    def __init__(self, base_url: str, account_sid: str, auth_token: str) -> None:
        """base_url: empty for Twilio itself."""
        self._client = Client(account_sid, auth_token, http_client=_Redirected(base_url))
        self._validator = RequestValidator(auth_token)

    def send(self, *, to: str, originator: str, body: str, receipt_url: str) -> Receipt:
        """POST a message."""
        create = self._client.messages.create
        fields = {"to": to, "from_": originator, "body": body, "status_callback": receipt_url}
        return _calling(lambda: _receipt(create(**fields, validity_period=_VALID_S)))

    def find(self, *, to: str, since: datetime, containing: str, but_not: Sequence[str] = ()) -> Receipt | None:
        """List what was sent to that number since then, and pick by a piece of the text that is ours alone."""
        messages = self._client.messages
        return _calling(
            lambda: next(
                (
                    _receipt(message)
                    for message in messages.list(to=to, date_sent_after=since, limit=_LIST_SIZE)
                    if containing in (message.body or "") and message.sid not in but_not
                ),
                None,
            )
        )

    def is_genuine(self, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        """Check X-Twilio-Signature over the public address and the form."""
        signature = headers.get("X-Twilio-Signature", "")
        return signature.isascii() and bool(self._validator.validate(url, dict(form), signature))

    def read_receipt(self, form: Mapping[str, str]) -> Receipt:
        """Return the message and the status that a receipt tells."""
        sid, error_code = form.get("MessageSid", ""), form.get("ErrorCode", "")
        if not sid or not sid.isprintable():
            raise Invalid({"MessageSid": ["MessageSid is missing or cannot be read."]})
        if not error_code.isprintable():
            raise Invalid({"ErrorCode": ["ErrorCode cannot be read."]})
        return Receipt(sid[:64], STATUSES.get(form.get("MessageStatus", "")), error_code[:20] or None)


def _calling(call: Callable[[], T]) -> T:
    """Make a call, every outcome one of our errors."""
    try:
        return call()
    except requests.RequestException as error:
        raise outcome_of(error, "Twilio") from error
    except TwilioException as error:
        raise _refusal(error) from error
    except (RecursionError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProviderUncertain("Twilio answered in a shape that we do not know") from error


def _receipt(message: Any) -> Receipt:
    if not isinstance(message.sid, str) or not message.sid:
        raise ValueError("A message without its id.")
    return Receipt(message.sid, STATUSES.get(str(message.status)))


def _status(error: TwilioException) -> int:
    """Return the HTTP status: an error of a call holds it, one of a list holds the answer."""
    return int(getattr(error, "status", 0) or getattr(error.args[-1] if error.args else None, "status_code", 0))


def _refusal(error: TwilioException) -> ProviderError:
    """Name the kind of refusal; Twilio's own text may hold the number, its code does not."""
    status = _status(error)
    code = getattr(error, "code", status)
    if status == 429:
        return ProviderUnavailable("Twilio has had too many calls")
    if status in (401, 403):
        return ProviderDenied(f"Twilio refused our keys ({code})")
    if 400 <= status < 500:
        return ProviderRefused(f"Twilio refused with error {code}", status=status, problem=str(code))
    return ProviderUncertain(f"Twilio answered {status}")
