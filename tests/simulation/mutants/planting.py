"""How a bug is planted: a function that returns patches over the real code, known by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from tests.simulation import databases

Patches = list[Any]

MUTANTS: dict[str, Callable[[], Patches]] = {}


def mutant(build: Callable[[], Patches]) -> Callable[[], Patches]:
    """Enter a bug."""
    MUTANTS[build.__name__] = build
    return build


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have a bug in the code."""
    with ExitStack() as stack:
        for each in MUTANTS[name]():
            stack.enter_context(each)
        yield


def unguarded(*guards: str) -> Patches:
    """Take a second fence away, which the database holds: "TRIGGER charges_moves"."""
    dropped = "".join(f"DROP {guard};\n" for guard in guards)
    return [patch.object(databases, "WATCH", databases.WATCH + dropped)]
