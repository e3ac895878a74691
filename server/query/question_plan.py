"""From an aggregate question, as it was asked, to the questions that the storage is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from server.errors import Invalid
from server.query import periods, question_text
from server.query.empty_buckets import too_many_rows
from server.query.periods import CALENDAR_END_MS, CALENDAR_START_MS
from server.question import EVERYTHING, Bucket, BucketUnit, Field, FieldKind, Predicate, Question, Ranking
from server.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, zone_of

TIME_ZONE_CHARACTERS_MAX = 64
COMPARED_BUCKETS_MAX = 1_000_000
"""Buckets of a period that is compared: 28 years of quarter-hours, some 0.1 s to number them."""

WIDTHS_MS = {
    BucketUnit.QUARTER_HOUR: QUARTER_MS,
    BucketUnit.HOUR: HOUR_MS,
    BucketUnit.DAY: DAY_MS,
    BucketUnit.WEEK: 7 * DAY_MS,
    BucketUnit.MONTH: 31 * DAY_MS,
}
"""About how long a bucket is."""

_MANY_VALUES = frozenset({FieldKind.USER, FieldKind.TAG, FieldKind.METADATA})


@dataclass(frozen=True, slots=True)
class Asked:
    """An aggregate question in the words of the wire (AggregateRequest says what they mean); its filter is read."""

    metrics: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    time_zone: str = ""
    where: Predicate = EVERYTHING
    order_by: tuple[tuple[str, bool], ...] = ()
    """(column, descending)."""
    limit: int = 0
    totals: bool = False
    empty_buckets: bool = False
    compare: bool = False


@dataclass(frozen=True, slots=True)
class TimeDimension:
    """Which dimension is time, and how wide its buckets are."""

    place: int
    unit: BucketUnit


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be asked of the storage, and how the answers become one."""

    asked: Asked
    """Every default is written out."""
    question: Question
    """The period that was asked about. Where empty buckets are put in, neither ordered nor cut to the rows wanted."""
    order: tuple[Ranking, ...]
    """Of the answer."""
    zone: ZoneInfo
    span_ms: tuple[int, int]
    """The range, as far as the calendar goes."""
    time: TimeDimension | None
    limited: bool
    """Whether the asker named the limit, and not the daemon."""
    previous: Question | None = None
    """The period before."""

    @property
    def previous_by_keys(self) -> bool:
        """Whether the period before may have far more groups than this one has rows: then it is asked by their keys."""
        kinds = {dimension.kind for dimension in self.question.by if isinstance(dimension, Field)}
        return self.previous is not None and bool(kinds) and (self.limited or not kinds.isdisjoint(_MANY_VALUES))


def plan_of(asked: Asked, *, answer_rows_max: int) -> Plan:
    """Checks a question and plans it. Raises Invalid, each with the path of the field, and Exhausted."""
    metrics = question_text.metrics(asked.metrics)
    by = question_text.dimensions(asked.dimensions)
    order_by = question_text.order(asked.order_by, by, metrics)
    order = question_text.rankings(order_by, by, metrics)
    zone = _zone(asked.time_zone)
    limit = _limit(asked.limit, answer_rows_max)
    plan = Plan(
        asked=replace(asked, time_zone=zone.key, order_by=order_by, limit=limit),
        question=Question(metrics, by, asked.where, asked.start_ms, asked.end_ms, zone.key, order, limit),
        order=order,
        zone=zone,
        span_ms=_span(asked),
        time=next((TimeDimension(place, one.unit) for place, one in enumerate(by) if isinstance(one, Bucket)), None),
        limited=bool(asked.limit),
    )
    if asked.empty_buckets:
        plan = _with_empty_buckets(plan, answer_rows_max)
    return _with_previous(plan) if asked.compare else plan


def _zone(name: str) -> ZoneInfo:
    if len(name) > TIME_ZONE_CHARACTERS_MAX:
        raise Invalid(
            "TIME_ZONE_UNKNOWN",
            f"{question_text.shown(name)} is not a time zone",
            hint="give an IANA name such as Europe/Berlin or UTC",
            field="time_zone",
        )
    return zone_of(name or "UTC")


def _limit(asked: int, answer_rows_max: int) -> int:
    if asked < 0:
        raise Invalid("LIMIT_INVALID", "limit is negative", hint="0 takes as many as the daemon gives", field="limit")
    if asked > answer_rows_max:
        raise Invalid(
            "LIMIT_INVALID",
            f"a limit of {asked:,} is more than the {answer_rows_max:,} rows that an answer may have",
            hint="ask for less at a time, or raise query.answer_rows_max",
            field="limit",
        )
    return asked or answer_rows_max


def _span(asked: Asked) -> tuple[int, int]:
    """The range asked for, cut to the calendar."""
    start_ms, end_ms = asked.start_ms, asked.end_ms
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise Invalid("RANGE_INVALID", "start_ms must be before end_ms", field="start_ms")
    for wanted, word in ((asked.empty_buckets, "empty buckets"), (asked.compare, "the period before")):
        for value, path in ((start_ms, "start_ms"), (end_ms, "end_ms")):
            if wanted and value is None:
                raise Invalid("RANGE_INVALID", f"{word} can be told only of a range with both ends", field=path)
            if wanted and value is not None:
                periods.judge_calendar(value, path)
    return (
        max(CALENDAR_START_MS, CALENDAR_START_MS if start_ms is None else start_ms),
        min(CALENDAR_END_MS, CALENDAR_END_MS if end_ms is None else end_ms),
    )


def _with_empty_buckets(plan: Plan, answer_rows_max: int) -> Plan:
    if plan.time is None:
        raise Invalid(
            "DIMENSION_INVALID",
            "without time there are no empty buckets",
            hint="add a dimension such as time:day",
            field="include_empty_buckets",
        )
    start_ms, end_ms = plan.span_ms
    if (end_ms - start_ms) // WIDTHS_MS[plan.time.unit] > answer_rows_max:
        raise too_many_rows(answer_rows_max)
    return replace(plan, question=replace(plan.question, order=(), limit=answer_rows_max))


def _with_previous(plan: Plan) -> Plan:
    start_ms, end_ms = plan.span_ms
    if plan.time and (end_ms - start_ms) // WIDTHS_MS[plan.time.unit] > COMPARED_BUCKETS_MAX:
        raise Invalid(
            "RANGE_INVALID",
            f"a period of more than {COMPARED_BUCKETS_MAX:,} buckets is not compared with another",
            hint="take wider buckets or a shorter time",
            field="start_ms",
        )
    start_ms, end_ms = periods.period_before(start_ms, end_ms, plan.zone)
    return replace(plan, previous=replace(plan.question, start_ms=start_ms, end_ms=end_ms, order=(), limit=0))
