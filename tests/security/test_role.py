"""The service with a role in PostgreSQL that has no power over tables: it can live a whole story, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from flask import Flask
from sqlalchemy import Connection, make_url, select, text
from sqlalchemy.exc import ProgrammingError

from invoice.cli.database import role as role_command
from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services import health, partners, privacy
from invoice.services.jobs import Jobs, Services
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import IdempotencyKey, Partner, Subscription
from tests.conftest import Caller, StandingClock, environ_for, opened
from tests.factories import accept, charges, settle, subscription, unhurried
from tests.fakes import FakePayments, FakeSms
from tests.web.bad_bodies import GOOD, basic

ROLE = "invoice_runtime"
WISH = {name: value for name, value in GOOD.items() if "allback" not in name}

pytestmark = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def printed(name: str) -> str:
    done = CliRunner().invoke(role_command, [name])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def address(database_url: str, broom: Connection) -> str:
    """The database, for the role that the owner has just made, a second time too."""
    for _ in range(2):
        broom.connection.driver_connection.execute(printed(ROLE))
    return make_url(database_url).set(username=ROLE).render_as_string(hide_password=False)


@pytest.fixture
def app(address: str, payments: FakePayments, sms: FakeSms, time: StandingClock) -> Iterator[Flask]:
    with opened(environ_for(address), payments=payments, sms=sms) as app:
        app.test_client_class = Caller
        yield app


def test_a_whole_story_is_lived_with_it(app: Flask, services: Services, payments: FakePayments, time: StandingClock):
    partners.add(10295, "Avisen", sms_originator="2119", secret="a-partner-secret-10295")
    client, jobs = app.test_client(), unhurried(Jobs(services))
    asked = client.post("/api/recurring/subscribe", json=WISH, headers={**basic(), "Idempotency-Key": "once"})
    number = asked.json["subscriptionId"]
    accept(services, payments, number)
    for _ in range(40):
        time.move(days=1)
        settle(jobs)
    for name in payments.names():
        payments.settle_charge(name, ChargeStatus.CHARGED)
    time.move(days=1)
    settle(jobs)
    taken = [charge.status for charge in charges(number)]
    cancelled = client.delete(f"/api/recurring/cancel/{number}", headers=basic())
    settle(jobs)

    assert (asked.status_code, cancelled.status_code) == (200, 200)
    assert ChargeStatus.CHARGED in taken
    assert subscription(number).status == SubscriptionStatus.CANCELLED

    time.move(days=7 * 366)
    settle(jobs)

    with reading():
        assert privacy.overdue() == {}
        assert db.session.scalars(select(Subscription.id)).all() == []
        assert db.session.scalars(select(IdempotencyKey.id)).all() == []
        assert db.session.scalars(select(Partner.id)).all() == [10295]
    assert health.check()["migrations"]


def test_numbers_can_be_set_on_after_a_restore_with_it(app: Flask):
    with transaction():
        queries.skip_numbers(queries.marks())
        a_number = text("SELECT nextval('subscriptions_id_seq')")

        assert db.session.execute(a_number).scalar_one() == 1001


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine SUPERUSER",
        "ALTER TABLE charges ADD COLUMN mine int",
        "ALTER TABLE charges DISABLE TRIGGER ALL",
        "ALTER ROLE invoice_runtime SUPERUSER",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "DROP TABLE charges",
        "TRUNCATE charges CASCADE",
        "SET session_replication_role = replica",
        "UPDATE alembic_version SET version_num = '0'",
        "DELETE FROM partners",
        "DELETE FROM brakes",
        "DELETE FROM provider_accounts",
        "COPY partners TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/hosts')",
    ],
)
def test_it_changes_no_table_and_takes_no_power(app: Flask, statement: str):
    with pytest.raises(ProgrammingError, match=r"permission denied|must be (owner|superuser)"), transaction():
        db.session.execute(text(statement))


def test_it_is_no_superuser_and_owns_nothing(app: Flask):
    powers = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"

    with reading():
        asked = db.session.execute(text(f"SELECT current_user, {powers} FROM pg_roles WHERE rolname = current_user"))  # noqa: S608
        owned = "SELECT count(*) FROM pg_class JOIN pg_roles r ON relowner = r.oid WHERE rolname = current_user"
        assert tuple(asked.one()) == (ROLE, False, False, False, False, False)
        assert db.session.execute(text(owned)).scalar_one() == 0


def test_a_role_with_powers_is_not_taken(database_url: str, broom: Connection):
    for name, power in (("with_power", "SUPERUSER"), ("with_friends", "IN ROLE pg_read_all_data")):
        broom.execute(text(f"CREATE ROLE {name} {power}"))
        try:
            with pytest.raises(Exception, match="has powers already"):
                broom.connection.driver_connection.execute(printed(name))
        finally:
            broom.connection.driver_connection.execute(f"ROLLBACK; DROP ROLE {name}")


@pytest.mark.parametrize("name", ["Invoice", "a b", "a;b", 'a"b', "1a", "a'", "a" * 64, ""])
def test_a_name_that_would_need_quotes_is_refused(name: str, database_url: str):
    done = CliRunner().invoke(role_command, [name])

    assert (done.exit_code, "small letters" in done.output) == (1, True)
