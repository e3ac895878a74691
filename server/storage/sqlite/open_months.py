"""The month files that the writer has open: those used last, a bounded number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import apsw

from retention.month import Month
from server import config
from server.errors import TrackdError
from server.model import MonthInfo
from server.storage.sqlite.checkpointer import Checkpointer
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.month_file import MonthFile

PAGE_BYTES = 4_096
WAL_PASSIVE_PAGES = 2_048
"""Above 8 MiB of log a month is checkpointed between two groups."""
IDLE_MONTH_S = 30.0
"""A month that took no event for so long is checkpointed and closed."""


class OpenMonths:
    """Opens, keeps and closes them. Belongs to the writer; only `wal_bytes` may be asked by others."""

    def __init__(
        self, layout: Layout, settings: config.Storage, months: Callable[[], Mapping[Month, MonthInfo]]
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._months = months
        self._checkpointer = Checkpointer()
        self._open: OrderedDict[Month, tuple[MonthFile, float]] = OrderedDict()

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead logs of all open months."""
        return sum(file.wal_pages for file, _used in list(self._open.values())) * PAGE_BYTES

    def get(self, month: Month, *, keep: Collection[Month] = ()) -> MonthFile:
        """The month, open. The months of a group stay open together, also if they are more than usual."""
        entry = self._open.get(month)
        if entry is None:
            if len(self._open) >= self._settings.open_months_max:
                oldest = next((one for one in self._open if one not in keep), None)
                if oldest:
                    self.close(oldest)
            file = MonthFile(
                self._layout.events(month, self._months()[month].generation),
                month,
                cache_bytes=self._settings.page_cache_bytes // self._settings.open_months_max,
                wal_bytes_max=self._settings.wal_bytes_max,
            )
        else:
            file = entry[0]
        self._open[month] = (file, time.monotonic())
        self._open.move_to_end(month)
        return file

    def close(self, month: Month) -> None:
        """Checkpoints and closes a month, if it is open."""
        file, _used = self._open.pop(month, (None, 0.0))
        if file is not None:
            try:
                file.checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
            finally:
                file.close()

    def maintain(self, *, idle: bool) -> None:
        """Does a bounded piece of upkeep."""
        while len(self._open) > self._settings.open_months_max:
            self.close(next(iter(self._open)))
        longest = max((file for file, _used in self._open.values()), key=lambda file: file.wal_pages, default=None)
        if longest is None:
            return
        if longest.wal_pages * PAGE_BYTES > self._settings.wal_bytes_max:
            longest.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        elif longest.wal_pages > WAL_PASSIVE_PAGES:
            self._checkpointer.ask(longest.path)
        elif idle:
            oldest, (_file, used) = next(iter(self._open.items()))
            if time.monotonic() - used > IDLE_MONTH_S:
                self.close(oldest)

    def end_background_work(self) -> None:
        """Ends the thread that checkpoints."""
        self._checkpointer.close()

    def close_all(self) -> None:
        """Checkpoints and closes all: leaves nothing for the next start to recover."""
        while self._open:
            self.close(next(iter(self._open)))

    def let_go(self) -> None:
        """Closes what is open, without writing: after a failed fsync the disk may lack what a checkpoint builds on."""
        for file, _used in self._open.values():
            with suppress(TrackdError):
                file.close(checkpoint=False)
        self._open.clear()
