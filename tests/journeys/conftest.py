"""The demo, started once for each test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.demo import Demo


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "data")
    running.start()
    yield running
    status = running.stop()
    assert status == 0, "the demo did not stop cleanly"
