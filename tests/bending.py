"""Putting rows into states as no program of ours can: past the guards of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from invoice.store.db import db, transaction


@contextmanager
def bending() -> Iterator[None]:
    """A transaction in which the database lets every change pass."""
    with transaction():
        if db.session.get_bind().dialect.name == "sqlite":
            guards = db.session.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
            for name, _ in guards:
                db.session.execute(text(f"DROP TRIGGER {name}"))
            yield
            db.session.flush()
            for _, statement in guards:
                db.session.connection().exec_driver_sql(statement)
        else:
            db.session.execute(text("SET LOCAL session_replication_role = replica"))
            yield
