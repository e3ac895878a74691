"""How far the daemon's derived data is behind the events that it acknowledged: the gauge `trackd_fold_lag_events`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from server.errors import Internal

GAUGE = "trackd_fold_lag_events"
ALSO = ("trackd_months_unindexed", "trackd_months_unmerged")
"""What else has to be 0 when everything is done."""
WATCH_S = 1.0
"""Seldom: each look holds the daemon's interpreter for milliseconds, and whoever is being measured waits."""
WAIT_S = 0.05
"""A look is a scrape of everything, which costs the daemon some milliseconds."""
STUCK_S = 60.0


class TailWatch:
    """Looks at the gauge every second while it is entered, and remembers the highest value.

    `samples` scrapes /metrics. A daemon without the gauge is never behind.
    """

    def __init__(self, samples: Callable[[], Mapping[str, float]]) -> None:
        self._samples = samples
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tail-watch", daemon=True)
        self.peak = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def wait(self) -> None:
        """Returns when derived data has caught up; Internal if it gets no further for a minute."""
        lowest, since = self._left(), time.monotonic()
        while lowest:
            time.sleep(WAIT_S)
            behind = self._left()
            if behind < lowest:
                lowest, since = behind, time.monotonic()
            elif time.monotonic() - since > STUCK_S:
                raise Internal("BENCH_FAILED", f"the index got no further with {behind:,} events to go")

    def _watch(self) -> None:
        while not self._over.wait(WATCH_S):
            try:
                self._look()
            except OSError:
                return  # the daemon is gone: whoever asked it something says so

    def _left(self) -> int:
        samples = self._samples()
        return self._look() + sum(int(samples.get(name, 0)) for name in ALSO)

    def _look(self) -> int:
        behind = int(self._samples().get(GAUGE, 0))
        self.peak = max(self.peak, behind)
        return behind
