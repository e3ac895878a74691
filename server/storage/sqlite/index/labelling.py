"""Labels: which events carry which tag, and which value of a dimension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from server.storage.sqlite.index.building import NO_LABELS, Labels
from server.storage.sqlite.index.file import IndexFile, Label
from server.storage.sqlite.index.rows import Positions, Rows, groups
from server.storage.sqlite.index.tables import TAG
from server.storage.sqlite.index.truth import TOO_LONG, Truth, Values

Dimensions: TypeAlias = Mapping[int, tuple[str, ...]]
"""The metadata keys that are dimensions of a type, by the type's key."""

VALUES_MAX = 10_000
"""Values of one dimension in one month. Beyond it questions go to the events: a key with more is no dimension."""

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
    owners: dict[str, list[int]] = {}
    for position, tags in tagged:
        for tag in set(tags):
            owners.setdefault(tag, []).append(position)
    return {(TAG, "", tag): positions for tag, positions in owners.items()}


def _add_dimensions(
    owners: dict[Label, Sequence[int] | Positions],
    file: IndexFile,
    rows: Rows,
    dimensions: Dimensions,
    truth: Truth,
) -> list[tuple[int, str]]:
    """Adds the values of dimensions; tells which (type, key) are covered."""
    types = [kind for kind in np.unique(rows.type).tolist() if kind in dimensions]
    keys = sorted({key for kind in types for key in dimensions[kind]})
    wanted = {(kind, key) for kind in types for key in dimensions[kind]}
    found: dict[Label, list[Positions]] = {}
    for start in range(0, len(rows) if keys else 0, ROWS_AT_ONCE):
        values = truth.values(file.month, types, keys, rows.position[start : start + ROWS_AT_ONCE])
        for key, texts in zip(keys, values.texts, strict=True):
            if TOO_LONG in texts:
                wanted -= {
                    (kind, key) for kind, text in zip(values.type.tolist(), texts, strict=True) if text == TOO_LONG
                }
            for kind, value, positions in _by_value(values, texts):
                if (kind, key) in wanted:
                    found.setdefault((kind, key, value), []).append(positions)
    fresh = Counter(label[:2] for label in found if not file.has_label(label))
    covered = {entry for entry in wanted if file.values_of(*entry) + fresh[entry] <= VALUES_MAX}
    owners.update({label: np.concatenate(parts) for label, parts in found.items() if label[:2] in covered})
    return sorted(covered)


def _by_value(values: Values, texts: Sequence[str | int | None]) -> Iterator[tuple[int, str, Positions]]:
    """The positions of each value of each type."""
    names = [text for text in set(texts) if isinstance(text, str)]
    codes: dict[str | int | None, int] = {name: code for code, name in enumerate(names)}
    code = np.fromiter((codes.get(text, -1) for text in texts), np.int64, count=len(texts))
    has = code >= 0
    key = values.type[has] * len(names) + code[has]
    order = np.argsort(key, kind="stable")
    position, key = values.position[has][order], key[order]
    for low, high in zip(*(edge.tolist() for edge in groups(key)), strict=True):
        yield int(key[low]) // len(names), names[int(key[low]) % len(names)], position[low:high]
