"""How runs of retention ended, class by class: what gauges and alerts are made of."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from retention.policy import Policy

EVERY = ""
"""Stands for all classes: what concerns none of them alone."""
BACKUPS = "(backups)"
"""Stands among classes for backups that are too old."""


class Endings:
    """Written by the event loop and by the thread of retention. Times are Unix milliseconds.

    Mappings are replaced as a whole, so that a scrape never sees half of one.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.success_ms: Mapping[str, int] = {}
        """When a run last ended with nothing of a class undone; before that, since when the class is known."""
        self.failure_ms: Mapping[str, int] = {}
        """When a run last failed for a class; 0: never, in this run of the daemon."""

    def know(self, policy: Policy, now_ms: int) -> None:
        """These are the classes; new ones count from now on, those that are gone no longer do."""
        names = [one.name for one in policy.classes]
        with self._guard:
            self.success_ms = {name: self.success_ms.get(name, now_ms) for name in names}
            self.failure_ms = {name: self.failure_ms.get(name, 0) for name in names}

    def ended(self, now_ms: int, *, undone: Collection[str] = (), failed: Collection[str] = ()) -> None:
        """A run is over. `undone`: classes of which something was not done; `failed`: those where that was an error."""
        with self._guard:
            self.success_ms = {
                name: before if {name, EVERY} & {*undone, *failed} else now_ms
                for name, before in self.success_ms.items()
            }
            self.failure_ms = {
                name: now_ms if {name, EVERY} & set(failed) else before for name, before in self.failure_ms.items()
            }


def overdue_seconds(since_ms: Mapping[str, int], now_ms: int) -> Mapping[str, float]:
    """Class -> how long the oldest of it is overdue by now; 0 where nothing is. `since_ms` has "" for backups."""
    return {name or BACKUPS: max(0.0, (now_ms - since) / 1000) if since else 0.0 for name, since in since_ms.items()}
