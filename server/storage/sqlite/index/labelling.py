"""Labels: which events carry which tag, and which value of a dimension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from server.storage.sqlite.index.building import NO_LABELS, Labels
from server.storage.sqlite.index.file import IndexFile, Label
from server.storage.sqlite.index.rows import Keys, Positions, Rows, TagStretch, distinct, places
from server.storage.sqlite.index.tables import TAG
from server.storage.sqlite.index.truth import RAW_CHARACTERS_MAX, Truth

Dimensions: TypeAlias = Mapping[int, tuple[str, ...]]
"""The metadata keys that are dimensions of a type, by the type's key."""

VALUES_MAX = 10_000
"""Values of one dimension in one month. Beyond it questions go to the events: a key with more is no dimension."""

VALUE_BYTES_MAX = 256
"""A key that has longer values is no dimension in their run."""

ROWS_AT_ONCE = 8_192
"""What is read at once is decoded in one go, for which the writer waits: 1 ms."""


def labels_of(
    file: IndexFile,
    rows: Rows,
    tagged: Sequence[TagStretch],
    dimensions: Dimensions,
    truth: Truth,
) -> tuple[Labels, list[tuple[int, str]]]:
    """The labels of rows that are in the order of their positions; and the dimensions that they cover.

    `tagged` may have other events as well. A tag that an event has twice counts once.
    """
    names: dict[Label, int] = {}
    parts = list(_tags(names, tagged))
    covered: list[tuple[int, str]] = []
    if dimensions:
        found, covered = _dimensions(names, file, rows, dimensions, truth)
        parts += found
    if not parts:
        return NO_LABELS, covered
    position, name = (np.concatenate(column) for column in zip(*parts, strict=True))
    _place, mine = places(rows.position, position)
    position, name = position[mine], name[mine]
    used = distinct(name)
    all_names = list(names)
    labels = np.zeros(len(names), np.uint32)
    labels[used] = file.label_keys([all_names[place] for place in used.tolist()])
    order = np.argsort(position, kind="stable")
    return Labels(position[order], labels[name[order]]), covered


NUMBERED_MAX = 1 << 20
"""Pairs of type and value up to here are numbered by a table of all that there may be."""

Named: TypeAlias = "tuple[Positions, NDArray[np.int64]]"
"""Positions, and the number of a name for each."""


def _tags(names: dict[Label, int], tagged: Sequence[TagStretch]) -> Iterator[Named]:
    codes: dict[tuple[str, ...], int] = {}
    columns = []
    for part in tagged:
        for tags in set(part.tags.values()).difference(codes):
            codes[tags] = len(codes)
        code = np.fromiter(map(codes.__getitem__, part.tags.values()), np.int64, count=len(part.tags))
        columns.append((part.positions, code))
    if not codes:
        return
    position, code = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(code, kind="stable")
    edges = np.searchsorted(code[order], np.arange(len(codes) + 1)).tolist()
    for tags, low, high in zip(codes, edges, edges[1:], strict=False):
        for tag in dict.fromkeys(tags):
            yield position[order[low:high]], np.full(high - low, names.setdefault((TAG, "", tag), len(names)))


class _Codes:
    """The different values of one key, as they come."""

    def __init__(self) -> None:
        self.values: list[str | None] = []
        self._of: dict[str | None, int] = {}

    def of(self, raw: Sequence[str | None]) -> NDArray[np.int64]:
        """The code of each value, as it is written in JSON; -1 where there is none."""
        for text in set(raw).difference(self._of):
            present, value = value_of(text)
            self._of[text] = len(self.values) if present else -1
            if present:
                self.values.append(value)
        return np.fromiter(map(self._of.__getitem__, raw), np.int64, count=len(raw))


def _dimensions(
    names: dict[Label, int], file: IndexFile, rows: Rows, dimensions: Dimensions, truth: Truth
) -> tuple[list[Named], list[tuple[int, str]]]:
    """The values of dimensions; and which (type, key) are covered by them."""
    present = distinct(rows.type).tolist()
    types = [kind for kind in present if kind in dimensions]
    wanted = {(kind, key) for kind in types for key in dimensions[kind]}
    keys = sorted({key for _kind, key in wanted})
    if not keys:
        return [], []
    if len(types) < len(present):
        rows = rows.take(np.isin(rows.type, types))
    codes: dict[str, _Codes] = {key: _Codes() for key in keys}
    columns: dict[str, list[NDArray[np.int64]]] = {key: [] for key in keys}
    position: list[Positions] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows.position[start : start + ROWS_AT_ONCE]
        values = truth.values(file.month, None if len(types) == len(present) else types, keys, part)
        _place, mine = places(part, values.position)
        position.append(values.position[mine])
        for key, raw in zip(keys, values.raw, strict=True):
            columns[key].append(codes[key].of(raw)[mine])
    where = np.concatenate(position)
    kinds = rows.type[places(rows.position, where)[0]]
    found = []
    for key in keys:
        code = np.concatenate(columns[key])
        has = code >= 0
        found.append((where[has], _named(names, wanted, key, codes[key].values, kinds[has], code[has])))
    fresh = Counter(label[:2] for label in names if not file.has_label(label))
    covered = {entry for entry in wanted if file.values_of(*entry) + fresh[entry] <= VALUES_MAX}
    of_covered = np.array([label[:2] in covered for label in names], np.bool_)
    kept = [(name >= 0) & of_covered[name] for _where, name in found]
    return [(at[mine], name[mine]) for (at, name), mine in zip(found, kept, strict=True)], sorted(covered)


def _named(
    names: dict[Label, int],
    wanted: set[tuple[int, str]],
    key: str,
    values: Sequence[str | None],
    kinds: Keys,
    code: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The name of each value of a key, -1 where it has none; types that have such values are not `wanted` any more."""
    pairs, place = _numbered(kinds.astype(np.int64) * len(values) + code)
    numbers = []
    for pair in pairs.tolist():
        kind, at = divmod(pair, len(values))
        value = values[at]
        if value is None:
            wanted.discard((kind, key))
        numbers.append(-1 if value is None else names.setdefault((kind, key, value), len(names)))
    return np.array(numbers, np.int64)[place]


def _numbered(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each of some small integers once, rising; and which of these each one is. Without sorting, if they are small."""
    if not len(values) or int(values.max()) >= NUMBERED_MAX:
        return np.unique(values, return_inverse=True)
    there = np.zeros(int(values.max()) + 1, np.bool_)
    there[values] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[values]


def value_of(raw: str | None) -> tuple[bool, str | None]:
    """Whether a value that is written so in JSON is one (server.question.FieldKind), and its text.

    None if no label can have it: it is too long, or it is a text that SQLite may read in another way.
    """
    if raw is None or raw[0] in "{[n":
        return False, None
    if raw[0] != '"':
        return True, raw if len(raw) <= VALUE_BYTES_MAX else None
    if len(raw) >= RAW_CHARACTERS_MAX or "\\u0000" in raw:
        return True, None
    try:
        value: str = orjson.loads(raw)
    except orjson.JSONDecodeError:  # half of a surrogate pair
        return True, None
    return True, value if len(value.encode()) <= VALUE_BYTES_MAX else None
