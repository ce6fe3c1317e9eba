"""What people and partners do, biased to trouble: cancels soon after signing, double presses, ends of months."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests
from greenlet import GreenletExit

from invoice.services import endings
from invoice.services.changes import NewTerms
from invoice.store.db import db, reading, transaction
from invoice.store.models import Agreement, Subscription
from invoice.web import services as reach
from tests import factories
from tests.simulation.house import PARTNERS, SERVICE, House
from tests.simulation.network import Reply

_FOR_PEOPLE = ("/s/", "/api/recurring/return/")
BY_HAND = "hand-"  # what a key begins with that is not ours
_ON_THEIR_WAY = frozenset({"PENDING", "DUE"})
_BASIS = {"WEEK": 1, "MONTH": 2, "YEAR": 3}


@dataclass
class Life:
    """What really happened to one subscription, as everybody outside saw it: what the judge goes by."""

    order: str
    partner: int
    interval: str
    amount: int
    campaign: int | None
    number: int | None = None
    ulid: str = ""
    cancel_accepted_at: datetime | None = None
    refused: bool = False
    ends_with_period: bool = False
    prices: list[int] = field(default_factory=list)  # the first, and those that were asked for later
    # charge -> what was asked back, and whether we were told that it is done
    refunds: dict[str, dict[int, bool]] = field(default_factory=dict)
    taken_names: set[str] = field(default_factory=set)  # of ours, under which somebody else has made a charge
    called_off: set[str] = field(default_factory=set)  # charges of which we were told that they are called off
    portal: dict[str, int] = field(default_factory=dict)  # charge -> what was given back in Vipps' portal
    reserves: bool = False  # what is taken at signing is only set aside
    captures: Counter[str] = field(default_factory=Counter)  # charge -> what was accepted to be captured of it
    # name -> what was asked for, and whether we were told that it is done
    extras: dict[str, tuple[int, bool]] = field(default_factory=dict)


class People:
    """Everybody outside, until nobody does anything more."""

    def __init__(self, house: House, *, days: int, subscriptions: int, until: datetime) -> None:
        self._house, self._until = house, until
        self._dice: random.Random = house.dice
        self._acts = [
            self._refund,
            self._make_extra,
            self._call_off,
            self._capture,
            self._change_price,
            self._refund_in_portal,
            self._run_out_of_money,
            self._be_in_the_way,
        ]
        self._days = days
        self.lives: list[Life] = []
        for number in range(subscriptions):
            self.lives.append(self._life(number))
            house.spawn(f"person {number}", lambda n=number: self._live(self.lives[n]))  # type: ignore[misc]

    def _life(self, number: int) -> Life:
        interval = self._dice.choice(["WEEK", "WEEK", "WEEK", "MONTH", "MONTH"])
        campaign = self._dice.choice([None, None, 0, 1000])
        amount = self._dice.choice([9900, 24900])
        return Life(
            *(f"order-{number}", self._dice.choice(self._house.partners), interval, amount, campaign),
            prices=[amount],
            reserves=campaign != 0 and self._dice.random() < 0.3,
        )

    # One subscriber

    def _live(self, life: Life) -> None:
        self._wait(hours=self._dice.uniform(0, 24 * self._days * 0.4))
        if life.interval == "MONTH" and self._dice.random() < 0.5:
            self._wait_for_the_end_of_the_month()
        if not self._subscribe(life):
            return
        for _ in range(self._dice.choice([1, 4, 8, 8])):
            self._wait(minutes=self._dice.choice([0, 1, 30, 600, 3000]))
            if self._sign(life):
                break
        else:
            return
        if self._dice.random() < 0.5:
            self._wait(hours=self._dice.uniform(0, 48))
        else:
            self._wait(hours=self._dice.uniform(0, 24 * self._days * 0.6))
        for act in self._dice.sample([*self._acts, self._stay, self._stay], 3):
            act(life)
            self._wait(hours=self._dice.choice([0, 0, 1, 200]))
        self._dice.choice([self.cancel, self.cancel, self._stop_in_app, self._end_with_period, self._stay])(life)
        self._wait(hours=self._dice.uniform(0, 24))
        self._refund(life)

    def _subscribe(self, life: Life) -> bool:
        """Ask until there is an answer; an order number makes the same again the same."""
        body: dict[str, Any] = {
            "partnerId": life.partner,
            "msisdn": f"+47912{life.order.removeprefix('order-'):>05}",
            "currency": PARTNERS[life.partner].currency,
            "amount": str(life.amount // 100),
            "orderNumber": life.order,
            "basis": _BASIS[life.interval],
            "description": "Avisen hver dag",
            "agreementUrl": f"https://{life.partner}.example.com/mine",
            "name": "Avisen",
            "paymentProvider": "Vipps",
            "sendSMS": self._dice.random() < 0.5,
        }
        if life.campaign is not None:
            body["campaignAmount"] = str(life.campaign // 100)
        answer = self._persist(life, "POST", "/api/recurring/subscribe", body)
        if answer.status == 200:
            life.number = json.loads(answer.body)["subscriptionId"]
            with self._house.app.app_context(), reading():
                life.ulid = db.session.get_one(Subscription, life.number).ulid
            if life.reserves:
                self._house.at_home(lambda: self._set_aside(life.number or 0))
            self._house.tell(f"has subscription {life.number}, {life.ulid}")
            return True
        life.refused = True
        self._house.tell(f"is refused: {answer.status} {answer.body[:80]!r}")
        return False

    def _set_aside(self, number: int) -> None:
        """Have what is taken at signing only set aside: no face does that yet."""
        with transaction():
            db.session.get_one(Subscription, number).reserves_initial = True

    def _sign(self, life: Life) -> bool:
        """Press the button in the text, maybe twice, and say yes or no at Vipps; return whether there was a yes.

        Now and then on two phones: then both say yes.
        """
        with self._house.app.app_context(), reading():
            found = db.session.get(Subscription, life.number)
            token = found.link_token if found is not None and found.ulid == life.ulid else ""  # empty: it is lost
        landings = []
        for _ in range(self._dice.choice([1, 1, 2, 2])):
            answer = self._try(life, "POST", f"/s/{token}")
            found = answer.headers.get("Location", "") if answer and answer.status == 303 else ""
            if "vippsgateway" in found:
                landings.append(self._agreement_behind(found))
            self._wait(seconds=self._dice.choice([0, 0, 30, 280]))
        if not landings and self._dice.random() < 0.5:
            landings = [a["id"] for a in self._agreements(life, "PENDING")][-1:]  # the app shows what waits
        if not landings:
            return False
        self._wait(seconds=self._dice.choice([5, 20, 120, 500, 590, 650]))
        if self._dice.random() < 0.1:
            return self._decide(landings[-1], "reject")
        both = self._dice.random() < 0.4
        said_yes = [a for a in dict.fromkeys(landings if both else landings[-1:]) if self._decide(a, "approve")]
        if said_yes and self._dice.random() < 0.6:
            self._come_back(life, said_yes[-1])
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

    def _come_back(self, life: Life, agreement_id: str) -> None:
        with self._house.app.app_context(), reading():
            wanted = db.select(Agreement.return_id).where(Agreement.provider_agreement_id == agreement_id)
            found = db.session.scalar(wanted)
        if found:
            self._try(life, "POST", f"/api/recurring/return/{life.partner}/{found}")

    def cancel(self, life: Life) -> None:
        """Have the partner cancel it, by one contract or the other, at times twice."""
        if self._dice.random() < 0.3 and (agreements := self._agreements(life)):
            if self._ask_directly(life, "agreement/cancel", agreements[0]["id"]) == "done":
                life.cancel_accepted_at = self._house.time.at
            return
        answer = self._persist(life, "DELETE", f"/api/recurring/cancel/{life.number}")
        if answer.status == 200 or b"Cancel" in answer.body:
            life.cancel_accepted_at = self._house.time.at
        if self._dice.random() < 0.3:
            self._persist(life, "DELETE", f"/api/recurring/cancel/{life.number}")

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
        self._house.at_home(lambda: endings.end_with_period(life.number or 0))
        if self._dice.random() < 0.3:
            self._wait(hours=self._dice.uniform(0, 72))
            self._house.at_home(lambda: endings.keep(life.number or 0))

    def _refund(self, life: Life) -> None:
        """Give some money back, and ask again until there is a word; at times two clerks at once."""
        charge = self._paid(life)
        if charge is None:
            return
        whole = charge["summary"]["captured"]
        first, *others = self._dice.choice([[100], [whole], [100, 500], [whole, 500]])
        for amount in others:
            self._house.spawn(f"clerk of {life.order}", lambda a=amount: self._ask_back(life, charge, a))  # type: ignore[misc]
        self._ask_back(life, charge, first)

    def _ask_back(self, life: Life, charge: dict[str, Any], amount: int) -> None:
        asked = life.refunds.setdefault(charge["id"], {})
        asked[amount] = False
        item = {"agreement_id": charge["agreementId"], "charge_id": charge["id"], "price": amount}
        asked[amount] = self._ask_directly(life, "charge/refund", item) == "done"

    def _refund_in_portal(self, life: Life) -> None:
        """Give money back without our knowing; without any webhook nobody would ever tell us."""
        charge = None if self._house.switches["webhooks_lost"] else self._paid(life)
        if charge is None:
            return
        path = f"/recurring/v3/agreements/{charge['agreementId']}/charges/{charge['id']}/refund"
        answer = self._house.portal(
            life.partner, path, b'{"amount": 300, "description": "Sorry"}', f"{BY_HAND}{charge['id'][-30:]}"
        )
        self._house.tell(f"gives 300 of {charge['id']} back: {answer.status}")
        if answer.status < 300:
            life.portal[charge["id"]] = 300

    def _be_in_the_way(self, life: Life) -> None:
        """Make a charge at Vipps under the very name that our next one will have."""
        with self._house.app.app_context(), reading():
            found = db.session.get(Subscription, life.number)
            name = f"{life.ulid}-p{found.next_period:04d}-a0" if found is not None else ""
        for agreement in self._agreements(life) if name and self._house.lost is None else ():
            body = {
                "amount": 100,
                "description": "A mistake",
                "due": f"{self._house.time.at + timedelta(days=10):%Y-%m-%d}",
                "retryDays": 0,
                "transactionType": "DIRECT_CAPTURE",
                "orderId": name,
            }
            path = f"/recurring/v3/agreements/{agreement['id']}/charges"
            answer = self._house.portal(life.partner, path, json.dumps(body).encode(), f"{BY_HAND}{name}")
            self._house.tell(f"takes the name {name}: {answer.status}")
            if answer.status < 300:
                life.taken_names.add(name)

    def _paid(self, life: Life) -> dict[str, Any] | None:
        paid = [c for c in self._charges(life) if c["summary"]["captured"] > c["summary"]["refunded"]]
        mine = [c for c in paid if c["id"] not in life.refunds and c["id"] not in life.portal]
        return self._dice.choice(mine) if mine else None

    def _change_price(self, life: Life) -> None:
        """Ask for a little more; of some that are refused nobody hears again."""
        amount = life.prices[-1] + 500
        changes = self._house.app.extensions[reach.SERVICES].changes
        if self._house.at_home(lambda: changes.change(life.number or 0, NewTerms(amount=amount))):
            life.prices.append(amount)

    def _run_out_of_money(self, life: Life) -> None:
        """Have nothing on the account for some days, or ever again."""
        for agreement in self._agreements(life):
            funds = {"funds": {"agreementId": agreement["id"], "available": False}}
            self._house.vipps("POST", "/sim/switches", json.dumps(funds).encode())
            self._wait(hours=self._dice.choice([24, 24 * 6, 24 * 400]))
            funds["funds"]["available"] = True
            self._house.vipps("POST", "/sim/switches", json.dumps(funds).encode())

    def _make_extra(self, life: Life) -> None:
        """Charge something besides, by a name of the partner's own, and ask again until there is a word."""
        active = self._agreements(life)
        if not active:
            return
        name, amount = f"{life.order}-x{len(life.extras)}", 2500
        life.extras[name] = (amount, False)
        item = {"agreement_id": active[0]["id"], "charge_id": name, "price": amount}
        told = self._ask_directly(life, "charge/make", item)
        life.extras[name] = (amount, told == "done")

    def _call_off(self, life: Life) -> None:
        """Call a payment off that is on its way to be taken, once there is one."""
        for _ in range(6):
            waiting = [c for c in self._charges(life) if c["status"] in _ON_THEIR_WAY]
            if waiting:
                break
            self._wait(hours=12)
        else:
            return
        item = {"agreement_id": waiting[0]["agreementId"], "charge_id": waiting[0]["id"]}
        if self._ask_directly(life, "charge/cancel", item) == "done":
            life.called_off.add(waiting[0]["id"])

    def _capture(self, life: Life) -> None:
        """Take what is set aside, or a part of it, or that and then the rest."""
        for amount in self._dice.choice([[None], [100], [100, None], [100, 300]]):
            listed = self._persist(life, "GET", f"/api/transactions/search/{life.partner}/{life.number}")
            open_ = [t for t in json.loads(listed.body)["transactions"] if t["status"] == "RESERVED"]
            if listed.status != 200 or not open_:
                return
            [there] = [c for c in self._charges(life) if c["id"] == open_[0]["referenceId"]]
            left = there["amount"] - there["summary"]["captured"]
            path = f"/api/transactions/{life.partner}/{open_[0]['transactionId']}/capture"
            part = "" if amount is None else f"?amount={amount / 100:g}"
            answer = self._persist(life, "PUT", path + part, key=f"{there['id']}-{amount}")
            if answer.status == 200:
                life.captures[there["id"]] += amount or left
            self._wait(hours=self._dice.choice([1, 20, 60]))

    def _ask_directly(self, life: Life, path: str, item: dict[str, Any] | str) -> str:
        """Ask by the second contract until it is done or refused."""
        for _ in range(12):
            answer = self._try(life, "POST", f"/vipps-recurring-payments/{path}", [item])
            found = json.loads(answer.body) if answer is not None and answer.status == 200 else {}
            if found.get("successes"):
                return "done"
            if found.get("errors") and "not known" not in found["errors"][0]:
                self._house.tell(f"{path}: {found['errors'][0][:160]!r}")
            self._wait(seconds=self._dice.choice([1, 60, 3600]))
        return "given up"

    def _ledger(self) -> Any:
        return json.loads(self._house.vipps("GET", "/sim/ledger").body)

    def _agreements(self, life: Life, status: str = "ACTIVE") -> list[dict[str, Any]]:
        return [a for a in self._ledger()["agreements"] if a["externalId"] == life.ulid and a["status"] == status]

    def _charges(self, life: Life) -> list[dict[str, Any]]:
        mine = [c for c in self._ledger()["charges"] if c["externalAgreementId"] == life.ulid]
        return [c for c in mine if c["id"] not in life.taken_names]

    def _stay(self, life: Life) -> None:
        """Stay a subscriber as one is."""

    # Ways

    def _wait_for_the_end_of_the_month(self) -> None:
        """Wait for a day that not every month has, if there is one within half of the time."""
        days = [day for day in range(self._days // 2) if (self._house.time.at + timedelta(days=day)).day > 28]
        if days:
            self._wait(days=self._dice.choice(days))

    def _wait(self, **by: float) -> None:
        self._house.rest(timedelta(**by))
        if self._house.time.at > self._until:
            raise GreenletExit

    def _try(self, life: Life, method: str, path: str, body: Any = None, key: str = "") -> Reply | None:
        raw = b"" if body is None else json.dumps(body).encode()
        headers = {} if path.startswith(_FOR_PEOPLE) else _login(life.partner)
        headers |= {"Idempotency-Key": key} if key else {}
        try:
            answer = self._house.ask(method, SERVICE + path, headers, raw)
        except requests.ConnectionError:
            self._house.tell(f"{method} {path}: no answer")
            return None
        self._house.tell(f"{method} {path}: {answer.status}")
        return answer

    def _persist(self, life: Life, method: str, path: str, body: Any = None, key: str = "") -> Reply:
        """Ask until there is an answer that says yes or no."""
        while True:
            answer = self._try(life, method, path, body, key)
            if answer is not None and answer.status < 500 and answer.status != 429:
                return answer
            self._wait(seconds=self._dice.choice([1, 30, 600]))


def _login(partner: int) -> dict[str, str]:
    login = base64.b64encode(f"{partner}:{factories.SECRET}-{partner}".encode()).decode()
    return {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
