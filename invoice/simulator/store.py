"""The stand-in's memory: one SQLite file. A commit is on the disk before the answer leaves; readers never wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.orm import Session

from invoice.simulator.models import Base

# Of the tables. A file with another number was written by another version of this house.
_VERSION = 2

_PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=20000"


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself; `_begin` does
    connection.executescript(_PRAGMAS)


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_version(connection: Connection, path: Path) -> None:
    is_empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
    if not is_empty and connection.exec_driver_sql("PRAGMA user_version").scalar() != _VERSION:
        raise ValueError(f"{path} was written by another version. Remove its folder, or choose another with --data.")


class Store:
    """One file, many readers, one writer at a time. Raises ValueError for a file of another version."""

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        path = data / "simulator.sqlite3"
        self._engine = create_engine(f"sqlite:///{path}", pool_size=10, max_overflow=200)
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(writes=True)
        # Within the process writers queue here, in order, instead of polling SQLite's lock.
        self._turn = threading.Lock()
        with self._writing.begin() as connection:
            _check_version(connection, path)
            Base.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees one moment. What is changed in it is lost."""
        with Session(self._engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session that is committed, durably, when the block ends well."""
        with self._turn, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def scalar(self, statement: str) -> Any:
        """Return the one value that a plain SELECT gives."""
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(statement).scalar()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
