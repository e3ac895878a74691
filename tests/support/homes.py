"""Where the stores of tests live: one class an engine. A new engine joins every contract test by being listed here."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from retention.month import Month
from server.config import Storage
from server.errors import TrackdError
from server.model import Appended, Batch
from server.storage.contract import Store
from server.storage.memory.store import MemoryStore
from tests.support.events import read

MONTHS_MAX = 1_200


class Home(ABC):
    """One store's place. Keeps hold of the store that is open there, so that it can be checked and closed."""

    persists = True
    """Whether a store finds again what an earlier one kept here."""
    zones: tuple[str, ...] = ()
    """The reporting time zones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.months_max = MONTHS_MAX
        self.store: Store | None = None

    def open(self, *, months_max: int = MONTHS_MAX) -> Store:
        """Opens the store; only one can be open at a time."""
        assert self.store is None, "the store of this home is open already"
        self.months_max = months_max
        self.store = self._open()
        return self.store

    def close(self) -> None:
        """Closes the store, if it is open."""
        if self.store:
            self.store.close()
        self.store = None

    def reopen(self) -> Store:
        """Closes the store and opens it again."""
        self.close()
        return self.open(months_max=self.months_max)

    def crash(self) -> Store:
        """Opens the store as it would be found if its process had ended at this instant."""
        ruin = self.path.with_name(self.path.name + "-crashed")
        # By another process: closing a copied file in this one would drop the locks that the open store holds on it.
        # The folder may rename a new index in the middle of a copy: then once more.
        while subprocess.run(["cp", "-R", self.path, ruin], check=False, timeout=60).returncode:
            shutil.rmtree(ruin, ignore_errors=True)
        self.close()
        self.path = ruin
        return self.open(months_max=self.months_max)

    def finish(self) -> None:
        """Ends a test: the store is sound, and, closed and opened again, sound and the same."""
        if not self.store:
            return
        try:
            assert list(self.store.check()) == []
            before = contents(self.store)
            if self.persists:
                again = self.reopen()
                assert list(again.check()) == []
                assert contents(again) == before
        finally:
            self.close()

    def fill(self, *, full: bool = True) -> None:
        """From the next opening on there is no room for events, or there is again."""
        raise NotImplementedError

    @contextmanager
    def broken(self, month: str) -> Iterator[None]:
        """Meanwhile a month that no event was written to since the store was opened cannot be written to at all."""
        raise NotImplementedError
        yield

    @abstractmethod
    def _open(self) -> Store: ...


class MemoryHome(Home):
    """The reference engine."""

    persists = False

    def _open(self) -> Store:
        return MemoryStore(months_max=self.months_max, reporting_time_zones=self.zones)


class SqliteHome(Home):
    """The embedded engine."""

    settings = Storage(disk_free_bytes_min=1, open_months_max=4)
    """Few open months: tests with more of them see months closed and opened again."""

    @property
    def in_zones(self) -> Storage:
        """The settings with the reporting time zones."""
        return replace(self.settings, reporting_time_zones=self.zones)

    def fill(self, *, full: bool = True) -> None:
        self.settings = Storage(disk_free_bytes_min=2**62 if full else 1)

    @contextmanager
    def broken(self, month: str) -> Iterator[None]:
        file = max(self.path.glob(f"months/{month}/*/events.db"))
        whole = file.read_bytes()
        file.write_bytes(b"\xff" * 100 + whole[100:])
        try:
            yield
        finally:
            file.write_bytes(whole)

    def _open(self) -> Store:
        from server.storage.sqlite.store import SqliteStore

        return SqliteStore(self.path, self.in_zones, months_max=self.months_max)


class FoldedHome(SqliteHome):
    """The embedded engine, whose index has everything before the next step: questions find nothing in the tail."""

    def _open(self) -> Store:
        from server.storage.sqlite.store import SqliteStore

        class Folded(SqliteStore):
            """Settles after each change."""

            def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
                answers = super().append(batches)
                assert self.settle()
                return answers

            def remove(self, month: Month, positions: Sequence[int]) -> int:
                removed = super().remove(month, positions)
                assert self.settle()
                return removed

        return Folded(self.path, self.in_zones, months_max=self.months_max)


class SmallTailHome(SqliteHome):
    """The embedded engine, whose index follows two events at a time: questions find some here and some there."""

    settings = Storage(disk_free_bytes_min=1, open_months_max=4, tail_events_max=8)


HOMES: tuple[type[Home], ...] = (MemoryHome, SqliteHome)
FOLDING_HOMES: tuple[type[Home], ...] = (FoldedHome, SmallTailHome)
"""The same engine in states that only questions can tell apart."""


def contents(store: Store) -> dict[str, Any]:
    """All that a store tells about itself."""
    return {
        "head": store.head,
        "events": read(store),
        "types": list(store.event_types()),
        "sources": list(store.sources()),
        "months": list(store.months()),
    }
