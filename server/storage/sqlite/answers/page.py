"""One page out of one month: which positions the index says are next, and the events of the truth at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from retention.month import Month
from server.model import EventFilter, Keyset, Order
from server.question import FieldKind
from server.storage.sqlite import questions
from server.storage.sqlite.answers.cut import Cut, MonthCut
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.selection import Columns, Matcher
from server.storage.sqlite.answers.truth_rows import gap_rows
from server.storage.sqlite.index.reading import Chunk, IndexReader, RunInfo
from server.storage.sqlite.index.rows import Keys, Mask, Positions, Rows, Times, joined
from server.storage.sqlite.index.tables import TAG, Projection, Slot

LEADS_MAX = 64
FETCH_MAX = 250
"""Positions in one statement."""

LEAD = {Projection.BY_USER: Slot.USER, Projection.BY_TYPE: Slot.TYPE, Projection.BY_LABEL: Slot.LABEL}
"""The column that each order is found by."""

NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64))
"""No times and no positions."""

Row = Sequence[Any]


class Page:
    """One page out of one month."""

    def __init__(self, files: Files, matcher: Matcher, where: EventFilter, order: Order, as_of: int) -> None:
        self._files = files
        self.matcher = matcher
        self.where = where
        self.order = order
        self._last = as_of if where.up_to_position is None else min(as_of, where.up_to_position)

    @property
    def slots(self) -> dict[FieldKind, Slot]:
        """The columns that the filter looks at."""
        return {
            kind: slot
            for kind, slot, values in (
                (FieldKind.TYPE, Slot.TYPE, self.where.types),
                (FieldKind.USER, Slot.USER, self.where.user_ids),
                (FieldKind.SOURCE, Slot.SOURCE, self.where.sources),
            )
            if values
        }

    def rows(self, whole: Cut, limit: int, after: Keyset | None) -> list[Row]:
        """The page. What the index does not know is asked of the truth, so it may take several rounds."""
        cut = whole.months[0]
        info = cut.info
        gap = (rows for rows, _tags in gap_rows(self._files, cut))
        outside = joined([*gap, whole.tail.rows({cut.info.month: cut.tail_from})])
        # What only the truth can tell.
        residual = EventFilter(session_ids=self.where.session_ids, tags=self.where.tags)
        found: list[Row] = []
        wanted = limit
        while True:
            times, positions, more = self._candidates(cut, outside, wanted, after)
            for start in range(0, len(positions), FETCH_MAX):
                part = positions[start : start + FETCH_MAX].tolist()
                rows = self._files.few_rows(info, *questions.events_at(info.month, part, residual, self.order))
                found += [(position, bytes.fromhex(identity), *rest) for position, identity, *rest in rows]
                if len(found) >= limit:
                    return found[:limit]
            if not more:
                return found
            after = Keyset(int(times[-1]), int(positions[-1]))
            wanted = min(wanted * 2, 10_000)

    def _candidates(
        self, cut: MonthCut, outside: Rows, wanted: int, after: Keyset | None
    ) -> tuple[Times, Positions, bool]:
        """The next positions in order, with their times, and whether there may be more behind them."""
        parts = [NOTHING]
        if len(outside):
            parts.append(self._matching(outside.timestamp_ms, outside.position, columns_of(outside), cut, after))
        if cut.index is not None:
            with self._files.index_reading(cut.info, cut.version):
                parts += self._indexed(cut, cut.index, wanted, after)
        times = np.concatenate([part[0] for part in parts])
        positions = np.concatenate([part[1] for part in parts])
        order = np.lexsort((positions, times)) if self.order.by_time else np.argsort(positions)
        if self.order.descending:
            order = order[::-1]
        ordered = positions[order]
        if self.where.tags:
            # An event that has two of the tags is found twice.
            _unique, first = np.unique(ordered, return_index=True)
            order = order[np.sort(first)]
        return times[order[:wanted]], positions[order[:wanted]], len(order) > wanted or len(order) == wanted

    def _indexed(
        self, cut: MonthCut, index: IndexReader, wanted: int, after: Keyset | None
    ) -> list[tuple[Times, Positions]]:
        """Matching rows of the index; in the order of times no more chunks than are needed for the wanted."""
        start_ms = cut.info.month.start_ms
        chunks = self._chunks(cut, index, after)
        descending = self.order.descending
        chunks.sort(key=lambda entry: -entry[0].late if descending else entry[0].early)
        found: list[tuple[Times, Positions]] = []
        seen = 0
        bound: int | None = None  # the time of the last one that is wanted, as far as is known
        for chunk, projection, leads in chunks:
            self._files.unless_stopped()
            if bound is not None and (chunk.late + start_ms < bound if descending else chunk.early + start_ms > bound):
                break
            part = self._read(cut, index, chunk, projection, leads, after)
            if len(part[0]):
                found.append(part)
                seen += len(part[0])
            if self.order.by_time and seen >= wanted and not self.where.tags:
                times = np.concatenate([times for times, _positions in found])
                bound = int(
                    np.partition(times, len(times) - wanted)[len(times) - wanted]
                    if descending
                    else np.partition(times, wanted - 1)[wanted - 1]
                )
        return found

    def _chunks(
        self, cut: MonthCut, index: IndexReader, after: Keyset | None
    ) -> list[tuple[Chunk, Projection, Keys | None]]:
        projection, leads = self._leads(index)
        low, high = self.span_ms(cut.info.month, after)
        wanted = None if leads is None else leads.tolist()
        return [
            (chunk, projection, leads)
            for run in self.runs(cut)
            for chunk in index.chunks(run, projection, wanted)
            if chunk.late >= low and chunk.early < high
        ]

    def span_ms(self, month: Month, after: Keyset | None) -> tuple[int, int]:
        """Between which milliseconds of a month the events are."""
        start_ms = month.start_ms
        low = 0 if self.where.start_ms is None else self.where.start_ms - start_ms
        high = month.end_ms - start_ms
        high = high if self.where.end_ms is None else min(high, self.where.end_ms - start_ms)
        if after is not None and self.order.by_time:
            if self.order.descending:
                high = min(high, after.timestamp_ms - start_ms + 1)
            else:
                low = max(low, after.timestamp_ms - start_ms)
        return low, high

    def runs(self, cut: MonthCut) -> Iterator[RunInfo]:
        """The runs of a month that may have any of the events."""
        first = self.where.after_position or 0
        return (run for run in cut.runs if run.first <= self._last and run.last > first)

    def _leads(self, index: IndexReader) -> tuple[Projection, Keys | None]:
        if 0 < len(self.where.user_ids) <= LEADS_MAX:
            return Projection.BY_USER, self.matcher.required(FieldKind.USER)
        if 0 < len(self.where.tags) <= LEADS_MAX:
            wanted = set(self.where.tags)
            keys = sorted(key for key, name in index.labels(TAG).items() if name in wanted)
            return Projection.BY_LABEL, np.array(keys, np.uint32)
        types = self.matcher.required(FieldKind.TYPE)
        if types is not None and len(types) <= LEADS_MAX:
            return Projection.BY_TYPE, types
        return Projection.BY_TYPE, None

    def _read(
        self,
        cut: MonthCut,
        index: IndexReader,
        chunk: Chunk,
        projection: Projection,
        leads: Keys | None,
        after: Keyset | None,
    ) -> tuple[Times, Positions]:
        slots = self.slots
        lead = LEAD[projection]
        read = list(dict.fromkeys([Slot.TIME, Slot.POSITION, *slots.values(), *([] if leads is None else [lead])]))
        found = dict(zip(read, index.fields(chunk, read), strict=True))
        if leads is not None:
            mine = _rows_of(found[lead], leads)
            found = {slot: column[mine] for slot, column in found.items()}
        times = found[Slot.TIME].astype(np.int64) + cut.info.month.start_ms
        keys = {kind: found[slot] for kind, slot in slots.items()}
        return self._matching(times, found[Slot.POSITION], Columns(len(times), keys), cut, after)

    def _matching(
        self, times: Times, positions: Positions, columns: Columns, cut: MonthCut, after: Keyset | None
    ) -> tuple[Times, Positions]:
        kept = self.mask(times, positions, columns, cut.removed, after)
        return times[kept], positions[kept]

    def mask(
        self, times: Times, positions: Positions, columns: Columns, removed: Positions, after: Keyset | None
    ) -> Mask:
        """Which rows match, are behind `after`, not above the last position, and not removed."""
        kept: Mask = positions <= self._last
        if self.where.after_position is not None:
            kept &= positions > self.where.after_position
        if self.where.start_ms is not None:
            kept &= times >= self.where.start_ms
        if self.where.end_ms is not None:
            kept &= times < self.where.end_ms
        if after is not None:
            kept &= self._behind(times, positions, after)
        if len(removed):
            kept &= ~np.isin(positions, removed)
        if not self.matcher.trivial:
            kept &= self.matcher.mask(columns)
        return kept

    def _behind(self, times: Times, positions: Positions, after: Keyset) -> Mask:
        if not self.order.by_time:
            behind: Mask = positions < after.position if self.order.descending else positions > after.position
            return behind
        same: Mask = times == after.timestamp_ms
        if self.order.descending:
            return (times < after.timestamp_ms) | (same & (positions < after.position))
        return (times > after.timestamp_ms) | (same & (positions > after.position))


def _rows_of(column: Keys, leads: Keys) -> slice | Mask:
    """Where some leads are in a column of them, which is sorted."""
    if len(leads) != 1:
        return np.isin(column, leads)
    first, end = np.searchsorted(column, leads[0], side="left"), np.searchsorted(column, leads[0], side="right")
    return slice(int(first), int(end))


def columns_of(rows: Rows) -> Columns:
    """Rows as what a filter looks at."""
    return Columns(len(rows), {FieldKind.TYPE: rows.type, FieldKind.USER: rows.user, FieldKind.SOURCE: rows.source})
