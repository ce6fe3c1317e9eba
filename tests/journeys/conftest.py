"""The demo, started once for each test that asks for it; and what any process said to the simulator, judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import spec
from tests.journeys.demo import EXCHANGES, Demo
from tests.traffic import kept_in


@pytest.fixture(autouse=True)
def _all_that_was_said_is_inside_the_files(tmp_path: Path) -> Iterator[None]:
    yield
    spec.check(kept_in(tmp_path / EXCHANGES))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "data")
    running.start()
    yield running
    status = running.stop()
    assert status == 0, "the demo did not stop cleanly"
