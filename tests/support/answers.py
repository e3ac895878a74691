"""Asking aggregate questions in few words, and looking at the tables that come back."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import TypeAlias

from server.question import Field, FieldKind, GroupBy, Metric, MetricKind, Question, Table
from server.storage.contract import Reader

Row: TypeAlias = tuple[int | float | str | None, ...]

EVENTS = Metric(MetricKind.EVENTS)
USERS = Metric(MetricKind.USERS)

TYPE = Field(FieldKind.TYPE)
SOURCE = Field(FieldKind.SOURCE)
USER = Field(FieldKind.USER)
SESSION = Field(FieldKind.SESSION)
TAG = Field(FieldKind.TAG)


def metadata(key: str) -> Field:
    """A top-level key of the metadata."""
    return Field(FieldKind.METADATA, key)


def rows(table: Table) -> list[Row]:
    """The table row by row: keys, then values. Columns of unequal length fail the test."""
    columns = [*table.keys, *table.values]
    assert {len(column) for column in columns} <= {table.rows}
    return [tuple(column[row] for column in columns) for row in range(table.rows)]


def ask(reader: Reader, question: Question) -> list[Row]:
    """The rows of one question alone."""
    (table,) = reader.aggregate([question]).tables
    return rows(table)


def counted(reader: Reader, *by: GroupBy, **rest: object) -> list[Row]:
    """Events by groups; `rest` are other parts of the question."""
    return ask(reader, Question((EVENTS,), by, **rest))  # type: ignore[arg-type]


def alike(one: Sequence[Row], other: Sequence[Row]) -> bool:
    """Whether two tables have the same rows in the same order: all but floats exactly, floats but for rounding."""
    return len(one) == len(other) and all(
        len(left) == len(right) and all(map(_same, left, right)) for left, right in zip(one, other, strict=True)
    )


def instant(text: str) -> int:
    """The milliseconds of an ISO 8601 instant."""
    moment = dt.datetime.fromisoformat(text)
    assert moment.tzinfo is not None, "an instant needs an offset"
    return round(moment.timestamp() * 1000)


def _same(one: float | str | None, other: float | str | None) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return type(one) is type(other) and one == other
