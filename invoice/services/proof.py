"""The books, proved: every rule that must hold, asked of the tables again and again.

A hit becomes a row that an operator sees (`flask proof`), and where money may be at stake it pulls the brake of the
partner whose it is. Nothing is mended here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial

from sqlalchemy.exc import OperationalError

from invoice.clock import MARKET_ZONES, utc_now
from invoice.schedule import MINIMUM_LEAD_DAYS, due_date
from invoice.services import brakes, privacy
from invoice.store import queries
from invoice.store.db import db, reading, transaction
from invoice.store.models import Break

logger = logging.getLogger(__name__)

_MOST = 100  # rows told of one rule
_UNPROVED = "the question took too long"


@dataclass(frozen=True)
class Rule:
    """What must hold. broken: the rows that break it.  pulls_brake: whether charging is held for a hit."""

    number: str
    says: str
    broken: queries.Found = field(repr=False)
    pulls_brake: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "broken", self.broken.limit(_MOST))


@dataclass(frozen=True)
class Finding:
    """A rule and what breaks it. partner_id: None where it is nobody's."""

    number: str
    subject: str
    partner_id: int | None
    pulls_brake: bool = False


Ask = Callable[[datetime], list[Finding]]

# What the numbers promise stands in docs/guarantees.md. S12 and S11's moves are held by the database itself, S13's
# other half, T3 and P1 to P6 by tests.
RULES: tuple[Rule, ...] = (
    Rule("S1", "a period is paid once", queries.paid_twice(), pulls_brake=True),
    Rule("S2", "status and money agree", queries.at_odds()),
    Rule("S3", "nothing is created after a cancel", queries.created_after_a_cancel(), pulls_brake=True),
    Rule("S3", "what is taken after an end goes back", queries.taken_after_an_end(), pulls_brake=True),
    Rule("S4", "nothing falls due after the agreed end", queries.due_after_the_stop()),
    Rule("S5", "every amount is its period's price", queries.another_price()),
    Rule("S6", "never more back than was taken", queries.more_back_than_taken(), pulls_brake=True),
    Rule("S7", "one agreement lives for a subscription", queries.two_agreements(), pulls_brake=True),
    Rule("S7", "what a second one paid goes back", queries.surplus_kept(), pulls_brake=True),
    Rule("S8", "a further try only after the provider's no", queries.tried_again_too_early()),
    Rule("S9", "nothing is charged without consent", queries.charged_without_consent()),
    Rule("S10", "one key, one body", queries.one_key_two_bodies()),
    Rule("S11", "an end is the end", queries.ended_and_alive()),
    Rule("S13", "nothing is drafted unless somebody presses", queries.drafted_by_nobody()),
    Rule("S15", "three renewals a day at most", queries.too_many_a_day()),
    Rule("S15", "nothing leaves under a brake", queries.sent_under_a_brake()),
    Rule("E1", "every payment is told once", queries.not_told_once()),
    Rule("E1", "every beginning and end is told once", queries.end_not_told_once()),
    Rule("E2", "timelines have no gaps", queries.gaps()),
    Rule("E3", "partners are told in order", queries.out_of_order()),
    Rule("E4", "only what is so is told", queries.told_and_not_so()),
    Rule("E5", "no text goes out three times or is forgotten", queries.texts_at_odds()),
    Rule("E6", "what we are told is read", queries.unread()),
    Rule("T1", "nothing hangs on another partner's", queries.of_another_partner()),
    Rule("T2", "charges keep to their agreement's account", queries.of_another_account()),
    Rule("T2", "acts keep to their agreement's account", queries.asked_elsewhere()),
    Rule("L1", "every living agreement is looked at", queries.not_looked_at()),
    Rule("L2", "every period is planned in time", queries.not_planned()),
    Rule("L2", "every charge leaves in time", queries.not_sent()),
    Rule("L3", "nothing is in doubt for a day", queries.in_flight_for_ever()),
    Rule("L4", "everything owed to partners arrives", queries.not_delivered()),
    Rule("L5", "a cancel takes a quarter of an hour", queries.cancel_hangs()),
    Rule("L6", "nothing due is left lying", queries.idle_or_storming()),
)


def statements() -> list[tuple[str, str]]:
    """Return the number and the words of every rule, in order."""
    said = [(rule.number, rule.says) for rule in RULES] + [(number, says) for number, says, _ in _OTHERS]
    return sorted(said, key=lambda row: (row[0][0] != "S", row[0][0], int(row[0][1:])))


def examine() -> list[Finding]:
    """Ask every rule and return what breaks one; nothing is written. A rule that takes too long is a finding."""
    now = utc_now()
    asks: list[tuple[str, str, Ask]] = [*((rule.number, rule.says, partial(_ask, rule)) for rule in RULES), *_OTHERS]
    return [finding for number, says, ask in asks for finding in _answered(number, says, partial(ask, now))]


def _answered(number: str, says: str, ask: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        with reading():
            return ask()
    except OperationalError:
        logger.exception("Rule %s could not be asked.", number)
        return [Finding(number, f"{_UNPROVED}: {says}", None)]


def _ask(rule: Rule, now: datetime) -> list[Finding]:
    rows = db.session.execute(rule.broken, queries.as_of(now)).all()
    return [Finding(rule.number, subject, partner or None, rule.pulls_brake) for subject, partner in rows]


def _kept_too_long(_: datetime) -> list[Finding]:
    """P4: what should have been forgotten, by kind."""
    return [Finding("P4", f"{kind}: {count} rows", None) for kind, count in privacy.overdue().items()]


def _off_the_calendar(now: datetime) -> list[Finding]:
    """S14: a renewal on another day than its period's, unless it had come too late for that."""
    return [
        Finding("S14", row.name, row.partner_id)
        for row in queries.renewals_since(now - timedelta(days=3))
        if not _is_on_its_day(due_date(row.anchor_on, row.interval, row.period), row)
    ]


def _is_on_its_day(scheduled: date, row: queries.Renewal) -> bool:
    if row.due_on == scheduled:
        return True
    made_on = (row.sent_at or row.created_at).astimezone(MARKET_ZONES[row.market]).date()
    return row.due_on > scheduled and made_on > scheduled - timedelta(days=MINIMUM_LEAD_DAYS)


# Rules that are more than a question to the tables.
_OTHERS: list[tuple[str, str, Ask]] = [
    ("S14", "due dates are the calendar's", _off_the_calendar),
    ("P4", "nothing is kept longer than it may be", _kept_too_long),
]


def check() -> int:
    """Ask every rule, keep the breaks as rows, and pull brakes; return how many are new."""
    findings = {(f.number, f.subject): f for f in examine()}
    now = utc_now()
    with transaction():
        known = {(row.rule, row.subject): row for row in queries.open_breaks()}
        for place, row in known.items():
            if place in findings:
                row.seen_at = now
            else:
                row.cleared_at = now
        fresh = [finding for place, finding in findings.items() if place not in known]
        for finding in fresh:
            _note(finding, now)
    return len(fresh)


def _note(finding: Finding, now: datetime) -> None:
    number, subject, partner_id = finding.number, finding.subject[:200], finding.partner_id
    logger.error("Rule %s is broken by %s.", number, subject, extra={"rule": number, "partner_id": partner_id})
    db.session.add(Break(rule=number, subject=subject, partner_id=partner_id, found_at=now, seen_at=now))
    if finding.pulls_brake:
        brakes.pull(partner_id, f"{number}: {subject}")


def open_breaks() -> list[tuple[str, str, int | None, datetime]]:
    """Return what is broken as of the last check: rule, subject, partner, since when."""
    with reading():
        return [(row.rule, row.subject, row.partner_id, row.found_at) for row in queries.open_breaks()]
