"""What the folder reads of the truth: events that the index of a month lacks, values of dimensions, removals."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import apsw
import numpy as np
import orjson

from retention.month import Month
from server.errors import Corrupt
from server.model import MonthInfo, MonthState
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import questions
from server.storage.sqlite.index.rows import EMPTY, Positions, Rows
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.removals import removals_since
from server.storage.sqlite.schema import events_table

Tagged: TypeAlias = "list[tuple[int, tuple[str, ...]]]"
"""(position, tags) of events that have any, rising."""

CACHE_BYTES = 1024 * 1024
RAW_CHARACTERS_MAX = 1_600
"""Of a value as it is written in JSON; longer ones come cut."""


@dataclass(frozen=True, slots=True)
class Values:
    """Values of metadata keys: columns of equal length."""

    position: Positions
    raw: Sequence[Sequence[str | None]]
    """For each key: the value as it is written in JSON; None where an event has none."""


class Truth:
    """Read-only connections to the months that were looked at last. Belongs to the folder's thread."""

    def __init__(self, layout: Layout, month_info: Callable[[Month], MonthInfo | None], *, open_max: int) -> None:
        self._layout = layout
        self._month_info = month_info
        self._open_max = open_max
        self._open: OrderedDict[MonthInfo, apsw.Connection] = OrderedDict()

    def close(self) -> None:
        """Closes all."""
        with sqlite.translated():
            while self._open:
                self._open.popitem()[1].close()

    def rows(self, month: Month, after: int, up_to: int, limit: int) -> tuple[Rows, Tagged]:
        """The first events of a month with `after < position <= up_to`, and their tags."""
        found = self._fetch(
            month,
            f"SELECT position, timestamp_ms, type, user, source, tags FROM {events_table(month)} "
            "WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (after, up_to, limit),
        )
        return rows_of(found), tagged_of(found)

    def values(self, month: Month, types: Sequence[int] | None, keys: Sequence[str], positions: Positions) -> Values:
        """The values of metadata keys in those events between the first and the last position that are of some types.

        One row for all: each row would cost the writer a change of the interpreter lock. One JSON function a key: to
        take a value apart in SQL takes twice as long, and there are few different ones. If there are as many events as
        positions they are those; only otherwise it is asked which.
        """
        arrays = "".join(
            f", json_group_array(substr(nullif(metadata, '') -> ?, 1, {RAW_CHARACTERS_MAX}))" for _key in keys
        )
        events = f"FROM {events_table(month)} WHERE position BETWEEN ? AND ?"
        bindings: questions.Bindings = [int(positions[0]), int(positions[-1])]
        if types is not None:
            events += f" AND type IN ({','.join('?' * len(types))})"
            bindings += types
        paths: questions.Bindings = list(map(questions.path_of, keys))
        ((count, *values),) = self._fetch(month, f"SELECT count(*){arrays} {events}", [*paths, *bindings])
        if count != len(positions):
            ((found, *values),) = self._fetch(
                month, f"SELECT json_group_array(position){arrays} {events}", [*paths, *bindings]
            )
            positions = np.array(orjson.loads(found), np.int64)
        return Values(positions, [orjson.loads(texts) for texts in values])

    def removals_generation(self, month: Month) -> int:
        """The last generation of removals; 0 if nothing was ever erased from the month."""
        found = self._fetch(month, "SELECT value FROM about WHERE key = 'removals'", ())
        return int(found[0][0]) if found else 0

    def removals(self, month: Month, applied: int) -> tuple[int, Positions]:
        """The last generation of removals, and what was erased after generation `applied`."""
        with sqlite.translated():
            found = removals_since(self._connection(month), applied)
        if found is None:
            raise Corrupt("FILE_DAMAGED", f"the index of {month} lacks removals that are forgotten")
        return found

    def _fetch(self, month: Month, sql: str, bindings: Sequence[apsw.SQLiteValue]) -> list[Any]:
        with sqlite.translated():
            return sqlite.fetch(self._connection(month), sql, bindings)

    def _connection(self, month: Month) -> apsw.Connection:
        info = self._month_info(month)
        if info is None:
            raise Corrupt("FILE_MISSING", f"{month} is not in the store")
        connection = self._open.pop(info, None)
        if connection is None:
            while len(self._open) >= self._open_max:
                self._open.popitem(last=False)[1].close()
            path = self._layout.events(info.month, info.generation)
            connection = sqlite.open_reader(path, cache_bytes=CACHE_BYTES, immutable=info.state is MonthState.SEALED)
        self._open[info] = connection
        return connection


def tagged_of(found: Sequence[Sequence[Any]]) -> Tagged:
    """The tags out of the same tuples, which have them at the sixth place."""
    return [(row[0], tuple(orjson.loads(row[5]))) for row in found if row[5]]


def rows_of(found: Sequence[Sequence[Any]]) -> Rows:
    """Rows out of tuples that begin with position, timestamp_ms, type, user, source."""
    if not found:
        return EMPTY
    position, timestamp_ms, kind, user, source, *_rest = zip(*found, strict=True)
    return Rows(
        np.array(position, np.int64),
        np.array(timestamp_ms, np.int64),
        np.array(kind, np.uint32),
        np.array(user, np.uint32),
        np.array(source, np.uint32),
    )
