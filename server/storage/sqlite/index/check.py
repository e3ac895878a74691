"""Is an index what its month says? Its rows, but for removals that it has yet to apply, are those of the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

import apsw
import numpy as np

from retention.month import Month
from server.errors import TrackdError
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.index.file import is_whole
from server.storage.sqlite.index.held import NOTHING_HELD
from server.storage.sqlite.index.reading import IndexReader, RunInfo
from server.storage.sqlite.index.rollup import Days, count_days, count_quarters, decode_people
from server.storage.sqlite.index.rows import EMPTY, Positions, Rows, Sorted, joined
from server.storage.sqlite.index.tables import TAG, Projection
from server.storage.sqlite.index.truth import Tagged, rows_of, tagged_of
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.removals import removals_since
from server.storage.sqlite.schema import events_table, read_about
from server.storage.sqlite.zone_offsets import offsets_of

CACHE_BYTES = 32 * 1024 * 1024
BATCH_ROWS = 200_000


def check_index(layout: Layout, month: Month, generation: int, truth: apsw.Connection) -> Iterator[tuple[str, str]]:
    """(file name, problem) for the index of a month. An index may be deleted: it is made anew."""
    number = layout.current_index(month, generation)
    if not number:
        return
    path = layout.index(month, generation, number)
    try:
        connection = sqlite.open_reader(path, cache_bytes=CACHE_BYTES)
        try:
            if not is_whole(path, read_about(connection, path)):
                return  # it will be made anew
            # One moment of each: the index first, which is never ahead of the truth.
            for pinned in (connection, truth):
                pinned.execute("BEGIN; SELECT 1 FROM about").fetchall()
            for (line,) in connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield path.name, str(line)
            for problem in _Check(IndexReader(path, month, lambda: connection, NOTHING_HELD), truth).problems():
                yield path.name, problem
        finally:
            connection.close()
            if truth.in_transaction:
                truth.execute("COMMIT")
    except (apsw.Error, ValueError, TrackdError) as error:
        yield path.name, f"cannot be read: {error}"


class _Check:
    """One index under examination."""

    def __init__(self, index: IndexReader, truth: apsw.Connection) -> None:
        self._index = index
        self._truth = truth
        self._start_ms = index.month.start_ms

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        version = self._index.version()
        watermark, applied, runs = version.watermark, version.removals, version.runs
        found = removals_since(self._truth, applied)
        if found is None:
            yield "lacks removals that are forgotten"
            return
        rows, tagged = self._rows(watermark)
        for projection in (Projection.BY_USER, Projection.BY_TYPE):
            parts = [self._index.sorted(run, projection) for run in runs]
            for run, part in zip(runs, parts, strict=True):
                yield from self._order(run, projection, part)
            held = joined(part.without(found[1]).rows for part in parts)
            yield from _difference(projection.name, rows, held)
        yield from self._tags(runs, tagged, found[1])
        for run in runs:
            yield from self._rollups(run)

    def _rows(self, watermark: int) -> tuple[Rows, Tagged]:
        """All rows of the truth up to the watermark."""
        parts: list[Rows] = []
        tagged: Tagged = []
        after = 0
        sql = (
            f"SELECT position, timestamp_ms, type, user, source, tags FROM {events_table(self._index.month)} "
            "WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        )
        while found := sqlite.fetch(self._truth, sql, (after, watermark, BATCH_ROWS)):
            parts.append(rows_of(found))
            tagged += tagged_of(found)
            after = found[-1][0]
        return joined(parts), tagged

    def _order(self, run: RunInfo, projection: Projection, part: Sorted) -> Iterator[str]:
        keys = np.lexsort((part.rows.position, part.rows.timestamp_ms, part.lead))
        if (keys != np.arange(len(part))).any():
            yield f"run {run.run}: {projection.name} is not in order"
        if len(part) != run.rows:
            yield f"run {run.run}: {projection.name} has {len(part)} of {run.rows} rows"
        elif len(part) and not run.first <= int(part.rows.position.min()) <= int(part.rows.position.max()) <= run.last:
            yield f"run {run.run}: has rows outside of its positions"

    def _tags(self, runs: Sequence[RunInfo], tagged: Tagged, removed: Positions) -> Iterator[str]:
        names = self._index.labels(TAG)
        expected = {(position, tag) for position, tags in tagged for tag in tags}
        held: set[tuple[int, str]] = set()
        for run in runs:
            part = self._index.sorted(run, Projection.BY_LABEL).without(removed)
            pairs = zip(part.rows.position.tolist(), part.lead.tolist(), strict=True)
            held |= {(position, names[label]) for position, label in pairs if label in names}
        if expected != held:
            position = min(expected ^ held)[0]
            yield f"the tags of {len({place for place, _tag in expected ^ held})} events differ (first at {position})"

    def _rollups(self, run: RunInfo) -> Iterator[str]:
        by_type = self._index.sorted(run, Projection.BY_TYPE)
        quarters, held = count_quarters(by_type, self._start_ms), self._index.all_quarters(run)
        for name in ("type", "slot", "source", "events"):
            if not np.array_equal(getattr(quarters, name), getattr(held, name)):
                yield f"run {run.run}: events by quarter-hour are not those of its rows"
                break
        for zone in sorted(self._index.contents(run).zones):
            offsets = offsets_of(ZoneInfo(zone), self._start_ms, self._index.month.end_ms)
            if not _same_days(count_days(by_type, offsets), self._index.all_days(run, zone)):
                yield f"run {run.run}: users by day of {zone} are not those of its rows"


def _same_days(one: Days, other: Days) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("type", "day", "events", "users")
    ) and all(
        mine == theirs or decode_people(mine, users) == decode_people(theirs, users)
        for mine, theirs, users in zip(one.people, other.people, one.users.tolist(), strict=True)
    )


def _difference(name: str, truth: Rows, index: Rows) -> Iterator[str]:
    for words, missing in (
        ("lacks", np.setdiff1d(truth.position, index.position)),
        ("invents", np.setdiff1d(index.position, truth.position)),
    ):
        if len(missing):
            yield f"{name} {words} {len(missing)} events (first at position {missing[0]})"
    if len(np.unique(index.position)) != len(index):
        yield f"{name} has events twice"
    elif len(truth) == len(index):
        index = index.take(np.argsort(index.position)) if len(index) else EMPTY
        for column in ("timestamp_ms", "type", "user", "source"):
            differ = np.flatnonzero(getattr(truth, column) != getattr(index, column))
            if len(differ):
                yield f"{name}: {column} of {len(differ)} events differs (first at {truth.position[differ[0]]})"
