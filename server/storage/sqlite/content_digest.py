"""The content digest of a month file (server.storage.digest), computed by SQLite without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import apsw

from retention.month import Month
from server.in_step import InStep
from server.storage.digest import BUCKETS, ContentDigest, bucket_of
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.schema import CHANGE_COLUMNS, changes_table, events_table

WINDOW_ROWS = 16_384
WINDOW_BYTES = 32 * 1024 * 1024
"""A window becomes one text, of which SQLite makes no more than 1 GB (SQLITE_MAX_LENGTH, sqlite.org/limits.html)."""
CACHE_BYTES = 32 * 1024 * 1024
EVERYTHING = "1"

Condition = Callable[[apsw.Connection], str]
"""Given the file, which of its rows (`e`) are meant, in SQL."""


def content_digest(
    path: Path, month: Month, heard: Callable[[int], None] | None = None, chosen: Condition = lambda _: EVERYTHING
) -> ContentDigest:
    """The digest of a month file as it is now, or of chosen rows of it; `heard` is told of rows that are done."""
    with scanned(path) as connection:
        return _digest(connection, month, heard, chosen(connection))


def digest_on_two_cores(path: Path, month: Month, heard: Callable[[int], None] | None = None) -> ContentDigest:
    """The same of a file that nobody writes to, half of the buckets on each of two threads.

    `heard` is told on this thread, and whatever it waits for, the other thread waits for as well.
    """

    def half(condition: str, told: Callable[[int], None]) -> ContentDigest:
        return content_digest(path, month, told, lambda _connection: condition)

    with ThreadPoolExecutor(1, thread_name_prefix="trackd-digest") as beside, InStep() as step:

        def tell(rows: int) -> None:
            step.led(rows)
            if heard is not None:
                heard(2 * rows)

        upper = beside.submit(half, f"b.bucket >= {BUCKETS // 2}", step.follow)
        lower = half(f"b.bucket < {BUCKETS // 2}", tell)
        step.end()
        return lower.with_upper(upper.result())


@contextmanager
def scanned(path: Path) -> Iterator[apsw.Connection]:
    """A connection of its own that reads all of a month file; its table temp.buckets has the bucket of each user."""
    with sqlite.translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
            connection.pragma("cache_size", -CACHE_BYTES // 1024)
            connection.pragma("temp_store", "memory")
            connection.create_scalar_function("bucket_of", cast(Any, bucket_of), 1, deterministic=True)
            connection.execute("CREATE TEMP TABLE buckets (user INTEGER PRIMARY KEY, bucket INTEGER NOT NULL)")
            connection.execute("INSERT INTO temp.buckets SELECT key, bucket_of(name) FROM users")
            yield connection
        finally:
            connection.close()


def windows(connection: apsw.Connection, month: Month, rows_max: int) -> Iterator[tuple[int, int]]:
    """Positions from and to, for all events of a month: with few enough, small enough events between them."""
    rows = (
        "SELECT min(position), max(position), count(*), sum(bytes) FROM (SELECT position, "
        f"octet_length(description) + octet_length(tags) + octet_length(metadata) AS bytes FROM {events_table(month)} "
        "WHERE position > ? ORDER BY position LIMIT ?)"
    )
    values = (
        f"SELECT coalesce(sum(octet_length(old_values) + octet_length(new_values)), 0) FROM {changes_table(month)} "
        "WHERE position BETWEEN ? AND ?"
    )
    before, limit = 0, rows_max
    while True:
        first, last, count, size = sqlite.first(connection, rows, (before, limit))
        if first is None:
            return
        size += sqlite.first(connection, values, (first, last))[0]
        if size > WINDOW_BYTES and count > 1:
            limit = max(1, count // 2)
            continue
        yield first, last
        before, limit = last, min(rows_max, 2 * limit)


def _digest(
    connection: apsw.Connection, month: Month, heard: Callable[[int], None] | None, chosen: str
) -> ContentDigest:
    digest = ContentDigest()
    line = (
        "json_array(e.position, lower(hex(e.id)), t.name, u.name, s.name, e.timestamp_ms, e.received_ms, e.session_id, "
        "e.client_ip, e.description, e.tags, e.metadata, "
        + ", ".join(f"c.{column}" for column in CHANGE_COLUMNS[1:])
        + ")"
    )
    # One sort, of what is inside; SQLite keeps its order for an aggregate in which order shows.
    sql = (
        "SELECT bucket, CAST(string_agg(line, char(10)) AS BLOB), count(*) FROM ("
        f"SELECT b.bucket AS bucket, {line} AS line FROM {events_table(month)} e "
        "JOIN types t ON t.key = e.type JOIN users u ON u.key = e.user JOIN sources s ON s.key = e.source "
        f"JOIN temp.buckets b ON b.user = e.user LEFT JOIN {changes_table(month)} c ON c.position = e.position "
        f"WHERE e.position BETWEEN ? AND ? AND {chosen} ORDER BY b.bucket, e.position) GROUP BY bucket"
    )
    for window in windows(connection, month, WINDOW_ROWS):
        for bucket, lines, rows in connection.execute(sql, window):
            digest.add(bucket, lines, rows)
        if heard is not None:
            heard(digest.rows)
    return digest
