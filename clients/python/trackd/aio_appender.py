"""The Appender for asyncio: a trackd.Appender that a thread of its own feeds, so that the event loop never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

from trackd import appender as blocking
from trackd.backoff import Backoff
from trackd.channel import Tls, Token
from trackd.framing import MIB
from trackd.outcomes import BatchResult, Totals
from trackd.requests import DurabilityName
from trackd.v1.event_pb2 import Event

Answer = TypeVar("Answer")


class AppenderWords(TypedDict, total=False):
    """The arguments that are handed on to trackd.Appender as they are."""

    durability: DurabilityName
    window_batches: int
    window_bytes: int
    give_up_after_s: float
    answer_timeout_s: float
    backoff: Backoff | None
    token: Token | None
    tls: Tls | bool | None


class Appender:
    """Sends many events from the tasks of one event loop, each stored once. An asynchronous context manager.

        async with trackd.aio.Appender("127.0.0.1:7077", source="reviews") as appender:
            await appender.send(events)

    What it promises, and its arguments, are those of trackd.Appender. Tasks may share it. Memory is bounded by the
    window, and one batch more that is being filled: `send` waits while both are full.

    `on_result` is called for each final answer, in order of answers, on the event loop, before `flush` returns. What it
    raises is raised by the next call, and nothing is sent any more.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        source: str,
        on_result: Callable[[BatchResult], None] | None = None,
        batch_events: int = 1_000,
        batch_bytes: int = MIB,
        **words: Unpack[AppenderWords],
    ) -> None:
        """Must be called where an event loop runs."""
        self._loop = asyncio.get_running_loop()
        self._on_result = on_result
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._appender = blocking.Appender(
            target,
            source=source,
            on_result=None if on_result is None else self._answered,
            batch_events=batch_events,
            batch_bytes=batch_bytes,
            **words,
        )
        self.target = self._appender.target
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trackd-aio-appender")
        self._turn = asyncio.Lock()
        self._part: list[bytes] = []
        self._part_bytes = 0
        self._under_way: asyncio.Future[None] | None = None
        self._open = 0
        self._failure: BaseException | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.abort()

    @property
    def totals(self) -> Totals:
        """The sums over all final answers so far."""
        return self._appender.totals

    @property
    def unacknowledged(self) -> int:
        """Events handed over and not finally answered."""
        return self._open - self.totals.answered

    async def send(self, events: Iterable[Event] | AsyncIterable[Event]) -> None:
        """Takes over the events, in order; waits while the window is full.

        Batches go out as they fill; the last, partial one goes with flush or close. Raises GaveUp, what on_result
        raised, or Invalid for an event of more than 7 MiB. A task that is cancelled leaves what it has sent before.
        """
        if isinstance(events, AsyncIterable):
            async for event in events:
                await self._put(blocking.encoded(event))
        else:
            for event in events:
                await self._put(blocking.encoded(event))

    async def flush(self) -> Totals:
        """Waits until everything handed over has its final answer; raises like send."""
        self._raise_failure()
        async with self._turn:
            if not self._closed:
                await self._hand_over()
        if not self._closed:
            await self._in_thread(self._appender.flush)
        self._raise_failure()
        return self.totals

    async def close(self) -> Totals:
        """Flushes, ends the stream in order and returns the totals. Raises like send, and is closed even then.

        Closing twice is fine.
        """
        try:
            await self.flush()
            if not self._closed:
                await self._in_thread(self._appender.close)
        finally:
            await self.abort()
        return self.totals

    async def abort(self) -> None:
        """Ends at once; what is not answered may or may not be stored. See `unacknowledged`."""
        self._closed = True
        await asyncio.to_thread(self._appender.abort)
        self._thread.shutdown(wait=False)

    async def _put(self, element: bytes) -> None:
        async with self._turn:
            while len(self._part) >= self._batch_events or (
                self._part and self._part_bytes + len(element) > self._batch_bytes
            ):
                await self._hand_over()
            self._raise_failure()
            if self._closed:
                raise RuntimeError("the Appender is closed")
            self._part.append(element)
            self._part_bytes += len(element)
            self._open += 1

    async def _hand_over(self) -> None:
        """Gives what was filled to the thread, once it is done with what it got before. Whoever calls has the turn."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
            self._under_way.result()
        self._raise_failure()
        part, self._part, self._part_bytes = self._part, [], 0
        self._under_way = self._loop.run_in_executor(self._thread, self._appender.send_encoded, part)
        # Whoever comes next gets what went wrong; if nobody does, nobody needs to hear of it.
        self._under_way.add_done_callback(asyncio.Future.exception)

    async def _in_thread(self, function: Callable[[], Answer]) -> Answer:
        return await asyncio.shield(self._loop.run_in_executor(self._thread, function))

    def _answered(self, result: BatchResult) -> None:
        """On a thread of the Appender."""
        self._loop.call_soon_threadsafe(self._tell, result)

    def _tell(self, result: BatchResult) -> None:
        if self._failure is not None or self._on_result is None:
            return
        try:
            self._on_result(result)
        except Exception as error:  # noqa: BLE001 - it is the application's function
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
