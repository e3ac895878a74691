"""The UTC calendar month: the unit in which events are kept, sealed, archived and dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Self


@lru_cache(maxsize=4_096)
def _start_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000


class Month(NamedTuple):
    """One UTC calendar month of event time, half-open: `[start_ms, end_ms)`. Orders by time."""

    year: int
    month: int

    @classmethod
    def of(cls, timestamp_ms: int) -> Self:
        """The month that an event time (milliseconds since the epoch) falls into."""
        moment = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
        return cls(moment.year, moment.month)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The month that `YYYY-MM` names; ValueError if it names none."""
        moment = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
        return cls(moment.year, moment.month)

    @property
    def start_ms(self) -> int:
        """First millisecond of the month."""
        return _start_ms(self.year, self.month)

    @property
    def end_ms(self) -> int:
        """First millisecond after the month."""
        return _start_ms(self.year + self.month // 12, self.month % 12 + 1)

    def next(self) -> Self:
        """The month after this one."""
        years, month = divmod(self.month, 12)
        return type(self)(self.year + years, month + 1)

    @property
    def compact(self) -> str:
        """`YYYYMM`, as table names carry it."""
        return f"{self.year:04d}{self.month:02d}"

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"
