"""Rotation: months that ended some time ago and are quiet are sealed, one at a time, beside everything else.

What may disturb the writer is done by the writer between two groups and takes milliseconds: the fence before, and the
commit that swaps the file afterwards. The long part runs on a thread of its own. Whatever ends in the middle, a month
that is SEALING goes on being sealed at the next look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from retention.month import Month
from server.config import Rotation as Settings
from server.errors import TrackdError, Unavailable
from server.model import MonthInfo, MonthState
from server.storage.contract import Store

log = structlog.get_logger(__name__)

DAY_MS = 86_400_000
LOOK_S = 10.0
RETRY_S = 600.0
"""After a failure, for the month that failed."""

Call = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs something on the writer's thread, between two groups."""


class Rotation:
    """Lives on the event loop."""

    def __init__(
        self,
        store: Store,
        on_writer: Call,
        settings: Settings,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._on_writer = on_writer
        self._settings = settings
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._last_change: dict[Month, tuple[int, float]] = {}
        """The last position of a month, and since when it is that."""
        self._retry_at: dict[Month, float] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trackd-rotation")
        self._stopping = False

    async def run(self) -> None:
        """Looks for months to seal, for ever; returns at once if that is switched off."""
        while self._settings.seal_after_days:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Seals what is due now."""
        for info in self.due():
            try:
                await self._seal(info)
            except TrackdError as problem:
                if self._stopping:
                    return
                self._retry_at[info.month] = self._monotonic() + RETRY_S
                log.error("sealing_failed", month=str(info.month), reason=problem.reason, problem=str(problem))

    def due(self) -> list[MonthInfo]:
        """The months to seal now, oldest first."""
        now_ms, now_s = self._now_ms(), self._monotonic()
        lasts = self._store.last_positions()
        found = []
        for info in self._store.months():
            last = lasts.get(info.month, 0)
            known, since = self._last_change.get(info.month, (-1, now_s))
            if known != last:
                since = now_s
                self._last_change[info.month] = (last, since)
            ended = info.month.end_ms + self._settings.seal_after_days * DAY_MS <= now_ms
            quiet = now_s - since >= self._settings.quiet_minutes * 60
            if self._retry_at.get(info.month, 0.0) > now_s:
                continue
            if info.state is MonthState.SEALING or (info.state is MonthState.OPEN and ended and quiet):
                found.append(info)
        return found

    async def _seal(self, info: MonthInfo) -> None:
        started = self._monotonic()
        await self._on_writer(lambda: self._store.fence(info.month))
        loop = asyncio.get_running_loop()
        rebuilt = await loop.run_in_executor(
            self._thread, self._store.rebuild, info.month, MonthState.SEALED, self._unless_stopping
        )
        await self._on_writer(lambda: self._store.adopt(rebuilt))
        seconds = round(self._monotonic() - started, 3)
        log.info("month_sealed", month=str(info.month), events=rebuilt.rows, seconds=seconds, digest=rebuilt.digest)

    def _unless_stopping(self, _rows: int) -> None:
        if self._stopping:
            raise Unavailable("DRAINING", "the daemon is stopping", hint="sealing goes on after the next start")

    async def stop(self) -> None:
        """Ends what is under way; it is begun again after the next start."""
        self._stopping = True
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
