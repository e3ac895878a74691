"""Counts as aggregate questions, which rollups answer."""

from __future__ import annotations

from collections.abc import Sequence

from retention.month import Month
from server.model import Count, Dimension, EventFilter
from server.question import (
    AllOf,
    Bucket,
    BucketUnit,
    Field,
    FieldKind,
    GroupBy,
    Metric,
    MetricKind,
    OneOf,
    Question,
    Table,
)

_BY: dict[Dimension, GroupBy] = {
    Dimension.TYPE: Field(FieldKind.TYPE),
    Dimension.MONTH: Bucket(BucketUnit.MONTH),
    Dimension.SOURCE: Field(FieldKind.SOURCE),
    Dimension.USER: Field(FieldKind.USER),
}


def question_of(where: EventFilter, by: Sequence[Dimension]) -> Question | None:
    """The question that these counts are the answer to; None if they ask for positions, which questions do not know."""
    if where.after_position is not None or where.up_to_position is not None:
        return None
    parts = tuple(
        OneOf(Field(kind), values)
        for kind, values in (
            (FieldKind.TYPE, where.types),
            (FieldKind.USER, where.user_ids),
            (FieldKind.SOURCE, where.sources),
            (FieldKind.SESSION, where.session_ids),
            (FieldKind.TAG, where.tags),
        )
        if values
    )
    return Question(
        (Metric(MetricKind.EVENTS),),
        tuple(_BY[dimension] for dimension in by),
        AllOf(parts),
        where.start_ms,
        where.end_ms,
    )


def counts_of(table: Table, by: Sequence[Dimension]) -> list[Count]:
    """The rows of the answer as counts."""
    columns = [
        [str(Month.of(int(key or 0))) for key in column]
        if dimension is Dimension.MONTH
        else [str(key) for key in column]
        for dimension, column in zip(by, table.keys, strict=True)
    ]
    keys = zip(*columns, strict=True) if columns else [()] * table.rows
    return [Count(key, int(events or 0)) for key, events in zip(keys, table.values[0], strict=True)]
