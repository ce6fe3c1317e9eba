"""Proofs that are tests with a number: how many cases they try is told by an option or the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.proofs.figures import Figure

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Suite:
    """A test file, how it is told its number, and how many times that is done in it."""

    what: str
    file: str
    cases: int
    times: int
    option: str = ""  # empty: the environment's FUZZ_CASES


_SUITES = (
    Suite("fuzzed requests to the service, 0 server errors", "tests/web/test_fuzz.py", 25_000, 2),
    Suite("fuzzed requests to the stand-in, 0 server errors", "tests/simulator/test_fuzz.py", 50_000, 1),
    Suite("forged signatures, 0 accepted", "tests/web/test_auth_mutations.py", 100_000, 1, "--mutations"),
)


def prove(size: float) -> Iterator[Figure]:
    """Run a share of each."""
    for suite in _SUITES:
        cases, began = max(1, round(suite.cases * size)), time.monotonic()
        options = [suite.option, str(cases)] if suite.option else []
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", suite.file, *options]
        environ = {**os.environ, "FUZZ_CASES": str(cases)}
        run = subprocess.run(command, cwd=_ROOT, env=environ, capture_output=True, text=True, check=False)
        failed = sum(map(int, re.findall(r"(\d+) (?:failed|errors?)\b", run.stdout))) or int(run.returncode != 0)
        reached = cases * suite.times
        seconds = time.monotonic() - began
        yield Figure("hostile input", suite.what, reached, reached, failed, seconds, suite.file)
