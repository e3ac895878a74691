"""All derived data of a store, as its writer sees it: rows go in after their commit, and the rest happens beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from retention.month import Month
from server import config
from server.model import EventType, MonthInfo, MonthState, Size
from server.storage.sqlite.index.folder import Folder
from server.storage.sqlite.index.held import Held
from server.storage.sqlite.index.indexes import Indexes
from server.storage.sqlite.index.tail import Added, Tail
from server.storage.sqlite.index.truth import Truth
from server.storage.sqlite.layout import Layout
from server.time_buckets import zone_of

log = structlog.get_logger(__name__)

ROOM_WAIT_S = 5.0
"""Folding a block takes a fraction of this, also over hundreds of months."""


class Derived:
    """The tail, the indexes and the thread between them."""

    def __init__(
        self,
        layout: Layout,
        settings: config.Storage,
        store_id: str,
        head: int,
        months: Callable[[], Mapping[Month, MonthInfo]],
        damaged: Callable[[], Iterable[Month]],
        types: Callable[[], Mapping[int, EventType]],
        erased: Iterable[Month],
    ) -> None:
        """`months` and `types` are asked from the folder's thread as well."""

        def info(month: Month) -> MonthInfo | None:
            return months().get(month)

        def dimensions() -> dict[int, tuple[str, ...]]:
            return {key: entry.dimensions for key, entry in types().items() if entry.dimensions}

        self._month_info = info
        self._layout = layout
        self.erased = set(erased)
        """Months of which events were ever removed: whoever reads another one need not look."""
        self.zones: dict[str, ZoneInfo] = {name: zone_of(name) for name in ("UTC", *settings.reporting_time_zones)}
        there = {month for month, info in months().items() if info.state is not MonthState.DROPPED}
        self.tail = Tail(head, there - set(damaged()), rows_max=settings.tail_events_max)
        self.indexes = Indexes(layout, self.tail, store_id, info, Held(settings.index_cache_bytes))
        self._folder = Folder(
            self.tail,
            self.indexes,
            Truth(layout, info, open_max=settings.open_months_max),
            self.zones,
            dimensions,
            open_max=settings.open_months_max,
        )
        self._folder.start()

    def make_room(self, rows: int) -> None:
        """Waits until the tail takes so many more rows and stays within its bound.

        Should the folder not come back, events are not held up for it: the rows of the tail are let go of, and
        questions read them from the truth.
        """
        if not self.tail.wait_for_room(rows, ROOM_WAIT_S):
            log.error("folding_stuck", tail=len(self.tail))
            self.tail.give_up(self.tail.view.head, ())

    def add(self, batches: Iterable[Added], head: int) -> None:
        """What a group has committed; from now on questions see it."""
        self.tail.add(batches, head)

    def give_up(self, head: int, months: Iterable[Month]) -> None:
        """A group failed half way: these months may hold rows that nobody told of."""
        self.tail.give_up(head, months)

    def removing(self, month: Month) -> AbstractContextManager[bool]:
        """To be held from the commit of a removal until `removed` returns."""
        self.erased.add(month)
        return self._folder.removal_lock

    def erased_of(self, months: Sequence[MonthInfo]) -> list[MonthInfo]:
        """Those months of which events were removed."""
        return [info for info in months if info.month in self.erased] if self.erased else []

    def removed(self, month: Month, positions: Sequence[int]) -> None:
        """These events of a month are erased."""
        self.tail.remove(positions)
        self._folder.apply_removals(month)

    def applied_removals(self) -> dict[Month, int]:
        """Generations of removals that indexes have applied since this was asked last."""
        applied = {}
        for month in list(self._folder.removed):
            applied[month] = self._folder.removed.pop(month)
        return applied

    def wait_for(self, month: Month, removals: int, timeout_s: float) -> bool:
        """Waits until the index of a month has every event of it and these removals; False if that takes longer.

        For months that take no events any more.
        """
        end = time.monotonic() + timeout_s
        self.tail.hurry = True
        try:
            while not self._is_complete(month, removals):
                if time.monotonic() > end:
                    return False
                self.tail.work.set()
                time.sleep(0.005)
            return True
        finally:
            self.tail.hurry = False

    def _is_complete(self, month: Month, removals: int) -> bool:
        view = self.tail.view
        info = self._month_info(month)
        if info is None or month in view.gaps or len(view.rows({month: 0})):
            return False
        version = self.indexes.version(info)
        return version is None or version.removals >= removals

    def moved(self, info: MonthInfo) -> None:
        """A month has another generation now."""
        if self.indexes.path(info) is None:
            self.tail.gap_found(info.month)

    def dropped(self, month: Month) -> None:
        """All rows of a sealed month are gone."""
        self.tail.gap_closed(month)

    @property
    def merging(self) -> int:
        """Months whose runs are about to be merged."""
        return self._folder.merging

    def sizes(self, months: Iterable[MonthInfo]) -> dict[MonthState, Size]:
        """What indexes know of these months, and the length of their files. The tail is of months that take events."""
        sizes: dict[MonthState, Size] = {}
        for info in months:
            if info.state is MonthState.DROPPED:
                continue
            version, index = self.indexes.version(info), self.indexes.path(info)
            rows = sum(run.rows for run in version.runs) if version else 0
            files = [self._layout.events(info.month, info.generation), *([index] if index else [])]
            size = sizes.get(info.state, Size(len(self.tail) if info.state is MonthState.OPEN else 0, 0))
            sizes[info.state] = Size(size.rows + rows, size.bytes + sum(map(_length, files)))
        return sizes

    def settle(self, timeout_s: float) -> bool:
        """Waits until everything is folded and merged; False if that takes longer."""
        end = time.monotonic() + timeout_s
        self.tail.hurry = True
        try:
            while not self._folder.idle:
                if time.monotonic() > end:
                    return False
                self.tail.work.set()
                time.sleep(0.002)
            return True
        finally:
            self.tail.hurry = False

    def close(self) -> None:
        """Ends the thread. What is not folded yet is found by the next start."""
        self._folder.close()


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was replaced meanwhile, or is missing from a damaged month
        return 0
