"""The readers of subscribers: a few threads of their own, taken in turns, first come, first served.

Questions have other readers, so that neither waits for the other. Whoever asks for what is being read already, or was
just read, gets the same page: all who follow the head with one filter cost one reading and one encoding a commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from server.observe import Observer, PageRead
from server.storage.contract import Reader, Store

_T = TypeVar("_T")

KEPT_PAGES = 4
"""Pages that are kept for those who are about to ask for them; each holds about a MiB at most."""
KEPT_S = 0.25


@dataclass(frozen=True, slots=True)
class Page:
    """What follows a position: encoded events, possibly none, and up to where (`through`) they are all that matches.

    `last` is the position of the last event, 0 without any.
    """

    encoded: bytes
    events: int
    last: int
    through: int


class Flight:
    """A page that is being read, or was just read, for one subscriber or several."""

    def __init__(self, task: asyncio.Task[Page]) -> None:
        self._task = task
        self.wanted = 0
        """How many have joined and not left."""

    @property
    def landed(self) -> bool:
        """Whether it is over."""
        return self._task.done()

    async def wait(self, seconds: float) -> Page | None:
        """The page; None if it is not there within so many seconds. Raises what the reading raised."""
        await asyncio.wait({self._task}, timeout=max(seconds, 0))
        return self._task.result() if self._task.done() else None

    def stop(self) -> None:
        """Nobody wants it any more."""
        self._task.cancel()


class Turns:
    """Runs readings on the store's readers, a bounded number at a time."""

    def __init__(self, store: Store, readers: int, observer: Observer) -> None:
        self._observer = observer
        self._readers = [store.reader() for _ in range(readers)]
        self._free: asyncio.LifoQueue[Reader] = asyncio.LifoQueue()
        for reader in self._readers:
            self._free.put_nowait(reader)
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="trackd-subscribe")
        self._flights: dict[Hashable, Flight] = {}

    def join(self, key: Hashable, reading: Callable[[Reader], Page]) -> Flight:
        """The page that `key` stands for: the one that is being read or kept, or else a new reading. Leave it later."""
        flight = self._flights.get(key)
        if flight is None:
            task = asyncio.create_task(self._timed(reading))
            flight = self._flights[key] = Flight(task)
            task.add_done_callback(partial(self._landed, key, flight))
        flight.wanted += 1
        return flight

    def leave(self, key: Hashable, flight: Flight) -> None:
        """One subscriber has its page or does not want it any more. What nobody wants any more is stopped."""
        flight.wanted -= 1
        if not flight.wanted and not flight.landed:
            self._forget(key, flight)
            flight.stop()

    def _landed(self, key: Hashable, flight: Flight, done: asyncio.Task[Page]) -> None:
        """A page is kept for a moment; a failure is not."""
        if done.cancelled() or done.exception():
            self._forget(key, flight)
            return
        asyncio.get_running_loop().call_later(KEPT_S, self._forget, key, flight)
        kept = [(known, other) for known, other in self._flights.items() if other.landed]
        for known, other in kept[:-KEPT_PAGES]:
            self._forget(known, other)

    def _forget(self, key: Hashable, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def run(self, reading: Callable[[Reader], _T]) -> _T:
        """Runs something else in its turn. When the caller is cancelled it is stopped as well."""
        reader = await self._free.get()
        running = asyncio.get_running_loop().run_in_executor(self._threads, reading, reader)
        running.add_done_callback(lambda _done: self._free.put_nowait(reader))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            if not running.done():
                reader.interrupt()
            raise

    async def _timed(self, reading: Callable[[Reader], Page]) -> Page:
        start_s = time.monotonic()
        page = await self.run(reading)
        self._observer.page_read(PageRead(seconds=time.monotonic() - start_s, events=page.events))
        return page

    async def close(self) -> None:
        """Stops what runs, waits for it, and closes the readers."""
        for reader in self._readers:
            reader.interrupt()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for reader in self._readers:
            reader.close()
