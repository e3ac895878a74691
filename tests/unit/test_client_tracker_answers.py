"""What a Tracker makes of answers: rejections for good and for now, refusals, callbacks."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest
import trackd
from google.rpc.code_pb2 import UNAVAILABLE
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_REJECTED, AppendBatch, AppendItem, AppendResult

from tests.support.played_daemon import Answer, FakeDaemon, status
from tests.support.tracking import WAIT_S, numbers, track, tracking, until


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    """A daemon that listens; scripts can be set before the first batch."""
    daemon = FakeDaemon()
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def away() -> Iterator[FakeDaemon]:
    """A daemon that is not there yet: its port is known, and `start` brings it."""
    daemon = FakeDaemon()
    daemon.start()
    daemon.stop()
    yield daemon
    daemon.stop()


def test_rejected_events_go_to_the_callback_and_the_others_are_stored(fake: FakeDaemon) -> None:
    """With the event, its place among all, and the reason; a callback that fails harms nobody."""

    def refuse_fives(call: int, batch: AppendBatch) -> Answer:
        bad = [at for at, event in enumerate(batch.events) if event.user_id.endswith("5")]
        fake.store(AppendBatch(events=[event for at, event in enumerate(batch.events) if at not in bad]))
        items = [AppendItem(index=at, outcome=APPEND_OUTCOME_REJECTED, reason="TAG_INVALID") for at in bad]
        return AppendResult(accepted=len(batch.events) - len(bad), rejected=len(bad), items=items)

    fake.script = refuse_fives
    told: list[trackd.Rejection] = []

    def on_rejected(rejection: trackd.Rejection) -> None:
        told.append(rejection)
        raise LookupError("callback")

    with tracking(fake, on_rejected=on_rejected, batch_events=100) as tracker:
        track(tracker, *range(10))
        assert tracker.flush(WAIT_S)
        track(tracker, *range(10, 40))
        assert tracker.flush(WAIT_S)
        assert (tracker.stats().stored, tracker.stats().rejected) == (36, 4)
        assert "callback" in tracker.stats().last_error
    assert [(one.sequence, one.event.user_id, one.reason) for one in told] == [
        (5, "5", "TAG_INVALID"),
        (15, "15", "TAG_INVALID"),
        (25, "25", "TAG_INVALID"),
        (35, "35", "TAG_INVALID"),
    ]


def test_without_a_callback_rejections_are_logged(fake: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is refused in silence."""
    item = AppendItem(index=0, outcome=APPEND_OUTCOME_REJECTED, reason="TAG_INVALID", message="no")
    fake.script = lambda call, batch: AppendResult(rejected=1, items=[item])
    with caplog.at_level(logging.WARNING, "trackd"), tracking(fake) as tracker:
        track(tracker, 1)
        assert tracker.flush(WAIT_S)
        until(lambda: "TAG_INVALID" in caplog.text)


def test_what_was_rejected_for_now_is_sent_again_but_not_for_ever(fake: FakeDaemon) -> None:
    """Alone, with the same id; flush waits for it."""
    attempts: Counter[str] = Counter()

    def refuse_for_now(call: int, batch: AppendBatch) -> Answer:
        attempts.update(event.user_id for event in batch.events)
        bad = [
            at
            for at, event in enumerate(batch.events)
            if event.user_id == "9" or (event.user_id == "3" and attempts["3"] < 3)
        ]
        fake.store(AppendBatch(events=[event for at, event in enumerate(batch.events) if at not in bad]))
        items = [AppendItem(index=at, outcome=APPEND_OUTCOME_REJECTED, reason="LATER", retryable=True) for at in bad]
        return AppendResult(accepted=len(batch.events) - len(bad), rejected=len(bad), items=items)

    fake.script = refuse_for_now
    told: list[trackd.Rejection] = []
    with tracking(fake, on_rejected=told.append) as tracker:
        track(tracker, *range(10))
        assert tracker.flush(WAIT_S)
        stats = tracker.stats()
        assert (stats.stored, stats.rejected, stats.unanswered, stats.buffered, stats.buffered_bytes) == (9, 1, 0, 0, 0)
    assert numbers(fake) == list(range(9))
    assert (attempts["1"], attempts["3"], attempts["9"]) == (1, 3, 6)
    assert [(one.event.user_id, one.reason) for one in told] == [("9", "LATER")]


def test_a_callback_may_track_but_not_wait_for_itself(away: FakeDaemon) -> None:
    """It runs on the thread that gets the answers: with "block" it would wait for ever, and flush as well."""
    item = AppendItem(index=0, outcome=APPEND_OUTCOME_REJECTED, reason="TAG_INVALID")
    away.script = lambda call, batch: (
        AppendResult(rejected=len(batch.events), items=[item]) if call == 1 else away.store(batch)
    )
    failures: list[str] = []
    taken: list[bool] = []

    def on_rejected(rejection: trackd.Rejection) -> None:
        taken.extend(track(tracker, *range(50)))
        try:
            tracker.flush()
        except RuntimeError as error:
            failures.append(str(error))

    with tracking(
        away, on_rejected=on_rejected, when_full="block", block_timeout_s=1_000.0, buffer_events=20
    ) as tracker:
        track(tracker, 100)
        away.start()
        assert tracker.flush(WAIT_S)
        assert failures
        assert taken == [True] * 19 + [False] * 31
        assert tracker.flush(WAIT_S)
    assert "wait for itself" in failures[0]


def test_a_daemon_that_refuses_the_sender_is_asked_again(fake: FakeDaemon) -> None:
    """An operator may repair what is wrong; the application never notices."""
    fake.script = lambda call, batch: grpc.StatusCode.INVALID_ARGUMENT if fake.streams < 3 else fake.store(batch)
    with tracking(fake) as tracker:
        track(tracker, *range(5))
        assert tracker.flush(WAIT_S)
        assert "the script says so" in tracker.stats().last_error
    assert (numbers(fake), fake.streams) == ([0, 1, 2, 3, 4], 3)


def test_a_refusal_for_now_is_waited_out_as_long_as_it_says(fake: FakeDaemon) -> None:
    """RetryInfo of the daemon."""
    moments: list[float] = []

    def later(call: int, batch: AppendBatch) -> Answer:
        moments.append(time.monotonic())
        return status(UNAVAILABLE, "OVERLOADED", 300) if call == 1 else fake.store(batch)

    fake.script = later
    with tracking(fake) as tracker:
        track(tracker, 1)
        assert tracker.flush(WAIT_S)
    assert moments[1] - moments[0] >= 0.3
    assert numbers(fake) == [1]
