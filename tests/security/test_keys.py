"""What rests encrypted: nobody who writes into the database can forge it, and nobody who reads sees equals."""

from __future__ import annotations

import pytest
from cryptography.fernet import InvalidToken
from flask import Flask

from invoice.store.db import Encrypted, EncryptedBytes, db, set_encryption_keys

OLD, NEW = "an-older-key-that-is-long-enough-to-be-one", "a-newer-key-that-is-long-enough-to-be-one"


@pytest.fixture(params=[Encrypted, EncryptedBytes], ids=["text", "bytes"])
def column(request: pytest.FixtureRequest, app: Flask):
    yield request.param()
    set_encryption_keys("a-secret-key-for-tests-that-is-long-enough")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_was_changed_at_rest_is_not_read(column: Encrypted | EncryptedBytes):
    plain = "a-secret" if isinstance(column, Encrypted) else b"a-secret"
    rests = column.process_bind_param(plain, db.engine.dialect)

    assert column.process_result_value(rests, db.engine.dialect) == plain
    for place in range(0, len(rests), 7):
        other = "A" if isinstance(rests, str) else b"A"
        changed = rests[:place] + other + rests[place + 1 :]
        if changed != rests:
            with pytest.raises(InvalidToken):
                column.process_result_value(changed, db.engine.dialect)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_equal_secrets_do_not_look_alike_and_another_key_reads_none(column: Encrypted | EncryptedBytes):
    plain = "a-secret" if isinstance(column, Encrypted) else b"a-secret"
    set_encryption_keys(OLD)
    first, second = (column.process_bind_param(plain, db.engine.dialect) for _ in range(2))

    assert first != second
    set_encryption_keys(f"{NEW},{OLD}")
    assert column.process_result_value(first, db.engine.dialect) == plain
    set_encryption_keys(NEW)
    with pytest.raises(InvalidToken):
        column.process_result_value(first, db.engine.dialect)
