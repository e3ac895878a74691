"""Where files lie in the data directory, and how directories are made durable.

    DATA/LOCK  DATA/catalog.db  DATA/months/2025-11/g0001/events.db  .../index-0001.db

A generation is the n-th file that a month lives in. A path is never used twice: WAL frames are not tied to an inode, so
a new file under the name of one whose `-wal` is still alive would be read back as the old rows.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from retention.month import Month
from server.errors import ConfigurationError, Precondition
from server.write_out import written_out

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_GENERATION = re.compile(r"g(\d{4,})")
_INDEX = re.compile(r"index-(\d{4,})\.db")
_DRAFT = ".draft"

REMOVAL_STEP_BYTES = 8 * 1024 * 1024
"""Freed at once, in some milliseconds where the file system discards what it frees."""


class Layout:
    """The paths of one data directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = root / "catalog.db"
        self.months = root / "months"

    def create(self) -> None:
        """Makes the directory and its fixed parts, durably."""
        self.months.mkdir(parents=True, exist_ok=True)
        for directory in (self.months, self.root, self.root.resolve().parent):
            sync_directory(directory)

    def generation(self, month: Month, generation: int) -> Path:
        """The directory of one generation of a month."""
        return _generation(self.months, month, generation)

    def events(self, month: Month, generation: int) -> Path:
        """The file with the truth of one generation of a month."""
        return _file(self.months, month, generation, "events.db")

    def index(self, month: Month, generation: int, number: int) -> Path:
        """The n-th file with derived data of one generation of a month."""
        return _file(self.months, month, generation, f"index-{number:04d}.db")

    def index_numbers(self, month: Month, generation: int) -> list[int]:
        """The numbers of all indexes of a generation of which any file is left, rising."""
        found = (_INDEX.match(path.name) for path in self.generation(month, generation).glob("index-*"))
        return sorted({int(match[1]) for match in found if match})

    def current_index(self, month: Month, generation: int) -> int:
        """The number of the newest index of a generation; 0 if there is none."""
        found = (_INDEX.fullmatch(path.name) for path in self.generation(month, generation).glob("index-*"))
        return max((int(match[1]) for match in found if match), default=0)

    def remove_index(self, month: Month, generation: int, number: int) -> None:
        """Removes an index with its log. Derived data: nothing has to be durable about it."""
        path = self.index(month, generation, number)
        for name in (f"{path.name}-wal", f"{path.name}-shm", path.name, path.name + _DRAFT):
            path.with_name(name).unlink(missing_ok=True)

    def next_generation(self, month: Month) -> int:
        """The number of the next file that the month lives in."""
        return 1 + max((number for found, number in self.found() if found == month), default=0)

    def drafted(self, month: Month, generation: int) -> Path:
        """The directory that a generation is built in; `publish` gives it its name."""
        return self.generation(month, generation).with_suffix(_DRAFT)

    def draft(self, month: Month, generation: int) -> Path:
        """The same, new and empty. Left-overs are removed."""
        draft = self.drafted(month, generation)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        return draft

    def publish(self, month: Month, generation: int) -> None:
        """Makes a draft the directory of its generation, durably and whole: fsync, rename, fsync."""
        directory, draft = self.generation(month, generation), self.drafted(month, generation)
        for file in draft.iterdir():
            _sync(file, os.O_RDONLY, before=written_out)
        sync_directory(draft)
        draft.rename(directory)
        sync_directory(directory.parent)
        sync_directory(self.months)

    def remove_drafts(self) -> None:
        """Removes what a crash left unpublished: nothing ever read or wrote events there."""
        for draft in self.months.glob(f"*/g*{_DRAFT}"):
            shutil.rmtree(draft)

    def remove_in_steps(self, month: Month, generation: int) -> Iterator[None]:
        """Removes a generation that was replaced, large files a piece at a time; yields between the steps."""
        directory = self.generation(month, generation)
        for file in sorted(directory.iterdir()):
            size = file.stat().st_size
            while size > REMOVAL_STEP_BYTES:
                size -= REMOVAL_STEP_BYTES
                os.truncate(file, size)
                yield
        shutil.rmtree(directory)
        sync_directory(directory.parent)

    def found(self) -> Iterator[tuple[Month, int]]:
        """Every generation directory there is, whatever the catalog says; oldest first."""
        for directory in sorted(self.months.iterdir()):
            if _MONTH.fullmatch(directory.name):
                for inner in sorted(directory.iterdir()):
                    if match := _GENERATION.fullmatch(inner.name):
                        yield Month.parse(directory.name), int(match[1])

    def free_bytes(self) -> int:
        """Room left on the file system for this process."""
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize


def _generation(months: Path, month: Month, generation: int) -> Path:
    return months / str(month) / f"g{generation:04d}"


@lru_cache(maxsize=8_192)
def _file(months: Path, month: Month, generation: int, name: str) -> Path:
    """Questions ask for the same few paths all the time; making one takes as long as a lookup in a file."""
    return _generation(months, month, generation) / name


class DirectoryLock:
    """Holds DATA/LOCK for as long as this process uses the directory; the kernel lets go when the process dies."""

    def __init__(self, root: Path) -> None:
        self._descriptor = os.open(root / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Precondition(
                "DATA_IN_USE",
                f"{root} is in use by another trackd (process {holder or 'unknown'})",
                hint="one daemon a directory: stop the other one, or choose another --data",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets go."""
        os.close(self._descriptor)


def sync_directory(path: Path) -> None:
    """Makes the entries of a directory durable: a new file survives a crash only after this (fsync(2))."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int, before: Callable[[int], None] = lambda _: None) -> None:
    descriptor = os.open(path, flags)
    try:
        before(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_possession(layout: Layout) -> DirectoryLock:
    """Makes the directory and locks it."""
    try:
        layout.create()
        return DirectoryLock(layout.root)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise ConfigurationError(
            "DATA_UNUSABLE", f"{layout.root} cannot be used: {error}", hint="choose another directory with --data"
        ) from error
