"""The states of everything that lives, and the legal moves between them.

A move that the table does not hold is refused, so that no late or repeated message takes a row backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)


class Interval(StrEnum):
    """How often a subscriber pays."""

    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"


class Language(StrEnum):
    """What pages and texts are written in."""

    NORWEGIAN = "nb"
    ENGLISH = "en"
    DANISH = "da"
    FINNISH = "fi"
    SWEDISH = "sv"


class SubscriptionStatus(StrEnum):
    """What a partner asked for, and how far it has come."""

    PENDING = "PENDING"  # asked for; nobody has accepted yet
    ACTIVE = "ACTIVE"  # the person accepted; periods are charged
    CANCELLING = "CANCELLING"  # a cancel was accepted; nothing is created any more; Vipps is being told
    CANCELLED = "CANCELLED"  # Vipps has confirmed that it is over
    STOPPED = "STOPPED"  # stopped at Vipps: by the person in the app, or with the person's profile
    EXPIRED = "EXPIRED"  # the link ran out before anybody accepted
    REFUSED = "REFUSED"  # Vipps refused the first draft; the partner was told


class AgreementStatus(StrEnum):
    """One attempt at consent, as Vipps sees it."""

    DRAFTING = "DRAFTING"  # written down, the answer of Vipps is not in yet
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"
    EXPIRED = "EXPIRED"
    REFUSED = "REFUSED"  # Vipps refused to draft it
    LOST = "LOST"  # the draft's answer never came: nobody holds its address, so nobody can accept it


class ChargeStatus(StrEnum):
    """One payment for one period."""

    PLANNED = "PLANNED"  # a row in the books, nothing has left the house
    SUBMITTING = "SUBMITTING"  # in a batch whose outcome is not known yet
    SUBMITTED = "SUBMITTED"  # Vipps has it: PENDING, DUE or PROCESSING there
    RESERVED = "RESERVED"
    CHARGED = "CHARGED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"  # the last retry at Vipps is over
    CANCELLED = "CANCELLED"
    VOID = "VOID"  # never existed at Vipps and never will
    REFUSED = "REFUSED"  # Vipps would not create it; holds its period until an operator decides


class ChangeStatus(StrEnum):
    """A new price or new words for a subscription."""

    REQUESTED = "REQUESTED"  # asked for; everything is charged as before
    DONE = "DONE"  # the app shows it; what is not submitted yet is charged so
    FAILED = "FAILED"
    VOID = "VOID"  # the subscription ended before


class OperationStatus(StrEnum):
    """One act on the outside world."""

    READY = "READY"  # nothing has been sent
    INFLIGHT = "INFLIGHT"  # claimed by a worker whose lease runs
    UNKNOWN = "UNKNOWN"  # it may have happened; ask before sending again
    DONE = "DONE"
    REFUSED = "REFUSED"
    VOID = "VOID"  # no longer wanted, and never sent


class MessageStatus(StrEnum):
    """One text message."""

    QUEUED = "QUEUED"
    ACCEPTED = "ACCEPTED"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    UNDELIVERED = "UNDELIVERED"
    FAILED = "FAILED"
    VOID = "VOID"  # never sent: there is nothing to invite to


class Channel(StrEnum):
    """How a partner is told: three templated callbacks, and signed events."""

    STATUS = "STATUS"
    CONFIRM = "CONFIRM"
    SMS = "SMS"
    EVENTS = "EVENTS"


class DeliveryStatus(StrEnum):
    """One event on its way to a partner by one channel."""

    WAITING = "WAITING"  # behind an earlier one of the same subscription and channel
    READY = "READY"  # first in its row, to be sent when its time comes
    INFLIGHT = "INFLIGHT"  # claimed by a worker whose lease runs
    DELIVERED = "DELIVERED"
    PARKED = "PARKED"  # given up after 30 days; can be replayed
    VOID = "VOID"  # the partner took its address away


class SecretKind(StrEnum):
    """What a partner's secret opens."""

    PASSWORD = "PASSWORD"  # noqa: S105 - HTTP Basic
    KEY = "KEY"  # an API key: Bearer, or Basic in place of the password
    HMAC = "HMAC"  # signs requests: in full length, and in the original's short one
    HMAC_FULL = "HMAC_FULL"  # signs requests, in full length only


class ContractMode(StrEnum):
    """How the second contract is kept for a partner."""

    FIXED = "fixed"  # as it is documented
    STRICT = "strict"  # as the original module really behaved


class RefundStatus(StrEnum):
    """Money on its way back."""

    REQUESTED = "REQUESTED"
    DONE = "DONE"
    FAILED = "FAILED"


_S, _A, _C, _M = SubscriptionStatus, AgreementStatus, ChargeStatus, MessageStatus

SUBSCRIPTION_MOVES: dict[SubscriptionStatus, frozenset[SubscriptionStatus]] = {
    _S.PENDING: frozenset({_S.ACTIVE, _S.CANCELLING, _S.CANCELLED, _S.EXPIRED, _S.REFUSED}),
    _S.ACTIVE: frozenset({_S.CANCELLING, _S.STOPPED}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.CANCELLED: frozenset(),
    _S.STOPPED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.REFUSED: frozenset(),
}

AGREEMENT_MOVES: dict[AgreementStatus, frozenset[AgreementStatus]] = {
    _A.DRAFTING: frozenset({_A.PENDING, _A.REFUSED, _A.LOST, _A.ACTIVE, _A.STOPPED, _A.EXPIRED}),
    _A.PENDING: frozenset({_A.ACTIVE, _A.STOPPED, _A.EXPIRED}),
    _A.ACTIVE: frozenset({_A.STOPPED}),
    # A lost draft that turns up at Vipps after all is taken up again.
    _A.LOST: frozenset({_A.PENDING, _A.ACTIVE, _A.STOPPED, _A.EXPIRED}),
    _A.STOPPED: frozenset(),
    _A.EXPIRED: frozenset(),
    _A.REFUSED: frozenset(),
}

_AT_PROVIDER = frozenset({_C.SUBMITTED, _C.RESERVED, _C.CHARGED, _C.PARTIALLY_REFUNDED, _C.REFUNDED})
_PROVIDER_END = frozenset({_C.FAILED, _C.CANCELLED})

CHARGE_MOVES: dict[ChargeStatus, frozenset[ChargeStatus]] = {
    # What the provider says about money counts in every state: a row that we gave up may be paid all the same.
    _C.PLANNED: frozenset({_C.SUBMITTING, _C.VOID}) | _AT_PROVIDER | _PROVIDER_END,
    # An unsent or unknown name goes back to PLANNED and is sent again under the same name.
    _C.SUBMITTING: frozenset({_C.PLANNED, _C.VOID, _C.REFUSED}) | _AT_PROVIDER | _PROVIDER_END,
    # Accepted is not created: what never shows is sent again under the same name, taken out, or left to an operator.
    _C.SUBMITTED: frozenset({_C.PLANNED, _C.VOID, _C.REFUSED}) | _AT_PROVIDER | _PROVIDER_END,
    _C.RESERVED: frozenset({_C.CHARGED, _C.PARTIALLY_REFUNDED, _C.REFUNDED}) | _PROVIDER_END,
    _C.CHARGED: frozenset({_C.PARTIALLY_REFUNDED, _C.REFUNDED}),
    _C.PARTIALLY_REFUNDED: frozenset({_C.REFUNDED}),
    # People pay late: a charge that Vipps called FAILED may still turn up CHARGED (lesson 9).
    _C.FAILED: frozenset({_C.CHARGED, _C.PARTIALLY_REFUNDED, _C.REFUNDED}),
    _C.CANCELLED: frozenset(),
    _C.REFUNDED: frozenset(),
    # One that was taken out before it was sent may be wanted again, under its old name.
    _C.VOID: _AT_PROVIDER | {_C.PLANNED},
    # An extra charge that was turned down may be asked for again, under its old name.
    _C.REFUSED: _AT_PROVIDER | _PROVIDER_END | {_C.PLANNED},
}

MESSAGE_MOVES: dict[MessageStatus, frozenset[MessageStatus]] = {
    _M.QUEUED: frozenset({_M.ACCEPTED, _M.SENT, _M.DELIVERED, _M.UNDELIVERED, _M.FAILED, _M.VOID}),
    _M.ACCEPTED: frozenset({_M.SENT, _M.DELIVERED, _M.UNDELIVERED, _M.FAILED}),
    _M.SENT: frozenset({_M.DELIVERED, _M.UNDELIVERED, _M.FAILED}),
    _M.DELIVERED: frozenset(),
    _M.UNDELIVERED: frozenset(),
    _M.FAILED: frozenset(),
    # Withdrawn while it was on its way: what really became of it counts.
    _M.VOID: frozenset({_M.ACCEPTED, _M.SENT, _M.DELIVERED, _M.UNDELIVERED, _M.FAILED}),
}

# A period is free for another attempt only after these.
CHARGE_FREES_PERIOD = frozenset({_C.FAILED, _C.CANCELLED, _C.VOID})
# More is expected of the provider for these.
CHARGE_OPEN = frozenset({_C.PLANNED, _C.SUBMITTING, _C.SUBMITTED, _C.RESERVED})
# Attempts at consent that somebody may still accept, or has accepted.
AGREEMENT_LIVE = frozenset({_A.DRAFTING, _A.PENDING, _A.ACTIVE})

# The original contract's `chargeStatus`, the word that stands in its cancel error. One word for each status.
CHARGE_STATUS_WORDS: dict[SubscriptionStatus, str] = {
    _S.PENDING: "Pending",
    _S.ACTIVE: "Active",
    _S.CANCELLING: "Cancelling",
    _S.CANCELLED: "Cancelled",
    _S.STOPPED: "Stopped",
    _S.EXPIRED: "Expired",
    _S.REFUSED: "Refused",
}


def may_move(moves: Mapping[S, frozenset[S]], old: S, new: S) -> bool:
    """Tell whether `moves` lets a row go from `old` to `new`; staying is not a move."""
    return new in moves[old]
