"""How fast retention may go beside events: rows a second, kept by waiting between small steps."""

from __future__ import annotations

import time
from collections.abc import Callable

NICE = 10
"""Of the thread: what holds nobody up but takes long is not paced by rows."""
WAIT_S_MAX = 0.2
"""So long at most in one go, so that whoever wants the work to stop is heard."""


class Pace:
    """For one action after the other; told how many rows are done."""

    def __init__(
        self,
        rows_per_second: Callable[[], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`rows_per_second` may change at any time; 0 is as fast as it goes."""
        self._rate = rows_per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._rows = 0
        self._due_s = 0.0

    def keep(self, rows: int) -> None:
        """Waits until so many rows of the action may be done. Fewer than before: another action has begun."""
        rate = self._rate()
        now = self._monotonic()
        done = rows - self._rows if rows >= self._rows else rows
        self._rows = rows
        if rate <= 0 or done <= 0:
            self._due_s = now
            return
        self._due_s = max(self._due_s, now) + done / rate
        while (left := self._due_s - self._monotonic()) > 0:
            self._sleep(min(left, WAIT_S_MAX))
            if self._rate() <= 0:
                return
