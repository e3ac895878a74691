"""One open month file, as the writer holds it: rows go in, duplicates are told apart, one commit makes them durable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import apsw
import orjson
from pyroaring import BitMap

from retention.month import Month
from server import content
from server.model import Absent, Action, Batch, Change, ChangeStatus, Item, Outcome
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema

_ON_CONFLICT = " ON CONFLICT(id) DO NOTHING"
"""Not INSERT OR IGNORE: that one also swallows violations of NOT NULL and of the position's uniqueness."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A batch's texts as dictionary keys: a column of types and one of users, and the source."""

    types: Sequence[int]
    users: Sequence[int]
    source: int


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one batch that go into one month. Row i of the batch has position `base + i`, whatever its month."""

    number: int
    """Which batch of the group."""
    batch: Batch
    keys: Keys
    base: int
    rows: Sequence[int] | None
    """Row numbers, rising; None: all of them."""

    def __len__(self) -> int:
        return len(self.batch) if self.rows is None else len(self.rows)

    def row_numbers(self) -> Sequence[int]:
        """The rows of the batch that this slice holds."""
        return range(len(self.batch)) if self.rows is None else self.rows

    def columns(self) -> dict[str, Sequence[Any]]:
        """The rows as columns of the table of events; `Absent` where no row has a value."""
        batch, keys, rows = self.batch, self.keys, self.row_numbers()
        tags: Sequence[str] = Absent(len(batch))
        if batch.tags:
            texts = {value: orjson.dumps(value).decode() for value in set(batch.tags.values())}
            texts[()] = ""
            tags = [texts[batch.tags.get(row, ())] for row in range(len(batch))]
        whole: dict[str, Sequence[Any]] = {
            "position": range(self.base, self.base + len(batch)),
            "id": batch.ids,
            "type": keys.types,
            "user": keys.users,
            "source": [keys.source] * len(batch),
            "timestamp_ms": batch.timestamps_ms,
            "received_ms": [batch.received_ms] * len(batch),
            "session_id": batch.session_ids,
            "client_ip": batch.client_ips,
            "description": batch.descriptions,
            "tags": tags,
            "metadata": batch.metadata,
        }
        if self.rows is None:
            return whole
        return {
            name: Absent(len(rows)) if isinstance(column, Absent) else [column[row] for row in rows]
            for name, column in whole.items()
        }


def _joined(slices: Sequence[Slice]) -> sqlite.Columns:
    """The columns of all slices, one after the other. What is absent in all of them is left to the table's default."""
    if len(slices) == 1:
        return {name: column for name, column in slices[0].columns().items() if not isinstance(column, Absent)}
    parts = [part.columns() for part in slices]
    return {
        name: list(chain.from_iterable(part[name] for part in parts))
        for name in schema.EVENT_COLUMNS
        if not all(isinstance(part[name], Absent) for part in parts)
    }


class MonthFile:
    """A month that is open for writing. Not thread-safe; the store's writer owns it."""

    def __init__(self, path: Path, month: Month, *, cache_bytes: int, wal_bytes_max: int) -> None:
        self.month = month
        self.path = path
        self.wal_pages = 0
        self._connection = sqlite.open_writer(path, cache_bytes=cache_bytes, wal_bytes_max=wal_bytes_max)
        self._events = schema.events_table(month)
        self._changes = schema.changes_table(month)
        self._fresh_users: BitMap = BitMap()
        with sqlite.translated(path):
            schema.read_about(self._connection, path)
            self._connection.set_wal_hook(self._count_wal_pages)
            self._users = BitMap(key for (key,) in sqlite.fetch(self._connection, "SELECT key FROM users"))
            self._types: set[int] = {key for (key,) in sqlite.fetch(self._connection, "SELECT key FROM types")}
            self._sources: set[int] = {key for (key,) in sqlite.fetch(self._connection, "SELECT key FROM sources")}

    def _count_wal_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    # One group: begin, append..., commit

    def begin(self) -> None:
        """Starts this month's transaction of the group."""
        with sqlite.translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")

    def append(self, slices: Sequence[Slice]) -> dict[int, list[Item]]:
        """Inserts the rows of partial batches; per batch number the items that are duplicates or conflicts."""
        if not slices:
            return {}
        with sqlite.translated(self.path):
            self._write_dictionary(slices)
            before = self._connection.total_changes()
            sqlite.insert(self._connection, self._events, _joined(slices), suffix=_ON_CONFLICT)
            missing: set[int] = set()
            expected = sum(map(len, slices))
            if self._connection.total_changes() - before != expected:
                missing = self._missing(slices)
            self._write_sources(slices, missing)
            self._write_changes(slices, missing)
            return {part.number: self._classify(part, missing) for part in slices} if missing else {}

    def append_atomic(self, part: Slice) -> list[Item]:
        """Inserts one atomic batch whole, or, if it has a conflict, nothing of it."""
        with sqlite.translated(self.path):
            self._connection.execute("SAVEPOINT atomic_batch")
        items = self.append([part]).get(part.number, [])
        conflict = any(item.outcome is Outcome.REJECTED for item in items)
        with sqlite.translated(self.path):
            if conflict:
                # The dictionary rows go with it; the key sets only learn of them at commit, so forget those as well.
                self._connection.execute("ROLLBACK TO atomic_batch")
                self._forget_uncommitted()
            self._connection.execute("RELEASE atomic_batch")
        return items

    def commit(self) -> None:
        """Makes the transaction durable: returns after fsync."""
        with sqlite.translated(self.path):
            self._connection.execute("COMMIT")
        self._users |= self._fresh_users
        self._fresh_users = BitMap()

    def rollback(self) -> None:
        """Undoes the transaction, if one is under way."""
        with sqlite.translated(self.path):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._forget_uncommitted()

    def _forget_uncommitted(self) -> None:
        self._fresh_users = (
            BitMap(key for (key,) in sqlite.fetch(self._connection, "SELECT key FROM users")) - self._users
        )
        self._types = {key for (key,) in sqlite.fetch(self._connection, "SELECT key FROM types")}
        self._sources = {key for (key,) in sqlite.fetch(self._connection, "SELECT key FROM sources")}

    # Removals

    def remove(self, positions: Sequence[int]) -> list[int]:
        """Erases the events at these positions, in the transaction under way; the positions of those that there were.

        Notes them under the next generation of removals, which indexes apply and `purge` then forgets.
        """
        with sqlite.translated(self.path):
            self._connection.execute(schema.REMOVED)
            generation = self._about("removals") + 1
            last = self.last_position()
            found: list[int] = []
            for start in range(0, len(positions), 500):
                part = positions[start : start + 500]
                marks = ",".join("?" * len(part))
                sql = f"DELETE FROM {self._events} WHERE position IN ({marks}) RETURNING position"
                gone = [position for (position,) in sqlite.fetch(self._connection, sql, part)]
                self._connection.execute(f"DELETE FROM {self._changes} WHERE position IN ({marks})", part)
                rows = [(generation, position) for position in gone]
                self._connection.executemany("INSERT INTO removed VALUES (?, ?)", rows)
                found += gone
            if found:
                self._note("removals", generation)
                self._note("last_position", last)
            return found

    def purge(self, generation: int) -> None:
        """Forgets the removals up to a generation: every index has applied them."""
        with sqlite.translated(self.path):
            if self._about("removals_purged") < generation:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("DELETE FROM removed WHERE generation <= ?", (generation,))
                self._note("removals_purged", generation)
                self._connection.execute("COMMIT")

    @property
    def removals(self) -> int:
        """The last generation of removals; 0 if nothing was ever erased."""
        with sqlite.translated(self.path):
            return self._about("removals")

    def _about(self, key: str) -> int:
        return self._connection.execute("SELECT value FROM about WHERE key = ?", (key,)).get or 0

    def _note(self, key: str, value: int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    def last_position(self) -> int:
        """The highest position ever stored in this month; 0 without events."""
        with sqlite.translated(self.path):
            last = self._connection.execute(f"SELECT max(position) FROM {self._events}").get or 0
            return max(last, self._about("last_position"))

    # Upkeep

    def checkpoint(self, mode: int) -> None:
        """Folds the write-ahead log back into the file (sqlite.org/c3ref/wal_checkpoint_v2.html)."""
        with sqlite.translated(self.path):
            # No waiting for readers: every sender would wait along. The next round gets it.
            self._connection.set_busy_timeout(0)
            try:
                logged, folded = self._connection.wal_checkpoint(mode=mode)
            except apsw.BusyError:
                return
            finally:
                self._connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
            if logged == folded:
                self.wal_pages = 0

    def close(self, *, checkpoint: bool = True) -> None:
        """Closes the file; the last one to close it folds its log back, unless told not to."""
        with sqlite.translated(self.path):
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(not checkpoint))
            self._connection.close()

    # Dictionary rows and changes

    def _write_dictionary(self, slices: Sequence[Slice]) -> None:
        users: dict[int, str] = {}
        for part in slices:
            batch, keys = part.batch, part.keys
            mine = keys.users if part.rows is None else [keys.users[row] for row in part.rows]
            new = BitMap(mine) - self._users - self._fresh_users
            if new:
                named = dict(zip(keys.users, batch.user_ids, strict=True))
                users.update((key, named[key]) for key in new)
                self._fresh_users |= new
            if new_types := set(keys.types) - self._types:
                names = dict(zip(keys.types, batch.types, strict=True))
                self._put("types", {key: names[key] for key in new_types})
                self._types |= new_types
        # In the order of the B-tree, whose pages are visited once each then.
        self._put("users", dict(sorted(users.items())))

    def _write_sources(self, slices: Sequence[Slice], missing: set[int]) -> None:
        """Only of batches that stored something: what the months name is what `Store.sources` tells."""
        for part in slices:
            if part.keys.source not in self._sources and any(
                part.base + row not in missing for row in part.row_numbers()
            ):
                self._put("sources", {part.keys.source: part.batch.source})
                self._sources.add(part.keys.source)

    def _put(self, table: str, names: Mapping[int, str]) -> None:
        if names:
            columns: sqlite.Columns = {"key": list(names), "name": list(names.values())}
            sqlite.insert(self._connection, table, columns, suffix=" ON CONFLICT(key) DO NOTHING")

    def _write_changes(self, slices: Sequence[Slice], missing: set[int]) -> None:
        rows: list[tuple[object, ...]] = []
        for part in slices:
            if part.batch.changes:
                wanted = None if part.rows is None else set(part.rows)
                rows += (
                    (part.base + row, *_change_row(change))
                    for row, change in part.batch.changes.items()
                    if part.base + row not in missing and (wanted is None or row in wanted)
                )
        if rows:
            columns: sqlite.Columns = dict(zip(schema.CHANGE_COLUMNS, zip(*rows, strict=True), strict=True))
            sqlite.insert(self._connection, self._changes, columns)

    # Duplicates and conflicts

    def _missing(self, slices: Sequence[Slice]) -> set[int]:
        """The positions that were not inserted because their id is there already."""
        first, last = slices[0].base, slices[-1].base + len(slices[-1].batch)
        stored = self._connection.execute(
            f"SELECT position FROM {self._events} WHERE position >= ? AND position < ?", (first, last)
        )
        return {part.base + row for part in slices for row in part.row_numbers()} - {place for (place,) in stored}

    def _classify(self, part: Slice, missing: set[int]) -> list[Item]:
        rows = [row for row in part.row_numbers() if part.base + row in missing]
        return judge_stored(self._connection, self.month, part, rows)


def judge_stored(connection: apsw.Connection, month: Month, part: Slice, rows: Iterable[int]) -> list[Item]:
    """Of some rows those whose id is in the month already: duplicates and conflicts."""
    items = []
    columns = list(part.columns().values())
    places = {row: place for place, row in enumerate(part.row_numbers())}
    events, changes = schema.events_table(month), schema.changes_table(month)
    for row in rows:
        stored = connection.execute(f"SELECT * FROM {events} WHERE id = ?", (part.batch.ids[row],)).get
        if stored is None:
            continue
        position = stored[0]
        found = connection.execute(f"SELECT * FROM {changes} WHERE position = ?", (position,)).get
        change = change_of(found) if found else None
        if len(stored) > len(schema.EVENT_COLUMNS) and stored[-1]:
            # It went through a profile: what it was is not known any more, and that it is there is.
            items.append(Item(row, Outcome.DUPLICATE, existing_position=position))
        elif _same_row(stored, [column[places[row]] for column in columns]) and content.same_change(
            change, part.batch.changes.get(row)
        ):
            items.append(Item(row, Outcome.DUPLICATE, existing_position=position))
        else:
            items.append(conflict(row, position))
    return items


def _same_row(stored: Sequence[object], offered: Sequence[object]) -> bool:
    """Whether two rows of events have the same content: all but position, source and received_ms; JSON by value."""
    return all(stored[place] == offered[place] for place in _PLAIN_CONTENT) and content.same_json(
        str(stored[_METADATA]), str(offered[_METADATA])
    )


_METADATA = schema.EVENT_COLUMNS.index("metadata")
_PLAIN_CONTENT = [
    place
    for place, name in enumerate(schema.EVENT_COLUMNS)
    if name not in ("position", "source", "received_ms", "metadata")
]


def _change_row(change: Change) -> tuple[object, ...]:
    return (
        change.table_name,
        change.row_id,
        int(change.action),
        change.old_values,
        change.new_values,
        int(change.status),
        change.rows_affected,
    )


def change_of(row: Sequence[Any]) -> Change:
    """A row of changes as a Change."""
    _position, table_name, row_id, action, old_values, new_values, status, rows_affected = row
    return Change(
        table_name,
        row_id,
        Action(action),
        old_values,
        new_values,
        ChangeStatus(status),
        rows_affected,
    )


def conflict(row: int, position: int) -> Item:
    """The rejection of an event whose id is taken by another."""
    return Item(
        row,
        Outcome.REJECTED,
        "ID_CONFLICT",
        "another event of this month has the same id and other content; give each event an id of its own",
        "id",
        existing_position=position,
    )
