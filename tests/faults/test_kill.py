"""SIGKILL at random moments while senders stream: each event is there once, and no acknowledgement was a lie."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from trackd.appender import Appender
from trackd.client import Client
from trackd.errors import TrackdError
from trackd.outcomes import BatchResult, Totals
from trackd.v1.event_pb2 import Event

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import event, now_ms

KILLS = int(os.environ.get("TRACKD_KILLS", "5"))
"""For a long run set it to hundreds."""
SEED = int(os.environ.get("TRACKD_SEED", "17"))
DAY_MS = 86_400_000
SENDERS = 2


class Sender(threading.Thread):
    """Streams events over several months until it is told to stop; keeps everything it sent and was promised."""

    def __init__(self, target: str, name: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._target = target
        self._stopping = stop
        self._rng = random.Random(f"{SEED}{name}")
        self.sent: list[bytes] = []
        self.answered = 0
        self.totals = Totals()
        self.problem: BaseException | None = None

    def run(self) -> None:
        """Small batches, so that many are in flight when the daemon dies."""
        try:
            with Appender(self._target, source=self.name, batch_events=20, on_result=self._note) as appender:
                while not self._stopping.is_set():
                    made = [self._event() for _ in range(20)]
                    self.sent += [one.id for one in made]
                    appender.send(made)
                    time.sleep(0.001)
                self.totals = appender.flush()
        except BaseException as problem:  # noqa: BLE001  # the test shows it
            self.problem = problem

    def _event(self) -> Event:
        number = len(self.sent) + self._rng.randrange(1_000_000_000)
        return event(
            user_id=f"{self.name}-{number % 500}",
            type=f"type{number % 20}",
            timestamp_ms=now_ms() - self._rng.randrange(90) * DAY_MS,
        )

    def _note(self, result: BatchResult) -> None:
        self.answered += result.events
        assert result.rejected == 0


def kill_often(daemon: DaemonProcess, senders: list[Sender], rng: random.Random) -> None:
    """Each time once something was acknowledged, at a random moment; now and then while it is only starting."""
    for number in range(KILLS):
        before = [sender.answered for sender in senders]
        until_s = time.monotonic() + 20
        while any(sender.answered == count for sender, count in zip(senders, before, strict=True)):
            assert time.monotonic() < until_s, [(sender.problem, sender.answered) for sender in senders]
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        daemon.kill()
        if number % 3 == 2:
            daemon.start()
            daemon.kill()
        daemon.start()


def test_each_event_is_there_once_however_often_the_daemon_is_killed(tmp_path: Path) -> None:
    """Several senders, months, types and users; afterwards the recount is exact and `check` is clean."""
    print(f"seed {SEED}, {KILLS} kills")
    stop = threading.Event()
    with serving(tmp_path) as daemon:
        senders = [Sender(daemon.target, f"sender{number}", stop) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            kill_often(daemon, senders, random.Random(SEED))
        finally:
            stop.set()
            for sender in senders:
                sender.join(60)
        for sender in senders:
            assert sender.problem is None
            assert sender.totals.answered == len(sender.sent)
            assert sender.totals.rejected == 0
        with Client(daemon.target) as client:
            found = Counter((one.source, bytes(one.event.id)) for one in client.list_events())
            assert set(found.values()) == {1}
            assert set(found) == {(sender.name, sent) for sender in senders for sent in sender.sent}
            positions = [one.position for one in client.list_events(order="position_asc")]
            assert positions == sorted(set(positions))


def test_what_was_acknowledged_before_the_kill_is_there_without_a_resend(tmp_path: Path) -> None:
    """The acknowledgement alone is the promise: the daemon is killed right behind it and nothing is sent again."""
    with serving(tmp_path) as daemon:
        promised: set[bytes] = set()
        for turn in range(4):
            with Client(daemon.target) as client:
                for _ in range(5):
                    batch = [event(timestamp_ms=now_ms() - turn * 31 * DAY_MS) for _ in range(10)]
                    assert client.append(batch, source="tests").accepted == 10
                    promised |= {one.id for one in batch}
            daemon.kill()
            with Client(daemon.target, timeout_s=2) as client, pytest.raises(TrackdError):
                client.append([event()], source="tests")
            daemon.start()
            with Client(daemon.target) as client:
                assert {bytes(one.event.id) for one in client.list_events()} == promised
