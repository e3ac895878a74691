"""When to try again, and when to stop trying: arithmetic without a clock, so that a test can hold both."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

HINT_S_MAX = 3_600.0
"""A daemon that asks for more patience than this is not believed: an answer that is garbled must not stop a sender."""


@dataclass
class Backoff:
    """Delays that double from `first_s` up to `max_s`, each shortened by up to half at random.

    The jitter keeps many senders that lost the same daemon from returning at the same moment.
    """

    first_s: float = 0.1
    max_s: float = 5.0
    rng: random.Random = field(default_factory=random.Random)
    _failures: int = 0

    def next_delay_s(self, retry_after_ms: int | None = None) -> float:
        """Seconds to wait after one more failure; never less than the daemon asked for (but see HINT_S_MAX)."""
        full_s = min(self.max_s, self.first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(full_s * self.rng.uniform(0.5, 1.0), min((retry_after_ms or 0) / 1_000, HINT_S_MAX))

    def reset(self) -> None:
        """Something succeeded: the next delay is the first one again."""
        self._failures = 0


@dataclass
class Patience:
    """Notices that nothing has moved for `limit_s` seconds while something was waited for; None: it has no end."""

    limit_s: float | None
    _since_s: float | None = None

    def watch(self, now_s: float, *, waiting: bool) -> None:
        """Says whether something is waited for at `now_s`. The time begins to run when that becomes true."""
        if not waiting:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s

    def progress(self, now_s: float) -> None:
        """Something moved: the time starts anew."""
        if self._since_s is not None:
            self._since_s = now_s

    def left_s(self, now_s: float) -> float | None:
        """Seconds until patience ends, at most 0 when it has; None while nothing is waited for or it has no end."""
        if self._since_s is None or self.limit_s is None:
            return None
        return self._since_s + self.limit_s - now_s
