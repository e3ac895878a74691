"""Aggregate questions about random histories: few words, so that most of them find something."""

from __future__ import annotations

from hypothesis import strategies as st

from server.question import (
    AllOf,
    AnyOf,
    Bucket,
    BucketUnit,
    Field,
    GroupBy,
    Metric,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    Ranking,
    StartsWith,
)
from tests.model.histories import TAGS, TIMES_MS, TYPES, USERS
from tests.support.answers import SESSION, SOURCE, TAG, TYPE, USER, metadata

KEYS = ("a", "b", "nowhere")
"""Metadata keys: with numbers among others, without any, and of no event. The numbers add up without rounding."""
_VALUES: dict[Field, tuple[str, ...]] = {
    TYPE: TYPES,
    SOURCE: ("reviews", "s1", "s2"),
    USER: USERS,
    SESSION: ("", "s-1"),
    TAG: TAGS,
    metadata("a"): ("1", "2.50", "x", "true"),
    metadata("b"): ("1",),
}
_ZONES = ("UTC", "Asia/Kathmandu", "America/New_York")

_INTERPOLATED = (MetricKind.P95, MetricKind.P99)

_dimensions: st.SearchStrategy[list[GroupBy]] = st.lists(st.sampled_from(list(_VALUES)), max_size=2, unique=True)
_buckets: st.SearchStrategy[list[GroupBy]] = st.lists(st.sampled_from(BucketUnit).map(Bucket), max_size=1)


def _metric(kind: MetricKind) -> st.SearchStrategy[Metric]:
    return st.sampled_from(KEYS).map(lambda key: Metric(kind, key)) if kind.of_numbers else st.just(Metric(kind))


def _comparison(field: Field) -> st.SearchStrategy[Predicate]:
    values = st.lists(st.sampled_from((*_VALUES[field], "nothing")), max_size=2).map(tuple)
    prefixes = st.lists(st.sampled_from(("", *(value[:1] for value in _VALUES[field]))), max_size=2).map(tuple)
    return (
        st.builds(OneOf, st.just(field), values)
        | st.builds(StartsWith, st.just(field), prefixes)
        | st.just(Present(field))
    )


_predicates: st.SearchStrategy[Predicate] = st.recursive(
    st.sampled_from(list(_VALUES)).flatmap(_comparison),
    lambda parts: (
        parts.map(Not)
        | st.lists(parts, max_size=3).map(tuple).map(AllOf)
        | st.lists(parts, max_size=3).map(tuple).map(AnyOf)
    ),
    max_leaves=4,
)


@st.composite
def tables(draw: st.DrawFn) -> Question:
    """One question."""
    by = tuple(draw(st.permutations(draw(_dimensions) + draw(_buckets))))
    metrics = tuple(draw(st.lists(st.sampled_from(MetricKind).flatmap(_metric), min_size=1, max_size=3)))
    # Two ways to interpolate may differ in the last digit: rows that are ordered by that could not be compared.
    sums = [len(by) + place for place, metric in enumerate(metrics) if metric.kind not in _INTERPOLATED]
    columns = st.sampled_from([*range(len(by)), *sums]) if by or sums else st.nothing()
    bounds = st.none() | st.none() | st.sampled_from(TIMES_MS)
    return Question(
        metrics=metrics,
        by=by,
        where=draw(st.just(AllOf(())) | _predicates),
        start_ms=draw(bounds),
        end_ms=draw(bounds),
        time_zone=draw(st.sampled_from(_ZONES)),
        order=tuple(draw(st.lists(st.builds(Ranking, columns, st.booleans()), max_size=2))),
        limit=draw(st.sampled_from((0, 0, 1, 3))),
    )
