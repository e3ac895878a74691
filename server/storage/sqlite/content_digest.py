"""The content digest of a month file (server.storage.digest), computed by SQLite without the interpreter lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import apsw

from retention.month import Month
from server.storage.digest import ContentDigest, bucket_of
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.likeness import Likeness
from server.storage.sqlite.schema import CHANGE_COLUMNS, changes_table, events_table

WINDOW_ROWS = 8_192
WINDOW_BYTES = 4 * 1024 * 1024
CACHE_BYTES = 32 * 1024 * 1024
"""SQLite sorts what is smaller in memory: a window's lines, in which a character takes six at worst."""
CORES = 2
NAMES_BYTES = 1024 * 1024 * 1024
"""Far more than the names of users take."""
EVERYTHING = "1"

Condition = Callable[[apsw.Connection], str]
"""Given the file, which of its rows (`e`) are meant, in SQL."""
Window = tuple[int, int]
"""Positions from and to."""
Lines = tuple[int, bytes, int]
"""A bucket, the lines that it gets, and how many these are."""


def content_digest(
    path: Path, month: Month, heard: Callable[[int], None] | None = None, chosen: Condition = lambda _: EVERYTHING
) -> ContentDigest:
    """The digest of a month file as it is now, or of chosen rows of it; `heard` is told of rows that are done."""
    digest = ContentDigest()
    with scanned(path) as connection:
        condition = chosen(connection)
        for window in windows(connection, month, WINDOW_ROWS, WINDOW_BYTES):
            _add(digest, lines_of(connection, month, window, condition), heard)
    return digest


def digest_on_two_cores(
    path: Path, month: Month, heard: Callable[[int], None] | None = None, likeness: Likeness | None = None
) -> ContentDigest:
    """The same of a file that nobody writes to; `likeness` compares each window meanwhile.

    Two threads make the lines of windows, no row twice, and this one adds them up in the order of positions. While
    `heard` has it wait, at most the windows that were begun are ended.
    """
    digest = ContentDigest()
    free: SimpleQueue[apsw.Connection] = SimpleQueue()

    def lines(window: Window) -> list[Lines]:
        connection = free.get()
        try:
            if likeness is not None:
                likeness.compare(connection, window)
            return lines_of(connection, month, window, EVERYTHING)
        finally:
            free.put(connection)

    with ExitStack() as stack:
        for _ in range(CORES):
            free.put(stack.enter_context(scanned(path)))
        planning = stack.enter_context(read_alone(path))
        threads = stack.enter_context(ThreadPoolExecutor(CORES, thread_name_prefix="trackd-digest"))
        begun: deque[Future[list[Lines]]] = deque()
        for window in windows(planning, month, WINDOW_ROWS, WINDOW_BYTES):
            begun.append(threads.submit(lines, window))
            if len(begun) > CORES:
                _add(digest, begun.popleft().result(), heard)
        for rest in begun:
            _add(digest, rest.result(), heard)
    return digest


@contextmanager
def scanned(path: Path) -> Iterator[apsw.Connection]:
    """A connection of its own that reads all of a month file; temp.buckets has each user's bucket and name."""
    with read_alone(path) as connection:
        connection.create_scalar_function("bucket_of", cast(Any, bucket_of), 1, deterministic=True)
        connection.execute(
            "CREATE TEMP TABLE buckets (user INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, name TEXT NOT NULL)"
        )
        connection.execute("INSERT INTO temp.buckets SELECT key, bucket_of(name), name FROM main.users")
        yield connection


@contextmanager
def read_alone(path: Path) -> Iterator[apsw.Connection]:
    """A connection of its own that only reads."""
    with sqlite.translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
            connection.pragma("cache_size", -CACHE_BYTES // 1024)
            # Only then does SQLite lay what it sorts out in one piece, not in an allocation a row: 0.8 us less. What
            # fits its cache is in memory all the same, and so are the names.
            connection.pragma("temp_store", "file")
            connection.pragma("cache_size", -NAMES_BYTES // 1024, schema="temp")
            yield connection
        finally:
            connection.close()


def windows(connection: apsw.Connection, month: Month, rows_max: int, bytes_max: int) -> Iterator[Window]:
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
        if size > bytes_max and count > 1:
            limit = max(1, count // 2)
            continue
        yield first, last
        before, limit = last, min(rows_max, 2 * limit)


def lines_of(connection: apsw.Connection, month: Month, window: Window, chosen: str) -> list[Lines]:
    """The lines of a window's rows, in the order of positions in each bucket."""
    changes = changes_table(month)
    change, joined = ", NULL" * len(CHANGE_COLUMNS[1:]), ""
    if sqlite.first(connection, f"SELECT 1 FROM {changes} WHERE position BETWEEN ? AND ? LIMIT 1", window):
        change = "".join(f", c.{column}" for column in CHANGE_COLUMNS[1:])
        joined = f"LEFT JOIN {changes} c ON c.position = e.position"
    # One sort, of what is inside; SQLite keeps its order for an aggregate in which order shows.
    # CROSS JOIN is SQLite's word for "in this order" (sqlite.org/lang_select.html).
    return sqlite.fetch(
        connection,
        "SELECT bucket, CAST(string_agg(line, char(10)) AS BLOB), count(*) FROM (SELECT b.bucket AS bucket, json_array("
        "e.position, lower(hex(e.id)), t.name, b.name, s.name, e.timestamp_ms, e.received_ms, e.session_id, "
        f"e.client_ip, e.description, e.tags, e.metadata{change}) AS line FROM {events_table(month)} e "
        "CROSS JOIN temp.buckets b ON b.user = e.user CROSS JOIN types t ON t.key = e.type "
        f"CROSS JOIN sources s ON s.key = e.source {joined} "
        f"WHERE e.position BETWEEN ? AND ? AND {chosen} ORDER BY b.bucket, e.position) GROUP BY bucket",
        window,
    )


def _add(digest: ContentDigest, lines: list[Lines], heard: Callable[[int], None] | None) -> None:
    for bucket, text, rows in lines:
        digest.add(bucket, text, rows)
    if heard is not None:
        heard(digest.rows)
