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
from server.storage.sqlite.index.rows import Mask, Positions, Rows, groups
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
    tagged: Sequence[tuple[int, tuple[str, ...]]],
    dimensions: Dimensions,
    truth: Truth,
) -> tuple[Labels, list[tuple[int, str]]]:
    """The labels of rows that are in the order of their positions; and the dimensions that they cover.

    `tagged` may have other events as well. A tag that an event has twice counts once.
    """
    owners = _tags(tagged)
    covered: list[tuple[int, str]] = []
    if dimensions:
        covered = _add_dimensions(owners, file, rows, dimensions, truth)
    if not owners:
        return NO_LABELS, covered
    names = list(owners)
    position = np.concatenate([np.asarray(owners[name], np.int64) for name in names])
    name = np.repeat(np.arange(len(names)), [len(owners[one]) for one in names])
    mine = np.isin(position, rows.position)
    position, name = position[mine], name[mine]
    used = np.unique(name)
    labels = np.zeros(len(names), np.uint32)
    labels[used] = file.label_keys([names[place] for place in used.tolist()])
    order = np.argsort(position, kind="stable")
    return Labels(position[order], labels[name[order]]), covered


def _tags(tagged: Sequence[tuple[int, tuple[str, ...]]]) -> dict[Label, Sequence[int] | Positions]:
    together: dict[tuple[str, ...], list[int]] = {}
    for position, tags in tagged:
        together.setdefault(tags, []).append(position)
    owners: dict[Label, list[int]] = {}
    for tags, positions in together.items():
        for tag in dict.fromkeys(tags):
            owners.setdefault((TAG, "", tag), []).extend(positions)
    return dict(owners)


def _add_dimensions(
    owners: dict[Label, Sequence[int] | Positions],
    file: IndexFile,
    rows: Rows,
    dimensions: Dimensions,
    truth: Truth,
) -> list[tuple[int, str]]:
    """Adds the values of dimensions; tells which (type, key) are covered."""
    present = np.unique(rows.type).tolist()
    types = [kind for kind in present if kind in dimensions]
    keys = sorted({key for kind in types for key in dimensions[kind]})
    wanted = {(kind, key) for kind in types for key in dimensions[kind]}
    found: dict[Label, list[Positions]] = {}
    for start in range(0, len(rows) if keys else 0, ROWS_AT_ONCE):
        part = rows.take(slice(start, start + ROWS_AT_ONCE))
        values = truth.values(file.month, None if len(types) == len(present) else types, keys, part.position)
        mine = np.isin(values.position, part.position)
        kinds = part.type[np.searchsorted(part.position, values.position[mine])].astype(np.int64)
        for key, raw in zip(keys, values.raw, strict=True):
            for kind, value, positions in _by_value(raw, mine, kinds, values.position):
                if value is None:
                    wanted.discard((kind, key))
                elif (kind, key) in wanted:
                    found.setdefault((kind, key, value), []).append(positions)
    fresh = Counter(label[:2] for label in found if not file.has_label(label))
    covered = {entry for entry in wanted if file.values_of(*entry) + fresh[entry] <= VALUES_MAX}
    owners.update({label: np.concatenate(parts) for label, parts in found.items() if label[:2] in covered})
    return sorted(covered)


def _by_value(
    raw: Sequence[str | None], mine: Mask, kinds: NDArray[np.int64], position: Positions
) -> Iterator[tuple[int, str | None, Positions]]:
    """The positions of each value of each type; None stands for values that no label can have.

    `kinds` are the types of those rows that are `mine`.
    """
    values: list[str | None] = []
    codes: dict[str | None, int] = {}
    for text in set(raw):
        present, value = value_of(text)
        codes[text] = len(values) if present else -1
        if present:
            values.append(value)
    code = np.fromiter(map(codes.__getitem__, raw), np.int64, count=len(raw))[mine]
    has = code >= 0
    key = kinds[has] * max(len(values), 1) + code[has]
    order = np.argsort(key, kind="stable")
    position, key = position[mine][has][order], key[order]
    for low, high in zip(*(edge.tolist() for edge in groups(key)), strict=True):
        kind, place = divmod(int(key[low]), len(values))
        yield kind, values[place], position[low:high]


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
