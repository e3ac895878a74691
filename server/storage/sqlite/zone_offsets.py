"""What the wall clock of a zone is ahead of UTC, for whole columns of instants."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from server.question import BucketUnit
from server.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, date_start, first_date, offset_ms

_STEP_MS = DAY_MS
"""No zone changes its offset twice within a day."""


class ZoneOffsets:
    """The offsets of a zone over a range of time: few steps, found once."""

    def __init__(self, zone: ZoneInfo, start_ms: int, end_ms: int) -> None:
        """Covers instants in [start, end)."""
        self.zone = zone
        self._start_ms, self._end_ms = start_ms, end_ms
        self._changes: list[int] = []
        offsets = [offset_ms(start_ms, zone)]
        for low in range(start_ms, end_ms, _STEP_MS):
            high = min(low + _STEP_MS, end_ms)
            after = offset_ms(high, zone)
            if after != offsets[-1]:
                self._changes.append(_change(low, high, zone))
                offsets.append(after)
        self._offsets = np.array(offsets, np.int64)

    @property
    def by_quarters(self) -> bool:
        """Whether every quarter-hour of UTC lies within one bucket of any unit."""
        return all(offset % QUARTER_MS == 0 for offset in self._offsets.tolist()) and all(
            change % QUARTER_MS == 0 for change in self._changes
        )

    def at(self, instants_ms: NDArray[np.int64]) -> NDArray[np.int64] | np.int64:
        """The offset of each instant; one number if it is the same for all."""
        if not self._changes:
            return np.int64(self._offsets[0])
        return self._offsets[np.searchsorted(np.array(self._changes), instants_ms, side="right")]

    def buckets(self, instants_ms: NDArray[np.int64], unit: BucketUnit) -> NDArray[np.int64]:
        """The bucket of each instant, as server.time_buckets.bucket_of."""
        offsets = self.at(instants_ms)
        local = instants_ms + offsets
        if unit is BucketUnit.QUARTER_HOUR:
            return local - local % QUARTER_MS - offsets
        if unit is BucketUnit.HOUR:
            return local - local % HOUR_MS - offsets
        return self.date_buckets(local // DAY_MS, unit)

    def date_buckets(self, days: NDArray[np.int64], unit: BucketUnit) -> NDArray[np.int64]:
        """The bucket of each local date, for days, weeks and months."""
        if not len(days):
            return np.empty(0, np.int64)
        first = int(days.min())
        starts = np.array(
            [date_start(first_date(day, unit), self.zone) for day in range(first, int(days.max()) + 1)], np.int64
        )
        return starts[days - first]

    @lru_cache(maxsize=128)  # noqa: B019  # 3 MB, and instances are remembered as well
    def of_quarters(self, unit: BucketUnit) -> NDArray[np.int64]:
        """The bucket of each quarter-hour of the range; nobody may write to it."""
        return self.buckets(np.arange(self._start_ms, self._end_ms, QUARTER_MS, dtype=np.int64), unit)


@lru_cache(maxsize=4_096)
def offsets_of(zone: ZoneInfo, start_ms: int, end_ms: int) -> ZoneOffsets:
    """The offsets of a zone over a range; remembered."""
    return ZoneOffsets(zone, start_ms, end_ms)


def _change(low: int, high: int, zone: ZoneInfo) -> int:
    """The instant in (low, high] from which the offset is that of `high`; to the second."""
    after = offset_ms(high, zone)
    while high - low > 1000:
        middle = (low + high) // 2000 * 1000
        if offset_ms(middle, zone) == after:
            high = middle
        else:
            low = middle
    return high
