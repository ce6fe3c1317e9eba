"""Does the time of a refusal tell whether a partner exists? `python -m bench.auth_timing [--rounds 2000]`.

Asks in turn with an unknown partner and with a wrong secret of a known one, and compares the two: the medians, and
Welch's t of what is left without the slowest hundredth. Under 4.5 there is nothing to be seen in so many requests.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import tempfile
import time
from base64 import b64encode
from pathlib import Path

from flask.testing import FlaskClient

from app import create_app
from invoice.config import Settings
from tests.conftest import environ_for, migrate
from tests.factories import a_partner
from tests.fakes import FakePayments, FakeSms

TARGET = "/api/events"
KNOWN, UNKNOWN = 10295, 99999
HOST = "https://pay.example.com"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        address = f"sqlite:///{Path(folder) / 'timing.sqlite3'}"
        migrate(address)
        settings = Settings.from_environ(environ_for(address))
        app = create_app(settings, payments=FakePayments(), sms=FakeSms())
        with app.app_context():
            a_partner(KNOWN)
        known, unknown = measure(app.test_client(), rounds)
    print(f"known partner    {statistics.median(known) * 1e3:8.3f} ms")
    print(f"unknown partner  {statistics.median(unknown) * 1e3:8.3f} ms")
    print(f"Welch's t        {welch(trimmed(known), trimmed(unknown)):8.2f} over 2 x {rounds}")


def measure(client: FlaskClient, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each refusal, of a known and of an unknown partner; a first hundred is not counted."""
    taken: dict[int, list[float]] = {KNOWN: [], UNKNOWN: []}
    for place in range(rounds + 100):
        for partner in (KNOWN, UNKNOWN) if place % 2 else (UNKNOWN, KNOWN):
            headers = {"Authorization": "Basic " + b64encode(f"{partner}:wrong".encode()).decode()}
            # Each from an address of its own, so that none is one too many.
            address = f"10.{partner % 250}.{place // 250}.{place % 250}"
            begun = time.perf_counter()
            answer = client.get(TARGET, headers=headers, base_url=HOST, environ_base={"REMOTE_ADDR": address})
            taken[partner].append(time.perf_counter() - begun)
            assert answer.status_code == 401, answer.text
    return taken[KNOWN][100:], taken[UNKNOWN][100:]


def trimmed(times: list[float]) -> list[float]:
    """Return all but the slowest hundredth: what the machine did meanwhile."""
    return sorted(times)[: len(times) * 99 // 100]


def welch(first: list[float], second: list[float]) -> float:
    """Return Welch's t of two samples."""
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(spread)


if __name__ == "__main__":
    main()
