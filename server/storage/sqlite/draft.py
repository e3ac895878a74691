"""The next generation of a month while it is being built: a file that nobody knows yet, filled from the one in use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import apsw

from server.model import MonthInfo, MonthState, Rebuilt
from server.rewriting import Heard
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.schema import events_table

T = TypeVar("T")

WINDOW_ROWS = 8_192
"""Copied in one statement, in a hundredth of a second: beside events each window is a burst, with waits between."""
WRITE_OUT_S = 2.0
"""In so many seconds what is there of a draft is handed to the disk once."""
INTERRUPT_S = 0.05
"""So often whoever builds indexes is told to stop, until it has."""
CACHE_BYTES = 64 * 1024 * 1024


def removals_of(connection: apsw.Connection, database: str = "main") -> int:
    """The last generation of removals of a month file."""
    return connection.execute(f"SELECT value FROM {database}.about WHERE key = 'removals'").get or 0


class Halves:
    """A row is done when it was copied and when it was read back: each is half of it."""

    def __init__(self, heard: Heard | None) -> None:
        self._heard = heard
        self._rows = 0

    def copied(self, rows: int) -> None:
        """So many are in the new file."""
        self._rows = rows
        self._tell(rows)

    def read(self, rows: int) -> None:
        """So many were read back."""
        self._tell(self._rows + min(rows, self._rows))

    def _tell(self, halves: int) -> None:
        if self._heard is not None:
            self._heard(halves // 2)


class Draft:
    """A new file that takes over the rows of another one."""

    def __init__(self, path: Path, source: Path, info: MonthInfo, state: MonthState) -> None:
        self.path = path
        self.info = info
        self.state = state
        self.month = info.month
        self.events = events_table(info.month)
        self.has_events = f"u.key IN (SELECT user FROM main.{self.events})"
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        with sqlite.translated(path):
            self.connection = apsw.Connection(str(path), flags=flags)
            self.connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
            # Nobody knows this file yet: if anything goes wrong it is begun again. `publish` makes it durable.
            for name, value in (
                ("journal_mode", "off"),
                ("synchronous", "off"),
                ("main.locking_mode", "exclusive"),
                ("cache_size", -CACHE_BYTES // 1024),
                ("temp_store", "memory"),  # what a rewrite has in temporary tables is on no disk
            ):
                self.connection.pragma(name, value)
            self.connection.execute("ATTACH ? AS source", (f"{source.absolute().as_uri()}?mode=ro",))
            # Before the first row: whatever is erased from here on shows as a change.
            self.removals = removals_of(self.connection, "source")
            self.connection.execute(
                schema.sealed_schema(self.month) if state is MonthState.SEALED else schema.month_schema(self.month)
            )

    def close(self) -> None:
        """Closes both files."""
        with sqlite.translated(self.path):
            self.connection.close()

    def rows(self, heard: Heard) -> None:
        """Copies the events, window by window: a read that takes long keeps the source's log from starting over."""
        columns = ", ".join(schema.EVENT_COLUMNS)
        after = done = 0
        sql = (
            f"INSERT INTO main.{self.events} ({columns}) SELECT {columns} FROM source.{self.events} "
            "WHERE position > ? ORDER BY position LIMIT ?"
        )
        with sqlite.translated(self.path):
            while True:
                self.connection.execute(sql, (after, WINDOW_ROWS))
                copied = self.connection.changes()
                done += copied
                heard(done)
                if copied < WINDOW_ROWS:
                    return
                after = self.connection.execute(f"SELECT max(position) FROM main.{self.events}").get

    def changes(self) -> None:
        """Copies the changes."""
        changes, columns = schema.changes_table(self.month), ", ".join(schema.CHANGE_COLUMNS)
        self.connection.execute(f"INSERT INTO main.{changes} SELECT {columns} FROM source.{changes} ORDER BY position")

    def take_over(self) -> None:
        """Copies the changes, and the dictionary rows that are used."""
        with sqlite.translated(self.path):
            self.changes()
            for table in ("types", "sources"):
                self.connection.execute(
                    f"INSERT OR IGNORE INTO main.{table} SELECT key, name FROM source.{table} ORDER BY key"
                )
            self.connection.execute(
                f"INSERT OR IGNORE INTO main.users SELECT u.key, u.name FROM source.users u WHERE {self.used()} "
                "ORDER BY u.key"
            )
            # Of events that are not here any more, too: their positions are not given again, and the head never falls.
            self._last_position = self.connection.execute(
                f"SELECT max(coalesce((SELECT value FROM source.about WHERE key = 'last_position'), 0), "
                f"coalesce((SELECT max(position) FROM source.{self.events}), 0))"
            ).get

    def used(self) -> str:
        """Which users (`u`) still have events here: names of others are personal data that nobody needs.

        Nearly all of them have, as long as nobody was erased; then `_forget_unused` finds the others with an index.
        """
        if self.state is MonthState.SEALED and not self.removals:
            return "1"
        return self.has_events

    def indexed_beside(self, work: Callable[[], T]) -> T:
        """What `work` gives back, which only reads the file, while a thread builds the indexes of a sealed one.

        Meanwhile the file has a write-ahead log, so that neither waits for the other.
        """
        if self.state is not MonthState.SEALED:
            return work()
        with sqlite.translated(self.path):
            self.journal("wal")
            connection = apsw.Connection(str(self.path))
            connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)  # the first who reads a log locks it for a moment
            with closing(connection), ThreadPoolExecutor(1, thread_name_prefix="trackd-index") as thread:
                indexing = thread.submit(self._index, connection)
                try:
                    result = work()
                except BaseException:
                    while not indexing.done():  # it may just be about to begin a statement
                        connection.interrupt()
                        wait([indexing], INTERRUPT_S)
                    raise
                indexing.result()
            self._forget_unused()
            self.journal("delete")
        return result

    def journal(self, mode: str) -> None:
        """Gives the file another kind of log: `wal` for a while, `delete` for good."""
        connection = self.connection
        connection.pragma("main.locking_mode", "normal")
        sqlite.first(connection, "SELECT count(*) FROM main.about")  # the lock goes with the next read
        if connection.execute(f"PRAGMA main.journal_mode = {mode}").get != mode:
            raise apsw.BusyError(f"somebody reads {self.path}")

    def _index(self, connection: apsw.Connection) -> None:
        """On a connection of its own, that sorts as schema.SORT_CACHE_BYTES says."""
        for name, value in (
            ("synchronous", "off"),
            ("wal_autocheckpoint", 0),
            ("cache_size", -schema.SORT_CACHE_BYTES // 1024),
            ("temp_store", "file"),
        ):
            connection.pragma(name, value)
        connection.execute(schema.sealed_indexes(self.month))
        connection.execute(f"INSERT INTO main.stocks {self.stocks()}")

    def _forget_unused(self) -> None:
        """An event that was there already, of another user, has left a name."""
        self.connection.execute("PRAGMA main.secure_delete = on")
        self.connection.execute(
            f"DELETE FROM main.users WHERE NOT EXISTS (SELECT 1 FROM main.{self.events} e WHERE e.user = users.key)"
        )

    def stocks(self) -> str:
        """A statement for how many rows there are by type and form. If all are as they were sent an index tells."""
        if self.connection.execute("SELECT 1 FROM main.forms").get:
            return f"SELECT type, form, count(*) FROM main.{self.events} NOT INDEXED GROUP BY type, form"
        return f"SELECT type, 0, count(*) FROM main.{self.events} GROUP BY type"

    def describe(self, store_id: str, generation: int, digest: str) -> Rebuilt:
        """Writes into the file what it is."""
        with sqlite.translated(self.path):
            connection = apsw.Connection(str(self.path))
            try:
                connection.pragma("synchronous", "off")
                rows, first_ms, last_ms, last = connection.execute(
                    "SELECT count(*), min(timestamp_ms), max(timestamp_ms), coalesce(max(position), 0) "
                    f"FROM {self.events}"
                ).get
                about: dict[str, object] = {
                    "format_version": schema.FORMAT_VERSION,
                    "store": store_id,
                    "month": str(self.month),
                    "generation": generation,
                    "built_from": self.info.generation,
                    "state": self.state.value,
                    "rows": rows,
                    "first_ms": first_ms,
                    "last_ms": last_ms,
                    "digest": digest,
                }
                if self.removals:
                    about |= {"removals": self.removals, "removals_purged": self.removals}
                if self._last_position > last:
                    about["last_position"] = self._last_position
                connection.pragma("journal_mode", "off")
                connection.executemany("INSERT INTO about VALUES (?, ?)", list(about.items()))
                connection.pragma("application_id", schema.APPLICATION_ID)
            finally:
                connection.close()
        return Rebuilt(
            self.month, generation, self.info.generation, self.state, self.removals, rows, digest, first_ms, last_ms
        )
