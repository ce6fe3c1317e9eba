"""What this worker has seen of the books, noted outside of them: so that it knows when they have gone back.

A database that was restored from a backup, or a standby that takes over without the last commits, looks sound from
the inside. What was done since is known to Vipps and to nobody here, so nothing may leave until it is read back.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timedelta
from pathlib import Path

from invoice.clock import utc_now
from invoice.services import brakes
from invoice.store import queries
from invoice.store.db import reading, transaction

logger = logging.getLogger(__name__)

_EVERY = timedelta(seconds=5)
WENT_BACK = "the books have gone back: run `flask reconcile`"


class Journal:
    """Notes how far the books are, in a file of this machine. path: empty for none."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._noted: queries.Marks | None = None
        self._noted_at: datetime | None = None

    def watch(self) -> None:
        """Hold everything when the books have gone back since the last note, and note how far they are now."""
        if self._path is None:
            return
        if self._noted is None:
            self._noted = read(self._path)
        with reading():
            now, is_used = queries.marks(), queries.is_anybody_there()
        if self._noted is not None and is_used and now.is_behind(self._noted):
            if not self._is_held():
                with transaction():
                    brakes.pull(None, WENT_BACK, is_frozen=True)
            return
        is_old = self._noted_at is None or utc_now() - self._noted_at >= _EVERY
        if is_old and now != self._noted:
            note(self._path, now)
        if is_old:
            self._noted_at = utc_now()
        # What was seen counts from the moment that it was seen, on the disk or not.
        self._noted = now

    def _is_held(self) -> bool:
        with reading():
            return brakes.is_frozen()


def read(path: Path) -> queries.Marks | None:
    """Return what was noted last, or None when nothing was."""
    if not path.exists():
        return None
    return queries.Marks(**json.loads(path.read_text()))


def note(path: Path, marks: queries.Marks) -> None:
    """Write marks down so that they outlive a power cut: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w") as file:
        json.dump(marks.as_dict(), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
