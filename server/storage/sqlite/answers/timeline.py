"""The events of few users over many months, in the order of time.

Month by month such a list takes two or three steps of a statement a month, and beside a busy writer waits for the
interpreter lock at each of them. Here what is read of the indexes of a dozen months comes in one step, and the events
of a dozen months in another. Whatever is not as it nearly always is (an index that is missing or was replaced just now,
an event that was erased in between, a user who fills chunk after chunk) raises IndexUnusable: the list is then made
month by month, which knows what to do about it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from retention.month import Month
from server.errors import Corrupt, StoreFailed
from server.model import EventFilter, Keyset, MonthInfo, Order
from server.question import FieldKind
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import questions
from server.storage.sqlite.answers.cut import Cut, MonthCut, take_cut
from server.storage.sqlite.answers.files import Files, IndexUnusable
from server.storage.sqlite.answers.page import LEADS_MAX, Page, Row
from server.storage.sqlite.answers.selection import Columns
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.reading import Chunk, blobs_of
from server.storage.sqlite.index.rows import Keys
from server.storage.sqlite.index.tables import Projection, Slot

FIRST_MONTHS = 3
"""Looked at first: whoever does something every day has a page of it in there."""
MORE_MONTHS = 12
"""Looked at together after that."""
CHUNKS_MAX = 96
"""In one step. Whose events fill more chunks is not looked up but read on and on."""
SPARE = (1, 2, 4, 8, 16, 32, 64, 96)
"""So many chunks of a month a statement has room for: that there are few statements, which the driver has compiled."""
SORTED_MAX = 1_000
"""So few are sorted without giving the interpreter lock up."""

Found: TypeAlias = "tuple[int, int, MonthInfo]"
"""Time, position, and month of an event."""


def fits(where: EventFilter, order: Order) -> bool:
    """Whether a list is one of these: the index alone must tell which events match."""
    return order.by_time and 0 < len(where.user_ids) <= LEADS_MAX and not where.tags and not where.session_ids


@dataclass(slots=True)
class _Parts:
    """Rows of several months, piece by piece."""

    months: list[MonthInfo] = field(default_factory=list)
    """Of each piece."""
    columns: dict[Slot, list[NDArray[Any]]] = field(default_factory=dict)

    def add(self, month: MonthInfo, columns: Mapping[Slot, NDArray[Any]]) -> None:
        """A piece; times are since the epoch."""
        self.months.append(month)
        for slot, column in columns.items():
            self.columns.setdefault(slot, []).append(column)


class Timeline:
    """One list, for one reader."""

    def __init__(self, files: Files, derived: Derived, page: Page) -> None:
        self._files = files
        self._derived = derived
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
        try:
            for some in _groups(months):
                found += self._in_order(take_cut(self._files, self._derived, some), leads, after)
                if len(found) >= limit:
                    break
            return list(self._events(found[:limit]))
        except (apsw.Error, Corrupt, StoreFailed, ValueError, TypeError) as problem:
            self._files.unless_stopped()
            raise IndexUnusable(str(problem)) from problem

    # Which events

    def _in_order(self, cut: Cut, leads: Keys, after: Keyset | None) -> list[Found]:
        """The matching events of some months in order."""
        if any(month.index is None or month.gap_end > month.watermark for month in cut.months):
            raise IndexUnusable("a month has no whole index")
        parts = _Parts()
        self._add_indexed(parts, cut, leads.tolist(), after)
        self._add_tail(parts, cut, leads)
        if not parts.months:
            return []
        columns: dict[Slot, NDArray[Any]] = {slot: np.concatenate(column) for slot, column in parts.columns.items()}
        times, positions = columns[Slot.TIME], columns[Slot.POSITION]
        sizes = [len(column) for column in parts.columns[Slot.POSITION]]
        place = np.repeat(np.arange(len(sizes)), sizes)
        removed = np.concatenate([month.removed for month in cut.months])
        keys = {kind: columns[slot].astype(np.uint32) for kind, slot in self._kinds.items()}
        kept = self._page.mask(times, positions, Columns(len(times), keys), removed, after)
        times, positions, place = times[kept], positions[kept], place[kept]
        if len(times) > SORTED_MAX:
            order = np.lexsort((positions, times))
            times, positions, place = times[order], positions[order], place[order]
        entries = list(
            zip(times.tolist(), positions.tolist(), [parts.months[at] for at in place.tolist()], strict=True)
        )
        return sorted(entries, key=lambda entry: entry[:2], reverse=self._page.order.descending)

    def _add_indexed(self, parts: _Parts, cut: Cut, leads: Sequence[int], after: Keyset | None) -> None:
        tables: list[str] = []
        ids: list[int] = []
        wanted: list[tuple[MonthCut, Chunk]] = []
        places: list[int] = []
        for month in cut.months:
            chunks = list(self._chunks(month, leads, after))
            if not chunks:
                continue
            wanted += [(month, chunk) for chunk in chunks]
            if len(wanted) > CHUNKS_MAX:
                raise IndexUnusable("many chunks")
            places += range(len(ids), len(ids) + len(chunks) * len(self._slots), len(self._slots))
            room = next(room for room in SPARE if room >= len(chunks)) * len(self._slots)
            mine = [chunk.columns + slot for chunk in chunks for slot in self._slots]
            ids += mine + [0] * (room - len(mine))
            tables += [f"{_index_name(month.info.month)}.columns"] * room
        if not wanted:
            return
        connection = self._connection(cut)
        found = sqlite.first(connection, blobs_of(tuple(tables)), ids)
        for (month, chunk), place in zip(wanted, places, strict=True):
            self._add_chunk(parts, month.info, chunk, found[place : place + len(self._slots)], leads)

    def _chunks(self, month: MonthCut, leads: Sequence[int], after: Keyset | None) -> Iterator[Chunk]:
        if month.index is None:
            return
        low, high = self._page.span_ms(month.info.month, after)
        for run in self._page.runs(month):
            for chunk in month.index.chunks(run, Projection.BY_USER, leads):
                if chunk.late >= low and chunk.early < high:
                    yield chunk

    def _add_chunk(
        self, parts: _Parts, info: MonthInfo, chunk: Chunk, blobs: Sequence[bytes | None], leads: Sequence[int]
    ) -> None:
        """The rows of the leads in a chunk, which is sorted by them."""
        sizes = [8 * chunk.rows if slot is Slot.POSITION else 4 * chunk.rows for slot in self._slots]
        if [len(blob or b"") for blob in blobs] != sizes:
            raise IndexUnusable("columns are missing")
        users = memoryview(blobs[0] or b"").cast("I")
        for lead in leads:
            # numpy would give the interpreter lock up for this.
            low = bisect_left(users, lead)
            high = bisect_right(users, lead, low)
            if low < high:
                columns = {
                    slot: _stretch(blob or b"", slot, low, high) for slot, blob in zip(self._slots, blobs, strict=True)
                }
                columns[Slot.TIME] = columns[Slot.TIME].astype(np.int64) + info.month.start_ms
                parts.add(info, columns)

    def _add_tail(self, parts: _Parts, cut: Cut, leads: Keys) -> None:
        rows = cut.tail.rows_of(leads, {month.info.month: month.tail_from for month in cut.months})
        if not len(rows):
            return
        infos = {month.info.month: month.info for month in cut.months}
        columns: dict[Slot, NDArray[Any]] = {
            Slot.USER: rows.user,
            Slot.TIME: rows.timestamp_ms,
            Slot.POSITION: rows.position,
            Slot.TYPE: rows.type,
            Slot.SOURCE: rows.source,
        }
        for row, timestamp_ms in enumerate(rows.timestamp_ms.tolist()):
            mine = slice(row, row + 1)
            parts.add(infos[Month.of(timestamp_ms)], {slot: columns[slot][mine] for slot in self._slots})

    # The events themselves

    def _events(self, found: Sequence[Found]) -> Iterator[Row]:
        months = list(dict.fromkeys(info for _time, _position, info in found))
        rows: dict[int, Row] = {}
        for start in range(0, len(months), MORE_MONTHS):
            some = sorted(months[start : start + MORE_MONTHS], key=lambda info: info.month)
            wanted = [orjson.dumps([at for _time, at, month in found if month == info]).decode() for info in some]
            connection = self._files.together({_truth_name(info.month): self._files.truth_file(info) for info in some})
            sql = questions.events_everywhere({_truth_name(info.month): info.month for info in some})
            for events in sqlite.first(connection, sql, wanted):
                for position, identity, *rest in orjson.loads(events):
                    rows[position] = (position, bytes.fromhex(identity), *rest)
        for _time, position, _month in found:
            if position not in rows:
                raise IndexUnusable("an event is gone")
            yield rows[position]

    def _connection(self, cut: Cut) -> apsw.Connection:
        """With the indexes of these months."""
        return self._files.together(
            {_index_name(month.info.month): (month.version.path, False) for month in cut.months if month.index}
        )


def _groups(months: Sequence[MonthInfo]) -> Iterator[Sequence[MonthInfo]]:
    yield months[:FIRST_MONTHS]
    for start in range(FIRST_MONTHS, len(months), MORE_MONTHS):
        yield months[start : start + MORE_MONTHS]


def _index_name(month: Month) -> str:
    return f"i{month.year:04d}{month.month:02d}"


def _truth_name(month: Month) -> str:
    return f"e{month.year:04d}{month.month:02d}"


def _stretch(blob: bytes, slot: Slot, low: int, high: int) -> NDArray[Any]:
    if slot is Slot.POSITION:
        return np.frombuffer(blob, np.int64, high - low, 8 * low)
    return np.frombuffer(blob, np.uint32, high - low, 4 * low)
