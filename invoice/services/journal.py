"""What this worker has seen of the books, noted outside of them: so that it knows when they have gone back.

A database that was restored from a backup, or a standby that takes over without the last commits, looks sound from
the inside. What was done since is known to Vipps and to nobody here, so nothing may leave until it is read back.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from invoice.clock import utc_now
from invoice.services import brakes
from invoice.store import queries
from invoice.store.db import reading, transaction

logger = logging.getLogger(__name__)

_EVERY = timedelta(seconds=5)
WENT_BACK = "the books have gone back: run `flask reconcile`"


class Journal:
    """Notes how far the books are, in a file of this machine.

    path: empty for none.  address: the database's; each has a note of its own in the file.
    """

    def __init__(self, path: str, address: str) -> None:
        self._path = Path(path) if path else None
        self._address = address
        self._seen: queries.Marks | None = None
        self._noted: queries.Marks | None = None  # what stands in the file
        self._noted_at: datetime | None = None

    def watch(self) -> None:
        """Hold everything when the books have gone back since the last note, and note how far they are now."""
        if self._path is None:
            return
        if self._seen is None:
            self._seen = self._noted = read(self._path, self._address)
        with reading():
            now, is_used = queries.marks(), queries.is_anybody_there()
        if self._seen is not None and is_used and now.is_behind(self._seen):
            if not self._is_held():
                with transaction():
                    # Asked once more: since that look somebody may have read them back.
                    if queries.marks().is_behind(self._seen):
                        brakes.pull(None, WENT_BACK, is_frozen=True)
                        queries.skip_numbers(self._seen)
            return
        # What was seen counts from the moment that it was seen, on the disk or not.
        self._seen = now
        is_old = self._noted_at is None or utc_now() - self._noted_at >= _EVERY
        if is_old and now != self._noted:
            note(self._path, self._address, now)
            self._noted, self._noted_at = now, utc_now()

    def _is_held(self) -> bool:
        with reading():
            return brakes.is_frozen()


def read(path: Path, address: str) -> queries.Marks | None:
    """Return what was noted last of the database at an address, or None when nothing was."""
    found = _all(path).get(_name(address))
    return None if found is None else queries.Marks(**found)


def note(path: Path, address: str, marks: queries.Marks) -> None:
    """Write marks down so that they outlive a power cut: whole or not at all."""
    noted = _all(path) | {_name(address): marks.as_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")  # others may be writing theirs
    with new.open("w") as file:
        json.dump(noted, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _all(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _name(address: str) -> str:
    """Return an address without what is secret in it."""
    parts = urlsplit(address)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return sha256(place.encode()).hexdigest()[:16]
