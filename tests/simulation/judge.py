"""What must hold, whatever happened: judged by the stand-in's ledger, by our books, and by a model of its own."""

from __future__ import annotations

import calendar
import hashlib
import itertools
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from invoice.services import proof
from invoice.simulator.models import Delivery
from tests.simulation.house import House
from tests.simulation.operators import Operators
from tests.simulation.people import BY_HAND, Life, People

_NAME = re.compile(r"([0-9A-Z]{26})-p(\d{4})-a(\d+)")
_OSLO = ZoneInfo("Europe/Oslo")
_DEAD = ("FAILED", "CANCELLED")
# How late a payment may be: outages, dead processes, and three days between those that are made up for.
_GRACE = timedelta(days=20)
# How long a call may take to leave, once it was decided on: the longest lease and the longest stall.
_IN_FLIGHT = timedelta(minutes=25)
_KEPT = timedelta(days=80)  # webhooks are forgotten after 90
_BOOK_YEARS = 5  # for so many whole years after the one in which all ended, books are kept
# Source: names.py. A key must come out the same after a restore, so this never changes.
_NAMESPACE = uuid.UUID("6f2c3f0e-5d0b-4c52-9d39-3a1f4d8a7b10")
Ledger = dict[str, list[dict[str, Any]]]
_REFUND_KEYS = ("idempotency_hours", "refund_history_has_key")
_BODILESS = frozenset({"STOP", "CANCEL"})


class Violation(AssertionError):
    """Something that must never be."""


class Judge:
    """Looks on."""

    def __init__(self, house: House, people: People, operators: Operators) -> None:
        self._house, self._people, self._operators = house, people, operators
        self._look = house.database

    def ledger(self) -> Ledger:
        found: Ledger = json.loads(self._house.vipps("GET", "/sim/ledger").body)
        return found

    # Always

    def always(self) -> None:
        """Judge what may be asked at any moment, cheaply."""
        problems = [f"{name}: {row}" for name, query in _ALWAYS.items() for row in self._look.execute(query)]
        problems += self._house.wrongs
        if problems:
            raise Violation("; ".join(problems))

    # When all is quiet

    def finally_(self) -> None:
        """Judge the end: nothing is under way any more, and both sides agree on every minor unit."""
        problems = [f"{name}: {row}" for name, query in _QUIET.items() for row in self._look.execute(query)]
        ledger, lives = self._without_the_forgotten(self.ledger())
        problems += self._agree(ledger)
        problems += self._one_agreement(ledger)
        problems += self._both_know(ledger)
        problems += self._held(ledger)
        problems += self._all_told()
        problems += self._texts()
        problems += self._keys(ledger)
        with self._house.app.app_context():
            found = [finding for finding in proof.examine() if finding.subject not in self._left_to_a_person()]
            problems += [f"{finding.number}: {finding.subject}" for finding in found]
        for life in lives:
            problems += self._as_the_model_says(life, ledger)
            problems += self._directly(life, ledger)
            problems += self._captured(life, ledger)
        if problems:
            raise Violation("; ".join(problems))

    def _without_the_forgotten(self, ledger: Ledger) -> tuple[Ledger, list[Life]]:
        """Leave out whose books are gone, and may be: all ended long ago, or a restore left them to a person."""
        agreements = ledger["agreements"]
        whose = {a["id"]: a["externalId"] for a in agreements}
        last = [(a["externalId"], a["stop"] or a["created"]) for a in agreements]
        last += [(whose[c["agreementId"]], c["history"][-1]["occurred"]) for c in ledger["charges"]]
        first_year = str(self._house.time.at.year - _BOOK_YEARS)
        ours = {ulid for (ulid,) in self._look.execute("SELECT ulid FROM subscriptions")}
        lives = {a["externalId"] for a in agreements if a["status"] == "ACTIVE"}
        named = {whose[agreement_id] for agreement_id in self._operators.strangers}
        gone = set(whose.values()) - lives - {ulid for ulid, at in last if at >= first_year} | named
        gone -= ours
        left = {
            "agreements": [a for a in agreements if a["externalId"] not in gone],
            "charges": [c for c in ledger["charges"] if whose[c["agreementId"]] not in gone],
            "refunds": [r for r in ledger["refunds"] if whose[r["agreementId"]] not in gone],
        }
        return left, [life for life in self._people.lives if life.ulid not in gone]

    def _left_to_a_person(self) -> set[str]:
        """Name the refunds in part that were in doubt for so long that Vipps may have forgotten their key."""
        return {
            row[0]
            for row in self._look.execute("SELECT name FROM operations WHERE last_error LIKE '%is not sent again'")
        }

    def _agree(self, ledger: Ledger) -> Iterator[str]:
        """S2: every charge at Vipps stands in our books as it is there, and the reverse."""
        query = "SELECT name, amount, captured, refunded, status FROM charges"
        ours = {
            name: (amount, captured, refunded, status)
            for name, amount, captured, refunded, status in self._look.execute(query)
        }
        theirs = {c["id"]: c for c in ledger["charges"]}
        for name in self._taken_names():
            theirs.pop(name, None)
            if name in ours and ours.pop(name)[1]:
                yield f"S2: {name} is somebody else's, and stands in our books as paid"
        for name, charge in theirs.items():
            summary = charge["summary"]
            money = (charge["amount"], summary["captured"], summary["refunded"])
            if name not in ours:
                yield f"S2: {name} stands in no book: {money} {charge['status']}"
            elif ours[name][:3] != money:
                yield f"S2: {name}: our books say {ours[name]}, Vipps {money} {charge['status']}"
        for name, row in ours.items():
            if name not in theirs and (row[1] or row[3] not in ("VOID", "PLANNED", "REFUSED", "SUBMITTING")):
                yield f"S2: {name} is not at Vipps: {row}"

    def _taken_names(self) -> set[str]:
        return {name for life in self._people.lives for name in life.taken_names}

    def _one_agreement(self, ledger: Ledger) -> Iterator[str]:
        """S7: one consent lives, and what was taken under another has gone back."""
        active = Counter(a["externalId"] for a in ledger["agreements"] if a["status"] == "ACTIVE")
        yield from (f"S7: {ulid} has {n} active agreements" for ulid, n in active.items() if n > 1)
        query = "SELECT provider_agreement_id FROM agreements WHERE is_adopted"
        adopted = {row[0] for row in self._look.execute(query)}
        for charge in ledger["charges"]:
            kept = charge["summary"]["captured"] - charge["summary"]["refunded"]
            if charge["agreementId"] not in adopted and kept and charge["id"] not in self._taken_names():
                yield f"S7: {charge['id']} was taken under {charge['agreementId']} and not given back"

    def _both_know(self, ledger: Ledger) -> Iterator[str]:
        """L1, L5: who is active there is active here, and who has ended here has ended there."""
        query = "SELECT ulid, status FROM subscriptions"
        ours = dict(self._look.execute(query).fetchall())
        active = {a["externalId"] for a in ledger["agreements"] if a["status"] == "ACTIVE"}
        for ulid, status in ours.items():
            if (status == "ACTIVE") != (ulid in active):
                yield f"L1: {ulid} is {status} here, and {'active' if ulid in active else 'not active'} at Vipps"

    def _held(self, ledger: Ledger) -> Iterator[str]:
        """S15: while charging was held, none was sent; one that had been chosen before may have come a little later."""
        query = "SELECT c.name, c.sent_at, s.partner_id FROM charges c JOIN subscriptions s ON s.id = c.subscription_id"
        rows = self._look.execute(f"{query} WHERE c.sent_at IS NOT NULL").fetchall()
        sent, whose = {name: _instant(at) for name, at, _ in rows}, {name: partner for name, _, partner in rows}
        ours = [c for c in ledger["charges"] if c["id"] in sent and c["id"] not in self._taken_names()]
        made = {c["id"]: datetime.fromisoformat(c["created"]) for c in ours}
        for since, until, partner in self._operators.held:
            # A call may be under way when charging is held, and the ledger's times are whole seconds.
            after, before = since + _IN_FLIGHT, until - timedelta(seconds=1)
            for name, at in sent.items():
                if partner in (None, whose[name]) and since < at < until:
                    yield f"S15: {name} was chosen at {at}, held"
                if partner in (None, whose[name]) and name in made and after < made[name] < before:
                    yield f"S15: {name} was made at {made[name]}, held"

    def _all_told(self) -> Iterator[str]:
        """E1, E6: the partner has heard of every event; and what Vipps counts as taken in by us, we have."""
        if self._house.lost is not None:
            return
        heard = {number: len(events) for number, events in self._house.partner.received.items()}
        for number, count in self._look.execute("SELECT id, event_count FROM subscriptions WHERE event_count > 0"):
            if heard.get(number, 0) != count:
                yield f"E1: the partner heard {heard.get(number, 0)} of {count} events of subscription {number}"
        since = self._house.time.at - _KEPT
        stored = {body for (body,) in self._look.execute("SELECT body FROM inbound_events WHERE source = 'vipps'")}
        with self._house.simulator._world.store.read() as session:
            taken = select(Delivery).where(Delivery.outcome == "delivered", Delivery.created_at > since)
            for delivery in session.scalars(taken):
                if delivery.body not in stored:
                    yield f"E6: a webhook was taken and is not there: {delivery.event} {delivery.subject}"

    def _texts(self) -> Iterator[str]:
        """Nobody gets the same text twice, unless whoever sent the first one stood still for very long."""
        if self._house.lost is None and not any(path.endswith("/Messages.json") for path in self._house.late):
            texts = json.loads(self._house.vipps("GET", "/sim/messages").body)["messages"]
            sent = Counter((text["to"], text["body"]) for text in texts)
            yield from (f"L4: {to} has the same text {times} times" for (to, _), times in sent.items() if times > 1)

    def _keys(self, ledger: Ledger) -> Iterator[str]:
        """S10: the key of an act can be worked out again from what it is, and it went out under that key."""
        query = "SELECT o.key, r.status FROM operations o JOIN refunds r ON r.id = o.subject_id WHERE o.kind = 'REFUND'"
        ours = dict(self._look.execute(query).fetchall())
        are_named = self._house.lost is None and self._house.switches["refund_history_has_key"]
        for refund in ledger["refunds"] if are_named else ():
            status = ours.get(refund["idempotencyKey"])
            if status != "DONE" and not refund["idempotencyKey"].startswith(BY_HAND):
                yield f"S10: {refund['amount']} of {refund['chargeId']} went back; in our books it is {status}"
        for name, kind, body, key in self._look.execute("SELECT name, kind, request, key FROM operations"):
            # The sum that a capture must come to is written into it later.
            said = json.dumps({"amount": json.loads(body)["amount"]}) if kind == "CAPTURE" and body else body
            digest = hashlib.sha256(said.encode()).hexdigest()
            if key != str(uuid.uuid5(_NAMESPACE, f"{name}|{kind}|{digest}")) and (body or kind in _BODILESS):
                yield f"S10: {kind} {name} has another key than its own"

    def _as_the_model_says(self, life: Life, ledger: Ledger) -> Iterator[str]:
        """Say which periods had to be paid, from what really happened at Vipps and nothing that we wrote down."""
        query = "SELECT a.provider_agreement_id FROM agreements a JOIN subscriptions s ON s.id = a.subscription_id"
        adopted = {row[0] for row in self._look.execute(f"{query} WHERE s.ulid = ? AND is_adopted", (life.ulid,))}
        for agreement in (a for a in ledger["agreements"] if a["id"] in adopted):
            anchor = datetime.fromisoformat(agreement["start"]).astimezone(_OSLO).date()
            ours = [c for c in ledger["charges"] if c["id"] not in life.taken_names]
            charges = _by_period(life, [c for c in ours if c["agreementId"] == agreement["id"]])
            lost = {int(found[2]) for name in life.taken_names if (found := _NAME.fullmatch(name))}
            for period, found in charges.items():
                yield from self._as_asked(life, period, due_on(anchor, life.interval, period), found)
            ends = [agreement.get("stop") and datetime.fromisoformat(agreement["stop"]), life.cancel_accepted_at]
            end = min([at for at in ends if at] or [self._house.time.at])
            for period in itertools.count(1):
                due = due_on(anchor, life.interval, period)
                if due > self._house.time.at.date() + _GRACE:
                    break
                if period not in lost:
                    yield from self._paid_until(life, due, end, charges.get(period, []))

    def _as_asked(self, life: Life, period: int, due: date, charges: list[dict[str, Any]]) -> Iterator[str]:
        """S1, S5, S14: once, the right amount, and on its day; late only when others had to be made up for."""
        if sum(_is_paid(life, c) for c in charges) > 1:
            yield f"S1: period {period} of {life.ulid} is paid more than once"
        if period and len(charges) > 1 and any(c["status"] == "FAILED" for c in charges[:-1]):
            yield f"S8: period {period} of {life.ulid} is asked for again after Vipps gave up"
        for charge in charges:
            asked = datetime.fromisoformat(charge["due"]).date()
            if charge["amount"] not in self._prices(life, period):
                yield f"S5: {charge['id']} is over {charge['amount']}"
            if period and not due <= asked <= due + _GRACE:
                yield f"S14: {charge['id']} falls due on {asked} instead of {due}"

    def _paid_until(self, life: Life, due: date, end: datetime, charges: list[dict[str, Any]]) -> Iterator[str]:
        """L2, S3: what fell due well before the end is paid, and nothing that lies after it."""
        is_paid = any(_is_paid(life, c) for c in charges)
        has_failed = any(c["status"] in _DEAD for c in charges)
        if due <= (end - _GRACE).date() and not (is_paid or has_failed or life.ends_with_period):
            yield f"L2: {life.ulid} has not paid what was due on {due}"
        if due > end.astimezone(_OSLO).date() + timedelta(days=1) and is_paid:
            yield f"S3: {life.ulid} has paid what was due on {due}, though it ended {end}"

    def _directly(self, life: Life, ledger: Ledger) -> Iterator[str]:
        """S6, S1: what a partner asked for by name happened once, and if it was told so, it did; or it has failed."""
        theirs = {c["id"]: c for c in ledger["charges"]}
        wishes = [(n, amount, is_told) for n, asked in life.refunds.items() for amount, is_told in asked.items()]
        for name, amount, is_told in wishes:
            times = sum(r["chargeId"] == name and r["amount"] == amount for r in ledger["refunds"])
            wholly = theirs[name]["summary"]["refunded"] == theirs[name]["summary"]["captured"]
            if (times > 1 and not self._may_be_doubled(name)) or (
                is_told and not times and not wholly and not self._is_told("refund.failed", name)
            ):
                yield f"S6: {amount} of {name} went back {times} times; told: {is_told}"
        for name in life.called_off:
            if theirs[name]["summary"]["captured"] and not self._is_told("charge.cancel_failed", name):
                yield f"S3: {name} was told to be called off, and is paid"
        for name, (amount, is_told) in life.extras.items():
            found = [c for c in theirs if c == name or c.endswith(f"-{name}")]
            if len(found) > 1 or (is_told and not found and not self._ended(life)):
                yield f"S1: {name} over {amount} was made {len(found)} times; told: {is_told}"

    def _captured(self, life: Life, ledger: Ledger) -> Iterator[str]:
        """S2: as much was captured as was accepted to be, unless the partner was told otherwise, or it ended."""
        taken = {c["id"]: c["summary"]["captured"] for c in ledger["charges"]}
        for name, wanted in life.captures.items():
            is_short = taken[name] < wanted and not (self._is_told("capture.failed", name) or self._ended(life))
            if taken[name] > wanted or is_short:
                yield f"S2: of {name} {wanted} was to be captured, and {taken[name]} was"

    def _may_be_doubled(self, name: str) -> bool:
        """Tell whether nothing could help.

        Vipps remembers no keys, and its history names none or who had looked stood still before it sent. Or its history
        names none, and the row of the refund is lost.
        """
        is_keyless, is_nameless = (self._house.switches[n] in (0, False) for n in _REFUND_KEYS)
        is_late = any(path.endswith(f"/{name}/refund") for path in self._house.late)
        return (is_keyless and (is_late or is_nameless)) or (is_nameless and self._house.lost is not None)

    def _is_told(self, event: str, name: str) -> bool:
        query = "SELECT 1 FROM events WHERE type = ? AND json_extract(data, '$.charge') = ?"
        return self._look.execute(query, (event, name)).fetchone() is not None

    def _ended(self, life: Life) -> bool:
        query = "SELECT 1 FROM subscriptions WHERE ulid = ? AND status <> 'ACTIVE'"
        return self._look.execute(query, (life.ulid,)).fetchone() is not None

    def _prices(self, life: Life, period: int) -> list[int]:
        """Return what a period may cost: at first the campaign's price, then any that was ever asked for."""
        return [life.campaign] if period == 0 and life.campaign is not None else life.prices


def _by_period(life: Life, charges: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Sort a subscription's charges at Vipps by the period that their names say."""
    found: dict[int, list[dict[str, Any]]] = {}
    for charge in charges:
        name = _NAME.fullmatch(charge["id"])
        if name and name[1] == life.ulid:
            found.setdefault(int(name[2]), []).append(charge)
    return found


def _is_paid(life: Life, charge: dict[str, Any]) -> bool:
    """Tell whether money was taken and not given back, but for what the partner wanted to give back."""
    summary, is_wanted_back = charge["summary"], charge["id"] in life.refunds or charge["id"] in life.portal
    return bool(summary["captured"]) and (summary["captured"] > summary["refunded"] or is_wanted_back)


def _instant(text: str) -> datetime:
    """Read an instant of our tables."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due_on(anchor: date, interval: str, period: int) -> date:
    """Return the day on which a period is due, counted from the day of signing: an oracle of its own."""
    if interval == "WEEK":
        return anchor + timedelta(weeks=period)
    months = period * (1 if interval == "MONTH" else 12)
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return date(year, month + 1, min(anchor.day, calendar.monthrange(year, month + 1)[1]))


_ALWAYS = {
    "S1 one charge for a period": """
        SELECT subscription_id, period FROM charges
        WHERE status NOT IN ('FAILED', 'CANCELLED', 'VOID') AND NOT is_surplus AND NOT is_extra
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "S3 nothing is created after a cancel": """
        SELECT c.name FROM charges c JOIN subscriptions s ON s.id = c.subscription_id
        JOIN operations o ON o.id = c.operation_id
        WHERE o.kind = 'CREATE' AND s.cancel_requested_at IS NOT NULL AND o.created_at > s.cancel_requested_at""",
    "S6 never more back than was taken": "SELECT name FROM charges WHERE refunded > captured",
    "S6 never more wanted back than was taken": """
        SELECT c.name FROM refunds r JOIN charges c ON c.id = r.charge_id WHERE r.status IN ('REQUESTED', 'DONE')
        GROUP BY 1 HAVING sum(r.amount) > c.captured""",
    "S6 one refund of a charge at a time": """
        SELECT charge_id FROM refunds WHERE status = 'REQUESTED' GROUP BY 1 HAVING count(*) > 1""",
    "S11 what is settled is settled": "SELECT what FROM judged",
    "S10 one key, one body": "SELECT key FROM operations GROUP BY key HAVING count(DISTINCT request) > 1",
    "E2 events are counted without gaps": """
        SELECT subscription_id FROM events GROUP BY 1 HAVING max(seq) <> count(*)""",
}
_QUIET = {
    "L3 nothing is in flight": """
        SELECT kind, name, status, last_error FROM operations
        WHERE status IN ('READY', 'INFLIGHT', 'UNKNOWN') AND coalesce(last_error, '') NOT LIKE '%is not sent again'""",
    "E1 each payment is told once": """
        SELECT c.name, count(e.id) FROM charges c LEFT JOIN events e ON e.subscription_id = c.subscription_id
          AND e.type = 'charge.charged' AND json_extract(e.data, '$.charge') = c.name
        WHERE c.status = 'CHARGED' GROUP BY 1 HAVING count(e.id) <> 1""",
    "L4 every event is on its way no more": """
        SELECT seq, status, last_fault FROM deliveries WHERE status NOT IN ('DELIVERED', 'VOID')""",
    "L4 no cancel hangs": "SELECT id FROM subscriptions WHERE status = 'CANCELLING'",
    "E6 all that we were told is read": "SELECT id, source FROM inbound_events WHERE read_at IS NULL",
    "E1 an end is told once": """
        SELECT s.id, s.status, count(e.id) FROM subscriptions s LEFT JOIN events e
          ON e.subscription_id = s.id AND e.type IN ('subscription.cancelled', 'subscription.stopped')
        WHERE s.status IN ('CANCELLED', 'STOPPED') GROUP BY 1, 2 HAVING count(e.id) <> 1""",
    "E1 a beginning is told once": """
        SELECT s.id, s.status, count(e.id) FROM subscriptions s LEFT JOIN events e
          ON e.subscription_id = s.id AND e.type = 'subscription.activated'
        WHERE s.activated_at IS NOT NULL GROUP BY 1, 2 HAVING count(e.id) <> 1""",
}
