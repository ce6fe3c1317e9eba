"""Guessing: one partner walks all numbers, reads all pages, and somebody tries random links. Nothing is found."""

from __future__ import annotations

import random
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import date

from flask import current_app
from flask.testing import FlaskClient

from invoice.lifecycle import SubscriptionStatus
from invoice.services import partners
from invoice.store.db import db, reading, transaction
from invoice.store.models import Subscription
from tests.conftest import Caller
from tests.proofs.figures import Figure
from tests.proofs.ground import MARKETS, Subscriber, a_file, enter, opened

SEED, _WAYS = 4711, 3
ROWS, NUMBERS, LINKS = 10_000, 100_000, 1_000_000
_SIGNED_ON = date(2026, 1, 15)
# The partner whose rows are to be found, and the one who looks.
VICTIM, THIEF = MARKETS["NO"][0], MARKETS["DK"][0]
_DOORS = ("/s/", "/manage/", f"/api/recurring/return/{VICTIM}/", f"/api/recurring/process/{VICTIM}/")


def prove(size: float) -> Iterator[Figure]:
    """Guess at a share of the full figures, on SQLite."""
    chance = random.Random(SEED)
    rows, numbers, links = (max(1, int(full * size)) for full in (ROWS, NUMBERS, LINKS))
    with a_file() as address, opened(address):
        owners = {number: chance.choice(("NO", "DK")) for number in range(1, rows + 1)}
        with transaction():
            enter(Subscriber(number, _SIGNED_ON, None, market=owner) for number, owner in owners.items())
        current_app.test_client_class = Caller
        client = current_app.test_client()
        proof = f"{THIEF}:{partners.rotate(THIEF)}"
        client.environ_base["HTTP_AUTHORIZATION"] = "Basic " + b64encode(proof.encode()).decode()
        mine = {number for number, owner in owners.items() if owner == "DK"}
        yield _read(client, mine, rows)
        yield _walk(client, set(owners) - mine, mine, numbers)
        yield _try_links(client, chance, links)


def _read(client: FlaskClient, mine: set[int], rows: int) -> Figure:
    begun, seen = time.perf_counter(), []
    after: int | None = 0
    while after is not None:
        page = client.get(f"/api/recurring/subscriptions/{THIEF}/5/2000-01-01?after={after}").json
        seen += [item["subscriptionId"] for item in page["subscriptions"]]
        after = page.get("nextAfter")
    wrong = len(set(seen) ^ mine) + len(seen) - len(set(seen))
    return _figure("rows of two partners, read as one of them", rows, rows, wrong, begun)


def _walk(client: FlaskClient, others: set[int], mine: set[int], numbers: int) -> Figure:
    """Try all numbers: those that are another's in every way, those that nobody has in one way after the other."""
    begun, found = time.perf_counter(), 0
    nobodys = [_told(client, 2**31 - 1, way) for way in range(_WAYS)]
    assert [status for status, _ in nobodys] == [404] * _WAYS
    for number in range(1, numbers + 1):
        ways = range(_WAYS) if number in others else [] if number in mine else [number % _WAYS]
        found += any(_told(client, number, way) != nobodys[way] for way in ways)
    with reading():
        rest = db.select(db.func.count()).where(Subscription.status != SubscriptionStatus.ACTIVE)
        found += db.session.scalars(rest).one()
    return _figure("numbers tried by a partner whose they are not", numbers, numbers, found, begun)


def _told(client: FlaskClient, number: int, way: int) -> tuple[int, str]:
    """Return what is said about a number to whoever would look at it, cancel it, or have it texted."""
    method, path = (
        ("GET", f"/api/transactions/search/{THIEF}/{number}"),
        ("DELETE", f"/api/recurring/cancel/{number}"),
        ("POST", f"/api/recurring/{number}/resend"),
    )[way]
    answer = client.open(path, method=method)
    return answer.status_code, answer.text.replace(str(number), "#")


def _try_links(client: FlaskClient, chance: random.Random, links: int) -> Figure:
    begun, found = time.perf_counter(), 0
    for place in range(links):
        token = urlsafe_b64encode(chance.randbytes(16)).decode().rstrip("=")
        # 429: so many came from here that no more is said of them; what opens is never held up.
        found += client.get(_DOORS[place % len(_DOORS)] + token).status_code not in (404, 429)
    return _figure("random links opened", links, links, found, begun)


def _figure(what: str, wanted: int, reached: int, found: int, begun: float) -> Figure:
    return Figure("guessing", what, wanted, reached, found, time.perf_counter() - begun, f"seed {SEED}")
