"""What the tests of the faces share."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.factories import a_partner


@pytest.fixture
def as_in_production(app: Flask) -> None:
    """An exception that nobody catches is an answer, not the end of the test."""
    app.testing = False


@pytest.fixture
def the_usual_partner(app: Flask) -> None:
    a_partner()
