"""The Appender's window, retries and patience: pure state, without network or clock."""

from __future__ import annotations

import random

import pytest
import trackd
from hypothesis import given, settings
from hypothesis import strategies as st
from trackd.backoff import Backoff, Patience
from trackd.framing import Batch, cut, events_of, make_batch
from trackd.v1.ingest_pb2 import IngestLimits
from trackd.window import Limits, ProtocolViolation, Window

WIDE = Limits(batch_events=1_000, batch_bytes=1 << 20, in_flight_batches=100, in_flight_bytes=1 << 30)


def batch(first: int, events: int = 1) -> Batch:
    """A batch of small events."""
    return make_batch(first, [trackd.new_event("t", user_id=str(first + at)) for at in range(events)])


def users(one: Batch) -> list[str]:
    """Who is in a batch, in order."""
    return [event.user_id for event in events_of(one)]


def window_of(*batches: Batch, limits: Limits | None = WIDE) -> Window:
    """A wide window that holds these batches, with a stream open unless limits are None."""
    window = Window(100, 1 << 30)
    for one in batches:
        window.add(one)
    if limits:
        window.opened(limits)
    return window


def test_nothing_is_sent_before_the_handshake() -> None:
    """Limits are unknown until the daemon has told them."""
    assert window_of(batch(0), limits=None).take() is None


def test_a_broken_stream_sends_everything_unanswered_again_in_order() -> None:
    """What was in flight comes before what waited; what was answered does not come again."""
    window = window_of(*(batch(at) for at in range(4)))
    for _ in range(3):
        window.take()
    window.expect(1)
    window.settle()
    window.lost()
    window.opened(WIDE)
    again = [one.first for one in iter(window.take, None)]
    assert again == [1, 2, 3]


def test_a_batch_refused_for_now_waits_in_its_old_place() -> None:
    """Two refusals one after the other keep their order, before batches never sent."""
    window = window_of(*(batch(at) for at in range(4)))
    for _ in range(3):
        window.take()
    window.put_back()
    window.put_back(defect=True)
    assert [(one.first, one.defects) for one in iter(window.take, None)] == [(0, 0), (1, 1), (3, 0)]


def test_in_flight_limits_of_the_handshake_are_kept() -> None:
    """No more batches or bytes are in flight than the daemon takes, but one batch always may be."""
    one = batch(0)
    by_count = window_of(*(batch(at) for at in range(5)), limits=Limits(10, 1 << 20, 2, 1 << 30))
    assert [found is None for found in (by_count.take(), by_count.take(), by_count.take())] == [False, False, True]
    by_bytes = window_of(*(batch(at) for at in range(5)), limits=Limits(10, 1 << 20, 9, one.size + 1))
    assert by_bytes.take() is not None
    assert by_bytes.take() is None
    tiny = window_of(batch(0), limits=Limits(10, 1 << 20, 9, 1))
    assert tiny.take() is not None


def test_batches_made_for_a_roomier_daemon_are_cut_up() -> None:
    """A daemon that comes back with smaller limits gets the same events in smaller batches."""
    window = window_of(batch(0, 10), limits=Limits(4, 1 << 20, 9, 1 << 30))
    assert [(one.first, users(one)) for one in iter(window.take, None)] == [
        (0, ["0", "1", "2", "3"]),
        (4, ["4", "5", "6", "7"]),
        (8, ["8", "9"]),
    ]


def test_an_answer_out_of_order_is_a_violation() -> None:
    """Answers come in the order of the batches; 0 stands for the next one."""
    window = window_of(batch(0), batch(1))
    with pytest.raises(ProtocolViolation, match="none is in flight"):
        window.expect(1)
    window.take(), window.take()
    with pytest.raises(ProtocolViolation, match="must be for 1"):
        window.expect(2)
    assert window.expect(0).first == 0


def test_a_full_window_has_no_room_until_something_is_answered() -> None:
    """This is what bounds the sender's memory."""
    window = Window(2, 1 << 30)
    window.add(batch(0))
    assert window.has_room()
    window.add(batch(1))
    assert not window.has_room()
    window.opened(WIDE)
    window.take()
    assert not window.has_room()
    window.settle()
    assert window.has_room()


def test_limits_left_open_by_a_daemon_are_no_limits() -> None:
    """0 in the handshake does not mean that nothing may be sent."""
    told = Limits.told(IngestLimits(max_batch_events=5))
    assert told.batch_events == 5
    assert min(told.batch_bytes, told.in_flight_batches, told.in_flight_bytes) > 1 << 60


@given(sizes=st.lists(st.integers(1, 300), max_size=30), events_max=st.integers(1, 7), bytes_max=st.integers(60, 900))
def test_cutting_keeps_every_event_in_order_and_within_limits(
    sizes: list[int], events_max: int, bytes_max: int
) -> None:
    """Batches together are the events; only a lone event may exceed the limit of bytes."""
    events = [trackd.new_event("t", description="x" * size) for size in sizes]
    batches = list(cut(7, events, events_max, bytes_max))
    assert [event for one in batches for event in events_of(one)] == events
    assert [one.first for one in batches] == [7 + sum(b.events for b in batches[:at]) for at in range(len(batches))]
    assert all(one.events <= events_max and (one.size <= bytes_max or one.events == 1) for one in batches)


@settings(max_examples=200)
@given(data=st.data())
def test_whatever_happens_every_batch_is_answered_exactly_once(data: st.DataObject) -> None:
    """Random sends, answers, refusals and broken streams: nothing is lost, nothing is settled twice."""
    window = Window(4, 1 << 30)
    added, settled = 0, []
    for _ in range(data.draw(st.integers(0, 60))):
        step = data.draw(st.sampled_from(["add", "take", "settle", "refuse", "break"]))
        if step == "add" and window.has_room():
            window.add(batch(added))
            added += 1
        elif step == "take":
            window.take()
        elif step == "settle" and window.awaiting_answer:
            settled.append(window.expect(0).first)
            window.settle()
        elif step == "refuse" and window.awaiting_answer:
            window.put_back()
        elif step == "break":
            window.opened(WIDE)
    window.opened(WIDE)
    rest = [one.first for one in iter(window.take, None)]
    assert rest == sorted(rest)
    assert sorted(settled + rest) == list(range(added))


def test_backoff_doubles_up_to_its_maximum_and_starts_anew_after_success() -> None:
    """Each delay lies between half and all of first * 2^n, capped, and never below what the daemon asked for."""
    backoff = Backoff(first_s=0.1, max_s=1.0, rng=random.Random(1))
    for full_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert full_s / 2 <= backoff.next_delay_s() <= full_s
    assert backoff.next_delay_s(retry_after_ms=7_000) == 7.0
    assert backoff.next_delay_s(retry_after_ms=10**18) == 3_600, "no answer stops a sender for good"
    backoff.reset()
    assert backoff.next_delay_s() <= 0.1


def test_patience_runs_only_while_something_is_waited_for() -> None:
    """Idle time does not count; progress starts the time anew."""
    patience = Patience(limit_s=10)
    assert patience.left_s(100) is None
    patience.watch(100, waiting=True)
    patience.watch(105, waiting=True)
    assert patience.left_s(105) == 5
    patience.progress(105)
    assert patience.left_s(105) == 10
    patience.watch(106, waiting=False)
    assert patience.left_s(1_000) is None
