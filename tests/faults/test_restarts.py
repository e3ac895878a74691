"""Restarts by a supervisor, under senders: it knows how the daemon is, and no event is lost or doubled."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trackd

from tests.e2e.conftest import DaemonProcess
from tests.support.notified import Notified, listening
from tests.support.serving import serving
from tests.support.slow_daemon import slow_daemon

RESTARTS = int(os.environ.get("TRACKD_RESTARTS", "3"))
"""For a long run set it to 30."""
WAIT_S = 60.0
BACKOFF = trackd.Backoff(first_s=0.02, max_s=0.2)


class Appending(threading.Thread):
    """Sends numbered events of one user with an Appender, or a Tracker, until it is told to stop."""

    def __init__(self, target: str, user: str, stop: threading.Event) -> None:
        super().__init__(name=user, daemon=True)
        self._target = target
        self._stopping = stop
        self.sent = 0
        self.stored = 0
        """Events with their final answer."""
        self.problem: BaseException | None = None

    def run(self) -> None:
        """Some thousand events a second."""
        try:
            self._send()
        except BaseException as error:  # noqa: BLE001  # told to the test at the end
            self.problem = error

    def _send(self) -> None:
        with trackd.Appender(self._target, source=self.name, batch_events=50, backoff=BACKOFF) as appender:
            while not self._stopping.wait(0.01):
                appender.send(self._event() for _ in range(50))
                self.stored = appender.totals.answered
            totals = appender.close()
        assert totals.accepted + totals.duplicate == self.sent

    def _event(self) -> trackd.Event:
        self.sent += 1
        return trackd.new_event("t", user_id=self.name, description=str(self.sent))


class TrackingOn(Appending):
    """As an application does."""

    def _send(self) -> None:
        tracker = trackd.Tracker(
            self._target, source=self.name, when_full="block", block_timeout_s=WAIT_S, batch_events=50,
            max_delay_s=0.01, backoff=BACKOFF,
        )  # fmt: skip
        with tracker:
            while not self._stopping.wait(0.01):
                for _ in range(50):
                    self.sent += 1
                    assert tracker.track("t", user_id=self.name, description=str(self.sent))
                self.stored = tracker.stats().stored
            assert tracker.flush(WAIT_S)
            stats = tracker.stats()
        assert (stats.stored + stats.duplicate, stats.unanswered) == (self.sent, 0)


class Following(threading.Thread):
    """Counts the events that a subscription gives."""

    def __init__(self, client: trackd.Client) -> None:
        super().__init__(name="following", daemon=True)
        self.subscription = client.subscribe(after_position=0)
        self.seen: Counter[tuple[str, str]] = Counter()

    def run(self) -> None:
        """Until it is closed."""
        for one in self.subscription:
            self.seen[one.event.user_id, one.event.description] += 1


def restart(daemon: DaemonProcess, notified: Notified, senders: list[Appending]) -> None:
    """As `systemctl restart` does: SIGTERM, wait for the end, start, wait for READY. Each sender has answers before."""
    before = [sender.stored for sender in senders]
    until_s = time.monotonic() + WAIT_S
    while any(sender.stored <= was for sender, was in zip(senders, before, strict=True)):
        assert time.monotonic() < until_s, [sender.problem for sender in senders]
        time.sleep(0.01)
    assert daemon.stop() == 0
    notified.until("STOPPING=1")
    daemon.start()
    notified.until("READY=1")


def test_restarts_under_senders_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Tracker, two Appenders and a subscriber notice nothing but a pause."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with ExitStack() as stack:
        notified = stack.enter_context(listening(tmp_path / "notify"))
        daemon = stack.enter_context(serving(tmp_path))
        notified.until("READY=1")
        stop = threading.Event()
        senders = [
            Appending(daemon.target, "appender-1", stop),
            Appending(daemon.target, "appender-2", stop),
            TrackingOn(daemon.target, "tracker", stop),
        ]
        client = stack.enter_context(trackd.Client(daemon.target))
        following = Following(client)
        for thread in (*senders, following):
            thread.start()
        for _ in range(RESTARTS):
            restart(daemon, notified, senders)
        stop.set()
        for sender in senders:
            sender.join(WAIT_S)
            assert sender.problem is None
            assert not sender.is_alive()
        sent = Counter({(one.name, str(n)): 1 for one in senders for n in range(1, one.sent + 1)})
        listed = client.list_events(order="position_asc")
        assert Counter((one.event.user_id, one.event.description) for one in listed) == sent
        until_s = time.monotonic() + WAIT_S
        while following.seen.total() < sent.total():
            assert time.monotonic() < until_s, following.seen.total()
            time.sleep(0.01)
        following.subscription.close()
        following.join(WAIT_S)
        assert following.seen == sent
        print(f"{sent.total():,} events over {RESTARTS} restarts")


def test_the_watchdog_is_not_pinged_while_the_writer_is_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop lives and answers all the time; pings come again when the disk does."""
    monkeypatch.setenv("NOTIFY_SOCKET", f"@trackd-watchdog-{os.getpid()}")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with (
        listening(f"\0trackd-watchdog-{os.getpid()}") as notified,
        slow_daemon(tmp_path) as (addresses, slow),
        trackd.Client(addresses["grpc"]) as client,
        ThreadPoolExecutor() as pool,
    ):
        notified.until("READY=1")
        notified.until("WATCHDOG=1")
        slow.write_text("2.5", "ascii")
        appended = pool.submit(client.append, [trackd.new_event("t")], source="tests")
        time.sleep(0.7)  # what was pinged before it was stuck
        notified.hear().clear()
        time.sleep(1.3)
        assert client.health() is trackd.Health.SERVING
        assert not appended.done()
        assert "WATCHDOG=1" not in notified.hear()
        assert appended.result().accepted == 1
        notified.until("WATCHDOG=1")
