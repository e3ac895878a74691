"""SQLite connections as this engine wants them, and the one table that turns driver errors into trackd's."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import apsw

from server.errors import Corrupt, Internal, StoreFailed, TrackdError, Unavailable

Columns = Mapping[str, Sequence[Any]]
"""Rows as columns of equal length, by name."""

SQLITE_FLOOR = 3_053_000
"""Before 3.53 a WAL that is reset while it is checkpointed can lose frames."""

BUSY_TIMEOUT_MS = 5_000
"""We are the only writer; whoever else holds a lock is a person with a tool, and gets this long to let go."""


def open_writer(path: Path, *, cache_bytes: int, wal_bytes_max: int, create: bool = False) -> apsw.Connection:
    """The connection that writes: WAL, and a commit returns only after fsync (synchronous=FULL).

    Checkpoints never come by themselves: the writer decides when (sqlite.org/wal.html, "Automatic Checkpoint").
    """
    if apsw.SQLITE_VERSION_NUMBER < SQLITE_FLOOR:
        raise Internal("SQLITE_TOO_OLD", f"SQLite {apsw.sqlite_lib_version()} is too old", hint="install a newer apsw")
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    with translated(path):
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", 0)
        connection.pragma("journal_size_limit", wal_bytes_max)
        _common(connection, cache_bytes)
        return connection


def open_reader(path: Path, *, cache_bytes: int, immutable: bool = False) -> apsw.Connection:
    """A connection that only reads and, when it is closed last, leaves the checkpoint to the writer.

    `immutable`: the file is known never to change again, so it is read without locks (sqlite.org/uri.html).
    """
    with translated(path):
        if immutable:
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            connection = apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)
        else:
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.pragma("query_only", True)
        _common(connection, cache_bytes)
        return connection


def open_nothing() -> apsw.Connection:
    """A connection without a file, to attach some to that are only read (`attach_reader`)."""
    with translated():
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        connection = apsw.Connection(":memory:", flags=flags)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.pragma("query_only", True)
        _common(connection, 0)
        return connection


def attach_reader(connection: apsw.Connection, name: str, path: Path, *, cache_bytes: int, immutable: bool) -> None:
    """Attaches a file under a name. As `open_reader` opens it: it is never made, and only read."""
    how = "mode=ro&immutable=1" if immutable else "mode=rw"
    with translated(path):
        connection.execute(f"ATTACH ? AS {name}", (f"{path.absolute().as_uri()}?{how}",))
        connection.pragma("cache_size", -(cache_bytes // 1024), schema=name)


def _common(connection: apsw.Connection, cache_bytes: int) -> None:
    connection.pragma("cache_size", -max(64, cache_bytes // 1024))
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", False)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)


@contextmanager
def translated(path: Path | None = None) -> Iterator[None]:
    """Raises trackd's errors for those of the driver and of the file system. None of theirs leaves this package."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full() from error
        raise _failed(f"{path.name}: {error}" if path else str(error)) from error


def translate(error: apsw.Error, path: Path | None = None) -> TrackdError:
    """The one mapping of driver errors. Result codes: sqlite.org/rescode.html."""
    where = f"{path.name}: " if path else ""
    if isinstance(error, apsw.InterruptError):
        return Unavailable("INTERRUPTED", "the question was stopped", hint="give it a later deadline or ask for less")
    if isinstance(error, apsw.FullError):
        return disk_full()
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Unavailable(
            "FILE_LOCKED",
            f"{where}another program holds a lock on the file",
            hint="do not write to the data directory with other tools",
            retry_after_ms=1_000,
        )
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return Corrupt("FILE_DAMAGED", f"{where}{error}", hint="run `trackd check`; restore this file from a backup")
    if isinstance(
        error, apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.NoMemError | apsw.PermissionsError
    ):
        return _failed(f"{where}{error}")
    return Internal("SQLITE_ERROR", f"{where}{type(error).__name__}: {error}")


def _failed(problem: str) -> StoreFailed:
    return StoreFailed("STORAGE_IO", problem, hint="look at the disk and the kernel log; then restart")


def disk_full() -> Unavailable:
    """There is no room for more events."""
    return Unavailable(
        "DISK_FULL",
        "the disk of the data directory is full",
        hint="free some room; writes go on by themselves",
        retry_after_ms=5_000,
    )


def fetch(connection: apsw.Connection, sql: str, bindings: Sequence[apsw.SQLiteValue] = ()) -> list[Any]:
    """All rows of a statement, as tuples. Their types are those of the STRICT tables, which no checker can see."""
    return connection.execute(sql, bindings).fetchall()


def first(connection: apsw.Connection, sql: str, bindings: Sequence[apsw.SQLiteValue] = ()) -> tuple[Any, ...]:
    """The first row of a statement, in a single step; an empty tuple if there is none."""
    cursor = connection.execute(sql, bindings)
    row: tuple[Any, ...] = next(cursor, ())
    cursor.close(force=True)
    return row


def insert(connection: apsw.Connection, table: str, columns: Columns, *, suffix: str = "") -> None:
    """Inserts rows that are given as columns of equal length, in as few steps as possible.

    Many rows a statement, because the driver gives up and retakes the interpreter lock around every step, and next to a
    busy event loop each retake can wait for milliseconds. The numbers of rows are a fixed ladder, so that every
    statement is found in the driver's cache.
    """
    width = len(columns)
    total = len(next(iter(columns.values())))
    prefix = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
    row = 0
    for size in _ladder(width, len(prefix) + len(suffix)):
        while total - row >= size:
            flat: list[Any] = [None] * (size * width)
            for place, column in enumerate(columns.values()):
                flat[place::width] = column[row : row + size]
            connection.execute(_statement(prefix, width, size, suffix), flat)
            row += size


_SQL_BYTES_MAX = 16_383
"""APSW caches no longer text."""
_BINDINGS_MAX = 32_766
"""SQLITE_MAX_VARIABLE_NUMBER (sqlite.org/limits.html)."""


@lru_cache
def _ladder(width: int, around: int) -> tuple[int, ...]:
    largest = min(_BINDINGS_MAX // width, (_SQL_BYTES_MAX - around) // (2 * width + 2))
    return (largest, 200, 40, 8, 1)


@lru_cache(maxsize=4_096)
def _statement(prefix: str, width: int, rows: int, suffix: str) -> str:
    one = "(" + ",".join("?" * width) + ")"
    return prefix + ",".join([one] * rows) + suffix
