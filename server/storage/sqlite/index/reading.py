"""Reading the runs of an index.

A run never changes and its number is never given again, so what a reader knows of a run stays right, also without a
transaction around it: either a part of the run is there, or the run was replaced by another one meanwhile and the part
is missing. Nothing that is missing is ever taken for empty: `contents` tells what a run has, in one statement.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retention.month import Month
from server.errors import Corrupt
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.index.held import Held
from server.storage.sqlite.index.rollup import Days, Quarters, stretches
from server.storage.sqlite.index.rows import NOTHING_SORTED, Rows, Sorted
from server.storage.sqlite.index.tables import CONTENTS, SNAPSHOT, TAG, Projection, Slot, column_id

Part = TypeVar("Part")
Cells: TypeAlias = NDArray[np.int64]

BLOBS_AT_ONCE = (256, 32, 8, 3, 2, 1)
"""So many of one statement. A fixed ladder, so that every statement is found in the driver's cache."""
LEADS_END = 1 << 32
"""Leads are 32-bit."""
OVERHEAD_BYTES = 200
"""Of a part that is held, besides what is in it."""


@lru_cache(maxsize=256)
def blobs_of(tables: tuple[str, ...]) -> str:
    """A statement that gives one row with a blob of each table, whose ids are bound; NULL for one that is not there."""
    return "SELECT " + ",".join(f"(SELECT data FROM {table} WHERE id=?)" for table in tables)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run, without its rows."""

    run: int
    rows: int
    first: int
    last: int
    covered: str


@dataclass(frozen=True, slots=True)
class Version:
    """What an index has at one moment."""

    path: Path
    watermark: int
    removals: int
    """The generation of removals that is applied."""
    runs: Sequence[RunInfo]
    """In the order of their positions."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where the columns of some rows are."""

    low: int
    high: int
    early: int
    late: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a run has."""

    run: int
    chunks: Mapping[Projection, Cells]
    """Rows: low, high, early, late, rows. The leads rise from chunk to chunk."""
    types: frozenset[int]
    zones: frozenset[str]

    def of(self, projection: Projection, leads: Sequence[int] | None) -> list[Chunk]:
        """The chunks in one order that may hold some leads, or all, as they follow each other."""
        cells = self.chunks[projection]
        places: Iterable[int] = range(cells.shape[1])
        if leads is not None:
            # numpy would give the interpreter lock up for this.
            lows, highs = memoryview(cells[0]), memoryview(cells[1])
            spans = [range(bisect_left(highs, lead), bisect_right(lows, lead)) for lead in leads]
            places = spans[0] if len(spans) == 1 else sorted({place for span in spans for place in span})
        return [self._chunk(projection, place) for place in places]

    def _chunk(self, projection: Projection, place: int) -> Chunk:
        low, high, early, late, rows = self.chunks[projection][:, place].tolist()
        return Chunk(low, high, early, late, rows, column_id(self.run, projection, place))


def _bytes_of(contents: Contents) -> int:
    """About how much memory it takes."""
    return sum(cells.nbytes for cells in contents.chunks.values()) + 100 * len(contents.types)


class IndexReader:
    """Reads one index through a connection that is asked for when it is needed."""

    def __init__(self, path: Path, month: Month, connect: Callable[[], apsw.Connection], held: Held) -> None:
        self.path = path
        self.month = month
        self._connect = connect
        self._held = held

    # Each step of a statement gives the interpreter lock up and waits for it again, beside a busy writer for as long as
    # a switch takes. So what a question needs of a month comes in few rows, and what is small is held in memory.

    def version(self) -> Version:
        """What the index has now."""
        watermark, removals, runs = self._connect().execute(SNAPSHOT).get
        return Version(self.path, watermark, removals, tuple(RunInfo(*row) for row in orjson.loads(runs)))

    def contents(self, info: RunInfo) -> Contents:
        """What a run has."""
        return self._get("contents", info, lambda: self._contents(info), _bytes_of)

    def _contents(self, info: RunInfo) -> Contents:
        chunks, types, zones = self._connect().execute(CONTENTS, {"run": info.run}).get
        cells = np.array(orjson.loads(chunks), np.int64).reshape(-1, 6).T
        parts = {projection: np.ascontiguousarray(cells[1:, cells[0] == projection]) for projection in Projection}
        if any(parts[projection][4].sum() != info.rows for projection in (Projection.BY_USER, Projection.BY_TYPE)):
            raise self._missing(f"rows of run {info.run}")
        return Contents(info.run, parts, frozenset(orjson.loads(types)), frozenset(orjson.loads(zones)))

    def chunks(self, info: RunInfo, projection: Projection, leads: Sequence[int] | None = None) -> list[Chunk]:
        """The chunks of a run that may hold some leads, or all, as they follow each other."""
        return self.contents(info).of(projection, leads)

    def fields(self, chunk: Chunk, slots: Sequence[Slot]) -> list[NDArray[Any]]:
        """Some columns of one chunk; times as milliseconds into the month."""
        found = self._blobs([chunk.columns + slot for slot in slots])
        return [self._column(data, slot, chunk.rows) for data, slot in zip(found, slots, strict=True)]

    def column(self, chunks: Sequence[Chunk], slot: Slot) -> NDArray[Any]:
        """One column of some chunks, which are in the order of `chunks`."""
        found = self._blobs([chunk.columns + slot for chunk in chunks])
        parts = [self._column(data, slot, chunk.rows) for data, chunk in zip(found, chunks, strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _blobs(self, columns: Sequence[int]) -> list[bytes | None]:
        """Columns by their ids, in as few steps as possible; None where there is none."""
        found: list[bytes | None] = []
        for size in BLOBS_AT_ONCE:
            while len(columns) - len(found) >= size:
                found += sqlite.first(
                    self._connect(), blobs_of(("columns",) * size), columns[len(found) : len(found) + size]
                )
        return found

    def _column(self, data: bytes | None, slot: Slot, rows: int) -> NDArray[Any]:
        column = np.frombuffer(data or b"", np.int64 if slot is Slot.POSITION else np.uint32)
        if len(column) != rows:
            raise self._missing(f"{rows - len(column)} rows of a column")
        return column

    def sorted(self, info: RunInfo, projection: Projection, low: int = 0, end: int = LEADS_END) -> Sorted:
        """The rows of a run with leads in [low, end), or all, in one of its orders."""
        chunks = [chunk for chunk in self.chunks(info, projection) if chunk.high >= low and chunk.low < end]
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
        if lead is None:
            lead = self.column(chunks, Slot.LABEL)
        if chunks[0].low >= low and chunks[-1].high < end:
            return Sorted(lead, rows)
        mine = slice(*np.searchsorted(lead.astype(np.int64), (low, end)).tolist())
        return Sorted(lead[mine], rows.take(mine))

    # Rollups

    def quarters(self, info: RunInfo, types: Iterable[int] | None = None) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """For each type: its number, and an array of three rows: slots, sources, events. None: all types."""
        present = self.contents(info).types
        for kind in sorted(present if types is None else present.intersection(types)):
            data = self._blob(info, "SELECT data FROM quarters WHERE run = ? AND type = ?", kind)
            yield kind, np.frombuffer(data, np.uint32).reshape(3, -1)

    def days(self, info: RunInfo, zone: str) -> Cells | None:
        """Rows: types, days, events, users, where the set of each begins and ends; None if the zone is not kept."""
        if zone not in self.contents(info).zones:
            return None
        data = self._blob(info, "SELECT data FROM days WHERE run = ? AND zone = ?", zone)
        return np.frombuffer(data, np.int64).reshape(6, -1)

    def people(self, info: RunInfo, zone: str, kind: int) -> bytes:
        """The sets of users of a type's days, one after the other."""
        return self._blob(info, "SELECT data FROM people WHERE run = ? AND zone = ? AND type = ?", zone, kind)

    def all_quarters(self, info: RunInfo) -> Quarters:
        """The quarters of a run."""
        parts = list(self.quarters(info))
        if not parts:
            raise self._missing(f"run {info.run} has no quarters")
        slots, sources, events = np.concatenate([cells for _kind, cells in parts], axis=1)
        types = np.concatenate([np.full(cells.shape[1], kind, np.uint32) for kind, cells in parts])
        return Quarters(types, slots, sources, events.astype(np.int64))

    def all_days(self, info: RunInfo, zone: str) -> Days:
        """The days of a run in one of its zones."""
        cells = self.days(info, zone)
        if cells is None:
            raise self._missing(f"run {info.run} has no days of {zone}")
        types, days, events, users, begins, ends = cells
        kinds = types.astype(np.uint32)
        people = {kind: self.people(info, zone, kind) for kind, _part in stretches(kinds)}
        pieces = [
            people[kind][begin:end]
            for kind, begin, end in zip(types.tolist(), begins.tolist(), ends.tolist(), strict=True)
        ]
        return Days(kinds, days.astype(np.int32), events, users, pieces)

    def made_of(self, info: RunInfo, make: Callable[[], Part], size: Callable[[Part], int], *key: Hashable) -> Part:
        """Something that is made of a run alone and of `key`, held as parts of the run are."""
        return self._get("made", info, make, size, *key)

    # Labels are only ever added to.

    def labels(self, kind: int | None, field: str = "") -> dict[int, str]:
        """The values of tags (TAG), or of a dimension of one type or, with None, of all types; by label."""
        if kind is None:
            sql = "SELECT label, value FROM labels WHERE type <> ? AND field = ?"
            return dict(sqlite.fetch(self._connect(), sql, (TAG, field)))
        sql = "SELECT label, value FROM labels WHERE type = ? AND field = ?"
        return dict(sqlite.fetch(self._connect(), sql, (kind, field)))

    def _blob(self, info: RunInfo, sql: str, *key: str | int) -> bytes:
        def read() -> bytes:
            found = sqlite.first(self._connect(), sql, (info.run, *key))
            if not found:
                raise self._missing(f"a rollup of run {info.run}")
            data: bytes = found[0]
            return data

        return self._get(sql, info, read, len, *key)

    def _get(
        self, what: str, info: RunInfo, read: Callable[[], Part], size: Callable[[Part], int], *key: Hashable
    ) -> Part:
        name = (self.path, info.run, what, *key)
        return self._held.get(name, read, lambda part: size(part) + OVERHEAD_BYTES)

    def _missing(self, what: str) -> Corrupt:
        return Corrupt("FILE_DAMAGED", f"{self.path.name}: missing: {what}")
