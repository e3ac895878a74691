"""Trackers against a daemon that the test plays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trackd

from tests.support.played_daemon import FakeDaemon

WAIT_S = 10.0


@contextmanager
def tracking(fake: FakeDaemon, **options: Any) -> Iterator[trackd.Tracker]:
    """A Tracker with small batches and no patience; closed at the end, whatever happens."""
    quick: dict[str, Any] = {"batch_events": 10, "max_delay_s": 0.02, "exit_timeout_s": WAIT_S}
    quick["backoff"] = trackd.Backoff(first_s=0.02, max_s=0.1)
    tracker = trackd.Tracker(
        f"127.0.0.1:{fake.port}",
        source="tests",
        **(quick | options),
    )
    try:
        yield tracker
    finally:
        tracker.close(0.0)


def track(tracker: trackd.Tracker, *numbers: int) -> list[bool]:
    """Tracks numbered events."""
    return [tracker.track("t", user_id=str(number)) for number in numbers]


def until(condition: Callable[[], Any]) -> None:
    """Waits for it."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.002)


def numbers(fake: FakeDaemon) -> list[int]:
    """Of the events that are stored, sorted."""
    return sorted(map(int, fake.stored.values()))


def balance(stats: trackd.Stats) -> int:
    """What the sum of stats leaves unexplained."""
    ended = stats.stored + stats.duplicate + stats.rejected + stats.damaged
    return stats.tracked + stats.recovered - ended - stats.unanswered
