"""Count the calls to Vipps that one subscription's whole life takes: asked for, signed, a year of renewals, cancelled.

    python -m bench.vipps_calls

Service and stand-in run in one process on real sockets, webhooks included. Calls that a sales unit makes however many
subscriptions it has stand by themselves: tokens (which live an hour here, as in Vipps' test environment), the list of
webhooks, the roll of agreements, and `create`, which takes 2,000 charges at once.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from flask_migrate import upgrade

from app import create_app
from invoice.config import Settings
from invoice.store.db import db
from tests.conftest import environ_for
from tests.journeys.stand import Stand, standing

SHARED = {"token", "webhooks", "register", "list_agreements", "create"}
MONTHLY = {"basis": 2, "amount": "99", "campaignAmount": "49"}
STEPS = ("asked for, until the person stands at Vipps", "signed", "a year of monthly renewals", "cancelled")


def main() -> None:
    """Live one life and print a row for each step."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/invoice.sqlite3"
        with create_app(Settings.from_environ(environ_for(url))).app_context():
            upgrade()
            db.engine.dispose()
        with standing(Path(folder), url) as stand:
            steps = dict(zip(STEPS, _live(stand), strict=True))
    for step, calls in steps.items():
        own = Counter({name: number for name, number in calls.items() if name not in SHARED})
        print(f"{own.total():4d}  {step}: {_told(own)}")
    total = sum(steps.values(), Counter())
    print(f"{sum(n for name, n in total.items() if name not in SHARED):4d}  in all, of the subscription")
    shared = Counter({name: number for name, number in total.items() if name in SHARED})
    print(f"{shared.total():4d}  of the sales unit in that year: {_told(shared)}")


def _live(stand: Stand) -> list[Counter[str]]:
    counts = []
    seen = len(stand.wire.sent)

    def count() -> None:
        nonlocal seen
        counts.append(Counter(sent.name for sent in stand.wire.sent[seen:]))
        seen = len(stand.wire.sent)

    number = stand.subscribe(**MONTHLY)
    stand.press(number)
    count()
    stand.accept(number)
    count()
    for _ in range(61):
        stand.live(days=6)
    count()
    stand.cancel(number)
    stand.settle()
    count()
    return counts


def _told(calls: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(calls.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
