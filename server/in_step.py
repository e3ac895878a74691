"""Two threads over the same rows, of which one goes no faster than the other."""

from __future__ import annotations

import math
import time
from typing import Self

AHEAD_ROWS, AHEAD_S = 50_000, 0.005
"""So many rows a thread may be ahead of the one that it follows; else it looks again after so many seconds."""


class InStep:
    """Lets one thread read no faster than another one works: who leads may be waiting for good reasons.

    To be left before one waits for the thread: until then it may wait for the leader, who has failed.
    """

    def __init__(self) -> None:
        self._led: float = 0
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        self._failed = kind is not None
        self.end()

    def led(self, rows: int) -> None:
        """The leader has done so many rows."""
        self._led = rows

    def end(self) -> None:
        """The leader waits for nothing any more."""
        self._led = math.inf

    def follow(self, rows: int) -> None:
        """Returns when the leader is not far behind; raises if its work has failed."""
        while rows > self._led + AHEAD_ROWS:
            time.sleep(AHEAD_S)
        self.unless_failed()

    def unless_failed(self) -> None:
        """Raises if the leader has given up."""
        if self._failed:
            raise Abandoned


class Abandoned(Exception):
    """Nobody waits for this any more."""
