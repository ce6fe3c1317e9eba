"""The books against a ledger that is not ours: what a stand-in says has really happened (`GET /sim/ledger`).

Agreements, charges and refunds come as it writes them; where both sides differ, it is right and we are wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from invoice.lifecycle import ChargeStatus
from invoice.providers.http import Pipe
from invoice.services.proof import Finding
from invoice.store import queries
from invoice.store.db import reading

Ledger = Mapping[str, list[dict[str, Any]]]
_PERIOD = re.compile(r"([0-9A-Z]{26}-p\d{4})-a\d+")
_GONE = ("FAILED", "CANCELLED")
# These were never at the provider, or may not be.
_UNSENT = frozenset({ChargeStatus.PLANNED, ChargeStatus.VOID, ChargeStatus.REFUSED, ChargeStatus.SUBMITTING})


def read(base_url: str) -> Ledger:
    """Fetch the ledger of a stand-in. Raises ProviderError when there is none at that address."""
    found: Ledger = Pipe(base_url, "The stand-in").call("GET", "/sim/ledger", headers={}).json
    return found


def compare(ledger: Ledger) -> list[Finding]:
    """Return where the books and a ledger differ. S2, L1 and S7 hold only when everything has come to rest."""
    with reading():
        ours = queries.money_by_name()
        living = queries.living_ulids()
    theirs = {charge["id"]: charge for charge in ledger["charges"]}
    found = [*_twice(ledger), *_money(ours, theirs), *_agreements(living, ledger)]
    return [Finding(number, subject, None) for number, subject in found]


def _twice(ledger: Ledger) -> Iterator[tuple[str, str]]:
    names = [_PERIOD.fullmatch(c["id"]) for c in ledger["charges"] if c["status"] not in _GONE]
    periods = Counter(name[1] for name in names if name is not None and not name[1].endswith("-p0000"))
    yield from (("S1", f"{period} has {count} charges at Vipps") for period, count in periods.items() if count > 1)
    for charge in ledger["charges"]:
        if charge["summary"]["refunded"] > charge["summary"]["captured"]:
            yield "S6", f"{charge['id']} gave back more than was taken"


def _money(ours: Mapping[str, queries.Money], theirs: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, charge in theirs.items():
        there = (charge["amount"], charge["summary"]["captured"], charge["summary"]["refunded"])
        if name not in ours:
            yield "S2", f"{name} stands in no book"
        elif (here := (ours[name].amount, ours[name].captured, ours[name].refunded)) != there:
            yield "S2", f"{name}: {here} here, {there} at Vipps"
    for name, money in ours.items():
        if name not in theirs and (money.captured or money.status not in _UNSENT):
            yield "S2", f"{name} is {money.status} here and not at Vipps"


def _agreements(living: frozenset[str], ledger: Ledger) -> Iterator[tuple[str, str]]:
    active = Counter(a["externalId"] for a in ledger["agreements"] if a["status"] == "ACTIVE")
    yield from (("S7", f"{ulid} has {count} active agreements") for ulid, count in active.items() if count > 1)
    for ulid in sorted(living ^ {ulid for ulid in active if ulid}):
        yield "L1", f"{ulid} is active {'here' if ulid in living else 'at Vipps'} only"
