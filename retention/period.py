"""Periods such as "13 months" and "90 days", and ages in them, which count from the end of a month."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Self

from retention.faults import Misworded
from retention.month import Month

DAY_MS = 86_400_000
YEARS_MAX = 100
"""Longer periods are mistakes, and would leave the calendar."""
PERIOD_PATTERN = r"^[1-9][0-9]{0,4} (day|week|month|year)s?$"
SPAN_PATTERN = r"^[1-9][0-9]{0,4} (minute|hour|day|week)s?$"

_IN_DAYS = {"day": 1, "week": 7}
_IN_MONTHS = {"month": 1, "year": 12}
_IN_MS = {"minute": 60_000, "hour": 3_600_000, "day": DAY_MS, "week": 7 * DAY_MS}
_GREGORIAN_CYCLE_MONTHS = 4_800
"""After 400 years the calendar repeats itself."""


@dataclass(frozen=True, slots=True)
class Period:
    """A length of calendar time: months or days, one of them 0. Equal lengths are equal: "2 years" is "24 months"."""

    months: int = 0
    days: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The period that a text such as "13 months" names; Misworded if it names none."""
        count, unit = _count_and_unit(text, PERIOD_PATTERN, 'write a number and a unit, as in "13 months" or "90 days"')
        period = cls(months=count * _IN_MONTHS.get(unit, 0), days=count * _IN_DAYS.get(unit, 0))
        if period.months > YEARS_MAX * 12 or period.days > YEARS_MAX * 365:
            raise Misworded(f"{text!r} is longer than {YEARS_MAX} years", "write a shorter one")
        return period

    def after(self, month: Month) -> int:
        """When this much time has passed since the month ended, in milliseconds since the epoch (UTC)."""
        return _after(self.months, self.days, *month)

    def never_longer_than(self, other: Period) -> bool:
        """Whether this ends before or with the other, from the end of whichever month both begin."""
        if bool(self.days) == bool(other.days):
            return (self.months, self.days) <= (other.months, other.days)
        return _extent_days(self)[1] <= _extent_days(other)[0]

    @property
    def most_days(self) -> int:
        """The most days that it can have, from the end of whichever month."""
        return _extent_days(self)[1]

    def __str__(self) -> str:
        if self.days:
            return _counted(self.days, "day")
        years, rest = divmod(self.months, 12)
        return _counted(self.months, "month") if rest else _counted(years, "year")


def parse_span_ms(text: str) -> int:
    """Milliseconds of a span of the clock such as "20 minutes"; Misworded if the text names none."""
    count, unit = _count_and_unit(text, SPAN_PATTERN, 'write a number and a unit, as in "20 minutes" or "40 days"')
    if count * _IN_MS[unit] > YEARS_MAX * 365 * DAY_MS:
        raise Misworded(f"{text!r} is longer than {YEARS_MAX} years", "write a shorter one")
    return count * _IN_MS[unit]


def _count_and_unit(text: str, pattern: str, advice: str) -> tuple[int, str]:
    if not re.fullmatch(pattern, text):
        raise Misworded(f"{text!r} is no period", advice)
    count, unit = text.split(" ")
    return int(count), unit.removesuffix("s")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


@lru_cache(maxsize=65_536)  # planning asks for the same few ages of the same months, day after day
def _after(months: int, days: int, year: int, month: int) -> int:
    if days:
        return Month(year, month).end_ms + days * DAY_MS
    year, zero_based = divmod(year * 12 + month + months, 12)
    return Month(year, zero_based + 1).start_ms


@lru_cache(maxsize=256)
def _extent_days(period: Period) -> tuple[int, int]:
    """The fewest and the most days that the period can have."""
    if period.days:
        return period.days, period.days
    firsts = _firsts_of_months()
    extents = [after - before for before, after in zip(firsts, firsts[period.months :], strict=False)]
    return min(extents), max(extents)


@lru_cache(maxsize=1)
def _firsts_of_months() -> list[int]:
    """Days from year 1 to the first of each month, over a cycle of the calendar and the longest period."""
    months = _GREGORIAN_CYCLE_MONTHS + YEARS_MAX * 12
    return [date(2000 + index // 12, index % 12 + 1, 1).toordinal() for index in range(months)]
