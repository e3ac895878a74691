"""Killed subscribers and killed daemons, while senders stream: each event is seen once, in the order of positions."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from trackd.client import Client
from trackd.v1.query_pb2 import EventFilter

from tests.e2e.conftest import DaemonProcess
from tests.e2e.test_following import Follower, stored_in_order
from tests.faults.follower import lines
from tests.faults.test_kill import Sender
from tests.support.serving import serving

KILLS = int(os.environ.get("TRACKD_FOLLOW_KILLS", "8"))
"""For a long run set it to 50."""
SEED = int(os.environ.get("TRACKD_SEED", "23"))
SENDERS = 2
pytestmark = pytest.mark.timeout(120 + 10 * KILLS)


@contextmanager
def sending(target: str) -> Iterator[list[Sender]]:
    """Meanwhile senders stream events of several months; at the end everything they sent is acknowledged."""
    stop = threading.Event()
    senders = [Sender(target, f"sender{number}", stop) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        stop.set()
        for sender in senders:
            sender.join(60)
    for sender in senders:
        assert sender.problem is None
        assert sender.totals.answered == len(sender.sent)


def until_more(count: Callable[[], int], than: int) -> None:
    """Waits until something has grown."""
    until_s = time.monotonic() + 60
    while count() <= than:
        assert time.monotonic() < until_s, f"still {than}"
        time.sleep(0.02)


def size_of(file: Path) -> int:
    """Bytes; 0 for a file that is not there."""
    return file.stat().st_size if file.exists() else 0


def follower(daemon: DaemonProcess, file: Path) -> subprocess.Popen[bytes]:
    """The subscriber in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "tests.faults.follower", daemon.target, str(file)])


def test_a_subscriber_that_is_killed_again_and_again_sees_each_event_once(tmp_path: Path) -> None:
    """SIGKILL at a random moment, then the next process goes on behind the last event that was written down."""
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    file = tmp_path / "seen"
    with serving(tmp_path) as daemon:
        with sending(daemon.target):
            for _ in range(KILLS):
                process = follower(daemon, file)
                try:
                    until_more(lambda: size_of(file), size_of(file))
                    time.sleep(chance.uniform(0, 0.2))
                finally:
                    process.kill()
                    process.wait()
        wanted = [(position, identifier.hex()) for position, identifier in stored_in_order(daemon.target)]
        process = follower(daemon, file)
        try:
            until_more(lambda: len(lines(file)), len(wanted) - 1)
        finally:
            process.kill()
            process.wait()
        assert lines(file) == wanted
        assert len(wanted) > 20 * KILLS


def test_subscribers_of_a_daemon_that_is_killed_again_and_again_see_each_event_once(tmp_path: Path) -> None:
    """SIGKILL of the daemon at a random moment: followers of everything and of a part resume by themselves."""
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    parts = [None, EventFilter(types=["type3", "type7"]), EventFilter(sources=["sender1"])]
    with serving(tmp_path) as daemon:
        followers = [Follower(daemon.target, where) for where in parts]
        for one in followers:
            one.start()
        with sending(daemon.target) as senders:
            for _ in range(KILLS):
                until_more(lambda: len(followers[0].got), len(followers[0].got))
                time.sleep(chance.uniform(0, 0.3))
                daemon.kill()
                daemon.start()
        with Client(daemon.target) as client:
            head = client.list_events_page(page_size=1).as_of_position
        for one, where in zip(followers, parts, strict=True):
            one.until(head)
            assert one.got == stored_in_order(daemon.target, where)
        assert len(followers[0].got) == sum(len(sender.sent) for sender in senders)
