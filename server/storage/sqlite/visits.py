"""Who may still be reading what: a file that was replaced goes when every question that began before has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Visits:
    """Numbers the questions of all readers. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._present: set[int] = set()

    @contextmanager
    def visit(self) -> Iterator[None]:
        """A question is under way."""
        with self._lock:
            number = self._next
            self._next += 1
            self._present.add(number)
        try:
            yield
        finally:
            with self._lock:
                self._present.discard(number)

    def mark(self) -> int:
        """This moment."""
        with self._lock:
            return self._next

    def ended_before(self, mark: int) -> bool:
        """Whether every question that had begun at that moment has ended."""
        with self._lock:
            return not self._present or min(self._present) >= mark
