"""One seed, from its first request to its last øre."""

from __future__ import annotations

import atexit
import logging
import random
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from flask_migrate import upgrade

from app import create_app
from invoice.cli.stand_in import simulator_environ
from invoice.config import Settings
from invoice.store.db import db
from tests.simulation.chance import Time, governed
from tests.simulation.databases import PostgreSQL, SQLite
from tests.simulation.house import SERVICE, START, VIPPS, house
from tests.simulation.judge import Judge, Violation
from tests.simulation.operators import Operators
from tests.simulation.people import People

# What is done every few minutes in case something was missed is done less often: a year must pass in seconds.
_SELDOM, _LONG = timedelta(days=1), 60
# After the last trouble everything that is owed is done within so long: half of it after people have done their last.
_CALM = timedelta(days=20)


@dataclass(frozen=True)
class Outcome:
    """What came of a seed. violation: None when everything held."""

    seed: int
    violation: str | None
    story: list[str]
    deaths: int
    boundaries: int
    state: dict[str, list[str]]


@cache
def _empty() -> Path:
    """Return a database with all tables and nothing in them."""
    path = _new_folder() / "empty.sqlite3"
    environ = {
        "INVOICE_DATABASE_URL": f"sqlite:///{path}",
        "INVOICE_PUBLIC_URL": SERVICE,
        "INVOICE_SECRET_KEY": "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5",
        **simulator_environ(VIPPS),
    }
    with create_app(Settings.from_environ(environ)).app_context():
        upgrade()
        db.engine.dispose()  # the last connection leaves everything in the one file
    return path


@cache
def _folder() -> Path:
    """Return where a seed's files lie, always the same place."""
    return _new_folder()


def _new_folder() -> Path:
    """Make a folder that goes with the process: in memory, where there is any."""
    memory = Path("/dev/shm")  # noqa: S108
    folder = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def silent() -> Iterator[None]:
    """Have nothing logged: what goes wrong here is meant to."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def simulate(
    seed: int, *, days: int = 60, subscriptions: int = 4, postgres: str = "", lost: timedelta | None = None
) -> Outcome:
    """Live through a seed and judge it.

    postgres: the address of a database to live it in; it is not judged then.
    lost: how much the database forgets when it is set back, once, somewhere in the first half.
    """
    empty = _empty()
    # From January to March: ends of months of all lengths, and a change of the clocks.
    start = START + timedelta(days=random.Random(f"start {seed}").randrange(75))
    time = Time(start)
    folder = _folder()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    violation = None
    database = PostgreSQL(postgres) if postgres else SQLite(folder, empty)
    seldom = _SELDOM if days <= _LONG else 7 * _SELDOM
    with silent(), governed(seed, time) as dice, house(folder, database, dice, time, seldom, lost) as world:
        world.crash_chance *= 4 / max(4, subscriptions)  # or the more there is to do, the less would be alive
        calm = min(_CALM, timedelta(days=12 + days))
        people = People(world, days=days, subscriptions=subscriptions, until=start + timedelta(days=days) + calm / 2)
        judge = Judge(world, people, Operators(world, people, days=days))
        if not postgres:
            world.checks.append(judge.always)
        try:
            world.run(start + timedelta(days=days))
            world.calm_down()
            world.run(start + timedelta(days=days) + calm)
            if not postgres:
                judge.finally_()
        except Violation as error:
            violation = str(error)
        except Exception:  # noqa: BLE001 - what nobody foresaw is a finding, too
            violation = traceback.format_exc()
        return Outcome(seed, violation, world.stories, world.deaths, sum(world.passed.values()), database.state())
