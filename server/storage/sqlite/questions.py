"""The SQL of questions about one month. Every value is bound; only names of our own tables are put into the text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import apsw

from retention.month import Month
from server.model import Dimension, EventFilter, Keyset, Order
from server.storage.sqlite.schema import CHANGE_COLUMNS, changes_table, events_table

_DICTIONARIES = {Dimension.TYPE: "types", Dimension.SOURCE: "sources", Dimension.USER: "users"}
_KEY_COLUMNS = {Dimension.TYPE: "type", Dimension.SOURCE: "source", Dimension.USER: "user"}

Bindings: TypeAlias = "list[apsw.SQLiteValue]"


_WIDE = "e.timestamp_ms, e.received_ms, e.session_id, e.client_ip, e.description, e.tags, e.metadata, " + ", ".join(
    f"c.{column}" for column in CHANGE_COLUMNS
)
_FIELDS = f"e.position, e.id, t.name, u.name, s.name, {_WIDE}"


def _joined_of(month: Month) -> str:
    """The tables of a month."""
    return (
        f"FROM {events_table(month)} e JOIN types t ON t.key = e.type JOIN users u ON u.key = e.user "
        f"JOIN sources s ON s.key = e.source LEFT JOIN {changes_table(month)} c ON c.position = e.position "
    )


def page(
    month: Month, where: EventFilter, order: Order, limit: int, after: Keyset | None, as_of: int
) -> tuple[str, Bindings]:
    """One page of a month's events, each with its change: the columns of events, names for keys, then of changes.

    The inner statement sorts positions only, so that the wide columns are fetched for the rows of the page alone.
    """
    conditions, bindings = _conditions(where, as_of)
    beyond = "<" if order.descending else ">"
    if after is not None and order.by_time:
        conditions.append(f"(timestamp_ms, position) {beyond} (?, ?)")
        bindings += (after.timestamp_ms, after.position)
    elif after is not None:
        conditions.append(f"position {beyond} ?")
        bindings.append(after.position)
    inner = _ordered("", order)
    events = events_table(month)
    sql = (
        f"SELECT {_FIELDS} "
        + _joined_of(month)
        + f"WHERE e.position IN (SELECT position FROM {events} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {inner} LIMIT ?) ORDER BY {_ordered('e.', order)}"
    )
    return sql, [*bindings, limit]


def events_at(month: Month, positions: Sequence[int], where: EventFilter, order: Order) -> tuple[str, Bindings]:
    """Those of the events at some positions that match, as `page` gives them, but for the id, which is hexadecimal.

    A JSON array of all rows. Each row by itself would be a step, with a wait for the interpreter lock at its end.
    """
    chosen = _marks(positions)
    bindings: Bindings = [*positions]
    if where != EventFilter():
        conditions, more = _conditions(where, max(positions, default=0))
        chosen = (
            f"SELECT position FROM {events_table(month)} WHERE position IN ({chosen}) AND {' AND '.join(conditions)}"
        )
        bindings += more
    sql = (
        f"SELECT json_group_array(json_array({_FIELDS.replace('e.id', 'hex(e.id)')}) ORDER BY {_ordered('e.', order)}) "
        + _joined_of(month)
        + f"WHERE e.position IN ({chosen})"
    )
    return sql, bindings


@lru_cache(maxsize=256)
def events_everywhere(months: tuple[tuple[str, Month], ...], room: int) -> str:
    """Events of several months, whose files are attached under these names: one row with a JSON array for each month.

    Bound for each month: `room` positions, NULL for none. The events are as `events_at` gives them, in any order, but
    with the keys of types, users and sources: who asks knows their names, and three lookups an event are saved.
    """
    fields = f"e.position, hex(e.id), e.type, e.user, e.source, {_WIDE}"
    marks = ",".join("?" * room)
    return "SELECT " + ",".join(
        f"(SELECT json_group_array(json_array({fields})) FROM {name}.{events_table(month)} e "
        f"LEFT JOIN {name}.{changes_table(month)} c ON c.position = e.position WHERE e.position IN ({marks}))"
        for name, month in months
    )


def _ordered(prefix: str, order: Order) -> str:
    direction = "DESC" if order.descending else "ASC"
    keys = ("timestamp_ms", "position") if order.by_time else ("position",)
    return ", ".join(f"{prefix}{key} {direction}" for key in keys)


def path_of(key: str) -> str:
    """The path of a metadata key. SQLite reads what is between the quotes of a path as the text of a JSON string."""
    return "$." + json.dumps(key, ensure_ascii=False)


def metadata_value(key: str, metadata: str = "metadata") -> tuple[str, Bindings]:
    """An expression for the value of a metadata key (server.question.FieldKind says what that is); NULL if absent.

    Only to be evaluated where `metadata` is not ''.
    """
    path = path_of(key)
    text = (
        f"CASE json_type({metadata}, ?) WHEN 'text' THEN {metadata} ->> ? WHEN 'integer' THEN {metadata} -> ? "
        f"WHEN 'real' THEN {metadata} -> ? WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' END"
    )
    return text, [path] * 4


def metadata_number(key: str) -> tuple[str, Bindings]:
    """An expression for the number at a metadata key, as a double; NULL if there is none."""
    path = path_of(key)
    number = (
        "CASE WHEN metadata <> '' AND json_type(metadata, ?) IN ('integer', 'real') "
        "THEN CAST(metadata ->> ? AS REAL) END"
    )
    return number, [path] * 2


def extent(month: Month) -> tuple[str, Bindings]:
    """The lowest and highest position of a month; both NULL without events. Two seeks by primary key."""
    events = events_table(month)
    return f"SELECT (SELECT min(position) FROM {events}), (SELECT max(position) FROM {events})", []


def count(month: Month, where: EventFilter, by: Sequence[Dimension], as_of: int) -> tuple[str, Bindings]:
    """Counts of a month's events: a name per dimension (type, source, user), then the number."""
    conditions, bindings = _conditions(where, as_of)
    columns = [_KEY_COLUMNS[dimension] for dimension in by]
    grouped = f"SELECT {', '.join([*columns, 'count(*) AS events'])} FROM {events_table(month)} WHERE " + " AND ".join(
        conditions
    )
    if not columns:
        return grouped, bindings
    grouped += f" GROUP BY {', '.join(columns)}"
    joins = " ".join(
        f"JOIN {_DICTIONARIES[dimension]} d{place} ON d{place}.key = g.{_KEY_COLUMNS[dimension]}"
        for place, dimension in enumerate(by)
    )
    names = ", ".join(f"d{place}.name" for place in range(len(by)))
    return f"SELECT {names}, g.events FROM ({grouped}) g {joins}", bindings


def _conditions(where: EventFilter, as_of: int) -> tuple[list[str], Bindings]:
    cut = as_of if where.up_to_position is None else min(as_of, where.up_to_position)
    conditions = ["position <= ?"]
    bindings: Bindings = [cut]
    for value, condition in (
        (where.after_position, "position > ?"),
        (where.start_ms, "timestamp_ms >= ?"),
        (where.end_ms, "timestamp_ms < ?"),
    ):
        if value is not None:
            conditions.append(condition)
            bindings.append(value)
    for names, column, table in (
        (where.types, "type", "types"),
        (where.user_ids, "user", "users"),
        (where.sources, "source", "sources"),
    ):
        if names:
            conditions.append(f"{column} IN (SELECT key FROM {table} WHERE name IN ({_marks(names)}))")
            bindings += names
    if where.session_ids:
        conditions.append(f"session_id IN ({_marks(where.session_ids)})")
        bindings += where.session_ids
    if where.tags:
        conditions.append(
            f"tags <> '' AND EXISTS (SELECT 1 FROM json_each(tags) WHERE json_each.value IN ({_marks(where.tags)}))"
        )
        bindings += where.tags
    return conditions, bindings


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
