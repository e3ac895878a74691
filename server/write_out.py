"""Files that nobody syncs, handed to the disk a little at a time.

What is written and not synced the kernel keeps for half a minute (/proc/sys/vm/dirty_expire_centisecs) and then writes
in one go: hundreds of megabytes, in front of which every fsync of events waits. sync_file_range(2) begins to write a
part of a file, or waits for that as well, and asks the disk for nothing more. It promises nothing either: this is about
when, not about whether. Where there is no such call, nothing is done.

The descriptor of a file in use is looked up among those that SQLite has open. One of our own would do harm: to close
it takes away all locks that this process has on the file (sqlite.org/howtocorrupt.html, "Posix advisory locks").
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

SLICE_BYTES = 1024 * 1024
"""Begun at once: who syncs then waits for some milliseconds more."""
PAUSE_S_MIN = 0.005
"""A round over very large files takes longer than it should: this costs some processor time as well."""
_BEGIN = 2
"""SYNC_FILE_RANGE_WRITE"""
_BEGIN_AND_WAIT = 1 | _BEGIN | 4
"""SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER"""
_DESCRIPTORS = Path("/proc/self/fd")

sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


class WriteOut:
    """A thread that goes over files, and their write-ahead logs, again and again, each round in so many seconds."""

    def __init__(self, files: Callable[[], Iterable[Path]], round_s: float) -> None:
        """`files` says, at the begin of each round, which are of interest; those that nobody has open are not."""
        self._files = files
        self._round_s = round_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trackd-write-out", daemon=True)

    def start(self) -> None:
        """Begins with the first round."""
        if sync_file_range is not None:
            self._thread.start()

    def close(self) -> None:
        """Ends the thread where it is."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            slices = list(_slices(self._files()))
            for descriptor, start in slices:
                # Should it be another file's by now, then that one is written early.
                _write(descriptor, start, _BEGIN)
                if self._ending.wait(max(self._round_s / len(slices), PAUSE_S_MIN)):
                    return
            if not slices:
                self._ending.wait(self._round_s)


def _slices(files: Iterable[Path]) -> Iterator[tuple[int, int]]:
    """(descriptor, offset) of every part of what is open of these."""
    wanted: dict[tuple[int, int], int] = {}
    for path in files:
        for file in (path, path.with_name(f"{path.name}-wal")):
            with suppress(OSError):
                status = file.stat()
                wanted[status.st_dev, status.st_ino] = status.st_size
    if not wanted:
        return
    links: list[Path] = []
    with suppress(OSError):  # this process may have no descriptor left to look with
        links += _DESCRIPTORS.iterdir()
    for link in links:
        descriptor = int(link.name)
        with suppress(OSError):  # closed meanwhile
            status = os.fstat(descriptor)
            size = wanted.pop((status.st_dev, status.st_ino), 0)
            yield from ((descriptor, start) for start in range(0, size, SLICE_BYTES))


def written_out(descriptor: int) -> None:
    """Writes a file with one slice at a time on its way to the disk, so that an fsync of it has little left to do."""
    for start in range(0, os.fstat(descriptor).st_size, SLICE_BYTES):
        _write(descriptor, start, _BEGIN_AND_WAIT)


def _write(descriptor: int, start: int, how: int) -> None:
    """Errors are for those to find who sync."""
    if sync_file_range is not None:
        place = ctypes.c_int64(start), ctypes.c_int64(SLICE_BYTES)
        sync_file_range(ctypes.c_int(descriptor), *place, ctypes.c_uint(how))
