"""Many partners and people at once, while workers, a database or its disk go away again and again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tests.proofs.kill_driver import Driver
from tests.proofs.kill_judge import is_quiet, judge
from tests.proofs.kill_world import Service, World

_CROWD = 6
_WORKERS = 3


class Crowd:
    """Asks for subscriptions, signs, charges besides, refunds and cancels; each of them until it has an answer.

    A world that is disturbed answers 503, or not at all; everything else is strange.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.driver = Patient(world)
        self._dice = random.Random(seed)
        self._count = 0
        self._active: list[tuple[int, str]] = []

    def round(self) -> None:
        """Let some do something, all at once, and some time go by."""
        acts = [
            self._dice.choice([self._join, self._join, self._charge, self._refund, self._leave]) for _ in range(_CROWD)
        ]
        prepared = [act() for act in acts]
        with ThreadPoolExecutor(_CROWD) as threads:
            for done in [threads.submit(act) for act in prepared]:
                done.result()
        self.driver.pass_time(minutes=self._dice.choice([1, 3, 30, 360, 1440]))

    def _join(self) -> Callable[[], None]:
        self._count += 1
        order = f"crowd-{self._count}"
        person = f"+4791{self._count:06d}"
        to = self.driver.world.receiver.url

        def join() -> None:
            more = {"statusCallbackUrl": f"{to}/status", "campaignAmount": "49", "sendSMS": True}
            number = self.driver.subscribe(order, msisdn=person, **more)
            with_agreement = self.driver.sign(number)
            self._active.append((number, with_agreement))

        return join

    def _charge(self) -> Callable[[], None]:
        if not self._active:
            return self._join()
        _, agreement = self._dice.choice(self._active)
        self._count += 1
        name = f"extra-{self._count}"
        item = {"agreement_id": agreement, "price": 2500, "description": "Kaffe", "charge_id": name}
        stands = "SELECT 1 FROM charges WHERE id > :id AND name = '10295-' || :order"
        return lambda: self._direct("make", item, name, stands, name)

    def _refund(self) -> Callable[[], None]:
        if not self._active:
            return self._join()
        number, agreement = self._dice.choice(self._active)
        paid = self.driver.one("SELECT name FROM charges WHERE subscription_id = :id ORDER BY id", number)
        self._count += 1
        item = {"agreement_id": agreement, "price": 100, "description": "Kulanse", "charge_id": paid}
        stands = "SELECT 1 FROM refunds r JOIN charges c ON c.id = r.charge_id WHERE c.id > :id AND c.name = :order"
        key = f"refund-{self._count}"
        return lambda: self._direct("refund", item, paid, stands, key)

    def _direct(self, verb: str, item: dict[str, Any], name: str, stands: str, key: str) -> None:
        """Ask by the second contract; what is done, or was taken in, must stand in the books from then on."""
        found = self.driver.direct(f"charge/{verb}", [item], key=key)
        if found["successes"]:
            self.driver.acknowledged.append((stands, 0, name))

    def _leave(self) -> Callable[[], None]:
        if not self._active:
            return self._join()
        number, _ = self._active.pop(self._dice.randrange(len(self._active)))
        return lambda: self.driver.cancel(number)

    def judge(self) -> list[str]:
        """Have everything come to rest, undisturbed, and return what is wrong then."""
        self.driver.is_calm = True
        is_over = self.driver.come_to_rest(lambda: is_quiet(self.driver.world))
        wrong = judge(self.driver, None)
        return wrong if is_over else [*wrong, "it never came to rest"]


class Patient(Driver):
    """Asks again when nobody answers, or the answer is 503; others do the work, until all is calm."""

    tries = 200
    patience_s = 20.0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.is_calm = False
        self._one_at_a_time = threading.Lock()

    def _revive(self) -> None:
        """Nothing to do: what was cut off is asked again."""

    def work(self) -> None:
        """Have others work for a moment; when all is calm, do it."""
        if self.is_calm:
            super().work()
        else:
            threading.Event().wait(0.05)

    def pass_time(self, **by: float) -> None:
        """Only one may move the clock at a time."""
        with self._one_at_a_time:
            self.world.advance_to(self.world.now() + timedelta(**by))
        self.work()

    def wait_a_little(self) -> None:
        """Let a moment pass for everybody."""
        threading.Event().wait(0.05)
        with self._one_at_a_time:
            self.world.advance_to(self.world.now() + timedelta(seconds=10))


class Workers:
    """Three processes that do the recurring work, each of which may be killed at any moment."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._dice = random.Random(seed)
        self._workers = [self._start() for _ in range(_WORKERS)]
        self._ending = threading.Event()
        self.kills = 0

    def _start(self) -> Service:
        return self._world.start(faces=False, runs=True)

    def kill_some(self, most: int) -> None:
        """Kill one after the other, and start another in its place, until told or until it is enough."""
        while self.kills < most and not self._ending.wait(self._dice.choice([0.0, 0.02, 0.05, 0.2, 0.4])):
            chosen = self._dice.randrange(_WORKERS)
            self._workers[chosen].kill()
            self._workers[chosen] = self._start()
            self.kills += 1

    def end(self) -> None:
        """End them all, as they were begun."""
        self._ending.set()
        for worker in self._workers:
            worker.kill()


def random_kills(world: World, kills: int, seed: int) -> list[str]:
    """Kill workers under load, so many times; return what is wrong in the end."""
    crowd, workers = Crowd(world, seed), Workers(world, seed)
    killer = threading.Thread(target=workers.kill_some, args=(kills,))
    killer.start()
    try:
        while killer.is_alive():
            crowd.round()
        crowd.round()
    finally:
        workers._ending.set()
        killer.join()
        workers.end()
    try:
        return [*crowd.judge(), *([] if workers.kills == kills else [f"{workers.kills} kills"])]
    finally:
        crowd.driver.end()


def outages(world: World, times: int, seed: int, *, away: Callable[[], Any], back: Callable[[], Any]) -> list[str]:
    """Take something away under load and bring it back, so many times; return what is wrong in the end."""
    crowd, dice, unnoticed = Crowd(world, seed), random.Random(seed), 0
    worker = world.start(faces=False, runs=True)
    try:
        for _ in range(times):
            crowd.driver.turned_away.clear()
            with disturbed(dice.choice([0.01, 0.05, 0.2, 0.5]), away, back, crowd.driver.turned_away):
                crowd.round()
            unnoticed += not crowd.driver.turned_away.is_set()
            crowd.round()
        worker.kill()
        return [*crowd.judge(), *(["nobody was ever turned away"] if unnoticed == times else [])]
    finally:
        worker.kill()
        crowd.driver.end()


@contextmanager
def disturbed(
    after_s: float, away: Callable[[], Any], back: Callable[[], Any], noticed: threading.Event
) -> Iterator[None]:
    """Have something go away a moment after the block begins, and come back when somebody has noticed, or nobody."""

    def strike() -> None:
        away()
        noticed.wait(2)
        back()

    timer = threading.Timer(after_s, strike)
    timer.start()
    try:
        yield
    finally:
        timer.join()
