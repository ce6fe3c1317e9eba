"""The calendar: every day that somebody can sign on, every interval, ten years, against a calendar of its own.

The rules alone are held against it whole; then such years are lived day by day through the books and the charge run;
then the nights in which the clocks change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from invoice.lifecycle import Interval
from invoice.schedule import due_date, interval_around
from tests.proofs import calendar_nights, calendar_years
from tests.proofs.days import day_number, dues
from tests.proofs.figures import Figure
from tests.proofs.ground import as_date

YEARS = 10
FIRST = day_number(2028, 1, 1)  # of a leap year
ANCHORS = 366


def prove(size: float) -> Iterator[Figure]:
    """Hold the rules against the calendar whole, and live through a share of the years and of the nights."""
    yield _rules()
    yield calendar_years.live(range(FIRST, FIRST + ANCHORS), YEARS, size)
    yield calendar_nights.live(size)


def _rules() -> Figure:
    began, checked, wrong = time.perf_counter(), 0, 0
    for anchor in range(FIRST, FIRST + ANCHORS):
        end = dues(anchor, "YEAR", anchor + 366 * YEARS)[YEARS - 1]
        for interval in Interval:
            expected = dues(anchor, interval.value, end)
            checked += len(expected)
            wrong += _misdated(anchor, interval, expected)
    notes = f"{ANCHORS} days of signing x {len(Interval)} intervals x {YEARS} years"
    what = "due dates and the intervals between them, by the rule"
    return Figure("calendar", what, checked, checked, wrong, time.perf_counter() - began, notes, is_whole=True)


def _misdated(anchor: int, interval: Interval, expected: Sequence[int]) -> int:
    """Count the periods that fall due on another day, or leave a day to none or to two.

    Their first and last days tell: intervals that hold both, and that follow each other, hold all between.
    """
    signed_on = as_date(anchor)
    wrong = sum(due_date(signed_on, interval, period) != as_date(due) for period, due in enumerate(expected, 1))
    spans = list(zip([anchor, *expected], expected, strict=False))
    # Weeks are all alike: two of each year tell as much.
    for first, after in spans[:: 26 if interval == Interval.WEEK else 1]:
        span = (as_date(first), as_date(after))
        wrong += any(interval_around(signed_on, interval, as_date(inside)) != span for inside in (first, after - 1))
    return wrong
