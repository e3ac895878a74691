"""Answers from rollups: days with their users, or quarter-hours by source. Exact, or not possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np

from server.question import Bucket, BucketUnit, Field, FieldKind, MetricKind, Question, Read
from server.storage.sqlite.answers.cut import MonthCut
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.grouping import CellPeople, Ints, Part
from server.storage.sqlite.answers.selection import Columns, Matcher, fields_of
from server.storage.sqlite.index.reading import Cells, IndexReader, RunInfo
from server.storage.sqlite.index.rollup import ANY_TYPE
from server.storage.sqlite.zone_offsets import offsets_of
from server.time_buckets import DAY_MS, QUARTER_MS, bucket_of, offset_ms, zone_of

_DATES = (BucketUnit.DAY, BucketUnit.WEEK, BucketUnit.MONTH)
_CELL_FIELDS = (FieldKind.TYPE, FieldKind.SOURCE)


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a month that a question is about. Bounds that are those of the month are no bounds."""

    start_ms: int
    end_ms: int
    from_begin: bool
    to_end: bool

    @classmethod
    def of(cls, question: Question, month_start: int, month_end: int) -> Span:
        """What of the month lies in the question's time range."""
        from_begin = question.start_ms is None or question.start_ms <= month_start
        to_end = question.end_ms is None or question.end_ms >= month_end
        return cls(
            month_start if from_begin or question.start_ms is None else question.start_ms,
            month_end if to_end or question.end_ms is None else question.end_ms,
            from_begin,
            to_end,
        )

    @property
    def whole(self) -> bool:
        """Whether it is all of the month."""
        return self.from_begin and self.to_end

    def aligned(self, test: Callable[[int], bool]) -> bool:
        """Whether the bounds inside of the month, if any, pass a test."""
        return (self.from_begin or test(self.start_ms)) and (self.to_end or test(self.end_ms))


def from_cells(files: Files, month: MonthCut, question: Question, matcher: Matcher, read: Read) -> list[Part] | None:
    """The indexed events of a month, grouped; None if rollups cannot tell exactly."""
    if month.index is None or len(month.removed):
        return None
    fields = {entry for entry in question.by if isinstance(entry, Field)} | fields_of(matcher.where)
    if any(entry.kind not in _CELL_FIELDS for entry in fields):
        return None
    if any(metric.kind not in (MetricKind.EVENTS, MetricKind.USERS) for metric in question.metrics):
        return None
    bounds = month.info.month
    span = Span.of(question, bounds.start_ms, bounds.end_ms)
    if not any(entry.kind is FieldKind.SOURCE for entry in fields):
        parts = _from_days(files, month.index, month, question, matcher, span, read)
        if parts is not None:
            return parts
    if any(metric.kind is MetricKind.USERS for metric in question.metrics):
        return None
    return _from_quarters(month.index, month, question, matcher, span, read)


def _from_days(
    files: Files, index: IndexReader, month: MonthCut, question: Question, matcher: Matcher, span: Span, read: Read
) -> list[Part] | None:
    unit = next((entry.unit for entry in question.by if isinstance(entry, Bucket)), None)
    name = "UTC" if unit is None else question.time_zone
    zone = zone_of(name)
    if unit not in (None, *_DATES) or not span.aligned(lambda at: bucket_of(at, BucketUnit.DAY, zone) == at):
        return None
    # Only where nothing tells types apart is the set of all of them together what is asked for.
    together = matcher.trivial and Field(FieldKind.TYPE) not in question.by
    parts: list[Part] = []
    for run in month.runs:
        cells = index.days(run, name)
        if cells is None:
            return None

        def grouped(cells: Cells = cells) -> _Grouped:
            return _grouped(month, cells, question, matcher, span, unit, together=together)

        # numpy gives the interpreter lock up as well, and what is asked of whole months comes again.
        again = span.whole and (together or matcher.trivial)
        found = index.made_of(run, grouped, _bytes_of, name, question.by, together) if again else grouped()
        read.cells += len(found.events)
        parts.append(found.part(_people(files, month, index, run, name)))
    return parts


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Some cells of a run by the keys of a question: columns of equal length."""

    keys: tuple[Ints, ...]
    events: Ints
    users: Ints
    type: Ints
    begins: Ints
    ends: Ints

    def part(self, people: Callable[[int], bytes]) -> Part:
        """The same as a part; `people` has the sets of users of a type's cells."""
        return Part(self.keys, self.events, CellPeople(self.users, self.type, self.begins, self.ends, people))


def _bytes_of(found: _Grouped) -> int:
    return found.events.nbytes * (5 + len(found.keys))


def _grouped(
    month: MonthCut,
    cells: Cells,
    question: Question,
    matcher: Matcher,
    span: Span,
    unit: BucketUnit | None,
    *,
    together: bool,
) -> _Grouped:
    zone = zone_of("UTC" if unit is None else question.time_zone)
    chosen = cells[0] == ANY_TYPE if together else cells[0] != ANY_TYPE
    if not span.whole:
        first, last = (_date(at, zone) for at in (span.start_ms, span.end_ms - 1))
        chosen &= (cells[1] >= first) & (cells[1] <= last)
    if not together and not matcher.trivial:
        keys = {FieldKind.TYPE: cells[0].astype(np.uint32)}
        chosen &= matcher.mask(Columns(cells.shape[1], keys))
    types, days, *columns = cells[:, chosen]
    offsets = offsets_of(zone, month.info.month.start_ms, month.info.month.end_ms)
    names = [offsets.date_buckets(days, entry.unit) if isinstance(entry, Bucket) else types for entry in question.by]
    events, users, begins, ends = columns
    return _Grouped(tuple(names), events, users, types, begins, ends)


def _people(files: Files, month: MonthCut, index: IndexReader, run: RunInfo, zone: str) -> Callable[[int], bytes]:
    @cache
    def of_type(kind: int) -> bytes:
        with files.index_reading(month.info, month.version):
            return index.people(run, zone, kind)

    return of_type


def _date(instant_ms: int, zone: ZoneInfo) -> int:
    return (instant_ms + offset_ms(instant_ms, zone)) // DAY_MS


def _from_quarters(
    index: IndexReader, month: MonthCut, question: Question, matcher: Matcher, span: Span, read: Read
) -> list[Part] | None:
    start_ms, end_ms = month.info.month.start_ms, month.info.month.end_ms
    offsets = offsets_of(zone_of(question.time_zone), start_ms, end_ms)
    buckets = [entry for entry in question.by if isinstance(entry, Bucket)]
    if not span.aligned(lambda at: at % QUARTER_MS == 0) or (buckets and not offsets.by_quarters):
        return None
    required = matcher.required(FieldKind.TYPE)
    bucket_of_slot = {entry: offsets.of_quarters(entry.unit) for entry in buckets}
    low, high = (span.start_ms - start_ms) // QUARTER_MS, (span.end_ms - start_ms) // QUARTER_MS
    parts: list[Part] = []
    for run in month.runs:
        found = list(index.quarters(run, None if required is None else required.tolist()))
        if not found:
            continue
        types = np.concatenate([np.full(cells.shape[1], kind, np.uint32) for kind, cells in found])
        slots, sources, events = np.concatenate([cells for _kind, cells in found], axis=1)
        keys = {FieldKind.TYPE: types, FieldKind.SOURCE: sources}
        chosen = (slots >= low) & (slots < high)
        if not matcher.trivial:
            chosen &= matcher.mask(Columns(len(types), keys))
        read.cells += int(chosen.sum())
        names = tuple(
            bucket_of_slot[entry][slots[chosen]]
            if isinstance(entry, Bucket)
            else keys[entry.kind][chosen].astype(np.int64)
            for entry in question.by
        )
        parts.append(Part(names, events[chosen].astype(np.int64)))
    return parts
