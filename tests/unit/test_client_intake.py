"""The Tracker's buffer and its arithmetic: bounds, policies, when a batch is due; with a clock that the test holds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trackd
from hypothesis import given
from hypothesis import strategies as st
from trackd.framing import cut_elements, encode, events_of
from trackd.intake import FIRST_PLACE, Intake
from trackd.progress import Watermark
from trackd.v1.ingest_pb2 import AppendBatch, AppendStreamRequest

ELEMENT = b"x" * 10


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def intake(clock: Callable[[], float] | None = None, **given_: Any) -> Intake:
    """A buffer of ten small events that does not block."""
    options: dict[str, Any] = {
        "events_max": 10, "bytes_max": 1_000, "batch_events": 5, "batch_bytes": 500, "max_delay_s": 1.0, "block_s": None
    }  # fmt: skip
    return Intake(**({"clock": clock or Clock()} | options | given_))


def yes() -> bool:
    """Batches that are not full are welcome."""
    return True


def test_a_full_buffer_drops_the_newest_and_counts_it() -> None:
    """By events, by bytes; what was answered makes room."""
    by_events, by_bytes = intake(), intake(bytes_max=35)
    assert [by_events.put(ELEMENT) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [by_bytes.put(ELEMENT) for _ in range(5)] == [True] * 3 + [False] * 2
    assert (by_events.dropped, by_bytes.dropped, by_bytes.held_bytes) == (2, 2, 30)
    by_bytes.release(1, 10)
    assert [by_bytes.put(ELEMENT) for _ in range(2)] == [True, False]
    assert by_events.next_place == FIRST_PLACE + 10


def test_the_worker_hears_of_drops_at_once_and_then_once_a_minute() -> None:
    """With how many there were since."""
    now_s = [1_000.0]
    buffer = intake(events_max=1, clock=lambda: now_s[0])
    assert [buffer.put(ELEMENT) for _ in range(3)] == [True, False, False]
    assert [buffer.newly_dropped(at_once=False), buffer.newly_dropped(at_once=False)] == [2, 0]
    now_s[0] += 59
    assert not buffer.put(ELEMENT)
    assert buffer.newly_dropped(at_once=False) == 0
    now_s[0] += 2
    assert not buffer.put(ELEMENT)
    assert buffer.newly_dropped(at_once=False) == 2
    assert not buffer.put(ELEMENT)
    assert [buffer.newly_dropped(at_once=at_once) for at_once in (False, True, True)] == [0, 1, 0]
    assert buffer.dropped == 5


def test_what_the_worker_took_counts_until_it_is_released() -> None:
    """The bound is for everything in memory that has no answer."""
    buffer = intake()
    for _ in range(10):
        buffer.put(ELEMENT)
    assert len(buffer.take(partial=yes)[1]) == 10
    assert not buffer.put(ELEMENT)


def test_an_empty_buffer_takes_an_event_of_any_size() -> None:
    """Otherwise it could never be sent."""
    buffer = intake(bytes_max=5)
    assert buffer.put(ELEMENT)
    assert not buffer.put(b"x")


def test_whoever_waits_for_room_gets_it_when_something_is_answered() -> None:
    """With a time limit: the policy "block"."""
    buffer = intake(events_max=1, block_s=10.0)
    buffer.put(ELEMENT)
    taken: list[bool] = []
    waiting = threading.Thread(target=lambda: taken.append(buffer.put(ELEMENT)))
    waiting.start()
    buffer.release(1, len(ELEMENT))
    waiting.join(5)
    assert taken == [True]
    assert buffer.dropped == 0


def test_nobody_waits_longer_than_the_limit_or_where_they_must_not() -> None:
    """Then the event is dropped and counted, as after close."""
    buffer = intake(events_max=1, block_s=0.01)
    buffer.put(ELEMENT)
    assert not buffer.put(ELEMENT)
    patient = intake(events_max=1, block_s=1_000.0, may_block=lambda: False)
    patient.put(ELEMENT)
    assert not patient.put(ELEMENT)
    patient.close()
    assert not patient.put(ELEMENT)
    assert (buffer.dropped, patient.dropped) == (1, 2)


def test_closing_sends_those_away_who_wait_for_room() -> None:
    """A process that ends is not kept from it."""
    buffer = intake(events_max=1, block_s=1_000.0)
    buffer.put(ELEMENT)
    taken: list[bool] = []
    waiting = threading.Thread(target=lambda: taken.append(buffer.put(ELEMENT)))
    waiting.start()
    buffer.close()
    waiting.join(5)
    assert taken == [False]


@pytest.mark.parametrize(("events", "size"), [(5, 1), (2, 250)])
def test_a_batch_is_due_when_it_is_full(events: int, size: int) -> None:
    """By count or by bytes, whatever waits elsewhere and however young it is."""
    buffer = intake(bytes_max=10_000)
    for _ in range(events):
        buffer.put(b"x" * size)
    assert buffer.take(partial=lambda: False) == (FIRST_PLACE, [b"x" * size] * events)


def test_a_batch_that_is_not_full_is_due_after_the_delay_unless_others_wait() -> None:
    """The time counts from when the worker saw the first event."""
    clock = Clock()
    buffer = intake(clock)
    buffer.put(ELEMENT)
    buffer.nudge()
    assert buffer.take(partial=yes) == (FIRST_PLACE, [])
    clock.now_s += 0.99
    buffer.nudge()
    assert buffer.take(partial=yes)[1] == []
    clock.now_s += 0.01
    buffer.nudge()
    assert buffer.take(partial=lambda: False)[1] == []
    assert buffer.take(partial=yes)[1] == [ELEMENT]
    buffer.put(ELEMENT)
    buffer.nudge()
    assert buffer.take(partial=yes) == (FIRST_PLACE + 1, [])


def test_a_flush_and_the_end_do_not_wait_for_the_delay() -> None:
    """They tell the place up to which answers are to be awaited."""
    buffer = intake()
    buffer.put(ELEMENT)
    assert buffer.hurry() == FIRST_PLACE + 1
    assert len(buffer.take(partial=lambda: False)[1]) == 1
    buffer.put(ELEMENT)
    assert buffer.close() == FIRST_PLACE + 2
    assert len(buffer.take(partial=lambda: False)[1]) == 1
    assert buffer.drain() == (FIRST_PLACE + 2, [])


def test_a_worker_that_waits_wakes_up_for_the_first_event_and_for_a_full_batch() -> None:
    """Without a nudge: it must not sleep through a batch that is due."""
    buffer = intake(max_delay_s=1_000.0)
    got: list[Any] = []
    worker = threading.Thread(target=lambda: got.append(buffer.take(partial=yes)))
    worker.start()
    for _ in range(5):
        buffer.put(ELEMENT)
    worker.join(5)
    assert got == [(FIRST_PLACE, [ELEMENT] * 5)]


def test_a_thread_that_is_in_here_may_come_again() -> None:
    """A signal handler may track whatever it has interrupted."""
    buffer = intake(max_delay_s=0.0)
    buffer.put(ELEMENT)
    # The worker asks while it is in there.
    assert buffer.take(partial=lambda: buffer.put(ELEMENT)) == (FIRST_PLACE, [ELEMENT] * 2)


def test_many_threads_lose_and_double_nothing() -> None:
    """Every event is taken once, and everything released in the end."""
    options: dict[str, Any] = {"events_max": 1_000, "block_s": 30.0, "batch_events": 50, "max_delay_s": 0.001}
    buffer = intake(**options, bytes_max=1 << 20, clock=time.monotonic)
    want = {f"{thread}-{n}".encode() for thread in range(6) for n in range(3_000)}
    got: list[bytes] = []

    def work() -> None:
        while len(got) < len(want):
            elements = buffer.take(partial=yes)[1]
            got.extend(elements)
            buffer.release(len(elements), sum(map(len, elements)))

    worker = threading.Thread(target=work)
    worker.start()
    senders = [
        threading.Thread(target=lambda thread=thread: [buffer.put(f"{thread}-{n}".encode()) for n in range(3_000)])
        for thread in range(6)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    worker.join(30)
    assert (len(got), set(got)) == (len(want), want)
    assert (buffer.held_events, buffer.held_bytes, buffer.dropped) == (0, 0, 0)


@given(sizes=st.lists(st.integers(1, 9), max_size=20), seed=st.integers(0, 1 << 30))
def test_the_watermark_is_the_place_below_which_everything_is_done(sizes: list[int], seed: int) -> None:
    """In whatever order ranges are done."""
    ranges = [(5 + sum(sizes[:at]), size) for at, size in enumerate(sizes)]
    order = random.Random(seed).sample(ranges, len(ranges))
    watermark = Watermark(5)
    for count, one in enumerate(order, 1):
        watermark.done(*one)
        done = set(order[:count])
        assert watermark.low == next((first for first, size in ranges if (first, size) not in done), 5 + sum(sizes))


@given(
    sizes=st.lists(st.sampled_from([0, 1, 60, 100, 127, 128, *range(4_060, 4_070), 20_000]), min_size=1, max_size=12),
    events_max=st.integers(1, 5),
)
def test_events_encoded_each_by_itself_are_what_protobuf_would_have_made(sizes: list[int], events_max: int) -> None:
    """Element by element and batch by batch; payload counts the same however they are batched."""
    events = [trackd.new_event("t", description="x" * size) for size in sizes]
    elements = [encode(event) for event in events]
    assert elements == [AppendBatch(events=[event]).SerializeToString() for event in events]
    batches = cut_elements(7, elements, events_max, 10_000)
    assert [event for one in batches for event in events_of(one)] == events
    assert sum(one.payload_bytes for one in batches) == sum(map(len, elements))
    for one in batches:
        request = AppendStreamRequest.FromString(one.frame)
        assert request.SerializeToString() == one.frame
        assert request.batch.batch_id == one.id
