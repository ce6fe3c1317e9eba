"""A small disk of which nobody else has a part, and which can be full."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DISK_MB = 256


def memory() -> Path | None:
    """Return a folder in memory, where there is one: what dies here is processes, and never the machine."""
    folder = Path("/dev/shm")  # noqa: S108
    return folder if folder.is_dir() else None


class Disk:
    """A folder, and a balloon in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._balloon = folder / "balloon"

    def fill(self) -> None:
        """Leave no room: what is free is taken, to the last page."""
        # Without a buffer: what is left in one would be written, and fail, when the file is closed.
        with self._balloon.open("wb", buffering=0) as balloon, suppress(OSError):
            while True:
                balloon.write(bytes(64 * 1024))

    def free(self) -> None:
        """Make room again."""
        self._balloon.unlink()


@contextmanager
def a_small_disk() -> Iterator[Disk]:
    """Mount a disk in memory. Raises OSError where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="disk") as folder:
        command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "none", folder]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            raise OSError("No disk can be mounted here.")
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["/bin/umount", "--lazy", folder], check=False)
