"""Rows that may match, out of the events themselves: for what the index does not know (sessions, metadata)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apsw
import numpy as np
import orjson

from server.question import Field, FieldKind
from server.storage.sqlite import questions
from server.storage.sqlite.answers.cells import Span
from server.storage.sqlite.answers.cut import MonthCut
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.indexed import TAGS, several_of
from server.storage.sqlite.answers.selection import Coded, Columns, Matcher, Several
from server.storage.sqlite.index.rows import Positions
from server.storage.sqlite.schema import events_table

WINDOW_POSITIONS = 200_000
"""A statement over so many rows takes some tenths of a second, and its columns some ten megabytes."""
KEYS_MAX = 500
POSITIONS_MAX = 20_000
"""So many rows are fetched one by one; more are scanned for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read of each event, besides its time, type, user and source."""

    texts: tuple[Field, ...]
    """Sessions and metadata keys."""
    tags: bool
    numbers: tuple[str, ...]
    """Metadata keys that are read as numbers."""


def scanned_columns(
    files: Files,
    month: MonthCut,
    head: int,
    matcher: Matcher,
    span: Span,
    wanted: Wanted,
    *,
    among: Positions | None = None,
    after: int = 0,
) -> Iterator[Columns]:
    """The events of a month behind a position and up to the head, in windows; if given, only `among` some positions."""
    columns, bindings = _select(wanted)
    table = events_table(month.info.month)
    conditions, bound = _conditions(matcher, span)
    for where, values in _windows(files, month, after, head, among):
        rows = list(
            files.rows(
                month.info,
                f"SELECT {columns} FROM {table} WHERE {' AND '.join([where, *conditions])}",
                [*bindings, *values, *bound],
            )
        )
        if rows:
            yield _columns(rows, wanted)


def _select(wanted: Wanted) -> tuple[str, questions.Bindings]:
    parts, bindings = ["timestamp_ms", "type", "user", "source"], []
    for entry in wanted.texts:
        if entry.kind is FieldKind.SESSION:
            parts.append("session_id")
        else:
            value, paths = questions.metadata_value(entry.key)
            parts.append(f"CASE WHEN metadata <> '' THEN {value} END")
            bindings += paths
    for key in wanted.numbers:
        number, paths = questions.metadata_number(key)
        parts.append(number)
        bindings += paths
    if wanted.tags:
        parts += ["position", "tags"]
    return ", ".join(parts), bindings


def _conditions(matcher: Matcher, span: Span) -> tuple[list[str], questions.Bindings]:
    conditions: list[str] = []
    bindings: questions.Bindings = []
    if not span.from_begin:
        conditions.append("timestamp_ms >= ?")
        bindings.append(span.start_ms)
    if not span.to_end:
        conditions.append("timestamp_ms < ?")
        bindings.append(span.end_ms)
    for kind, column in ((FieldKind.TYPE, "type"), (FieldKind.USER, "user"), (FieldKind.SOURCE, "source")):
        keys = matcher.required(kind)
        if keys is not None and len(keys) <= KEYS_MAX:
            conditions.append(f"{column} IN ({','.join('?' * len(keys))})")
            bindings += keys.tolist()
    return conditions, bindings


def _windows(
    files: Files, month: MonthCut, after: int, head: int, among: Positions | None
) -> Iterator[tuple[str, list[apsw.SQLiteValue]]]:
    if among is not None:
        for start in range(0, len(among), KEYS_MAX):
            part = among[start : start + KEYS_MAX].tolist()
            yield f"position IN ({','.join('?' * len(part))})", part
        return
    ((first, last),) = files.rows(month.info, *questions.extent(month.info.month))
    if first is None:
        return
    for low in range(max(first, after + 1), min(last, head) + 1, WINDOW_POSITIONS):
        yield "position >= ? AND position <= ?", [low, min(low + WINDOW_POSITIONS - 1, last, head)]


def _columns(rows: Sequence[Sequence[object]], wanted: Wanted) -> Columns:
    table = list(zip(*rows, strict=True))
    times, types, users, sources = (np.array(column, np.int64) for column in table[:4])
    rest = iter(table[4:])
    texts = {entry: _coded(next(rest)) for entry in wanted.texts}
    numbers = {}
    for key in wanted.numbers:
        column = next(rest)
        # What is beyond a double comes as infinite.
        values = np.array([np.nan if value is None else value for value in column], np.float64)
        present = np.flatnonzero(np.isfinite(values))
        numbers[key] = (present, values[present])
    several: dict[Field, Several] = {}
    if wanted.tags:
        several[TAGS] = _tags(next(rest), next(rest))
    return Columns(
        len(rows),
        {
            FieldKind.TYPE: types.astype(np.uint32),
            FieldKind.USER: users.astype(np.uint32),
            FieldKind.SOURCE: sources.astype(np.uint32),
        },
        times,
        texts,
        several,
        numbers,
    )


def _coded(column: Sequence[object]) -> Coded:
    codes: dict[object, int] = {}
    placed = [codes.setdefault(value, len(codes)) for value in column]
    return Coded(np.array(placed, np.int64), [None if value is None else str(value) for value in codes])


def _tags(positions: Sequence[object], texts: Sequence[object]) -> Several:
    values: dict[str, int] = {}
    owners, codes = [], []
    for position, text in zip(positions, texts, strict=True):
        if text:
            for tag in dict.fromkeys(orjson.loads(str(text))):
                owners.append(position)
                codes.append(values.setdefault(tag, len(values)))
    return several_of(
        np.array(positions, np.int64), np.array(owners, np.int64), np.array(codes, np.int64), list(values)
    )
