"""The Tracker against a daemon played by the test: policies, daemons that are away, the end of a process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trackd
from trackd import lifetime
from trackd.v1.ingest_pb2 import AppendBatch

from tests.support.played_daemon import Answer, FakeDaemon
from tests.support.tracking import WAIT_S, balance, numbers, track, tracking, until


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


def test_what_is_tracked_arrives_with_a_time_ordered_id_of_its_moment(fake: FakeDaemon) -> None:
    """Id and time are those of the call, not of the sending."""
    got: list[trackd.Event] = []
    fake.script = lambda call, batch: got.extend(batch.events) or fake.store(batch)  # type: ignore[func-returns-value]
    with tracking(fake, max_delay_s=0.3) as tracker:
        before_ms = time.time_ns() // 1_000_000
        assert track(tracker, *range(25)) == [True] * 25
        after_ms = time.time_ns() // 1_000_000
        assert tracker.flush(WAIT_S)
        assert tracker.stats().stored == 25
    assert [event.user_id for event in got] == [str(number) for number in range(25)]
    ids = [event.id for event in got]
    assert ids == sorted(set(ids))
    assert {id_[6] >> 4 for id_ in ids} == {7}
    assert all(before_ms <= event.timestamp_ms <= after_ms for event in got)
    assert [int.from_bytes(event.id[:6], "big") for event in got] == [event.timestamp_ms for event in got]


def test_every_part_of_an_event_goes_through(fake: FakeDaemon) -> None:
    """And is copied: what the caller changes afterwards changes nothing."""
    got: list[trackd.Event] = []
    fake.script = lambda call, batch: got.extend(batch.events) or fake.store(batch)  # type: ignore[func-returns-value]
    metadata: dict[str, Any] = {"deep": {"list": [1]}}
    change = trackd.new_change("rows", "1", "update")
    tags = ["a"]
    with tracking(fake) as tracker:
        tracker.track(
            "t", user_id="7", metadata=metadata, tags=tags, timestamp_ms=1_700_000_000_000, session_id="s",
            client_ip="::1", description="d", change=change,
        )  # fmt: skip
        metadata["deep"]["list"].append(2)
        tags.append("b")
        change.row_id = "2"
        assert tracker.flush(WAIT_S)
    (event,) = got
    assert event == trackd.new_event(
        "t", user_id="7", metadata='{"deep":{"list":[1]}}', tags=["a"], timestamp_ms=1_700_000_000_000, session_id="s",
        client_ip="::1", description="d", change=trackd.new_change("rows", "1", "update"), id=event.id,
    )  # fmt: skip
    assert int.from_bytes(event.id[:6], "big") == 1_700_000_000_000


@pytest.mark.parametrize("wrong", [{"metadata": {"when": object()}}, {"metadata": {"x": float("nan")}}, {"user_id": 5}])
def test_what_cannot_be_encoded_is_the_caller_s_error_at_once(fake: FakeDaemon, wrong: dict[str, Any]) -> None:
    """And costs nothing else."""
    with tracking(fake) as tracker:
        with pytest.raises((TypeError, ValueError)):
            tracker.track("t", **wrong)
        with pytest.raises(trackd.Invalid, match="no daemon takes more"):
            tracker.track("t", description="x" * (8 << 20))
        track(tracker, 1)
        assert tracker.flush(WAIT_S)
    assert numbers(fake) == [1]


def test_batches_fill_up_while_others_wait(fake: FakeDaemon) -> None:
    """A slow daemon gets few large batches instead of many small ones."""
    let_go = threading.Event()

    def slow(call: int, batch: AppendBatch) -> Answer:
        let_go.wait(WAIT_S)
        return fake.store(batch)

    fake.script = slow
    fake.limits.max_in_flight_batches = 1
    with tracking(fake, max_delay_s=0.0) as tracker:
        track(tracker, 0)
        until(lambda: fake.batches)
        for number in range(1, 25):
            track(tracker, number)
            time.sleep(0.002)  # without the rule each would go on its way now
        let_go.set()
        assert tracker.flush(WAIT_S)
    assert len(fake.batches) <= 6
    assert numbers(fake) == list(range(25))


def test_many_threads_track_at_once(fake: FakeDaemon) -> None:
    """Each event is stored once."""
    fake.limits.max_batch_events = 1_000
    with tracking(fake, batch_events=500) as tracker:
        parts = [range(start, start + 2_000) for start in range(0, 12_000, 2_000)]
        threads = [threading.Thread(target=track, args=(tracker, *part)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tracker.flush(WAIT_S)
        assert (tracker.stats().stored, tracker.stats().buffered) == (12_000, 0)
    assert numbers(fake) == list(range(12_000))


def test_a_daemon_that_is_away_is_waited_for(away: FakeDaemon) -> None:
    """Nothing raises, stats tell, and everything that was taken is stored when it comes."""
    with tracking(away) as tracker:
        track(tracker, *range(100))
        until(lambda: tracker.stats().last_error)
        stats = tracker.stats()
        assert (stats.stored, stats.unanswered, stats.buffered, stats.connected) == (0, 100, 100, False)
        assert not tracker.flush(0.01)
        away.start()
        assert tracker.flush(WAIT_S)
        assert tracker.stats().connected
    assert numbers(away) == list(range(100))


def test_drop_does_not_take_what_has_no_room(away: FakeDaemon) -> None:
    """The newest go, counted; memory stays within the bound."""
    with tracking(away, buffer_events=30) as tracker:
        taken = track(tracker, *range(100))
        assert taken == [True] * 30 + [False] * 70
        stats = tracker.stats()
        assert (stats.tracked, stats.dropped, stats.buffered) == (30, 70, 30)
        away.start()
        assert tracker.flush(WAIT_S)
        assert track(tracker, 100) == [True]
        assert tracker.flush(WAIT_S)
    assert numbers(away) == [*range(30), 100]


def test_block_waits_for_room_as_long_as_it_may(away: FakeDaemon) -> None:
    """The daemon comes while a thread waits; where it does not, the event is dropped and counted."""
    with tracking(away, buffer_events=30, when_full="block", block_timeout_s=0.05) as impatient:
        assert track(impatient, *range(31)) == [True] * 30 + [False]
        assert impatient.stats().dropped == 1
    with tracking(away, buffer_events=30, when_full="block", block_timeout_s=WAIT_S) as tracker:
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.extend(track(tracker, *range(200))))
        thread.start()
        until(lambda: tracker.stats().buffered == 30)
        away.start()
        thread.join(WAIT_S)
        assert taken == [True] * 200
        assert tracker.flush(WAIT_S)
    assert numbers(away) == list(range(200))


def test_spill_goes_through_files_and_back_in_order(away: FakeDaemon, tmp_path: Path) -> None:
    """More than memory holds, while the daemon is away: all of it is taken, stored once, and the files are gone."""
    with tracking(away, buffer_events=40, when_full="spill", spill_directory=tmp_path) as tracker:
        track(tracker, *range(5))
        until(lambda: tracker.stats().last_error)  # these wait to be sent
        for number in range(5, 500):
            # The file takes what a thread that does not pause produces only so fast.
            until(lambda: tracker.stats().buffered < 30)
            assert track(tracker, number) == [True]
        # Also those that waited in memory when it became half full: whoever kills the process takes none of them.
        until(lambda: tracker.stats().in_files == 500)
        stats = tracker.stats()
        assert (stats.spilled, stats.unanswered) == (500, 500)
        assert stats.buffered <= 40
        assert stats.file_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
        assert balance(stats) == 0
        away.start()
        assert tracker.flush(WAIT_S)
        until(lambda: not list(tmp_path.iterdir()))
        stats = tracker.stats()
        assert (stats.tracked, stats.stored, stats.dropped, stats.in_files) == (500, 500, 0, 0)
        order = [int(user) for batch in away.batches for user in batch]
        assert order == sorted(order)
        track(tracker, 500)
        assert tracker.flush(WAIT_S)
        assert list(tmp_path.iterdir()) == []
    assert numbers(away) == list(range(501))


def test_spill_that_is_full_drops_the_newest(away: FakeDaemon, tmp_path: Path) -> None:
    """Files and memory are both bounded; `last_error` says why."""
    errors: list[str] = []

    def full() -> bool:
        errors.append(tracker.stats().last_error)
        return not all(track(tracker, *range(5)))

    # The connection that cannot be made is an error as well, which soon would be the last one again.
    options: dict[str, Any] = {"spill_bytes": 2_000, "backoff": trackd.Backoff(first_s=2.0, max_s=2.0)}
    with tracking(away, buffer_events=40, when_full="spill", spill_directory=tmp_path, **options) as tracker:
        until(full)
        stats = tracker.stats()
        assert stats.file_bytes <= 2_000
        assert stats.buffered == 40
        until(lambda: full() and any("take up all" in error for error in errors))
        away.start()
        assert tracker.flush(WAIT_S)
        assert tracker.stats().stored == tracker.stats().tracked
        assert balance(tracker.stats()) == 0


def test_what_is_not_answered_at_close_is_sent_by_the_next_tracker(away: FakeDaemon, tmp_path: Path) -> None:
    """Also what never left memory; and a daemon that is away costs no time at the end."""
    with tracking(away, when_full="spill", spill_directory=tmp_path) as first:
        track(first, *range(35))
        until(lambda: first.stats().last_error)
        began_s = time.monotonic()
        stats = first.close(60.0)
        assert time.monotonic() - began_s < WAIT_S
        assert (stats.spilled, stats.unanswered, stats.buffered) == (35, 35, 0)
    away.start()
    with tracking(away, when_full="spill", spill_directory=tmp_path) as second:
        track(second, 35)
        assert second.flush(WAIT_S)
        until(lambda: second.stats().unanswered == 0)
        stats = second.stats()
        assert (stats.tracked, stats.recovered, stats.stored) == (1, 35, 36)
        assert balance(stats) == 0
        until(lambda: not list(tmp_path.iterdir()))
    assert numbers(away) == list(range(36))


def test_a_spill_directory_that_cannot_be_is_told_and_the_rest_works(fake: FakeDaemon, tmp_path: Path) -> None:
    """The application runs on."""
    (tmp_path / "file").write_text("")
    with tracking(fake, when_full="spill", spill_directory=tmp_path / "file") as tracker:
        track(tracker, 1)
        assert tracker.flush(WAIT_S)
        assert "cannot be spilled" in tracker.stats().last_error
    assert numbers(fake) == [1]


def test_closing_flushes_and_ends(fake: FakeDaemon) -> None:
    """Later events are dropped and counted; closing twice, or before anything was tracked, is fine."""
    with tracking(fake) as tracker:
        track(tracker, *range(25))
        stats = tracker.close()
        assert (stats.stored, stats.unanswered) == (25, 0)
        assert track(tracker, 25) == [False]
        assert tracker.close().dropped == 1
    with tracking(fake) as unused:
        assert unused.close() == trackd.Stats()
        assert track(unused, 1) == [False]
        assert unused.stats() == trackd.Stats(dropped=1)
    assert numbers(fake) == list(range(25))


def test_what_is_lost_at_the_end_is_logged(away: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """How many events, and why."""
    with caplog.at_level(logging.WARNING, "trackd"), tracking(away) as tracker:
        track(tracker, 1, 2)
        until(lambda: tracker.stats().last_error)
        assert tracker.close(0.0).unanswered == 2
    assert "2 tracked events were not acknowledged" in caplog.text


def test_an_outage_and_its_end_are_logged_once(away: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever gave a wrong address reads of it at once, and not when the program ends."""
    with caplog.at_level(logging.INFO, "trackd"), tracking(away) as tracker:
        for _ in range(2):
            track(tracker, 1)
            until(lambda: "wait: " in caplog.text)
            time.sleep(0.3)  # some more attempts
            away.start()
            assert tracker.flush(WAIT_S)
            until(lambda: "are taken again" in caplog.text)
            told = [record.getMessage() for record in caplog.records]
            assert told[0].startswith("events tracked for tests wait: ")
            assert told[1:] == ["events tracked for tests are taken again"]
            caplog.clear()
            away.stop()
            time.sleep(0.1)
            assert caplog.text == "", "nothing waits"


def test_dropped_events_are_logged_with_their_number(away: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """At once, and not for each; a handler that tracks itself does no harm."""

    class Tracking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            track(tracker, 1_000)

    handler = Tracking()
    with caplog.at_level(logging.WARNING, "trackd"), tracking(away, buffer_events=10) as tracker:
        logging.getLogger("trackd").addHandler(handler)
        try:
            track(tracker, *range(100))
            until(lambda: "were dropped for want of room" in caplog.text)
            track(tracker, *range(100))
            time.sleep(0.1)
        finally:
            logging.getLogger("trackd").removeHandler(handler)
        assert caplog.text.count("were dropped for want of room") == 1
        dropped = tracker.stats().dropped
        away.start()
        until(lambda: caplog.text.count("were dropped for want of room") == 2)
        counts = [
            record.args[0] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 2
        ]
        assert sum(count for count in counts if isinstance(count, int)) == dropped, "when it is over, the rest is told"


def test_a_process_that_can_start_no_thread_still_tracks_at_its_end(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.12 on that is so while the interpreter shuts down: then batches go one by one."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("trackd"):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not lifetime.threads_can_start()
    with tracking(fake) as tracker:
        track(tracker, *range(25))
        # It connects as it was told when it was made, whatever is in the environment by now.
        monkeypatch.setenv("TRACKD_TOKEN_FILE", "/no/such/file")
        monkeypatch.setenv("TRACKD_CA", "/no/such/file")
        tracker.at_exit(threads=False)
        stats = tracker.stats()
        assert (stats.stored, stats.unanswered, stats.buffered) == (25, 0, 0)
    assert numbers(fake) == list(range(25))
    assert fake.streams == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": ""},
        {"when_full": "panic"},
        {"when_full": "spill"},
        {"spill_directory": "x"},
        {"buffer_events": 0},
        {"batch_bytes": 0},
        {"max_delay_s": -1.0},
        {"answer_timeout_s": 0.0},
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """With the name of the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        trackd.Tracker(**({"source": "tests"} | wrong))


async def test_asyncio_can_track_flush_and_close(fake: FakeDaemon) -> None:
    """The loop goes on meanwhile."""
    with tracking(fake) as tracker:
        track(tracker, *range(5))
        assert await tracker.aflush(WAIT_S)
        assert (await tracker.aclose()).stored == 5
