"""The registries of the whole store, types and sources, as its writer holds them: names and their keys."""

from __future__ import annotations

from collections.abc import Sequence

from server.model import Batch, EventType
from server.storage.sqlite.catalog import Catalog
from server.storage.sqlite.month_file import Keys


class Registries:
    """Belongs to the writer. What others read is copied, never changed under their hands."""

    def __init__(self, catalog: Catalog, stored_sources: set[str]) -> None:
        """`stored_sources`: those of which there are events, or were."""
        self._catalog = catalog
        self.types = catalog.types()
        """By key."""
        self.sources = {name: key for key, name in catalog.sources().items()}
        self.stored_sources = stored_sources
        self._type_keys = {entry.name: key for key, entry in self.types.items()}

    def event_types(self) -> list[EventType]:
        """From any thread: all types, by name."""
        return sorted(self.types.copy().values(), key=lambda entry: entry.name)

    def keys(self, batch: Batch, users: Sequence[int]) -> Keys:
        """The keys of a batch's types and of its source; new ones get new keys."""
        try:
            types = list(map(self._type_keys.__getitem__, batch.types))
        except KeyError:
            for name in sorted(set(batch.types) - self._type_keys.keys()):
                self._put_type(EventType(name, "", batch.received_ms, declared=False))
            types = list(map(self._type_keys.__getitem__, batch.types))
        return Keys(types, users, self.source_key(batch.source))

    def source_key(self, name: str) -> int:
        """The key of a source, which need not have stored anything."""
        key = self.sources.get(name)
        if key is None:
            key = max(self.sources.values(), default=0) + 1
            self._catalog.put_source(key, name)
            self.sources[name] = key
        return key

    def stored_source_key(self, name: str) -> int:
        """The key of a source that has events from now on."""
        self.stored_sources.add(name)
        return self.source_key(name)

    def register_type(self, name: str, description: str, now_ms: int, dimensions: Sequence[str]) -> EventType:
        """See Store.register_type."""
        key = self._type_keys.get(name)
        registered_ms = now_ms if key is None else self.types[key].registered_ms
        entry = EventType(name, description, registered_ms, declared=True, dimensions=tuple(sorted(set(dimensions))))
        if key is None or self.types[key] != entry:
            self._put_type(entry)
        return entry

    def _put_type(self, entry: EventType) -> None:
        key = self._type_keys.get(entry.name) or max(self.types, default=0) + 1
        self._catalog.put_type(key, entry)
        self.types[key] = entry
        self._type_keys[entry.name] = key
