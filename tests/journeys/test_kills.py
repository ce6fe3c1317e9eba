"""kill -9 of the demo at random moments of the story: nothing lost, nothing twice.

`pytest tests/journeys/test_kills.py --kills 25 --seed 7` says how many, and replays the choice of moments (the
machine's own timing is not in the seed). Every step is one that a real caller repeats when the connection breaks.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from tests.journeys.demo import Demo, approve, disagreements, press
from tests.journeys.test_story import MONTHLY

pytestmark = pytest.mark.journey
T = TypeVar("T")

PEOPLE = [f"+479123450{n}" for n in range(4)]
_MONTHS = 3
# The last: killed in the middle of an answer.
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Killer:
    """Kills the demo during some of the steps, starts it again, and has the step repeated."""

    def __init__(self, demo: Demo, *, kills: int, seed: int) -> None:
        self.demo = demo
        self.left = kills
        self._random = random.Random(seed)

    def during(self, step: Callable[[], T]) -> T:
        """Run a step, maybe killing the demo while it runs, until it gets through."""
        while True:
            killer = self._aim()
            try:
                result = step()
            except _BROKEN:
                self._finish(killer)
                continue
            if not self._finish(killer):
                return result

    def _aim(self) -> threading.Timer | None:
        """Set a kill off, often at once after the step begins, sometimes deep inside it."""
        if self.left == 0 or self._random.random() < 0.4:
            return None
        delay_s = self._random.choice([0.002, 0.01, 0.03, 0.1, 0.4]) * self._random.uniform(0.2, 1.5)
        timer = threading.Timer(delay_s, self.demo.kill)
        timer.start()
        return timer

    def _finish(self, killer: threading.Timer | None) -> bool:
        """Wait for the kill that was set off, and start again; return whether there was one."""
        if killer is None:
            return False
        killer.join()
        self.left -= 1
        self.demo.start()
        return True


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))


def subscribed(killer: Killer, person: str) -> int:
    payload = {**MONTHLY, "msisdn": person, "orderNumber": f"order-{person}"}
    answer = killer.during(lambda: killer.demo.subscribe(payload))
    assert answer.status_code == 200, answer.text
    number: int = answer.json()["subscriptionId"]
    return number


def texted(killer: Killer, person: str) -> str:
    """Wait, by the clock that both sides follow, until the text is there."""
    for _ in range(60):
        killer.during(lambda: killer.demo.advance(minutes=1))
        texts = killer.during(lambda: killer.demo.texts(person))
        if texts:
            link: str = texts[0]["links"][0]
            return link
    raise AssertionError("The text never came.")


def signed(killer: Killer, number: int, link: str) -> None:
    """Press and approve, as often as it takes; who is active already sees that in the list."""

    def say_yes() -> None:
        if status(killer.demo, number) == "Pending":
            approve(killer.demo, press(killer.demo, link))

    for _ in range(20):
        try:
            killer.during(say_yes)
        except AssertionError:
            # The draft died, or somebody was quicker: a person presses again.
            killer.during(lambda: killer.demo.advance(minutes=5))
        killer.during(lambda: killer.demo.advance(minutes=1))
        if killer.during(lambda: status(killer.demo, number)) == "Active":
            return
    raise AssertionError("The person never became a subscriber.")


def status(demo: Demo, number: int) -> str:
    word: str = next(s for s in demo.listed() if s["subscriptionId"] == number)["chargeStatus"]
    return word


def cancelled(killer: Killer, number: int) -> None:
    """Cancel; who repeats a cancel whose answer was lost is told that it stands."""
    answer = killer.during(lambda: killer.demo.cancel(number))
    assert answer.status_code == 200 or '"Cancel' in answer.json(), answer.text


def test_no_kill_loses_or_doubles_anything(tmp_path: Path, kills: int, seed: int):
    demo = Demo(tmp_path / "data")
    demo.start()
    killer = Killer(demo, kills=kills, seed=seed)

    numbers = {person: subscribed(killer, person) for person in PEOPLE}
    for person, number in numbers.items():
        signed(killer, number, texted(killer, person))
    for _ in range(_MONTHS):
        killer.during(lambda: demo.advance(months=1))
    while killer.left:
        killer.during(lambda: demo.advance(days=1))
    demo.advance(days=1)
    before = demo.ledger()
    _judge(demo, before, numbers)

    for number in numbers.values():
        cancelled(killer, number)
    demo.advance(hours=1)
    ended = demo.ledger()
    demo.advance(days=92)
    assert demo.ledger() == ended
    assert {s["chargeStatus"] for s in demo.listed()} == {"Cancelled"}
    assert disagreements(demo) == []
    assert demo.stop() == 0


def _judge(demo: Demo, ledger: dict[str, list[dict[str, Any]]], numbers: dict[str, int]) -> None:
    """Each person: one agreement, each period paid once, none left out, at most one text that arrived twice."""
    assert disagreements(demo) == []
    assert len(demo.listed()) == len(PEOPLE), "an acknowledged request is lost, or stands there twice"
    active = [a for a in ledger["agreements"] if a["status"] == "ACTIVE"]
    assert Counter(a["externalId"] for a in active) == Counter({a["externalId"]: 1 for a in active})
    assert len(active) == len(PEOPLE)
    kept = {a["id"] for a in active}
    paid: dict[str, list[int]] = {}
    for charge in ledger["charges"]:
        net = charge["summary"]["captured"] - charge["summary"]["refunded"]
        if charge["agreementId"] not in kept:
            assert net == 0, f"money was kept under an agreement that was given up: {charge}"
        elif charge["status"] == "CHARGED":
            ulid, period, _ = charge["id"].rsplit("-", 2)
            paid.setdefault(ulid, []).append(int(period[1:]))
    for ulid, periods in paid.items():
        assert sorted(periods) == list(range(len(periods))), f"{ulid}: {sorted(periods)}"
        assert len(periods) > _MONTHS, f"{ulid} has paid {len(periods)} periods in more than {_MONTHS} months"
    assert len(paid) == len(PEOPLE)
    for person in numbers:
        assert 1 <= len(demo.texts(person)) <= 2
