"""The content digest of a month file (server.storage.digest), computed by SQLite without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from retention.month import Month
from server.storage.digest import ContentDigest, bucket_of
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.schema import CHANGE_COLUMNS, changes_table, events_table

WINDOW_POSITIONS = 16_384
CACHE_BYTES = 32 * 1024 * 1024


def content_digest(path: Path, month: Month, heard: Callable[[int], None] | None = None) -> ContentDigest:
    """The digest of a month file as it is now; `heard` is told of rows that are done."""
    with sqlite.translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
            connection.pragma("cache_size", -CACHE_BYTES // 1024)
            connection.pragma("temp_store", "memory")
            return _digest(connection, month, heard)
        finally:
            connection.close()


def _digest(connection: apsw.Connection, month: Month, heard: Callable[[int], None] | None) -> ContentDigest:
    digest = ContentDigest()
    events = events_table(month)
    connection.execute("CREATE TEMP TABLE buckets (user INTEGER PRIMARY KEY, bucket INTEGER NOT NULL)")
    users = sqlite.fetch(connection, "SELECT key, name FROM users")
    connection.executemany("INSERT INTO temp.buckets VALUES (?, ?)", [(key, bucket_of(name)) for key, name in users])
    first, last = connection.execute(f"SELECT min(position), max(position) FROM {events}").get
    if first is None:
        return digest
    line = (
        "json_array(e.position, lower(hex(e.id)), t.name, u.name, s.name, e.timestamp_ms, e.received_ms, e.session_id, "
        "e.client_ip, e.description, e.tags, e.metadata, "
        + ", ".join(f"c.{column}" for column in CHANGE_COLUMNS[1:])
        + ")"
    )
    sql = (
        f"SELECT b.bucket, string_agg({line}, char(10) ORDER BY e.position), count(*) FROM {events} e "
        "JOIN types t ON t.key = e.type JOIN users u ON u.key = e.user JOIN sources s ON s.key = e.source "
        f"JOIN temp.buckets b ON b.user = e.user LEFT JOIN {changes_table(month)} c ON c.position = e.position "
        "WHERE e.position BETWEEN ? AND ? GROUP BY b.bucket"
    )
    for low in range(first, last + 1, WINDOW_POSITIONS):
        for bucket, lines, rows in connection.execute(sql, (low, low + WINDOW_POSITIONS - 1)):
            digest.add(bucket, lines.encode(), rows)
        if heard is not None:
            heard(digest.rows)
    return digest
