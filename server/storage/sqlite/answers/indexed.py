"""Rows that match, out of the index and the tail: columns of numbers, nothing of the events themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.question import Field, FieldKind
from server.storage.sqlite.answers.cells import Span
from server.storage.sqlite.answers.cut import MonthCut
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.selection import Coded, Columns, Matcher, Several
from server.storage.sqlite.index.reading import Chunk, IndexReader, RunInfo
from server.storage.sqlite.index.rows import Positions, Rows
from server.storage.sqlite.index.tables import TAG, Projection, Slot

TAGS = Field(FieldKind.TAG)
LEADS_MAX = 64
"""So many users or types are looked up one by one; for more everything is scanned."""

DENSE_TIMES = 16
"""A table of positions has at most so many times as many places as there are rows."""

_SLOTS = {FieldKind.TYPE: Slot.TYPE, FieldKind.USER: Slot.USER, FieldKind.SOURCE: Slot.SOURCE}


@dataclass(frozen=True, slots=True)
class Needs:
    """What of the rows a question looks at."""

    kinds: frozenset[FieldKind]
    """Types, users, sources; and tags."""
    time: bool
    position: bool
    dimensions: tuple[Field, ...] = ()
    """Metadata keys that the runs have labels for (see `covers`)."""

    @property
    def tags(self) -> bool:
        """Whether tags are needed, which are found by position."""
        return FieldKind.TAG in self.kinds


def index_columns(
    files: Files, month: MonthCut, matcher: Matcher, span: Span, needs: Needs
) -> Iterator[tuple[Columns, Positions | None]]:
    """The indexed rows of a month that may match, run by run, inside of the span; with their positions if needed."""
    index = month.index
    if index is None:
        return
    start_ms = month.info.month.start_ms
    projection, leads = _way(matcher, needs)
    slots = {Slot.POSITION} if needs.position or needs.tags or needs.dimensions or len(month.removed) else set()
    slots |= {_SLOTS[kind] for kind in needs.kinds if kind in _SLOTS}
    if needs.time or not span.whole:
        slots.add(Slot.TIME)
    for run in month.runs:
        chunks = _chunks(index, run, projection, leads, span, start_ms)
        if not chunks:
            continue
        found = {slot: _column(files, index, chunks, slot) for slot in sorted(slots)}
        count = sum(chunk.rows for chunk in chunks)
        kept = np.ones(count, np.bool_)
        times = found.get(Slot.TIME)
        if times is not None and not span.whole:
            kept &= (times >= span.start_ms - start_ms) & (times < min(span.end_ms - start_ms, 0xFFFF_FFFF))
        positions = found.get(Slot.POSITION)
        if len(month.removed) and positions is not None:
            kept &= ~np.isin(positions, month.removed)
        if not kept.all():
            found = {slot: column[kept] for slot, column in found.items()}
            count = int(kept.sum())
        positions = found.get(Slot.POSITION)
        several: dict[Field, Several] = {}
        texts: dict[Field, Coded] = {}
        if needs.tags and positions is not None:
            several[TAGS] = _labels_of_run(index, run, positions, index.labels(TAG))
        if positions is not None:
            for entry in needs.dimensions:
                held = _labels_of_run(index, run, positions, index.labels(None, entry.key))
                codes = np.zeros(count, np.int64)
                codes[held.row] = held.codes + 1
                texts[entry] = Coded(codes, (None, *held.values))
        keys = {kind: found[slot] for kind, slot in _SLOTS.items() if slot in found}
        times = found.get(Slot.TIME)
        yield (
            Columns(
                count,
                keys,
                None if times is None else times.astype(np.int64) + start_ms,
                texts=texts,
                several=several,
            ),
            positions,
        )


def rows_to_read(month: MonthCut, matcher: Matcher, span: Span, needs: Needs) -> int:
    """How many indexed rows of a month `index_columns` will look at."""
    if month.index is None:
        return 0
    projection, leads = _way(matcher, needs)
    start_ms = month.info.month.start_ms
    return sum(
        chunk.rows for run in month.runs for chunk in _chunks(month.index, run, projection, leads, span, start_ms)
    )


def _way(matcher: Matcher, needs: Needs) -> tuple[Projection, Sequence[int] | None]:
    """Which order of the rows to read, and for which leads; None: all."""
    users, types = matcher.required(FieldKind.USER), matcher.required(FieldKind.TYPE)
    if users is not None and len(users) <= LEADS_MAX:
        return Projection.BY_USER, users.tolist()
    if types is not None and len(types) <= LEADS_MAX:
        return Projection.BY_TYPE, types.tolist()
    return (Projection.BY_USER if FieldKind.USER in needs.kinds else Projection.BY_TYPE), None


def _chunks(
    index: IndexReader, run: RunInfo, projection: Projection, leads: Sequence[int] | None, span: Span, start_ms: int
) -> list[Chunk]:
    found = index.chunks(run, projection, leads)
    low, high = span.start_ms - start_ms, span.end_ms - start_ms
    return [chunk for chunk in found if chunk.late >= low and chunk.early < high]


def _column(files: Files, index: IndexReader, chunks: Sequence[Chunk], slot: Slot) -> NDArray[Any]:
    files.unless_stopped()
    return index.column(chunks, slot)


def covers(month: MonthCut, index: IndexReader, matcher: Matcher, keys: Sequence[str]) -> bool:
    """Whether the index knows these metadata keys of every event that may match: they are dimensions of its type."""
    required = matcher.required(FieldKind.TYPE)
    for run in month.runs:
        covered = {(kind, key) for kind, key in json.loads(run.covered)}
        types = index.contents(run).types
        if required is not None:
            types = types.intersection(required.tolist())
        if any((kind, key) not in covered for kind in types for key in keys):
            return False
    return True


def _labels_of_run(index: IndexReader, run: RunInfo, positions: Positions, names: Mapping[int, str]) -> Several:
    chunks = index.chunks(run, Projection.BY_LABEL)
    if not chunks or not names:
        return NO_LABELS
    labels = index.column(chunks, Slot.LABEL)
    places = index.column(chunks, Slot.POSITION)
    known = np.array(sorted(names), np.int64)
    mine = np.isin(labels, known)
    return several_of(
        positions, places[mine], np.searchsorted(known, labels[mine]), [names[key] for key in known.tolist()]
    )


NO_LABELS = Several(np.empty(0, np.int64), np.empty(0, np.int64), ())


def several_of(positions: Positions, owners: Positions, codes: NDArray[Any], values: Sequence[str]) -> Several:
    """Values that belong to positions, as values that belong to rows; those of other positions are left out."""
    if not len(positions) or not len(owners):
        return NO_LABELS
    rows = _rows_at(positions, owners)
    mine = rows >= 0
    return Several(rows[mine].astype(np.int64), codes[mine].astype(np.int64), values)


def _rows_at(positions: Positions, owners: Positions) -> NDArray[np.int64]:
    """The row that has the position of each owner, -1 if none has. No two rows have the same."""
    low, high = int(positions.min()), int(positions.max())
    if high - low < DENSE_TIMES * len(positions):
        # The positions of a month lie close together, so a table takes a tenth of the time of sorting.
        table = np.full(high - low + 1, -1, np.int32)
        table[positions - low] = np.arange(len(positions), dtype=np.int32)
        rows = np.full(len(owners), -1, np.int64)
        inside = (owners >= low) & (owners <= high)
        rows[inside] = table[owners[inside] - low]
        return rows
    order = np.argsort(positions)
    places = np.searchsorted(positions, owners, sorter=order)
    places[places == len(positions)] = 0
    rows = order[places]
    return np.where(positions[rows] == owners, rows, -1)


def columns_of(rows: Rows, tagged: Sequence[tuple[int, Sequence[str]]]) -> Columns:
    """Rows of the tail or of a gap; `tagged` has the tags of those that have any."""
    values: dict[str, int] = {}
    owners, codes = [], []
    for position, tags in tagged:
        for tag in dict.fromkeys(tags):
            owners.append(position)
            codes.append(values.setdefault(tag, len(values)))
    several = several_of(rows.position, np.array(owners, np.int64), np.array(codes, np.int64), list(values))
    keys: Mapping[FieldKind, Any] = {
        FieldKind.TYPE: rows.type,
        FieldKind.USER: rows.user,
        FieldKind.SOURCE: rows.source,
    }
    return Columns(len(rows), keys, rows.timestamp_ms, several={TAGS: several})
