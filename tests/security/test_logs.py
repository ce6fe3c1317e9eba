"""What a log line may hold, whoever writes it: no key to anything, nobody's number, and one line for one message."""

from __future__ import annotations

import io
import logging

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from invoice.clock import utc_now
from invoice.store.db import db, transaction
from invoice.store.models import Partner
from invoice.web import logs
from tests.security.canary import PHONE, listening

TOKEN = "A" * 22
ASKED = {
    f"GET /s/{TOKEN}?notice=refused": "GET /s/***?***",
    f"POST /manage/{TOKEN}/stop": "POST /manage/***/stop",
    f"POST //hooks//vipps/{TOKEN}": "POST //hooks//vipps/***",
    f"GET /api/recurring/return/10295/{TOKEN}": "GET /api/recurring/return/10295/***",
    "DELETE /api/recurring/cancel/kari@example.com/x": "DELETE /api/recurring/cancel/***",
    "POST /api/recurring/kari@example.com/resend": "POST /api/recurring/***/resend",
    "GET /api/transactions?referenceId=kari@example.com": "GET /api/transactions?***",
    f"GET /{PHONE}": "GET /***",
    "GET /%2b4799887766/x": "GET /***/x",
    "GET /api/recurring/subscriptions/10295/5/2026-11-21": "GET /api/recurring/subscriptions/10295/5/2026-11-21",
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("asked", ASKED)
def test_an_access_line_tells_what_was_asked_and_neither_what_opens_it_nor_of_whom(asked: str, app: Flask):
    with listening() as heard:
        logging.getLogger("werkzeug").info('%s "\x1b[31m%s\x1b[0m" %s', "127.0.0.1", f"{asked} HTTP/1.1", 200)

    assert f'127.0.0.1 "{ASKED[asked]} HTTP/1.1" 200' in heard.lines[-1]
    assert asked == ASKED[asked] or asked not in heard.lines[-1]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to standard error, in the service's own form."""
    root, err = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    logs.prepare()
    root.handlers[0].setStream(err)  # type: ignore[attr-defined]
    return err


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b[31m", "\u202e", "\u2028", "\x00", "\x85"])
def test_nobody_can_forge_a_line(written: io.StringIO, sign: str):
    logging.getLogger("invoice.x").warning("Refused: %s", f"a{sign}2026-11-21T08:00:00.000Z INFO All is well.")

    assert written.getvalue().count("\n") == 1
    assert sign not in written.getvalue().rstrip("\n")
    assert "Refused: a\\" in written.getvalue()


def test_a_traceback_shows_no_row_of_a_table_whoever_writes_it(app: Flask):
    with listening() as heard:
        try:
            with transaction():
                db.session.add(Partner(id=7, name=PHONE, market="NO", sms_originator=None, created_at=utc_now()))
                db.session.flush()
        except IntegrityError:
            logging.getLogger("invoice.x").exception("It failed.")

    line = heard.lines[-1]
    assert "IntegrityError" in line
    assert "sms_originator" in line
    assert PHONE not in line
