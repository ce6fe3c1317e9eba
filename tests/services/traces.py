"""A person's whole life with the service, and what of it stands in the database afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import func, select

from invoice.lifecycle import SubscriptionStatus
from invoice.names import new_guid
from invoice.services import idempotency, partners
from invoice.services.idempotency import Answer, Attempt
from invoice.services.jobs import Jobs, Services
from invoice.store.db import Base, db, reading
from tests.factories import a_partner, a_wish, accept, newest_agreement, settle, subscription
from tests.fakes import FakePayments
from tests.receivers import Receiver

PARTNER = 10295
KARI, OLA = "+4798765432", "+4741414141"
MEMBERS = {KARI: "member-kari", OLA: "member-ola"}


@dataclass(frozen=True)
class Life:
    """One subscription of a person, and what must be found nowhere once it is forgotten."""

    id: int
    number: str
    secrets: tuple[str, ...]  # links, and what stood in the text

    @property
    def person(self) -> tuple[str, ...]:
        """What tells who it was, in every spelling."""
        return self.number.removeprefix("+47"), MEMBERS[self.number]


def begin(
    services: Services, payments: FakePayments, jobs: Jobs, receiver: Receiver, number: str = KARI, **changes: Any
) -> Life:
    """Have a person texted, and accept; the partner takes callbacks that hold the number."""
    if PARTNER not in [partner.id for partner in partners.list_all()]:
        a_partner(PARTNER)
    callbacks = f"{receiver.url}/cb?m={{{{msisdn}}}}&who={{{{memberId}}}}&s={{{{status}}}}"
    wish = a_wish(
        msisdn=number,
        member_id=MEMBERS[number],
        send_sms=True,
        sms_text=f"Kjaere {MEMBERS[number]}, trykk her",
        status_callback_url=callbacks,
        confirm_callback_url=callbacks,
        sms_callback_url=callbacks,
        **changes,
    )
    attempt = _taken_up(new_guid())
    subscription_id = services.subscriptions.request(partners.get(PARTNER), wish, attempt).subscription_id
    idempotency.complete(attempt, Answer(200, "application/json", number.encode()))
    settle(jobs)
    agreement = newest_agreement(subscription_id)
    ring = {"agreement_id": agreement.provider_agreement_id, "external_id": None, "charge_name": None}
    services.inbox.take_webhook(json.dumps(ring).encode(), "123456")
    accept(services, payments, subscription_id)
    settle(jobs)
    found = subscription(subscription_id)
    assert found.status == SubscriptionStatus.ACTIVE
    secrets = (found.link_token, found.manage_token, agreement.return_id, str(agreement.confirmation_url))
    return Life(subscription_id, number, secrets)


def _taken_up(key: str) -> Attempt:
    attempt = idempotency.begin(PARTNER, key, sha256(key.encode()).digest())
    assert isinstance(attempt, Attempt)
    return attempt


def end(services: Services, jobs: Jobs, life: Life) -> None:
    """Have it cancelled, and everything told that is to be told."""
    services.subscriptions.cancel(life.id)
    settle(jobs)
    assert subscription(life.id).status == SubscriptionStatus.CANCELLED


def traces(*needles: str) -> dict[str, str]:
    """Return where in the whole database any of these stands, decrypted too: "table.column" -> the needle."""
    found = {}
    with reading():
        for table in Base.metadata.sorted_tables:
            for row in db.session.execute(select(table)).mappings():
                for name, value in row.items():
                    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                    found |= {f"{table.name}.{name}": each for each in needles if each in text}
    return found


def count(model: type[Base]) -> int:
    with reading():
        return db.session.scalars(select(func.count()).select_from(model)).one()
