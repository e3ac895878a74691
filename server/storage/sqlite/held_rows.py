"""Which rows of a sealed month retention may touch, and which are under a hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import apsw

from retention.facts import RAW, Held
from retention.hold import Hold
from retention.month import Month
from server.rewriting import Selection
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.schema import events_table

MASK_BITS = 63
"""Keys that a mask in one of SQLite's integers has room for."""


@dataclass(frozen=True, slots=True)
class Marked:
    """Selected rows, those under holds aside."""

    mine: str
    """A condition over a row `e` of the events."""
    withheld: tuple[tuple[str, int], ...] = ()
    """(code of the hold, rows that it keeps), by code."""


def mark_held(
    connection: apsw.Connection, database: str, month: Month, rows: Selection, holds: Iterable[Hold]
) -> Marked:
    """Finds the selected rows that are held, into the table temp.held, and says how to select the others."""
    types = dict(sqlite.fetch(connection, f"SELECT key, name FROM {database}.types"))
    forms = {0: RAW} | dict(sqlite.fetch(connection, f"SELECT key, profile FROM {database}.forms"))
    selected = f"{_among('e.type', types, rows.types)} AND {_among('e.form', forms, rows.forms)}"
    connection.execute("CREATE TEMP TABLE held (position INTEGER PRIMARY KEY)")
    withheld = []
    for hold, condition in _conditions(connection, database, month, holds):
        found = f"FROM {database}.{events_table(month)} e WHERE {selected} AND {condition}"
        count = connection.execute(f"SELECT count(*) {found}").get
        if count:
            withheld.append((hold.code, count))
            connection.execute(f"INSERT OR IGNORE INTO temp.held SELECT e.position {found}")
    free = " AND e.position NOT IN (SELECT position FROM temp.held)" if withheld else ""
    return Marked(f"({selected}{free})", tuple(sorted(withheld)))


def held_by_type(
    connection: apsw.Connection, month: Month, holds: Iterable[Hold], *, sealed: bool = True
) -> dict[int, Held]:
    """How many rows of each type, by key, the holds keep; types without any are absent. Only rows as they were sent."""
    table = events_table(month)
    found: dict[int, dict[str, int]] = {}
    conditions = list(_conditions(connection, "main", month, holds, sealed=sealed))
    for hold, condition in conditions:
        for key, rows in connection.execute(f"SELECT e.type, count(*) FROM {table} e WHERE {condition} GROUP BY 1"):
            found.setdefault(key, {})[hold.code] = rows
    if not found:
        return {}
    either = " OR ".join(f"({condition})" for _hold, condition in conditions)
    union = dict(sqlite.fetch(connection, f"SELECT e.type, count(*) FROM {table} e WHERE {either} GROUP BY 1"))
    return {key: Held(union[key], tuple(sorted(codes.items()))) for key, codes in found.items()}


def _conditions(
    connection: apsw.Connection, database: str, month: Month, holds: Iterable[Hold], *, sealed: bool = True
) -> Iterator[tuple[Hold, str]]:
    """For each active hold that may hold something here: a condition over a row `e`."""
    names = dict(sqlite.fetch(connection, f"SELECT key, name FROM {database}.types"))
    for hold in holds:
        types = [key for key, name in names.items() if hold.touches(month, name)]
        if not hold.active or not types:
            continue
        # Rows of a month that is not sealed are all as they were sent.
        parts = ["e.form = 0" if sealed else "1", f"e.type IN ({_list(types)})"]
        if hold.users:
            parts.append(f"e.user IN ({_list(_users(connection, database, hold.users))})")
        if hold.sources:
            sources = _keys(connection, f"SELECT key, name FROM {database}.sources", hold.sources)
            parts.append(f"e.source IN ({_list(sources)})")
        yield hold, " AND ".join(parts)


def _among(column: str, names: Mapping[int, str], wanted: Iterable[str]) -> str:
    """That a column has the key of one of the wanted names. Asked of every row, several times: IN takes 0.4 us."""
    chosen = frozenset(wanted)
    keys = [key for key, name in names.items() if name in chosen]
    if len(keys) == len(names):
        return "1"
    if len(keys) == 1:
        return f"{column} = {keys[0]}"
    if keys and max(keys) < MASK_BITS:
        return f"(({sum(1 << key for key in keys)} >> {column}) & 1)"
    return f"{column} IN ({_list(keys)})"


def _users(connection: apsw.Connection, database: str, names: Iterable[str]) -> list[int]:
    wanted = sorted(names)
    found: list[int] = []
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        marks = ",".join("?" * len(part))
        sql = f"SELECT key FROM {database}.users WHERE name IN ({marks})"
        found += [key for (key,) in sqlite.fetch(connection, sql, part)]
    return found + ([0] if "" in wanted else [])


def _keys(connection: apsw.Connection, sql: str, wanted: Iterable[str]) -> list[int]:
    names = frozenset(wanted)
    return [key for key, name in sqlite.fetch(connection, sql) if name in names]


def _list(keys: Sequence[int]) -> str:
    """For IN (...): numbers of ours, so nothing to bind. Of none it is false, and not NULL: NOT is said of it."""
    return ",".join(map(str, keys))
