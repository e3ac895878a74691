"""The events of few users over many months, in the order of time.

Month by month such a list takes two or three steps of a statement a month, and beside a busy writer waits for the
interpreter lock at each of them. Here what is read of the indexes of a dozen months comes in one step, and the events
of a dozen months in another. Whatever is not as it nearly always is (an index that is missing or was replaced just now,
an event that was erased in between, a user who fills chunk after chunk) raises IndexUnusable: the list is then made
month by month, which knows what to do about it.

A statement over a dozen months takes longer to compile than to run. So its text does not depend on which of the months
have events, nor on how many: only on a few rungs of a ladder, and what is not needed is bound to nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from typing import Any, TypeAlias

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retention.month import Month
from server.errors import Corrupt, StoreFailed
from server.model import EventFilter, Keyset, MonthInfo, Order
from server.question import Field, FieldKind, OneOf
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import questions
from server.storage.sqlite.answers.cut import MonthCut, take_cut
from server.storage.sqlite.answers.files import Files, IndexUnusable
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.page import LEADS_MAX, Page, Row, columns_of
from server.storage.sqlite.answers.selection import Columns
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.reading import Chunk, blobs_of
from server.storage.sqlite.index.rows import Keys, Positions, Times
from server.storage.sqlite.index.tables import Projection, Slot
from server.storage.sqlite.index.tail import TailView

MONTHS = (3, 6, 12)
"""So many are looked at together: whoever does something every day has a page of it in the first three."""
MONTHS_MAX = MONTHS[-1]
PROMISE = 1.5
"""Chunks tell about how many events a user has. Months are looked at until they promise so many times the page."""
CHUNKS_MAX = 96
"""In one step. Whose events fill more chunks is not looked up but read on and on."""
FEW_CHUNKS = 2
"""As many as a user has in a month that is merged; all such months get the same room."""
SPARE = (1, FEW_CHUNKS, 8, 32, CHUNKS_MAX)
"""So many chunks of a month a statement has room for. Room that is not needed costs half a microsecond a column."""
EVENTS = (8, 16, 64, 256)
"""So many events of a month a statement has room for."""
SORTED_MAX = 1_000
"""So few are sorted without giving the interpreter lock up."""

Found: TypeAlias = "tuple[int, int, MonthInfo]"
"""Time, position, and month of an event."""


def fits(where: EventFilter, order: Order) -> bool:
    """Whether a list is one of these: the index alone must tell which events match."""
    return order.by_time and 0 < len(where.user_ids) <= LEADS_MAX and not where.tags and not where.session_ids


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of some rows: columns of equal length."""

    times: Times
    positions: Positions
    keys: Columns
    months: Sequence[MonthInfo]


@dataclass(slots=True)
class _Stretches:
    """Stretches of the columns of chunks, put together once for all months: numpy costs by the call, not by the row."""

    infos: list[MonthInfo] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    columns: dict[Slot, list[memoryview]] = field(default_factory=dict)

    def add(self, info: MonthInfo, size: int, columns: Iterator[tuple[Slot, memoryview]]) -> None:
        """A stretch of a month: the bytes of each column."""
        self.infos.append(info)
        self.sizes.append(size)
        for slot, column in columns:
            self.columns.setdefault(slot, []).append(column)

    def column(self, slot: Slot) -> NDArray[Any]:
        """All of one column."""
        return np.frombuffer(b"".join(self.columns[slot]), np.int64 if slot is Slot.POSITION else np.uint32)

    def rows(self, kinds: dict[FieldKind, Slot]) -> _Rows:
        """All rows."""
        months = [info for info, size in zip(self.infos, self.sizes, strict=True) for _row in range(size)]
        starts = np.repeat(np.array([info.month.start_ms for info in self.infos], np.int64), self.sizes)
        times = self.column(Slot.TIME) + starts
        keys = {kind: self.column(slot) for kind, slot in kinds.items()}
        return _Rows(times, self.column(Slot.POSITION), Columns(len(times), keys), months)


class Timeline:
    """One list, for one reader."""

    def __init__(self, files: Files, derived: Derived, names: Names, page: Page) -> None:
        self._files = files
        self._derived = derived
        self._names = names
        self._page = page
        self._kinds = page.slots
        self._slots = list(dict.fromkeys([Slot.USER, Slot.TIME, Slot.POSITION, *self._kinds.values()]))

    def rows(self, months: Sequence[MonthInfo], limit: int, after: Keyset | None) -> list[Row]:
        """The first events behind `after`, as rows of `questions.page`; `months` follow each other in the list's order.

        IndexUnusable if it has to be made in another way.
        """
        leads = self._page.matcher.required(FieldKind.USER)
        found: list[Found] = []
        if leads is None or not len(leads):
            return []
        looked_at = 0
        try:
            while looked_at < len(months) and len(found) < limit:
                cut = take_cut(self._files, self._derived, months[looked_at : looked_at + MONTHS_MAX])
                for some in self._groups(cut.months, leads.tolist(), limit - len(found), after):
                    found += self._in_order(some, cut.tail, leads, after)
                    looked_at += len(some)
                    if len(found) >= limit:
                        break
            return self._events(months[:looked_at], found[:limit])
        except (apsw.Error, Corrupt, StoreFailed, ValueError, TypeError, KeyError) as problem:
            self._files.unless_stopped()
            raise IndexUnusable(str(problem)) from problem

    # Which events

    def _groups(
        self, months: Sequence[MonthCut], leads: Sequence[int], limit: int, after: Keyset | None
    ) -> Iterator[list[tuple[MonthCut, list[Chunk]]]]:
        """Months that follow each other, each with the chunks to look at: first as many as promise a page, then all."""
        group: list[tuple[MonthCut, list[Chunk]]] = []
        promised, first = 0.0, True
        for month in months:
            if month.index is None or month.gap_end > month.watermark:
                if group:
                    yield group
                raise IndexUnusable("a month has no whole index")
            chunks = list(self._chunks(month, leads, after))
            group.append((month, chunks))
            promised += sum(chunk.rows / (chunk.high - chunk.low + 1) for chunk in chunks)
            if first and len(group) in MONTHS and promised >= PROMISE * limit:
                yield group
                group, first = [], False
        if group:
            yield group

    def _in_order(
        self, months: Sequence[tuple[MonthCut, list[Chunk]]], tail: TailView, leads: Keys, after: Keyset | None
    ) -> list[Found]:
        """The matching events of some months in order."""
        parts = [*self._indexed(months, leads.tolist()), *self._unfolded([month for month, _ in months], tail, leads)]
        removed = np.concatenate([month.removed for month, _chunks in months])
        entries: list[Found] = []
        for part in parts:
            kept = self._page.mask(part.times, part.positions, part.keys, removed, after)
            infos = list(compress(part.months, kept.tolist()))
            times, positions = part.times[kept], part.positions[kept]
            if len(times) > SORTED_MAX:
                order = np.lexsort((positions, times))
                infos = [infos[row] for row in order.tolist()]
                times, positions = times[order], positions[order]
            entries += zip(times.tolist(), positions.tolist(), infos, strict=True)
        return sorted(entries, key=lambda entry: entry[:2], reverse=self._page.order.descending)

    def _indexed(self, months: Sequence[tuple[MonthCut, list[Chunk]]], leads: Sequence[int]) -> Iterator[_Rows]:
        """The rows of the leads in these chunks."""
        counts = [len(chunks) for _month, chunks in months]
        if not any(counts):
            return
        if sum(counts) > CHUNKS_MAX:
            raise IndexUnusable("many chunks")
        width = len(self._slots)
        few = max([1, *(count for count in counts if count <= FEW_CHUNKS)])
        rooms = [few if count <= FEW_CHUNKS else next(room for room in SPARE if room >= count) for count in counts]
        if sum(rooms) > CHUNKS_MAX:  # a statement that is much longer is compiled each time
            rooms = counts
        ids: list[int] = []
        for (_month, chunks), room in zip(months, rooms, strict=True):
            ids += [chunk.columns + slot for chunk in chunks for slot in self._slots]
            ids += [0] * ((room - len(chunks)) * width)
        connection = self._files.together(
            {_index_name(month.info.month): (month.version.path, False) for month, _chunks in months}
        )
        sql = _columns_of(tuple(month.info.month for month, _chunks in months), tuple(rooms), width)
        found = sqlite.first(connection, sql, ids)
        stretches = _Stretches()
        place = 0
        for (month, chunks), room in zip(months, rooms, strict=True):
            for number, chunk in enumerate(chunks):
                at = place + number * width
                self._add_chunk(stretches, month.info, chunk, found[at : at + width], leads)
            place += room * width
        if stretches.infos:
            yield stretches.rows(self._kinds)

    def _chunks(self, month: MonthCut, leads: Sequence[int], after: Keyset | None) -> Iterator[Chunk]:
        if month.index is None:
            return
        low, high = self._page.span_ms(month.info.month, after)
        for run in self._page.runs(month):
            for chunk in month.index.chunks(run, Projection.BY_USER, leads):
                if chunk.late >= low and chunk.early < high:
                    yield chunk

    def _add_chunk(
        self,
        stretches: _Stretches,
        info: MonthInfo,
        chunk: Chunk,
        blobs: Sequence[bytes | None],
        leads: Sequence[int],
    ) -> None:
        """The rows of the leads in a chunk, which is sorted by them."""
        columns = [
            (slot, 8 if slot is Slot.POSITION else 4, memoryview(blob or b""))
            for slot, blob in zip(self._slots, blobs, strict=True)
        ]
        if any(len(column) != width * chunk.rows for _slot, width, column in columns):
            raise IndexUnusable("columns are missing")
        users = columns[0][2].cast("I")
        for lead in leads:
            # numpy would give the interpreter lock up for this.
            low = bisect_left(users, lead)
            high = bisect_right(users, lead, low)
            if low < high:
                mine = ((slot, column[width * low : width * high]) for slot, width, column in columns)
                stretches.add(info, high - low, mine)

    def _unfolded(self, months: Sequence[MonthCut], tail: TailView, leads: Keys) -> Iterator[_Rows]:
        """The rows of the leads that are in the tail."""
        rows = tail.rows_of(leads, {month.info.month: month.tail_from for month in months})
        if len(rows):
            infos = {month.info.month: month.info for month in months}
            of_row = [infos[Month.of(timestamp_ms)] for timestamp_ms in rows.timestamp_ms.tolist()]
            yield _Rows(rows.timestamp_ms, rows.position, columns_of(rows), of_row)

    # The events themselves

    def _events(self, months: Sequence[MonthInfo], found: Sequence[Found]) -> list[Row]:
        """The rows of what was found in these months."""
        wanted: dict[Month, list[int]] = {info.month: [] for info in months}
        for _time, position, info in found:
            wanted[info.month].append(position)
        types, sources = (self._names.of_keys(kind, (), ()) for kind in (FieldKind.TYPE, FieldKind.SOURCE))
        users = self._page.matcher.users(OneOf(Field(FieldKind.USER), self._page.where.user_ids))
        rows: dict[int, Row] = {}
        for start in range(0, len(months), MONTHS_MAX):
            some = sorted(months[start : start + MONTHS_MAX], key=lambda info: info.month)
            while most := max(len(wanted[info.month]) for info in some):
                room = next((room for room in EVENTS if room >= most), EVENTS[-1])
                bound: list[int | None] = []
                for info in some:
                    mine = wanted[info.month]
                    wanted[info.month] = mine[room:]
                    bound += mine[:room]
                    bound += [None] * (room - len(mine))
                connection = self._files.together(
                    {_truth_name(info.month): self._files.truth_file(info) for info in some}
                )
                sql = questions.events_everywhere(tuple((_truth_name(info.month), info.month) for info in some), room)
                for events in sqlite.first(connection, sql, bound):
                    for row in orjson.loads(events):
                        position, identity, kind, user, source = row[:5]
                        row[1:5] = bytes.fromhex(identity), types[kind], users[user], sources[source]
                        rows[position] = row
        # KeyError: an event is gone, or has a name that came a moment ago.
        return [rows[position] for _time, position, _month in found]


@lru_cache(maxsize=256)
def _columns_of(months: tuple[Month, ...], rooms: tuple[int, ...], width: int) -> str:
    """A statement for so many columns of so many chunks of each month."""
    names = map(_index_name, months)
    return blobs_of(
        tuple(f"{name}.columns" for name, room in zip(names, rooms, strict=True) for _ in range(room * width))
    )


@lru_cache(maxsize=1_024)
def _index_name(month: Month) -> str:
    return f"i{month.year:04d}{month.month:02d}"


@lru_cache(maxsize=1_024)
def _truth_name(month: Month) -> str:
    return f"e{month.year:04d}{month.month:02d}"
