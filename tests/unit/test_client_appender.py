"""The Appender against a daemon played by the test: real gRPC, scripted answers, streams that break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trackd
from google.rpc.code_pb2 import INTERNAL, INVALID_ARGUMENT, UNAVAILABLE
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_REJECTED, AppendBatch, AppendItem, AppendResult

from tests.support.played_daemon import Answer, FakeDaemon, status

QUICK = {"batch_events": 2, "give_up_after_s": 5.0}


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    """A daemon that listens; scripts can be set before the first batch."""
    daemon = FakeDaemon()
    daemon.start()
    yield daemon
    daemon.stop()


def events(count: int, start: int = 0) -> list[trackd.Event]:
    """Numbered events."""
    return [trackd.new_event("t", user_id=str(at)) for at in range(start, start + count)]


def appender(fake: FakeDaemon, results: list[trackd.BatchResult] | None = None, **options: Any) -> trackd.Appender:
    """An impatient Appender with small batches."""
    return trackd.Appender(
        f"127.0.0.1:{fake.port}",
        source="tests",
        on_result=None if results is None else results.append,
        backoff=trackd.Backoff(first_s=0.02, max_s=0.1),
        **{**QUICK, **options},
    )


def test_everything_sent_is_acknowledged_when_close_returns(fake: FakeDaemon) -> None:
    """Batches go in order, the partial last one too; totals count them."""
    with appender(fake) as sender:
        sender.send(events(5))
        totals = sender.close()
    assert totals == trackd.Totals(accepted=5)
    assert fake.batches == [["0", "1"], ["2", "3"], ["4"]]
    assert sender.unacknowledged == 0


def test_a_daemon_that_dies_and_returns_gets_what_it_did_not_answer(fake: FakeDaemon) -> None:
    """Connections cut off in the middle of a load lose nothing and store nothing twice."""
    with appender(fake, give_up_after_s=20.0) as sender:
        for round_ in range(4):
            sender.send(events(50, round_ * 50))
            if round_ < 3:
                fake.stop()
                fake.start()
        totals = sender.close()
    assert sorted(fake.stored.values(), key=int) == [str(at) for at in range(200)]
    assert totals.accepted + totals.duplicate == 200
    assert fake.streams >= 2


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_a_stream_that_ends_with_an_error_is_replaced(fake: FakeDaemon, code: grpc.StatusCode) -> None:
    """Answers lost with the stream come again as duplicates, which are successes."""

    def store_but_break_once(call: int, batch: AppendBatch) -> Answer:
        result = fake.store(batch)
        return code if call == 2 else result

    fake.script = store_but_break_once
    with appender(fake) as sender:
        sender.send(events(6))
        assert sender.close() == trackd.Totals(accepted=4, duplicate=2)
    assert fake.streams == 2


def test_a_batch_refused_for_now_is_sent_again_after_the_time_asked_for(fake: FakeDaemon) -> None:
    """UNAVAILABLE with RetryInfo within the stream: same stream, same events, later."""
    fake.script = lambda call, batch: status(UNAVAILABLE, "OVERLOADED", 50) if call <= 2 else fake.store(batch)
    results: list[trackd.BatchResult] = []
    with appender(fake, results) as sender:
        sender.send(events(6))
        assert sender.close() == trackd.Totals(accepted=6)
    assert fake.streams == 1
    assert sorted(result.sequence for result in results) == [0, 2, 4]


def test_a_batch_refused_for_good_is_reported_with_its_events(fake: FakeDaemon) -> None:
    """The others go on; the refusal names reason and hint, and its events count as rejected."""
    refusal = status(INVALID_ARGUMENT, "BATCH_TOO_LARGE")
    fake.script = lambda call, batch: refusal if call == 1 else fake.store(batch)
    results: list[trackd.BatchResult] = []
    with appender(fake, results) as sender:
        sender.send(events(4))
        assert sender.close() == trackd.Totals(accepted=2, rejected=2)
    assert isinstance(results[0].error, trackd.Invalid)
    assert results[0].error.hint == "wait"
    assert [(found.sequence, found.event.user_id, found.reason) for found in results[0].rejections] == [
        (0, "0", "BATCH_TOO_LARGE"),
        (1, "1", "BATCH_TOO_LARGE"),
    ]


def test_a_batch_that_makes_the_daemon_fail_each_time_is_reported_in_the_end(fake: FakeDaemon) -> None:
    """INTERNAL is tried again, since a restart may cure it, but not for ever."""
    fake.script = lambda call, batch: (
        status(INTERNAL, "INTERNAL") if batch.events[0].user_id == "0" else fake.store(batch)
    )
    with appender(fake) as sender:
        sender.send(events(4))
        assert sender.close() == trackd.Totals(accepted=2, rejected=2)


def test_rejected_events_reach_the_callback_with_their_place(fake: FakeDaemon) -> None:
    """Items of a partial success carry sequence, event, reason, field and whether a retry makes sense."""
    item = AppendItem(
        index=1, outcome=APPEND_OUTCOME_REJECTED, reason="TAG_INVALID", message="no", field="tags", retryable=True
    )
    fake.script = lambda call, batch: AppendResult(accepted=1, rejected=1, items=[item])
    results: list[trackd.BatchResult] = []
    with appender(fake, results) as sender:
        sent = events(4)
        sender.send(sent)
        sender.close()
    assert [result.rejections for result in results] == [
        (trackd.Rejection(1, sent[1], "TAG_INVALID", "no", "tags", retryable=True),),
        (trackd.Rejection(3, sent[3], "TAG_INVALID", "no", "tags", retryable=True),),
    ]


def rejected(index: int) -> AppendItem:
    """Of a result."""
    return AppendItem(index=index, outcome=APPEND_OUTCOME_REJECTED, reason="TAG_INVALID")


@pytest.mark.parametrize(
    "nonsense",
    [
        AppendResult(),
        AppendResult(accepted=3),
        AppendResult(accepted=-1, duplicate=3),
        AppendResult(accepted=1, rejected=1),
        AppendResult(accepted=1, rejected=1, items=[rejected(2)]),
        AppendResult(accepted=1, rejected=1, items=[rejected(-1)]),
        AppendResult(rejected=2, items=[rejected(1), rejected(1)]),
    ],
    ids=["nothing", "too many", "negative", "unnamed", "no such event", "before the first", "one named twice"],
)
def test_an_answer_that_makes_no_sense_counts_for_nothing(fake: FakeDaemon, nonsense: AppendResult) -> None:
    """The stream is replaced and the batch sent again: nothing is taken for stored, or rejected, that is not."""
    fake.script = lambda call, batch: nonsense if call == 1 else fake.store(batch)
    results: list[trackd.BatchResult] = []
    with appender(fake, results) as sending:
        sending.send(events(2))
    assert sending.totals == trackd.Totals(accepted=2)
    assert [(one.accepted, one.rejections) for one in results] == [(2, ())]


def test_an_unreachable_daemon_ends_in_an_error_that_counts_what_is_open() -> None:
    """After the time without progress: how many events were not acknowledged, and why."""
    sender = trackd.Appender("127.0.0.1:1", source="tests", give_up_after_s=0.5)
    sender.send(events(3))
    with pytest.raises(trackd.GaveUp, match="3 events were not acknowledged") as caught:
        sender.close()
    assert caught.value.unacknowledged == 3
    assert isinstance(caught.value.cause, trackd.Unreachable)


def test_a_daemon_that_refuses_the_sender_is_not_asked_twice(fake: FakeDaemon) -> None:
    """A stream ended with INVALID_ARGUMENT would end so again: the Appender says so at once."""
    fake.script = lambda call, batch: grpc.StatusCode.INVALID_ARGUMENT
    sender = appender(fake, give_up_after_s=60.0)
    sender.send(events(2))
    with pytest.raises(trackd.GaveUp, match="refuses the stream"):
        sender.close()
    assert fake.streams == 1


def test_a_stream_without_answers_is_replaced(fake: FakeDaemon) -> None:
    """A daemon that hangs is asked again over a new stream after answer_timeout_s."""
    fake.script = lambda call, batch: None if call == 1 else fake.store(batch)
    with appender(fake, answer_timeout_s=0.3) as sender:
        sender.send(events(2))
        assert sender.close() == trackd.Totals(accepted=2)
    assert fake.streams == 2


def test_sending_blocks_while_the_window_is_full(fake: FakeDaemon) -> None:
    """Memory is bounded: with no answers, send does not return."""
    let_go = threading.Event()

    def slow(call: int, batch: AppendBatch) -> Answer:
        let_go.wait(10)
        return fake.store(batch)

    fake.script = slow
    done = threading.Event()
    with appender(fake, window_batches=2) as sender:

        def send() -> None:
            sender.send(events(20))
            done.set()

        thread = threading.Thread(target=send)
        thread.start()
        assert not done.wait(0.3)
        let_go.set()
        assert done.wait(5)
        thread.join()
        assert sender.close().accepted == 20


def test_what_the_callback_raises_comes_out_of_the_appender(fake: FakeDaemon) -> None:
    """A defect in on_result is not swallowed."""

    def broken(result: trackd.BatchResult) -> None:
        raise LookupError("callback")

    sender = trackd.Appender(f"127.0.0.1:{fake.port}", source="tests", on_result=broken)
    sender.send(events(1))
    with pytest.raises(LookupError, match="callback"):
        sender.close()


def test_leaving_the_block_with_an_error_does_not_wait(fake: FakeDaemon) -> None:
    """An exception in the caller's code aborts instead of flushing; what is open can be counted."""
    fake.script = lambda call, batch: None
    sender = appender(fake, give_up_after_s=60.0)

    def fail_while_sending() -> None:
        with sender:
            sender.send(events(3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_sending()
    assert sender.unacknowledged == 3


def test_events_without_an_id_get_one(fake: FakeDaemon) -> None:
    """Otherwise sending again after a lost answer would store them twice."""
    with appender(fake) as sender:
        sender.send([trackd.Event(type="t", timestamp_ms=1_700_000_000_000), trackd.Event(type="t")])
        assert sender.close().accepted == 2
    assert {len(id_) for id_ in fake.stored} == {16}
    assert any(int.from_bytes(id_[:6], "big") == 1_700_000_000_000 for id_ in fake.stored)


def test_an_idle_appender_survives_a_restart_of_the_daemon(fake: FakeDaemon) -> None:
    """Streams that end while nothing is open are no failure: the next send opens another."""
    with appender(fake, give_up_after_s=3.0) as sender:
        sender.send(events(2))
        sender.flush()
        fake.stop()
        fake.start()
        sender.send(events(2, 2))
        assert sender.close().accepted == 4


def test_a_single_event_no_daemon_takes_is_refused_at_once(fake: FakeDaemon) -> None:
    """It would break the stream again and again instead of being refused in it."""
    with appender(fake) as sender:
        with pytest.raises(trackd.Invalid, match="no daemon takes more"):
            sender.send([trackd.new_event("t", description="x" * (8 << 20))])
        sender.send(events(1))
        assert sender.close().accepted == 1
