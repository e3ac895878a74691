"""Group commit over a store that a test holds: who waits for whom, what is refused, that every batch is answered."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.config import Ingest, Limits
from server.errors import Internal, StoreFailed, TrackdError, Unavailable
from server.ingest.admission import Admission
from server.ingest.answer import Answer
from server.ingest.bundle import Offer
from server.ingest.event_types import EventTypes
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.ingest.writer import Writer
from server.model import Absent, Appended, Batch
from server.observe import Observer
from server.storage.memory.store import MemoryStore
from tests.support.events import make_id, read

NOW_MS = 1_764_000_000_000
FULL = Unavailable("DISK_FULL", "full on purpose", hint="free some room", retry_after_ms=5_000)
LOST = StoreFailed("STORAGE_IO", "failed on purpose")


class HeldStore(MemoryStore):
    """The reference engine, whose appends wait until they may and fail as they are told."""

    def __init__(self) -> None:
        super().__init__(months_max=10)
        self.may = threading.Event()
        self.may.set()
        self.groups: list[int] = []
        """Events of each commit."""
        self.fails: TrackdError | None = None

    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        """Waits, then fails or commits."""
        assert self.may.wait(10)
        if self.fails:
            raise self.fails
        if batches:
            self.groups.append(sum(map(len, batches)))
        return super().append(batches)


class Decode:
    """Gives the columns of a batch, later, on the writer's thread."""

    def __init__(self, first: int, count: int) -> None:
        self._numbers = range(first, first + count)
        self.thread = ""

    def __call__(self) -> tuple[Offered, dict[int, Fault]]:
        self.thread = threading.current_thread().name
        ids, count = [make_id(number + 1) for number in self._numbers], len(self._numbers)
        none = Absent(count)
        return Offered(ids, ["t"] * count, ["ann"] * count, [NOW_MS] * count, none, none, none, [""] * count), {}


def offer(
    first: int, count: int = 1, *, source: str = "tests", size: int = 100, decode: Callable[[], Any] | None = None
) -> Offer:
    """A batch of events with numbers from `first` on."""
    return Offer(source, False, count, size, decode or Decode(first, count))


@asynccontextmanager
async def writing(store: HeldStore, *, limits: Limits | None = None, **settings: Any) -> AsyncIterator[Writer]:
    """A writer over the store; closed at the end. `failures` collects what it calls `on_failure` with."""
    admission = Admission(Limits(), EventTypes([], open_registry=True, types_max=10), lambda: NOW_MS)
    failures: list[TrackdError] = []
    made = Writer(store, admission, Ingest(**settings), limits or Limits(), Observer(), failures.append)
    FAILURES[made] = failures
    try:
        yield made
    finally:
        store.may.set()
        await asyncio.wait_for(made.close(), 10)


FAILURES: weakref.WeakKeyDictionary[Writer, list[TrackdError]] = weakref.WeakKeyDictionary()


async def settle(*done: asyncio.Future[Answer]) -> list[Answer | BaseException]:
    """All answers and errors."""
    return await asyncio.wait_for(asyncio.gather(*done, return_exceptions=True), 10)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for the other thread."""
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to pass")


async def test_a_lone_caller_does_not_wait() -> None:
    """With a linger of ten seconds, one batch after the other is committed at once."""
    async with writing(store := HeldStore(), linger_max_ms=10_000) as writer:
        start = time.monotonic()
        for number in range(20):
            answer = await writer.submit(offer(number))
            assert (answer.accepted, answer.first_position) == (1, number + 1)
        assert time.monotonic() - start < 5
        assert store.groups == [1] * 20


async def test_what_waits_together_is_committed_together() -> None:
    """Batches that come in during a commit make the next one; each gets its own answer, in its order."""
    async with writing(store := HeldStore()) as writer:
        store.may.clear()
        first = writer.submit(offer(0))
        await until(lambda: not writer._queue)  # noqa: SLF001  # it has been taken
        others = [writer.submit(offer(10 * n, 3, source=f"s{n % 3}")) for n in range(1, 41)]
        await asyncio.sleep(0.02)
        assert not any(done.done() for done in (first, *others)), "answered before the commit"
        store.may.set()
        answers = await settle(first, *others)
        assert [getattr(answer, "accepted", answer) for answer in answers] == [1] + [3] * 40
        assert store.groups == [1, 120]
        found = [(answer.first_position, answer.last_position) for answer in answers if isinstance(answer, Answer)]
        assert found == [(1, 1), *((2 + 3 * n, 4 + 3 * n) for n in range(40))]


async def test_a_group_has_its_bounds() -> None:
    """By events and by bytes; a batch above them goes alone."""
    async with writing(store := HeldStore(), group_events_max=10, group_bytes_max=1_000) as writer:
        store.may.clear()
        first = writer.submit(offer(0))
        await until(lambda: not writer._queue)  # noqa: SLF001  # it has been taken
        others = [writer.submit(offer(100 * n, count, size=size)) for n, (count, size) in enumerate(
            [(6, 1), (4, 1), (5, 1), (50, 1), (1, 600), (2, 600), (3, 5_000)], 1)]  # fmt: skip
        store.may.set()
        await settle(first, *others)
        assert store.groups == [1, 10, 5, 50, 1, 2, 3]


async def test_a_full_queue_has_no_room_until_it_is_below_its_bounds() -> None:
    """`room` waits; a batch is still taken (its sender has read it already); events and bytes both count."""
    for limits in (Limits(queue_events_max=5), Limits(queue_bytes_max=500)):
        async with writing(store := HeldStore(), limits=limits) as writer:
            store.may.clear()
            taken = [writer.submit(offer(n)) for n in range(4)]
            assert writer.has_room
            await asyncio.wait_for(writer.room(), 1)
            taken += [writer.submit(offer(n)) for n in range(4, 9)]
            assert not writer.has_room
            waiting = asyncio.create_task(writer.room())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            store.may.set()
            await asyncio.wait_for(waiting, 5)
            assert {answer.accepted for answer in await settle(*taken) if isinstance(answer, Answer)} == {1}
            assert (writer.queue_events, writer.queue_bytes, writer.has_room) == (0, 0, True)


async def test_a_full_disk_refuses_and_heals_by_itself() -> None:
    """DISK_FULL for the group and, at once, for whoever comes later; when there is room again it is taken."""
    async with writing(store := HeldStore()) as writer:
        assert (await writer.submit(offer(0))).accepted == 1
        store.fails = FULL
        (refused,) = await settle(writer.submit(offer(1)))
        assert isinstance(refused, Unavailable)
        assert (refused.reason, refused.retry_after_ms) == ("DISK_FULL", 5_000)
        assert writer.full
        with pytest.raises(Unavailable, match="full on purpose"):
            writer.submit(offer(2))
        assert FAILURES[writer] == []
        store.fails = None
        await until(lambda: writer.full is None)
        assert (await writer.submit(offer(1))).accepted == 1
        assert len(read(store)) == 2


async def test_a_failed_store_leaves_everybody_without_a_claim() -> None:
    """STORE_FAILED for the group under way and all behind it; `on_failure` is called once; nothing more is taken."""
    async with writing(store := HeldStore()) as writer:
        store.may.clear()
        store.fails = LOST
        waiting = [writer.submit(offer(0))]
        await until(lambda: not writer._queue)  # noqa: SLF001  # it has been taken
        waiting += [writer.submit(offer(n)) for n in range(1, 3)]
        call = asyncio.create_task(writer.call(lambda: None))
        await asyncio.sleep(0.01)
        store.may.set()
        for error in await settle(*waiting):
            assert isinstance(error, Unavailable)
            assert error.reason == "STORE_FAILED"
            assert error.retry_after_ms
        with pytest.raises(Unavailable):
            await asyncio.wait_for(call, 5)
        assert FAILURES[writer] == [LOST]
        with pytest.raises(TrackdError):
            writer.submit(offer(9))
        assert (writer.queue_events, writer.queue_bytes) == (0, 0)


async def test_a_defect_ends_the_writer_and_not_the_callers() -> None:
    """An exception that nobody expects: all are told STORE_FAILED, the daemon is told to stop."""
    store = HeldStore()
    async with writing(store) as writer:
        store.fails = ZeroDivisionError("a defect")  # type: ignore[assignment]
        (error,) = await settle(writer.submit(offer(0)))
        assert isinstance(error, Unavailable)
        assert error.reason == "STORE_FAILED"
        (told,) = FAILURES[writer]
        assert isinstance(told, Internal)


async def test_a_batch_that_cannot_be_decoded_costs_nobody_else() -> None:
    """A defect in one batch: INTERNAL for it alone, without the text of the exception; its neighbours are stored."""

    def broken() -> tuple[Offered, dict[int, Fault]]:
        raise ZeroDivisionError("secret")

    async with writing(store := HeldStore()) as writer:
        store.may.clear()
        first = writer.submit(offer(0))
        await until(lambda: not writer._queue)  # noqa: SLF001  # it has been taken
        others = [writer.submit(offer(n, decode=broken if n == 3 else None)) for n in range(1, 6)]
        store.may.set()
        answers = await settle(first, *others)
        assert [isinstance(answer, Answer) for answer in answers] == [True, True, True, False, True, True]
        assert isinstance(answers[3], Internal)
        assert "secret" not in str(answers[3])
        assert len(read(store)) == 5


async def test_closing_commits_what_is_queued() -> None:
    """Once draining, submits are refused with a retry hint; everything taken before is committed and answered."""
    async with writing(store := HeldStore()) as writer:
        store.may.clear()
        taken = [writer.submit(offer(n)) for n in range(30)]
        writer.drain()
        with pytest.raises(Unavailable) as caught:
            writer.submit(offer(99))
        assert (caught.value.reason, caught.value.retry_after_ms) == ("DRAINING", 1_000)
        with pytest.raises(Unavailable):
            await writer.call(lambda: None)
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        store.may.set()
        await asyncio.wait_for(closing, 5)
        assert {getattr(answer, "accepted", None) for answer in await settle(*taken)} == {1}
        assert len(read(store)) == 30


async def test_a_waiter_that_is_cancelled_loses_no_commit() -> None:
    """Neither its own batch nor another's."""
    async with writing(store := HeldStore()) as writer:
        store.may.clear()
        dones = [writer.submit(offer(n)) for n in range(4)]
        for done in dones[1:3]:
            done.cancel()
        store.may.set()
        answers = await settle(*dones)
        assert [isinstance(answer, Answer) for answer in answers] == [True, False, False, True]
        await until(lambda: writer.queue_events == 0)
        assert len(read(store)) == 4


async def test_decoding_and_calls_happen_on_the_writers_thread() -> None:
    """The loop only moves bytes; a call's error reaches its caller, and the writer goes on."""
    decode = Decode(0, 2)
    async with writing(HeldStore()) as writer:
        assert (await writer.submit(offer(0, 2, decode=decode))).accepted == 2
        assert decode.thread == "trackd-writer"
        assert await writer.call(lambda: threading.current_thread().name) == "trackd-writer"
        with pytest.raises(Unavailable, match="full on purpose"):
            await writer.call(_raise_full)
        assert (await writer.submit(offer(5))).accepted == 1


def _raise_full() -> None:
    raise FULL


async def test_an_idle_writer_shows_that_it_lives() -> None:
    """Its heartbeat goes on without any work."""
    async with writing(HeldStore()) as writer:
        before = writer.heartbeat
        await until(lambda: writer.heartbeat > before)
    gc.collect()
