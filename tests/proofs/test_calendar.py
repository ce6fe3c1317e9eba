"""The calendar: the rules whole; of the years and nights of `python -m tests.proofs --only calendar_proof` a few."""

from __future__ import annotations

import pytest

from tests.proofs.calendar_proof import prove
from tests.proofs.days import date_of, day_number, dues, market_day, switches


def test_every_period_falls_due_on_its_day_and_every_night_has_its_date():
    figures = list(prove(0.002))

    assert [figure for figure in figures if not figure.is_clean] == []
    assert figures[0].reached > 230_000


@pytest.mark.parametrize(
    ("number", "date"), [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (11016, (2000, 2, 29)), (20000, (2024, 10, 4))]
)
def test_the_proofs_own_calendar_knows_days_that_are_known(number: int, date: tuple[int, int, int]):
    assert date_of(number) == date
    assert day_number(*date) == number


def test_the_proofs_own_calendar_clamps_to_the_month_and_comes_back():
    found = [date_of(due) for due in dues(day_number(2028, 1, 31), "MONTH", day_number(2028, 4, 30))]

    assert found == [(2028, 2, 29), (2028, 3, 31), (2028, 4, 30)]


def test_the_proofs_own_clocks_change_when_the_authorities_say():
    spring, autumn = switches(2026)

    # Source: the European Union's announcement of summer time 2022-2026: 29 March and 25 October, at 01:00 UTC.
    assert (spring, autumn) == (day_number(2026, 3, 29) * 86400 + 3600, day_number(2026, 10, 25) * 86400 + 3600)
    assert market_day("NO", day_number(2026, 3, 29) * 86400 + 22 * 3600) == day_number(2026, 3, 30)
