"""The database: connection settings, column types, and `transaction()`, the only commit in the house."""

from __future__ import annotations

import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, DateTime, Dialect, Engine, LargeBinary, MetaData, String, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from invoice.ciphers import Ring, derived, pseudonym_keys, stamp
from invoice.phone import PSEUDONYM

# Named constraints can be recognised when they are violated, and changed by a migration.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(naming_convention=NAMING)


db = SQLAlchemy(metadata=Base.metadata)


@contextmanager
def transaction() -> Iterator[None]:
    """Commit what the block did, or nothing of it.

    Nothing may be open before: SQLAlchemy opens a transaction on the first read, so a block that reads and decides
    and writes is one transaction only when the reading is inside. No provider is called inside.
    """
    if is_transaction_open():
        raise RuntimeError("A transaction is open already: read inside the block that decides.")
    try:
        db.session.begin()
        yield
        db.session.commit()
    finally:
        # Also drops what a failed block left, so that forgetting is safe.
        db.session.remove()


def is_transaction_open() -> bool:
    """Tell whether this thread holds a transaction; the providers' fakes in the tests assert that it does not."""
    return db.session.registry.has() and db.session().in_transaction()


def violates(error: IntegrityError, constraint: str) -> bool:
    """Tell whether `error` comes from the named constraint; SQLite names the columns of a unique one instead."""
    text = str(error.orig)
    return constraint in text or constraint in _SQLITE_NAMES.get(text.removeprefix("UNIQUE constraint failed: "), ())


_SQLITE_NAMES = {
    "subscriptions.partner_id, subscriptions.order_number": ("uq_subscriptions_partner_order",),
}


class UTCDateTime(TypeDecorator[datetime]):
    """An aware instant, kept in UTC. SQLite has no zones, so it is stored without one there and given back with."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive instant; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A naive datetime is no instant.")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware UTC instant."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Encrypted(TypeDecorator[str]):
    """Text that rests encrypted under the keys given to `set_encryption_keys`."""

    impl = String(1000)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        """Encrypt with the newest key."""
        return None if value is None else _ring().seal(value.encode()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        """Decrypt with whichever key fits."""
        return None if value is None else _ring().open(value.encode()).decode()


class EncryptedBytes(TypeDecorator[bytes]):
    """Bytes of any length that rest encrypted under the same keys."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's
        """Encrypt with the newest key."""
        return None if value is None else _ring().seal(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's
        """Decrypt with whichever key fits."""
        return None if value is None else _ring().open(value)


_rings: list[Ring] = []
_pseudonym_keys: list[bytes] = []
_seal_keys: list[bytes] = []
_decoy: list[bytes] = []


def set_encryption_keys(secret: str) -> None:
    """Take the keys for `Encrypted` columns, pseudonyms and seals: secrets separated by commas, the newest first."""
    secrets = [each.strip().encode() for each in secret.split(",")]
    _rings[:] = [Ring(secrets)]
    _pseudonym_keys[:] = [key for each in secrets for key in pseudonym_keys(each)]
    _seal_keys[:] = [derived(each, "seals") for each in secrets]
    _decoy[:] = [_ring().seal(b64encode(token_bytes(32)))]


def decoy() -> str:
    """Decrypt a random secret that belongs to nobody: an absent one must cost what a present one does."""
    return _ring().open(_decoy[0]).decode()


def pseudonyms(number: str) -> list[str]:
    """Return what stands for a phone number (E.164) once it is forgotten: a keyed hash, by the newest key first.

    90 bits of it, so that it fits where the number stood: of all numbers there are, no two will share one.
    """
    return [PSEUDONYM + stamp(key, number) for key in _pseudonym_keys]


def seals(what: str) -> list[str]:
    """Return what shows that an address is one that we gave out: HMAC-SHA256, whole, by the newest key first."""
    return [urlsafe_b64encode(hmac.digest(key, what.encode(), "sha256")).decode().rstrip("=") for key in _seal_keys]


def _ring() -> Ring:
    return _rings[0]


def install_engine_settings(engine: Engine) -> None:
    """Make a database as careful as money needs.

    SQLite: write-ahead log, every commit on the disk, foreign keys on, and each transaction takes the write lock at
    its start, so that what it read is still true when it writes. PostgreSQL: statements that hang are ended.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgres)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgres(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '10s'")
        cursor.execute("SET idle_in_transaction_session_timeout = '30s'")
    connection.commit()


@contextmanager
def reading() -> Iterator[None]:
    """Read, and leave nothing open behind. Takes no write lock; a forgotten write is dropped."""
    if is_transaction_open():
        raise RuntimeError("A transaction is open already.")
    try:
        db.session.connection(execution_options={"read_only": True})
        yield
    finally:
        db.session.remove()
