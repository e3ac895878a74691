"""Counting the numbers of a month from its events, once, before they change: see Reader.freeze.

From the truth and not from rollups: these numbers can never be counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from retention.month import Month
from server.frozen import GRAINS, Cell, Frozen, FrozenType, Quarters
from server.question import BucketUnit
from server.rewriting import Heard
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.answers.grouping import Ints
from server.storage.sqlite.index.rows import EMPTY, Keys, Rows, distinct, groups, joined
from server.storage.sqlite.schema import events_table
from server.storage.sqlite.zone_offsets import offsets_of
from server.time_buckets import DAY_MS, QUARTER_MS, zone_of

WINDOW_ROWS = 100_000
"""Read in one step of a statement: its arrays take some megabytes."""


def freeze(
    path: Path,
    month: Month,
    types: Mapping[str, int | None],
    sources: Mapping[int, str],
    zones: tuple[str, ...],
    together: bool,  # noqa: FBT001  # sent to another process
    *,
    heard: Heard,
) -> Frozen:
    """The numbers of types, given with their keys (None: it has none); `together`: also those of all types."""
    rows = joined(_windows(path, month, heard))
    last_position = int(rows.position[-1]) if len(rows) else 0
    still = partial(heard, len(rows))
    rows = rows.take(np.argsort(rows.type, kind="stable"))
    starts, ends = groups(rows.type)
    places = {int(rows.type[low]): rows.take(slice(low, high)) for low, high in zip(starts, ends, strict=True)}
    counted = {}
    for name, key in types.items():
        mine = places.get(-1 if key is None else key, EMPTY)
        counted[name] = FrozenType(_quarters(mine, sources), list(_cells(month, mine, zones, still)))
    every = list(_cells(month, rows, zones, still)) if together else None
    return Frozen(month, zones, counted, every, last_position)


def _windows(path: Path, month: Month, heard: Heard) -> Iterator[Rows]:
    """All events of the month, in the order of their positions."""
    sql = (
        "SELECT json_array(json_group_array(position), json_group_array(timestamp_ms), json_group_array(type), "
        "json_group_array(user), json_group_array(source)) FROM (SELECT position, timestamp_ms, type, user, source "
        f"FROM {events_table(month)} WHERE position > ? ORDER BY position LIMIT ?)"
    )
    after = done = 0
    with sqlite.translated(path), closing(sqlite.open_reader(path, cache_bytes=0, immutable=True)) as connection:
        while True:
            position, time, *keys = orjson.loads(connection.execute(sql, (after, WINDOW_ROWS)).get)
            if position:
                yield Rows(np.array(position), np.array(time), *(np.array(column, np.uint32) for column in keys))
            done += len(position)
            heard(done)
            if len(position) < WINDOW_ROWS:
                return
            after = position[-1]


def _quarters(rows: Rows, sources: Mapping[int, str]) -> Quarters:
    keys = np.array(sorted(sources, key=lambda key: sources[key]), np.int64)
    rank = np.zeros(int(keys.max(initial=0)) + 1, np.int64)
    rank[keys] = np.arange(len(keys))
    cells, events = np.unique(rows.timestamp_ms // QUARTER_MS * len(sources) + rank[rows.source], return_counts=True)
    return Quarters(
        (cells // max(len(sources), 1) * QUARTER_MS).tolist(),
        [sources[key] for key in keys[cells % max(len(sources), 1)].tolist()],
        events.tolist(),
    )


def _cells(month: Month, rows: Rows, zones: Sequence[str], still: Callable[[], None]) -> Iterator[Cell]:
    if not len(rows):
        return
    for zone in zones:
        still()
        offsets = offsets_of(zone_of(zone), month.start_ms, month.end_ms)
        days = (rows.timestamp_ms + offsets.at(rows.timestamp_ms)) // DAY_MS
        first = int(days.min())
        days -= first
        events = np.bincount(days)
        pairs = _pairs(days, rows.user)
        for grain in GRAINS:
            starts = offsets.date_buckets(np.arange(first, first + len(events)), grain)
            yield from _of_grain(zone, grain, starts, events, pairs)


def _of_grain(zone: str, grain: BucketUnit, starts: Ints, events: Ints, pairs: tuple[Ints, Keys]) -> Iterator[Cell]:
    """`starts` and `events` say for each day which bucket it is in and how many events it has."""
    buckets, bucket_of_day = np.unique(starts, return_inverse=True)
    total = np.zeros(len(buckets), np.int64)
    np.add.at(total, bucket_of_day, events)
    days, users = pairs
    people = np.bincount(_pairs(bucket_of_day[days], users)[0], minlength=len(buckets))
    for bucket, count, users_of in zip(buckets.tolist(), total.tolist(), people.tolist(), strict=True):
        if count:
            yield Cell(zone, grain, bucket, count, users_of)


def _pairs(groups_of: NDArray[np.int64], users: Keys) -> tuple[Ints, Keys]:
    """Each user once in each group; nobody in none."""
    pairs = distinct(groups_of.astype(np.uint64) << np.uint64(32) | users)
    pairs = pairs[(pairs & np.uint64(0xFFFF_FFFF)) != 0]
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
