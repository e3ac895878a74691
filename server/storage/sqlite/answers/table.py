"""The last step: groups are put into order, cut to the limit, and get their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.model import MonthInfo
from server.question import Bucket, Field, MetricKind, Question, Table
from server.storage.sqlite.answers.grouping import Combined, Floats, Ints
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.selection import KEYED

FEW_CODES = 65_536
"""Up to this they are counted, which is faster than sorting."""

Texts = Sequence[str | None]
"""The texts of a dimension by code."""


def table_of(
    question: Question, combined: Combined, names: Names, months: Sequence[MonthInfo], texts: dict[Field, Texts]
) -> Table:
    """The rows of an answer. `texts` has the codes of tags and metadata keys."""
    chosen = _candidates(question, combined)
    columns: list[_Key] = []
    for entry, codes in zip(question.by, combined.keys, strict=True):
        columns.append(_key_column(entry, codes[chosen], names, months, texts))
    values = [column[chosen] for column in combined.values]
    order = _order(question, columns, values, len(chosen))
    total = len(combined)
    if question.limit:
        order = order[: question.limit]
    return Table(
        tuple(column.named(order) for column in columns),
        tuple(_listed(column[order], metric.kind) for column, metric in zip(values, question.metrics, strict=True)),
        len(order),
        more=total > len(order),
    )


class _Key:
    """One dimension of the chosen groups: its names, and numbers that sort as they do (absent: highest)."""

    def __init__(
        self, ranks: Ints, absent: NDArray[np.bool_], named: Callable[[Ints], Sequence[int | str | None]]
    ) -> None:
        self.ranks = ranks
        self.absent = absent
        self.named = named


def _key_column(
    entry: Field | Bucket, codes: Ints, names: Names, months: Sequence[MonthInfo], texts: dict[Field, Texts]
) -> _Key:
    if isinstance(entry, Bucket):
        return _Key(codes, np.zeros(len(codes), np.bool_), lambda order: codes[order].tolist())
    unique, inverse = _unique(codes)
    if entry.kind in KEYED:
        known = names.of_keys(entry.kind, unique.tolist(), months)
        words: list[str | None] = [known[key] for key in unique.tolist()]
    else:
        words = [texts[entry][code] for code in unique.tolist()]
    places = sorted(range(len(words)), key=lambda place: (words[place] is None, words[place] or ""))
    ranks = np.empty(len(words), np.int64)
    ranks[places] = np.arange(len(words))
    absent = np.array([word is None for word in words], np.bool_)

    def named(order: Ints) -> Sequence[str | None]:
        return [words[code] for code in inverse[order].tolist()]

    return _Key(ranks[inverse], absent[inverse] if words else np.zeros(0, np.bool_), named)


def _unique(codes: Ints) -> tuple[Ints, Ints]:
    """The codes that there are, rising, and the place of each one among them."""
    if not len(codes) or int(codes.max()) > FEW_CODES or int(codes.min()) < 0:
        return np.unique(codes, return_inverse=True)
    present = np.bincount(codes) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[codes]


def _candidates(question: Question, combined: Combined) -> NDArray[np.int64]:
    """Groups that can be in the answer: naming 200,000 users to show ten of them would take longer than the rest."""
    everything = np.arange(len(combined))
    if not question.limit or question.limit >= len(combined) or not question.order:
        return everything
    first = question.order[0]
    place = first.column - len(question.by)
    if place < 0:
        return everything
    values = _comparable(combined.values[place], descending=first.descending)
    threshold = np.partition(values, question.limit - 1)[question.limit - 1]
    return np.flatnonzero(values <= threshold)


def _comparable(values: Ints | Floats, *, descending: bool) -> Floats:
    """Numbers that sort ascending as asked for, absent ones last."""
    plain = values.astype(np.float64)
    signed = -plain if descending else plain
    return np.where(np.isnan(plain), np.inf, signed)


def _order(question: Question, keys: Sequence[_Key], values: Sequence[Ints | Floats], count: int) -> Ints:
    sort_by: list[NDArray[Any]] = []
    for ranking in question.order:
        if ranking.column < len(keys):
            key = keys[ranking.column]
            sort_by += [key.absent, -key.ranks if ranking.descending else key.ranks]
        else:
            column = values[ranking.column - len(keys)]
            missing = np.isnan(column) if column.dtype == np.float64 else np.zeros(count, np.bool_)
            sort_by += [missing, -column if ranking.descending else column]
    sort_by += [key.ranks for key in keys]
    if not sort_by:
        return np.arange(count)
    return np.lexsort(tuple(reversed(sort_by)))


def _listed(column: Ints | Floats, kind: MetricKind) -> Sequence[int | float | None]:
    listed: list[int | float | None] = column.tolist()
    if kind.of_numbers and np.isnan(column).any():
        return [None if value != value else value for value in listed]  # noqa: PLR0124  # NaN is the one that differs
    return listed
