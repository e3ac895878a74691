"""Between names and dictionary keys, for one reader: types, sources and users of the whole store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from server.model import EventType, MonthInfo
from server.question import FieldKind, OneOf, Present, StartsWith
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.catalog import CatalogReader
from server.storage.sqlite.index.rows import Keys
from server.storage.sqlite.numbers import UserKeys
from server.storage.treatment import PSEUDONYM_MARK


class Names:
    """What keys mean."""

    def __init__(
        self,
        files: Files,
        users: UserKeys,
        catalog: CatalogReader,
        types: Callable[[], Mapping[int, EventType]],
        sources: Callable[[], Mapping[str, int]],
    ) -> None:
        self._files = files
        self._users = users
        self._catalog = catalog
        self._types = types
        self._sources = sources

    def of_keys(self, kind: FieldKind, keys: Iterable[int], months: Sequence[MonthInfo]) -> dict[int, str]:
        """The names of keys of types, sources or users that occur in these months."""
        if kind is FieldKind.TYPE:
            return {key: entry.name for key, entry in self._types().items()}
        if kind is FieldKind.SOURCE:
            return {key: name for name, key in self._sources().items()}
        wanted = set(keys)
        found = {0: ""} | self._catalog.user_names(wanted - {0})
        # Users that the catalog has not learned of yet are in the months that have their events.
        for info in months:
            missing = wanted - found.keys()
            if not missing:
                break
            found.update(user_names(self._files, info, missing))
        return found

    def keys_of(self, kind: FieldKind) -> Mapping[str, int]:
        """The keys of all types or of all sources, by name."""
        return (
            self._sources() if kind is FieldKind.SOURCE else {entry.name: key for key, entry in self._types().items()}
        )

    def matching(self, test: OneOf | StartsWith | Present, months: Sequence[MonthInfo]) -> Keys:
        """The keys of all types, sources or users for which the test holds, as far as they occur in these months."""
        kind = test.field.kind
        if kind is FieldKind.USER:
            return np.array(sorted(set(self._matching_users(test, months))), np.uint32)
        names = self.of_keys(kind, (), ())
        return np.array(sorted(key for key, name in names.items() if holds(test, name)), np.uint32)

    def _matching_users(self, test: OneOf | StartsWith | Present, months: Sequence[MonthInfo]) -> list[int]:
        if isinstance(test, OneOf):
            return list(self.users(test.values, months))
        if isinstance(test, Present):
            return [0]  # whoever asks wants to know who is nobody
        if not test.prefixes or "" in test.prefixes:
            return []
        condition = " OR ".join("substr(name, 1, ?) = ?" for _prefix in test.prefixes)
        bindings = [value for prefix in test.prefixes for value in (len(prefix), prefix)]
        return [
            key
            for info in months
            for (key,) in self._files.rows(info, f"SELECT key FROM users WHERE {condition}", bindings)
        ]

    def users(self, names: Iterable[str], months: Sequence[MonthInfo]) -> dict[int, str]:
        """The names of those of these users that there are, by key."""
        return {key: name for name in names for key in self._user_keys(name, months)}

    def _user_keys(self, name: str, months: Sequence[MonthInfo]) -> list[int]:
        """The key of a user, in a list; of a pseudonym, which only its month knows, too."""
        key = self._user_key(name)
        if key is not None:
            return [key]
        if not name.startswith(PSEUDONYM_MARK):
            return []
        sql = "SELECT key FROM users WHERE name = ?"
        return [key for info in months for (key,) in self._files.rows(info, sql, (name,))]

    def _user_key(self, name: str) -> int | None:
        """The key of a user, None if there is none of that name."""
        for _attempt in range(2):
            key = self._users.known(name)
            if key is None:
                key = self._catalog.user_key(name)
            if key is not None:
                return key
            # Between the two looks it may have gone from the one to the other.
        return None


def user_names(files: Files, info: MonthInfo, keys: Iterable[int]) -> dict[int, str]:
    """The names of users out of a month's own dictionary."""
    wanted = list(keys)
    found: dict[int, str] = {}
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        marks = ",".join("?" * len(part))
        found.update(sqlite.fetch(files.truth(info), f"SELECT key, name FROM users WHERE key IN ({marks})", part))
    return found


def holds(test: OneOf | StartsWith | Present, value: str | None) -> bool:
    """Whether a test holds of one value; None is absent."""
    if value is None:
        return False
    if isinstance(test, OneOf):
        return value in test.values
    if isinstance(test, StartsWith):
        return value.startswith(test.prefixes)
    return test.field.kind in (FieldKind.TAG, FieldKind.METADATA) or value != ""
