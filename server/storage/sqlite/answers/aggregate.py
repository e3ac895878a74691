"""Aggregate questions: planned per month, from the cheapest place that can tell exactly, and put together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from retention.month import Month
from server.errors import Exhausted, Unavailable
from server.model import MonthInfo
from server.question import (
    Answer,
    Bucket,
    Field,
    FieldKind,
    MetricKind,
    Question,
    Read,
    Table,
)
from server.storage.frozen_grain import Share
from server.storage.sqlite.answers.cells import Span, from_cells
from server.storage.sqlite.answers.cut import Cut, MonthCut, take_cut
from server.storage.sqlite.answers.files import Files, IndexUnusable
from server.storage.sqlite.answers.frozen import FrozenMonths, NumbersReplaced, of_rows, told
from server.storage.sqlite.answers.grouping import Floats, Ints, Part, combine, group_rows
from server.storage.sqlite.answers.indexed import TAGS, Needs, columns_of, covers, index_columns, rows_to_read
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.scanned import POSITIONS_MAX, Wanted, scanned_columns
from server.storage.sqlite.answers.selection import KEYED, Columns, Matcher, fields_of
from server.storage.sqlite.answers.table import Texts, table_of
from server.storage.sqlite.answers.truth_rows import gap_rows
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.rows import Keys, Positions, distinct
from server.storage.sqlite.zone_offsets import offsets_of
from server.time_buckets import DAY_MS, zone_of

UNPINNED = 2
"""So often runs may be replaced in the middle of a question before their indexes are pinned."""
ATTEMPTS = UNPINNED + 3
"""An index that turns out to be damaged is left out the next time; two at once are bad luck, three a pattern."""
DECISIONS = 100
DECIDE_AGAIN_S = 0.01
"""The catalog's commit and what this process knows of it are less than that apart."""

_Codes: TypeAlias = "dict[Field, dict[str | None, int]]"
"""The texts of a dimension, numbered as they are met."""


class Aggregates:
    """Answers aggregate questions for one reader."""

    def __init__(
        self, files: Files, derived: Derived, names: Names, frozen: FrozenMonths, *, rows_max: int, groups_max: int
    ) -> None:
        self._frozen = frozen
        self._files = files
        self._derived = derived
        self._names = names
        self._rows_max = rows_max
        self._groups_max = groups_max

    def answer(
        self, questions: Sequence[Question], months: Sequence[MonthInfo], dropped: Sequence[MonthInfo] = ()
    ) -> Answer:
        """All tables at one cut; `months` are those that any question touches, `dropped` those that have no rows."""
        for _ in range(DECISIONS):
            # What is lost is looked up after the months: so whatever they have not any more is known to be lost.
            shares = [
                self._frozen.shares(question, [info for info in (*months, *dropped) if _touches(question, info)])
                for question in questions
            ]
            try:
                return self._decided(questions, shares, months)
            except NumbersReplaced:
                time.sleep(DECIDE_AGAIN_S)
        raise Unavailable("INTERRUPTED", "frozen numbers were being replaced all the time", hint="ask again")

    def _decided(
        self, questions: Sequence[Question], shares: Sequence[Mapping[Month, Share]], months: Sequence[MonthInfo]
    ) -> Answer:
        for attempt in range(ATTEMPTS):
            try:
                cut = take_cut(self._files, self._derived, months, pin=attempt >= UNPINNED)
                return self._answer(questions, shares, cut)
            except IndexUnusable:
                continue
        return self._answer(questions, shares, take_cut(self._files, self._derived, months))

    def _answer(self, questions: Sequence[Question], shares: Sequence[Mapping[Month, Share]], cut: Cut) -> Answer:
        looked = Looked(Read(months=len(cut.months)), self._rows_max)
        tables = [self._table(question, lost, cut, looked) for question, lost in zip(questions, shares, strict=True)]
        return Answer(tuple(tables), cut.head, looked.read)

    def _table(self, question: Question, shares: Mapping[Month, Share], cut: Cut, looked: Looked) -> Table:
        one = _OneQuestion(self, question, cut, looked)
        if not shares:
            return one.table(one.parts(one.months))
        parts = one.parts([month for month in one.months if month.info.month not in shares])
        refusal = self._frozen.refusal(shares)
        for lost in shares.values():
            parts += self._frozen.parts(question, lost, looked.read, refusal)
            mine = [month for month in one.months if month.info.month == lost.month]
            for narrowed in of_rows(question, lost) if mine else ():
                parts += told(narrowed, _OneQuestion(self, narrowed, cut, looked, one.texts).parts(mine))
        return one.table(parts)

    def limit_groups(self, groups: int) -> None:
        """Raises Exhausted(QUESTION_TOO_LARGE) for too many groups."""
        if groups > self._groups_max:
            raise Exhausted(
                "QUESTION_TOO_LARGE",
                f"the question makes {groups:,} groups; at most {self._groups_max:,} are allowed",
                hint="use fewer or coarser dimensions or a filter, or raise query.groups_max",
            )

    @property
    def files(self) -> Files:
        """Where rows come from."""
        return self._files

    @property
    def names(self) -> Names:
        """What keys mean."""
        return self._names


class Looked:
    """What an answer was made of, and how many rows may still be looked at."""

    def __init__(self, read: Read, rows_max: int) -> None:
        self.read = read
        self._rows_max = rows_max
        self._left = rows_max

    def take(self, rows: int) -> None:
        """So many rows are about to be looked at. Raises Exhausted(QUESTION_TOO_LARGE) if they are too many."""
        self._left -= rows
        if self._left < 0:
            raise Exhausted(
                "QUESTION_TOO_LARGE",
                f"the question would look at more than {self._rows_max:,} rows",
                hint="ask for a shorter time range or fewer types, or raise query.rows_max",
            )


class _OneQuestion:
    """One question on its way through the months of a cut."""

    def __init__(
        self, engine: Aggregates, question: Question, cut: Cut, looked: Looked, codes: _Codes | None = None
    ) -> None:
        """`codes`: those of another one with the same dimensions, so that parts of both fit together."""
        self._engine = engine
        self._looked = looked
        self._read = looked.read
        self._question = question
        self._cut = cut
        self.months = [month for month in cut.months if _touches(question, month.info)]
        self._infos = [month.info for month in self.months]
        self._matcher = Matcher(question.where, engine.names, self._infos)
        self._zone = zone_of(question.time_zone)
        self._people = any(metric.kind is MetricKind.USERS for metric in question.metrics)
        by_fields = {entry for entry in question.by if isinstance(entry, Field)}
        fields = fields_of(question.where) | by_fields
        self.texts: _Codes = {entry: {} for entry in by_fields if entry.kind not in KEYED} if codes is None else codes
        numbers = tuple(dict.fromkeys(metric.key for metric in question.metrics if metric.kind.of_numbers))
        to_read = tuple(entry for entry in fields if entry.kind in (FieldKind.SESSION, FieldKind.METADATA))
        self._needs = Needs(
            frozenset(entry.kind for entry in fields) | ({FieldKind.USER} if self._people else set()),
            any(isinstance(entry, Bucket) for entry in question.by),
            position=False,
        )
        self._wanted = Wanted(to_read, TAGS in fields, numbers) if to_read or numbers else None
        metadata = tuple(entry for entry in to_read if entry.kind is FieldKind.METADATA)
        self._labelled = replace(self._needs, dimensions=metadata) if metadata == to_read and not numbers else None
        """What to read of months whose index knows all metadata keys of the question."""

    def parts(self, months: Sequence[MonthCut]) -> list[Part]:
        """What the rows of these months have of the answer."""
        parts: list[Part] = []
        for month in months:
            parts += self._of_month(month)
        if self._wanted is None:
            parts += self._of_tail(months)
        return parts

    def table(self, parts: Sequence[Part]) -> Table:
        """The answer, put together."""
        combined = combine(parts, len(self._question.by), self._question.metrics)
        self._engine.limit_groups(len(combined))
        texts: dict[Field, Texts] = {entry: list(codes) for entry, codes in self.texts.items()}
        return table_of(self._question, combined, self._engine.names, self._infos, texts)

    # Places

    def _of_month(self, month: MonthCut) -> Iterator[Part]:
        """What the index and the truth have of a month; the tail has all months together."""
        bounds = month.info.month
        span = Span.of(self._question, bounds.start_ms, bounds.end_ms)
        if self._wanted is not None:
            yield from self._scanned(month, span, self._wanted)
            return
        yield from self._indexed(month, span, self._needs)
        for rows, tags in gap_rows(self._engine.files, month):
            self._read.rows += len(rows)
            self._looked.take(len(rows))
            yield self._part(self._within(columns_of(rows, tags)))

    def _scanned(self, month: MonthCut, span: Span, wanted: Wanted) -> Iterator[Part]:
        """What the index knows by labels, and the rest from the events themselves."""
        among, after = None, 0
        keys = [entry.key for entry in wanted.texts]
        if self._labelled is not None and self._covered(month, keys):
            yield from self._indexed(month, span, self._labelled)
            after = month.watermark
        else:
            among = self._narrow(month, span)
        known = sum(run.rows for run in month.runs if run.last > after) if among is None else len(among)
        self._looked.take(known)
        for columns in scanned_columns(
            self._engine.files, month, self._cut.head, self._matcher, span, wanted, among=among, after=after
        ):
            self._read.rows += columns.count
            if not known:
                self._looked.take(columns.count)
            yield self._part(columns)

    def _covered(self, month: MonthCut, keys: Sequence[str]) -> bool:
        if month.index is None:
            return False
        with self._engine.files.index_reading(month.info, month.version):
            return covers(month, month.index, self._matcher, keys)

    def _indexed(self, month: MonthCut, span: Span, needs: Needs) -> list[Part]:
        if month.index is None:
            return []
        with self._engine.files.index_reading(month.info, month.version):
            cells = from_cells(self._engine.files, month, self._question, self._matcher, self._read)
            if cells is not None:
                return cells
            parts = []
            self._looked.take(rows_to_read(month, self._matcher, span, needs))
            for columns, _positions in index_columns(self._engine.files, month, self._matcher, span, needs):
                self._read.indexed += columns.count
                parts.append(self._part(columns))
            return parts

    def _of_tail(self, months: Sequence[MonthCut]) -> Iterator[Part]:
        view = self._cut.tail
        if not len(view):
            return
        rows = view.rows({month.info.month: month.tail_from for month in months})
        removed = [month.removed for month in months if len(month.removed)]
        if removed:
            rows = rows.take(~np.isin(rows.position, np.concatenate(removed)))
        if len(rows):
            self._read.tail += len(rows)
            yield self._part(self._within(columns_of(rows, list(view.tags(rows.position)) if self._needs.tags else ())))

    def _narrow(self, month: MonthCut, span: Span) -> Positions | None:
        """The positions of a few users' events, so that not all of the month has to be read; None if all has."""
        users = self._matcher.required(FieldKind.USER)
        if users is None or month.index is None:
            return None
        needs = Needs(frozenset({FieldKind.USER}), time=False, position=True)
        found: list[Positions] = []
        with self._engine.files.index_reading(month.info, month.version):
            for columns, positions in index_columns(self._engine.files, month, self._matcher, span, needs):
                mine = np.isin(columns.keys[FieldKind.USER], users)
                if positions is not None:
                    found.append(positions[mine])
                if sum(map(len, found)) > POSITIONS_MAX:
                    return None
        for rows, _tags in gap_rows(self._engine.files, month):
            found.append(rows.position[np.isin(rows.user, users)])
        tail = self._cut.tail.rows({month.info.month: month.tail_from})
        found.append(tail.position[np.isin(tail.user, users)])
        among = distinct(np.concatenate(found))
        return None if len(among) > POSITIONS_MAX else among

    # Rows to groups

    def _within(self, columns: Columns) -> Columns:
        """Only the rows in the time range."""
        times = columns.timestamp_ms
        if times is None:
            return columns
        kept = np.ones(columns.count, np.bool_)
        if self._question.start_ms is not None:
            kept &= times >= self._question.start_ms
        if self._question.end_ms is not None:
            kept &= times < self._question.end_ms
        return columns if kept.all() else columns.take(kept)

    def _part(self, columns: Columns) -> Part:
        if not self._matcher.trivial:
            mask = self._matcher.mask(columns)
            if not mask.all():
                columns = columns.take(mask)
        chosen: Ints | None = None
        if TAGS in self._question.by:
            chosen, codes = self._tag_codes(columns)
        keys: list[Ints | Keys] = []
        for entry in self._question.by:
            column: Ints | Keys
            if isinstance(entry, Bucket):
                column = self._buckets(columns.timestamp_ms, entry)
            elif entry.kind in KEYED:
                column = columns.keys[entry.kind]
            elif entry.kind is FieldKind.TAG:
                keys.append(codes)
                continue
            else:
                column = self._text_codes(entry, columns)
            keys.append(column if chosen is None else column[chosen])
        users = columns.keys[FieldKind.USER] if self._people else None
        numbers = columns.numbers
        if chosen is not None:
            users = None if users is None else users[chosen]
            numbers = {key: _spread(held, chosen, columns.count) for key, held in numbers.items()}
        return group_rows(keys, columns.count if chosen is None else len(chosen), users, numbers)

    def _tag_codes(self, columns: Columns) -> tuple[Ints, Ints]:
        """Each row once for each of its tags, or once without: which row, and the code of the tag."""
        several = columns.several[TAGS]
        known = self.texts[TAGS]
        mapping = np.array([known.setdefault(value, len(known)) for value in several.values], np.int64)
        untagged = np.ones(columns.count, np.bool_)
        untagged[several.row] = False
        without = np.flatnonzero(untagged)
        none = known.setdefault(None, len(known)) if len(without) else 0
        tagged = mapping[several.codes] if len(several.row) else np.zeros(0, np.int64)
        return np.concatenate((several.row, without)), np.concatenate((tagged, np.full(len(without), none, np.int64)))

    def _text_codes(self, entry: Field, columns: Columns) -> Ints:
        coded = columns.texts[entry]
        known = self.texts[entry]
        mapping = np.array([known.setdefault(value, len(known)) for value in coded.values], np.int64)
        return mapping[coded.codes] if columns.count else np.zeros(0, np.int64)

    def _buckets(self, times: Ints | None, entry: Bucket) -> Ints:
        if times is None or not len(times):
            return np.zeros(0, np.int64)
        low = int(times.min()) // DAY_MS * DAY_MS
        high = int(times.max()) // DAY_MS * DAY_MS + DAY_MS
        return offsets_of(self._zone, low, high).buckets(times, entry.unit)


def _spread(held: tuple[Ints, Floats], chosen: Ints, count: int) -> tuple[Ints, Floats]:
    """Numbers of rows, for rows that come several times."""
    rows, values = held
    places = np.full(count, -1, np.int64)
    places[rows] = np.arange(len(rows))
    found = places[chosen]
    return np.flatnonzero(found >= 0), values[found[found >= 0]]


def _touches(question: Question, info: MonthInfo) -> bool:
    return (question.start_ms is None or question.start_ms < info.month.end_ms) and (
        question.end_ms is None or question.end_ms > info.month.start_ms
    )
