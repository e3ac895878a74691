"""The same questions in SQL, for DuckDB. Nothing here asks server.time_buckets or reads JSON.

What the metadata of an event means is known from where it was made. Local time is DuckDB's: `timezone(zone, instant)`.
Hours are cut from local time and taken back by the offset in force. The start of a day, week or month is found by
looking, not by computing: of all quarter-hours the first whose local date is within, so that days without a midnight
and days with two need no rule.

Two sources of time-zone data meet here: DuckDB brings its own, Python takes the system's. Of one release they agree
(598 zones from 2000 to 2027 were compared with 2026f; only Cuba's future differs). But systems are often behind: one
with 2025b differs for Moldova since 2022, and for Canada and Morocco in 2026, where DuckDB is right. So the zones and
years of tests.differential.population are settled ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from retention.month import Month
from server.question import (
    AllOf,
    AnyOf,
    Bucket,
    BucketUnit,
    Field,
    FieldKind,
    GroupBy,
    Metric,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    StartsWith,
)
from tests.differential.population import Made
from tests.support.answers import Row

_COLUMNS = {
    FieldKind.TYPE: "x.type",
    FieldKind.SOURCE: "x.source",
    FieldKind.USER: "x.user_id",
    FieldKind.SESSION: "x.session_id",
}
_NUMBERS = {
    MetricKind.SUM: "sum({0})",
    MetricKind.MIN: "min({0})",
    MetricKind.MAX: "max({0})",
    MetricKind.AVG: "avg({0})",
    MetricKind.P50: "quantile_cont({0}, 0.5)",
    MetricKind.P95: "quantile_cont({0}, 0.95)",
    MetricKind.P99: "quantile_cont({0}, 0.99)",
}
_SOME = "x.event IN (SELECT event FROM {0} WHERE {1})"
_SCHEMA = """
CREATE TABLE events (
  event INTEGER, type TEXT, source TEXT, user_id TEXT, session_id TEXT, ms BIGINT, instant TIMESTAMPTZ
);
CREATE TABLE tags (event INTEGER, tag TEXT);
CREATE TABLE metadata (event INTEGER, key TEXT, value TEXT, number DOUBLE);
CREATE TABLE starts (zone TEXT, unit TEXT, local TIMESTAMP, ms BIGINT);
"""
_BEFORE_MS = 40 * 86_400_000
"""Longer than a month: so long before the first event its local month may begin."""


class Duck:
    """A database in memory with some events."""

    def __init__(self, events: Sequence[Made], zones: Sequence[str]) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(_SCHEMA)
        self._load(events)
        for zone in zones:
            self._load_starts(zone, sorted({Month.of(made.sent.timestamp_ms) for made in events}))

    def ask(self, question: Question) -> tuple[list[Row], bool]:
        """The rows, and whether the limit left some out."""
        select = Select(question)
        rows: list[Row] = self._connection.execute(str(select), select.bindings).fetchall()
        shown = rows[: question.limit] if question.limit else rows
        return shown, len(shown) < len(rows)

    def close(self) -> None:
        """Forgets everything."""
        self._connection.close()

    def _load(self, events: Sequence[Made]) -> None:
        numbered = list(enumerate(events))
        self._insert(
            "SELECT *, make_timestamptz(ms * 1000) FROM "
            "(SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6) AS ms)",
            "events",
            [
                (number, made.sent.type, made.source, made.sent.user_id, made.sent.session_id, made.sent.timestamp_ms)
                for number, made in numbered
            ],
        )
        tags = [(number, tag) for number, made in numbered for tag in made.sent.tags]
        self._insert("SELECT unnest($1), unnest($2)", "tags", tags)
        members = [(number, *_meaning) for number, made in numbered for _meaning in _meanings(made)]
        self._insert("SELECT unnest($1), unnest($2), unnest($3), unnest($4)", "metadata", members)

    def _insert(self, select: str, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._connection.execute(f"INSERT INTO {table} {select}", [list(column) for column in zip(*rows, strict=True)])

    def _load_starts(self, zone: str, months: Sequence[Month]) -> None:
        for unit in ("day", "week", "month"):
            self._connection.execute(
                """
                INSERT INTO starts
                SELECT $zone, $unit, date_trunc($unit, timezone($zone, make_timestamptz(ms * 1000))) AS local, min(ms)
                FROM (SELECT DISTINCT unnest(generate_series(first, last, 900000)) AS ms
                      FROM (SELECT unnest($first) AS first, unnest($last) AS last))
                GROUP BY local
                """,
                {
                    "zone": zone,
                    "unit": unit,
                    "first": [month.start_ms - _BEFORE_MS for month in months],
                    "last": [month.end_ms for month in months],
                },
            )


def _meanings(made: Made) -> list[tuple[str, str | None, float | None]]:
    return [(member.key, member.text, member.number) for member in made.members]


class Select:
    """One question as a statement: `str` of it, with its bindings."""

    def __init__(self, question: Question) -> None:
        self.bindings: list[Any] = []
        self._joins: list[str] = []
        self._question = question
        keys = [self._key(by) for by in question.by]
        values = [self._value(metric) for metric in question.metrics]
        self._columns = [*keys, *values]
        self._where = [*self._range(), self._predicate(question.where)]

    def __str__(self) -> str:
        question = self._question
        columns = ", ".join(f"{column} AS c{number}" for number, column in enumerate(self._columns))
        order = [f"c{part.column} {'DESC' if part.descending else 'ASC'} NULLS LAST" for part in question.order]
        order += [f"c{number} ASC NULLS LAST" for number in range(len(question.by))]
        return "\n".join(
            [
                f"SELECT {columns}",
                "FROM events x",
                *self._joins,
                f"WHERE {' AND '.join(self._where)}",
                f"GROUP BY {', '.join(f'c{number}' for number in range(len(question.by)))}" if question.by else "",
                f"ORDER BY {', '.join(order)}" if question.by else "",
            ]
        )

    def _bound(self, value: object) -> str:
        self.bindings.append(value)
        return f"${len(self.bindings)}"

    # Columns

    def _key(self, by: GroupBy) -> str:
        if isinstance(by, Bucket):
            return self._bucket(by.unit)
        if by.kind is FieldKind.TAG:
            return self._joined("LEFT JOIN tags {0} ON {0}.event = x.event") + ".tag"
        if by.kind is FieldKind.METADATA:
            return self._joined(self._of_key(by.key)) + ".value"
        return _COLUMNS[by.kind]

    def _value(self, metric: Metric) -> str:
        if metric.kind is MetricKind.EVENTS:
            return "count(*)"
        if metric.kind is MetricKind.USERS:
            return "count(DISTINCT nullif(x.user_id, ''))"
        return _NUMBERS[metric.kind].format(self._joined(self._of_key(metric.key)) + ".number")

    def _of_key(self, key: str) -> str:
        return f"LEFT JOIN metadata {{0}} ON {{0}}.event = x.event AND {{0}}.key = {self._bound(key)}"

    def _bucket(self, unit: BucketUnit) -> str:
        zone = self._bound(self._question.time_zone)
        local = f"timezone({zone}, x.instant)"
        if unit in (BucketUnit.QUARTER_HOUR, BucketUnit.HOUR):
            begin = (
                f"date_trunc('hour', {local})"
                if unit is BucketUnit.HOUR
                else f"time_bucket(INTERVAL '15 minutes', {local})"
            )
            return f"epoch_ms({begin}) - (epoch_ms({local}) - x.ms)"
        join = f"JOIN starts {{0}} ON {{0}}.zone = {zone} AND {{0}}.unit = '{unit.value}' AND {{0}}.local = "
        return self._joined(join + f"date_trunc('{unit.value}', {local})") + ".ms"

    def _joined(self, join: str) -> str:
        name = f"j{len(self._joins)}"
        self._joins.append(join.format(name))
        return name

    # Conditions

    def _range(self) -> list[str]:
        bounds = []
        if self._question.start_ms is not None:
            bounds.append(f"x.ms >= {self._bound(self._question.start_ms)}")
        if self._question.end_ms is not None:
            bounds.append(f"x.ms < {self._bound(self._question.end_ms)}")
        return bounds

    def _predicate(self, predicate: Predicate) -> str:
        match predicate:
            case OneOf(field, values):
                return self._any(field, [f"{{0}} = {self._bound(value)}" for value in values])
            case StartsWith(field, prefixes):
                return self._any(field, [f"starts_with({{0}}, {self._bound(prefix)})" for prefix in prefixes])
            case Present(field):
                return self._any(field, ["{0} <> ''" if field.kind in _COLUMNS else "{0} IS NOT NULL"])
            case AllOf(parts):
                return f"({' AND '.join(['true', *map(self._predicate, parts)])})"
            case AnyOf(parts):
                return f"({' OR '.join(['false', *map(self._predicate, parts)])})"
            case Not(part):
                return f"(NOT {self._predicate(part)})"

    def _any(self, field: Field, conditions: Sequence[str]) -> str:
        """Whether a value of the field meets one of the conditions; never NULL."""
        either = f"({' OR '.join(['false', *conditions])})"
        if field.kind is FieldKind.TAG:
            return _SOME.format("tags", either.format("tag"))
        if field.kind is FieldKind.METADATA:
            return _SOME.format("metadata", f"key = {self._bound(field.key)} AND {either.format('value')}")
        return either.format(_COLUMNS[field.kind])
