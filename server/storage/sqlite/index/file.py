"""index-NNNN.db: the derived data of one generation of a month, in one file beside the truth.

A run is a set of rows between two positions, kept three times: by user, by type and by label (a tag, or a value of a
dimension), each sorted by (lead, time, position) and cut into chunks of columns; with the rollups of the same rows.
Runs are never changed, only replaced by others, in one transaction with the watermark. Nothing here is truth: the file
may be deleted at any time, and nothing is synced while events come in, for senders would wait along. Until it is, the
file says since which start of the machine (`UNSYNCED`); after another one, or copied, it is of no use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import numpy as np
from numpy.typing import NDArray

from retention.month import Month
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.index import boot
from server.storage.sqlite.index.held import NOTHING_HELD
from server.storage.sqlite.index.reading import IndexReader, RunInfo
from server.storage.sqlite.index.rollup import Days, Quarters, stretches
from server.storage.sqlite.index.rows import Sorted
from server.storage.sqlite.index.tables import (
    CACHE_BYTES,
    CHUNK_ROWS,
    LAYOUT,
    LOOKUP_ROWS,
    PAGE_BYTES,
    SCHEMA,
    WAL_PAGES,
    Projection,
    column_id,
)

UNSYNCED = "unsynced"
"""In `about`: which file, of which start of the machine, may lack commits on disk (`this_file`); "" if none."""


Label: TypeAlias = tuple[int, str, str]
"""Type (or TAG), metadata key (of a tag ''), value."""


def is_whole(path: Path, about: Mapping[str, object]) -> bool:
    """False if commits of an index may be missing, or half there: the machine has stopped, or this is a copy."""
    return about.get(UNSYNCED, "") in ("", boot.this_file(path))


class Run(ABC):
    """A run to be written, with everything that is derived from its rows.

    Made piece by piece, while it is written: all of a large one at once would take a lot of memory.
    """

    first: int
    last: int
    covered: str

    @abstractmethod
    def __len__(self) -> int:
        """How many events it has."""

    @abstractmethod
    def sorted(self, projection: Projection) -> Sorted:
        """Its rows in one of their orders."""

    def pieces(self, projection: Projection) -> Iterator[Sorted]:
        """The same one after the other, so that not all has to be in memory; no two have a lead in common."""
        yield self.sorted(projection)

    @abstractmethod
    def quarters(self) -> Quarters:
        """Its events by quarter-hour."""

    @abstractmethod
    def days(self) -> Iterator[tuple[str, Days]]:
        """Its users by day, zone by zone."""


class IndexFile(IndexReader):
    """An index, open for the folder, which writes. It reads runs once, to merge them, so nothing of them is held."""

    def __init__(self, connection: apsw.Connection, path: Path, month: Month) -> None:
        super().__init__(path, month, lambda: connection, NOTHING_HELD)
        self.connection = connection
        self.synced = True
        """Whether all that was committed is on disk, and so will be the next commit."""

    @classmethod
    def create(cls, path: Path, month: Month, about: Mapping[str, object]) -> IndexFile:
        """Makes an empty index. Under its name it is whole: readers may look for it at any time."""
        draft = path.with_name(f"{path.name}.draft")
        draft.unlink(missing_ok=True)
        draft.touch()
        about = {"layout": LAYOUT, "watermark": 0, UNSYNCED: boot.this_file(draft), **about}
        schema.lay_out(draft, SCHEMA, about, page_bytes=PAGE_BYTES)
        draft.rename(path)
        file = cls._open(path, month)
        if boot.boot_id():
            file.go_on_unsynced()
        return file

    @classmethod
    def open(cls, path: Path, month: Month) -> IndexFile:
        """Opens an index for the folder; Corrupt if it is none."""
        file = cls._open(path, month)
        with sqlite.translated(path):
            if schema.read_about(file.connection, path).get(UNSYNCED):
                file.go_on_unsynced()
        return file

    @classmethod
    def _open(cls, path: Path, month: Month) -> IndexFile:
        connection = sqlite.open_writer(
            path, cache_bytes=CACHE_BYTES, wal_bytes_max=WAL_PAGES * PAGE_BYTES, create=True
        )
        with sqlite.translated(path):
            connection.pragma("synchronous", "normal")
            connection.pragma("wal_autocheckpoint", WAL_PAGES)
        return cls(connection, path, month)

    def close(self) -> None:
        """Closes the file. Its log stays: to fold it back would take an fsync or two for every month."""
        with sqlite.translated(self.path):
            self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.connection.close()

    def state(self) -> tuple[int, int]:
        """The watermark, and the generation of removals that is applied."""
        version = self.version()
        return version.watermark, version.removals

    def runs(self) -> Sequence[RunInfo]:
        """All runs, in the order of their positions."""
        return self.version().runs

    def zones(self, info: RunInfo) -> frozenset[str]:
        """The zones whose days a run has."""
        return self.contents(info).zones

    # What is on disk for sure

    def leave_unsynced(self) -> None:
        """From the next commit on nothing is synced, until `sync`. That it is so is on disk before."""
        if self.synced and boot.boot_id() and self._note_unsynced():
            self.go_on_unsynced()

    def sync(self) -> bool:
        """Puts everything on disk and says so in the file; False if readers are in the way, for now."""
        with sqlite.translated(self.path):
            if not self._note_unsynced():
                return False
            self.connection.execute("UPDATE about SET value = '' WHERE key = ?", (UNSYNCED,))
            self.connection.pragma("synchronous", "normal")
            self.synced = True
            return True

    def go_on_unsynced(self) -> None:
        """The file says already that nothing is synced."""
        self.connection.pragma("synchronous", "off")
        self.synced = False

    def _note_unsynced(self) -> bool:
        """Durably, with all that was written before: the log, and what it has in the file. False if that did not go."""
        self.connection.pragma("synchronous", "full")
        # Also where it says so already: without something new in the log the file would not be synced.
        self.connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (UNSYNCED, boot.this_file(self.path)))
        logged, folded = self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if logged != folded:
            self.connection.pragma("synchronous", "normal" if self.synced else "off")
        return logged == folded

    # Writing, inside of a transaction that the caller began

    def set_state(self, watermark: int, removals: int) -> None:
        """Notes what the index covers now."""
        sql = "UPDATE about SET value = ? WHERE key = ?"
        self.connection.execute(sql, (watermark, "watermark"))
        self.connection.execute(sql, (removals, "removals"))

    def label_keys(self, wanted: Sequence[Label]) -> list[int]:
        """The labels of (type, field, value); new ones get new labels. The folder forgets a file after a failure."""
        known, values = self._known
        fresh = [entry for entry in dict.fromkeys(wanted) if entry not in known]
        if fresh:
            first = 1 + max(known.values(), default=0)
            known.update(zip(fresh, range(first, first + len(fresh)), strict=True))
            values.update(entry[:2] for entry in fresh)
            columns: dict[str, Sequence[Any]] = dict(
                zip(("type", "field", "value"), zip(*fresh, strict=True), strict=True)
            )
            sqlite.insert(self.connection, "labels", {"label": range(first, first + len(fresh)), **columns})
        return [known[entry] for entry in wanted]

    def has_label(self, entry: Label) -> bool:
        """Whether (type, field, value) has a label."""
        return entry in self._known[0]

    def values_of(self, kind: int, field: str) -> int:
        """How many values of a dimension have labels."""
        return self._known[1][kind, field]

    @cached_property
    def _known(self) -> tuple[dict[Label, int], Counter[tuple[int, str]]]:
        """The label of each (type, field, value), and how many values each (type, field) has."""
        rows = sqlite.fetch(self.connection, "SELECT type, field, value, label FROM labels")
        labels = {(kind, field, value): label for kind, field, value, label in rows}
        return labels, Counter(label[:2] for label in labels)

    def put(self, run: Run) -> None:
        """Adds a run."""
        info = (len(run), run.first, run.last, run.covered)
        sql = "INSERT INTO runs (rows, first, last, covered) VALUES (?, ?, ?, ?) RETURNING run"
        number = self.connection.execute(sql, info).get
        for projection in Projection:
            chunks = 0
            for piece in run.pieces(projection):
                chunks += self._put_sorted(number, projection, piece, chunks)
        quarters = run.quarters()
        parts = list(stretches(quarters.type))
        cells = np.stack((quarters.slot, quarters.source, _u32(quarters.events)))
        columns = {
            "run": [number] * len(parts),
            "type": [kind for kind, _part in parts],
            "data": [cells[:, part].tobytes() for _kind, part in parts],
        }
        sqlite.insert(self.connection, "quarters", columns)
        for zone, days in run.days():
            self._put_days(number, zone, days)

    def _put_sorted(self, run: int, projection: Projection, part: Sorted, first: int) -> int:
        """Writes chunks, the first of which has this number; how many."""
        if not len(part):
            return 0
        rows = part.rows
        times = _u32(rows.timestamp_ms - self.month.start_ms)
        columns: list[NDArray[Any]] = [times, rows.position, rows.type, rows.user, rows.source]
        if projection is Projection.BY_LABEL:
            columns.append(part.lead)
        size = LOOKUP_ROWS if projection is Projection.BY_USER else CHUNK_ROWS
        starts = np.arange(0, len(part), size)
        ends = np.minimum(starts + size, len(part))
        cuts = list(zip(starts.tolist(), ends.tolist(), strict=True))
        chunks: dict[str, list[int]] = {
            "run": [run] * len(cuts),
            "projection": [int(projection)] * len(cuts),
            "number": list(range(first, first + len(cuts))),
            "low": part.lead[starts].tolist(),
            "high": part.lead[ends - 1].tolist(),
            "early": np.minimum.reduceat(times, starts).tolist(),
            "late": np.maximum.reduceat(times, starts).tolist(),
            "rows": (ends - starts).tolist(),
        }
        places = [
            (column_id(run, projection, number) + slot, column[low:high].tobytes())
            for number, (low, high) in enumerate(cuts, first)
            for slot, column in enumerate(columns)
        ]
        ids, blobs = zip(*places, strict=True)
        sqlite.insert(self.connection, "chunks", chunks)
        sqlite.insert(self.connection, "columns", {"id": ids, "data": blobs})
        return len(cuts)

    def _put_days(self, run: int, zone: str, days: Days) -> None:
        sizes = np.fromiter(map(len, days.people), np.int64, count=len(days))
        begins = np.zeros(len(days), np.int64)
        parts = list(stretches(days.type))
        for _kind, part in parts:
            begins[part] = np.cumsum(sizes[part]) - sizes[part]
        columns: dict[str, Sequence[Any]] = {
            "run": [run] * len(parts),
            "zone": [zone] * len(parts),
            "type": [kind for kind, _part in parts],
            "data": [b"".join(days.people[part]) for _kind, part in parts],
        }
        sqlite.insert(self.connection, "people", columns)
        cells = np.stack(
            (days.type.astype(np.int64), days.day.astype(np.int64), days.events, days.users, begins, begins + sizes)
        )
        self.connection.execute("INSERT INTO days VALUES (?, ?, ?)", (run, zone, cells.tobytes()))

    def drop(self, runs: Sequence[int]) -> None:
        """Removes runs."""
        for run in runs:
            span = (column_id(run, 0, 0), column_id(run + 1, 0, 0))
            self.connection.execute("DELETE FROM columns WHERE id >= ? AND id < ?", span)
            for table in ("runs", "chunks", "quarters", "days", "people"):
                self.connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))


def _u32(column: NDArray[np.int64]) -> NDArray[np.uint32]:
    return column.astype(np.uint32)
