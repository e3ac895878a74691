"""The floor of `trackd bench ingest`: rows of a store appended straight through the driver, with nothing around it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from server import config
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.open_months import WAL_PASSIVE_PAGES

REPETITIONS = 3


@dataclass(frozen=True, slots=True)
class Floor:
    """Rows a second, best of three. `lean` leaves columns out that are empty in all rows, as the engine does."""

    rows: int
    full_per_second: float
    lean_per_second: float


def measure_floor(data: Path, scratch: Path, *, rows_max: int, rows_per_commit: int) -> Floor:
    """How fast rows are appended with nothing but the driver.

    The rows are those of the largest month of a store that is not in use. Same table, same multi-row statements, same
    settings of the connection, FULL, a checkpoint at the same size of the log; the columns of each commit are ready.
    """
    layout = Layout(data)
    path, month = max(
        ((layout.events(month, generation), month) for month, generation in layout.found()),
        key=lambda entry: entry[0].stat().st_size,
    )
    with sqlite.translated(path):
        source = sqlite.open_reader(path, cache_bytes=1 << 20)
        table = schema.events_table(month)
        rows = source.execute(f"SELECT * FROM {table} ORDER BY position LIMIT ?", (rows_max,)).fetchall()
        source.close()
        groups = [_columns(rows[at : at + rows_per_commit]) for at in range(0, len(rows), rows_per_commit)]
        lean = [{name: column for name, column in columns.items() if any(column)} for columns in groups]
        seconds = {True: float("inf"), False: float("inf")}
        for repetition in range(2 * REPETITIONS):
            is_lean = repetition % 2 == 1
            directory = scratch / f"floor-{repetition}"
            directory.mkdir()
            taken = _append(directory / "events.db", schema.month_schema(month), table, lean if is_lean else groups)
            seconds[is_lean] = min(seconds[is_lean], taken)
            shutil.rmtree(directory)
    return Floor(len(rows), len(rows) / seconds[False], len(rows) / seconds[True])


def _append(path: Path, ddl: str, table: str, groups: list[dict[str, Sequence[object]]]) -> float:
    settings = config.Storage()
    cache_bytes = settings.page_cache_bytes // settings.open_months_max
    connection = sqlite.open_writer(path, cache_bytes=cache_bytes, wal_bytes_max=settings.wal_bytes_max, create=True)
    schema.create(connection, ddl, {})
    wal_pages = 0

    def count(_connection: apsw.Connection, _name: str, pages: int) -> int:
        nonlocal wal_pages
        wal_pages = pages
        return apsw.SQLITE_OK

    connection.set_wal_hook(count)
    start = time.perf_counter()
    for columns in groups:
        connection.execute("BEGIN IMMEDIATE")
        sqlite.insert(connection, table, columns, suffix=" ON CONFLICT(id) DO NOTHING")
        connection.execute("COMMIT")
        if wal_pages > WAL_PASSIVE_PAGES:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def _columns(rows: Sequence[tuple[object, ...]]) -> dict[str, Sequence[object]]:
    return dict(zip(schema.EVENT_COLUMNS, zip(*rows, strict=True), strict=True))
