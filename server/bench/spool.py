"""Stream messages on disk: more of them than should be in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path


class Spool:
    """A file of messages: written once, then read by any number of readers at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._ends = [0]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, message: bytes) -> None:
        """Adds one at the end."""
        self._file.write(message)
        self._ends.append(self._ends[-1] + len(message))

    def close(self) -> None:
        """Nothing is added from now on."""
        self._file.close()

    def every(self, step: int, first: int) -> Iterator[bytes]:
        """Every so many-th message from a first one on."""
        with self._path.open("rb") as file:
            for start, end in islice(zip(self._ends, self._ends[1:], strict=False), first, None, step):
                file.seek(start)
                yield file.read(end - start)
