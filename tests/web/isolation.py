"""Partners with everything that a partner can have, and the proofs of all who ask: for the matrix of who may what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from invoice.clock import utc_now
from invoice.lifecycle import Channel
from invoice.services import accounts, deliveries, feed, partners
from invoice.services.accounts import AccountKeys
from invoice.services.jobs import Services
from invoice.store import queries
from invoice.store.db import Base, db, reading, transaction
from invoice.store.models import Message, RateLimit, Subscription, UsedNonce, WebhookRegistration
from tests import factories
from tests.conftest import StandingClock
from tests.factories import a_partner, a_wish, accept, charges, newest_agreement, subscription
from tests.fakes import FakePayments
from tests.web import proofs

HOST = "https://pay.example.com"
KINDS = ("basic", "bearer", "hmac", "hmac-sha256")
_NUMBERS = count()

# What nobody has, of the same shape and length as what the first partner has.
UNKNOWN: dict[str, Any] = {
    "partner": 99999,
    "subscription": 8,
    "waiting": 9,
    "member": "member-9",
    "link": "L" * 22,
    "manage": "M" * 22,
    "return": "00000000-0000-4000-8000-000000000000",
    "agreement": "agr_9",
    "charge": "01ARZ3NDEKTSV4RRFFQ69G5FAV-p0000-a0",
    "named": "invoice-9",
    "transaction": "00000000-0000-5000-8000-000000000000",
    "event": "evt_" + "0" * 32,
    "message": 9,
    "registration": "R" * 22,
}


@dataclass(frozen=True)
class Secrets:
    """What opens a partner's door."""

    number: int
    password: str
    key: str
    hmac: str

    def proof(self, kind: str, time: StandingClock, method: str, target: str, body: bytes) -> str:
        """Return what stands in `Authorization`."""
        if kind == "basic":
            return proofs.basic(self.number, self.password)
        if kind == "bearer":
            return f"Bearer {self.key}"
        sign = proofs.short if kind == "hmac" else proofs.full
        return sign(self.number, self.hmac, method, target, body, at=time.at, nonce=f"n{next(_NUMBERS)}")

    def wrong(self) -> Secrets:
        """The same partner, and nothing right about it."""
        return Secrets(self.number, "wrong", f"mi_{self.number}_{'x' * 43}", "TXlTZWNyZXRLZXk=")


@dataclass(frozen=True)
class World:
    """One partner: its proofs, and its ids by what they are ids of."""

    secrets: Secrets
    ids: Mapping[str, Any]


NOBODY = Secrets(99999, "", "", "").wrong()


def a_world(services: Services, payments: FakePayments, number: int, mark: str) -> World:
    """Return a partner with money that is set aside, an open request, a text, events and an endpoint."""
    partner = a_partner(number)
    hmac, key = partners.turn_hmac_on(number, takes_short=True), partners.add_key(number, may_see_token=True)
    services.endpoints.put(number, "https://www.example.com/events")
    wish = a_wish(member_id=f"member-{mark}", order_number=f"order-{mark}", send_sms=True)
    paying = services.subscriptions.request(partner, wish).subscription_id
    with transaction():
        db.session.get_one(Subscription, paying).reserves_initial = True
    payments.agreements[str(newest_agreement(paying).provider_agreement_id)].draft["initial"]["is_reserved"] = True
    accept(services, payments, paying)
    waiting = services.subscriptions.request(partner, a_wish()).subscription_id
    (charge,) = charges(paying)
    agreement, row, open_one = newest_agreement(paying), subscription(paying), subscription(waiting)
    feed.place()
    ids = {
        "partner": number,
        "subscription": paying,
        "waiting": waiting,
        "member": f"member-{mark}",
        "link": open_one.link_token,
        "manage": row.manage_token,
        "return": agreement.return_id,
        "agreement": agreement.provider_agreement_id,
        "charge": charge.name,
        "named": f"invoice-{mark}",
        "transaction": charge.guid,
        "event": feed.page(number, None, 1).events[0]["id"],
        "message": text_of(paying),
        "registration": registered(mark),
    }
    return World(Secrets(number, f"{factories.SECRET}-{number}", key, hmac), ids)


def registered(mark: str) -> str:
    """Return the token of an address that a provider was told, with the secret "s"."""
    token = mark * 22
    facts = {"token": token, "url": f"{HOST}/hooks/vipps/{token}", "secret": "s", "created_at": utc_now()}
    with transaction():
        db.session.add(WebhookRegistration(account=f"23456{mark}", provider_webhook_id=f"hook-{mark}", **facts))
    return token


def text_of(subscription_id: int) -> int:
    """Return the number of a subscription's text."""
    with reading():
        return db.session.scalars(db.select(Message.id).where(Message.subscription_id == subscription_id)).one()


def settle_deliveries(number: int) -> None:
    """Have nothing under way to a partner, so that what was told can be told again."""
    with transaction():
        deliveries.void_lane(queries.lane_of(number, Channel.EVENTS))


def bring_keys(world: World) -> None:
    """Have a partner use an account of its own from now on; what was signed stays under the one that all share."""
    accounts.bring(world.secrets.number, AccountKeys("234567", "client", "secret", "key"))


def everything_of(number: int) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows that are a partner's, and those that are nobody's in particular; counts of calls are neither."""
    found = {}
    with reading():
        mine = db.session.scalars(db.select(Subscription.id).where(Subscription.partner_id == number)).all()
        for table in set(Base.metadata.sorted_tables) - {RateLimit.__table__, UsedNonce.__table__}:
            wanted = db.select(table).order_by(*table.primary_key)
            if "partner_id" in table.c:
                wanted = wanted.where(table.c.partner_id == number)
            elif "subscription_id" in table.c:
                wanted = wanted.where(table.c.subscription_id.in_(mine))
            found[table.name] = [tuple(row) for row in db.session.execute(wanted)]
    return found


def filled(template: Any, ids: Mapping[str, Any]) -> Any:
    """Return a template with ids in the places of their names, inside lists and objects too."""
    if isinstance(template, str):
        return template.format(**ids)
    if isinstance(template, list):
        return [filled(item, ids) for item in template]
    if isinstance(template, dict):
        return {name: filled(value, ids) for name, value in template.items()}
    return template


def texts(template: Any) -> Iterator[str]:
    """Yield all texts of a template."""
    if isinstance(template, str):
        yield template
    elif isinstance(template, list | dict):
        for item in template.values() if isinstance(template, dict) else template:
            yield from texts(item)


def send(client: FlaskClient, method: str, target: str, body: bytes, authorization: str | None) -> TestResponse:
    headers = {} if authorization is None else {"Authorization": authorization}
    kind = None if not body else "application/json"
    with client.open(target, method=method, data=body, content_type=kind, headers=headers) as answer:
        answer.get_data()
        return answer


def told(answer: TestResponse, ids: Mapping[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return all that a caller sees of an answer, but for what it said itself."""
    data = answer.get_data()
    for name, value in ids.items():
        if name != "partner":
            data = data.replace(
                str(value).encode() if len(str(value)) > 1 else f'"{value}"'.encode(), b"<what you said>"
            )
    return answer.status_code, sorted(h for h in answer.headers if h[0] not in ("X-Request-Id", "Date")), data


def seen_in(text: str, ids: Mapping[str, Any], *, but: str) -> list[str]:
    """Return the ids that stand in a text and not in what was asked; short ones mean nothing."""
    found = [str(value) for name, value in ids.items() if name != "partner" and len(str(value)) > 5]
    return [value for value in found if value in text and value not in but]
