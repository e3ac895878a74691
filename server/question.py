"""Aggregate questions and their answers, as every layer speaks of them. Frozen values.

What a group is: every event that matches lies in one group for each combination of its values in the dimensions.
An event with several tags lies in the group of each of them, once, and is still counted once where tags are no
dimension.

Texts are compared code point by code point: no case is folded and nothing is normalized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from retention.month import Month


class FieldKind(StrEnum):
    """What of an event a filter or a dimension looks at."""

    TYPE = "type"
    SOURCE = "source"
    USER = "user"
    """The user_id; "" is nobody and is a value like any other."""
    SESSION = "session"
    """The session_id; "" is none."""
    TAG = "tag"
    """Several per event. Absent (None) in an event without tags."""
    METADATA = "metadata"
    """The value of one top-level key of the metadata.

    Texts are themselves ("" is a value like any other), numbers and booleans their JSON text as it was sent (1.50 and
    1.5 differ; the number 1 and the text "1" do not). Missing, null, objects and arrays are absent (None). Of a key
    that is there twice the first counts, also if it is null. Keys are compared as the texts they mean, without escapes.
    """


@dataclass(frozen=True, slots=True)
class Field:
    """One thing of an event to filter or group by. `key` names the metadata key and is "" otherwise."""

    kind: FieldKind
    key: str = ""

    def __str__(self) -> str:
        return f"metadata:{self.key}" if self.kind is FieldKind.METADATA else self.kind.value


class BucketUnit(StrEnum):
    """The width of a time bucket, by the wall clock of the question's time zone.

    Days, weeks (from Monday) and months are those of local dates, and a bucket is named by the instant at which its
    first date begins: where midnight passes twice the first time, where it is skipped the first instant after it. Hours
    and quarter-hours are named by the instant at which the wall clock, with the offset in force, showed their begin, or
    would have shown it: an hour that passes twice when clocks go back is two buckets. Where clocks change by half an
    hour this can be an instant before the change: of 02:30, if clocks went there from 02:00, the one half an hour ago.
    """

    QUARTER_HOUR = "15min"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Event time as a dimension. Keys are instants, milliseconds since the epoch."""

    unit: BucketUnit

    def __str__(self) -> str:
        return f"time:{self.unit.value}"


GroupBy: TypeAlias = Field | Bucket


# Which events


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field has one of these values; of tags, at least one. Never true of an absent value."""

    field: Field
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The field starts with one of these texts, letter by letter; of tags, at least one. Never true if absent.

    Every value starts with "", also that of nobody.
    """

    field: Field
    prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """There is a value: user and session are not "", there is a tag, the metadata key is not absent (but may be "")."""

    field: Field


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds; also true without parts."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds; never true without parts."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Predicate


Predicate: TypeAlias = OneOf | StartsWith | Present | AllOf | AnyOf | Not
EVERYTHING = AllOf(())


# What to compute


class MetricKind(StrEnum):
    """What is computed for a group. All but the first two look at one metadata key, and there at JSON numbers only.

    Without any number the answer is None. Numbers are the doubles nearest to what was sent; one that is beyond them
    (1e999) counts as none. The last digits of sums and averages may depend on the order of additions. Percentiles
    interpolate linearly between the two nearest values (percentile_cont of SQL).
    """

    EVENTS = "events"
    USERS = "users"
    """Distinct users, exactly. Nobody ("") is not one: a group of nobody's events has 0."""
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVG = "avg"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"

    @property
    def of_numbers(self) -> bool:
        """Whether it looks at a metadata key."""
        return self not in (MetricKind.EVENTS, MetricKind.USERS)

    @property
    def percentile(self) -> float | None:
        """The share of a percentile, between 0 and 1; None for other metrics."""
        return {MetricKind.P50: 0.5, MetricKind.P95: 0.95, MetricKind.P99: 0.99}.get(self)


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the answer. `key` is the metadata key of numeric metrics, else ""."""

    kind: MetricKind
    key: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}({self.key})" if self.kind.of_numbers else self.kind.value


@dataclass(frozen=True, slots=True)
class Ranking:
    """One part of the order: a column (dimensions first, then metrics, counted from 0), and its direction."""

    column: int
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One table to compute.

    `start_ms` is inclusive, `end_ms` exclusive, None unbounded; a range that ends before it starts has no events. A
    time zone that is not known raises Invalid(TIME_ZONE_UNKNOWN), but may go unnoticed where no bucket needs it.

    Rows come ordered by `order`, then by their keys, ascending. Absent keys and values (None) come last in both
    directions; texts compare by code point. `limit` 0 means all rows. Without dimensions there is exactly one row, also
    for no events; with dimensions, none without events. No dimension comes twice and at most one is a Bucket (the
    caller checks).
    """

    metrics: tuple[Metric, ...]
    by: tuple[GroupBy, ...] = ()
    where: Predicate = EVERYTHING
    start_ms: int | None = None
    end_ms: int | None = None
    time_zone: str = "UTC"
    order: tuple[Ranking, ...] = ()
    limit: int = 0


# Answers


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one answer, as columns of equal length: one a dimension, then one a metric.

    Keys are instants (int) for time and texts or None otherwise; `events` and `users` are ints, other metrics floats
    or None. `more`: the limit left rows out.
    """

    keys: tuple[Sequence[int | str | None], ...]
    values: tuple[Sequence[int | float | None], ...]
    rows: int
    more: bool = False


@dataclass(slots=True)
class Read:
    """What answering took: from where, and how much. Adds up over months."""

    months: int = 0
    """Months that were opened."""
    cells: int = 0
    """Cells of rollups."""
    indexed: int = 0
    """Rows of the index."""
    tail: int = 0
    """Rows of the tail, in memory."""
    rows: int = 0
    """Rows of the truth."""
    frozen: int = 0
    """Cells of frozen numbers: quarter-hours by source, or days, weeks and months with their users."""
    frozen_months: set[Month] = field(default_factory=set)
    """Months that answered from these, in whole or in part."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A table for each question, all cut at one position."""

    tables: tuple[Table, ...]
    as_of: int
    read: Read
