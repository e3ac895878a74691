"""index-NNNN.db: the derived data of one generation of a month, in one file beside the truth.

A run is a set of rows between two positions, kept three times: by user, by type and by label (a tag, or a value of a
dimension), each sorted by (lead, time, position) and cut into chunks of columns; with the rollups of the same rows.
Runs are never changed, only replaced by others, in one transaction with the watermark. Nothing here is truth: the file
may be deleted at any time, and its commits are not synced one by one (WAL with synchronous=NORMAL stays consistent).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retention.month import Month
from server.errors import Corrupt
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.index.rollup import Days, Quarters, stretches
from server.storage.sqlite.index.rows import NOTHING_SORTED, Rows, Sorted
from server.storage.sqlite.index.tables import (
    CACHE_BYTES,
    CHUNK_ROWS,
    PAGE_BYTES,
    SCHEMA,
    SLOTS,
    SNAPSHOT,
    TAG,
    WAL_PAGES,
    Projection,
    Slot,
)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run, without its rows."""

    run: int
    rows: int
    first: int
    last: int
    covered: str


class Run(ABC):
    """A run to be written, with everything that is derived from its rows.

    Made piece by piece, while it is written: all of a large one at once would take a lot of memory.
    """

    first: int
    last: int
    covered: str

    @abstractmethod
    def __len__(self) -> int:
        """How many events it has."""

    @abstractmethod
    def sorted(self, projection: Projection) -> Sorted:
        """Its rows in one of their orders."""

    @abstractmethod
    def quarters(self) -> Quarters:
        """Its events by quarter-hour."""

    @abstractmethod
    def days(self) -> Iterator[tuple[str, Days]]:
        """Its users by day, zone by zone."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where the columns of some rows are."""

    low: int
    high: int
    early: int
    late: int
    rows: int
    columns: int


class IndexFile:
    """An index, open on one connection: the folder's, which writes, or a reader's."""

    def __init__(self, connection: apsw.Connection, path: Path, month: Month) -> None:
        self.path = path
        self.month = month
        self.connection = connection
        self._labels: dict[tuple[int, str, str], int] | None = None

    @classmethod
    def create(cls, path: Path, month: Month, about: Mapping[str, object]) -> IndexFile:
        """Makes an empty index. Under its name it is whole: readers may look for it at any time."""
        draft = path.with_name(f"{path.name}.draft")
        draft.unlink(missing_ok=True)
        schema.lay_out(draft, SCHEMA, {"watermark": 0, "removals": 0, **about}, page_bytes=PAGE_BYTES)
        draft.rename(path)
        return cls._open(path, month)

    @classmethod
    def open(cls, path: Path, month: Month) -> IndexFile:
        """Opens an index for the folder; Corrupt if it is none."""
        file = cls._open(path, month)
        with sqlite.translated(path):
            schema.read_about(file.connection, path)
        return file

    @classmethod
    def _open(cls, path: Path, month: Month) -> IndexFile:
        connection = sqlite.open_writer(
            path, cache_bytes=CACHE_BYTES, wal_bytes_max=WAL_PAGES * PAGE_BYTES, create=True
        )
        with sqlite.translated(path):
            connection.pragma("synchronous", "normal")
            connection.pragma("wal_autocheckpoint", WAL_PAGES)
        return cls(connection, path, month)

    def close(self) -> None:
        """Closes the file. Its log stays: to fold it back would take an fsync or two for every month."""
        with sqlite.translated(self.path):
            self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.connection.close()

    # Reading

    # Each step of a statement gives the interpreter lock up and waits for it again, beside a busy writer for as long as
    # a switch takes. So what a question needs of a month comes in few rows.

    def state(self) -> tuple[int, int]:
        """The watermark, and the generation of removals that is applied."""
        watermark, removals, _runs = self.snapshot()
        return watermark, removals

    def runs(self) -> list[RunInfo]:
        """All runs, in the order of their positions."""
        return self.snapshot()[2]

    def snapshot(self) -> tuple[int, int, list[RunInfo]]:
        """The watermark, the generation of removals that is applied, and the runs."""
        watermark, removals, runs = self.connection.execute(SNAPSHOT).get
        return watermark, removals, [RunInfo(*row) for row in orjson.loads(runs)]

    def chunks(self, runs: Sequence[int], projection: Projection, leads: Sequence[int] | None = None) -> list[Chunk]:
        """The chunks of some runs that may hold some leads, or all, in the order in which they were written."""
        sql = (
            "SELECT json_group_array(json_array(low, high, early, late, rows, columns)) FROM chunks "
            f"WHERE projection = ? AND run IN ({','.join('?' * len(runs))})"
        )
        bindings = [int(projection), *runs]
        if leads is not None:
            sql += f" AND ({' OR '.join(['high >= ? AND low <= ?'] * len(leads)) or '0'})"
            bindings += [lead for lead in leads for _bound in range(2)]
        found = [Chunk(*row) for row in orjson.loads(self.connection.execute(sql, bindings).get)]
        return sorted(found, key=attrgetter("columns"))

    def fields(self, chunk: Chunk, slots: Sequence[Slot]) -> list[NDArray[Any]]:
        """Some columns of one chunk; times as milliseconds into the month."""
        sql = "SELECT " + ",".join(["(SELECT data FROM columns WHERE id = ?)"] * len(slots))
        found = self.connection.execute(sql, [chunk.columns + slot for slot in slots]).get
        blobs = found if isinstance(found, tuple) else (found,)
        return [self._column(data, slot, chunk.rows) for data, slot in zip(blobs, slots, strict=True)]

    def column(self, chunks: Sequence[Chunk], slot: Slot) -> NDArray[Any]:
        """One column of some chunks, which are in the order of `chunks`."""
        parts: list[NDArray[Any]] = []
        for start in range(0, len(chunks), 100):
            some = chunks[start : start + 100]
            sql = f"SELECT data FROM columns WHERE id IN ({','.join('?' * len(some))}) ORDER BY id"
            found = sqlite.fetch(self.connection, sql, [chunk.columns + slot for chunk in some])
            if len(found) != len(some):
                raise Corrupt("FILE_DAMAGED", f"{self.path.name}: columns are missing")
            parts += [self._column(data, slot, chunk.rows) for (data,), chunk in zip(found, some, strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _column(self, data: bytes | None, slot: Slot, rows: int) -> NDArray[Any]:
        column = np.frombuffer(data or b"", np.int64 if slot is Slot.POSITION else np.uint32)
        if len(column) != rows:
            raise Corrupt("FILE_DAMAGED", f"{self.path.name}: a column has {len(column)} of {rows} rows")
        return column

    def sorted(self, run: int, projection: Projection) -> Sorted:
        """All rows of a run in one of its orders."""
        chunks = self.chunks([run], projection)
        if not chunks:
            return NOTHING_SORTED
        rows = Rows(
            self.column(chunks, Slot.POSITION),
            self.column(chunks, Slot.TIME).astype(np.int64) + self.month.start_ms,
            self.column(chunks, Slot.TYPE),
            self.column(chunks, Slot.USER),
            self.column(chunks, Slot.SOURCE),
        )
        lead = {Projection.BY_USER: rows.user, Projection.BY_TYPE: rows.type}.get(projection)
        return Sorted(self.column(chunks, Slot.LABEL) if lead is None else lead, rows)

    def quarters(self, run: int, types: Iterable[int] | None = None) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """For each type: its number, and an array of three rows: slots, sources, events. None: all types."""
        sql = "SELECT type, data FROM quarters WHERE run = ?"
        if types is None:
            found = sqlite.fetch(self.connection, sql, (run,))
        else:
            found = [row for key in types for row in sqlite.fetch(self.connection, f"{sql} AND type = ?", (run, key))]
        for key, data in found:
            yield key, np.frombuffer(data, np.uint32).reshape(3, -1)

    def days(self, run: int, zone: str) -> NDArray[np.int64] | None:
        """Rows: types, days, events, users, where the set of each begins and ends; None if the zone is not kept."""
        data = self.connection.execute("SELECT data FROM days WHERE run = ? AND zone = ?", (run, zone)).get
        return None if data is None else np.frombuffer(data, np.int64).reshape(6, -1)

    def people(self, run: int, zone: str, kind: int) -> bytes:
        """The sets of users of a type's days, one after the other."""
        data: bytes = self.connection.execute(
            "SELECT data FROM people WHERE run = ? AND zone = ? AND type = ?", (run, zone, kind)
        ).get
        return data

    def labels(self, kind: int | None, field: str = "") -> dict[int, str]:
        """The values of tags (TAG), or of a dimension of one type or, with None, of all types; by label."""
        if kind is None:
            sql = "SELECT label, value FROM labels WHERE type <> ? AND field = ?"
            return dict(sqlite.fetch(self.connection, sql, (TAG, field)))
        sql = "SELECT label, value FROM labels WHERE type = ? AND field = ?"
        return dict(sqlite.fetch(self.connection, sql, (kind, field)))

    def types(self, run: int) -> list[int]:
        """The types that a run has events of."""
        return [kind for (kind,) in sqlite.fetch(self.connection, "SELECT type FROM quarters WHERE run = ?", (run,))]

    # Writing, inside of a transaction that the caller began

    def set_state(self, watermark: int, removals: int) -> None:
        """Notes what the index covers now."""
        sql = "UPDATE about SET value = ? WHERE key = ?"
        self.connection.execute(sql, (watermark, "watermark"))
        self.connection.execute(sql, (removals, "removals"))

    def label_keys(self, wanted: Sequence[tuple[int, str, str]]) -> list[int]:
        """The labels of (type, field, value); new ones get new labels. The folder forgets a file after a failure."""
        known = self._known_labels()
        for entry in wanted:
            if entry not in known:
                sql = "INSERT INTO labels (type, field, value) VALUES (?, ?, ?) RETURNING label"
                known[entry] = self.connection.execute(sql, entry).get
        return [known[entry] for entry in wanted]

    def values_of(self, kind: int, field: str) -> set[str]:
        """The values of a dimension that have labels."""
        return {value for one, key, value in self._known_labels() if (one, key) == (kind, field)}

    def _known_labels(self) -> dict[tuple[int, str, str], int]:
        if self._labels is None:
            rows = sqlite.fetch(self.connection, "SELECT type, field, value, label FROM labels")
            self._labels = {(kind, field, value): label for kind, field, value, label in rows}
        return self._labels

    def put(self, run: Run) -> None:
        """Adds a run."""
        info = (len(run), run.first, run.last, run.covered)
        sql = "INSERT INTO runs (rows, first, last, covered) VALUES (?, ?, ?, ?) RETURNING run"
        number = self.connection.execute(sql, info).get
        for projection in Projection:
            self._put_sorted(number, projection, run.sorted(projection))
        quarters = run.quarters()
        for key, part in stretches(quarters.type):
            cells = np.stack((quarters.slot[part], quarters.source[part], _u32(quarters.events[part])))
            self.connection.execute("INSERT INTO quarters VALUES (?, ?, ?)", (number, key, cells.tobytes()))
        for zone, days in run.days():
            self._put_days(number, zone, days)

    def _put_sorted(self, run: int, projection: Projection, part: Sorted) -> None:
        if not len(part):
            return
        base = self.connection.execute("SELECT coalesce(max(id), 0) FROM columns").get // SLOTS * SLOTS + SLOTS
        rows = part.rows
        times = _u32(rows.timestamp_ms - self.month.start_ms)
        columns: list[NDArray[Any]] = [times, rows.position, rows.type, rows.user, rows.source]
        if projection is Projection.BY_LABEL:
            columns.append(part.lead)
        chunks, blobs = [], []
        for number, low in enumerate(range(0, len(part), CHUNK_ROWS)):
            cut = slice(low, min(low + CHUNK_ROWS, len(part)))
            lead, time = part.lead[cut], times[cut]
            first = base + number * SLOTS
            extent = (int(lead[-1]), number, int(lead[0]), int(time.min()), int(time.max()), len(lead), first)
            chunks.append((run, int(projection), *extent))
            blobs += [(first + slot, column[cut].tobytes()) for slot, column in enumerate(columns)]
        self.connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", chunks)
        self.connection.executemany("INSERT INTO columns VALUES (?, ?)", blobs)

    def _put_days(self, run: int, zone: str, days: Days) -> None:
        sizes = np.fromiter(map(len, days.people), np.int64, count=len(days))
        begins = np.zeros(len(days), np.int64)
        for kind, part in stretches(days.type):
            begins[part] = np.cumsum(sizes[part]) - sizes[part]
            people = b"".join(days.people[part])
            self.connection.execute("INSERT INTO people VALUES (?, ?, ?, ?)", (run, zone, kind, people))
        cells = np.stack(
            (days.type.astype(np.int64), days.day.astype(np.int64), days.events, days.users, begins, begins + sizes)
        )
        self.connection.execute("INSERT INTO days VALUES (?, ?, ?)", (run, zone, cells.tobytes()))

    def drop(self, runs: Sequence[int]) -> None:
        """Removes runs."""
        for run in runs:
            for chunk in [chunk for projection in Projection for chunk in self.chunks([run], projection)]:
                span = (chunk.columns, chunk.columns + SLOTS)
                self.connection.execute("DELETE FROM columns WHERE id >= ? AND id < ?", span)
            for table in ("runs", "chunks", "quarters", "days", "people"):
                self.connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))

    # Whole rollups, to make others of them

    def zones(self, run: int) -> list[str]:
        """The zones whose days a run has."""
        return [zone for (zone,) in sqlite.fetch(self.connection, "SELECT zone FROM days WHERE run = ?", (run,))]

    def all_quarters(self, run: int) -> Quarters:
        """The quarters of a run."""
        parts = list(self.quarters(run))
        if not parts:
            raise Corrupt("FILE_DAMAGED", f"{self.path.name}: run {run} has no quarters")
        slots, sources, events = np.concatenate([cells for _kind, cells in parts], axis=1)
        types = np.concatenate([np.full(cells.shape[1], kind, np.uint32) for kind, cells in parts])
        return Quarters(types, slots, sources, events.astype(np.int64))

    def all_days(self, run: int, zone: str) -> Days:
        """The days of a run in one zone."""
        cells = self.days(run, zone)
        if cells is None:
            raise Corrupt("FILE_DAMAGED", f"{self.path.name}: run {run} has no days of {zone}")
        types, days, events, users, begins, ends = cells
        kinds = types.astype(np.uint32)
        people = {kind: self.people(run, zone, kind) for kind, _part in stretches(kinds)}
        pieces = [
            people[kind][begin:end]
            for kind, begin, end in zip(types.tolist(), begins.tolist(), ends.tolist(), strict=True)
        ]
        return Days(kinds, days.astype(np.int32), events, users, pieces)


def _u32(column: NDArray[np.int64]) -> NDArray[np.uint32]:
    return column.astype(np.uint32)
