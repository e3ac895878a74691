"""Groups: partial results of several places become one table.

A part has its own groups, each named by its keys, one number a dimension: instants, dictionary keys, codes of texts.
The same group may come from several parts; then counts are added, sets of users united, and numbers put together.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from server.question import Metric, MetricKind
from server.storage.sqlite.index.rollup import FEW_USERS
from server.storage.sqlite.index.rows import Keys, distinct, groups

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

DENSE_MAX = 1 << 22
"""Groups are counted in a table of all that are possible up to this size; beyond it by sorting."""


class People(Protocol):
    """The sets of distinct users of the groups of a part, without nobody."""

    @property
    def counts(self) -> Ints:
        """How many users each group has."""

    def piece(self, group: int) -> BitMap | Keys:
        """The users of one group, each once."""


@dataclass(frozen=True, slots=True)
class RowPeople:
    """Users found in rows."""

    counts: Ints
    users: Keys
    starts: Ints

    def piece(self, group: int) -> Keys:
        """The users of one group."""
        return self.users[self.starts[group] : self.starts[group] + self.counts[group]]


@dataclass(frozen=True, slots=True)
class CellPeople:
    """Users kept in the cells of a rollup."""

    counts: Ints
    type: Ints
    begins: Ints
    ends: Ints
    data: Callable[[int], bytes]
    """The sets of all cells of a type, which `begins` and `ends` count in."""

    def piece(self, group: int) -> BitMap | Keys:
        """The users of one cell."""
        raw = self.data(int(self.type[group]))[self.begins[group] : self.ends[group]]
        return np.frombuffer(raw, np.uint32) if self.counts[group] <= FEW_USERS else BitMap.deserialize(raw)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of one metadata key: which group each belongs to, and the number."""

    group: Ints
    value: Floats


@dataclass(frozen=True, slots=True)
class Part:
    """What one place contributes. All columns have one entry a group."""

    keys: tuple[Ints, ...]
    events: Ints
    people: People | None = None
    numbers: Mapping[str, Numbers] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events)


def group_rows(
    keys: Sequence[Ints | Keys], count: int, users: Keys | None, numbers: Mapping[str, tuple[Ints, Floats]]
) -> Part:
    """Groups rows by their keys. `numbers` hold for each metadata key the rows that have one, and the numbers."""
    codes, names = _factorize(keys, count)
    events = np.bincount(codes, minlength=len(names[0]) if names else int(bool(count))).astype(np.int64)
    people = None if users is None else _people(codes, users, len(events))
    return Part(names, events, people, {key: Numbers(codes[rows], values) for key, (rows, values) in numbers.items()})


def _factorize(keys: Sequence[NDArray[Any]], count: int) -> tuple[Ints, tuple[Ints, ...]]:
    """The group of each row, groups being numbered from 0; and the keys of each group."""
    if not keys:
        return np.zeros(count, np.int64), ()
    if not count:
        return np.zeros(0, np.int64), tuple(np.zeros(0, np.int64) for _key in keys)
    small = [_small(column) for column in keys]
    mixed, size = small[0][0], small[0][1]
    for column, width, _decode in small[1:]:
        if size > (1 << 62) // max(width, 1):
            return _by_sorting([key.astype(np.int64) for key in keys])
        mixed, size = mixed * width + column, size * width
    if size <= max(DENSE_MAX, 2 * count) and size <= 1 << 26:
        seen = np.bincount(mixed, minlength=1)
        present = np.flatnonzero(seen)
        if len(present) == len(seen):
            codes = mixed
        else:
            places = np.zeros(len(seen), np.int64)
            places[present] = np.arange(len(present))
            codes = places[mixed]
    else:
        present, codes = np.unique(mixed, return_inverse=True)
    names: list[Ints] = []
    rest = present
    for _column, width, decode in reversed(small):
        names.append(decode(rest % width))
        rest = rest // width
    return codes, tuple(reversed(names))


def _small(column: NDArray[Any]) -> tuple[Ints, int, Any]:
    """A column as small numbers from 0, how many there can be, and how they are read back."""
    low, high = int(column.min()), int(column.max())
    if high - low < DENSE_MAX:
        return column.astype(np.int64) - low, high - low + 1, lambda codes: codes + low
    values, codes = np.unique(column, return_inverse=True)
    whole = values.astype(np.int64)
    return codes.astype(np.int64), len(values), lambda places: whole[places]


def _by_sorting(keys: Sequence[Ints]) -> tuple[Ints, tuple[Ints, ...]]:
    """For keys whose combinations do not fit into one number."""
    order = np.lexsort(tuple(reversed(keys)))
    changed = np.zeros(len(order), np.bool_)
    for column in keys:
        changed[1:] |= column[order][1:] != column[order][:-1]
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(changed)
    first = order[np.flatnonzero(changed | (np.arange(len(order)) == 0))]
    return codes, tuple(column[first] for column in keys)


def _people(codes: Ints, users: Keys, size: int) -> RowPeople:
    someone = users != 0
    pairs = distinct(codes[someone].astype(np.uint64) << np.uint64(32) | users[someone])
    group = (pairs >> np.uint64(32)).astype(np.int64)
    counts = np.bincount(group, minlength=size).astype(np.int64)
    return RowPeople(counts, (pairs & np.uint64(0xFFFF_FFFF)).astype(np.uint32), np.cumsum(counts) - counts)


@dataclass(frozen=True, slots=True)
class Combined:
    """All groups, each once: their keys and, in the order of the metrics asked for, their values.

    Values that are absent are NaN in columns of floats.
    """

    keys: tuple[Ints, ...]
    values: tuple[Ints | Floats, ...]

    def __len__(self) -> int:
        return len(self.values[0])


def combine(parts: Sequence[Part], dimensions: int, metrics: Sequence[Metric]) -> Combined:
    """Puts the groups of all parts together. Without dimensions there is one group, whatever the parts hold."""
    keys = [
        np.concatenate([part.keys[place] for part in parts] or [np.zeros(0, np.int64)]) for place in range(dimensions)
    ]
    entries = sum(map(len, parts))
    codes, names = _factorize(keys, entries)
    size = len(names[0]) if names else 1
    events = np.zeros(size, np.int64)
    np.add.at(events, codes, np.concatenate([part.events for part in parts] or [np.zeros(0, np.int64)]))
    starts = np.cumsum([0, *map(len, parts)])
    values: list[Ints | Floats] = []
    for metric in metrics:
        if metric.kind is MetricKind.EVENTS:
            values.append(events)
        elif metric.kind is MetricKind.USERS:
            values.append(_distinct(parts, codes, size))
        else:
            held = [(codes[start:], part.numbers[metric.key]) for start, part in zip(starts, parts, strict=False)]
            group = np.concatenate([place[one.group] for place, one in held] or [np.zeros(0, np.int64)])
            value = np.concatenate([one.value for _place, one in held] or [np.zeros(0)])
            values.append(_of_numbers(metric.kind, group, value, size))
    return Combined(names, tuple(values))


def _distinct(parts: Sequence[Part], codes: Ints, size: int) -> Ints:
    """Distinct users by group: known where a group comes from one place, united where it comes from several."""
    sets = [part.people for part in parts if part.people is not None]
    counts = np.concatenate([one.counts for one in sets] or [np.zeros(0, np.int64)])
    total = np.zeros(size, np.int64)
    some = np.flatnonzero(counts)
    several = np.bincount(codes[some], minlength=size) > 1
    if not several.any():
        total[codes[some]] = counts[some]
        return total
    alone = some[~several[codes[some]]]
    total[codes[alone]] = counts[alone]
    shared = some[several[codes[some]]]
    shared = shared[np.argsort(codes[shared], kind="stable")]
    begins = np.cumsum([0, *(len(one.counts) for one in sets)])
    owner = np.searchsorted(begins, shared, side="right") - 1
    pieces = [
        sets[place].piece(int(entry - begins[place]))
        for entry, place in zip(shared.tolist(), owner.tolist(), strict=True)
    ]
    low, high = groups(codes[shared])
    for start, end in zip(low.tolist(), high.tolist(), strict=True):
        total[codes[shared[start]]] = len(_union(pieces[start:end]))
    return total


def _union(pieces: Iterable[BitMap | Keys]) -> BitMap:
    bitmaps: list[BitMap] = []
    plain: list[Keys] = []
    for piece in pieces:
        if isinstance(piece, BitMap):
            bitmaps.append(piece)
        else:
            plain.append(piece)
    if plain:
        bitmaps.append(BitMap(array("I", np.concatenate(plain).tobytes())))
    return BitMap.union(*bitmaps) if len(bitmaps) > 1 else bitmaps[0]


def _of_numbers(kind: MetricKind, group: Ints, value: Floats, size: int) -> Floats:
    """A metric over the numbers of each group; NaN where there are none."""
    result = np.full(size, np.nan)
    if not len(group):
        return result
    order = np.argsort(group, kind="stable") if kind.percentile is None else np.lexsort((value, group))
    sorted_value = value[order]
    starts, ends = groups(group[order])
    present = group[order][starts]
    counts = ends - starts
    if kind.percentile is not None:
        place = starts + (counts - 1) * kind.percentile
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, ends - 1)
        share = place - low
        result[present] = sorted_value[low] + (sorted_value[high] - sorted_value[low]) * share
    elif kind is MetricKind.MIN:
        result[present] = np.minimum.reduceat(sorted_value, starts)
    elif kind is MetricKind.MAX:
        result[present] = np.maximum.reduceat(sorted_value, starts)
    else:
        sums = np.add.reduceat(sorted_value, starts)
        result[present] = sums / counts if kind is MetricKind.AVG else sums
    return result
