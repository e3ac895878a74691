"""Positions and dictionary keys: reserved in durable blocks before use, never given twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from server.errors import Exhausted
from server.storage.sqlite.catalog import Catalog

POSITION_BLOCK = 1 << 22
"""One extra fsync per four million events; a crash skips at most so many positions of 2^63."""

USER_BLOCK = 1 << 14
USER_KEY_MAX = (1 << 32) - 1
"""Keys are 32-bit so that Roaring bitmaps can hold them."""

CACHED_USERS_MAX = 250_000
"""About 40 MB. Beyond it the cache starts anew from the catalog."""

PENDING_USERS_MAX = 8_192
"""New users collected before the catalog learns of them in one commit."""


class Counter:
    """Gives out rising numbers from blocks that are reserved on disk."""

    def __init__(self, catalog: Catalog, name: str, block: int) -> None:
        self._catalog = catalog
        self._name = name
        self._block = block
        self.next = self._reserved = catalog.reserved(name)

    def take(self, count: int) -> int:
        """The first of `count` numbers in a row that are ours alone, for ever."""
        first = self.next
        if first + count > self._reserved:
            self.reserve_from(first + count)
        self.next = first + count
        return first

    def reserve_from(self, minimum: int) -> None:
        """Reserves so that a whole block lies above `minimum`."""
        beyond = max(minimum, self._reserved) + self._block
        self._catalog.reserve(self._name, beyond)
        self._reserved = beyond

    def skip_to(self, number: int) -> None:
        """Gives out nothing below `number` from now on."""
        if number > self.next:
            self.reserve_from(number)
            self.next = number

    def give_back(self) -> None:
        """After the last `take`: returns what was reserved and not used, so that a clean restart leaves no gap."""
        if self._reserved != self.next:
            self._catalog.reserve(self._name, self.next)
            self._reserved = self.next


class UserKeys:
    """user_id -> dense 32-bit key. 0 is nobody ("").

    A new key is written with the month that uses it first, in that month's own transaction; the catalog learns of it
    later, many at a time. After a crash recovery reads what the catalog missed from the months.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._counter = Counter(catalog, "user", USER_BLOCK)
        self._cache: dict[str, int] = {"": 0}
        self._pending: dict[str, int] = {}
        self._watched: set[str] | None = None
        """Names that were asked for since `watch`."""

    def keys(self, names: Sequence[str]) -> list[int]:
        """The key of each name, in order; new names get new keys."""
        if self._watched is not None:
            self._watched.update(names)
        try:
            return list(map(self._cache.__getitem__, names))
        except KeyError:
            # A look at a large cache costs as much as a row does in SQLite: no known name is looked up more than twice.
            found = list(map(self._cache.get, names))
            unknown = {name for name, key in zip(names, found, strict=True) if key is None}
            if len(self._cache) + len(unknown) > CACHED_USERS_MAX:
                self._begin_anew()
                self._learn(set(names) - {""})
                return list(map(self._cache.__getitem__, names))
            self._learn(unknown)
            return [self._cache[name] if key is None else key for name, key in zip(names, found, strict=True)]

    def known(self, name: str) -> int | None:
        """From any thread: the key of a name, if it was seen lately. What is not here is in the catalog."""
        return self._cache.get(name)

    def _begin_anew(self) -> None:
        self.flush()
        self._cache = {"": 0}

    def _learn(self, missing: set[str]) -> None:
        known = self._catalog.user_keys(missing)
        self._cache.update(known)
        new = sorted(missing - known.keys())
        if new:
            first = self._counter.take(len(new))
            if first + len(new) > USER_KEY_MAX:
                raise _exhausted()
            fresh = dict(zip(new, range(first, first + len(new)), strict=True))
            self._cache.update(fresh)
            self._pending.update(fresh)

    def adopt(self, rows: Iterable[tuple[int, str]]) -> None:
        """Recovery: takes over names and keys that a month knows."""
        for key, name in rows:
            if key:
                self._pending[name] = key
                self._cache[name] = key
                self._counter.skip_to(key + 1)

    def reserve(self, count: int) -> int:
        """The first of `count` keys in a row for names that one month alone knows: its pseudonyms."""
        first = self._counter.take(count)
        if first + count > USER_KEY_MAX:
            raise _exhausted()
        self._catalog.put_users(self._pending, self._counter.next)
        self._pending = {}
        return first

    # Forgetting

    def watch(self) -> None:
        """From now on it is noted which names are used; the catalog has all that were used before."""
        self._watched = set()
        self.flush()

    def forget(self, keys: Sequence[int]) -> int:
        """Erases the names of these keys, but for those that were used since `watch`; how many."""
        names = self._catalog.user_names(keys)
        gone = {key: name for key, name in names.items() if name not in (self._watched or ())}
        for name in gone.values():
            self._cache.pop(name, None)
        self._catalog.remove_users(list(gone))
        return len(gone)

    def unwatch(self) -> None:
        """Ends what `watch` began."""
        self._watched = None

    def flush_if_due(self) -> None:
        """Lets the catalog catch up once enough new users have come together."""
        if len(self._pending) >= PENDING_USERS_MAX:
            self.flush()

    def flush(self) -> None:
        """Lets the catalog catch up."""
        if self._pending:
            self._catalog.put_users(self._pending, self._counter.next)
            self._pending = {}

    def close(self) -> None:
        """Leaves nothing behind that the next start has to search for."""
        self.flush()
        self._counter.give_back()


def _exhausted() -> Exhausted:
    return Exhausted(
        "USER_KEYS_EXHAUSTED",
        "this store has seen four billion users and can name no more",
        hint="start another store; senders keep what they have until then",
        retry_after_ms=10_000,
    )
