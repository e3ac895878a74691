"""Which events have their final answer: arithmetic on their places, without clock or threads."""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(slots=True)
class Origin:
    """Events that were batched together, wherever they have got to since: cut up, sent again, in a file.

    `left` is how many of them have no final answer. `place` is the file segment that holds them, if one does.
    """

    first: int
    events: int
    left: int
    place: object = None


class Watermark:
    """The place below which every event has its final answer. Ranges of places may be done in any order, each once."""

    def __init__(self, low: int = 0) -> None:
        self.low = low
        """All places below this one are done."""
        self._ahead: list[tuple[int, int]] = []

    def done(self, first: int, events: int) -> None:
        """The events at these places have their final answer."""
        heapq.heappush(self._ahead, (first, events))
        while self._ahead and self._ahead[0][0] == self.low:
            self.low += heapq.heappop(self._ahead)[1]
