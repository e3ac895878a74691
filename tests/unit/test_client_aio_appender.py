"""The Appender for asyncio against a daemon played by the test."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_type_hints

import pytest
import trackd
import trackd.aio
from trackd.aio_appender import AppenderWords
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_REJECTED, AppendBatch, AppendItem, AppendResult

from tests.support.played_daemon import Answer, FakeDaemon
from tests.support.tracking import WAIT_S, numbers


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    """A daemon that listens; scripts can be set before the first batch."""
    daemon = FakeDaemon()
    daemon.start()
    yield daemon
    daemon.stop()


def appender(fake: FakeDaemon, **options: Any) -> trackd.aio.Appender:
    """An impatient Appender with small batches."""
    quick: dict[str, Any] = {"batch_events": 2, "backoff": trackd.Backoff(first_s=0.02, max_s=0.1)}
    return trackd.aio.Appender(f"127.0.0.1:{fake.port}", source="tests", **(quick | options))


def events(*numbers: int) -> list[trackd.Event]:
    """Numbered events."""
    return [trackd.new_event("t", user_id=str(number)) for number in numbers]


async def until(condition: Any) -> None:
    """Waits for it, and lets others run."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def test_it_has_the_arguments_of_the_other_one() -> None:
    """And no other."""
    theirs = set(inspect.signature(trackd.Appender).parameters)
    ours = set(inspect.signature(trackd.aio.Appender).parameters) - {"words"}
    assert ours | get_type_hints(AppenderWords).keys() == theirs


async def test_tasks_share_it_and_every_event_is_stored(fake: FakeDaemon) -> None:
    """Lists and asynchronous iterables; results come on the event loop before flush returns, in order."""
    results: list[trackd.BatchResult] = []
    here = threading.get_ident()

    def on_result(result: trackd.BatchResult) -> None:
        assert threading.get_ident() == here
        results.append(result)

    async def slowly() -> AsyncIterator[trackd.Event]:
        for event in events(*range(100, 125)):
            await asyncio.sleep(0)
            yield event

    async with appender(fake, on_result=on_result) as sending:
        await asyncio.gather(
            sending.send(events(*range(33))), sending.send(slowly()), *map(sending.send, [events(200)] * 1)
        )
        assert await sending.flush() == trackd.Totals(accepted=59)
        assert sum(one.accepted for one in results) == 59
        assert [one.sequence for one in results] == sorted(one.sequence for one in results)
        assert sending.unacknowledged == 0
    assert numbers(fake) == [*range(33), *range(100, 125), 200]
    with pytest.raises(RuntimeError, match="closed"):
        await sending.send(events(1))
    assert await sending.close() == sending.totals


async def test_sending_waits_while_the_window_is_full_and_the_loop_does_not(fake: FakeDaemon) -> None:
    """However many tasks send: what none of them can hand over is bounded."""
    answering = threading.Event()

    def hold(call: int, batch: AppendBatch) -> Answer:
        answering.wait(WAIT_S)
        return fake.store(batch)

    fake.script = hold
    async with appender(fake, window_batches=2) as sending:
        tasks = [asyncio.create_task(sending.send(events(number))) for number in range(50)]
        await until(lambda: sending.unacknowledged >= 8)
        await asyncio.sleep(0.1)
        # The window, the batch before it that waits for room, and the one that is being filled.
        assert sending.unacknowledged == 8
        cancelled = [task for task in tasks if not task.done()][:20]
        for task in cancelled:
            task.cancel()
        await asyncio.sleep(0.05)
        assert sending.unacknowledged == 8
        answering.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await sending.flush()).accepted == 30
    assert len(numbers(fake)) == 30


async def test_it_survives_a_daemon_that_goes_and_comes_back(fake: FakeDaemon) -> None:
    """Everything is stored once."""
    async with appender(fake) as sending:
        await sending.send(events(*range(10)))
        await sending.flush()
        fake.stop()
        await sending.send(events(*range(10, 20)))
        fake.start()
        assert (await sending.flush()).answered == 20
    assert numbers(fake) == [*range(20)]


async def test_rejections_are_told_and_what_the_callback_raises_comes_out(fake: FakeDaemon) -> None:
    """Of the next call."""
    item = AppendItem(index=1, outcome=APPEND_OUTCOME_REJECTED, reason="TAG_INVALID")
    fake.script = lambda call, batch: AppendResult(accepted=1, rejected=1, items=[item])
    told: list[tuple[int, str]] = []

    def on_result(result: trackd.BatchResult) -> None:
        told.extend((one.sequence, one.reason) for one in result.rejections)
        raise LookupError("mine")

    sending = appender(fake, on_result=on_result)
    await sending.send(events(0, 1))
    with pytest.raises(LookupError, match="mine"):
        await sending.flush()
    with pytest.raises(LookupError, match="mine"):
        await sending.close()
    assert told == [(1, "TAG_INVALID")]


async def test_what_has_ended_it_comes_out_of_every_call() -> None:
    """GaveUp, with how much is open; and it is closed even then."""
    sending = trackd.aio.Appender("127.0.0.1:1", source="tests", batch_events=2, give_up_after_s=0.2)
    await sending.send(events(0, 1, 2))
    with pytest.raises(trackd.GaveUp, match="not acknowledged"):
        await sending.flush()
    with pytest.raises(trackd.GaveUp):
        await sending.close()
    assert sending.unacknowledged == 3


async def test_an_event_no_daemon_takes_is_refused_where_it_is_sent(fake: FakeDaemon) -> None:
    """Those before it are taken over."""
    async with appender(fake) as sending:
        with pytest.raises(trackd.Invalid, match="one event of"):
            await sending.send([*events(1), trackd.new_event("t", description="x" * (8 << 20)), *events(2)])
        assert (await sending.flush()).accepted == 1


async def test_leaving_the_block_with_an_error_does_not_wait(fake: FakeDaemon) -> None:
    """For answers that do not come."""
    never = threading.Event()

    def hold(call: int, batch: AppendBatch) -> Answer:
        never.wait(WAIT_S)
        return fake.store(batch)

    async def fail() -> None:
        async with sending:
            await sending.send(events(*range(10)))
            raise LookupError

    fake.script = hold
    sending = appender(fake)
    async with asyncio.timeout(WAIT_S / 2):
        with pytest.raises(LookupError):
            await fail()
    assert sending.unacknowledged == 10
    never.set()
