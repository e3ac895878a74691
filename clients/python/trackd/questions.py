"""Aggregate questions as messages: from words, and from and to JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from google.protobuf import json_format

from trackd.errors import Invalid
from trackd.v1.query_pb2 import AggregateRequest, OrderBy, Predicate


class QuestionWords(TypedDict, total=False):
    """What new_question takes besides metrics and dimensions."""

    start_ms: int | None
    end_ms: int | None
    time_zone: str
    filter: Predicate | None
    order_by: str | Sequence[str]
    limit: int
    totals: bool
    empty_buckets: bool
    compare_previous_period: bool
    at_least_position: int | None


def new_question(
    metrics: str | Sequence[str],
    dimensions: str | Sequence[str] = (),
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    time_zone: str = "",
    filter: Predicate | None = None,
    order_by: str | Sequence[str] = (),
    limit: int = 0,
    totals: bool = False,
    empty_buckets: bool = False,
    compare_previous_period: bool = False,
    at_least_position: int | None = None,
) -> AggregateRequest:
    """The question that Client.aggregate asks with the same arguments."""
    return AggregateRequest(
        metrics=_words(metrics),
        dimensions=_words(dimensions),
        start_ms=start_ms,
        end_ms=end_ms,
        time_zone=time_zone,
        filter=filter,
        order_by=[
            OrderBy(column=column.removeprefix("-"), descending=column.startswith("-")) for column in _words(order_by)
        ],
        limit=limit,
        include_totals=totals,
        include_empty_buckets=empty_buckets,
        compare_previous_period=compare_previous_period,
        at_least_position=at_least_position,
    )


def question_from_json(text: str) -> AggregateRequest:
    """The question in the JSON form of AggregateRequest (protobuf.dev/programming-guides/json), or Invalid."""
    try:
        if not text.lstrip().startswith("{"):  # the parser takes an empty list
            raise json_format.ParseError("it must be a JSON object")
        return json_format.Parse(text, AggregateRequest())
    except (json_format.ParseError, RecursionError) as error:
        raise Invalid(f"this is no question: {error}", reason="QUESTION_INVALID") from error


def question_to_json(question: AggregateRequest) -> str:
    """The same form, on one line."""
    return json.dumps(json_format.MessageToDict(question), ensure_ascii=False)


def _words(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given
