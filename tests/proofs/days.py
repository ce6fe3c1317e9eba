"""A calendar of its own, on whole numbers: days since 1970-01-01, without any library and without our own code.

Months are found by counting days, the clocks' changes by the rule of the European Union (directive 2000/84/EC).
"""

from __future__ import annotations

# What a market's clocks are ahead of UTC in winter, in seconds; in summer it is an hour more.
WINTER_S = {"NO": 3600, "DK": 3600, "FI": 7200}
DAY_S = 86400
_SUNDAY = 3  # 1970-01-01 was a Thursday: three days later was a Sunday


def day_number(year: int, month: int, day: int) -> int:
    """Return how many days lie between 1970-01-01 and a date of the Gregorian calendar.

    Years begin in March here, so that the leap day is a year's last and the months before it have one pattern.
    """
    shifted, from_march = (year, month - 3) if month > 2 else (year - 1, month + 9)
    before = 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400
    return before + (153 * from_march + 2) // 5 + day - 1 - 719468


def date_of(number: int) -> tuple[int, int, int]:
    """Return (year, month, day) of a day's number: counted down from an estimate that is never too early."""
    year = 1970 + number // 365 + 1
    while day_number(year, 1, 1) > number:
        year -= 1
    month = 12
    while day_number(year, month, 1) > number:
        month -= 1
    return year, month, number - day_number(year, month, 1) + 1


def dues(anchor: int, interval: str, until: int) -> list[int]:
    """Return the days on which the periods 1, 2, ... of an anchor fall due, up to and with `until`."""
    if interval == "WEEK":
        return list(range(anchor + 7, until + 1, 7))
    year, month, day = date_of(anchor)
    found: list[int] = []
    while True:
        year, month = (year + 1, month) if interval == "YEAR" else (year + month // 12, month % 12 + 1)
        next_first = day_number(year + month // 12, month % 12 + 1, 1)
        due = min(day_number(year, month, 1) + day - 1, next_first - 1)
        if due > until:
            return found
        found.append(due)


def switches(year: int) -> tuple[int, int]:
    """Return the seconds since 1970 at which summer time begins and ends: 01:00 UTC on the last Sundays."""
    last = [day_number(year, month, 31) for month in (3, 10)]
    spring, autumn = ((day - (day - _SUNDAY) % 7) * DAY_S + 3600 for day in last)
    return spring, autumn


def market_day(market: str, second: int) -> int:
    """Return the number of the day that a market's people write at that second since 1970."""
    begins, ends = switches(date_of(second // DAY_S)[0])
    return (second + WINTER_S[market] + 3600 * (begins <= second < ends)) // DAY_S
