"""What people and partners do, biased to trouble: cancels soon after signing, double presses, ends of months."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests

from invoice.services import brakes, endings, journal
from invoice.store.db import db, reading
from invoice.store.models import Agreement, Subscription
from invoice.web import services as reach
from tests import factories
from tests.simulation.databases import SQLite
from tests.simulation.house import PARTNER, SERVICE, House
from tests.simulation.network import Reply

_LOGIN = base64.b64encode(f"{PARTNER}:{factories.SECRET}-{PARTNER}".encode()).decode()
_PARTNER = {"Authorization": f"Basic {_LOGIN}", "Content-Type": "application/json"}
_FOR_PEOPLE = ("/s/", "/api/recurring/return/")
_BASIS = {"WEEK": 1, "MONTH": 2, "YEAR": 3}


@dataclass
class Life:
    """What really happened to one subscription, as everybody outside saw it: what the judge goes by."""

    order: str
    interval: str
    amount: int
    campaign: int | None
    number: int | None = None
    ulid: str = ""
    cancel_accepted_at: datetime | None = None
    refused: bool = False
    ends_with_period: bool = False
    refunds: dict[str, tuple[int, bool]] = field(
        default_factory=dict
    )  # charge -> what was asked back, and if told done
    extras: dict[str, tuple[int, bool]] = field(default_factory=dict)  # name -> what was asked for, and if told done


class People:
    """Everybody outside."""

    def __init__(self, house: House, *, days: int, subscriptions: int) -> None:
        self._house = house
        self._dice: random.Random = house.dice
        self._days = days
        self.lives: list[Life] = []
        for number in range(subscriptions):
            self.lives.append(self._life(number))
            house.spawn(f"person {number}", lambda n=number: self._live(self.lives[n]))  # type: ignore[misc]
        house.spawn("outages", self._outages)
        if house.lost is not None:
            house.spawn("operator", lambda: self._set_back(house.lost))

    def _life(self, number: int) -> Life:
        interval = self._dice.choice(["WEEK", "WEEK", "WEEK", "MONTH", "MONTH"])
        campaign = self._dice.choice([None, None, 0, 1000])
        return Life(f"order-{number}", interval, self._dice.choice([9900, 24900]), campaign)

    # One subscriber

    def _live(self, life: Life) -> None:
        self._wait(hours=self._dice.uniform(0, 24 * self._days * 0.4))
        if not self._subscribe(life):
            return
        for _ in range(self._dice.choice([1, 1, 2, 4])):
            self._wait(minutes=self._dice.choice([0, 1, 30, 600, 3000]))
            if self._sign(life):
                break
        else:
            return
        if self._dice.random() < 0.5:
            self._wait(hours=self._dice.uniform(0, 48))
        else:
            self._wait(hours=self._dice.uniform(0, 24 * self._days * 0.6))
        for act in self._dice.sample([self._refund, self._make_extra, self._stay, self._stay], 2):
            act(life)
        self._dice.choice([self._cancel, self._cancel, self._stop_in_app, self._end_with_period, self._stay])(life)
        self._wait(hours=self._dice.uniform(0, 24))
        self._refund(life)

    def _subscribe(self, life: Life) -> bool:
        """Ask until there is an answer; an order number makes the same again the same."""
        body: dict[str, Any] = {
            "partnerId": PARTNER,
            "msisdn": f"+47912345{len(life.order):02d}",
            "currency": "NOK",
            "amount": str(life.amount // 100),
            "orderNumber": life.order,
            "basis": _BASIS[life.interval],
            "description": "Avisen hver dag",
            "agreementUrl": "https://www.example.com/mine",
            "name": "Avisen",
            "paymentProvider": "Vipps",
            "sendSMS": self._dice.random() < 0.3,
        }
        if life.campaign is not None:
            body["campaignAmount"] = str(life.campaign // 100)
        answer = self._persist("POST", "/api/recurring/subscribe", body)
        if answer.status == 200:
            life.number = json.loads(answer.body)["subscriptionId"]
            with self._house.app.app_context(), reading():
                life.ulid = db.session.get_one(Subscription, life.number).ulid
            self._house.tell(f"has subscription {life.number}, {life.ulid}")
            return True
        life.refused = True
        self._house.tell(f"is refused: {answer.status} {answer.body[:80]!r}")
        return False

    def _sign(self, life: Life) -> bool:
        """Press the button in the text, maybe twice, and say yes or no at Vipps; return whether there was a yes.

        Now and then on two phones: then both say yes.
        """
        with self._house.app.app_context(), reading():
            found = db.session.get(Subscription, life.number)
            token = found.link_token if found is not None and found.ulid == life.ulid else ""  # empty: it is lost
        landings = []
        for _ in range(self._dice.choice([1, 1, 2, 2])):
            answer = self._try("POST", f"/s/{token}")
            found = answer.headers.get("Location", "") if answer and answer.status == 303 else ""
            if "vippsgateway" in found:
                landings.append(self._agreement_behind(found))
            self._wait(seconds=self._dice.choice([0, 0, 30, 280]))
        if not landings:
            return False
        self._wait(seconds=self._dice.choice([5, 20, 120, 500, 590, 650]))
        if self._dice.random() < 0.1:
            return self._decide(landings[-1], "reject")
        both = self._dice.random() < 0.4
        said_yes = [a for a in dict.fromkeys(landings if both else landings[-1:]) if self._decide(a, "approve")]
        if said_yes and self._dice.random() < 0.6:
            self._come_back(said_yes[-1])
        return bool(said_yes)

    def _agreement_behind(self, landing: str) -> str:
        """Return the agreement that an address at Vipps is of: its token says."""
        token = landing.rpartition("token=")[2]
        for part in token.split("."):
            with_padding = part + "=" * (-len(part) % 4)
            try:
                claims = json.loads(base64.urlsafe_b64decode(with_padding))
            except ValueError:
                continue
            if isinstance(claims, dict) and "agreementId" in claims:
                return str(claims["agreementId"])
        raise AssertionError(f"no agreement in {landing}")

    def _decide(self, agreement: str, decision: str) -> bool:
        answer = self._house.vipps("POST", f"/sim/agreements/{agreement}/{decision}", b"{}")
        self._house.tell(f"{decision} {agreement}: {answer.status}")
        return answer.status == 200 and decision == "approve"

    def _come_back(self, agreement_id: str) -> None:
        with self._house.app.app_context(), reading():
            wanted = db.select(Agreement.return_id).where(Agreement.provider_agreement_id == agreement_id)
            found = db.session.scalar(wanted)
        if found:
            self._try("POST", f"/api/recurring/return/{PARTNER}/{found}")

    def _cancel(self, life: Life) -> None:
        answer = self._persist("DELETE", f"/api/recurring/cancel/{life.number}")
        if answer.status == 200 or b"Cancel" in answer.body:
            life.cancel_accepted_at = self._house.time.at
        if self._dice.random() < 0.3:
            self._persist("DELETE", f"/api/recurring/cancel/{life.number}")

    def _stop_in_app(self, life: Life) -> None:
        with self._house.app.app_context(), reading():
            wanted = db.select(Agreement.provider_agreement_id).where(
                Agreement.subscription_id == life.number, Agreement.is_adopted
            )
            found = db.session.scalar(wanted)
        if found:
            self._decide(found, "stop")

    def _end_with_period(self, life: Life) -> None:
        life.ends_with_period = True
        self._at_home(lambda: endings.end_with_period(life.number or 0))
        if self._dice.random() < 0.3:
            self._wait(hours=self._dice.uniform(0, 72))
            self._at_home(lambda: endings.keep(life.number or 0))

    def _refund(self, life: Life) -> None:
        """Give some money back, and ask again until there is a word."""
        mine = [c for c in self._charges(life) if c["summary"]["captured"] and c["id"] not in life.refunds]
        if not mine:
            return
        charge = self._dice.choice(mine)
        amount = self._dice.choice([100, 500, charge["summary"]["captured"]])
        life.refunds[charge["id"]] = (amount, False)
        item = {"agreement_id": charge["agreementId"], "charge_id": charge["id"], "price": amount}
        told = self._ask_directly("refund", item)
        life.refunds[charge["id"]] = (amount, told == "done")

    def _make_extra(self, life: Life) -> None:
        """Charge something besides, by a name of the partner's own, and ask again until there is a word."""
        active = [a for a in self._ledger()["agreements"] if a["externalId"] == life.ulid and a["status"] == "ACTIVE"]
        if not active:
            return
        name, amount = f"{life.order}-x{len(life.extras)}", 2500
        life.extras[name] = (amount, False)
        told = self._ask_directly("make", {"agreement_id": active[0]["id"], "charge_id": name, "price": amount})
        life.extras[name] = (amount, told == "done")

    def _ask_directly(self, verb: str, item: dict[str, Any]) -> str:
        """Ask by the second contract until it is done or refused."""
        for _ in range(12):
            answer = self._try("POST", f"/vipps-recurring-payments/charge/{verb}", [item])
            found = json.loads(answer.body) if answer is not None and answer.status == 200 else {}
            if found.get("successes"):
                return "done"
            if found.get("errors") and "not known" not in found["errors"][0]:
                self._house.tell(f"{verb} {item['charge_id']}: {found['errors'][0][:160]!r}")
            self._wait(seconds=self._dice.choice([1, 60, 3600]))
        return "given up"

    def _ledger(self) -> Any:
        return json.loads(self._house.vipps("GET", "/sim/ledger").body)

    def _charges(self, life: Life) -> list[dict[str, Any]]:
        return [c for c in self._ledger()["charges"] if c["externalAgreementId"] == life.ulid]

    def _stay(self, life: Life) -> None:
        """Stay a subscriber as one is."""

    # The rest of the world

    def _outages(self) -> None:
        """Vipps is away for a while, now and then."""
        for _ in range(self._dice.choice([0, 1, 1, 2])):
            self._wait(hours=self._dice.uniform(0, 24 * self._days / 3))
            self._house.weather.is_out = self._house.weather.weight > 0
            self._house.tell("an outage begins")
            self._wait(hours=self._dice.choice([0.5, 6, 30, 96]))
            self._house.weather.is_out = False
            self._house.tell("the outage is over")

    def _set_back(self, lost: timedelta) -> None:
        """Back the books up, lose what came after, read it back, and ask again for what only they had known."""
        assert isinstance(self._house.database, SQLite)
        self._wait(hours=self._dice.uniform(24, 24 * self._days * 0.4))
        self._house.database.back_up()
        kept_at = self._house.time.at
        self._house.tell("the books are backed up")
        self._wait(seconds=lost.total_seconds())
        self._house.set_back()
        self._house.tell(f"the books go back to {kept_at}")
        self._wait(minutes=self._dice.uniform(1, 60))
        self._at_home(lambda: self._house.tell(f"held: {[brake.reason for brake in brakes.list_all()]}"))
        while not self._at_home(self._read_back):
            self._wait(minutes=30)
        self._at_home(lambda: brakes.start(None))
        for life in self.lives:
            if life.cancel_accepted_at is not None and life.cancel_accepted_at >= kept_at:
                self._cancel(life)

    def _read_back(self) -> None:
        paths = self._house._folder.glob("worker*.json")
        noted = [marks for path in sorted(paths) if (marks := journal.read(path, self._house.database.url))]
        services = self._house.app.extensions[reach.SERVICES]
        report = services.reconcile.run(max(noted, key=lambda marks: marks.operations, default=None), self._wait_s)
        self._house.tell(f"read back: {dict(report.counts)}, {report.strangers}")

    # Ways

    def _wait(self, **by: float) -> None:
        self._house.rest(timedelta(**by))

    def _wait_s(self, seconds: float) -> None:
        self._wait(seconds=seconds)

    def _at_home(self, act: Callable[[], object]) -> bool:
        """Have an operator do something; what cannot be done is not done. Return whether it was."""
        try:
            with self._house.app.app_context():
                act()
                return True
        except Exception as error:  # noqa: BLE001 - the judge looks at what came of it
            self._house.tell(f"could not: {type(error).__name__}: {error}")
            return False

    def _try(self, method: str, path: str, body: Any = None) -> Reply | None:
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {} if path.startswith(_FOR_PEOPLE) else _PARTNER
        try:
            answer = self._house.ask(method, SERVICE + path, headers, raw)
        except requests.ConnectionError:
            self._house.tell(f"{method} {path}: no answer")
            return None
        self._house.tell(f"{method} {path}: {answer.status}")
        return answer

    def _persist(self, method: str, path: str, body: Any = None) -> Reply:
        """Ask until there is an answer that says yes or no."""
        while True:
            answer = self._try(method, path, body)
            if answer is not None and answer.status < 500 and answer.status != 429:
                return answer
            self._wait(seconds=self._dice.choice([1, 30, 600]))
