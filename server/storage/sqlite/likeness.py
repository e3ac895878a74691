"""Whether a new month file has exactly the events of the file that it was copied from."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import apsw

from retention.month import Month
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.schema import CHANGE_COLUMNS, EVENT_COLUMNS, changes_table, events_table


class Likeness:
    """Counts the rows that are the same in both, window by window while the new file is read; then asks if that is all.

    A row is the same if it has the same position and each of its columns `IS` the same: value, type and every byte.
    """

    def __init__(self, source: Path, month: Month) -> None:
        self._source = source
        self._tables = {events_table(month): EVENT_COLUMNS, changes_table(month): CHANGE_COLUMNS}
        self._same = dict.fromkeys(self._tables, 0)
        self._lock = Lock()

    def compare(self, connection: apsw.Connection, window: tuple[int, int]) -> None:
        """Looks at positions from and to of the new file, on any thread; each row of it is to be in one window."""
        self._attach(connection)
        for table, columns in self._tables.items():
            same = _same(connection, table, columns, "m.position BETWEEN ? AND ?", window)
            with self._lock:
                self._same[table] += same

    def holds(self, connection: apsw.Connection, named: int) -> bool:
        """Whether nothing is missing, added or changed, when all windows have been looked at.

        `named`: how many events of the new file have all their names in it. Then its names are those of the events if
        every name that it has is the source's.
        """
        self._attach(connection)
        for table, same in self._same.items():
            if not _count(connection, f"main.{table}") == _count(connection, f"source.{table}") == same:
                return False
        return named == self._same[next(iter(self._tables))] and all(
            _same(connection, table, ("key", "name")) == _count(connection, f"main.{table}")
            for table in ("types", "users", "sources")
        )

    def _attach(self, connection: apsw.Connection) -> None:
        if "source" not in (name for _, name, _ in sqlite.fetch(connection, "PRAGMA database_list")):
            connection.execute("ATTACH ? AS source", (str(self._source),))


def _same(
    connection: apsw.Connection, table: str, columns: tuple[str, ...], where: str = "1", window: tuple[int, ...] = ()
) -> int:
    key, *others = columns
    # Not by an index of the source: that of ids would do as well, but is slower.
    sql = (
        f"SELECT count(*) FROM main.{table} m CROSS JOIN source.{table} s NOT INDEXED ON s.{key} = m.{key} "
        f"WHERE {where} AND {' AND '.join(f'm.{column} IS s.{column}' for column in others)}"
    )
    return int(sqlite.first(connection, sql, window)[0])


def _count(connection: apsw.Connection, table: str) -> int:
    return int(sqlite.first(connection, f"SELECT count(*) FROM {table}")[0])
