"""Vipps' webhooks: whether they are genuine, and what they are about.

Source: Vipps MobilePay Webhooks API, request authentication (2023-12), and its published test vector.
"""

from __future__ import annotations

import hmac
import json
import logging
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from urllib.parse import urlsplit

from invoice.clock import utc_now
from invoice.errors import Invalid
from invoice.providers.base import Ring

logger = logging.getLogger(__name__)

EVENTS = (
    "recurring.agreement-activated.v1",
    "recurring.agreement-rejected.v1",
    "recurring.agreement-stopped.v1",
    "recurring.agreement-expired.v1",
    "recurring.charge-reserved.v1",
    "recurring.charge-captured.v1",
    "recurring.charge-canceled.v1",
    "recurring.charge-refunded.v1",
    "recurring.charge-failed.v1",
    "recurring.charge-creation-failed.v1",
)

_NOT_CREATED = "recurring.charge-creation-failed.v1"

# Vipps tries for seven days. Whether a later try is signed anew is not documented, so the window holds them all:
# an old webhook only makes us look again.
_OLDEST = timedelta(days=8)
_SKEW = timedelta(minutes=10)
_SIGNED = "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="


class Webhooks:
    """The incoming half of the Vipps client; needs no keys, only the registration's secret."""

    def is_genuine(self, url: str, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether this is Vipps' signature over the body, for the address as registered, of this week.

        url: the registered one; behind a proxy the request names another.  secret: its raw UTF-8 bytes are the key.
        """
        sent = headers.get("x-ms-date", "")
        if not _is_recent(sent):
            return False
        content = b64encode(sha256(body).digest()).decode()
        signature = sign(url, secret, sent, content)
        told = headers.get("x-ms-content-sha256", "").encode("utf-8", "replace")
        given = headers.get("Authorization", "").encode("utf-8", "replace")
        same_body = hmac.compare_digest(told, content.encode())
        return hmac.compare_digest(given, (_SIGNED + signature).encode()) and same_body

    def read_webhook(self, body: bytes) -> Ring:
        """Return what a webhook is about."""
        try:
            payload = json.loads(body.decode("utf-8"))
            agreement_id = payload["agreementId"]
            external_id, charge_id = payload.get("agreementExternalId"), payload.get("chargeId")
            is_not_created = payload.get("eventType") == _NOT_CREATED
            account = None if payload.get("msn") is None else str(payload["msn"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Invalid(message="This webhook cannot be read.") from error
        return Ring(_name(agreement_id), _maybe(external_id), _maybe(charge_id), is_not_created, account)


def sign(url: str, secret: str, sent: str, content: str) -> str:
    """Return the signature: base64 of HMAC-SHA256 over method, path, date, host and the body's hash.

    sent: the x-ms-date header.  content: base64 of the body's SHA-256.
    """
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    message = f"POST\n{path}\n{sent};{parts.netloc};{content}"
    return b64encode(hmac.digest(secret.encode(), message.encode("utf-8", "replace"), "sha256")).decode()


def _is_recent(sent: str) -> bool:
    try:
        at: datetime = parsedate_to_datetime(sent)
        age = utc_now() - at
    except (TypeError, ValueError, OverflowError):
        return False
    if age > _SKEW:
        logger.warning("A webhook from Vipps is %s old.", age)
    return -_SKEW <= age <= _OLDEST


def _name(value: object) -> str:
    """Return an id. Raises Invalid for one that holds what no id holds and no database takes."""
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise Invalid(message="This webhook holds an id that cannot be read.")
    return value


def _maybe(value: object) -> str | None:
    return None if value is None else _name(value)
