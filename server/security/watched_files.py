"""Noticing that files have changed, without taking half of a change for the whole."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

_Signature = tuple[tuple[int, ...] | None, ...]


class WatchedFiles:
    """Files that belong together, such as a certificate and its key.

    Symbolic links are followed: that is how mounted secrets are swapped. A change is reported by `changed` once the
    files look the same at two calls in a row: whoever replaces two files does so one after the other.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._taken = self._seen = self._signature()

    def take(self) -> None:
        """To be called right before the files are read: what they are now is not reported any more."""
        self._taken = self._seen = self._signature()

    def changed(self) -> bool:
        """Whether the files are others than those taken, and settled. Costs one look at each file."""
        before, self._seen = self._seen, self._signature()
        return self._seen != self._taken and self._seen == before

    def _signature(self) -> _Signature:
        return tuple(map(_look, self._paths))


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def exposed(path: Path) -> bool:
    """Whether everybody on this machine may read the file. False where that cannot be found out."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
