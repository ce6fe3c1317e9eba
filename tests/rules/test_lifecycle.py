"""The tables of legal moves: complete, and without a way back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pytest

from invoice.lifecycle import (
    AGREEMENT_LIVE,
    AGREEMENT_MOVES,
    CHARGE_FREES_PERIOD,
    CHARGE_MOVES,
    CHARGE_OPEN,
    CHARGE_STATUS_WORDS,
    MESSAGE_MOVES,
    SUBSCRIPTION_MOVES,
    AgreementStatus,
    ChargeStatus,
    Interval,
    MessageStatus,
    OperationStatus,
    RefundStatus,
    SubscriptionStatus,
    may_move,
)

S, A, C, M = SubscriptionStatus, AgreementStatus, ChargeStatus, MessageStatus
Moves = Mapping[StrEnum, frozenset[StrEnum]]

TABLES = [
    pytest.param(S, SUBSCRIPTION_MOVES, id="subscriptions"),
    pytest.param(A, AGREEMENT_MOVES, id="agreements"),
    pytest.param(C, CHARGE_MOVES, id="charges"),
    pytest.param(M, MESSAGE_MOVES, id="messages"),
]
STARTS = {S: S.PENDING, A: A.DRAFTING, C: C.PLANNED, M: M.QUEUED}
ENDS = {
    S: {S.CANCELLED, S.STOPPED, S.EXPIRED, S.REFUSED},
    A: {A.STOPPED, A.EXPIRED, A.REFUSED},
    C: {C.CANCELLED, C.REFUNDED},
    M: {M.DELIVERED, M.UNDELIVERED, M.FAILED},
}


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_every_status_has_a_row(statuses: type[StrEnum], moves: Moves) -> None:
    assert set(moves) == set(statuses)


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_every_move_leads_to_a_status_of_the_same_kind(statuses: type[StrEnum], moves: Moves) -> None:
    assert all(type(new) is statuses for row in moves.values() for new in row)


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_exactly_the_final_statuses_have_no_exit(statuses: type[StrEnum], moves: Moves) -> None:
    assert {old for old, row in moves.items() if not row} == ENDS[statuses]


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_every_status_can_be_reached(statuses: type[StrEnum], moves: Moves) -> None:
    reached = {STARTS[statuses]}
    while more := {new for old in reached for new in moves[old]} - reached:
        reached |= more

    assert reached == set(statuses)


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_from_every_status_an_end_can_be_reached(statuses: type[StrEnum], moves: Moves) -> None:
    ending = set(ENDS[statuses])
    while more := {old for old, row in moves.items() if row & ending} - ending:
        ending |= more

    assert ending == set(statuses)


@pytest.mark.parametrize(
    ("moves", "old", "new", "may"),
    [
        (SUBSCRIPTION_MOVES, S.PENDING, S.ACTIVE, True),
        (SUBSCRIPTION_MOVES, S.ACTIVE, S.PENDING, False),
        (SUBSCRIPTION_MOVES, S.ACTIVE, S.CANCELLED, False),  # Vipps must be told first
        (SUBSCRIPTION_MOVES, S.CANCELLING, S.ACTIVE, False),
        (SUBSCRIPTION_MOVES, S.STOPPED, S.CANCELLING, False),
        (AGREEMENT_MOVES, A.LOST, A.ACTIVE, True),
        (AGREEMENT_MOVES, A.ACTIVE, A.PENDING, False),
        (AGREEMENT_MOVES, A.EXPIRED, A.ACTIVE, False),
        (CHARGE_MOVES, C.SUBMITTING, C.PLANNED, True),
        (CHARGE_MOVES, C.SUBMITTED, C.PLANNED, True),  # accepted is not created: it never showed
        (CHARGE_MOVES, C.SUBMITTED, C.REFUNDED, True),  # an observer may miss what lies between
        (CHARGE_MOVES, C.FAILED, C.CHARGED, True),  # people pay late
        (CHARGE_MOVES, C.VOID, C.CHARGED, True),  # what the provider says about money counts
        (CHARGE_MOVES, C.REFUSED, C.CHARGED, True),
        (CHARGE_MOVES, C.VOID, C.PLANNED, True),  # a period whose end was taken back, under its old name
        (CHARGE_MOVES, C.CHARGED, C.FAILED, False),
        (CHARGE_MOVES, C.CHARGED, C.SUBMITTED, False),
        (CHARGE_MOVES, C.REFUNDED, C.PARTIALLY_REFUNDED, False),
        (MESSAGE_MOVES, M.DELIVERED, M.SENT, False),
        (MESSAGE_MOVES, M.SENT, M.ACCEPTED, False),
    ],
)
def test_a_row_goes_forward_only(moves: Moves, old: StrEnum, new: StrEnum, may: bool) -> None:
    assert may_move(moves, old, new) is may


@pytest.mark.parametrize("old", [C.RESERVED, C.CHARGED, C.PARTIALLY_REFUNDED])
def test_money_never_goes_back_to_the_books(old: ChargeStatus) -> None:
    assert not CHARGE_MOVES[old] & {C.PLANNED, C.SUBMITTING, C.VOID, C.REFUSED}


@pytest.mark.parametrize("status", C)
def test_a_submitted_charge_is_the_only_one_that_may_stay(status: ChargeStatus) -> None:
    assert may_move(CHARGE_MOVES, status, status) is (status is C.SUBMITTED)


def test_a_period_is_free_only_when_its_charge_is_over_and_took_no_money() -> None:
    assert frozenset({C.FAILED, C.CANCELLED, C.VOID}) == CHARGE_FREES_PERIOD
    assert not CHARGE_FREES_PERIOD & CHARGE_OPEN


def test_a_live_attempt_at_consent_can_still_end() -> None:
    assert all(AGREEMENT_MOVES[status] for status in AGREEMENT_LIVE)


def test_each_subscription_status_has_a_word_of_its_own() -> None:
    assert set(CHARGE_STATUS_WORDS) == set(S)
    assert len(set(CHARGE_STATUS_WORDS.values())) == len(S)


@pytest.mark.parametrize("statuses", [Interval, S, A, C, M, OperationStatus, RefundStatus])
def test_a_status_is_stored_under_its_name(statuses: type[StrEnum]) -> None:
    assert all(status.value == status.name for status in statuses)
