"""Tables in which every time bucket has its row, whether there are events in it or not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby, repeat
from typing import Any

from server.errors import Exhausted
from server.question import Ranking, Table

Key = int | str | None


def with_all_buckets(
    table: Table, time_at: int, buckets: Sequence[int], *, empties: Sequence[int | None], rows_max: int
) -> Table:
    """A table with a row for every bucket and every combination of the other dimensions that occurs, ordered by key.

    `time_at` is the place of the time dimension; `empties` has for each metric what it is where nothing happened.
    Exhausted(ANSWER_TOO_LARGE) if that would be more than `rows_max` rows.
    """
    others = [column for place, column in enumerate(table.keys) if place != time_at]
    combinations = sorted(set(zip(*others, strict=True)), key=_absent_last) if others else [()]
    rows = len(combinations) * len(buckets)
    if table.more or rows > rows_max:
        raise too_many_rows(rows_max)
    if rows == table.rows:
        return table
    keys: list[list[Key]] = [[] for _ in table.keys]
    # Where a combination has its first row, and how many rows further the next bucket is.
    places: dict[tuple[Key, ...], tuple[int, int]] = {}
    for _, group in groupby(combinations, key=lambda combination: combination[:time_at]):
        together = list(group)
        begin = len(keys[time_at])
        places.update((combination, (begin + n, len(together))) for n, combination in enumerate(together))
        columns = list(zip(*together, strict=True))
        columns.insert(time_at, ())
        for column, values in zip(keys, columns, strict=True):
            column.extend(values * len(buckets))
        keys[time_at] += [bucket for bucket in buckets for _ in together]
    number: dict[Key, int] = {bucket: n for n, bucket in enumerate(buckets)}
    found = map(places.__getitem__, zip(*others, strict=True)) if others else repeat((0, 1), table.rows)
    at = [begin + number[bucket] * step for (begin, step), bucket in zip(found, table.keys[time_at], strict=True)]
    return Table(tuple(keys), tuple(map(partial(_spread, at, rows), table.values, empties)), rows)


def _spread(
    at: Sequence[int], rows: int, values: Sequence[int | float | None], empty: int | None
) -> Sequence[int | float | None]:
    """A column of so many rows with these values at these places."""
    column: list[int | float | None] = [empty] * rows
    for place, value in zip(at, values, strict=True):
        column[place] = value
    return column


def _absent_last(key: tuple[Key, ...]) -> tuple[tuple[bool, Key], ...]:
    return tuple((value is None, "" if value is None else value) for value in key)


def reordered(table: Table, order: Sequence[Ranking], limit: int) -> Table:
    """The first `limit` rows in this order of a table that is ordered by key. Absent values come last."""
    columns: list[Sequence[Any]] = [*table.keys, *table.values]
    rows: Sequence[int] = range(table.rows)
    for ranking in reversed(order):
        column = columns[ranking.column]
        present = [row for row in rows if column[row] is not None]
        absent = [row for row in rows if column[row] is None]
        # Sorting is stable, also backwards, so what was ordered before decides between equals.
        present.sort(key=column.__getitem__, reverse=ranking.descending)
        rows = [*present, *absent]
    rows = rows[:limit]
    return Table(
        tuple([column[row] for row in rows] for column in table.keys),
        tuple([column[row] for row in rows] for column in table.values),
        len(rows),
        more=table.rows > limit,
    )


def too_many_rows(rows_max: int) -> Exhausted:
    """What is said to a table that would not fit into an answer."""
    return Exhausted(
        "ANSWER_TOO_LARGE",
        f"with empty buckets this would be more than the {rows_max:,} rows that an answer may have",
        hint="ask for a shorter time, wider buckets or fewer groups, or raise query.answer_rows_max",
        field="include_empty_buckets",
    )
