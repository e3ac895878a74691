"""`trackd check` of frozen numbers: they agree with each other, and with the rows of every type that has not gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product

import apsw

from retention.month import Month
from server.errors import Corrupt
from server.frozen import ANY_TYPE, UTC
from server.question import BucketUnit
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import frozen_numbers
from server.storage.sqlite.schema import events_table


class FrozenCheck:
    """What a catalog says of frozen numbers. Of an older one without such tables: nothing."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.problems: list[str] = []
        self._totals: dict[Month, dict[str, int]] = {}
        tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('frozen_types', 'coarse_types', 'losses')"
        if connection.execute(tables).get == 3:
            self._read(connection)

    def _read(self, connection: apsw.Connection) -> None:
        def rows(sql: str, bindings: frozen_numbers.Bindings) -> list[tuple[apsw.SQLiteValue, ...]]:
            return sqlite.fetch(connection, sql, bindings)

        gone = set(sqlite.fetch(connection, "SELECT month, type FROM losses WHERE gone"))
        for month, kept in frozen_numbers.kept_months(connection).items():
            cells = frozen_numbers.cells(rows, month)
            for name, detail in sorted(kept.details.items()):
                where = f"frozen numbers of {name or 'all types'} in {month}"
                try:
                    counted = int(frozen_numbers.counts(rows, month, name).events.sum())
                except Corrupt as problem:
                    self.problems.append(f"{where}: {problem.message}")
                    continue
                sums = Counter(dict.fromkeys(product(detail.zones, detail.grains), 0))
                for cell in cells.get(name, ()):
                    sums[cell.zone, cell.grain] += cell.events
                    if 0 < cell.users < detail.k:
                        self.problems.append(f"{where}: a {cell.grain.value} has {cell.users} users, under {detail.k}")
                if not detail.quarters:
                    counted = sums[UTC, BucketUnit.MONTH]
                totals = {*sums.values(), *([] if name == ANY_TYPE else [counted])}
                if len(totals) > 1:
                    self.problems.append(f"{where}: they add up to {sorted(totals)} events")
                if name != ANY_TYPE and (str(month), name) not in gone:
                    self._totals.setdefault(month, {})[name] = counted

    def against_rows(self, connection: apsw.Connection, month: Month) -> Iterator[str]:
        """A month whose rows are not as many as were counted: rows change, and do not come or go one by one."""
        expected: Mapping[str, int] = self._totals.get(month, {})
        if not expected:
            return
        sql = f"SELECT t.name, count(*) FROM {events_table(month)} e JOIN types t ON t.key = e.type GROUP BY t.name"
        found = dict(sqlite.fetch(connection, sql))
        for name, events in expected.items():
            if found.get(name, 0) != events:
                yield f"has {found.get(name, 0)} events of {name}; {events} were counted when its numbers were frozen"
