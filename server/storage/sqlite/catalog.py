"""catalog.db: which months there are, the registries, and what numbers may be given out.

It is small, written rarely and always with fsync. Its months, types, sources and users can be rebuilt from the month
files (see recovery); descriptions of types cannot.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import orjson

from retention.month import Month
from server.errors import Corrupt, StoreFailed
from server.model import EventType, MonthInfo, MonthState
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema

CACHE_BYTES = 4 * 1024 * 1024
WAL_PAGES_MAX = 2_000
"""Above 8 MiB the catalog's log is folded back by the commit that makes it so: there are few of them."""


class Catalog:
    """The catalog of an open store; used by the writer only."""

    def __init__(self, path: Path, *, wal_bytes_max: int) -> None:
        self._path = path
        try:
            self._open(wal_bytes_max)
        except Corrupt as error:
            if error.reason == "FORMAT_TOO_NEW":
                raise
            raise Corrupt(
                "CATALOG_DAMAGED",
                f"{path.name} cannot be read: {error.message}",
                hint="move catalog.db, -wal and -shm out of the directory: the next start rebuilds it from the months",
            ) from error

    def _open(self, wal_bytes_max: int) -> None:
        path = self._path
        fresh = not path.exists()
        self._connection = sqlite.open_writer(path, cache_bytes=CACHE_BYTES, wal_bytes_max=wal_bytes_max, create=True)
        with sqlite.translated(path):
            self._connection.pragma("wal_autocheckpoint", WAL_PAGES_MAX)
            self._connection.pragma("secure_delete", True)
            if fresh or not self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get:
                words: dict[str, object] = {"store": uuid.uuid4().hex, "fence": 0, "users_complete": 1}
                schema.create(self._connection, schema.CATALOG, words)
            self._add_what_is_new()
            self.store_id = str(schema.read_about(self._connection, path)["store"])
            self._fence = self._connection.execute(
                "UPDATE about SET value = value + 1 WHERE key = 'fence' RETURNING value"
            ).get

    def _add_what_is_new(self) -> None:
        """Columns that came after the first release of this format; older programs do not mind them."""
        self._connection.execute(schema.RECORDS + schema.NUMBERS)
        for table, column, kind in (
            ("types", "dimensions", "TEXT NOT NULL DEFAULT '[]'"),
            ("months", "last_position", "INTEGER NOT NULL DEFAULT 0"),
            ("sources", "dropped", "INTEGER NOT NULL DEFAULT 0"),
            ("losses", "source", "INTEGER NOT NULL DEFAULT 0"),
        ):
            if column not in {row[1] for row in sqlite.fetch(self._connection, f"PRAGMA table_info({table})")}:
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    def close(self, *, checkpoint: bool = True) -> None:
        """Closes the file; whatever was written stays."""
        with sqlite.translated(self._path):
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(not checkpoint))
            self._connection.close()

    def checkpoint(self) -> None:
        """Folds the write-ahead log back into the file."""
        with sqlite.translated(self._path):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    # Months

    def months(self) -> list[tuple[Month, int, MonthState]]:
        """All months with their current generation, oldest first."""
        with sqlite.translated(self._path):
            rows = sqlite.fetch(self._connection, "SELECT month, generation, state FROM months ORDER BY month")
        return [(Month.parse(month), generation, MonthState(state)) for month, generation, state in rows]

    def dropped(self) -> dict[Month, int]:
        """The months that were dropped, with a position that none of their events lay behind."""
        with sqlite.translated(self._path):
            sql = "SELECT month, last_position FROM months WHERE state = ?"
            return {
                Month.parse(month): last
                for month, last in sqlite.fetch(self._connection, sql, (MonthState.DROPPED.value,))
            }

    def set_generation(self, month: Month, generation: int, state: MonthState) -> None:
        """Makes a generation the current one of its month: the commit is the swap."""
        with sqlite.translated(self._path), self.owned():
            self.put_month(MonthInfo(month, generation, state))

    def put_month(self, info: MonthInfo, last_position: int = 0) -> None:
        """The same, in the transaction under way."""
        self._connection.execute(
            "INSERT INTO months (month, generation, state, last_position) VALUES (?, ?, ?, ?) "
            "ON CONFLICT(month) DO UPDATE SET generation = excluded.generation, state = excluded.state, "
            "last_position = excluded.last_position",
            (str(info.month), info.generation, info.state.value, last_position),
        )

    # Numbers

    def reserved(self, name: str) -> int:
        """The first number of this kind that was never reserved; 1 at first."""
        with sqlite.translated(self._path):
            return self._connection.execute("SELECT next FROM reserved WHERE name = ?", (name,)).get or 1

    def reserve(self, name: str, next_number: int) -> None:
        """From now on, after any restart, numbers of this kind start at `next_number`."""
        with sqlite.translated(self._path), self.owned():
            self._connection.execute(
                "INSERT INTO reserved VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET next = excluded.next",
                (name, next_number),
            )

    # Registries

    def types(self) -> dict[int, EventType]:
        """The event-type registry by key."""
        with sqlite.translated(self._path):
            rows = self._connection.execute(
                "SELECT key, name, description, registered_ms, declared, dimensions FROM types"
            )
            return {
                key: EventType(name, about, at, bool(declared), tuple(orjson.loads(dimensions)))
                for key, name, about, at, declared, dimensions in rows
            }

    def put_type(self, key: int, entry: EventType) -> None:
        """Adds or replaces one entry of the registry."""
        with sqlite.translated(self._path), self.owned():
            self._connection.execute(
                "INSERT INTO types (key, name, description, registered_ms, declared, dimensions) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(key) DO UPDATE SET description = excluded.description, "
                "declared = excluded.declared, dimensions = excluded.dimensions",
                (
                    key,
                    entry.name,
                    entry.description,
                    entry.registered_ms,
                    entry.declared,
                    orjson.dumps(entry.dimensions).decode(),
                ),
            )

    def sources(self) -> dict[int, str]:
        """The sources by key."""
        with sqlite.translated(self._path):
            return dict(sqlite.fetch(self._connection, "SELECT key, name FROM sources"))

    def put_source(self, key: int, name: str) -> None:
        """Adds a source."""
        with sqlite.translated(self._path), self.owned():
            self._connection.execute(
                "INSERT INTO sources (key, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (key, name)
            )

    def sources_of_dropped(self) -> set[str]:
        """The sources of months that are not there any more to name them."""
        with sqlite.translated(self._path):
            return {name for (name,) in sqlite.fetch(self._connection, "SELECT name FROM sources WHERE dropped")}

    # The dictionary of users

    def user_keys(self, names: Iterable[str]) -> dict[str, int]:
        """The keys of those names that the catalog knows."""
        wanted = list(names)
        found: dict[str, int] = {}
        with sqlite.translated(self._path):
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                marks = ",".join("?" * len(part))
                found.update(self._connection.execute(f"SELECT name, key FROM users WHERE name IN ({marks})", part))
        return found

    def user_names(self, keys: Iterable[int]) -> dict[int, str]:
        """The names of those keys that the catalog knows."""
        with sqlite.translated(self._path):
            return _user_names(self._connection, keys)

    def remove_users(self, keys: Sequence[int]) -> None:
        """Erases users, so that their names cannot be found in the file either (sqlite.org/pragma, secure_delete)."""
        with sqlite.translated(self._path), self.owned():
            self._connection.executemany("DELETE FROM users WHERE key = ?", [(key,) for key in keys])

    @property
    def users_complete(self) -> int:
        """Every user key below this is in the catalog; those from here on may only be in months."""
        with sqlite.translated(self._path):
            return int(self._connection.execute("SELECT value FROM about WHERE key = 'users_complete'").get)

    def put_users(self, keys: Mapping[str, int], complete: int) -> None:
        """Adds users (name -> key); the catalog now knows every key below `complete`."""
        with sqlite.translated(self._path), self.owned():
            columns: sqlite.Columns = {"key": list(keys.values()), "name": list(keys)}
            if keys:
                sqlite.insert(self._connection, "users", columns, suffix=" ON CONFLICT DO NOTHING")
            self._connection.execute("UPDATE about SET value = ? WHERE key = 'users_complete'", (complete,))

    @property
    def connection(self) -> apsw.Connection:
        """For tables that have a module of their own; whoever writes does so within `owned`."""
        return self._connection

    def owned(self) -> Owned:
        """A transaction."""
        return Owned(self._connection, self._fence)


class CatalogReader:
    """The dictionary of users as one reader sees it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite.open_reader(path, cache_bytes=CACHE_BYTES)

    def user_key(self, name: str) -> int | None:
        """The key of a user that the catalog knows."""
        with sqlite.translated(self._path):
            key: int | None = self._connection.execute("SELECT key FROM users WHERE name = ?", (name,)).get
            return key

    def user_names(self, keys: Iterable[int]) -> dict[int, str]:
        """The names of those users that the catalog knows."""
        with sqlite.translated(self._path):
            return _user_names(self._connection, keys)

    def rows(self, sql: str, bindings: Sequence[apsw.SQLiteValue]) -> list[Any]:
        """The rows of a statement, for tables that have a module of their own."""
        with sqlite.translated(self._path):
            return sqlite.fetch(self._connection, sql, bindings)

    def close(self) -> None:
        """Closes the file."""
        with sqlite.translated(self._path):
            self._connection.close()


def _user_names(connection: apsw.Connection, keys: Iterable[int]) -> dict[int, str]:
    wanted = list(keys)
    found: dict[int, str] = {}
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        marks = ",".join("?" * len(part))
        found.update(sqlite.fetch(connection, f"SELECT key, name FROM users WHERE key IN ({marks})", part))
    return found


class Owned:
    """A transaction that commits only while we are the last opener: a process that lost its directory cannot write."""

    def __init__(self, connection: apsw.Connection, fence: int) -> None:
        self._connection = connection
        self._fence = fence

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if self._connection.execute("SELECT value FROM about WHERE key = 'fence'").get != self._fence:
            self._connection.execute("ROLLBACK")
            raise StoreFailed("FENCED", "another trackd took over this data directory", hint="stop this one")

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
