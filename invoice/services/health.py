"""Whether this installation can do its work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import exc

from invoice.services.jobs import last_beat
from invoice.store.db import db

# Longer than a round with a provider that hangs.
_STALE = timedelta(seconds=120)
# What says that the database cannot be worked with now: away, full, or too busy. The same may well do a moment later.
STORE_FAILURES = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
MIGRATIONS = Path(__file__).parents[1] / "store" / "migrations"


def check() -> dict[str, bool]:
    """Return what holds: the database answers, stands at the newest migration, and an engine has run lately."""
    checks = {"database": False, "migrations": False, "engine": False}
    try:
        with db.engine.connect() as connection:
            checks["database"] = True
            current = MigrationContext.configure(connection).get_current_revision()
        checks["migrations"] = current == ScriptDirectory(str(MIGRATIONS)).get_current_head()
        beat = last_beat() if checks["migrations"] else None
    except exc.SQLAlchemyError:
        # What is False says enough; the database's own words may hold its address.
        return checks
    checks["engine"] = beat is not None and beat < _STALE
    return checks
