"""How secrets rest: sealed by AES-256-GCM, with keys that are derived for one use each; and which keys are too weak.

Pure rules; which columns are sealed says the store. What is sealed begins with the name of its algorithm, so that a
newer one can take over while everything that rests is still read.

Sources: AES-GCM with random nonces of 96 bits, NIST SP 800-38D 8.2.2 (at most 2**32 under one key); HKDF, RFC 5869.
"""

from __future__ import annotations

import hmac
import math
import re
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from secrets import token_bytes
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from invoice.errors import Unreadable

_NONCE_BYTES = 12
_TAG_BYTES = 16

# Words that a key from an example or a manual holds, and a random one never does: six letters or more.
_PLACEHOLDERS = re.compile("change|secret|password|passord|example|default|invoice|mobile|letmein|qwerty", re.I)
_LEAST_BITS = 88.0


class AEAD(Protocol):
    """Authenticated encryption with one key, as the `cryptography` library has it."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """Return the ciphertext with its tag."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """Return the plain bytes. Raises InvalidTag."""


@dataclass(frozen=True)
class Algorithm:
    """A way to seal. name: stands before what it has sealed.  make: turns a key of 256 bits into the cipher."""

    name: str
    make: Callable[[bytes], AEAD]


# The newest first: it seals, all of them read. To change over, put another before it; `flask vipps keys encrypt`.
ALGORITHMS = (Algorithm("a1", AESGCM),)


class Ring:
    """The keys that stored secrets are sealed with: the newest seals, each of them opens."""

    def __init__(self, secrets: Sequence[bytes], algorithms: Sequence[Algorithm] = ALGORITHMS) -> None:
        """secrets: what the operator holds, the newest first."""
        self._newest = algorithms[0].name.encode()
        self._ciphers = {
            each.name.encode(): [each.make(derived(secret, f"columns {each.name}")) for secret in secrets]
            for each in algorithms
        }
        self._older = [Fernet(urlsafe_b64encode(sha256(b"columns:" + secret).digest())) for secret in secrets]

    def seal(self, plain: bytes) -> bytes:
        """Encrypt with the newest key, as ASCII."""
        nonce = token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._newest][0].encrypt(nonce, plain, self._newest)
        return self._newest + b"." + urlsafe_b64encode(nonce + sealed)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt with whichever key fits. Raises Unreadable when none does, or when one sign was changed."""
        name, dot, text = sealed.partition(b".")
        if not dot:
            return self._open_older(sealed)
        packed = _unpacked(text)
        for cipher in self._ciphers.get(name, ()):
            with suppress(InvalidTag):
                return cipher.decrypt(packed[:_NONCE_BYTES], packed[_NONCE_BYTES:], name)
        raise Unreadable

    def _open_older(self, sealed: bytes) -> bytes:
        """Decrypt what was sealed before there were names (Fernet). Nothing is sealed so any more."""
        for cipher in self._older:
            with suppress(InvalidToken):
                return cipher.decrypt(sealed)
        raise Unreadable


def _unpacked(text: bytes) -> bytes:
    """Return the bytes behind URL-safe base64. Raises Unreadable for any other spelling of them, and for too few."""
    try:
        packed = b64decode(text, altchars=b"-_", validate=True)
    except NotBase64:
        raise Unreadable from None
    if urlsafe_b64encode(packed) != text or len(packed) < _NONCE_BYTES + _TAG_BYTES:
        raise Unreadable
    return packed


def derived(secret: bytes, use: str) -> bytes:
    """Return the key of 256 bits for one use, by HKDF with SHA-256: none of them says anything about another."""
    return HKDF(SHA256(), length=32, salt=None, info=f"mobile-invoice {use}".encode()).derive(secret)


def pseudonym_keys(secret: bytes) -> tuple[bytes, bytes]:
    """Return the key for what stands for forgotten numbers, and the one that did before keys were derived by HKDF."""
    return derived(secret, "pseudonyms"), sha256(b"pseudonyms:" + secret).digest()


def stamp(key: bytes, text: str) -> str:
    """Return 90 bits of HMAC-SHA256 as 15 signs."""
    return urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode()[:15]


def weakness_of(secret: str) -> str:
    """Return what makes a key evidently guessable, in words, or nothing.

    Randomness cannot be proved; this finds what people write instead of it. A random key of 32 hexadecimal digits or
    more, in base64 or in any other alphabet of ten signs or more, is found weak less than once in ten thousand.
    """
    pairs = list(pairwise(secret))
    steps = Counter(ord(second) - ord(first) for first, second in pairs)
    if _is_repeated(secret) or _bits_of(secret) < _LEAST_BITS:
        return "it repeats itself"
    if steps[0] + steps[1] + steps[-1] > 0.6 * len(pairs):
        return "it counts"
    if _PLACEHOLDERS.search(secret):
        return "it holds a word of examples"
    in_words = sum(first.islower() and second.islower() for first, second in pairs)
    if in_words > len(pairs) / 2 and not any(sign.isdigit() for sign in secret):
        return "it reads like words"
    return ""


def _is_repeated(secret: str) -> bool:
    """Tell whether a text is a shorter one again and again."""
    return secret in (secret + secret)[1:-1]


def _bits_of(secret: str) -> float:
    """Return how many bits a text would hold if each sign were as likely as it is in it."""
    size = len(secret)
    return -sum(count * math.log2(count / size) for count in Counter(secret).values())
