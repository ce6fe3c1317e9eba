"""kill -9: at every boundary, of workers under load, of a whole PostgreSQL; and a disk that is full.

`python -m tests.proofs.kills sqlite operations._settle` tries the cells of one boundary and says what went wrong.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.proofs.boundaries import boundaries
from tests.proofs.dying import DISK_FULL
from tests.proofs.figures import Figure
from tests.proofs.kill_driver import DOWNTIMES, Driver
from tests.proofs.kill_flows import FLOWS, REACHED_BY
from tests.proofs.kill_judge import Essence, essence, is_quiet, judge
from tests.proofs.kill_load import outages, random_kills
from tests.proofs.kill_postgres import a_postgres
from tests.proofs.kill_world import World, prepared

SIDES = ("before", "after")


@dataclass(frozen=True)
class Cell:
    """One death: at which boundary, on which of its sides, and at which of three moments."""

    boundary: str
    side: str
    moment: int  # the first pass, one in the middle, or the last; nobody there for ever longer afterwards

    def __str__(self) -> str:
        return f"{self.boundary} {self.side}, moment {self.moment}"


def cells(moments: int = 3) -> list[Cell]:
    """Return the matrix, boundary by boundary."""
    reached = [name for name in boundaries() if name in REACHED_BY]
    return [Cell(name, side, moment) for name in reached for side in SIDES for moment in range(moments)]


@dataclass(frozen=True)
class Usual:
    """What comes of a flow when nobody dies: how often it passes each boundary, and how it ends."""

    passes: dict[str, int]
    essence: Essence


class Matrix:
    """Runs cells in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._usual: dict[str, Usual] = {}

    def usual(self, flow: str) -> Usual:
        """Run a flow undisturbed, once. Raises AssertionError if that ends badly."""
        if flow not in self._usual:
            driver = Driver(self._world)
            passes, wrong = self._run(driver, flow, None)
            assert wrong == [], f"{flow}, undisturbed: {wrong}"
            self._usual[flow] = Usual(passes, essence(driver))
        return self._usual[flow]

    def run(self, cell: Cell) -> list[str]:
        """Run one cell; return what is wrong after it."""
        flow = REACHED_BY[cell.boundary]
        usual = self.usual(flow)
        often = usual.passes.get(f"{cell.boundary} {cell.side}", 0)
        if not often:
            return [f"{flow} does not reach it"]
        number = (1, (often + 1) // 2, often)[cell.moment]
        driver = Driver(self._world, f"{cell.boundary} {cell.side} {number}", DOWNTIMES[cell.moment])
        _, wrong = self._run(driver, flow, usual.essence)
        if driver.deaths != 1:
            wrong.append(f"died {driver.deaths} times at pass {number} of {often}")
        return wrong

    def _run(self, driver: Driver, flow: str, usual: Essence | None) -> tuple[dict[str, int], list[str]]:
        try:
            FLOWS[flow](driver)
            is_over = driver.come_to_rest(lambda: is_quiet(self._world))
            wrong = judge(driver, usual)
            return driver.passes(), wrong if is_over else [*wrong, "it never came to rest"]
        except AssertionError as error:
            if usual is None:
                raise
            return {}, [str(error)]
        finally:
            driver.end()


def run(chosen: Sequence[Cell], world: World, tell: Callable[[str], None] = lambda _: None) -> dict[Cell, list[str]]:
    """Run cells; return those after which something was wrong."""
    matrix, found = Matrix(world), {}
    for cell in chosen:
        began = time.monotonic()
        wrong = matrix.run(cell)
        if wrong:
            found[cell] = wrong
        tell(f"{time.monotonic() - began:5.2f} s  {cell}  {wrong or ''}")
    return found


@contextmanager
def a_folder() -> Iterator[Path]:
    """Give a folder that goes again, in memory where there is any."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="kill") as folder:
        yield Path(folder)


@contextmanager
def a_world(kind: str, **environ: str) -> Iterator[World]:
    """Give a world on SQLite, or on a PostgreSQL of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(a_folder())
        database = stack.enter_context(a_postgres()) if kind == "postgres" else None
        yield stack.enter_context(prepared(folder, database, **environ))


def prove(size: float) -> Iterator[Figure]:
    """Kill at every boundary, at random, the whole of a database, and fill its disk; less of each below 1.0."""
    for kind in ("sqlite", "postgres"):
        yield _figure(f"kill -9 at each boundary, {kind}", lambda n, kind=kind: _matrix(kind, n), len(cells()), size)
    for kind in ("sqlite", "postgres"):
        yield _figure(f"kill -9 of workers under load, {kind}", lambda n, kind=kind: _workers(kind, n), 250, size)
    yield _figure("kill -9 of all of PostgreSQL", _postgres, 50, size)
    yield _figure("disk full, SQLite", _full_sqlite, 10, size)
    yield _figure("disk full, PostgreSQL", _full_postgres, 10, size)


def _figure(what: str, run_some: Callable[[int], list[str]], whole: int, size: float) -> Figure:
    """Run a part of the proof and count. What cannot be run here has reached nothing, and says why."""
    began, wanted = time.monotonic(), max(1, round(whole * size))
    try:
        wrong, reached = run_some(wanted), wanted
    except OSError as error:
        wrong, reached = [str(error)], 0
    seconds = time.monotonic() - began
    return Figure("kills", what, wanted, reached, len(wrong), seconds, "; ".join(map(str, wrong))[:500])


def _matrix(kind: str, count: int) -> list[str]:
    """Run so many cells, spread evenly over the matrix."""
    every = cells()
    with a_world(kind) as world:
        found = run([every[number * len(every) // count] for number in range(count)], world)
    return [f"{cell}: {wrong}" for cell, wrong in found.items()]


def _workers(kind: str, kills: int) -> list[str]:
    with a_world(kind) as world:
        return random_kills(world, kills, seed=kills)


def _postgres(times: int) -> list[str]:
    with a_folder() as folder, a_postgres() as server, prepared(folder, server) as world:
        return outages(world, times, seed=times, away=server.kill_all, back=server.start)


def _full_sqlite(times: int) -> list[str]:
    with a_folder() as folder:
        full = folder / "full"
        with prepared(folder, **{DISK_FULL: str(full)}) as world:
            return outages(world, times, seed=times, away=full.touch, back=full.unlink)


def _full_postgres(times: int) -> list[str]:
    with a_folder() as folder, a_postgres(on_small_disk=True) as server, prepared(folder, server) as world:
        return outages(world, times, seed=times, away=server.fill_disk, back=server.free_disk)


def main(kind: str, wanted: Sequence[str]) -> None:
    """Run the cells of some boundaries or moments, or all, and tell each."""
    some = [c for c in cells() if not wanted or c.boundary in wanted or str(c.moment) in wanted]
    with a_world(kind) as world:
        run(some, world, lambda line: print(line, flush=True))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
