"""Parts of runs that were read lately, in memory for all readers. A run never changes, so what is held is right."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

Part = TypeVar("Part")

PARTS_OF_ALL = 8
"""A part of more than this fraction of all room is not kept: it would drive out too many others."""


class Held:
    """At most so many bytes, those used longest ago let go of first. For any thread."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._parts: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """How much is held."""
        return self._bytes

    def get(self, key: Hashable, read: Callable[[], Part], size: Callable[[Part], int]) -> Part:
        """The part of that name, read now if it is not held. Two threads may both read it."""
        with self._lock:
            held = self._parts.get(key)
            if held is not None:
                self._parts.move_to_end(key)
                return held[0]  # type: ignore[return-value]  # what the same key was read as before
        part = read()
        self._keep(key, part, size(part))
        return part

    def _keep(self, key: Hashable, part: object, size: int) -> None:
        if size > self._bytes_max // PARTS_OF_ALL:
            return
        with self._lock:
            if key in self._parts:
                return
            self._parts[key] = (part, size)
            self._bytes += size
            while self._bytes > self._bytes_max:
                _key, (_part, freed) = self._parts.popitem(last=False)
                self._bytes -= freed


NOTHING_HELD = Held(0)
"""For who reads everything once."""
