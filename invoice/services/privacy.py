"""How long what is kept: a class for every column that can hold words, and a rule for each class.

The rules are one table, read three ways: the daily job forgets what will be over before its next run but one, the
proof counts what is past its limit, and an erasure (`persons`) does the same to one person at once. What each class
is kept for stands in docs/privacy.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dateutil.relativedelta import relativedelta
from sqlalchemy import ColumnElement, TextClause, and_, exists, true
from sqlalchemy.orm import InstrumentedAttribute

from invoice.clock import stopwatch, utc_now
from invoice.errors import ProviderUnavailable
from invoice.lifecycle import AgreementStatus, MessageStatus, SubscriptionStatus
from invoice.phone import PSEUDONYM
from invoice.providers.base import PaymentProvider
from invoice.store import queries
from invoice.store.db import pseudonyms, reading, transaction
from invoice.store.models import (
    Agreement,
    Delivery,
    IdempotencyKey,
    InboundEvent,
    Message,
    Operation,
    Subscription,
)
from invoice.store.models.deliveries import HOLDS_ADDRESS
from invoice.store.models.messages import HOLDS_TEXT
from invoice.store.models.subscriptions import HOLDS_LINK, HOLDS_MANAGE_LINK, HOLDS_PERSON, HOLDS_RETURN_LINK
from invoice.store.models.work import HOLDS_REQUEST

logger = logging.getLogger(__name__)

# So early is forgotten what has a limit: one run that fails, or a day without a worker, leaves nothing past it.
_AHEAD = timedelta(days=2)
_BATCH = 200
_ROUND_S = 20.0  # other work waits no longer; what is left is forgotten the next day

# A clock that is years ahead would have everything forgotten at once, the books too.
_MAX_SKEW = timedelta(hours=1)

Since = Callable[[datetime], datetime]


def _ago(**span: int) -> Since:
    return lambda now: now - relativedelta(**span)  # type: ignore[arg-type]


def _accounting_years(count: int) -> Since:
    """Return the first instant of the oldest accounting year whose books must be kept.

    The law's is a least time, so these wait for the first day of the year even when all else is forgotten early.
    """
    return lambda now: datetime((now - _AHEAD - timedelta(days=1)).year - count, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rule:
    """How long rows hold something, and what stands in its place afterwards.

    began: the time from which it is counted.  since: who began before that, at a given time, is over.
    holds: tells whether it is still there; the very words of an index.  may: what must be true beside it.
    becomes: column -> its value afterwards, from the row; none: the row goes, with all that hangs on it.
    on_time_only: columns that an erasure leaves alone.
    """

    began: InstrumentedAttribute[Any]
    since: Since
    holds: TextClause | None = None
    may: Callable[[datetime], ColumnElement[bool]] = lambda _: true()
    becomes: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    on_time_only: frozenset[str] = frozenset()

    def over(self, now: datetime) -> ColumnElement[bool]:
        """Tell whether a row holds what it should hold no longer at that time."""
        before = self.since(now)
        held: list[Any] = [] if self.holds is None else [self.holds]
        return and_(*held, self.began < before, self.may(before))


def pseudonym(number: str) -> str:
    """Return what stands in a number's place; an adopted subscription has none, and one is enough."""
    return pseudonyms(number)[0] if number and not number.startswith(PSEUDONYM) else number


def _nothing(_: Any) -> None:
    return None


def _blank(_: Any) -> str:
    return ""


def _gone(row: Any) -> str:
    """Return what stands in the place of a link's token: unique, and with a sign that no link may hold."""
    return f"{PSEUDONYM}{row.id}"


_CALLBACKS = ("status_callback_url", "confirm_callback_url", "sms_callback_url")
_AT_VIPPS = [AgreementStatus.DRAFTING, AgreementStatus.PENDING]
_is_invited = exists().where(
    Subscription.id == Message.subscription_id, Subscription.status == SubscriptionStatus.PENDING
)

RULES: dict[str, Rule] = {
    # A refund is possible for 365 days.
    "person": Rule(
        Subscription.ended_at,
        _ago(months=13),
        HOLDS_PERSON,
        becomes={
            "msisdn": lambda row: pseudonym(row.msisdn),
            "member_id": _nothing,
            # Of all else in a row and one number after the other it would tell which it was.
            "request_digest": lambda _: b"",
            **dict.fromkeys(_CALLBACKS, _nothing),
        },
        on_time_only=frozenset(_CALLBACKS),  # its partner is still told of money that goes back
    ),
    "link": Rule(
        Subscription.link_expires_at,
        _ago(days=90),
        HOLDS_LINK,
        becomes={"link_token": _gone},
    ),
    "manage link": Rule(
        Subscription.ended_at,
        _ago(days=90),
        HOLDS_MANAGE_LINK,
        becomes={"manage_token": _gone, "agreement_url": _blank},
    ),
    "return link": Rule(
        Agreement.created_at,
        _ago(days=90),
        HOLDS_RETURN_LINK,
        may=lambda _: Agreement.status.not_in(_AT_VIPPS),
        becomes={"return_id": _gone, "confirmation_url": _nothing},
    ),
    "text": Rule(
        Message.created_at,
        _ago(days=90),
        HOLDS_TEXT,
        may=lambda _: and_(Message.status != MessageStatus.QUEUED, ~_is_invited),
        becomes={"body": _blank, "recipient": lambda row: pseudonym(row.recipient)},
    ),
    "request": Rule(
        Operation.created_at,
        _ago(days=90),
        HOLDS_REQUEST,
        may=lambda _: Operation.status.not_in(queries.OPERATION_OPEN),
        becomes={"request": _blank, "last_error": _nothing},
    ),
    "callback": Rule(Delivery.settled_at, _ago(days=90), HOLDS_ADDRESS, becomes={"url": _nothing}),
    "webhook": Rule(InboundEvent.received_at, _ago(days=90), may=lambda _: InboundEvent.read_at.is_not(None)),
    "books": Rule(Subscription.ended_at, _accounting_years(5), may=queries.books_are_closed),
}

# Forgotten by a job of their own, on the hour: it is a day late before it counts.
_ANSWERS = Rule(IdempotencyKey.created_at, _ago(days=31))

# class -> the columns that no rule changes by itself. tests/services/test_retention.py finds each column in one place.
KEPT: dict[str, str] = {
    # Facts of the books and what partners call them by; they go with their subscription.
    "books": """
        subscriptions.ulid subscriptions.order_number subscriptions.name subscriptions.description
        subscriptions.currency agreements.account agreements.provider_agreement_id agreements.initial_name
        changes.name changes.description charges.account charges.name charges.guid charges.currency
        charges.description charges.failure_reason refunds.reason refunds.mark messages.originator
        messages.provider_message_id messages.error_code operations.kind operations.account operations.name
        operations.key operations.request_id events.public_id events.type events.request_id events.data
        deliveries.body deliveries.last_fault""",
    "webhook": "inbound_events.source inbound_events.account inbound_events.digest inbound_events.body",
    # Encrypted; the whole row goes after 30 days.
    "answer": """
        idempotency_keys.key idempotency_keys.digest idempotency_keys.content_type idempotency_keys.body""",
    # A partner's and the platform's own: companies, addresses of theirs, secrets.
    "partner": """
        partners.name partners.market partners.sms_originator partners.account partners.language partners.sms_text
        provider_accounts.account provider_accounts.client_id event_endpoints.url webhook_registrations.account
        webhook_registrations.provider_webhook_id webhook_registrations.url brakes.reason""",
    "secret": """
        provider_accounts.client_secret provider_accounts.subscription_key partner_secrets.digest
        partner_secrets.hmac_secret event_endpoints.secret event_endpoints.previous_secret callback_logins.login
        webhook_registrations.token webhook_registrations.secret""",
    # Of the machine. A bucket may name, for a day, the address that a failed authentication or the
    # network that a guessed link came from.
    "machine": "job_runs.name rate_limits.bucket used_nonces.nonce breaks.rule breaks.subject",
}


def forget_old(payments: PaymentProvider) -> int:
    """Forget what is over, in batches; return how many rows. What there is no time for is left to the next day.

    payments: whose clock ours is held against. Raises ProviderError when they differ, or nobody can say.
    """
    skew = payments.clock_skew()
    if abs(skew) > _MAX_SKEW:
        raise ProviderUnavailable(f"our clock is {skew} from the provider's, and what is forgotten never comes back")
    began, done = stopwatch(), 0
    with reading():
        now = utc_now() + _AHEAD
        waiting = {name: rule for name, rule in RULES.items() if queries.is_any_over(rule.began, rule.over(now))}
    for name, rule in waiting.items():
        forgotten = _BATCH
        while forgotten == _BATCH and stopwatch() - began < _ROUND_S:
            forgotten = _forget_batch(rule, utc_now() + _AHEAD)
            done += forgotten
            if forgotten:
                logger.info("Forgotten: %s rows of class %s.", forgotten, name)
    return done


def _forget_batch(rule: Rule, now: datetime) -> int:
    with transaction():
        rows = queries.lock_over(rule.began, rule.over(now), _BATCH)
        for row in rows:
            forget(rule, row)
        if rows and not rule.becomes:
            queries.drop(rows)
        return len(rows)


def forget(rule: Rule, row: Any, *, but: frozenset[str] = frozenset()) -> bool:
    """Put in place what a rule leaves of a row; return whether that changed anything."""
    after = {name: value(row) for name, value in rule.becomes.items() if name not in but}
    changed = {name: value for name, value in after.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    return bool(changed)


def overdue() -> dict[str, int]:
    """Return how many rows of each class are past their limit; empty when none is. Called inside `reading()`."""
    now = utc_now()
    counts = {
        name: queries.count_over(rule.began, rule.over(now)) for name, rule in [*RULES.items(), ("answer", _ANSWERS)]
    }
    return {name: count for name, count in counts.items() if count}
