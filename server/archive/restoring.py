"""Archived rows as a SQLite file of the shape of a sealed month, for a limited time.

DIRECTORY/2025-10-<digest>.db      named as the archive; what it is made from and until when is in its table `about`
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retention.facts import Copy, CopyKind
from retention.month import Month
from retention.policy import Claim
from server.archive import places, reading, steps
from server.archive.columns import exported_of
from server.archive.folders import Folder
from server.archive.manifest import Manifest
from server.errors import Corrupt, Invalid, StoreFailed
from server.rewriting import Heard
from server.storage.exported import Exported
from server.storage.factory import read_restored, write_restored

PREFIX = "restored-"
"""Of what a restored month is called among the copies of its month."""
_SUFFIX, _DRAFT = ".db", ".db.draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restored month."""

    name: str
    """Of the archive that it was made from."""
    month: Month
    path: Path
    types: tuple[str, ...]
    rows: int
    bytes: int
    created_ms: int
    expires_ms: int
    complete: bool
    anonymous: bool

    def copy(self) -> Copy:
        """What retention has to know of it: out of policy until it expires."""
        return Copy(
            kind=CopyKind.RESTORED,
            name=f"{PREFIX}{self.name}",
            types=self.types,
            rows=self.rows,
            bytes=self.bytes,
            created_ms=self.created_ms,
            complete=self.complete,
            anonymous=self.anonymous,
            until_ms=self.expires_ms,
        )


def restore(
    folder: Folder, manifest: Manifest, directory: Path, *, now_ms: int, expires_ms: int, heard: Heard | None = None
) -> Restored:
    """Makes the file, compares what is in it with the archive's content digest, and gives it its name, durably.

    One of the same archive that is there already is replaced. `heard` is told how many rows are done; what it raises
    ends the work. A crash leaves a draft that the next attempt, or `expire`, removes. Raises Invalid(EXPIRY) for a time
    that is not ahead, Corrupt(PART_DAMAGED, ARCHIVE_DIFFERS), Unavailable(ARCHIVE_TARGET, DISK_FULL).
    """
    if expires_ms <= now_ms:
        raise Invalid("EXPIRY", "a restored month has to expire later than now", hint="give it some days")
    path = directory / f"{manifest.name}{_SUFFIX}"
    draft = directory / f"{manifest.name}{_DRAFT}"
    _prepare(directory, draft)
    copy = manifest.copy()
    about = {
        "restored_from": manifest.name,
        "created_ms": now_ms,
        "expires_ms": expires_ms,
        "types": "\n".join(copy.types),
        "complete": int(copy.complete),
        "anonymous": int(copy.anonymous),
    }
    steps.reached("restore_drafted")
    claim = Claim.ANONYMOUS if manifest.anonymous else Claim.PSEUDONYMOUS
    try:
        digest = write_restored(draft, Month.parse(manifest.month), _rows(folder, manifest, heard), about, claim)
        if digest.hexdigest() != manifest.content_digest:
            raise Corrupt(
                "ARCHIVE_DIFFERS",
                f"what was restored of {manifest.name} is not what was archived",
                hint="run `trackd archive verify`",
            )
        steps.reached("restore_filled")
    except Exception:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    _publish(draft, path)
    steps.reached("restore_published")
    return _read(path)


def restored(directory: Path) -> list[Restored]:
    """All restored months of a directory, by name; none if there is no such directory. Corrupt for one that is none."""
    return [_read(path) for path in _files(directory, _SUFFIX)]


def remove(directory: Path, name: str) -> bool:
    """Removes a restored month, durably; whether there was one. Invalid(ARCHIVE_NAME) for what is no name of one."""
    places.month_of(name)
    path = directory / f"{name}{_SUFFIX}"
    if not path.exists():
        return False
    path.unlink()
    _sync(directory)
    return True


def expire(directory: Path, now_ms: int) -> list[Restored]:
    """Removes restored months whose time has come; which. Drafts that a crash left go, too: not beside `restore`."""
    for path in _files(directory, _DRAFT):
        path.unlink()
    due = [one for one in restored(directory) if one.expires_ms <= now_ms]
    for one in due:
        remove(directory, one.name)
    return due


def _rows(folder: Folder, manifest: Manifest, heard: Heard | None) -> Iterator[Exported]:
    done = 0
    for rows in reading.batches(folder, manifest):
        yield exported_of(rows)
        done += rows.num_rows
        if heard is not None:
            heard(done)


def _read(path: Path) -> Restored:
    about = read_restored(path)
    try:
        return Restored(
            name=str(about["restored_from"]),
            month=Month.parse(str(about["month"])),
            path=path,
            types=tuple(str(about["types"]).split("\n")),
            rows=_number(about["rows"]),
            bytes=path.stat().st_size,
            created_ms=_number(about["created_ms"]),
            expires_ms=_number(about["expires_ms"]),
            complete=bool(about["complete"]),
            anonymous=bool(about["anonymous"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(
            "FILE_DAMAGED", f"{path.name} is no restored month", hint="do not put other files here"
        ) from error


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value


def _files(directory: Path, suffix: str) -> list[Path]:
    return sorted(path for path in directory.glob(f"????-??-*{suffix}") if path.is_file())


def _prepare(directory: Path, draft: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
    except OSError as error:
        raise _failed(error) from error


def _publish(draft: Path, path: Path) -> None:
    try:
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise _failed(error) from error


def _failed(error: OSError) -> StoreFailed:
    return StoreFailed("STORAGE_IO", str(error), hint="look at the directory, its disk and its permissions")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
