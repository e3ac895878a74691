"""The one writer: takes what is waiting, decodes, judges and commits it as one group, answers all of it at once.

All the work on events happens on its thread, also the decoding. Two threads that both need the interpreter lock for
long starve each other: beside a thread that decodes, the same appends took 2 to 6 times as long (DESIGN.md). So the
event loop moves bytes, and the writer does the rest.

Everything but `_run` and what it calls happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from server.config import Ingest, Limits
from server.errors import Internal, StoreFailed, TrackdError, Unavailable, unexpected
from server.ingest.admission import Admission
from server.ingest.answer import Answer
from server.ingest.bundle import Bundle, Offer, bundled
from server.model import Appended, Batch
from server.observe import GroupCommitted, Observer
from server.storage.contract import Store

log = structlog.get_logger(__name__)

IDLE_TICK_S = 0.25
"""How often the writer looks after the store while nothing comes in."""

BUSY_ROWS = 4_000
"""With so many events waiting a group is worth its fsync: no lingering for more."""

LINGER_PAUSE_S = 0.002
"""Callers that come back together come one after the other, a fraction of this apart: a pause means that was all."""

QUIET_S = 0.02
"""After a pause like this nobody is expected to come back together."""


@dataclass(slots=True)
class _Waiting:
    """A batch in the queue."""

    offer: Offer
    done: asyncio.Future[Answer]


@dataclass(slots=True)
class _Call:
    """Something else that only the writer may do to the store."""

    action: Callable[[], Any]
    done: asyncio.Future[Any]


class Writer:
    """Group commit over a store that it alone writes to."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        settings: Ingest,
        limits: Limits,
        observer: Observer,
        on_failure: Callable[[TrackdError], None],
    ) -> None:
        """`on_failure` is called on the loop when the store's state is unknown: the daemon must stop."""
        self._store = store
        self._admission = admission
        self._settings = settings
        self._limits = limits
        self._observer = observer
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._calls: deque[_Call] = deque()
        self._wake = threading.Event()
        self._wake_at = 1
        self._room = asyncio.Event()
        self._room.set()
        self._failed: TrackdError | None = None
        self._draining = False
        self._closing = False
        self.full: TrackdError | None = None
        """Why writes are refused at the moment (DISK_FULL), or None. Heals by itself."""
        self.committed: Callable[[], None] = _nobody
        """Called on the loop once a group, after its answers: the head has moved."""
        self.reopens: Callable[[Batch, Sequence[int]], bool] = _never
        """On the writer's thread, with events that came late for sealed months: whether one is opened for them."""
        self.queue_events = 0
        self.queue_bytes = 0
        self.heartbeat = time.monotonic()
        """When the writer thread last showed that it lives."""
        self._thread = threading.Thread(target=self._run, name="trackd-writer", daemon=True)
        self._thread.start()

    # On the loop

    def submit(self, offer: Offer) -> asyncio.Future[Answer]:
        """Queues a batch; the future resolves once it is durable. A cancelled future changes nothing for the batch.

        Raises Unavailable when the daemon is stopping, the disk is full or the store has failed.
        """
        if self._failed:
            raise store_failed()
        if self.full:
            raise self.full.again()
        if self._draining:
            raise draining()
        done: asyncio.Future[Answer] = self._loop.create_future()
        self.queue_events += offer.events
        self.queue_bytes += offer.bytes
        if not self._below_bounds:
            self._room.clear()
        self._queue.append(_Waiting(offer, done))
        if (len(self._queue) >= self._wake_at or self.queue_events >= BUSY_ROWS) and not self._wake.is_set():
            self._wake.set()
        return done

    def reconfigure(self, limits: Limits) -> None:
        """Takes over other bounds of the queue."""
        self._limits = limits
        if self._below_bounds:
            self._room.set()

    @property
    def _below_bounds(self) -> bool:
        return self.queue_events < self._limits.queue_events_max and self.queue_bytes < self._limits.queue_bytes_max

    @property
    def has_room(self) -> bool:
        """Whether the queue is below its bounds."""
        return self._room.is_set()

    async def room(self) -> None:
        """Waits until the queue is below its bounds: the back-pressure of streams."""
        await self._room.wait()

    async def call(self, action: Callable[[], Any]) -> Any:
        """Runs something on the writer's thread, between two groups."""
        if self._failed:
            raise store_failed()
        if self._draining:
            raise draining()
        done: asyncio.Future[Any] = self._loop.create_future()
        self._calls.append(_Call(action, done))
        self._wake.set()
        return await asyncio.shield(done)

    def drain(self) -> None:
        """From now on every submit is refused; what is queued is still committed and answered."""
        self._draining = True

    async def close(self) -> None:
        """Drains, commits everything queued, ends the thread. The store stays open."""
        self.drain()
        self._closing = True
        self._wake.set()
        while self._thread.is_alive():
            await asyncio.sleep(0.002)

    def _resolve(self, group: Sequence[_Waiting], results: Sequence[Answer | TrackdError]) -> None:
        for waiting, result in zip(group, results, strict=True):
            self.queue_events -= waiting.offer.events
            self.queue_bytes -= waiting.offer.bytes
            if not waiting.done.done():
                if isinstance(result, TrackdError):
                    waiting.done.set_exception(result)
                    waiting.done.exception()  # its sender may be gone: nobody has to fetch it
                else:
                    waiting.done.set_result(result)
        if self._below_bounds:
            self._room.set()
        self.committed()

    @staticmethod
    def _resolve_call(call: _Call, result: Any, error: TrackdError | None) -> None:
        if call.done.done():
            return
        if error:
            call.done.set_exception(error)
            call.done.exception()
        else:
            call.done.set_result(result)

    # On the writer's thread

    def _run(self) -> None:
        usual = 1  # how many batches are likely to come together
        last_commit = 0.0
        try:
            while True:
                self.heartbeat = time.monotonic()
                self._run_calls()
                if not self._queue:
                    if self._closing:
                        return
                    self._wait(1, IDLE_TICK_S)
                    if not self._queue and not self._calls:
                        self._look_after(idle=True)
                    continue
                if time.monotonic() - last_commit > QUIET_S:
                    usual = 1
                lingered = self._linger(usual)
                group = self._take()
                self._commit(group, lingered)
                last_commit = time.monotonic()
                # Those just answered come back at about the same time, next to those that came in meanwhile. One group
                # that happened to be small says little about how many they are.
                usual = max(len(group) + len(self._queue), usual * 3 // 4)
                self._look_after(idle=False)
        except StoreFailed as error:
            self._fail(error)
        except Exception as error:
            log.exception("writer_failed")
            self._fail(Internal("WRITER_FAILED", f"the writer ended: {error}", hint="report this; restart the daemon"))

    def _wait(self, batches: int, seconds: float) -> None:
        """Until so many batches are waiting, or something else wants the writer, or the time is over."""
        self._wake_at = batches
        self._wake.clear()
        if len(self._queue) < batches and not self._calls and not self._closing:
            self._wake.wait(seconds)
        self._wake_at = 1

    def _linger(self, usual: int) -> float:
        """Waits for batches that usually come together while they keep coming; a lone sender never waits.

        Returns the seconds. Measured with 64 callers: commits of 64 take 22 us of the interpreter a call, of 18 45 us.
        """
        if len(self._queue) >= usual or self.queue_events >= BUSY_ROWS or self._settings.linger_max_ms <= 0:
            return 0.0
        start = now = time.monotonic()
        end = start + self._settings.linger_max_ms / 1000
        while now < end:
            before = len(self._queue)
            self._wait(usual, min(end - now, LINGER_PAUSE_S))
            now = time.monotonic()
            if not before < len(self._queue) < usual or self.queue_events >= BUSY_ROWS:
                break
        return now - start

    def _take(self) -> list[_Waiting]:
        """From the front of the queue as much as one commit may hold, at least one batch."""
        group = [self._queue.popleft()]
        events, size_bytes = group[0].offer.events, group[0].offer.bytes
        while self._queue:
            following = self._queue[0].offer
            events += following.events
            size_bytes += following.bytes
            if events > self._settings.group_events_max or size_bytes > self._settings.group_bytes_max:
                break
            group.append(self._queue.popleft())
        return group

    def _commit(self, group: list[_Waiting], lingered: float) -> None:
        start = time.monotonic()
        try:
            results = self._append(bundled(waiting.offer for waiting in group))
        except Unavailable as error:
            if error.reason == "DISK_FULL":
                self._set_full(error)
            results = [error.again() for _waiting in group]
        except BaseException:
            # The outcome is unknown: nobody gets an answer that claims one.
            self._queue.extendleft(reversed(group))
            raise
        else:
            told = GroupCommitted(
                batches=len(group),
                events=sum(waiting.offer.events for waiting in group),
                seconds=time.monotonic() - start,
                linger_seconds=lingered,
            )
            self._observer.group_committed(told)
        self._loop.call_soon_threadsafe(self._resolve, group, results)

    def _append(self, bundles: Sequence[Bundle]) -> list[Answer | TrackdError]:
        """Judges and stores; one result per batch. A bundle of which nothing is left does not reach the store."""
        judged = [self._admit(bundle) for bundle in bundles]
        batches = [
            bundle.admitted.batch for bundle in bundles if bundle.admitted is not None and len(bundle.admitted.batch)
        ]
        stored = iter(self._store.append(batches) if batches else ())
        results: list[Answer | TrackdError] = []
        for bundle, problem in zip(bundles, judged, strict=True):
            error = problem
            if bundle.admitted is not None and not len(bundle.admitted.batch):
                results += bundle.answers()
            elif bundle.admitted is not None:
                appended = next(stored)
                if isinstance(appended, TrackdError):
                    error = appended
                elif self._are_late(bundle.admitted.batch, appended):
                    error = _reopening()
                else:
                    results += bundle.answers(appended)
            if error and len(bundle.offers) > 1:
                results += self._append(bundle.alone())
            elif error:
                results.append(error)
        return results

    def _are_late(self, batch: Batch, appended: Appended) -> bool:
        """Whether a month is about to be opened again for some of them."""
        late = [item.index for item in appended.items if item.reason == "MONTH_SEALED"]
        return bool(late) and self.reopens(batch, late)

    def _admit(self, bundle: Bundle) -> TrackdError | None:
        try:
            bundle.admit(self._admission)
        except TrackdError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a defect costs this batch, not the daemon
            return unexpected(error)
        return None

    def _look_after(self, *, idle: bool) -> None:
        try:
            if self.full and idle:
                self._store.append([])
                log.info("disk_has_room")
                self.full = None
            self._store.maintain(idle=idle)
        except Unavailable as error:
            if error.reason == "DISK_FULL":
                self._set_full(error)

    def _set_full(self, error: TrackdError) -> None:
        if not self.full:
            log.error("disk_full", hint=error.hint)
        self.full = error

    def _run_calls(self) -> None:
        while self._calls:
            call = self._calls.popleft()
            result, problem = None, None
            try:
                result = call.action()
            except StoreFailed:
                self._calls.appendleft(call)
                raise
            except TrackdError as error:
                problem = error
            self._loop.call_soon_threadsafe(self._resolve_call, call, result, problem)

    def _fail(self, error: TrackdError) -> None:
        self._failed = error
        self._loop.call_soon_threadsafe(self._abandon_all, error)

    def _abandon_all(self, error: TrackdError) -> None:
        self._on_failure(error)
        group = list(self._queue)
        self._queue.clear()
        self._resolve(group, [store_failed() for _waiting in group])
        for call in self._calls:
            self._resolve_call(call, None, store_failed())
        self._calls.clear()


def _nobody() -> None:
    """Nobody wants to know."""


def _never(_batch: Batch, _late: Sequence[int]) -> bool:
    return False  # no policy says so


def _reopening() -> Unavailable:
    """The sender comes again, and finds the month open; what was stored meanwhile is a duplicate then."""
    return Unavailable(
        "MONTH_REOPENING",
        "a month that was sealed is opened again for late events of this batch",
        hint="send it again with the same ids",
        retry_after_ms=2_000,
    )


def store_failed() -> Unavailable:
    """The daemon is about to end because its store failed."""
    return Unavailable(
        "STORE_FAILED",
        "the store failed; whether this was stored is unknown",
        hint="send it again with the same ids once the daemon is back",
        retry_after_ms=1_000,
    )


def draining() -> Unavailable:
    """The daemon is stopping."""
    return Unavailable(
        "DRAINING", "the daemon is stopping", hint="try again; it may be restarting", retry_after_ms=1_000
    )
