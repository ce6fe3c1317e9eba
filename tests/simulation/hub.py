"""Everybody takes turns: one thing goes on at a time, and at every boundary the dice decide who goes on.

A boundary is the end of a database transaction, or a call that leaves or comes back. There the dice say: go on, let
somebody else go on, stall for minutes, or die. A process that dies loses its memory and starts again later.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from flask import Flask
from greenlet import getcurrent, greenlet

from tests.simulation.chance import Time
from tests.simulation.network import Weather

_LONGEST_STEP = timedelta(days=1)
_KEPT_BACK = timedelta(minutes=1)
_MOST_STEPS, _MOST_STEPS_A_DAY = 30_000, 3000
# Longer than any lease.
_PATIENCE = timedelta(minutes=5)


class Killed(BaseException):
    """The process is gone: nothing that follows in it happens."""


@dataclass
class Process:
    """One of ours. life counts its starts: what belongs to an earlier one is dead."""

    name: str
    app: Flask
    life: int = 0
    back_at: datetime | None = None  # while it is down


@dataclass(eq=False)
class Task:
    """Something that goes on: a worker, the stand-in's own time, a person."""

    name: str
    run: greenlet
    process: Process | None = None
    life: int = 0
    wake_at: datetime | None = None  # None: when there is news
    has_seen: int = 0  # of the news, all up to this one
    late_at: datetime | None = None  # it may be too late for what it does, having stood still until then
    inside: list[tuple[Process, int]] = field(default_factory=list)  # processes that it acts in


class Hub(ABC):
    """Steps through what goes on. Who that is, and how a process starts and works, is the house's."""

    def __init__(self, dice: random.Random, time: Time) -> None:
        self.dice, self.time = dice, time
        self.stories: list[str] = []
        self.passed: Counter[str] = Counter()
        self.deaths = 0
        self.tasks: list[Task] = []
        self.processes: dict[str, Process] = {}
        self.checks: list[Callable[[], None]] = []
        self.wrongs: list[str] = []  # what was seen to be wrong, whatever the tables say
        self.running: Task | None = None
        self._hands: dict[str, Task] = {}  # who is at the act of that key
        self._hub = getcurrent()
        self._news = 1  # how often there was something new
        self.crash_chance = dice.choice([0.0, 0.001, 0.004, 0.004, 0.02])
        self.switch_chance = dice.choice([0.1, 0.3, 0.6])
        self.stall_chance = dice.choice([0.0, 0.002, 0.01])
        time.pause = self._pause

    @abstractmethod
    def start(self, process: Process) -> None:
        """Start a process with an empty memory."""

    @abstractmethod
    def work(self) -> None:
        """Be a worker, for ever."""

    @abstractmethod
    def next_due(self) -> list[datetime]:
        """Return when something is due that nobody here waits for."""

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        who = self.running.name if self.running else "hub"
        self.stories.append(f"{self.time.at:%Y-%m-%d %H:%M:%S} {who}: {what}")

    def wrong(self, what: str) -> None:
        """Note what must never be."""
        self.wrongs.append(what)

    def news(self) -> None:
        """There is something new that somebody may have waited for."""
        self._news += 1

    # Processes

    def _kill(self, process: Process) -> None:
        self.tell(f"{process.name} dies")
        self.deaths += 1
        down = self.dice.choice([1, 10, 60, 300, 3600, 3600, 86_400, 5 * 86_400])
        process.back_at = self.time.at + timedelta(seconds=down)
        process.life += 1

    def _bring_back(self) -> None:
        for process in self.processes.values():
            if process.back_at is not None and process.back_at <= self.time.at:
                self.start(process)
                self.tell(f"{process.name} is back")
                if process.name != "web":
                    self.tasks = [t for t in self.tasks if t.name != process.name]
                    self.spawn(process.name, self.work, process)

    # Turns

    @property
    def current(self) -> Task:
        """Whoever goes on."""
        assert self.running is not None
        return self.running

    def spawn(self, name: str, run: Callable[[], None], process: Process | None = None) -> None:
        """Have something go on from now on."""
        task = Task(name, greenlet(run, parent=self._hub), process, process.life if process else 0, self.time.at)
        self.tasks.append(task)

    def rest(self, by: timedelta) -> None:
        """Go on after so long."""
        self.current.wake_at = self.time.at + by
        self._hub.switch()

    def rest_unless(self, work: Callable[[], bool]) -> None:
        """Do what there is to do; if there is nothing, go on when there is news that was not there when it looked."""
        task, seen = self.current, self._news
        if not work():
            task.has_seen, task.wake_at = seen, None
            self._hub.switch()

    def _pause(self, by: timedelta) -> None:
        if self._is_stepped():
            self.rest(by)
        else:
            self.time.move(by)

    def _is_stepped(self) -> bool:
        """Tell whether somebody goes on whom the hub can hold up."""
        return self.running is not None and getcurrent() is self.running.run

    def run(self, until: datetime) -> None:
        """Let everything go on until then."""
        most = _MOST_STEPS + _MOST_STEPS_A_DAY * (until - self.time.at).days
        for _ in range(most * (1 + len(self.tasks) // 12)):  # with four subscribers there are eight
            self._bring_back()
            ready = [t for t in self.tasks if self._may_go_on(t)]
            if not ready:
                ready = [t for t in self.tasks if t.wake_at is None and t.has_seen < self._news and not _is_dead(t)]
                for task in ready:
                    task.wake_at = self.time.at  # all of them, so that they meet
            if ready:
                self._resume(self.dice.choice(ready))
                self.time.move(timedelta(milliseconds=self.dice.randrange(1, 40)))
                continue
            for check in self.checks:
                check()
            if self.time.at >= until:
                return
            self.time.at = max(self.time.at, min(self._next(), until, self.time.at + _LONGEST_STEP))
            self.news()
        raise AssertionError("The world does not come to rest.")

    def _may_go_on(self, task: Task) -> bool:
        return task.wake_at is not None and task.wake_at <= self.time.at and not _is_dead(task)

    def _resume(self, task: Task) -> None:
        self.running = task
        task.wake_at = self.time.at
        try:
            task.run.switch()
        except Killed:
            task.run = greenlet(lambda: None)
        finally:
            self.running = None
        if task.run.dead or _is_dead(task):
            self.tasks = [t for t in self.tasks if t is not task]

    def _next(self) -> datetime:
        times = [t.wake_at for t in self.tasks if t.wake_at is not None and not _is_dead(t)]
        times += [p.back_at for p in self.processes.values() if p.back_at is not None]
        times += self.next_due()
        # What is overdue is being kept from happening, for a day perhaps; time goes on all the same.
        now = self.time.at
        return min((at if at > now else now + _KEPT_BACK for at in times), default=now + _LONGEST_STEP)

    # Boundaries

    def boundary(self, name: str) -> None:
        """Let the dice decide about whoever passes here."""
        if not self._is_stepped():
            return
        task = self.current
        self.passed[name] += 1
        process = task.inside[-1][0] if task.inside else task.process
        self._die_if_dead(task)
        drawn = self.dice.random()
        if process is not None and drawn < self.crash_chance:
            self.tell(f"at {name}")
            self._kill(process)
            raise Killed
        drawn -= self.crash_chance
        if drawn < self.stall_chance:
            stall = timedelta(seconds=self.dice.choice([1, 20, 100, 200, 1000]))
            self.tell(f"stalls for {stall} at {name}")
            task.late_at = self.time.at + stall
            self.rest(stall)
        elif drawn - self.stall_chance < self.switch_chance:
            self.rest(timedelta(0))
        self._die_if_dead(task)

    def may_die(self, name: str) -> None:
        """Let whoever is about to commit die instead."""
        if not self._is_stepped():
            return
        task = self.current
        process = task.inside[-1][0] if task.inside else task.process
        self._die_if_dead(task)
        if process is not None and self.dice.random() < self.crash_chance:
            self.tell(f"before {name}")
            self._kill(process)
            raise Killed

    def _die_if_dead(self, task: Task) -> None:
        if _is_gone(task):
            raise Killed

    def linger(self, weather: Weather) -> None:
        """Let the call that is under way take its time."""
        if self._is_stepped() and (seconds := weather.latency_s()):
            self.rest(timedelta(seconds=seconds))

    def is_late(self, task: Task | None) -> bool:
        """Tell whether somebody may be too late for what it is at."""
        return task is not None and task.late_at is not None and task.late_at > self.time.at - _PATIENCE

    @contextmanager
    def in_hand(self, key: str | None) -> Iterator[None]:
        """R1: one act is in one hand at a time, unless whoever had it first has stood still for too long."""
        task = self.running
        if key is None or task is None:
            yield
            return
        other = self._hands.get(key, task)
        if other is not task and not self.is_late(other) and not _is_gone(other) and not _is_dead(other):
            self.wrong(f"R1: {task.name} takes up what {other.name} is at")
        self._hands[key] = task
        try:
            yield
        finally:
            if self._hands.get(key) is task:
                del self._hands[key]


def _is_gone(task: Task) -> bool:
    """Tell whether the process that somebody acts in has died since."""
    lives = [(task.process, task.life)] if task.process and not task.inside else []
    return any(process.life != life for process, life in [*lives, *task.inside[-1:]])


def _is_dead(task: Task) -> bool:
    return task.run.dead or (task.process is not None and task.process.life != task.life)
