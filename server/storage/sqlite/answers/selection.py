"""Which rows match: predicates over columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from server.model import MonthInfo
from server.question import AllOf, AnyOf, Field, FieldKind, Not, OneOf, Predicate, Present, StartsWith
from server.storage.sqlite.answers.grouping import Floats, Ints
from server.storage.sqlite.answers.names import Names, holds
from server.storage.sqlite.index.rows import Keys, Mask

KEYED = (FieldKind.TYPE, FieldKind.SOURCE, FieldKind.USER)
_TABLE_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Coded:
    """A column of texts: the code of each row, and the text of each code; None is absent."""

    codes: Ints
    values: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Several:
    """A field with several values a row: parallel columns of rows and codes, and the text of each code."""

    row: Ints
    codes: Ints
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Columns:
    """What is at hand of some rows. Keys are dictionary keys of the store."""

    count: int
    keys: Mapping[FieldKind, Keys]
    timestamp_ms: Ints | None = None
    texts: Mapping[Field, Coded] = field(default_factory=dict)
    several: Mapping[Field, Several] = field(default_factory=dict)
    numbers: Mapping[str, tuple[Ints, Floats]] = field(default_factory=dict)
    """By metadata key: the rows that have a number, and the numbers."""

    def take(self, mask: Mask) -> Columns:
        """The rows for which the mask holds."""
        places = np.cumsum(mask) - 1
        return Columns(
            int(mask.sum()),
            {kind: column[mask] for kind, column in self.keys.items()},
            None if self.timestamp_ms is None else self.timestamp_ms[mask],
            {entry: Coded(coded.codes[mask], coded.values) for entry, coded in self.texts.items()},
            {
                entry: Several(places[several.row[kept]], several.codes[kept], several.values)
                for entry, several in self.several.items()
                for kept in [mask[several.row]]
            },
            {key: (places[rows[mask[rows]]], values[mask[rows]]) for key, (rows, values) in self.numbers.items()},
        )


class Matcher:
    """One predicate over the columns of many places; looks every name up once."""

    def __init__(self, where: Predicate, names: Names, months: Sequence[MonthInfo]) -> None:
        self.where = where
        self._names = names
        self._months = months
        self._keys: dict[Predicate, Keys] = {}
        self._users: dict[OneOf, Mapping[int, str]] = {}

    @property
    def trivial(self) -> bool:
        """Whether everything matches."""
        return isinstance(self.where, AllOf) and not self.where.parts

    def mask(self, columns: Columns) -> Mask:
        """Which rows match."""
        return self._mask(self.where, columns)

    def _mask(self, where: Predicate, columns: Columns) -> Mask:
        if isinstance(where, AllOf):
            result = np.ones(columns.count, np.bool_)
            for part in where.parts:
                result &= self._mask(part, columns)
            return result
        if isinstance(where, AnyOf):
            result = np.zeros(columns.count, np.bool_)
            for part in where.parts:
                result |= self._mask(part, columns)
            return result
        if isinstance(where, Not):
            return ~self._mask(where.part, columns)
        if where.field.kind in KEYED:
            return self._keyed(where, columns.keys[where.field.kind])
        if where.field.kind is FieldKind.TAG:
            several = columns.several[where.field]
            fitting = np.array([holds(where, value) for value in several.values], np.bool_)
            result = np.zeros(columns.count, np.bool_)
            if len(several.row):
                result[several.row[fitting[several.codes]]] = True
            return result
        coded = columns.texts[where.field]
        fitting = np.array([holds(where, value) for value in coded.values], np.bool_)
        return fitting[coded.codes] if columns.count else np.zeros(0, np.bool_)

    def _keyed(self, where: OneOf | StartsWith | Present, column: Keys) -> Mask:
        if where.field.kind is FieldKind.USER:
            if isinstance(where, Present):
                somebody: Mask = column != 0
                return somebody
            if isinstance(where, StartsWith) and "" in where.prefixes:
                return np.ones(len(column), np.bool_)
        keys = self.keys(where)
        if len(keys) == 1:
            same: Mask = column == keys[0]
            return same
        if not len(keys):
            return np.zeros(len(column), np.bool_)
        if int(keys[-1]) < _TABLE_MAX and len(column):
            table = np.zeros(max(int(keys[-1]), int(column.max())) + 1, np.bool_)
            table[keys] = True
            return table[column]
        return np.isin(column, keys)

    def keys(self, where: OneOf | StartsWith | Present) -> Keys:
        """The sorted keys for which a test on a type, source or user holds."""
        found = self._keys.get(where)
        if found is None:
            if isinstance(where, OneOf) and where.field.kind is FieldKind.USER:
                found = np.array(sorted(self.users(where)), np.uint32)
            else:
                found = self._names.matching(where, self._months)
            self._keys[where] = found
        return found

    def users(self, where: OneOf) -> Mapping[int, str]:
        """The users that a test names, by key, as far as there are any."""
        found = self._users.get(where)
        if found is None:
            found = self._users[where] = self._names.users(where.values, self._months)
        return found

    def required(self, kind: FieldKind) -> Keys | None:
        """Keys of which every matching row has one, as far as that is plain to see; None if it is not."""
        result: Keys | None = None
        for part in _conjuncts(self.where):
            if isinstance(part, OneOf | StartsWith) and part.field.kind is kind:
                if kind is FieldKind.USER and isinstance(part, StartsWith):
                    continue
                keys = self.keys(part)
                result = keys if result is None else np.intersect1d(result, keys)
        return result


def _conjuncts(where: Predicate) -> Iterator[Predicate]:
    if isinstance(where, AllOf):
        for part in where.parts:
            yield from _conjuncts(part)
    else:
        yield where


def fields_of(where: Predicate) -> set[Field]:
    """All fields that a predicate looks at."""
    if isinstance(where, AllOf | AnyOf):
        return set().union(*(fields_of(part) for part in where.parts))
    if isinstance(where, Not):
        return fields_of(where.part)
    return {where.field}
