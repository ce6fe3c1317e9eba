"""What must hold, whatever happened: judged by the stand-in's ledger, by our books, and by a model of its own."""

from __future__ import annotations

import calendar
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from invoice.services import proof
from tests.simulation.house import House
from tests.simulation.people import Life, People

_NAME = re.compile(r"([0-9A-Z]{26})-p(\d{4})-a(\d+)")
_OSLO = ZoneInfo("Europe/Oslo")
_DEAD = ("FAILED", "CANCELLED")
# How late a payment may be: outages, dead processes, and three days between those that are made up for.
_GRACE = timedelta(days=20)


class Violation(AssertionError):
    """Something that must never be."""


class Judge:
    """Looks on."""

    def __init__(self, house: House, people: People) -> None:
        self._house, self._people = house, people
        self._look = house.database

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = json.loads(self._house.vipps("GET", "/sim/ledger").body)
        return found

    # Always

    def always(self) -> None:
        """Judge what may be asked at any moment, cheaply."""
        problems = [f"{name}: {row}" for name, query in _ALWAYS.items() for row in self._look.execute(query)]
        if problems:
            raise Violation("; ".join(problems))

    # When all is quiet

    def finally_(self) -> None:
        """Judge the end: nothing is under way any more, and both sides agree on every minor unit."""
        problems = [f"{name}: {row}" for name, query in _QUIET.items() for row in self._look.execute(query)]
        ledger = self.ledger()
        problems += self._agree(ledger)
        problems += self._one_agreement(ledger)
        problems += self._both_know(ledger)
        with self._house.app.app_context():
            found = [finding for finding in proof.examine() if finding.subject not in self._left_to_a_person()]
            problems += [f"{finding.number}: {finding.subject}" for finding in found]
        for life in self._people.lives:
            problems += self._as_the_model_says(life, ledger)
            problems += self._directly(life, ledger)
        if problems:
            raise Violation("; ".join(problems))

    def _left_to_a_person(self) -> set[str]:
        """Name the refunds in part that were in doubt for so long that Vipps may have forgotten their key."""
        return {
            row[0]
            for row in self._look.execute("SELECT name FROM operations WHERE last_error LIKE '%is not sent again'")
        }

    def _agree(self, ledger: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
        """S2: every charge at Vipps stands in our books as it is there, and the reverse."""
        query = "SELECT name, amount, captured, refunded, status FROM charges"
        ours = {
            name: (amount, captured, refunded, status)
            for name, amount, captured, refunded, status in self._look.execute(query)
        }
        theirs = {c["id"]: c for c in ledger["charges"]}
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

    def _one_agreement(self, ledger: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
        """S7: one consent lives, and what was taken under another has gone back."""
        active = Counter(a["externalId"] for a in ledger["agreements"] if a["status"] == "ACTIVE")
        yield from (f"S7: {ulid} has {n} active agreements" for ulid, n in active.items() if n > 1)
        query = "SELECT provider_agreement_id FROM agreements WHERE is_adopted"
        adopted = {row[0] for row in self._look.execute(query)}
        for charge in ledger["charges"]:
            kept = charge["summary"]["captured"] - charge["summary"]["refunded"]
            if charge["agreementId"] not in adopted and kept:
                yield f"S7: {charge['id']} was taken under {charge['agreementId']} and not given back"

    def _both_know(self, ledger: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
        """L1, L5: who is active there is active here, and who has ended here has ended there."""
        query = "SELECT ulid, status FROM subscriptions"
        ours = dict(self._look.execute(query).fetchall())
        active = {a["externalId"] for a in ledger["agreements"] if a["status"] == "ACTIVE"}
        for ulid, status in ours.items():
            if (status == "ACTIVE") != (ulid in active):
                yield f"L1: {ulid} is {status} here, and {'active' if ulid in active else 'not active'} at Vipps"

    def _as_the_model_says(self, life: Life, ledger: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
        """Say which periods had to be paid, from what really happened at Vipps and nothing that we wrote down."""
        query = "SELECT a.provider_agreement_id FROM agreements a JOIN subscriptions s ON s.id = a.subscription_id"
        adopted = {row[0] for row in self._look.execute(f"{query} WHERE s.ulid = ? AND is_adopted", (life.ulid,))}
        for agreement in (a for a in ledger["agreements"] if a["id"] in adopted):
            anchor = datetime.fromisoformat(agreement["start"]).astimezone(_OSLO).date()
            charges = _by_period(life, [c for c in ledger["charges"] if c["agreementId"] == agreement["id"]])
            for period, found in charges.items():
                yield from self._as_asked(life, period, due_on(anchor, life.interval, period), found)
            ends = [agreement.get("stop") and datetime.fromisoformat(agreement["stop"]), life.cancel_accepted_at]
            end = min([at for at in ends if at] or [self._house.time.at])
            for period in range(1, 60):
                yield from self._paid_until(life, due_on(anchor, life.interval, period), end, charges.get(period, []))

    def _as_asked(self, life: Life, period: int, due: date, charges: list[dict[str, Any]]) -> Iterator[str]:
        """S1, S5, S14: once, the right amount, and on its day; late only when others had to be made up for."""
        if sum(_is_paid(life, c) for c in charges) > 1:
            yield f"S1: period {period} of {life.ulid} is paid more than once"
        for charge in charges:
            asked = datetime.fromisoformat(charge["due"]).date()
            if charge["amount"] != self._price(life, period):
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

    def _directly(self, life: Life, ledger: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
        """S6, S1: what a partner asked for by name has happened once, and if it was told so, it has happened."""
        theirs = {c["id"]: c for c in ledger["charges"]}
        for name, (amount, is_told) in life.refunds.items():
            times = sum(r["chargeId"] == name and r["amount"] == amount for r in ledger["refunds"])
            wholly = theirs[name]["summary"]["refunded"] == theirs[name]["summary"]["captured"]
            if times > 1 or (is_told and not times and not wholly):
                yield f"S6: {amount} of {name} went back {times} times; told: {is_told}"
        for name, (amount, is_told) in life.extras.items():
            found = [c for c in theirs.values() if c["id"].endswith(f"-{name}")]
            if len(found) > 1 or (is_told and not found and not self._ended(life)):
                yield f"S1: {name} over {amount} was made {len(found)} times; told: {is_told}"

    def _ended(self, life: Life) -> bool:
        query = "SELECT 1 FROM subscriptions WHERE ulid = ? AND status <> 'ACTIVE'"
        return self._look.execute(query, (life.ulid,)).fetchone() is not None

    def _price(self, life: Life, period: int) -> int:
        return (life.amount if life.campaign is None else life.campaign) if period == 0 else life.amount


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
    summary = charge["summary"]
    return bool(summary["captured"]) and (summary["captured"] > summary["refunded"] or charge["id"] in life.refunds)


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
