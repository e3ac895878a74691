"""Aggregate questions and answers between the wire and server.query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trackd.v1 import query_pb2

from server.errors import Exhausted, Invalid
from server.query.aggregate import Aggregated, Column, ColumnKind
from server.query.filter_draft import FilterDraft, Operator
from server.query.question_plan import Asked
from server.question import EVERYTHING, AllOf, AnyOf, Not, Predicate

ANSWER_BYTES_MAX = 3_670_016
"""3.5 MiB: Go, Java and Node take messages of 4 MiB by default."""

_OPERATORS = {
    query_pb2.OPERATOR_IS: Operator.IS,
    query_pb2.OPERATOR_STARTS_WITH: Operator.STARTS_WITH,
    query_pb2.OPERATOR_PRESENT: Operator.PRESENT,
}
_FIELDS = {ColumnKind.INTEGER: "integers", ColumnKind.REAL: "reals", ColumnKind.TEXT: "texts"}
_ZEROS: dict[ColumnKind, int | float | str] = {ColumnKind.INTEGER: 0, ColumnKind.REAL: 0.0, ColumnKind.TEXT: ""}


# Questions


def asked(request: query_pb2.AggregateRequest) -> Asked:
    """What a request asks; Invalid if its filter says nothing or too much."""
    return Asked(
        metrics=tuple(request.metrics),
        dimensions=tuple(request.dimensions),
        start_ms=request.start_ms if request.HasField("start_ms") else None,
        end_ms=request.end_ms if request.HasField("end_ms") else None,
        time_zone=request.time_zone,
        where=_predicate(request.filter, FilterDraft(), "filter", 1) if request.HasField("filter") else EVERYTHING,
        order_by=tuple((part.column, part.descending) for part in request.order_by),
        limit=request.limit,
        totals=request.include_totals,
        empty_buckets=request.include_empty_buckets,
        compare=request.compare_previous_period,
    )


def _predicate(sent: query_pb2.Predicate, draft: FilterDraft, path: str, depth: int) -> Predicate:
    draft.part(path, depth)
    kind = sent.WhichOneof("kind")
    if kind is None:
        raise Invalid("FILTER_INVALID", "a part of the filter says nothing", hint="set one of its kinds", field=path)
    part: Any = getattr(sent, kind)
    path = f"{path}.{kind}"
    if kind == "compare":
        return _comparison(part, draft, path)
    if kind == "not":
        return Not(_predicate(part, draft, path, depth + 1))
    draft.parts(len(part.parts), f"{path}.parts")
    parts = tuple(
        _predicate(inner, draft, f"{path}.parts[{place}]", depth + 1) for place, inner in enumerate(part.parts)
    )
    return AllOf(parts) if kind == "all" else AnyOf(parts)


def _comparison(sent: query_pb2.Comparison, draft: FilterDraft, path: str) -> Predicate:
    operator = _OPERATORS.get(sent.operator)
    if operator is None:
        raise Invalid("FILTER_INVALID", f"there is no operator {sent.operator}", field=f"{path}.operator")
    return draft.comparison(sent.field, operator, sent.values, path)


# Answers


def response(request: query_pb2.AggregateRequest, answer: Aggregated, milliseconds: float) -> bytes:
    """An answer as the wire has it, encoded; Exhausted(ANSWER_TOO_LARGE) if it is too large to send."""
    read = answer.read
    sent = query_pb2.AggregateResponse(
        question=_question(request, answer.asked),
        rows=answer.rows,
        more=answer.more,
        warnings=answer.warnings,
        as_of_position=answer.as_of,
        read=query_pb2.ReadReport(
            months=read.months,
            rollup_cells=read.cells,
            indexed_rows=read.indexed,
            tail_rows=read.tail,
            event_rows=read.rows,
            milliseconds=milliseconds,
            frozen_cells=read.frozen,
        ),
    )
    for column in answer.columns:
        _write(column, sent.columns.add())
    for total in answer.totals:
        _write(total, sent.totals.add())
    encoded = sent.SerializeToString()
    if len(encoded) > ANSWER_BYTES_MAX:
        raise Exhausted(
            "ANSWER_TOO_LARGE",
            f"the {answer.rows:,} rows of this answer have {len(encoded):,} bytes; "
            f"at most {ANSWER_BYTES_MAX:,} are sent",
            hint="lower the limit, or ask for fewer columns",
            field="limit",
        )
    return encoded


def _question(request: query_pb2.AggregateRequest, asked: Asked) -> query_pb2.AggregateRequest:
    """The request with every default written out. It is copied: messages of others are not changed."""
    question = query_pb2.AggregateRequest()
    question.CopyFrom(request)
    question.time_zone = asked.time_zone
    question.limit = asked.limit
    del question.order_by[:]
    question.order_by.extend(
        query_pb2.OrderBy(column=column, descending=descending) for column, descending in asked.order_by
    )
    return question


def _write(column: Column, sent: query_pb2.Column) -> None:
    """Puts a column into its place in the answer; made beside it, it would be copied there."""
    values: Sequence[Any] = column.values
    sent.name = column.name
    if None in values:
        sent.absent_rows.extend([row for row, value in enumerate(values) if value is None])
        zero = _ZEROS[column.kind]
        values = [zero if value is None else value for value in values]
    getattr(sent, _FIELDS[column.kind]).extend(values)
