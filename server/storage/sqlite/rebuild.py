"""The next generation of a month, built beside the one in use: sealed for good, or open again.

A sealed month is one file that any SQLite tool can open and make sense of: no write-ahead log, the dictionary rows that
its events use, a view with names, the classic indexes by user and by type, built by sorting, and in `about` what it is:
how many events, from when to when, and the digest of their content. It is never written to again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import apsw
import structlog

from retention.month import Month
from server.errors import Corrupt, Precondition, TrackdError
from server.model import MonthInfo, MonthState, Rebuilt
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema, steps
from server.storage.sqlite.content_digest import content_digest
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.schema import events_table

log = structlog.get_logger(__name__)

WINDOW_ROWS = 50_000
"""Copied in one statement, which takes some hundredths of a second."""
CACHE_BYTES = 64 * 1024 * 1024
FOLD_WAIT_S = 60.0
FROM = {MonthState.SEALED: MonthState.SEALING, MonthState.OPEN: MonthState.SEALED}
"""The state that a month is in before it is rebuilt for another one."""

Heard = Callable[[int], None]


def rebuild(
    layout: Layout, store_id: str, derived: Derived, info: MonthInfo, state: MonthState, heard: Heard | None
) -> Rebuilt:
    """See Store.rebuild."""
    if FROM.get(state) is not info.state:
        raise Precondition(
            "MONTH_STATE",
            f"{info.month} is {info.state.value}; it cannot be made {state.value}",
            hint="seal a month that was fenced; reopen one that is sealed",
        )
    month, source = info.month, layout.events(info.month, info.generation)
    generation = 1 + max((number for found, number in layout.found() if found == month), default=info.generation)
    # The source's digest meanwhile, on the other core: SQLite holds no interpreter lock for it.
    with ThreadPoolExecutor(1, thread_name_prefix="trackd-digest") as beside, _Attempt() as attempt:
        expected = beside.submit(content_digest, source, month, attempt.unless_over)
        with sqlite.translated(layout.months / str(month)):
            path = layout.draft(month, generation) / source.name
        steps.reached("drafted")
        copy = _Copy(path, source, info, state)
        try:
            copy.rows(heard)
            steps.reached("copied")
            copy.finish()
        finally:
            copy.close()
        steps.reached("indexed")
        digest = content_digest(path, month).hexdigest()
        if expected.result().hexdigest() != digest:
            raise _differs(source, info, copy.removals)
    rebuilt = copy.describe(store_id, generation, digest)
    steps.reached("described")
    folded = derived.wait_for(month, rebuilt.removals, FOLD_WAIT_S)
    with sqlite.translated(path):
        if folded:
            _copy_index(layout, derived, info, path.parent, rebuilt)
        layout.publish(month, generation)
    steps.reached("published")
    return rebuilt


class _Attempt:
    """Ends what goes on beside when the work itself has failed."""

    def __init__(self) -> None:
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        self._over = kind is not None

    def unless_over(self, _rows: int) -> None:
        """Raises if the work was given up."""
        if self._over:
            raise _Over


class _Over(Exception):
    """Nobody waits for this any more."""


def _differs(source: Path, info: MonthInfo, removals: int) -> TrackdError:
    connection = sqlite.open_reader(source, cache_bytes=0)
    try:
        if removals_of(connection) != removals:
            return changed(info.month)
    finally:
        connection.close()
    return Corrupt(
        "FILE_DAMAGED",
        f"the copy of {info.month} is not what was copied",
        hint="run `trackd check`; look at the disk and the kernel log",
    )


def changed(month: Month) -> Precondition:
    """The month is not what it was when it was rebuilt."""
    return Precondition("MONTH_CHANGED", f"{month} has changed since it was rebuilt", hint="rebuild it again")


def removals_of(connection: apsw.Connection, database: str = "main") -> int:
    """The last generation of removals of a month file."""
    return connection.execute(f"SELECT value FROM {database}.about WHERE key = 'removals'").get or 0


def _copy_index(layout: Layout, derived: Derived, info: MonthInfo, draft: Path, rebuilt: Rebuilt) -> None:
    """Derived data is of the same events at the same positions; if there is none that can be used, it is made anew."""
    path = derived.indexes.path(info)
    if path is None:
        return
    target = draft / layout.index(info.month, rebuilt.generation, 1).name
    try:
        connection = sqlite.open_reader(path, cache_bytes=0)
        try:
            connection.pragma("query_only", False)
            connection.execute("VACUUM INTO ?", (str(target),))
        finally:
            connection.close()
        copy = apsw.Connection(str(target))
        copy.execute("UPDATE about SET value = ? WHERE key = 'generation'", (rebuilt.generation,))
        complete = removals_of(copy) == rebuilt.removals
        copy.close()
    except (apsw.Error, TrackdError) as problem:
        log.warning("index_not_copied", month=str(info.month), problem=str(problem))
        complete = False
    if not complete:
        target.unlink(missing_ok=True)


class _Copy:
    """A new file that takes over the rows of another one."""

    def __init__(self, path: Path, source: Path, info: MonthInfo, state: MonthState) -> None:
        self._path = path
        self._info = info
        self._state = state
        self._month = info.month
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        with sqlite.translated(path):
            self._connection = apsw.Connection(str(path), flags=flags)
            self._connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
            # Nobody knows this file yet: if anything goes wrong it is begun again. `publish` makes it durable.
            for name, value in (
                ("journal_mode", "off"),
                ("synchronous", "off"),
                ("main.locking_mode", "exclusive"),
                ("cache_size", -CACHE_BYTES // 1024),
                ("temp_store", "memory"),
            ):
                self._connection.pragma(name, value)
            self._connection.execute("ATTACH ? AS source", (f"{source.absolute().as_uri()}?mode=ro",))
            # Before the first row: whatever is erased from here on shows as a change.
            self.removals = removals_of(self._connection, "source")
            self._connection.execute(
                schema.sealed_schema(self._month) if state is MonthState.SEALED else schema.month_schema(self._month)
            )

    def close(self) -> None:
        """Closes both files."""
        with sqlite.translated(self._path):
            self._connection.close()

    def rows(self, heard: Heard | None) -> None:
        """Copies the events, window by window: a read that takes long keeps the source's log from starting over."""
        events = events_table(self._month)
        columns = ", ".join(schema.EVENT_COLUMNS)
        after = done = 0
        sql = (
            f"INSERT INTO main.{events} SELECT {columns} FROM source.{events} "
            "WHERE position > ? ORDER BY position LIMIT ?"
        )
        with sqlite.translated(self._path):
            while True:
                self._connection.execute(sql, (after, WINDOW_ROWS))
                copied = self._connection.changes()
                done += copied
                if heard is not None:
                    heard(done)
                if copied < WINDOW_ROWS:
                    return
                after = self._connection.execute(f"SELECT max(position) FROM main.{events}").get

    def finish(self) -> None:
        """Copies the changes, builds the indexes and takes over the dictionary rows that are used."""
        events, changes = events_table(self._month), schema.changes_table(self._month)
        columns = ", ".join(schema.CHANGE_COLUMNS)
        with sqlite.translated(self._path):
            self._connection.execute(
                f"INSERT INTO main.{changes} SELECT {columns} FROM source.{changes} ORDER BY position"
            )
            if self._state is MonthState.SEALED:
                self._connection.execute(schema.sealed_indexes(self._month))
            for table in ("types", "sources"):
                self._connection.execute(f"INSERT INTO main.{table} SELECT key, name FROM source.{table} ORDER BY key")
            # Only those that still have events here: names are personal data.
            self._connection.execute(
                "INSERT INTO main.users SELECT key, name FROM source.users "
                f"WHERE key IN (SELECT user FROM main.{events}) ORDER BY key"
            )
            self._last_position = self._connection.execute(
                f"SELECT max(coalesce((SELECT value FROM source.about WHERE key = 'last_position'), 0), "
                f"coalesce((SELECT max(position) FROM source.{events}), 0))"
            ).get

    def describe(self, store_id: str, generation: int, digest: str) -> Rebuilt:
        """Writes into the file what it is."""
        events = events_table(self._month)
        with sqlite.translated(self._path):
            connection = apsw.Connection(str(self._path))
            try:
                rows, first_ms, last_ms = connection.execute(
                    f"SELECT count(*), min(timestamp_ms), max(timestamp_ms) FROM {events}"
                ).get
                about: dict[str, object] = {
                    "format_version": schema.FORMAT_VERSION,
                    "store": store_id,
                    "month": str(self._month),
                    "generation": generation,
                    "built_from": self._info.generation,
                    "state": self._state.value,
                    "rows": rows,
                    "first_ms": first_ms,
                    "last_ms": last_ms,
                    "digest": digest,
                }
                if self.removals:
                    about |= {
                        "removals": self.removals,
                        "removals_purged": self.removals,
                        "last_position": self._last_position,
                    }
                connection.pragma("journal_mode", "off")
                connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
                connection.pragma("application_id", schema.APPLICATION_ID)
            finally:
                connection.close()
        return Rebuilt(
            self._month, generation, self._info.generation, self._state, self.removals, rows, digest, first_ms, last_ms
        )
