"""Answers to aggregate questions: asks the storage as planned and makes one table of what it says.

Works on columns, and leaves out every step that was not asked for: a daily series by type over a year has 15,000 rows
and the call around it milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from server.query.empty_buckets import reordered, with_all_buckets
from server.query.periods import CALENDAR_END_MS, CALENDAR_START_MS, same_rows
from server.query.question_plan import Asked, Plan, TimeDimension
from server.question import (
    AllOf,
    AnyOf,
    Bucket,
    Field,
    FieldKind,
    Metric,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    Read,
    Table,
)
from server.storage.contract import Reader
from server.storage.frozen_grain import spans
from server.time_buckets import bucket_of, buckets

ASKED_BY_KEYS_MAX = 3
"""How often the period before is asked by the keys of a period that changes meanwhile."""
PREVIOUS = "previous:"
"""Stands before the names of columns about the period before."""
MANY_MONTHS = 24
"""From so many on, an answer over all of them says how to ask for fewer."""


class ColumnKind(Enum):
    """What the values of a column are."""

    INTEGER = auto()
    REAL = auto()
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer; values may be absent (None)."""

    name: str
    kind: ColumnKind
    values: Sequence[int | float | str | None]


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The answer to an aggregate question."""

    asked: Asked
    """As it was understood: every default is written out."""
    columns: tuple[Column, ...]
    rows: int
    totals: tuple[Column, ...]
    """Of one value each; none if not asked for."""
    more: bool
    warnings: tuple[str, ...]
    as_of: int
    read: Read


def answer(reader: Reader, plan: Plan) -> Aggregated:
    """The answer, all of it cut at one position. Raises what the reader raises, and Exhausted(ANSWER_TOO_LARGE)."""
    tables, as_of, read = _ask(reader, plan)
    table, metrics = tables["current"], plan.question.metrics
    if plan.asked.empty_buckets and plan.time:
        table = _with_empty_buckets(table, plan.time, plan)
    columns = [
        Column(str(dimension), ColumnKind.INTEGER if isinstance(dimension, Bucket) else ColumnKind.TEXT, keys)
        for dimension, keys in zip(plan.question.by, table.keys, strict=True)
    ]
    columns += _metric_columns(metrics, table.values)
    # Without dimensions the only row is the total.
    totals = _metric_columns(metrics, tables.get("totals", table).values) if plan.asked.totals else []
    warnings = list(_warnings(plan, table, read))
    if plan.previous:
        pairs = _pairs(plan, plan.previous)
        previous = _previous_values(table, tables["previous"], plan, pairs)
        columns += _metric_columns(metrics, previous, PREVIOUS)
        if plan.asked.totals:
            earlier = tables["previous totals"].values if plan.question.by else previous
            totals += _metric_columns(metrics, earlier, PREVIOUS)
        if pairs.alone:
            warnings.append(
                f"The period before has fewer buckets: the last {len(pairs.alone)} are compared with nothing."
            )
    return Aggregated(plan.asked, tuple(columns), table.rows, tuple(totals), table.more, tuple(warnings), as_of, read)


def _metric_columns(
    metrics: Sequence[Metric], values: Sequence[Sequence[int | float | None]], prefix: str = ""
) -> list[Column]:
    return [
        Column(f"{prefix}{metric}", ColumnKind.REAL if metric.kind.of_numbers else ColumnKind.INTEGER, column)
        for metric, column in zip(metrics, values, strict=True)
    ]


# What is asked


_Tables = Mapping[str, Table]


def _ask(reader: Reader, plan: Plan) -> tuple[_Tables, int, Read]:
    """The tables "current", "totals", "previous" and "previous totals", as far as they are needed."""
    questions = {"current": plan.question}
    # Without dimensions the only row is the total.
    if plan.asked.totals and plan.question.by:
        questions["totals"] = _total(plan.question)
        if plan.previous:
            questions["previous totals"] = _total(plan.previous)
    if plan.previous is None:
        return _ask_at_once(reader, questions)
    if not plan.previous_by_keys:
        return _ask_at_once(reader, {**questions, "previous": plan.previous})
    return _ask_by_keys(reader, questions, plan.previous)


def _ask_at_once(reader: Reader, questions: Mapping[str, Question]) -> tuple[_Tables, int, Read]:
    answered = reader.aggregate(list(questions.values()))
    return dict(zip(questions, answered.tables, strict=True)), answered.as_of, answered.read


def _ask_by_keys(reader: Reader, questions: Mapping[str, Question], previous: Question) -> tuple[_Tables, int, Read]:
    """Asks for the period before by the keys of this one: of 200,000 users ten may be wanted.

    That takes a second question, and everything has to be of one moment. So if events came in between, all is asked
    again at once; that is the answer unless the new events brought other keys.
    """
    tables, as_of, read = _ask_at_once(reader, questions)
    if not tables["current"].rows:
        return {**tables, "previous": tables["current"]}, as_of, read
    for _ in range(ASKED_BY_KEYS_MAX):
        keys = _keys(tables["current"], previous)
        narrowed = replace(previous, where=AllOf((previous.where, *_among(keys))))
        behind, behind_as_of, more = _ask_at_once(reader, {"previous": narrowed})
        read = _sum(read, more)
        if behind_as_of == as_of:
            return {**tables, **behind}, as_of, read
        tables, as_of, more = _ask_at_once(reader, {**questions, "previous": narrowed})
        read = _sum(read, more)
        if all(new <= keys[field] for field, new in _keys(tables["current"], previous).items()):
            return tables, as_of, read
    tables, as_of, more = _ask_at_once(reader, {**questions, "previous": previous})
    return tables, as_of, _sum(read, more)


def _total(question: Question) -> Question:
    return replace(question, by=(), order=(), limit=0)


def _keys(table: Table, question: Question) -> dict[Field, set[int | str | None]]:
    """The values of each dimension that is not time."""
    named = zip(question.by, table.keys, strict=True)
    return {dimension: set(column) for dimension, column in named if isinstance(dimension, Field)}


def _among(keys: Mapping[Field, set[int | str | None]]) -> Iterator[Predicate]:
    """That every dimension has one of its values."""
    for field, values in keys.items():
        present = OneOf(field, tuple(sorted(value for value in values if isinstance(value, str))))
        yield AnyOf((present, Not(Present(field)))) if None in values else present


def _sum(one: Read, other: Read) -> Read:
    return Read(
        one.months + other.months,
        one.cells + other.cells,
        one.indexed + other.indexed,
        one.tail + other.tail,
        one.rows + other.rows,
        one.frozen + other.frozen,
        one.frozen_months | other.frozen_months,
    )


# What is made of it


def _with_empty_buckets(table: Table, time: TimeDimension, plan: Plan) -> Table:
    filled = with_all_buckets(
        table,
        time.place,
        list(buckets(*plan.span_ms, time.unit, plan.zone)),
        empties=[None if metric.kind.of_numbers else 0 for metric in plan.question.metrics],
        rows_max=plan.question.limit,
    )
    return reordered(filled, plan.order, plan.asked.limit)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Which buckets of two periods have the same number."""

    partners: Mapping[int, int]
    """Bucket of the period before -> bucket of this one."""
    alone: frozenset[int]
    """Buckets of this period without one."""


def _pairs(plan: Plan, previous: Question) -> _Pairs:
    if plan.time is None or previous.start_ms is None or previous.end_ms is None:
        return _Pairs({}, frozenset())
    earlier = list(buckets(previous.start_ms, previous.end_ms, plan.time.unit, plan.zone))
    now = list(buckets(*plan.span_ms, plan.time.unit, plan.zone))
    return _Pairs(dict(zip(earlier, now, strict=False)), frozenset(now[len(earlier) :]))


def _previous_values(table: Table, previous: Table, plan: Plan, pairs: _Pairs) -> list[Sequence[int | float | None]]:
    """The metrics of the period before, for the rows of this one.

    Where nothing happened then, counts are 0. They are absent in buckets that the period before did not have.
    """
    time_at = plan.time.place if plan.time else None
    places = same_rows(table.keys, table.rows, previous, time_at=time_at, partners=pairs.partners)
    counts: list[int | None] = [0] * table.rows
    if pairs.alone and time_at is not None:
        counts = [None if bucket in pairs.alone else 0 for bucket in table.keys[time_at]]
    numbers = [None] * table.rows
    return [
        [
            nothing if place is None else column[place]
            for place, nothing in zip(places, numbers if metric.kind.of_numbers else counts, strict=True)
        ]
        for metric, column in zip(plan.question.metrics, previous.values, strict=True)
    ]


def _warnings(plan: Plan, table: Table, read: Read) -> Iterator[str]:
    """What the asker should know."""
    asked = plan.asked
    if table.more and not plan.limited:
        yield (
            f"There are more rows: an answer has at most {asked.limit:,}. Ask for a shorter time, wider buckets or "
            "fewer groups, or name a limit and an order."
        )
    if asked.start_ms is None and asked.end_ms is None and read.months >= MANY_MONTHS:
        yield f"All {read.months} months were read: a range with a begin takes less."
    if read.frozen_months:
        yield (
            f"{spans(sorted(read.frozen_months))}: numbers that were frozen before retention changed rows or dropped "
            "them are in this answer."
        )
    if plan.time:
        for instant_ms, which in ((asked.start_ms, "first"), (asked.end_ms, "last")):
            if instant_ms is None or not CALENDAR_START_MS <= instant_ms <= CALENDAR_END_MS:
                continue
            if bucket_of(instant_ms, plan.time.unit, plan.zone) != instant_ms:
                yield f"The {which} {plan.time.unit.value} is only partly inside of the range."
    if asked.totals and Field(FieldKind.TAG) in plan.question.by:
        yield "Events with several tags are in several groups: the groups add up to more than the totals."
