"""The words of questions: what they mean, and which are refused with which field."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import Invalid, TrackdError
from server.query import question_text
from server.query.filter_draft import FilterDraft, Operator
from server.query.question_plan import Asked, Plan, plan_of
from server.question import (
    Bucket,
    BucketUnit,
    Field,
    FieldKind,
    Metric,
    MetricKind,
    OneOf,
    Present,
    Ranking,
    StartsWith,
)

ROWS_MAX = 100
DAY_MS = 86_400_000
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
metrics = st.one_of(
    st.sampled_from([Metric(MetricKind.EVENTS), Metric(MetricKind.USERS)]),
    st.builds(Metric, st.sampled_from([kind for kind in MetricKind if kind.of_numbers]), keys),
)
fields = st.one_of(
    st.sampled_from([Field(kind) for kind in FieldKind if kind is not FieldKind.METADATA]),
    st.builds(Field, st.just(FieldKind.METADATA), keys),
)


def plan(*names: str, **parts: object) -> Plan:
    """The plan of a question with these metrics."""
    return plan_of(Asked(names or ("events",), **parts), answer_rows_max=ROWS_MAX)  # type: ignore[arg-type]


@given(st.lists(metrics, min_size=1, max_size=16, unique=True))
def test_every_metric_has_a_word_that_means_it(wanted: list[Metric]) -> None:
    """Whatever the key: brackets, colons and line ends are part of it."""
    assert question_text.metrics([str(metric) for metric in wanted]) == tuple(wanted)


@given(st.lists(fields, max_size=8, unique=True), st.sampled_from(BucketUnit))
def test_every_dimension_and_field_has_a_word_that_means_it(wanted: list[Field], unit: BucketUnit) -> None:
    """A session is a field and no dimension."""
    assert [question_text.filter_field(str(field), "f") for field in wanted] == wanted
    by = [*[field for field in wanted if field.kind is not FieldKind.SESSION][:7], Bucket(unit)]
    assert question_text.dimensions([str(dimension) for dimension in by]) == tuple(by)


REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    "no metric": (lambda: plan_of(Asked(()), answer_rows_max=9), "METRIC_INVALID", "metrics"),
    "17 metrics": (lambda: plan(*(f"sum({n})" for n in range(17))), "METRIC_INVALID", "metrics"),
    "an unknown metric": (lambda: plan("events", "visitors"), "METRIC_INVALID", "metrics[1]"),
    "a metric without key": (lambda: plan("sum()"), "METRIC_INVALID", "metrics[0]"),
    "a metric that is not closed": (lambda: plan("sum(a"), "METRIC_INVALID", "metrics[0]"),
    "a percentile nobody offers": (lambda: plan("p42(a)"), "METRIC_INVALID", "metrics[0]"),
    "a metric twice": (lambda: plan("events", "users", "events"), "METRIC_INVALID", "metrics[2]"),
    "a key with NUL": (lambda: plan("sum(a\0b)"), "METRIC_INVALID", "metrics[0]"),
    "a key too long": (lambda: plan(f"sum({'k' * 1_025})"), "METRIC_INVALID", "metrics[0]"),
    "9 dimensions": (lambda: plan(dimensions=tuple(map(str, range(9)))), "DIMENSION_INVALID", "dimensions"),
    "an unknown dimension": (lambda: plan(dimensions=("type", "colour")), "DIMENSION_INVALID", "dimensions[1]"),
    "sessions as groups": (lambda: plan(dimensions=("session",)), "DIMENSION_INVALID", "dimensions[0]"),
    "a dimension twice": (lambda: plan(dimensions=("type", "type")), "DIMENSION_INVALID", "dimensions[1]"),
    "time twice": (lambda: plan(dimensions=("time:day", "time:hour")), "DIMENSION_INVALID", "dimensions[1]"),
    "an unknown bucket": (lambda: plan(dimensions=("time:year",)), "DIMENSION_INVALID", "dimensions[0]"),
    "metadata without key": (lambda: plan(dimensions=("metadata:",)), "DIMENSION_INVALID", "dimensions[0]"),
    "a dimension with NUL": (lambda: plan(dimensions=("metadata:\0",)), "DIMENSION_INVALID", "dimensions[0]"),
    "an empty range": (lambda: plan(start_ms=5, end_ms=5), "RANGE_INVALID", "start_ms"),
    "an unknown zone": (lambda: plan(time_zone="Europe/Atlantis"), "TIME_ZONE_UNKNOWN", "time_zone"),
    "a zone that is a path": (lambda: plan(time_zone="../../etc/passwd"), "TIME_ZONE_UNKNOWN", "time_zone"),
    "an endless zone": (lambda: plan(time_zone="x" * 100_000), "TIME_ZONE_UNKNOWN", "time_zone"),
    "a negative limit": (lambda: plan(limit=-1), "LIMIT_INVALID", "limit"),
    "a limit too large": (lambda: plan(limit=ROWS_MAX + 1), "LIMIT_INVALID", "limit"),
    "an order by what is not asked": (
        lambda: plan(dimensions=("type",), order_by=(("events", True), ("users", True))),
        "ORDER_INVALID", "order_by[1].column",
    ),
    "an order twice": (
        lambda: plan(dimensions=("type",), order_by=(("events", True), ("events", False))),
        "ORDER_INVALID", "order_by[1].column",
    ),
    "an order longer than the table": (lambda: plan(order_by=(("events", True),) * 2), "ORDER_INVALID", "order_by"),
    "empty buckets without time": (
        lambda: plan(empty_buckets=True, start_ms=0, end_ms=9), "DIMENSION_INVALID", "include_empty_buckets"
    ),
    "empty buckets without begin": (
        lambda: plan(empty_buckets=True, dimensions=("time:day",), end_ms=9), "RANGE_INVALID", "start_ms"
    ),
    "empty buckets without end": (
        lambda: plan(empty_buckets=True, dimensions=("time:day",), start_ms=9), "RANGE_INVALID", "end_ms"
    ),
    "more empty buckets than rows": (
        lambda: plan(empty_buckets=True, dimensions=("time:day",), start_ms=0, end_ms=DAY_MS * 102),
        "ANSWER_TOO_LARGE", "include_empty_buckets",
    ),
    "a comparison without begin": (lambda: plan(compare=True, end_ms=9), "RANGE_INVALID", "start_ms"),
    "a comparison without end": (lambda: plan(compare=True, start_ms=9), "RANGE_INVALID", "end_ms"),
    "a comparison before the calendar": (
        lambda: plan(compare=True, start_ms=-(2**63), end_ms=0), "RANGE_INVALID", "start_ms"
    ),
    "a comparison behind the calendar": (
        lambda: plan(compare=True, start_ms=0, end_ms=2**63 - 1), "RANGE_INVALID", "end_ms"
    ),
    "a comparison with what was before the calendar": (
        lambda: plan(compare=True, start_ms=0, end_ms=2_000 * 365 * DAY_MS), "RANGE_INVALID", "start_ms"
    ),
    "a comparison of too many buckets": (
        lambda: plan(compare=True, dimensions=("time:15min",), start_ms=0, end_ms=1_000_002 * 900_000),
        "RANGE_INVALID", "start_ms",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_question_that_makes_no_sense_is_refused_with_its_field(name: str) -> None:
    """One error with a reason, the path in the request and a short text."""
    ask, reason, field = REFUSED[name]
    with pytest.raises(TrackdError) as caught:
        ask()
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert len(str(caught.value)) < 500


def test_defaults_are_written_out() -> None:
    """Zone, limit and order; the order by keys is what the storage does without being asked."""
    series = plan("users", "events", dimensions=("type", "time:day"))
    assert (series.asked.time_zone, series.asked.limit) == ("UTC", ROWS_MAX)
    assert series.asked.order_by == (("type", False), ("time:day", False))
    assert (series.question.order, series.question.limit, series.limited) == ((), ROWS_MAX, False)
    top = plan("users", "events", dimensions=("type",), limit=5, time_zone="Europe/Berlin")
    assert top.asked.order_by == (("users", True),)
    assert (top.question.order, top.question.limit, top.limited) == ((Ranking(1, descending=True),), 5, True)
    assert plan().asked.order_by == ()
    given_order = plan("users", dimensions=("type",), order_by=(("type", True), ("users", False)))
    assert given_order.question.order == (Ranking(0, descending=True), Ranking(1))


def draft(*, parts: int = 0) -> FilterDraft:
    """A filter of which so many parts were read."""
    begun = FilterDraft()
    for _ in range(parts):
        begun.part("filter", 1)
    return begun


def test_comparisons_mean_what_they_say() -> None:
    """Field, operator and values."""
    begun = draft()
    assert begun.comparison("user", Operator.IS, ["", "ann"], "f") == OneOf(Field(FieldKind.USER), ("", "ann"))
    starts = begun.comparison("metadata:a:b", Operator.STARTS_WITH, ["x"], "f")
    assert starts == StartsWith(Field(FieldKind.METADATA, "a:b"), ("x",))
    assert begun.comparison("tag", Operator.PRESENT, [], "f") == Present(Field(FieldKind.TAG))


def many(count: int, size: int = 1) -> list[str]:
    """So many values."""
    return ["v" * size] * count


FILTERS_REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    "no field": (lambda: draft().comparison("", Operator.IS, ["a"], "f"), "FILTER_INVALID", "f.field"),
    "time": (lambda: draft().comparison("time:day", Operator.IS, ["a"], "f"), "FILTER_INVALID", "f.field"),
    "NUL": (lambda: draft().comparison("metadata:\0", Operator.IS, ["a"], "f"), "FILTER_INVALID", "f.field"),
    "no values": (lambda: draft().comparison("type", Operator.IS, [], "f"), "FILTER_INVALID", "f.values"),
    "no prefixes": (lambda: draft().comparison("type", Operator.STARTS_WITH, [], "f"), "FILTER_INVALID", "f.values"),
    "values": (lambda: draft().comparison("type", Operator.PRESENT, ["a"], "f"), "FILTER_INVALID", "f.values"),
    "no parts": (lambda: draft().parts(0, "f.all.parts"), "FILTER_INVALID", "f.all.parts"),
    "depth": (lambda: draft().part("f.not", 17), "FILTER_TOO_LARGE", "f.not"),
    "parts": (lambda: draft(parts=200).part("f", 1), "FILTER_TOO_LARGE", "f"),
    "1,001 values": (
        lambda: draft().comparison("type", Operator.IS, many(1_001), "f"), "FILTER_TOO_LARGE", "f.values"
    ),
    "2 MiB": (
        lambda: draft().comparison("type", Operator.IS, many(32, 65_536), "f"), "FILTER_TOO_LARGE", "f.values"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS_REFUSED)
def test_a_filter_that_makes_no_sense_is_refused_with_its_field(name: str) -> None:
    """As for the rest of the question."""
    ask, reason, field = FILTERS_REFUSED[name]
    with pytest.raises(Invalid) as caught:
        ask()
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_values_are_counted_over_the_whole_filter() -> None:
    """Ten comparisons with all the values that one may have, and no more."""
    begun = draft()
    for _ in range(10):
        begun.comparison("type", Operator.IS, many(1_000), "f")
    with pytest.raises(Invalid, match="10,000 over all"):
        begun.comparison("type", Operator.IS, ["a"], "f")
