"""Labels: which events carry which tag, and which value of a dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from server.storage.sqlite.index.building import NO_LABELS, Labels
from server.storage.sqlite.index.file import IndexFile
from server.storage.sqlite.index.rows import Positions, Rows
from server.storage.sqlite.index.tables import TAG
from server.storage.sqlite.index.truth import Truth

Dimensions: TypeAlias = Mapping[int, tuple[str, ...]]
"""The metadata keys that are dimensions of a type, by the type's key."""

VALUES_MAX = 10_000
"""Values of one dimension in one month. Beyond it questions go to the events: a key with more is no dimension."""

_Label: TypeAlias = tuple[int, str, str]
"""Type (or TAG), metadata key, value."""


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


def _tags(tagged: Sequence[tuple[int, tuple[str, ...]]]) -> dict[_Label, Sequence[int] | Positions]:
    owners: dict[str, list[int]] = {}
    for position, tags in tagged:
        for tag in set(tags):
            owners.setdefault(tag, []).append(position)
    return {(TAG, "", tag): positions for tag, positions in owners.items()}


def _add_dimensions(
    owners: dict[_Label, Sequence[int] | Positions],
    file: IndexFile,
    rows: Rows,
    dimensions: Dimensions,
    truth: Truth,
) -> list[tuple[int, str]]:
    """Adds the values of dimensions; tells which (type, key) are covered."""
    covered: list[tuple[int, str]] = []
    types = [kind for kind in np.unique(rows.type).tolist() if kind in dimensions]
    first, last = int(rows.position[0]), int(rows.position[-1])
    for key in sorted({key for kind in types for key in dimensions[kind]}):
        having = [kind for kind in types if key in dimensions[kind]]
        values: dict[int, dict[str, Positions]] = {kind: {} for kind in having}
        for kind, value, positions in truth.values(file.month, having, key, first, last):
            values[kind][value] = positions
        for kind, found in values.items():
            if len(file.values_of(kind, key) | found.keys()) <= VALUES_MAX:
                owners.update({(kind, key, value): positions for value, positions in found.items()})
                covered.append((kind, key))
    return covered
