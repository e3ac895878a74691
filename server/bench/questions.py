"""The questions that `trackd bench query` asks, each as a call of trackd and as SQL for its peers.

The SQL is what a careful user would write for the same answer in the same order; `$1` and so on are the arguments.
Instants are arguments and results as the peer's own timestamps. DuckDB's are UTC without saying so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from trackd.v1 import query_pb2

from server.bench.history import SOURCES, TYPES, History, type_name, user_name

DAY_MS = 86_400_000
ZONE = "America/New_York"
"""No reporting zone of the daemon, and its clocks change twice a year."""
LATEST = 50

Request: TypeAlias = query_pb2.AggregateRequest | query_pb2.ListEventsRequest | query_pb2.CountEventsRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """One question with its parameters: as a request, and as the arguments of the SQL."""

    request: Request
    arguments: Sequence[object] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """Questions that differ in their parameters only."""

    name: str
    title: str
    draw: Callable[[random.Random, History], Asked]
    postgresql: str
    duckdb: str = ""
    """Empty: the same."""
    bar_ms: float | None = None
    """What the 99th percentile has to stay below in an idle daemon; three times that while events come in."""


def instant(ms: int) -> datetime:
    """Milliseconds since the epoch as the argument of a statement."""
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


# Ranges


def _almost_all(draw: random.Random, history: History) -> tuple[int, int]:
    """All days but a few at both ends, so that the same range does not come again at once."""
    return history.start_ms + draw.randrange(7) * DAY_MS, history.end_ms - draw.randrange(7) * DAY_MS


def _most_months(draw: random.Random, history: History) -> tuple[int, int]:
    """All whole months; of four and more sometimes without the first or last."""
    spare = 2 if history.months >= 4 else 1
    return history.starts_ms[draw.randrange(spare)], history.starts_ms[-1 - draw.randrange(spare)]


def _month(draw: random.Random, history: History) -> tuple[int, int]:
    number = draw.randrange(history.months)
    return history.starts_ms[number], history.starts_ms[number + 1]


def _days(draw: random.Random, history: History, days: int) -> tuple[int, int]:
    first = draw.randrange(max(1, (history.end_ms - history.start_ms) // DAY_MS - days + 1))
    start = history.start_ms + first * DAY_MS
    return start, start + days * DAY_MS


# Draws


def _table(
    metrics: Sequence[str],
    dimensions: Sequence[str],
    span: Callable[[random.Random, History], tuple[int, int]],
    *,
    zone: str = "",
    order: Sequence[tuple[str, bool]] = (),
    limit: int = 0,
) -> Callable[[random.Random, History], Asked]:
    """A question whose only parameter is its range."""

    def draw(draw: random.Random, history: History) -> Asked:
        start, end = span(draw, history)
        request = query_pb2.AggregateRequest(
            metrics=metrics,
            dimensions=dimensions,
            start_ms=start,
            end_ms=end,
            time_zone=zone,
            order_by=[query_pb2.OrderBy(column=column, descending=descending) for column, descending in order],
            limit=limit,
        )
        return Asked(request, (instant(start), instant(end)))

    return draw


def _is(field: str, *values: str) -> query_pb2.Predicate:
    compared = query_pb2.Comparison(field=field, operator=query_pb2.OPERATOR_IS, values=values)
    return query_pb2.Predicate(compare=compared)


def _hourly_of_type(draw: random.Random, history: History) -> Asked:
    (start, end), kind = _days(draw, history, 30), draw.randrange(TYPES)
    request = query_pb2.AggregateRequest(
        metrics=["events"],
        dimensions=["time:hour"],
        start_ms=start,
        end_ms=end,
        filter=_is("type", type_name(kind)),
    )
    return Asked(request, (instant(start), instant(end), kind))


def _filtered(draw: random.Random, history: History) -> Asked:
    (start, end), source = _days(draw, history, 90), draw.randrange(len(SOURCES))
    kinds, tag = draw.sample(range(TYPES), 3), draw.choice(("docs", "backend", "security"))
    either = query_pb2.PredicateList(parts=[_is("type", *map(type_name, kinds)), _is("source", SOURCES[source])])
    untagged = query_pb2.Predicate()
    getattr(untagged, "not").CopyFrom(_is("tag", tag))
    both = query_pb2.PredicateList(parts=[query_pb2.Predicate(any=either), untagged])
    request = query_pb2.AggregateRequest(
        metrics=["events", "users"],
        dimensions=["time:day"],
        start_ms=start,
        end_ms=end,
        filter=query_pb2.Predicate(all=both),
    )
    return Asked(request, (instant(start), instant(end), *kinds, source, tag))


def _latest_of_user(draw: random.Random, history: History) -> Asked:
    user = draw.randrange(history.users)
    where = query_pb2.EventFilter(user_ids=[user_name(user)])
    return Asked(query_pb2.ListEventsRequest(filter=where, page_size=LATEST), (user,))


def _latest_of_type(draw: random.Random, _history: History) -> Asked:
    kind = draw.randrange(TYPES)
    where = query_pb2.EventFilter(types=[type_name(kind)])
    return Asked(query_pb2.ListEventsRequest(filter=where, page_size=LATEST), (kind,))


def _latest(_draw: random.Random, _history: History) -> Asked:
    return Asked(query_pb2.ListEventsRequest(page_size=LATEST))


def _counted(draw: random.Random, history: History) -> Asked:
    start, end = _most_months(draw, history)
    by = [query_pb2.COUNT_DIMENSION_TYPE, query_pb2.COUNT_DIMENSION_MONTH]
    where = query_pb2.EventFilter(start_ms=start, end_ms=end)
    return Asked(query_pb2.CountEventsRequest(filter=where, by=by), (instant(start), instant(end)))


# SQL

_RANGE = "FROM events WHERE ts >= $1 AND ts < $2"
_EVENT = "SELECT id, type, user_id, source, ts, session_id, tags, metadata FROM events"
_NEWEST = f"ORDER BY ts DESC LIMIT {LATEST}"
_COUNTS = "count(*) AS events, count(DISTINCT user_id) AS users"
_DUCK_TAG = "unnest(CASE WHEN len(tags) = 0 THEN [NULL] ELSE tags END)"
_DUCK_LOCAL_DAY = f"date_trunc('day', timezone('{ZONE}', timezone('UTC', ts)))"


KINDS: tuple[Kind, ...] = (
    Kind(
        "daily_by_type",
        "events and users by day and type, all months",
        _table(["events", "users"], ["time:day", "type"], _almost_all),
        f"SELECT date_trunc('day', ts) AS day, type, {_COUNTS} {_RANGE} GROUP BY 1, 2 ORDER BY 1, 2",
        bar_ms=20,
    ),
    Kind(
        "daily_by_type_other_zone",
        f"the same by days of {ZONE}",
        _table(["events", "users"], ["time:day", "type"], _almost_all, zone=ZONE),
        f"SELECT date_trunc('day', ts, '{ZONE}') AS day, type, {_COUNTS} {_RANGE} GROUP BY 1, 2 ORDER BY 1, 2",
        f"SELECT timezone('UTC', timezone('{ZONE}', day)) AS day, type, events, users FROM ("
        f"SELECT {_DUCK_LOCAL_DAY} AS day, type, {_COUNTS} {_RANGE} GROUP BY 1, 2) ORDER BY 1, 2",
    ),
    Kind(
        "hourly_of_type",
        "events of a type by hour, 30 days",
        _hourly_of_type,
        f"SELECT date_trunc('hour', ts) AS hour, count(*) AS events {_RANGE} AND type = $3 GROUP BY 1 ORDER BY 1",
        bar_ms=10,
    ),
    Kind(
        "latest_of_user",
        "latest 50 events of a user",
        _latest_of_user,
        f"{_EVENT} WHERE user_id = $1 {_NEWEST}",
        bar_ms=5,
    ),
    Kind(
        "latest_of_type",
        "latest 50 events of a type",
        _latest_of_type,
        f"{_EVENT} WHERE type = $1 {_NEWEST}",
    ),
    Kind("latest", "latest 50 events", _latest, f"{_EVENT} {_NEWEST}"),
    Kind(
        "top_users_of_month",
        "top 10 users of a month",
        _table(["events"], ["user"], _month, order=[("events", True)], limit=10),
        f"SELECT user_id, count(*) AS events {_RANGE} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10",
        bar_ms=50,
    ),
    Kind(
        "users_by_month_and_type",
        "users by month and type, all months",
        _table(["users"], ["time:month", "type"], _most_months),
        "SELECT date_trunc('month', ts) AS month, type, count(DISTINCT user_id) AS users "
        f"{_RANGE} GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    Kind(
        "totals_by_type_and_source",
        "events by type and source, all months",
        _table(["events"], ["type", "source"], _most_months),
        f"SELECT type, source, count(*) AS events {_RANGE} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
    ),
    Kind(
        "counts_by_type_and_month",
        "CountEvents by type and month, all months",
        _counted,
        f"SELECT type, date_trunc('month', ts) AS month, count(*) AS events {_RANGE} GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    Kind(
        "tags_of_month",
        "events by tag, a month",
        _table(["events"], ["tag"], _month),
        "SELECT tag, count(*) AS events FROM events LEFT JOIN LATERAL unnest(tags) AS tag ON true "
        "WHERE ts >= $1 AND ts < $2 GROUP BY 1 ORDER BY 2 DESC, 1",
        f"SELECT tag, count(*) AS events FROM (SELECT {_DUCK_TAG} AS tag {_RANGE}) GROUP BY 1 ORDER BY 2 DESC, 1",
    ),
    Kind(
        "metadata_of_month",
        "events and users by a metadata key, a month",
        _table(["events", "users"], ["metadata:repo"], _month),
        f"SELECT metadata->>'repo' AS repo, {_COUNTS} {_RANGE} GROUP BY 1 ORDER BY 2 DESC, 1",
        f"SELECT metadata->>'$.repo' AS repo, {_COUNTS} {_RANGE} GROUP BY 1 ORDER BY 2 DESC, 1",
    ),
    Kind(
        "p95_by_type_of_month",
        "p95 of a metadata number by type, a month",
        _table(["p95(ms)"], ["type"], _month, order=[("type", False)]),
        "SELECT type, percentile_cont(0.95) WITHIN GROUP (ORDER BY (metadata->>'ms')::float8) AS p95 "
        f"{_RANGE} GROUP BY 1 ORDER BY 1",
        f"SELECT type, quantile_cont((metadata->>'$.ms')::DOUBLE, 0.95) AS p95 {_RANGE} GROUP BY 1 ORDER BY 1",
    ),
    Kind(
        "filtered_daily",
        "events and users by day, and/or/not, 90 days",
        _filtered,
        f"SELECT date_trunc('day', ts) AS day, {_COUNTS} {_RANGE} "
        "AND (type IN ($3, $4, $5) OR source = $6) AND NOT ($7 = ANY (tags)) GROUP BY 1 ORDER BY 1",
        f"SELECT date_trunc('day', ts) AS day, {_COUNTS} {_RANGE} "
        "AND (type IN ($3, $4, $5) OR source = $6) AND NOT list_contains(tags, $7) GROUP BY 1 ORDER BY 1",
    ),
)
