"""A disk that remembers every write and sync, and can say what would be left of it if the power failed at any moment.

What was synced stays. Of what was written since, any part may be there: each sector of 512 bytes by itself, in any
order; files that were created and never synced may be missing, and those that were deleted without syncing the
directory may be back. Renames of directories are taken to be durable: layout.py syncs them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw

BASE = "unix"
SECTOR_BYTES = 512


class Step(NamedTuple):
    """One thing that was asked of the disk; or, as a mark, that something was promised."""

    kind: str
    path: str = ""
    offset: int = 0
    data: bytes = b""
    durable: bool = False


@dataclass
class _Content:
    """One file: what is certain of it, and what was written since the last sync."""

    certain: bytearray | None = None
    """None: not even that it exists."""
    pending: list[Step] = field(default_factory=list)

    def settle(self) -> None:
        self.certain = self.certain if self.certain is not None else bytearray()
        for step in self.pending:
            _apply(self.certain, step)
        self.pending.clear()

    def remains(self, rng: random.Random) -> bytearray | None:
        """What may be found after the power came back."""
        keep = rng.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        if self.certain is None and rng.random() >= max(keep, 0.5):
            return None
        found = bytearray(self.certain or b"")
        for step in self.pending:
            for part in _sectors(step):
                if rng.random() < keep:
                    _apply(found, part)
        return found


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
    else:
        content.extend(bytes(max(0, step.offset - len(content))))
        content[step.offset : step.offset + len(step.data)] = step.data


def _sectors(step: Step) -> Iterator[Step]:
    if step.kind == "truncate":
        yield step
        return
    at, end = step.offset, step.offset + len(step.data)
    while at < end:
        following = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield step._replace(offset=at, data=step.data[at - step.offset : following - step.offset])
        at = following


def after_power_loss(steps: Sequence[Step], seed: int) -> dict[str, bytes]:
    """The files that may be found if the power failed behind these steps, by their path."""
    rng = random.Random(seed)
    files: dict[str, _Content] = {}
    deleted: dict[str, _Content] = {}
    for step in steps:
        if step.kind in ("write", "truncate"):
            files.setdefault(step.path, _Content()).pending.append(step)
            deleted.pop(step.path, None)
        elif step.kind == "sync":
            content = files.setdefault(step.path, _Content())
            if content.certain is None and step.path.endswith(("-wal", "-journal")):
                # With the first sync of a log that it has created SQLite syncs the directory (os_unix.c, DIRSYNC).
                deleted = {path: gone for path, gone in deleted.items() if _directory(path) != _directory(step.path)}
            content.settle()
        elif step.kind == "delete":
            gone = files.pop(step.path, None)
            if gone and not step.durable:
                deleted[step.path] = gone
        elif step.kind == "publish":
            draft, published = step.path, step.data.decode()
            for path in [path for path in files if path.startswith(draft + "/")]:
                content = files.pop(path)
                content.settle()
                files[published + path.removeprefix(draft)] = content
        elif step.kind == "rename" and step.path in files:
            files[step.data.decode()] = files.pop(step.path)
    for path, content in deleted.items():
        if path not in files and rng.random() < 0.5:
            files[path] = content
    found = {path: content.remains(rng) for path, content in files.items()}
    return {path: bytes(content) for path, content in found.items() if content is not None}


class _File(apsw.VFSFile):
    """A file that tells what is done to it."""

    def __init__(self, disk: RecordedDisk, path: str, name: Any, flags: list[int]) -> None:
        self._steps = disk.steps
        self._path = path
        super().__init__(BASE, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  # SQLite's name
        super().xWrite(data, offset)
        self._steps.append(Step("write", self._path, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802  # SQLite's name
        super().xTruncate(size)
        self._steps.append(Step("truncate", self._path, size))

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's name
        # Not passed on: this disk is an imagined one.
        self._steps.append(Step("sync", self._path))


class RecordedDisk(apsw.VFS):
    """The VFS."""

    def __init__(self, root: Path) -> None:
        self.steps: list[Step] = []
        self._root = root
        super().__init__("recorded", BASE, makedefault=True)

    def _path(self, name: str) -> str:
        return str(Path(name).relative_to(self._root))

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's name
        if name is None:
            return super().xOpen(name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self, self._path(path), name, flags)

    def xDelete(self, name: str, sync_directory: bool) -> None:  # noqa: N802  # SQLite's name
        super().xDelete(name, False)
        self.steps.append(Step("delete", self._path(name), durable=bool(sync_directory)))

    def published(self, draft: Path, directory: Path) -> None:
        """Tells of a directory that was synced with all its files and given its name."""
        self.steps.append(Step("publish", self._path(str(draft)), data=self._path(str(directory)).encode()))

    def renamed(self, file: Path, name: Path) -> None:
        """Tells of a file that was renamed, with what of it is on disk and what is not."""
        self.steps.append(Step("rename", self._path(str(file)), data=self._path(str(name)).encode()))

    def promised(self, number: int) -> None:
        """Marks that from here on the caller relies on something."""
        self.steps.append(Step("promise", offset=number))


@contextmanager
def recorded_disk(root: Path) -> Iterator[RecordedDisk]:
    """Every file under `root` that SQLite opens meanwhile lies on a disk that remembers."""
    disk = RecordedDisk(root)
    try:
        yield disk
    finally:
        disk.unregister()
