"""The client's Subscription on real daemons: restarts, senders beside it, threads that come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trackd
from trackd.client import Client

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import event, now_ms

DAY_MS = 86_400_000
QUICK = trackd.Backoff(first_s=0.02, max_s=0.2)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon of its own."""
    with serving(tmp_path) as daemon:
        yield daemon


class Follower(threading.Thread):
    """Follows until it is closed; keeps the positions and ids that it got."""

    def __init__(self, target: str, where: trackd.EventFilter | None = None) -> None:
        super().__init__(daemon=True)
        self._client = Client(target)
        self.subscription = self._client.subscribe(where, after_position=0, backoff=QUICK)
        self.got: list[tuple[int, bytes]] = []
        self.problem: BaseException | None = None

    def run(self) -> None:
        """Takes what comes."""
        try:
            with self._client:
                self.got += ((stored.position, stored.event.id) for stored in self.subscription)
        except BaseException as problem:  # noqa: BLE001  # the test shows it
            self.problem = problem

    def until(self, position: int) -> None:
        """Waits until it has come so far, then ends it."""
        until_s = time.monotonic() + 30
        while (self.subscription.position or 0) < position:
            assert self.problem is None
            assert time.monotonic() < until_s, f"{self.subscription.position} of {position}"
            time.sleep(0.01)
        self.subscription.close()
        self.join(10)
        assert not self.is_alive()


def stored_in_order(target: str, where: trackd.EventFilter | None = None) -> list[tuple[int, bytes]]:
    """What a list says there is."""
    with Client(target) as client:
        return [(one.position, one.event.id) for one in client.list_events(where, order="position_asc")]


def test_a_restart_is_not_noticed(served: DaemonProcess) -> None:
    """Events of all months, sent while the daemon is stopped and started: every follower sees each once, in order."""
    filters = [None, trackd.EventFilter(types=["t1"]), trackd.EventFilter(start_ms=now_ms() - 50 * DAY_MS)]
    followers = [Follower(served.target, where) for where in filters]
    for follower in followers:
        follower.start()
    with trackd.Appender(served.target, source="tests", batch_events=50, backoff=QUICK) as appender:
        for turn in range(4):
            for n in range(300):
                appender.send([event(type=f"t{n % 3}", timestamp_ms=now_ms() - (n % 90) * DAY_MS)])
            appender.flush()
            if turn % 2 == 0:
                assert served.stop() == 0
            else:
                served.kill()
            served.start()
        appender.send([event()])
        total = appender.flush()
    with Client(served.target) as client:
        head = client.list_events_page(page_size=1).as_of_position
    for follower, where in zip(followers, filters, strict=True):
        follower.until(head)
        assert follower.got == stored_in_order(served.target, where)
    assert len(followers[0].got) == total.accepted + total.duplicate == 1_201


def test_a_follower_catches_up_with_a_history_of_many_months(served: DaemonProcess) -> None:
    """From the first event over 40 months that are filled in turns, while more is sent."""
    with trackd.Appender(served.target, source="tests", batch_events=200) as appender:
        appender.send(event(timestamp_ms=now_ms() - (n % 40) * 31 * DAY_MS) for n in range(8_000))
        follower = Follower(served.target)
        follower.start()
        appender.send(event(timestamp_ms=now_ms() - (n % 40) * 31 * DAY_MS) for n in range(2_000))
    with Client(served.target) as client:
        head = client.list_events_page(page_size=1).as_of_position
    follower.until(head)
    assert follower.got == stored_in_order(served.target)
    assert len(follower.got) == 10_000


def test_a_position_of_another_daemon_is_refused(served: DaemonProcess) -> None:
    """It is above the head, which no waiting mends."""
    with Client(served.target) as client, pytest.raises(trackd.OutOfRange) as caught:
        next(client.subscribe(after_position=10**12))
    assert caught.value.reason == "POSITION_AHEAD"
    assert caught.value.hint
