"""A few threads that answer questions, and the rules for waiting, deadlines and cancels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from server.config import Query
from server.errors import DeadlineExceeded, TrackdError, Unavailable
from server.observe import Ending, Observer, QuestionAnswered
from server.storage.contract import Reader, Store

_T = TypeVar("_T")


class Readers:
    """Runs questions on the store's readers, a bounded number at a time."""

    def __init__(self, store: Store, settings: Query, observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._readers = [store.reader() for _ in range(settings.readers)]
        self._free: asyncio.LifoQueue[Reader] = asyncio.LifoQueue()
        for reader in self._readers:
            self._free.put_nowait(reader)
        self._threads = ThreadPoolExecutor(settings.readers, thread_name_prefix="trackd-reader")
        self._waiting = 0

    def reconfigure(self, settings: Query) -> None:
        """Takes over other bounds of waiting and time; the number of readers stays."""
        self._settings = settings

    async def ask(self, kind: str, question: Callable[[Reader], _T]) -> _T:
        """The answer to one question. When the caller is cancelled the running statement is stopped as well.

        Raises Unavailable(QUERY_QUEUE_FULL) if too many wait, DeadlineExceeded(QUERY_TIMEOUT) at the operator's limit.
        """
        start = time.monotonic()
        ending = Ending.OWED
        try:
            # Not wait_for, which makes a task: two more rounds of the event loop, and of the interpreter lock.
            async with asyncio.timeout(self._settings.timeout_max_ms / 1000):
                answer = await self._run(question)
            ending = Ending.ANSWERED
        except TimeoutError as error:
            raise DeadlineExceeded(
                "QUERY_TIMEOUT",
                f"the question took longer than {self._settings.timeout_max_ms} ms and was stopped",
                hint="ask for a shorter time range, or raise query.timeout_max_ms",
            ) from error
        except TrackdError as error:
            ending = Ending.OWED if error.owed else Ending.REFUSED
            raise
        except asyncio.CancelledError:
            ending = Ending.ABANDONED
            raise
        finally:
            self._observer.question_answered(QuestionAnswered(kind, time.monotonic() - start, ending))
        return answer

    @property
    def waiting(self) -> int:
        """Questions that wait for a reader."""
        return self._waiting

    async def _run(self, question: Callable[[Reader], _T]) -> _T:
        reader = await self._take()
        running = asyncio.get_running_loop().run_in_executor(self._threads, question, reader)
        running.add_done_callback(lambda _done: self._free.put_nowait(reader))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            reader.interrupt()
            raise

    async def _take(self) -> Reader:
        if self._waiting >= self._settings.waiting_max:
            raise Unavailable(
                "QUERY_QUEUE_FULL",
                f"{self._waiting} questions are waiting already",
                hint="ask less often, or raise query.readers",
                retry_after_ms=500,
            )
        self._waiting += 1
        try:
            return await self._free.get()
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Stops what runs, waits for it, and closes the readers."""
        for reader in self._readers:
            reader.interrupt()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for reader in self._readers:
            reader.close()
