"""`trackd check`: is what is on disk what the contract promises? Reads only; may run beside a daemon that is idle."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
from pyroaring import BitMap64

from retention.month import Month
from server.errors import TrackdError
from server.model import Finding, MonthState
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.content_digest import content_digest
from server.storage.sqlite.frozen_check import FrozenCheck
from server.storage.sqlite.index.check import check_index
from server.storage.sqlite.layout import Layout
from server.storage.treatment import PSEUDONYM_MARK

CACHE_BYTES = 32 * 1024 * 1024
FINDINGS_MAX = 20
"""Of one kind in one file: enough to see the pattern."""


def check_directory(layout: Layout) -> list[Finding]:
    """Every finding about the catalog, each month alone, and all of them together."""
    findings: list[Finding] = []
    if not layout.catalog.exists():
        return [Finding(str(layout.root), "there is no catalog.db: not a data directory of trackd")]
    try:
        catalog = _Catalog(layout)
    except (TrackdError, apsw.Error) as error:
        return [Finding("catalog.db", f"cannot be read: {error}")]
    findings += [Finding("catalog.db", problem) for problem in catalog.problems]
    positions = BitMap64()
    replaced: dict[Month, int] = {}
    names: dict[str, dict[int, str]] = {"types": catalog.types, "users": catalog.users, "sources": catalog.sources}
    for month, generation in catalog.months.items():
        where = f"months/{month}/g{generation:04d}/events.db"
        try:
            checked = _MonthCheck(layout, month, generation)
            problems = list(checked.problems())
            problems += checked.against(catalog, names, positions)
            problems += checked.against_numbers(catalog.frozen)
            findings += [
                Finding(f"months/{month}/g{generation:04d}/{name}", f"{problem}; delete it, it is made anew")
                for name, problem in checked.index_problems(layout)
            ]
            replaced[month] = checked.built_from
            checked.close()
        except (TrackdError, apsw.Error) as error:
            problems = [f"cannot be read: {error}"]
        findings += [Finding(where, problem) for problem in problems]
    for month, generation in layout.found():
        if month in catalog.dropped:
            continue
        in_use = catalog.months.get(month, 0)
        # What was replaced and not removed yet, or never adopted, is removed by the next start.
        left_over = replaced.get(month) if generation < in_use else _built_from(layout, month, generation) == in_use
        if in_use != generation and not left_over:
            findings.append(Finding(f"months/{month}/g{generation:04d}", "the catalog does not name this generation"))
    return findings


def _built_from(layout: Layout, month: Month, generation: int) -> int:
    try:
        checked = _MonthCheck(layout, month, generation)
    except (TrackdError, apsw.Error):
        return 0
    checked.close()
    return checked.built_from


class _Catalog:
    """What the catalog says."""

    def __init__(self, layout: Layout) -> None:
        connection = sqlite.open_reader(layout.catalog, cache_bytes=CACHE_BYTES)
        try:
            schema.read_about(connection, layout.catalog)
            self.problems = list(_integrity(connection))
            self.frozen = FrozenCheck(connection)
            self.problems += self.frozen.problems
            months = sqlite.fetch(connection, "SELECT month, generation, state FROM months ORDER BY month")
            self.months: dict[Month, int] = {}
            self.dropped: set[Month] = set()
            for month, generation, state in months:
                if state == MonthState.DROPPED.value:
                    self.dropped.add(Month.parse(month))
                else:
                    self.months[Month.parse(month)] = generation
            reserved = dict(sqlite.fetch(connection, "SELECT name, next FROM reserved"))
            self.position_end: int = reserved.get("position", 1)
            self.user_end: int = reserved.get("user", 1)
            self.users_complete: int = connection.execute("SELECT value FROM about WHERE key = 'users_complete'").get
            self.types: dict[int, str] = dict(sqlite.fetch(connection, "SELECT key, name FROM types"))
            self.sources: dict[int, str] = dict(sqlite.fetch(connection, "SELECT key, name FROM sources"))
            self.users: dict[int, str] = dict(sqlite.fetch(connection, "SELECT key, name FROM users"))
        finally:
            connection.close()


class _MonthCheck:
    """One month file under examination."""

    def __init__(self, layout: Layout, month: Month, generation: int) -> None:
        path = layout.events(month, generation)
        self._path = path
        self._month = month
        self._events = schema.events_table(month)
        self._changes = schema.changes_table(month)
        self._connection = sqlite.open_reader(path, cache_bytes=CACHE_BYTES)
        self._about = schema.read_about(self._connection, path)
        self._generation = generation
        self.built_from = int(str(self._about.get("built_from", 0)))

    def close(self) -> None:
        self._connection.close()

    def problems(self) -> Iterator[str]:
        """What is wrong with the file by itself."""
        yield from _integrity(self._connection)
        if (self._about.get("month"), self._about.get("generation")) != (str(self._month), self._generation):
            yield f"says that it is {self._about.get('month')}, generation {self._about.get('generation')}"
        for claim, condition in (
            ("id is not 16 bytes", "length(id) <> 16"),
            ("position is not positive", "position < 1"),
            (
                "event time is outside of the month",
                f"timestamp_ms < {self._month.start_ms} OR timestamp_ms >= {self._month.end_ms}",
            ),
            (
                "metadata is not a JSON object",
                "metadata <> '' AND NOT (json_valid(metadata) AND json_type(metadata) = 'object')",
            ),
            ("tags are not a JSON array", "tags <> '' AND NOT (json_valid(tags) AND json_type(tags) = 'array')"),
            ("type is not in the dictionary", "type NOT IN (SELECT key FROM types)"),
            ("user is not in the dictionary", "user NOT IN (SELECT key FROM users)"),
            ("source is not in the dictionary", "source NOT IN (SELECT key FROM sources)"),
        ):
            yield from self._rows_with(self._events, claim, condition)
        yield from self._against_its_digest()
        orphan = f"position NOT IN (SELECT position FROM {self._events})"
        yield from self._rows_with(self._changes, "change has no event", orphan)

    def _against_its_digest(self) -> Iterator[str]:
        """A sealed month says what was in it when it was sealed."""
        if self._about.get("state") == MonthState.SEALED.value:
            content = content_digest(self._path, self._month)
            if content.rows != self._about.get("rows"):
                yield f"has {content.rows} events; {self._about.get('rows')} were sealed"
            elif content.hexdigest() != self._about.get("digest"):
                yield "the digest of its events is not the one that was sealed"

    def index_problems(self, layout: Layout) -> Iterator[tuple[str, str]]:
        """What is wrong with the month's index."""
        return check_index(layout, self._month, self._generation, self._connection)

    def _rows_with(self, table: str, claim: str, condition: str) -> Iterator[str]:
        sql = f"SELECT position FROM {table} WHERE {condition} LIMIT {FINDINGS_MAX}"
        for (position,) in self._connection.execute(sql):
            yield f"position {position}: {claim}"

    def against_numbers(self, frozen: FrozenCheck) -> Iterator[str]:
        """What does not fit the frozen numbers."""
        return frozen.against_rows(self._connection, self._month)

    def against(self, catalog: _Catalog, names: dict[str, dict[int, str]], positions: BitMap64) -> Iterator[str]:
        """What does not fit the catalog and the months before; adds this month's positions."""
        mine = BitMap64(place for (place,) in self._connection.execute(f"SELECT position FROM {self._events}"))
        for position in list(mine & positions)[:FINDINGS_MAX]:
            yield f"position {position} is in another month as well"
        positions |= mine
        if mine and mine.max() >= catalog.position_end:
            yield f"position {mine.max()} was never reserved (next is {catalog.position_end})"
        for table, known in names.items():
            for key, name in self._connection.execute(f"SELECT key, name FROM {table}"):
                if known.setdefault(key, name) != name:
                    yield f"{table}: key {key} has another name elsewhere"
                elif table == "users" and key >= catalog.user_end:
                    yield f"users: key {key} was never reserved (next is {catalog.user_end})"
                elif (
                    table == "users"
                    and 0 < key < catalog.users_complete
                    and key not in catalog.users
                    and not name.startswith(PSEUDONYM_MARK)
                ):
                    yield f"users: key {key} is missing in the catalog"


def _integrity(connection: apsw.Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield line
