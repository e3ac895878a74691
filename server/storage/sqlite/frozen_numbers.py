"""Frozen numbers in the catalog: written by the writer's connection, read through any.

`frozen_types.quarters` is deflated (zlib): one after the other, for each quarter-hour and source with events, the steps
from one quarter-hour of the month to the next (16 bits), the places in `sources` (16 bits), and the numbers of events
(32 bits), all unsigned and little-endian. Of a type in `coarse_types` there are none.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retention.month import Month
from server.errors import Corrupt
from server.frozen import ANY_TYPE, GRAINS, UTC, Cell, Detail, Frozen, Kept, Quarters
from server.question import BucketUnit
from server.storage.sqlite import connection as sqlite
from server.time_buckets import DAY_MS, QUARTER_MS


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one type in one month by quarter-hour and source: columns of equal length, in this order."""

    slot: NDArray[np.int64]
    """Quarter-hours since the month's begin."""
    source: NDArray[np.int64]
    """Places in `sources`."""
    events: NDArray[np.int64]
    sources: Sequence[str]

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        return 3 * self.slot.nbytes + sum(60 + len(name) for name in self.sources)


Bindings: TypeAlias = "Sequence[apsw.SQLiteValue]"
Rows: TypeAlias = Callable[[str, Bindings], list[Any]]
"""A statement and its bindings -> its rows."""


# Writing


def put(connection: apsw.Connection, frozen: Frozen, now_ms: int) -> None:
    """Adds numbers, in the transaction under way."""
    for name, numbers in frozen.types.items():
        _put_type(connection, frozen, name, numbers.quarters)
        _put_cells(connection, frozen.month, name, numbers.cells, now_ms)
    if frozen.together is not None:
        _put_type(connection, frozen, ANY_TYPE, Quarters((), (), ()))
        _put_cells(connection, frozen.month, ANY_TYPE, frozen.together, now_ms)


def _put_type(connection: apsw.Connection, frozen: Frozen, name: str, quarters: Quarters) -> None:
    sources = sorted(set(quarters.sources))
    places = {source: place for place, source in enumerate(sources)}
    slots = (np.array(quarters.starts_ms, np.int64) - frozen.month.start_ms) // QUARTER_MS
    columns = (
        np.diff(slots, prepend=0).astype("<u2"),
        np.array([places[source] for source in quarters.sources], "<u2"),
        np.array(quarters.events, "<u4"),
    )
    row = (
        str(frozen.month),
        name,
        orjson.dumps(frozen.zones).decode(),
        frozen.last_position,
        orjson.dumps(sources).decode(),
        zlib.compress(b"".join(column.tobytes() for column in columns)),
    )
    connection.execute("INSERT INTO frozen_types VALUES (?, ?, ?, ?, ?, ?)", row)


def _put_cells(connection: apsw.Connection, month: Month, name: str, cells: Sequence[Cell], now_ms: int) -> None:
    days = [cell for cell in cells if cell.zone == UTC and cell.grain is BucketUnit.DAY]
    others = [cell for cell in cells if cell.zone != UTC or cell.grain is not BucketUnit.DAY]
    connection.executemany(
        "INSERT INTO daily_metrics VALUES (?, ?, ?, ?, ?)",
        [(_date(cell.bucket_ms), name, cell.events, cell.users, now_ms) for cell in days],
    )
    connection.executemany(
        "INSERT INTO frozen_cells VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(str(month), name, cell.zone, cell.grain.value, cell.bucket_ms, cell.events, cell.users) for cell in others],
    )


def coarsen(connection: apsw.Connection, month: Month, details: Mapping[str, Detail]) -> None:
    """Takes away what these details of types do not tell any more, in the transaction under way."""
    days = (_date(month.start_ms), _date(month.end_ms - 1))
    for name, detail in details.items():
        one = (str(month), name)
        left = ",".join(f"'{grain.value}'" for grain in detail.grains)
        connection.execute(
            f"DELETE FROM frozen_cells WHERE month = ? AND event_type = ? AND NOT (zone = ? AND grain IN ({left}))",
            (*one, UTC),
        )
        if BucketUnit.DAY not in detail.grains:
            sql = "DELETE FROM daily_metrics WHERE event_type = ? AND metric_date BETWEEN ? AND ?"
            connection.execute(sql, (name, *days))
        if not detail.users:
            connection.execute("UPDATE frozen_cells SET unique_users = 0 WHERE month = ? AND event_type = ?", one)
        sql = "UPDATE frozen_types SET zones = ?, sources = '[]', quarters = ? WHERE month = ? AND event_type = ?"
        connection.execute(sql, (orjson.dumps(detail.zones).decode(), zlib.compress(b""), *one))
        users = orjson.dumps([grain.value for grain in detail.users]).decode()
        connection.execute("INSERT OR REPLACE INTO coarse_types VALUES (?, ?, ?, ?)", (*one, detail.k, users))


# Reading


def kept_months(connection: apsw.Connection) -> dict[Month, Kept]:
    """What is frozen, without the numbers."""
    found: dict[Month, Kept] = {}
    sql = (
        "SELECT month, event_type, zones, last_position, k, users FROM frozen_types "
        "LEFT JOIN coarse_types USING (month, event_type)"
    )
    for text, name, zones, last, k, users in sqlite.fetch(connection, sql):
        month = Month.parse(text)
        before = found.get(month, Kept({}, 0))
        told = GRAINS if k is None else tuple(BucketUnit(grain) for grain in orjson.loads(users))
        detail = Detail(tuple(orjson.loads(zones)), told, k or 0)
        found[month] = Kept({**before.details, name: detail}, max(before.last_position, last))
    return found


def fewest(rows: Rows, month: Month) -> dict[str, int]:
    """Types whose numbers are coarse -> their k (server.frozen.Detail)."""
    return dict(rows("SELECT event_type, k FROM coarse_types WHERE month = ?", (str(month),)))


def counts(rows: Rows, month: Month, name: str) -> Counts:
    """The events of a type whose numbers are frozen."""
    sql = "SELECT sources, quarters FROM frozen_types WHERE month = ? AND event_type = ?"
    ((sources, data),) = rows(sql, (str(month), name))
    try:
        raw = zlib.decompress(data)
    except zlib.error as error:
        raise Corrupt("FILE_DAMAGED", f"the numbers of {name} in {month} cannot be read: {error}") from error
    count = len(raw) // 8
    steps, places = np.frombuffer(raw, "<u2", count), np.frombuffer(raw, "<u2", count, 2 * count)
    events = np.frombuffer(raw, "<u4", count, 4 * count)
    slots = np.cumsum(steps, dtype=np.int64)
    return Counts(slots, places.astype(np.int64), events.astype(np.int64), orjson.loads(sources))


def cells(rows: Rows, month: Month) -> dict[str, list[Cell]]:
    """The cells of all types whose numbers are frozen, and those of all together."""
    found: dict[str, list[Cell]] = {}
    for name, cell in (*_days(rows, month), *_other_cells(rows, month)):
        found.setdefault(name, []).append(cell)
    return found


def _days(rows: Rows, month: Month) -> Iterator[tuple[str, Cell]]:
    sql = (
        "SELECT event_type, metric_date, event_count, unique_users FROM daily_metrics WHERE metric_date BETWEEN ? AND ?"
    )
    begins = {_date(at): at for at in range(month.start_ms, month.end_ms, DAY_MS)}
    for name, date, events, users in rows(sql, (min(begins), max(begins))):
        yield name, Cell(UTC, BucketUnit.DAY, begins[date], events, users)


def _other_cells(rows: Rows, month: Month) -> Iterator[tuple[str, Cell]]:
    sql = "SELECT event_type, zone, grain, bucket_ms, event_count, unique_users FROM frozen_cells WHERE month = ?"
    for name, zone, grain, bucket_ms, events, users in rows(sql, (str(month),)):
        yield name, Cell(zone, BucketUnit(grain), bucket_ms, events, users)


def _date(instant_ms: int) -> str:
    return dt.datetime.fromtimestamp(instant_ms // DAY_MS * 86_400, dt.UTC).strftime("%Y-%m-%d")
