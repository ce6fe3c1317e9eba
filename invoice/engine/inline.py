"""The embedded engine: one thread in the process of the service that runs whatever is due.

It may be killed at any moment and there may be any number of it: what is due stands in the tables, with leases.
"""

from __future__ import annotations

import logging
import threading

from flask import Flask

from invoice.services.jobs import Jobs, beat
from invoice.services.journal import Journal

logger = logging.getLogger(__name__)

# Something due is begun within this time. An empty round costs a few milliseconds.
_PAUSE_S = 0.25


class Engine:
    """Runs the jobs, again and again."""

    def __init__(self, app: Flask, jobs: Jobs, journal: Journal | None = None) -> None:
        """journal: tells when the books have gone back; None for somebody who looks after that alone."""
        self._app = app
        self._jobs = jobs
        self._journal = journal
        self._round = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def run_once(self) -> bool:
        """Do what is due; return whether anything was. Rounds do not overlap within a process."""
        with self._round, self._app.app_context():
            if self._journal is not None:
                self._journal.watch()
            return self._jobs.run_pending() > 0

    def run(self) -> None:
        """Go round until `stop`; while there is work, without a pause."""
        while not self._stopping.is_set():
            try:
                is_busy = self.run_once()
                with self._app.app_context():
                    beat()
            except Exception:
                # The database is away, say. The next round tries again; nothing is remembered here.
                logger.exception("A round of the engine failed.")
                is_busy = False
            if not is_busy:
                self._stopping.wait(_PAUSE_S)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the round that is running."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
