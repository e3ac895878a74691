"""Rollups of the rows of one run: events per type, source and quarter-hour; users per type and local day.

Both are functions of the rows alone, so that a run can be made anew from fewer rows after a removal. Rollups of merged
runs are merged: counts are added, sets of users united.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from server.storage.sqlite.index.rows import Keys, Sorted, distinct, groups
from server.storage.sqlite.zone_offsets import ZoneOffsets
from server.time_buckets import DAY_MS, QUARTER_MS

ANY_TYPE = 0xFFFF_FFFF
"""Stands for events of all types together."""

FEW_USERS = 32
"""So few are kept as plain numbers; more as a Roaring bitmap. Most cells of a quiet store are this small."""

CELLS_COUNTED_MAX = 1 << 20
"""Up to so many cells there is a counter for each that there may be; for more, rows are sorted by their cells."""

_SLOT_BITS = 12
"""A month has at most 2,976 quarter-hours."""
_SOURCE_BITS = 22


@dataclass(frozen=True, slots=True)
class Quarters:
    """Events per (type, quarter-hour of the month, source), in this order; columns of equal length."""

    type: Keys
    slot: Keys
    source: Keys
    events: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.type)


def count_quarters(rows: Sorted, start_ms: int) -> Quarters:
    """The quarters of rows by type."""
    slots = (rows.rows.timestamp_ms - start_ms) // QUARTER_MS
    keys = np.sort(_quarter_key(rows.lead, slots, rows.rows.source))
    starts, ends = groups(keys)
    return _quarters(keys[starts], ends - starts)


def merge_quarters(parts: Sequence[Quarters]) -> Quarters:
    """All parts together."""
    keys = np.concatenate([_quarter_key(part.type, part.slot, part.source) for part in parts])
    events = np.concatenate([part.events for part in parts])
    order = np.argsort(keys, kind="stable")
    starts, _ends = groups(keys[order])
    return _quarters(keys[order][starts], np.add.reduceat(events[order], starts) if len(starts) else events)


def _quarter_key(types: NDArray[Any], slots: NDArray[Any], sources: NDArray[Any]) -> NDArray[np.uint64]:
    high = types.astype(np.uint64) << np.uint64(_SLOT_BITS) | slots.astype(np.uint64)
    return high << np.uint64(_SOURCE_BITS) | sources.astype(np.uint64)


def _quarters(keys: NDArray[np.uint64], events: NDArray[np.int64]) -> Quarters:
    source = keys & np.uint64((1 << _SOURCE_BITS) - 1)
    slot = keys >> np.uint64(_SOURCE_BITS) & np.uint64((1 << _SLOT_BITS) - 1)
    kind = keys >> np.uint64(_SOURCE_BITS + _SLOT_BITS)
    return Quarters(kind.astype(np.uint32), slot.astype(np.uint32), source.astype(np.uint32), events)


@dataclass(frozen=True, slots=True)
class Days:
    """Events and distinct users per (type, local day) of one time zone, in this order; also for ANY_TYPE.

    Days are counted from 1970-01-01. `people` holds the set of users of each cell, encoded. Nobody (0) is in no set.
    """

    type: Keys
    day: NDArray[np.int32]
    events: NDArray[np.int64]
    users: NDArray[np.int64]
    people: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.type)


def count_days(rows: Sorted, zone: ZoneOffsets) -> Days:
    """The days of rows by type."""
    days = ((rows.rows.timestamp_ms + zone.at(rows.rows.timestamp_ms)) // DAY_MS).astype(np.int64)
    of_all = _count_days(np.zeros(len(days), np.uint32), days, rows.rows.user)
    parts = [
        _count_days(rows.lead, days, rows.rows.user),
        replace(of_all, type=np.full(len(of_all), ANY_TYPE, np.uint32)),
    ]
    return Days(
        np.concatenate([part.type for part in parts]),
        np.concatenate([part.day for part in parts]),
        np.concatenate([part.events for part in parts]),
        np.concatenate([part.users for part in parts]),
        [piece for part in parts for piece in part.people],
    )


def _count_days(types: Keys, days: NDArray[np.int64], users: Keys) -> Days:
    if not len(types):
        nothing = np.empty(0, np.int64)
        return Days(types, nothing.astype(np.int32), nothing, nothing, [])
    first = int(days.min())
    span = np.int64(int(days.max()) - first + 1)
    mixed = types.astype(np.int64) * span + (days - first)
    if int(mixed.max()) < CELLS_COUNTED_MAX:
        counts = np.bincount(mixed)
        cells = np.flatnonzero(counts)
        events, cell_of_row = counts[cells], (np.cumsum(counts > 0) - 1)[mixed]
    else:
        cells, cell_of_row, events = np.unique(mixed, return_inverse=True, return_counts=True)
    pairs = distinct(cell_of_row.astype(np.uint64) << np.uint64(32) | users)
    people = (pairs & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    cell_of_pair = (pairs >> np.uint64(32))[people != 0]
    people = people[people != 0]
    edges = np.searchsorted(cell_of_pair, np.arange(len(cells) + 1))
    return Days(
        (cells // span).astype(np.uint32),
        (cells % span + first).astype(np.int32),
        events,
        np.diff(edges),
        [encode_people(people[low:high]) for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)],
    )


def merge_days(parts: Sequence[Days]) -> Days:
    """All parts together."""
    types = np.concatenate([part.type for part in parts])
    days = np.concatenate([part.day for part in parts])
    events = np.concatenate([part.events for part in parts])
    users = np.concatenate([part.users for part in parts])
    people = [piece for part in parts for piece in part.people]
    order = np.lexsort((days, types))
    keys = types[order].astype(np.int64) << 32 | (days[order].astype(np.int64) & 0xFFFF_FFFF)
    starts, ends = groups(keys)
    merged: list[bytes] = []
    counts = users[order][starts]
    for number, (low, high) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if high - low == 1:
            merged.append(people[order[low]])
        else:
            united = unite((people[place], int(users[place])) for place in order[low:high].tolist())
            counts[number] = len(united)
            merged.append(encode_people(np.frombuffer(united.to_array(), np.uint32)))
    total = np.add.reduceat(events[order], starts) if len(starts) else events
    return Days(types[order][starts], days[order][starts], total, counts, merged)


# Sets of users


def encode_people(users: Keys) -> bytes:
    """A set of users, given sorted and each once."""
    return users.tobytes() if len(users) <= FEW_USERS else BitMap(array("I", users.tobytes())).serialize()


def decode_people(data: bytes, users: int) -> BitMap:
    """The set that `encode_people` wrote; `users` says how many are in it."""
    return BitMap(array("I", data)) if users <= FEW_USERS else BitMap.deserialize(data)


def unite(sets: Iterable[tuple[bytes, int]]) -> BitMap:
    """The union of encoded sets, each with its size."""
    few: list[bytes] = []
    many: list[BitMap] = []
    for data, users in sets:
        if users <= FEW_USERS:
            few.append(data)
        else:
            many.append(BitMap.deserialize(data))
    if few:
        many.append(BitMap(array("I", b"".join(few))))
    return BitMap.union(*many) if len(many) > 1 else (many[0] if many else BitMap())


def stretches(keys: Keys) -> Iterator[tuple[int, slice]]:
    """Each key of a sorted column with its stretch."""
    starts, ends = groups(keys)
    for low, high in zip(starts.tolist(), ends.tolist(), strict=True):
        yield int(keys[low]), slice(low, high)
