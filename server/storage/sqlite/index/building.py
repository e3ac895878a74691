"""Making runs: from rows, from other runs, and anew without removed rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from retention.month import Month
from server.storage.sqlite.index.file import IndexFile, Run
from server.storage.sqlite.index.reading import LEADS_END, Chunk, RunInfo
from server.storage.sqlite.index.rollup import (
    Days,
    Quarters,
    count_days,
    count_quarters,
    merge_days,
    merge_quarters,
)
from server.storage.sqlite.index.rows import (
    Keys,
    Positions,
    Rows,
    Sorted,
    merge,
    places,
    sort,
)
from server.storage.sqlite.index.tables import Projection
from server.storage.sqlite.zone_offsets import offsets_of

PIECE_ROWS = 262_144
"""A merge has so many rows of one order in memory at a time, about 150 bytes each."""

Zones = Mapping[str, ZoneInfo]
"""The zones whose days are kept, by name; UTC among them."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Which rows carry which labels: parallel columns, in the order of positions."""

    position: Positions
    label: Keys


NO_LABELS = Labels(np.empty(0, np.int64), np.empty(0, np.uint32))


class Built(Run):
    """A run of rows of one month that are in the order of their positions."""

    def __init__(
        self, rows: Rows, labels: Labels, covered: Sequence[tuple[int, str]], month: Month, zones: Zones
    ) -> None:
        self.first, self.last = int(rows.position[0]), int(rows.position[-1])
        self.covered = json.dumps(sorted(covered), separators=(",", ":"))
        self._rows = rows
        self._labels = labels
        self._month = month
        self._zones = zones
        self._by_type = sort(rows.type, rows, month.start_ms)

    def __len__(self) -> int:
        return len(self._rows)

    def sorted(self, projection: Projection) -> Sorted:
        if projection is Projection.BY_TYPE:
            return self._by_type
        if projection is Projection.BY_USER:
            return sort(self._rows.user, self._rows, self._month.start_ms)
        place, kept = places(self._rows.position, self._labels.position)
        return sort(self._labels.label[kept], self._rows.take(place[kept]), self._month.start_ms)

    def quarters(self) -> Quarters:
        return count_quarters(self._by_type, self._month.start_ms)

    def days(self) -> Iterator[tuple[str, Days]]:
        return _days(self._by_type, self._month, self._zones)


class Merged(Run):
    """One run out of several that follow each other."""

    def __init__(self, file: IndexFile, runs: Sequence[RunInfo]) -> None:
        self.first, self.last = runs[0].first, runs[-1].last
        self.covered = _covered(file, runs)
        self._file = file
        self._runs = runs

    def __len__(self) -> int:
        return sum(run.rows for run in self._runs)

    def sorted(self, projection: Projection) -> Sorted:
        return merge([self._file.sorted(run, projection) for run in self._runs], self._file.month.start_ms)

    def pieces(self, projection: Projection) -> Iterator[Sorted]:
        chunks = [chunk for run in self._runs for chunk in self._file.chunks(run, projection)]
        for low, end in pairwise([0, *cuts(chunks, PIECE_ROWS), LEADS_END]):
            parts = [self._file.sorted(run, projection, low, end) for run in self._runs]
            yield merge(parts, self._file.month.start_ms)

    def quarters(self) -> Quarters:
        return merge_quarters([self._file.all_quarters(run) for run in self._runs])

    def days(self) -> Iterator[tuple[str, Days]]:
        zones = [self._file.zones(run) for run in self._runs]
        for zone in sorted(frozenset.intersection(*zones)):
            yield zone, merge_days([self._file.all_days(run, zone) for run in self._runs])


def _covered(file: IndexFile, runs: Sequence[RunInfo]) -> str:
    """The dimensions that are covered by all of the runs that have events of their type."""
    covered = [{(kind, key) for kind, key in json.loads(run.covered)} for run in runs]
    types = [file.contents(run).types for run in runs]
    kept = [
        entry
        for entry in set().union(*covered)
        if all(entry in mine or entry[0] not in present for mine, present in zip(covered, types, strict=True))
    ]
    return json.dumps(sorted(kept), separators=(",", ":"))


class Reduced(Run):
    """A run as if some of its rows had never been. Rollups are made anew: a set does not tell who is left."""

    def __init__(self, file: IndexFile, run: RunInfo, positions: Positions, zones: Zones) -> None:
        self.first, self.last, self.covered = run.first, run.last, run.covered
        self._file = file
        self._run = run
        self._positions = positions
        self._zones = {zone: zones[zone] for zone in file.zones(run) if zone in zones}
        self._by_type = self.sorted(Projection.BY_TYPE)

    def __len__(self) -> int:
        return len(self._by_type)

    def sorted(self, projection: Projection) -> Sorted:
        return self._file.sorted(self._run, projection).without(self._positions)

    def quarters(self) -> Quarters:
        return count_quarters(self._by_type, self._file.month.start_ms)

    def days(self) -> Iterator[tuple[str, Days]]:
        return _days(self._by_type, self._file.month, self._zones)


def cuts(chunks: Iterable[Chunk], rows_max: int) -> Iterator[int]:
    """Leads at which to cut so that about so many rows, or those of one lead, are between two cuts."""
    rows, last = 0, 0
    for chunk in sorted(chunks, key=lambda chunk: chunk.low):
        if rows + chunk.rows > rows_max and chunk.low > last:
            yield chunk.low
            rows, last = 0, chunk.low
        rows += chunk.rows


def _days(by_type: Sorted, month: Month, zones: Zones) -> Iterator[tuple[str, Days]]:
    for name, zone in zones.items():
        yield name, count_days(by_type, offsets_of(zone, month.start_ms, month.end_ms))
