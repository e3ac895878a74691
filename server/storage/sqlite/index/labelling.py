"""Labels: which events carry which tag, and which value of a dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from server.storage.sqlite.index.building import NO_LABELS, Labels
from server.storage.sqlite.index.file import IndexFile
from server.storage.sqlite.index.rows import Rows
from server.storage.sqlite.index.tables import TAG
from server.storage.sqlite.index.truth import Truth

Dimensions: TypeAlias = Mapping[int, tuple[str, ...]]
"""The metadata keys that are dimensions of a type, by the type's key."""

VALUES_MAX = 10_000
"""Values of one dimension in one month. Beyond it questions go to the events: a key with more is no dimension."""


def labels_of(
    file: IndexFile,
    rows: Rows,
    tagged: Sequence[tuple[int, tuple[str, ...]]],
    dimensions: Dimensions,
    truth: Truth,
) -> tuple[Labels, list[tuple[int, str]]]:
    """The labels of rows that are in the order of their positions; and the dimensions that they cover.

    A tag that an event has twice counts once.
    """
    entries: list[tuple[int, tuple[int, str, str]]] = []
    if tagged:
        mine = set(rows.position.tolist())
        entries += [
            (position, (TAG, "", tag)) for position, tags in tagged if position in mine for tag in sorted(set(tags))
        ]
    covered: list[tuple[int, str]] = []
    if dimensions:
        first, last = int(rows.position[0]), int(rows.position[-1])
        for kind in np.unique(rows.type).tolist():
            for key in dimensions.get(kind, ()):
                known = set(file.labels(kind, key).values())
                values = truth.values(file.month, kind, key, first, last)
                if len(known | {value for _position, value in values}) <= VALUES_MAX:
                    entries += [(position, (kind, key, value)) for position, value in values]
                    covered.append((kind, key))
    if not entries:
        return NO_LABELS, covered
    entries.sort()
    keys = file.label_keys(dict.fromkeys(label for _position, label in entries))
    return (
        Labels(
            np.array([position for position, _label in entries], np.int64),
            np.array([keys[label] for _position, label in entries], np.uint32),
        ),
        covered,
    )
