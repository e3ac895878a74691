"""A disk that fails where a test says: a VFS of SQLite (sqlite.org/vfs.html) around the real one.

It stands in for the default VFS of this process as long as it is installed: the store under test knows nothing of it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import apsw

BASE = "unix"


def _io_error(extended: int) -> Callable[[], apsw.Error]:
    def make() -> apsw.Error:
        error: Any = apsw.IOError("the disk failed on purpose")
        error.extendedresult = extended
        return cast(apsw.Error, error)

    return make


def disk_full() -> apsw.Error:
    """What the operating system answers when there is no room."""
    return apsw.FullError("the disk is full on purpose")


IO_ERRORS: dict[str, Callable[[], apsw.Error]] = {
    "read": _io_error(apsw.SQLITE_IOERR_READ),
    "write": _io_error(apsw.SQLITE_IOERR_WRITE),
    "truncate": _io_error(apsw.SQLITE_IOERR_TRUNCATE),
    "sync": _io_error(apsw.SQLITE_IOERR_FSYNC),
    "delete": _io_error(apsw.SQLITE_IOERR_DELETE),
    "open": lambda: apsw.CantOpenError("the disk failed on purpose"),
}


@dataclass
class Plan:
    """Which call fails: the n-th of a kind (or that one and all behind it), with which error."""

    kind: str = ""
    nth: int = 0
    for_ever: bool = False
    error: Callable[[], apsw.Error] = disk_full
    calls: Counter[str] = field(default_factory=Counter)
    hits: int = 0

    def meet(self, kind: str) -> None:
        """Counts a call; raises if it is one that fails."""
        self.calls[kind] += 1
        if kind == self.kind and (self.calls[kind] == self.nth or (self.for_ever and self.calls[kind] > self.nth)):
            self.hits += 1
            raise self.error()


class _File(apsw.VFSFile):
    """A file that asks the plan before each call."""

    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__(BASE, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # SQLite's name
        self._disk.plan.meet("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  # SQLite's name
        self._disk.plan.meet("write")
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802  # SQLite's name
        self._disk.plan.meet("truncate")
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's name
        self._disk.plan.meet("sync")
        # Not passed on: the process goes on living, so that nothing depends on it, and it takes most of the time.


class FaultyDisk(apsw.VFS):
    """The VFS."""

    def __init__(self) -> None:
        self.plan = Plan()
        super().__init__("faulty", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's name
        self.plan.meet("open")
        return _File(self, name, flags)

    def xDelete(self, name: str, sync_directory: bool) -> None:  # noqa: N802  # SQLite's name
        self.plan.meet("delete")
        super().xDelete(name, False if sync_directory else sync_directory)


@contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """Every file that SQLite opens meanwhile lies on a disk that fails by plan; none by itself."""
    disk = FaultyDisk()
    usual = sys.unraisablehook

    def overlook(ignored: sys.UnraisableHookArgs) -> None:
        # SQLite lives with some errors, and APSW has nobody to raise them to.
        if "on purpose" not in str(ignored.exc_value):
            usual(ignored)

    sys.unraisablehook = overlook
    try:
        yield disk
    finally:
        sys.unraisablehook = usual
        disk.unregister()
