"""Whether a history is being imported: months that ended long ago and still get events are not sealed meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from retention.month import Month
from retention.period import Period
from server.model import MonthState
from server.storage.contract import Store


class Quiet:
    """Notes which months change. `look` is to be called every few seconds."""

    def __init__(self, store: Store, quiet_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._quiet_s = quiet_s
        self._monotonic = monotonic
        self._seen: dict[Month, tuple[int, float]] = {}
        """The last position of a month, and since when it is known to be that."""
        self._head = store.head
        self._moved_s: float | None = None

    def look(self) -> None:
        """Takes notice of what has come."""
        now_s = self._monotonic()
        for month, last in self._store.last_positions().items():
            known = self._seen.get(month)
            if known is None:
                self._seen[month] = (last, now_s - self._quiet_s)
            elif known[0] != last:
                self._seen[month] = (last, now_s)
        if self._store.head != self._head:
            self._head, self._moved_s = self._store.head, now_s

    def importing(self, seal_after: Period, now_ms: int) -> bool:
        """Whether an open month that is old enough to be sealed got events lately."""
        now_s = self._monotonic()
        for info in self._store.months():
            _last, since_s = self._seen.get(info.month, (0, now_s - self._quiet_s))
            old = seal_after.after(info.month) <= now_ms
            if info.state is MonthState.OPEN and old and now_s - since_s < self._quiet_s:
                return True
        return False

    def ingesting(self) -> bool:
        """Whether any event came in the last day."""
        return self._moved_s is not None and self._monotonic() - self._moved_s < 86_400
