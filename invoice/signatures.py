"""The two signatures of partners' requests: the original's short one, and a full-length one that leaves nothing out.

Pure rules: what is signed, how it is written, how it is compared. Whose secret it is and whether a nonce was used
before is known elsewhere.

Source of the short one: the Mobile Invoice documentation ("Authentication") and its C# and Java samples. Their clients
differ in the scheme of the address, in which signs an encoder leaves bare, and in what an absent body adds.
"""

from __future__ import annotations

import binascii
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5, sha256
from urllib.parse import quote

SHORT, FULL = "hmac", "hmac-sha256"
# How many characters of the signature count. Source: the original takes the first ten of base64, 60 bits.
_LENGTHS = {SHORT: 10, FULL: 44}
WINDOW_S = 600  # Source: the original refuses a timestamp that is ten minutes old.
MIN_SECRET_BYTES = 8  # the original's own examples have eleven; ours have 32

# id:signature:nonce:timestamp, quoted by the C# and Java clients. Numbers have one spelling only, so that no part of
# a message can pass for part of its neighbour.
_HEADER = re.compile(
    r'(?P<quote>"?)(?P<partner>[1-9][0-9]{0,9}):(?P<signature>[A-Za-z0-9+/]{10}|[A-Za-z0-9+/]{43}=)'
    r":(?P<nonce>[!#-9;-~]{1,50}):(?P<timestamp>[1-9][0-9]{0,14})(?P=quote)"
)
# A nonce that could be another nonce and the hash of a body, which follow each other without a separator in the short
# message: whoever overheard a request could cut it anew and send it again.
_AMBIGUOUS = re.compile(r".+[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True)
class Signed:
    """What an `Authorization` of either scheme holds."""

    partner_id: int
    signature: str
    nonce: str
    timestamp: int


@dataclass(frozen=True)
class Sent:
    """A request as it came over the wire. target: path and query, still percent-encoded."""

    method: str
    target: str
    body: bytes


def read(scheme: str, value: str) -> Signed | None:
    """Return what stands behind the scheme in `Authorization`, or None when it cannot be read."""
    found = _HEADER.fullmatch(value)
    if found is None or len(found["signature"]) != _LENGTHS[scheme] or _AMBIGUOUS.fullmatch(found["nonce"]):
        return None
    return Signed(int(found["partner"]), found["signature"], found["nonce"], int(found["timestamp"]))


def is_recent(signed: Signed, now: datetime) -> bool:
    """Tell whether a signature was made within ten minutes of now, before or after."""
    return abs(now.timestamp() - signed.timestamp) <= WINDOW_S


def messages(scheme: str, signed: Signed, sent: Sent, hosts: Iterable[str]) -> list[bytes]:
    """Return every message whose signature would do for this request. hosts: all that we are published under."""
    found = _short_messages(signed, sent, hosts) if scheme == SHORT else _full_messages(signed, sent, hosts)
    return [message.encode("utf-8", "replace") for message in dict.fromkeys(found)]


def _short_messages(signed: Signed, sent: Sent, hosts: Iterable[str]) -> Iterable[str]:
    digests = [_md5(sent.body)] if sent.body else ["", _md5(b"")]
    for host in hosts:
        for scheme in ("https", "http"):  # the Java client signs http, whatever it calls
            for address in _encoded(f"{scheme}://{host}{sent.target}".lower()):
                for digest in digests:
                    yield f"{signed.partner_id}{sent.method}{address}{signed.timestamp}{signed.nonce}{digest}"


def _full_messages(signed: Signed, sent: Sent, hosts: Iterable[str]) -> Iterable[str]:
    digest = b64encode(sha256(sent.body).digest()).decode()
    for host in hosts:
        lines = (FULL, signed.partner_id, sent.method, host, sent.target, signed.timestamp, signed.nonce, digest)
        yield "\n".join(map(str, lines))


def _encoded(address: str) -> tuple[str, str]:
    """Return the address as .NET's WebUtility.UrlEncode and as Java's URLEncoder write it, without a blank in it."""
    return tuple(quote(address, safe=bare, errors="replace").replace("~", "%7E") for bare in ("!*()", "*"))  # type: ignore[return-value]


def _md5(body: bytes) -> str:
    return b64encode(md5(body, usedforsecurity=False).digest()).decode()


def sign(scheme: str, secret: bytes, message: bytes) -> str:
    """Return a message's signature as it stands in the header."""
    return b64encode(hmac.digest(secret, message, "sha256")).decode()[: _LENGTHS[scheme]]


def is_signature(scheme: str, signed: Signed, secret: bytes, candidates: Sequence[bytes]) -> bool:
    """Tell whether one of the messages was signed so. All of them are compared, whatever the outcome."""
    given = signed.signature.encode()
    return sum(hmac.compare_digest(sign(scheme, secret, message).encode(), given) for message in candidates) > 0


def new_secret() -> str:
    """Return a secret of 256 random bits, in base64 as the original's are."""
    return b64encode(secrets.token_bytes(32)).decode()


def decoded(secret: str) -> bytes | None:
    """Return the bytes that a secret stands for, or None for one that is no base64 or too short."""
    try:
        key = b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) >= MIN_SECRET_BYTES else None
