"""The database of a world: a file of SQLite that is copied, or a PostgreSQL that is emptied."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, text

from invoice.clock import MARKET_ZONES, business_date
from invoice.store.db import Base
from invoice.store.queries import due, work

# What is due next in our tables. A worker asks more; this only tells when to wake it.
_DUE = """
SELECT (SELECT min(at) FROM (
  SELECT min(next_at) AS at FROM job_runs
         WHERE finished_at IS NOT NULL AND name NOT IN ('engine', 'consents', 'charges', 'read_back')
  UNION ALL SELECT min(read_back_at) FROM agreements
) AS chores), min(at) FROM (
  SELECT min(next_at) AS at FROM operations WHERE status IN ('READY', 'UNKNOWN')
  UNION ALL SELECT min(lease_until) FROM operations WHERE status = 'INFLIGHT'
  UNION ALL SELECT min(next_at) FROM inbound_events WHERE read_at IS NULL
  UNION ALL SELECT CASE WHEN next_at > due_at THEN next_at ELSE due_at END
            FROM (SELECT min(check_at) AS due_at FROM agreements) AS looks
            LEFT JOIN job_runs ON name = 'consents' AND failures > 0
  UNION ALL SELECT CASE WHEN next_at > due_at THEN next_at ELSE due_at END
            FROM (SELECT min(check_at) AS due_at FROM charges) AS looks
            LEFT JOIN job_runs ON name = 'charges' AND failures > 0
  UNION ALL SELECT min(CASE WHEN paused_until > next_at THEN paused_until ELSE next_at END)
            FROM deliveries JOIN delivery_lanes ON delivery_lanes.id = lane_id WHERE status = 'READY'
  UNION ALL SELECT min(lease_until) FROM deliveries WHERE status = 'INFLIGHT'
) AS times
"""
# What is done now and then is done together: nobody is woken for each.
_TOGETHER = timedelta(hours=6)
# What is settled is settled: for the judge to see what no look at a single moment shows.
WATCH = """
CREATE TABLE judged (what TEXT);
CREATE TRIGGER judge_operations AFTER UPDATE OF status, settled_at ON operations WHEN OLD.settled_at IS NOT NULL
BEGIN INSERT INTO judged VALUES (OLD.kind || ' ' || OLD.name || ' ' || OLD.status || '>' || NEW.status); END;
"""
# What both kinds must hold at the end of the same story. Row numbers are left out: PostgreSQL also counts what was
# rolled back.
_STATE = {
    "subscriptions": "SELECT ulid, status, amount, next_period, anchor_on, event_count FROM subscriptions",
    "agreements": "SELECT initial_name, account, status, is_adopted, provider_agreement_id FROM agreements",
    "charges": "SELECT name, status, amount, captured, refunded, due_on, period, sends FROM charges",
    "refunds": "SELECT c.name, r.amount, r.status FROM refunds r JOIN charges c ON c.id = r.charge_id",
    "events": "SELECT s.ulid, e.seq, e.type FROM events e JOIN subscriptions s ON s.id = e.subscription_id",
    "deliveries": "SELECT s.ulid, d.seq, d.status FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id",
    "messages": "SELECT s.ulid, m.status, m.sends FROM messages m JOIN subscriptions s ON s.id = m.subscription_id",
}


class Database(Protocol):
    """What a world keeps its tables in."""

    url: str

    def opened(self) -> Any:
        """Have it empty, and a way to look into it from outside."""

    def execute(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        """Look, as the judge does."""

    def next_due(self) -> datetime | None:
        """Return when something in the tables is due."""

    def is_idle(self, chores: Collection[str], now: datetime) -> bool:
        """Tell whether a worker would find nothing to do, neither work nor one of its chores."""

    def state(self) -> dict[str, list[str]]:
        """Return what it holds, in an order of its own."""


class _Look:
    """A worker's own look into the tables, at a tenth of what a round of it costs."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def is_idle(self, chores: Collection[str], now: datetime) -> bool:
        """Tell whether a worker would find nothing to do, neither work nor one of its chores."""
        today = max(map(business_date, MARKET_ZONES))
        with self._engine.connect() as connection:
            if any(connection.execute(due._LOOK, {"now": now, "today": today}).one()):
                return False
            put_off = {name for name, is_put_off, _ in connection.execute(work._PUT_OFF, {"now": now}) if is_put_off}
        return put_off.issuperset(chores)


class SQLite(_Look):
    """A copy of a migrated file."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self._path, self._empty = folder / "invoice.sqlite3", empty
        self.url = f"sqlite:///{self._path}"
        super().__init__(self.url)

    @contextmanager
    def opened(self) -> Iterator[None]:
        shutil.copy(self._empty, self._path)
        self._look = sqlite3.connect(self._path)
        self._look.executescript(WATCH)
        try:
            yield
        finally:
            self._look.close()
            self._engine.dispose()

    def back_up(self) -> None:
        """Keep what it holds now."""
        self._look.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._kept = self._look.serialize()

    def go_back(self) -> None:
        """Hold what was kept. Nobody else may have it open."""
        self._look.close()
        self._engine.dispose()
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink()
        self._path.write_bytes(self._kept)
        self._look = sqlite3.connect(self._path)

    def execute(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        return self._look.execute(query, values)

    def next_due(self) -> datetime | None:
        found = self.execute(_DUE).fetchone()
        return _earliest(*(at and datetime.fromisoformat(at).replace(tzinfo=UTC) for at in found))

    def state(self) -> dict[str, list[str]]:
        return {name: sorted(map(_line, self.execute(query))) for name, query in _STATE.items()}


class PostgreSQL(_Look):
    """A migrated database, emptied. The judge, whose questions are SQLite's, does not look into it."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(url)

    @contextmanager
    def opened(self) -> Iterator[None]:
        with self._engine.connect() as self._look:
            for table in reversed(Base.metadata.sorted_tables):
                self._look.execute(table.delete())
            self._look.execute(text("SELECT setval(c.oid, 1, false) FROM pg_class c WHERE relkind = 'S'"))
            yield

    _look: Connection

    def execute(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        raise NotImplementedError(f"{query} {values}")

    def next_due(self) -> datetime | None:
        return _earliest(*(at and at.astimezone(UTC) for at in self._look.execute(text(_DUE)).one()))

    def state(self) -> dict[str, list[str]]:
        return {name: sorted(map(_line, self._look.execute(text(query)))) for name, query in _STATE.items()}


def _earliest(chore: datetime | None, work: datetime | None) -> datetime | None:
    """Return when somebody has to wake; chores wait for the next full quarter of a day."""
    if chore is not None:
        chore += -(chore - datetime.min.replace(tzinfo=UTC)) % _TOGETHER
    return min((at for at in (chore, work) if at is not None), default=None)


def _line(row: Any) -> str:
    return json.dumps([int(value) if isinstance(value, bool) else value for value in row], default=str)


def digest(state: dict[str, list[str]]) -> str:
    """Return a state in few letters."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
