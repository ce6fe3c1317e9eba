"""Signatures: the JWT-like tokens that we give out, Vipps' webhook signature, Twilio's callback signature. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def make_token(claims: Mapping[str, Any], key: str) -> str:
    """Return `claims` as a signed token of three parts (JWT, HS256)."""
    parts = [
        _encode(json.dumps(part, separators=(",", ":")).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims)
    ]
    signed = ".".join(parts)
    return f"{signed}.{_encode(hmac.digest(key.encode(), signed.encode(), 'sha256'))}"


def read_token(token: str, key: str) -> dict[str, Any] | None:
    """Return the claims of a token made by us, or None. Whether it has expired is for the caller to say."""
    signed, _, signature = token.rpartition(".")
    expected = _encode(hmac.digest(key.encode(), signed.encode(errors="replace"), "sha256"))
    if not same(expected, signature):
        return None
    try:
        claims = json.loads(_decode(signed.split(".")[1]))
    except (ValueError, IndexError, binascii.Error):
        return None
    return claims if isinstance(claims, dict) else None


def same(left: str, right: str) -> bool:
    """Compare two secrets in constant time. Bytes, because text outside ASCII is refused by `hmac.compare_digest`."""
    return hmac.compare_digest(left.encode(errors="replace"), right.encode(errors="replace"))


def host_of(parts: SplitResult) -> str:
    """Return the Host header for an address: lower case, the port only where it is not the scheme's own."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def webhook_headers(url: str, body: bytes, secret: str, at: datetime) -> dict[str, str]:
    """Return the headers that sign a webhook.

    Source: Vipps webhooks guide, request authentication (2023-12): HMAC-SHA256 over method, path with query, and
    "date;host;hash", with the secret's own bytes as the key.
    """
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    date = format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    to_sign = f"POST\n{path}\n{date};{host_of(parts)};{digest}"
    signature = base64.b64encode(hmac.digest(secret.encode(), to_sign.encode(), "sha256")).decode()
    return {
        "x-ms-date": date,
        "x-ms-content-sha256": digest,
        "Host": host_of(parts),
        "Authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}",
    }


# Source: Vipps webhooks guide, request authentication (2023-12): its own example, to check a signature against.
EXAMPLE = {
    "url": "https://webhook.site/e2cee29b-012e-4f1d-8ef4-e95fd74a7a63",
    "body": '{"some-unique-content":"ee6e441b-cc4a-46f8-895d-a5af79bcc233/hello-world"}',
    "secret": "A0+AeKBRG2KRGvnNwJpQlb6IJFk48CKXCIcrLoHncVJKDILsQSxS6NWCccwWm6r6FhGKhiHTBsG2wo/xU6FY/A==",
    "date": "2023-03-30T08:38:32+00:00",
    "x-ms-content-sha256": "lNlsp1XA03N34HrQsVzPgJKtC+r7l/RBF4V3JQUWMj4=",
    "signature": "agAiSyogQbDHpeucoNwYz+yAr5nJ+v+zasdkSbqzv+U=",
}


def example_headers() -> dict[str, str]:
    """Return the headers that we make for the vendor's example."""
    at = datetime.fromisoformat(EXAMPLE["date"])
    return webhook_headers(EXAMPLE["url"], EXAMPLE["body"].encode(), EXAMPLE["secret"], at)


def twilio_signature(url: str, form: Mapping[str, str], token: str) -> str:
    """Return X-Twilio-Signature for a form posted to `url`.

    Source: Twilio, "Validating requests" (2025): HMAC-SHA1 over the address and the sorted names with their values.
    """
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), "sha1")).decode()
