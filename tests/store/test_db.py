"""The database is as careful as money needs, on both kinds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from flask import Flask
from flask_migrate import check
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from invoice.lifecycle import OperationStatus
from invoice.services.operations import Act, stage
from invoice.store import queries
from invoice.store.db import db, is_transaction_open, reading, set_encryption_keys, transaction
from invoice.store.models import InboundEvent, JobRun, Operation, Partner, WebhookRegistration
from tests.conftest import StandingClock, environ_for

AT = datetime(2026, 11, 10, 11, 0, tzinfo=UTC)


def a_partner_row(number: int = 1) -> Partner:
    return Partner(id=number, name="P", market="NO", sms_originator="1", created_at=AT)


def a_registration(secret: str) -> WebhookRegistration:
    return WebhookRegistration(
        account="123456", token="t", provider_webhook_id="w", url="u", secret=secret, created_at=AT
    )


def is_sqlite() -> bool:
    return db.engine.dialect.name == "sqlite"


def test_sqlite_writes_every_commit_to_the_disk(app: Flask):
    if not is_sqlite():
        with db.engine.connect() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "10s"
        return
    with db.engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_block_that_fails_leaves_nothing(app: Flask):
    def fail() -> None:
        with transaction():
            db.session.add(a_partner_row())
            db.session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    with reading():
        assert db.session.get(Partner, 1) is None


def test_a_transaction_inside_another_is_refused(app: Flask):
    with transaction(), pytest.raises(RuntimeError, match="open already"), transaction():
        pass


def test_what_is_written_while_reading_is_dropped(app: Flask):
    with reading():
        db.session.add(a_partner_row())
        db.session.flush()

    with reading():
        assert db.session.get(Partner, 1) is None


def test_nothing_stays_open_after_a_block(app: Flask):
    with reading():
        db.session.get(Partner, 1)
        assert is_transaction_open()

    assert not is_transaction_open()


def test_a_foreign_key_must_lead_somewhere(app: Flask):
    with pytest.raises(IntegrityError), transaction():
        db.session.execute(
            text("INSERT INTO partner_secrets (partner_id, digest, created_at) VALUES (99, :d, :at)"),
            {"d": b"x" * 32, "at": AT},
        )


def test_a_status_that_no_enum_has_is_refused(app: Flask):
    with pytest.raises(IntegrityError), transaction():
        db.session.execute(
            text(
                "INSERT INTO operations (kind, subject_id, name, key, request, status, in_doubt, attempts, fence,"
                " next_at, created_at) VALUES ('X', 1, 'n', 'k', '', 'HALF', false, 0, 0, :at, :at)"
            ),
            {"at": AT},
        )


def test_an_instant_comes_back_in_utc_whatever_its_zone(app: Flask):
    partner = a_partner_row()
    partner.created_at = datetime(2026, 11, 10, 13, 0, tzinfo=timezone(timedelta(hours=2)))
    with transaction():
        db.session.add(partner)

    with reading():
        found = db.session.get_one(Partner, 1).created_at

    assert (found, found.utcoffset()) == (AT, timedelta(0))


def test_an_instant_without_a_zone_is_refused(app: Flask):
    partner = a_partner_row()
    partner.created_at = AT.replace(tzinfo=None)

    with pytest.raises(Exception, match="naive"), transaction():
        db.session.add(partner)


def test_a_secret_rests_encrypted_and_is_read_with_any_key_of_the_ring(app: Flask):
    set_encryption_keys("the-old-key")
    with transaction():
        db.session.add(a_registration("hush"))
    set_encryption_keys("the-new-key, the-old-key")

    with reading():
        stored = db.session.execute(text("SELECT secret FROM webhook_registrations")).scalar_one()
        read = db.session.get_one(WebhookRegistration, 1).secret
    set_encryption_keys(environ_for("")["INVOICE_SECRET_KEY"])

    assert "hush" not in stored
    assert read == "hush"


def test_rows_that_are_there_already_are_counted_as_none(app: Flask):
    row = {"source": "vipps", "digest": "d", "body": "b", "received_at": AT, "next_at": AT}

    with transaction():
        counts = [queries.insert_ignoring(InboundEvent, [row]) for _ in range(3)]

    assert counts == [1, 0, 0]


def test_a_job_is_taken_by_one_and_again_after_its_lease(app: Flask, time: StandingClock):
    def take() -> bool:
        with transaction():
            return queries.take_job("sweep", time.now(), timedelta(minutes=5))

    taken = [take(), take()]
    time.move(minutes=5)
    taken.append(take())

    assert taken == [True, False, True]
    with reading():
        assert db.session.get_one(JobRun, "sweep").next_at == time.now() + timedelta(minutes=5)


# With all other ways turned off, a subquery is run again for each row.
_NESTED = ("hashjoin", "mergejoin", "material", "hashagg", "sort")


@pytest.mark.parametrize("plan", [(), _NESTED, (*_NESTED, "indexscan", "bitmapscan")])
def test_a_claim_takes_no_more_than_it_is_asked_for_whatever_the_database_plans(app: Flask, plan: tuple[str, ...]):
    with transaction():
        for number in range(4):
            stage(Act("CANCEL", number, None, f"name-{number}"))

    with transaction():
        if db.engine.dialect.name == "postgresql":
            for way in plan:
                db.session.execute(text(f"SET LOCAL enable_{way} = off"))
        claimed = queries.claim_operation(["CANCEL"], AT, timedelta(minutes=2))
        under_way = db.session.scalars(select(Operation.name).where(Operation.status == OperationStatus.INFLIGHT)).all()

        assert claimed is not None
        assert under_way == [claimed.name]


def test_the_tables_are_what_the_migrations_make(app: Flask):
    check()  # raises SystemExit when the models have moved on without a migration
