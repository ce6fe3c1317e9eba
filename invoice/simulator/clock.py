"""The stand-in's clock: the machine's time plus an offset kept on the disk. It runs by itself; `move` shifts it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from invoice.simulator.models import Setting
from invoice.simulator.store import Store

_NAME = "clock_offset_microseconds"


class Clock:
    """What time it is here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        with store.read() as session:
            row = session.get(Setting, _NAME)
        self._offset = timedelta(microseconds=int(row.value) if row else 0)

    def now(self) -> datetime:
        """Return this instant, aware, in UTC."""
        return datetime.now(UTC) + self._offset

    def move(self, by: timedelta) -> None:
        """Shift the clock forward, on the disk first: after a crash no time that was told is told again."""
        with self._lock:
            offset = self._offset + by
            with self._store.write() as session:
                session.merge(Setting(name=_NAME, value=str(offset // timedelta(microseconds=1))))
            self._offset = offset
