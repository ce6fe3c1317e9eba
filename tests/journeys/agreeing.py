"""Vipps' ledger and our tables, held against each other and against what must hold always."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from invoice.lifecycle import ChargeStatus, SubscriptionStatus
from invoice.services.refunds import REFUND
from invoice.store.db import db, reading
from invoice.store.models import Agreement, Charge, Event, Operation, Refund, Subscription
from tests.journeys.stand import Stand
from tests.journeys.wire import Sent

T = TypeVar("T")

# Ours -> the words at Vipps.
_WORDS = {
    ChargeStatus.SUBMITTED: {"PENDING", "DUE", "PROCESSING"},
    ChargeStatus.RESERVED: {"RESERVED", "PARTIALLY_CAPTURED"},
}
_NEVER_THERE = {ChargeStatus.PLANNED, ChargeStatus.VOID, ChargeStatus.REFUSED}
_NAME = re.compile(r"(?P<ulid>[0-9A-Z]{26})-p(?P<period>\d{4})-a\d+")


def assert_books_agree(stand: Stand, *, strangers: Iterable[str] = ()) -> None:
    """Compare Vipps' ledger with our tables, to the minor unit, and both with what must hold always.

    strangers: names of charges at Vipps that somebody else made there.
    """
    wrong = disagreements(stand.ledger(), sent=stand.wire.sent, strangers=strangers)
    assert wrong == [], "\n".join(wrong)


def disagreements(
    ledger: dict[str, list[dict[str, Any]]], *, sent: list[Sent] | None = None, strangers: Iterable[str] = ()
) -> list[str]:
    """Return what is wrong between Vipps' ledger and our tables, a sentence for each."""
    books = _books(set(strangers))
    charges = [c for c in ledger["charges"] if c["id"] not in set(strangers)]
    return [
        *_differences(charges, books),
        *_doubles(charges, books),
        *_after_the_cancel(charges, books),
        *_orphans(ledger["agreements"], books),
        *_refund_differences(ledger["refunds"], charges, books),
        *_keys_with_two_bodies(sent or []),
        *_gaps_in_events(books),
    ]


@dataclass(frozen=True)
class Books:
    """Our tables, read in one go."""

    subscriptions: dict[int, Subscription]
    agreements: dict[int, Agreement]
    charges: dict[str, Charge]
    refunds: list[Refund]
    refund_keys: dict[int, str]
    events: list[Event]


def _books(strangers: set[str]) -> Books:
    def every(model: type[T]) -> list[T]:
        return list(db.session.scalars(db.select(model)))

    with reading():
        books = Books(
            {s.id: s for s in every(Subscription)},
            {a.id: a for a in every(Agreement)},
            {c.name: c for c in every(Charge) if c.name not in strangers},
            every(Refund),
            {o.subject_id: o.key for o in every(Operation) if o.kind == REFUND},
            every(Event),
        )
        db.session.expunge_all()
        return books


def _differences(theirs: list[dict[str, Any]], books: Books) -> Iterator[str]:
    """S2: every charge stands in both, with the same agreement, sums and status."""
    there = {c["id"]: c for c in theirs}
    for name, other in there.items():
        ours = books.charges.get(name)
        if ours is None:
            yield f"{name} stands in no book: {other['status']} {other['summary']}"
            continue
        sums = (other["amount"], other["currency"], other["summary"]["captured"], other["summary"]["refunded"])
        if (ours.amount, ours.currency, ours.captured, ours.refunded) != sums:
            yield f"{name}: ours {ours.amount} {ours.captured} {ours.refunded}, theirs {sums}"
        if books.agreements[ours.agreement_id].provider_agreement_id != other["agreementId"]:
            yield f"{name} stands under another agreement"
        if other["status"] not in _WORDS.get(ours.status, {ours.status.value}):
            yield f"{name}: ours {ours.status}, theirs {other['status']}"
    for name, ours in books.charges.items():
        if name not in there and (ours.status not in _NEVER_THERE or ours.captured or ours.refunded):
            yield f"{name}: ours {ours.status}, and not at Vipps"


def _doubles(theirs: list[dict[str, Any]], books: Books) -> Iterator[str]:
    """S1: no two living charges for a period, in either; what was given back whole does not live."""
    there = Counter(
        (found["ulid"], found["period"])
        for c in theirs
        if (found := _NAME.fullmatch(c["id"])) and c["status"] not in ("FAILED", "CANCELLED", "REFUNDED")
    )
    ended = {ChargeStatus.FAILED, ChargeStatus.CANCELLED, ChargeStatus.VOID, ChargeStatus.REFUNDED}
    periods = [c for c in books.charges.values() if c.status not in ended and not c.is_extra]
    here = Counter((c.subscription_id, c.period) for c in periods)
    yield from (f"{which} is charged {count} times" for which, count in [*there.items(), *here.items()] if count > 1)


def _after_the_cancel(theirs: list[dict[str, Any]], books: Books) -> Iterator[str]:
    """S3: nothing is created after a cancel's commit, and what is taken after it goes back whole, or cannot."""
    failed = {r.charge_id for r in books.refunds if r.status == "FAILED"}
    for c in theirs:
        ours = books.charges.get(c["id"])
        cancelled_at = books.subscriptions[ours.subscription_id].cancel_requested_at if ours else None
        if ours is None or cancelled_at is None:
            continue
        if c["type"] != "INITIAL" and datetime.fromisoformat(c["created"]) > cancelled_at:
            yield f"{c['id']} was created after the cancel"
        is_late = c["capturedAt"] is not None and datetime.fromisoformat(c["capturedAt"]) > cancelled_at
        if is_late and c["summary"]["refunded"] != c["summary"]["captured"] and ours.id not in failed:
            yield f"{c['id']} was taken after the cancel and kept"


def _orphans(theirs: list[dict[str, Any]], books: Books) -> Iterator[str]:
    """S7: an active agreement is the one that an active subscription of ours stands on."""
    standing_on = {
        a.provider_agreement_id
        for a in books.agreements.values()
        if a.is_adopted and books.subscriptions[a.subscription_id].status == SubscriptionStatus.ACTIVE
    }
    yield from (
        f"{a['id']} is active for nobody" for a in theirs if a["status"] == "ACTIVE" and a["id"] not in standing_on
    )


def _refund_differences(refunds: list[dict[str, Any]], theirs: list[dict[str, Any]], books: Books) -> Iterator[str]:
    """S6: each refund of ours moved money once."""
    kept = {c["id"] for c in theirs}
    made = Counter(r["idempotencyKey"] for r in refunds if r["chargeId"] in kept)
    for refund in books.refunds:
        times = made[books.refund_keys[refund.id]]
        if times > 1 or (times == 0 and refund.status == "DONE"):
            yield f"refund {refund.id} of {refund.amount} is {refund.status} and was made {times} times"
    done: Counter[int] = Counter()
    for refund in books.refunds:
        done[refund.charge_id] += refund.amount if refund.status == "DONE" else 0
    for name, ours in books.charges.items():
        if done[ours.id] > ours.refunded:
            yield f"{name}: refunds of {done[ours.id]} are done, and {ours.refunded} are back"
        waiting = [r for r in books.refunds if r.charge_id == ours.id and r.status == "REQUESTED"]
        if any(r.refunded_before + r.amount <= ours.refunded for r in waiting):
            yield f"{name}: a refund is waited for that is back"


def _keys_with_two_bodies(sent: list[Sent]) -> Iterator[str]:
    """S10: one key, one byte string."""
    bodies = defaultdict(set)
    for each in sent:
        if each.key:
            bodies[each.key].add((each.name, each.body))
    yield from (f"{key} was used for {len(found)} bodies" for key, found in bodies.items() if len(found) > 1)


def _gaps_in_events(books: Books) -> Iterator[str]:
    """E2: a subscription's events are numbered without gaps."""
    numbers = defaultdict(list)
    for event in books.events:
        numbers[event.subscription_id].append(event.seq)
    yield from (f"{of}: {seqs}" for of, seqs in numbers.items() if sorted(seqs) != list(range(1, len(seqs) + 1)))
