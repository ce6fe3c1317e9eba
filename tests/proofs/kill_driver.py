"""Everybody outside one service that may die: what was not answered is asked again, as a real caller would."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

import requests

from invoice.lifecycle import SubscriptionStatus
from tests.proofs import dying
from tests.proofs.kill_world import PARTNER, START, World
from tests.web.proofs import _sign

_TIMEOUT_S = 60
# How long nobody is there after a death: no time; longer than a lease, and than a draft stays fresh; half a day.
DOWNTIMES = (timedelta(0), timedelta(minutes=5), timedelta(hours=12))

WEEKLY = {
    "partnerId": PARTNER,
    "msisdn": "+4791234567",
    "currency": "NOK",
    "amount": "99",
    "paymentProvider": "Vipps",
    "description": "Avisen hver dag",
    "basis": 1,
    "agreementUrl": "https://www.example.com/mine",
    "name": "Avisen",
    "sendSMS": False,
}


class Driver:
    """Drives one flow through a world whose service dies once at each of `ends`, and is back after `down`."""

    tries = 12
    patience_s = 360.0  # before a person presses again

    def __init__(self, world: World, ends: Collection[str] = (), down: timedelta = timedelta(0)) -> None:
        self.world = world
        self.tries = self.tries + len(ends)
        self.ends = list(ends)  # those to come
        self.deaths = 0
        self.strange: list[str] = []  # what nobody should ever see
        self.acknowledged: list[
            tuple[str, int, str]
        ] = []  # a question that must find something, of whom, by which order
        self.doubtful: set[int] = set()  # amounts that were asked for once, and whose answer was lost
        self.turned_away = threading.Event()  # somebody was told to come again
        self._down = down
        world.restore()
        self._start()

    # The service

    def _start(self) -> None:
        self._service = self.world.start(**{dying.CRASH_AT: ";".join(self.ends)})
        if not self._service.ready:
            self._revive()

    def _revive(self) -> None:
        """Bury the service, let so much time pass, and start it again: it does not die at the same place."""
        if not self._service.is_dead(_TIMEOUT_S):
            raise AssertionError(f"The service gives no answer and lives: {(self.world.folder / 'log').read_text()}")
        self.deaths += 1
        died_at = (self.world.folder / "died").read_text()
        self.ends = [end for end in self.ends if end != died_at]
        if self._down:
            self.world.advance_to(self.world.now() + self._down)
        self._start()

    def between(self, act: Callable[[str], None], name: str) -> None:
        """Keep or restore our tables while no service runs; the next one counts its passes from the beginning."""
        self._service.kill()
        self.world.books_only(act, name)
        self._start()

    def end(self) -> None:
        """End the service."""
        self._service.kill()

    def ask(self, method: str, path: str, body: Any = None, *, once: bool = False, **more: Any) -> requests.Response:
        """Ask until there is an answer that says yes or no. once: a request that nobody would dare to repeat."""
        last = ""
        for _ in range(self.tries):
            try:
                answer = self.world.http.request(
                    *(method, self.world.service_url + path),
                    json=body,
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,
                    **more,
                )
            except requests.ConnectionError:
                self._revive()
                if once:
                    return requests.Response()
                continue
            if answer.status_code < 500 and "Retry-After" not in answer.headers:
                return answer
            last = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            if answer.status_code == 503:
                self.turned_away.set()
            elif answer.status_code >= 500:
                self.strange.append(last)
            self.wait_a_little()
        raise AssertionError(f"It comes to no end: {last}")

    def wait_a_little(self) -> None:
        """Let so much time pass that whoever was to be asked again may be."""
        self.world.advance_to(self.world.now() + timedelta(minutes=2))

    def api(self, method: str, path: str, body: Any = None, *, partner: int = PARTNER, **more: Any) -> Any:
        """Ask as a partner; return what the answer holds, or its text."""
        login = (str(partner), self.world.secrets[partner])
        answer = self.ask(method, path, body, auth=login, **more)
        return answer.json() if answer.content else answer.text

    def act(self, name: str, *, once: bool = False, **arguments: Any) -> requests.Response:
        """Do what has no face yet."""
        return self.ask("POST", f"/drill/act/{name}", arguments, once=once)

    def flask(self, *arguments: str) -> str:
        """Run a command; one that is repeated because its end was not seen may be told that it is done."""
        died = self.deaths
        for _ in range(self.tries):
            said = self.ask("POST", "/drill/flask", arguments).json()
            if "share of calls is used up" not in said["output"]:
                break
            self.wait_a_little()
        if said["status"] != 0 and self.deaths == died:
            self.strange.append(f"flask {' '.join(arguments)}: {said['output']}")
        return str(said["output"])

    def passes(self) -> dict[str, int]:
        """Return how often this service has passed each side of each boundary."""
        found: dict[str, int] = self.ask("GET", "/drill/passes").json()
        return found

    # Time

    def work(self) -> None:
        """Do everything that is due on our side now."""
        self.ask("POST", "/drill/work")

    def pass_time(self, **by: float) -> None:
        """Let Vipps and Twilio do and tell what falls due in some time, and then our side."""
        self.world.advance_to(self.world.now() + timedelta(**by))
        self.work()

    def live(self, day: float) -> None:
        """Let time pass until so many days after the beginning, with both sides at work; none if it is later."""
        until = START + timedelta(days=day)
        while self.world.now() < until:
            self._take_up()
            self.world.advance_to(min(self.world.now() + timedelta(days=1), until))
            self.work()

    def _take_up(self) -> None:
        """Have what a death left in flight done when its lease is over: no step of a day leaps over these minutes."""
        for _ in range(self.tries):
            if not self.world.rows("SELECT 1 FROM operations WHERE status = 'INFLIGHT'"):
                return
            self.pass_time(minutes=1)

    def come_to_rest(self, is_quiet: Callable[[], bool]) -> bool:
        """Let both sides finish; return whether they do within two days."""
        for hours in (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 16):
            self.pass_time(hours=hours)
            if is_quiet():
                return True
        return False

    # Partners and people

    def subscribe(self, order: str, *, partner: int = PARTNER, **changes: Any) -> int:
        """Ask for a weekly subscription; return its number, which must stand in the books from now on."""
        body = {**WEEKLY, "partnerId": partner, "orderNumber": order, **changes}
        found = self.api("POST", "/api/recurring/subscribe", body, partner=partner, headers=_key(order))
        number = int(found["subscriptionId"])
        self.acknowledged.append(
            ("SELECT 1 FROM subscriptions WHERE id = :id AND order_number = :order", number, order)
        )
        return number

    def one(self, query: str, number: int = 0) -> Any:
        """Ask our tables for one value, of the subscription `:id`."""
        return self.world.rows(query, id=number)[0][0]

    def status(self, number: int) -> str:
        return str(self.one("SELECT status FROM subscriptions WHERE id = :id", number))

    def press(self, number: int) -> None:
        """Press the button behind the link."""
        token = self.one("SELECT link_token FROM subscriptions WHERE id = :id", number)
        self.ask("POST", f"/s/{token}")

    def sign(self, number: int) -> str:
        """Press, say yes at Vipps, and come back, as often as it takes; return Vipps' id of the agreement."""
        ulid = self.one("SELECT ulid FROM subscriptions WHERE id = :id", number)
        for _ in range(self.tries):
            if self.status(number) == SubscriptionStatus.PENDING:
                self.press(number)
                self._approve(ulid)
                self._come_back(number)
                self.pass_time(seconds=1)
            if self.status(number) != SubscriptionStatus.PENDING:
                return str(self._agreement(number))
            self.pass_time(seconds=self.patience_s)
        there = [(a["id"], a["status"]) for a in self.world.look("ledger")["agreements"] if a["externalId"] == ulid]
        raise AssertionError(f"Subscription {number} is never accepted: {self.status(number)}, at Vipps {there}")

    def _agreement(self, number: int) -> str:
        adopted = "SELECT provider_agreement_id FROM agreements WHERE subscription_id = :id AND is_adopted"
        return str(self.one(adopted, number))

    def _approve(self, ulid: str) -> None:
        """Say yes to what is open in the app; nobody accepts twice."""
        mine = [a for a in self.world.look("ledger")["agreements"] if a["externalId"] == ulid]
        waiting = [a["id"] for a in mine if a["status"] == "PENDING"]
        if waiting and not any(a["status"] == "ACTIVE" for a in mine):
            url = f"{self.world.vipps_url}/sim/agreements/{waiting[-1]}/approve"
            self.world.http.post(url, json={}, timeout=_TIMEOUT_S)

    def _come_back(self, number: int) -> None:
        [partner_id, return_id] = self.world.rows(
            "SELECT s.partner_id, a.return_id FROM subscriptions s JOIN agreements a ON a.subscription_id = s.id"
            " WHERE s.id = :id ORDER BY a.attempt DESC",
            id=number,
        )[0]
        self.ask("POST", f"/api/recurring/return/{partner_id}/{return_id}")

    def active(self, order: str, **changes: Any) -> tuple[int, str]:
        """Return a weekly subscription that was accepted just now, and Vipps' id of its agreement."""
        number = self.subscribe(order, **changes)
        return number, self.sign(number)

    def cancel(self, number: int) -> None:
        """Cancel; whoever repeats a cancel whose answer was lost gets the same answer."""
        self.api("DELETE", f"/api/recurring/cancel/{number}", headers=_key(f"cancel-{number}"))
        ended = "SELECT 1 FROM subscriptions WHERE id = :id AND status IN ('CANCELLING', 'CANCELLED')"
        self.acknowledged.append((ended, number, ""))

    def direct(self, path: str, body: Any, *, partner: int = PARTNER, key: str = "", **more: Any) -> Any:
        """Ask by the second contract until every item is done or refused."""
        headers = _key(key) if key else {}
        for _ in range(self.tries):
            found = self.api(
                "POST", f"/vipps-recurring-payments/{path}", body, partner=partner, headers=headers, **more
            )
            errors = found.get("errors", []) if isinstance(found, dict) else []
            if not any("not answered yet" in error or "on its way" in error for error in errors):
                return found
            self.pass_time(minutes=15)
        raise AssertionError(f"{path} comes to no end: {errors}")

    def signed(self, secret: str, nonce: str) -> requests.Response:
        """Ask for a page of events with a signature instead of a password."""
        moment = str(int(self.world.now().timestamp()))
        host = self.world.service_url.rpartition("/")[2]
        empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # SHA-256 of no body
        lines = ["hmac-sha256", str(PARTNER), "GET", host, "/api/events", moment, nonce, empty]
        header = f"hmac-sha256 {PARTNER}:{_sign(secret, chr(10).join(lines))}:{nonce}:{moment}"
        return self.ask("GET", "/api/events", headers={"Authorization": header})


def _key(word: str) -> Mapping[str, str]:
    return {"Idempotency-Key": hashlib.sha256(word.encode()).hexdigest()}
