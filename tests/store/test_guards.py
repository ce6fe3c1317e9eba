"""The database holds the state machines itself, and keeps what was sent as it was."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError

from invoice.lifecycle import AGREEMENT_MOVES, CHARGE_MOVES, MESSAGE_MOVES, SUBSCRIPTION_MOVES, ChargeStatus, may_move
from invoice.services.jobs import Services
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Charge, Message, Subscription
from tests.factories import a_partner, an_active_subscription
from tests.fakes import FakePayments

# table, its moves, and what a copy of a row must have of its own
_TABLES: list[Any] = [
    (Agreement, AGREEMENT_MOVES, {"attempt": 9, "return_id": "x", "provider_agreement_id": None, "is_adopted": False}),
    (Charge, CHARGE_MOVES, {"name": "x", "period": 9}),
    (Message, MESSAGE_MOVES, {"provider_message_id": None}),
    (Subscription, SUBSCRIPTION_MOVES, {"ulid": "x", "link_token": "x", "manage_token": "x"}),
]
_NUMBER = 4711


class _Undone(Exception):
    """What was tried springs back."""


def _takes(*statements: Any) -> bool:
    """Tell whether the database takes the last of these statements; none of them stays."""
    done = 0
    with suppress(DBAPIError, _Undone), transaction():
        for statement in statements:
            db.session.execute(statement)
            done += 1
        raise _Undone
    assert done >= len(statements) - 1, "what comes before must be possible"
    return done == len(statements)


@pytest.mark.parametrize(("model", "moves", "own"), _TABLES, ids=[row[0].__tablename__ for row in _TABLES])
def test_the_database_takes_the_moves_of_the_table_and_no_other(
    services: Services, payments: FakePayments, model: Any, moves: Any, own: dict[str, Any]
):
    a_partner()
    an_active_subscription(services, payments, campaign_amount=1000, send_sms=True)
    table = model.__table__
    with reading():
        row = {**db.session.execute(select(table).limit(1)).mappings().one(), **own, "id": _NUMBER}

    def takes(old: Any, new: Any) -> bool:
        there = insert(table).values(**{**row, "status": old})
        return _takes(there, update(table).where(table.c.id == _NUMBER).values(status=new))

    pairs = product(moves, moves)
    wrong = [(old, new) for old, new in pairs if takes(old, new) != (old == new or may_move(moves, old, new))]

    assert wrong == []


def test_what_was_sent_never_changes(services: Services, payments: FakePayments):
    a_partner()
    an_active_subscription(services, payments, campaign_amount=1000)
    sent = update(Charge).values(sends=1)

    assert _takes(update(Charge).values(currency="DKK"))
    assert not _takes(sent, update(Charge).values(currency="DKK"))
    assert not _takes(sent, update(Charge).values(name="other"))
    assert _takes(sent, update(Charge).values(retry_days=3, status=ChargeStatus.CHARGED))
