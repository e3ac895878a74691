"""The records of the embedded engine: tables of the catalog, written in its commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from retention.chain import EMPTY, Deed, Head, Record, append
from retention.facts import Copy, CopyKind
from retention.hold import Hold
from retention.month import Month
from server.errors import Unavailable
from server.frozen import Frozen, KeptMonths, coarsened, joined
from server.model import MonthInfo
from server.rewriting import Claimed, Loss, Losses
from server.storage.records import Records, check_hold, copy_unknown
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import frozen_numbers
from server.storage.sqlite.catalog import Catalog


class CatalogRecords(Records):
    """See the contract."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._head = self._read_head()
        self._losses = self._read_losses()
        with sqlite.translated():
            self._kept: KeptMonths = frozen_numbers.kept_months(catalog.connection)

    def _rows(self, sql: str, *bindings: Any) -> list[Any]:
        with sqlite.translated():
            return sqlite.fetch(self._catalog.connection, sql, bindings)

    # Evidence

    @property
    def head(self) -> Head:
        return self._head

    def _read_head(self) -> Head:
        last = self._rows("SELECT line FROM evidence ORDER BY sequence DESC LIMIT 1")
        return Record.parse(last[0][0].encode()).head if last else EMPTY

    def evidence(self, after: int = 0, limit: int = 1_000) -> Sequence[bytes]:
        sql = "SELECT line FROM evidence WHERE sequence > ? ORDER BY sequence LIMIT ?"
        return [line.encode() for (line,) in self._rows(sql, after, limit)]

    def record(self, deed: Deed) -> Record:
        with self._change(deed) as record:
            pass
        return record

    def _change(self, deed: Deed) -> _Change:
        return _Change(self, self._catalog, append(self._head, deed))

    def recorded(self, record: Record) -> None:
        """The commit with this record is done."""
        self._head = record.head

    # Holds

    def holds(self) -> Sequence[Hold]:
        return [_hold(*row) for row in self._rows("SELECT code, released_ms, document FROM holds ORDER BY code")]

    def put_hold(self, hold: Hold, deed: Deed) -> None:
        check_hold(hold, next((one for one in self.holds() if one.code == hold.code), None))
        document = {
            "reason": hold.reason,
            "placed_ms": hold.placed_ms,
            "users": sorted(hold.users),
            "types": hold.types,
            "sources": sorted(hold.sources),
            "first_month": str(hold.first_month) if hold.first_month else None,
            "last_month": str(hold.last_month) if hold.last_month else None,
        }
        with self._change(deed):
            self._catalog.connection.execute(
                "INSERT INTO holds VALUES (?, ?, ?) ON CONFLICT(code) DO UPDATE SET released_ms = excluded.released_ms",
                (hold.code, hold.released_ms, orjson.dumps(document).decode()),
            )

    # Copies

    def copies(self) -> Mapping[Month, Sequence[Copy]]:
        found: dict[Month, list[Copy]] = {}
        for month, name, document in self._rows("SELECT month, name, document FROM copies ORDER BY month, name"):
            fields = orjson.loads(document)
            copy = Copy(**fields | {"name": name, "kind": CopyKind(fields["kind"]), "types": tuple(fields["types"])})
            found.setdefault(Month.parse(month), []).append(copy)
        return found

    def put_copy(self, month: Month, copy: Copy, deed: Deed) -> None:
        fields = {name: getattr(copy, name) for name in Copy.__slots__ if name not in ("name", "held")}
        with self._change(deed):
            self._catalog.connection.execute(
                "INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (str(month), copy.name, orjson.dumps(fields).decode())
            )

    def remove_copy(self, month: Month, name: str, deed: Deed) -> None:
        if not self._rows("SELECT 1 FROM copies WHERE month = ? AND name = ?", str(month), name):
            raise copy_unknown(month, name)
        with self._change(deed):
            self._catalog.connection.execute("DELETE FROM copies WHERE month = ? AND name = ?", (str(month), name))

    # Numbers

    def keep(self, frozen: Frozen, deed: Deed) -> None:
        kept = joined(frozen, self._kept.get(frozen.month))
        with self._change(deed):
            frozen_numbers.put(self._catalog.connection, frozen, deed.time_ms)
        self._kept = {**self._kept, frozen.month: kept}

    @property
    def frozen(self) -> KeptMonths:
        return self._kept

    # What was lost

    @property
    def losses(self) -> Mapping[Month, Losses]:
        return self._losses

    def _read_losses(self) -> dict[Month, Losses]:
        found: dict[Month, dict[str, Loss]] = {}
        sql = "SELECT month, type, gone, users, grain_ms, since_ms, source FROM losses"
        for month, name, gone, users, grain_ms, since_ms, source in self._rows(sql):
            loss = Loss(bool(gone), bool(users), grain_ms, since_ms, bool(source))
            found.setdefault(Month.parse(month), {})[name] = loss
        return dict(found)

    def become(
        self,
        info: MonthInfo,
        lost: Losses | None = None,
        deed: Deed | None = None,
        *,
        last_position: int = 0,
        sources: Iterable[str] = (),
        claimed: Claimed | None = None,
    ) -> None:
        """A month is this from now on, and lacks that (None: what it lacked before): one commit with the deed.

        `last_position` and `sources`: of a month that is dropped. `claimed`: the frozen numbers become coarse for it.
        """
        with sqlite.translated(), self._catalog.owned() if deed is None else self._change(deed):
            self._become(info, lost, last_position)
            kept = self._coarsened(info.month, claimed) if claimed else self._kept
            names = [(name,) for name in sources]
            self._catalog.connection.executemany("UPDATE sources SET dropped = 1 WHERE name = ?", names)
        self._kept = kept
        if lost is not None:
            self._losses = {**self._losses, info.month: dict(lost)}

    def clear_log(self) -> None:
        """What was taken away is not left in the log of the catalog. If somebody reads right now, that is for later."""
        with suppress(Unavailable):
            self._catalog.checkpoint()

    def _coarsened(self, month: Month, claimed: Claimed) -> KeptMonths:
        known = self._kept.get(month)
        if known is None:
            return self._kept
        cells = frozen_numbers.cells(lambda sql, bindings: self._rows(sql, *bindings), month)
        details = coarsened(known, cells, claimed.types, claimed.k)
        frozen_numbers.coarsen(self._catalog.connection, month, details)
        return {**self._kept, month: replace(known, details={**known.details, **details})}

    def _become(self, info: MonthInfo, lost: Losses | None, last_position: int) -> None:
        self._catalog.put_month(info, last_position)
        if lost is not None:
            month, connection = str(info.month), self._catalog.connection
            connection.execute("DELETE FROM losses WHERE month = ?", (month,))
            rows = [
                (month, name, loss.gone, loss.users, loss.grain_ms, loss.since_ms, loss.source)
                for name, loss in lost.items()
            ]
            connection.executemany("INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    # The clock

    @property
    def clock_accepted_ms(self) -> int | None:
        found = self._rows("SELECT value FROM about WHERE key = 'clock_accepted_ms'")
        return int(found[0][0]) if found else None

    def accept_clock(self, now_ms: int) -> None:
        with sqlite.translated(), self._catalog.owned():
            self._catalog.connection.execute("INSERT OR REPLACE INTO about VALUES ('clock_accepted_ms', ?)", (now_ms,))


class _Change:
    """A commit of the catalog that also adds a record to the chain."""

    def __init__(self, records: CatalogRecords, catalog: Catalog, record: Record) -> None:
        self._records = records
        self._catalog = catalog
        self._record = record
        self._owned = catalog.owned()

    def __enter__(self) -> Record:
        with sqlite.translated():
            self._owned.__enter__()
            try:
                self._catalog.connection.execute(
                    "INSERT INTO evidence VALUES (?, ?)", (self._record.sequence, self._record.line().decode())
                )
            except BaseException as error:
                self._owned.__exit__(type(error))
                raise
        return self._record

    def __exit__(self, kind: object, *rest: object) -> None:
        with sqlite.translated():
            self._owned.__exit__(kind, *rest)
        if kind is None:
            self._records.recorded(self._record)


def _hold(code: str, released_ms: int | None, document: str) -> Hold:
    fields = orjson.loads(document)
    return Hold(
        code=code,
        reason=fields["reason"],
        placed_ms=fields["placed_ms"],
        users=frozenset(fields["users"]),
        types=tuple(fields["types"]),
        sources=frozenset(fields["sources"]),
        first_month=Month.parse(fields["first_month"]) if fields["first_month"] else None,
        last_month=Month.parse(fields["last_month"]) if fields["last_month"] else None,
        released_ms=released_ms,
    )
