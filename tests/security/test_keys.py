"""What rests encrypted: nobody who writes into the database can forge it, and nobody who reads sees equals."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from flask import Flask

from invoice import ciphers
from invoice.ciphers import ALGORITHMS, Algorithm, Ring, derived, weakness_of
from invoice.config import Settings
from invoice.errors import ConfigError, Unreadable
from invoice.store.db import Encrypted, EncryptedBytes, db, set_encryption_keys
from tests.conftest import environ_for

OLD, NEW = "an-older-key-that-is-long-enough-to-be-one", "a-newer-key-that-is-long-enough-to-be-one"
RANDOM = environ_for("")["INVOICE_SECRET_KEY"]


@pytest.fixture(params=[Encrypted, EncryptedBytes], ids=["text", "bytes"])
def column(request: pytest.FixtureRequest, app: Flask):
    yield request.param()
    set_encryption_keys(RANDOM)


def as_before(secret: str, plain: bytes) -> bytes:
    """A value as it was encrypted before there was AES-GCM."""
    return Fernet(urlsafe_b64encode(sha256(b"columns:" + secret.encode()).digest())).encrypt(plain)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_was_changed_at_rest_is_not_read(column: Encrypted | EncryptedBytes):
    plain = "a-secret" if isinstance(column, Encrypted) else b"a-secret"
    rests = column.process_bind_param(plain, db.engine.dialect)

    assert column.process_result_value(rests, db.engine.dialect) == plain
    for place in range(len(rests)):
        for other in ("A", "B", ".") if isinstance(rests, str) else (b"A", b"B", b"."):
            changed = rests[:place] + other + rests[place + 1 :]
            if changed != rests:
                with pytest.raises(Unreadable):
                    column.process_result_value(changed, db.engine.dialect)


def test_the_same_bytes_have_one_spelling():
    sealed = Ring([b"key"]).seal(b"hushed!")
    last = sealed[-2]  # of its six bits the last two stand for nothing

    assert sealed.endswith(b"=")
    with pytest.raises(Unreadable):
        Ring([b"key"]).open(sealed[:-2] + bytes([last + 1]) + b"=")


@pytest.mark.parametrize(
    "sealed", [b"", b".", b"a1.", b"a1.AAAA", b"a2.AAAA", b"a1.\xff", b"a1." + b"A" * 37, b"gAAAA"]
)
def test_what_was_never_sealed_is_not_read(sealed: bytes):
    with pytest.raises(Unreadable):
        Ring([b"key"]).open(sealed)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_equal_secrets_do_not_look_alike_and_another_key_reads_none(column: Encrypted | EncryptedBytes):
    plain = "a-secret" if isinstance(column, Encrypted) else b"a-secret"
    set_encryption_keys(OLD)
    first, second = (column.process_bind_param(plain, db.engine.dialect) for _ in range(2))

    assert first != second
    set_encryption_keys(f"{NEW},{OLD}")
    assert column.process_result_value(first, db.engine.dialect) == plain
    set_encryption_keys(NEW)
    with pytest.raises(Unreadable):
        column.process_result_value(first, db.engine.dialect)


def test_a_secret_is_sealed_by_aes_of_256_bits_in_gcm():
    sealed = Ring([RANDOM.encode()]).seal(b"hush")

    name, _, rest = sealed.partition(b".")
    packed = ciphers._unpacked(rest)
    key = derived(RANDOM.encode(), "columns a1")
    assert (name, len(key), len(packed)) == (b"a1", 32, 12 + 4 + 16)
    assert AESGCM(key).decrypt(packed[:12], packed[12:], b"a1") == b"hush"


def test_each_use_has_a_key_of_its_own():
    uses = ("columns a1", "columns a2", "pseudonyms")

    made = {derived(secret, use) for secret in (OLD.encode(), NEW.encode()) for use in uses}

    assert len(made) == 6
    assert not {secret.encode()[:32] for secret in (OLD, NEW)} & made


def test_what_was_encrypted_before_is_read_with_every_key_and_never_written_again():
    ring = Ring([NEW.encode(), OLD.encode()])

    assert [ring.open(as_before(key, b"hush")) for key in (NEW, OLD)] == [b"hush", b"hush"]
    assert ring.seal(b"hush").startswith(b"a1.")
    with pytest.raises(Unreadable):
        ring.open(as_before(RANDOM, b"hush"))


def test_another_algorithm_takes_over_and_what_rests_is_still_read():
    later = (Algorithm("c1", ChaCha20Poly1305), *ALGORITHMS)
    before = Ring([RANDOM.encode()]).seal(b"hush")

    ring = Ring([RANDOM.encode()], later)
    after = ring.seal(ring.open(before))

    assert (before[:3], after[:3]) == (b"a1.", b"c1.")
    assert [ring.open(sealed) for sealed in (before, after)] == [b"hush", b"hush"]
    with pytest.raises(Unreadable):
        ring.open(b"c1" + before[2:])


# Keys that are none

WEAK = (
    "x" * 32,
    "ab" * 20,
    "Zq7vKx2mRt9LwPc4" * 2,
    "0123456789abcdef" * 2,
    "0123456789abcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ",
    "0" * 31 + "1",
    "12345678901234567890123456789012345",
    "change-me-8f2K9d0Qw7Zx1Lp5Vb3Nm6Rt4Yh",
    "S3cr3t-Password-2026-S3cr3t-2026-ABC",
    "correct horse battery staple again and again",
    "Correct-Horse-Battery-Staple-Every-Morning",
    "INVOICE_SECRET_KEY=0f8a2b7c9d1e3f4a5b6c7d8e",
)


@pytest.mark.parametrize("key", WEAK)
def test_a_key_that_is_evidently_no_random_one_is_refused_at_the_start(key: str):
    given = {**environ_for("sqlite:///x.sqlite3"), "INVOICE_SECRET_KEY": key}

    with pytest.raises(ConfigError, match="INVOICE_SECRET_KEY: must begin with a random key") as caught:
        Settings.from_environ(given)

    assert key not in caught.value.message
    with pytest.raises(ConfigError):
        Settings.from_environ({**given, "INVOICE_SECRET_KEY": f"{key},{RANDOM}"})


@pytest.mark.parametrize("key", [key for key in WEAK if "=" not in key])
def test_behind_a_random_key_a_weak_one_is_still_read_with(key: str):
    given = {**environ_for("sqlite:///x.sqlite3"), "INVOICE_SECRET_KEY": f"{RANDOM},{key}"}

    assert Settings.from_environ(given).invoice_secret_key == f"{RANDOM},{key}"


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe], ids=["hexadecimal", "base64"])
@pytest.mark.parametrize("size", [16, 24, 32, 48])
def test_a_random_key_is_taken(make, size: int):
    made = [key for key in (make(size) for _ in range(2000)) if len(key) >= 32]

    # Less than one in ten thousand may be taken for a weak one; of eight thousand, three would be a wonder.
    assert len([key for key in made if weakness_of(key)]) <= 2
