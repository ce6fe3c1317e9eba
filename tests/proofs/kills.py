"""kill -9: at every boundary, of workers under load, of a whole PostgreSQL; and a disk that is full.

`python -m tests.proofs.kills sqlite operations._settle` tries the cells of one boundary and says what went wrong.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.proofs.boundaries import boundaries
from tests.proofs.dying import DISK_FULL
from tests.proofs.figures import Figure
from tests.proofs.kill_disk import a_small_disk, memory
from tests.proofs.kill_driver import DOWNTIMES, Driver
from tests.proofs.kill_flows import FLOWS, REACHED_BY
from tests.proofs.kill_judge import Essence, essence, is_quiet, judge
from tests.proofs.kill_load import outages, random_kills
from tests.proofs.kill_postgres import a_postgres
from tests.proofs.kill_world import Sqlite, World, prepared

SIDES = ("before", "after")
_SERIES = 10


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
        driver = Driver(self._world, [f"{cell.boundary} {cell.side} {number}"], DOWNTIMES[cell.moment])
        _, wrong = self._run(driver, flow, usual.essence)
        if driver.deaths != 1:
            wrong.append(f"died {driver.deaths} times at pass {number} of {often}")
        return wrong

    def pass_through(self, flow: str, side: str) -> list[str]:
        """Run a flow that dies at the first pass of each of its boundaries in turn; return what is wrong after it.

        A boundary that so many deaths lead past has a death of its own.
        """
        usual = self.usual(flow)
        driver = Driver(self._world, [f"{name} {side} 1" for name, by in REACHED_BY.items() if by == flow])
        _, wrong = self._run(driver, flow, usual.essence)
        missed = [Cell(end.split()[0], side, moment=0) for end in driver.ends]
        return [*wrong, *(fault for cell in missed for fault in self.run(cell))]

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


def run(
    chosen: Sequence[Cell],
    world: World,
    tell: Callable[[str], None] = lambda _: None,
    until: float = math.inf,
) -> dict[Cell, list[str]]:
    """Run cells, beginning none after an instant; return those that were run, and what was wrong after each."""
    matrix, tried = Matrix(world), {}
    for cell in chosen:
        began = time.monotonic()
        if began >= until:
            break
        tried[cell] = wrong = matrix.run(cell)
        tell(f"{time.monotonic() - began:5.2f} s  {cell}  {wrong or ''}")
    return tried


@contextmanager
def a_folder() -> Iterator[Path]:
    """Give a folder that goes again, in memory where there is any."""
    with tempfile.TemporaryDirectory(dir=memory(), prefix="kill") as folder:
        yield Path(folder)


@contextmanager
def a_world(kind: str, **environ: str) -> Iterator[World]:
    """Give a world on SQLite, or on a PostgreSQL of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(a_folder())
        database = stack.enter_context(a_postgres()) if kind == "postgres" else None
        yield stack.enter_context(prepared(folder, database, **environ))


@dataclass(frozen=True)
class Part:
    """One row of the table. run: does so many until an instant; returns how many it did, and what went wrong."""

    what: str
    whole: int
    run: Callable[[int, float], tuple[int, list[str]]]


def parts() -> list[Part]:
    """Return what there is to do: at every boundary, at random, the whole of a database, and a disk that is full."""
    kinds = ("sqlite", "postgres")
    return [
        *(Part(f"kill -9 at each boundary, {kind}", len(cells()), partial(_matrix, kind)) for kind in kinds),
        *(Part(f"kill -9 of workers under load, {kind}", 250, partial(_workers, kind)) for kind in kinds),
        Part("kill -9 of all of PostgreSQL", 50, _in_series(_postgres)),
        Part("disk full, SQLite that finds no page", 10, _in_series(_no_page)),
        Part("disk full, SQLite", 10, _in_series(_full_sqlite)),
        Part("disk full, PostgreSQL", 10, _in_series(_full_postgres)),
    ]


def prove(size: float, which: str = "", minutes: float = math.inf) -> Iterator[Figure]:
    """Do each part; less of it below 1.0.

    which: a word of the only parts that are done.  minutes: none of them begins anything new after so many.
    """
    for part in parts():
        if which in part.what:
            yield _figure(part, max(1, round(part.whole * size)), time.monotonic() + 60 * minutes)


def _figure(part: Part, wanted: int, until: float) -> Figure:
    """Do a part of the proof and count. What cannot be done here has reached nothing, and says why."""
    began = time.monotonic()
    try:
        reached, wrong = part.run(wanted, until)
    except OSError as error:
        reached, wrong = 0, [str(error)]
    seconds = time.monotonic() - began
    return Figure("kills", part.what, wanted, reached, len(wrong), seconds, "; ".join(map(str, wrong))[:500])


def _matrix(kind: str, count: int, until: float) -> tuple[int, list[str]]:
    """Run so many cells, spread evenly over the matrix wherever it ends."""
    with a_world(kind) as world:
        tried = run(spread(cells())[:count], world, _tell, until)
    return len(tried), [f"{cell}: {wrong}" for cell, wrong in tried.items() if wrong]


def spread(every: Sequence[Cell]) -> list[Cell]:
    """Return cells in an order of which each beginning is spread evenly: by the bits of their numbers, read backwards.

    Source: van der Corput's sequence.
    """
    width = len(every).bit_length()
    return [every[number] for number in sorted(range(len(every)), key=lambda n: f"{n:0{width}b}"[::-1])]


def _in_series(run_some: Callable[[int, int], list[str]]) -> Callable[[int, float], tuple[int, list[str]]]:
    """Do so many in series of at most ten, each with a seed of its own, its coming to rest and its judge."""

    def run_all(times: int, until: float) -> tuple[int, list[str]]:
        reached, wrong = 0, []
        while reached < times and time.monotonic() < until:
            some = min(_SERIES, times - reached)
            try:
                found = run_some(some, reached + some)
            except AssertionError as error:  # somebody who asks and asks is never answered
                found = [str(error)]
            _tell(f"{some} more  {found or ''}")
            reached, wrong = reached + some, wrong + found
        return reached, wrong

    return run_all


def _workers(kind: str, times: int, until: float) -> tuple[int, list[str]]:
    with a_world(kind) as world:
        return _in_series(lambda kills, seed: random_kills(world, kills, seed))(times, until)


def _postgres(times: int, seed: int) -> list[str]:
    with a_folder() as folder, a_postgres() as server, prepared(folder, server) as world:
        return outages(world, times, seed, away=server.kill_all, back=server.start)


def _no_page(times: int, seed: int) -> list[str]:
    """The statements fail that need another page; nothing else does."""
    with a_folder() as folder:
        full = folder / "full"
        with prepared(folder, **{DISK_FULL: str(full)}) as world:
            return outages(world, times, seed, away=full.touch, back=full.unlink)


def _full_sqlite(times: int, seed: int) -> list[str]:
    """The log finds no room, so that the commits fail; and the note outside of the database has none either."""
    with a_folder() as folder, a_small_disk() as disk:
        database, journal = Sqlite(disk.folder), disk.folder / "journal.json"
        with prepared(folder, database, INVOICE_JOURNAL=str(journal)) as world:

            def fill() -> None:
                database.empty_log()  # what has been used once would be room
                disk.fill()

            return outages(world, times, seed, away=fill, back=disk.free)


def _full_postgres(times: int, seed: int) -> list[str]:
    with a_folder() as folder, a_small_disk() as disk, a_postgres(disk.folder) as server:

        def free() -> None:
            disk.free()
            server.start_if_gone()

        with prepared(folder, server) as world:
            return outages(world, times, seed, away=disk.fill, back=free)


def _tell(line: str) -> None:
    """Say on the side how far it is: what is counted goes to the table."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - shows it lives


def main(kind: str, wanted: Sequence[str]) -> None:
    """Run the cells of some boundaries or moments, or all, and tell each."""
    some = [c for c in cells() if not wanted or c.boundary in wanted or str(c.moment) in wanted]
    with a_world(kind) as world:
        run(some, world, _tell)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
