"""A month that comes back from an archive, as a file of the shape of a sealed month that any SQLite tool opens.

It is none of the store's months: no catalog knows it, no question reads it. In `about` it says what it was made from
and until when it may be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import apsw

from retention.facts import RAW
from retention.month import Month
from retention.policy import Claim
from server.storage.digest import ContentDigest
from server.storage.exported import Exported
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.content_digest import content_digest
from server.storage.sqlite.export import has_forms
from server.storage.sqlite.schema import CHANGE_COLUMNS, EVENT_COLUMNS, changes_table, events_table

CACHE_BYTES = 64 * 1024 * 1024


def write_restored(
    path: Path, month: Month, batches: Iterable[Exported], about: Mapping[str, object], claim: Claim
) -> ContentDigest:
    """Makes the file, of rows in any order; the digest of what is in it then. Its durability is the caller's business.

    `claim`: what is true of rows that went through a profile.
    """
    schema.lay_out(path, schema.sealed_schema(month), {"month": str(month), "state": "sealed", **about})
    with sqlite.translated(path):
        connection = apsw.Connection(str(path))
        try:
            for name, value in (
                ("journal_mode", "off"),
                ("synchronous", "off"),
                ("locking_mode", "exclusive"),
                ("cache_size", -CACHE_BYTES // 1024),
            ):
                connection.pragma(name, value)
            _Filling(connection, month).fill(batches, claim)
        finally:
            connection.close()
        digest = content_digest(path, month)
        connection = apsw.Connection(str(path))
        try:
            connection.pragma("journal_mode", "off")
            connection.execute("INSERT INTO about VALUES ('digest', ?)", (digest.hexdigest(),))
        finally:
            connection.close()
    return digest


def read_restored(path: Path) -> dict[str, object]:
    """What a restored file says of itself. Corrupt(FILE_DAMAGED, FORMAT_TOO_NEW) if it is none."""
    connection = sqlite.open_reader(path, cache_bytes=0, immutable=True)
    try:
        with sqlite.translated(path):
            return schema.read_about(connection, path)
    finally:
        connection.close()


class _Filling:
    """Puts rows into an empty file: first as they come, beside it, then in the order of positions."""

    def __init__(self, connection: apsw.Connection, month: Month) -> None:
        self._connection = connection
        self._month = month
        self._events, self._changes = events_table(month), changes_table(month)
        self._forms = has_forms(connection)
        self._columns = (*EVENT_COLUMNS, "form") if self._forms else EVENT_COLUMNS
        self._keys: dict[str, dict[str, int]] = {"types": {}, "users": {"": 0}, "sources": {}, "forms": {RAW: 0}}

    def fill(self, batches: Iterable[Exported], claim: Claim) -> None:
        """All of it."""
        connection = self._connection
        connection.execute(f"CREATE TEMP TABLE staged ({', '.join(self._columns)})")
        connection.execute("BEGIN")
        for rows in batches:
            sqlite.insert(connection, "temp.staged", self._event_columns(rows))
            if len(rows.changes.rows):
                sqlite.insert(connection, f"main.{self._changes}", _change_columns(rows))
        columns = ", ".join(self._columns)
        connection.execute(
            f"INSERT INTO main.{self._events} ({columns}) SELECT {columns} FROM temp.staged ORDER BY position"
        )
        for table in ("types", "users", "sources"):
            rows_of_table = [(key, name) for name, key in self._keys[table].items()]
            connection.executemany(f"INSERT INTO main.{table} VALUES (?, ?)", rows_of_table)
        if self._forms:
            profiles = [(key, profile, claim.value) for profile, key in self._keys["forms"].items() if key]
            connection.executemany("INSERT INTO main.forms VALUES (?, ?, ?)", profiles)
            connection.execute(
                f"INSERT INTO main.stocks SELECT type, form, count(*) FROM main.{self._events} GROUP BY type, form"
            )
        measured = connection.execute(
            f"SELECT count(*), min(timestamp_ms), max(timestamp_ms) FROM main.{self._events}"
        ).get
        found = dict(zip(("rows", "first_ms", "last_ms"), measured, strict=True))
        connection.executemany("INSERT INTO about VALUES (?, ?)", list(found.items()))
        connection.execute("COMMIT")
        connection.execute("DROP TABLE temp.staged")
        connection.pragma("cache_size", -schema.SORT_CACHE_BYTES // 1024)
        connection.execute(schema.sealed_indexes(self._month))

    def _event_columns(self, rows: Exported) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            "position": rows.positions.tolist(),
            "id": [rows.ids[start : start + 16] for start in range(0, 16 * len(rows), 16)],
            "type": self._numbered("types", rows.types.listed()),
            "user": self._numbered("users", rows.user_ids.listed()),
            "source": self._numbered("sources", rows.sources.listed()),
            "timestamp_ms": rows.timestamps_ms.tolist(),
            "received_ms": rows.received_ms.tolist(),
            "session_id": rows.session_ids.listed(),
            "client_ip": rows.client_ips.listed(),
            "description": rows.descriptions.listed(),
            "tags": rows.tags.listed(),
            "metadata": rows.metadata.listed(),
        }
        if self._forms:
            columns["form"] = self._numbered("forms", rows.forms.listed())
        return columns

    def _numbered(self, table: str, names: list[str]) -> list[int]:
        keys = self._keys[table]
        return [keys.setdefault(name, len(keys) + (table in ("types", "sources"))) for name in names]


def _change_columns(rows: Exported) -> dict[str, list[Any]]:
    changes = rows.changes
    values: tuple[list[Any], ...] = (
        rows.positions[changes.rows].tolist(),
        changes.table_names.listed(),
        changes.row_ids.listed(),
        changes.actions.tolist(),
        changes.old_values.listed(),
        changes.new_values.listed(),
        changes.statuses.tolist(),
        [None if affected < 0 else affected for affected in changes.rows_affected.tolist()],
    )
    return dict(zip(CHANGE_COLUMNS, values, strict=True))
