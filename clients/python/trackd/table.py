"""Answers to aggregate questions, as columns with names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

from trackd.errors import Internal
from trackd.v1.query_pb2 import AggregateRequest, AggregateResponse, Column, ReadReport

Value: TypeAlias = int | float | str | None
"""Instants (milliseconds since the epoch) and counts are int, sums and the like float, None is absent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to an aggregate question. `len(table)` is its number of rows, `table["events"]` a column.

    Columns are named as they were asked for; those of the period before have "previous:" in front.
    """

    columns: Mapping[str, Sequence[Value]]
    """Dimensions, metrics, metrics of the period before, each as asked for."""
    totals: Mapping[str, Value]
    """The metrics over all groups together; empty if not asked for."""
    more: bool
    """The limit left rows out."""
    warnings: Sequence[str]
    """What you should know about this answer, for people."""
    as_of_position: int
    """The head that the answer is cut at."""
    question: AggregateRequest
    """The question as it was understood, every default written out."""
    read: ReadReport
    """What answering took."""
    _rows: int

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, name: str) -> Sequence[Value]:
        return self.columns[name]

    def __iter__(self) -> Iterator[dict[str, Value]]:
        """The rows, as `rows` gives them."""
        return self.rows()

    def rows(self) -> Iterator[dict[str, Value]]:
        """Each row as a dictionary by column name."""
        names = list(self.columns)
        return (dict(zip(names, row, strict=True)) for row in self.tuples())

    def tuples(self) -> Iterator[tuple[Value, ...]]:
        """Each row as a tuple in the order of the columns."""
        return zip(*self.columns.values(), strict=True)

    def moments(self) -> list[datetime]:
        """The time column as the local times of the question's zone. KeyError if time is no dimension."""
        name = next((name for name in self.columns if name.startswith("time:")), "time")
        zone = ZoneInfo(self.question.time_zone)
        # Not fromtimestamp: with floats, milliseconds would not be exact.
        return [
            (_EPOCH + timedelta(milliseconds=instant)).astimezone(zone)
            for instant in self.columns[name]
            if isinstance(instant, int)
        ]


def table_of(answer: AggregateResponse) -> Table:
    """An answer of the wire as a table."""
    rows = answer.rows
    return Table(
        columns={column.name: _values(column, rows) for column in answer.columns},
        totals={column.name: _values(column, 1)[0] for column in answer.totals},
        more=answer.more,
        warnings=list(answer.warnings),
        as_of_position=answer.as_of_position,
        question=answer.question,
        read=answer.read,
        _rows=rows,
    )


def _values(column: Column, rows: int) -> list[Value]:
    values: list[Value] = list(column.integers or column.reals or column.texts)
    if len(values) != rows:
        raise Internal(f"the column {column.name!r} has {len(values)} values for {rows} rows")
    for row in column.absent_rows:
        values[row] = None
    return values
