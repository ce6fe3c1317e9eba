"""What partners' clients send to say who they are, made here without the service's own code."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from datetime import datetime
from urllib.parse import quote_plus

HOST = "pay.example.com"


def basic(partner: int | str, secret: str) -> str:
    return "Basic " + b64encode(f"{partner}:{secret}".encode()).decode()


def short(
    partner: int | str, secret: str, method: str, target: str, body: bytes = b"", *, at: datetime, nonce: str = "n1"
) -> str:
    """Sign as the original's C# client does."""
    digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() if body else ""
    moment = str(int(at.timestamp()))
    address = quote_plus(f"https://{HOST}{target}".lower(), safe="!*()")
    signature = _sign(secret, f"{partner}{method}{address}{moment}{nonce}{digest}")[:10]
    return f'hmac "{partner}:{signature}:{nonce}:{moment}"'


def full(
    partner: int | str, secret: str, method: str, target: str, body: bytes = b"", *, at: datetime, nonce: str = "n1"
) -> str:
    """Sign in full length."""
    digest = b64encode(hashlib.sha256(body).digest()).decode()
    moment = str(int(at.timestamp()))
    lines = ["hmac-sha256", str(partner), method, HOST, target, moment, nonce, digest]
    return f"hmac-sha256 {partner}:{_sign(secret, chr(10).join(lines))}:{nonce}:{moment}"


def _sign(secret: str, message: str) -> str:
    return b64encode(hmac.new(b64decode(secret), message.encode(), hashlib.sha256).digest()).decode()
