"""Killed daemons and killed applications under a Tracker: each event is stored once, and memory stays bounded."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trackd

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving

KILLS = int(os.environ.get("TRACKD_TRACKER_KILLS", "3"))
"""For a long run set it to 30."""
SEED = int(os.environ.get("TRACKD_SEED", "29"))
THREADS = 3
BUFFER_BYTES = 64 * 1024
WAIT_S = 60.0

pytestmark = pytest.mark.timeout(120 + 15 * KILLS)


class Tracking(threading.Thread):
    """A thread of an application: tracks until it is told to stop; notes what was taken."""

    def __init__(self, tracker: trackd.Tracker, name: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._tracker = tracker
        self._stopping = stop
        self.taken: list[str] = []
        self.held_bytes_max = 0

    def run(self) -> None:
        """About as many events as the daemon takes, and more than memory holds while it is away."""
        number = 0
        while not self._stopping.is_set():
            number += 1
            user = f"{self.name}-{number}"
            if self._tracker.track(f"type{number % 20}", user_id=user, metadata={"number": number}):
                self.taken.append(user)
            if number % 20 == 0:
                self.held_bytes_max = max(self.held_bytes_max, self._tracker.stats().buffered_bytes)
                time.sleep(0.01)


@contextmanager
def threads(tracker: trackd.Tracker) -> Iterator[list[Tracking]]:
    """Some of them, meanwhile."""
    stop = threading.Event()
    running = [Tracking(tracker, f"thread{number}", stop) for number in range(THREADS)]
    for one in running:
        one.start()
    try:
        yield running
    finally:
        stop.set()
        for one in running:
            one.join(WAIT_S)


def stored_users(target: str) -> Counter[str]:
    """How often each user's event is stored."""
    with trackd.Client(target) as client:
        listed = client.list_events(order="position_asc")
        return Counter(one.event.user_id for one in listed if one.event.type != "drained")


def until_more_answers(tracker: trackd.Tracker) -> None:
    """Waits until something was acknowledged since."""
    before, until_s = tracker.stats(), time.monotonic() + WAIT_S
    while (now := tracker.stats()).stored + now.duplicate <= before.stored + before.duplicate:
        assert time.monotonic() < until_s, now
        time.sleep(0.005)


def kill_often(daemon: DaemonProcess, tracker: trackd.Tracker) -> None:
    """Each time once something was acknowledged; the daemon stays away for some time."""
    chance = random.Random(SEED)
    for _ in range(KILLS):
        until_more_answers(tracker)
        time.sleep(chance.uniform(0, 0.3))
        daemon.kill()
        time.sleep(chance.uniform(0, 0.3))
        daemon.start()


def test_each_tracked_event_is_stored_once_however_often_the_daemon_is_killed(tmp_path: Path) -> None:
    """With threads that wait for room ("block") while it is away: nothing is missing, memory stays within bounds."""
    print(f"seed {SEED}, {KILLS} kills")
    with serving(tmp_path) as daemon:
        tracker = trackd.Tracker(
            daemon.target, source="tests", when_full="block", block_timeout_s=WAIT_S, buffer_bytes=BUFFER_BYTES,
            batch_events=200, max_delay_s=0.01, backoff=trackd.Backoff(first_s=0.02, max_s=0.2),
        )  # fmt: skip
        with tracker:
            with threads(tracker) as running:
                kill_often(daemon, tracker)
            assert tracker.flush(WAIT_S)
            stats = tracker.stats()
        taken = [user for one in running for user in one.taken]
        assert (stats.tracked, stats.dropped, stats.rejected, stats.unanswered) == (len(taken), 0, 0, 0)
        assert stats.stored + stats.duplicate == len(taken)
        assert max(one.held_bytes_max for one in running) <= BUFFER_BYTES
        stored = stored_users(daemon.target)
        assert set(stored.values()) == {1}
        assert stored.keys() == set(taken)
        print(f"{len(taken):,} events, {stats.duplicate:,} of them answered twice")


def test_spilled_events_survive_daemon_kills_as_well(tmp_path: Path) -> None:
    """With "spill" nobody waits; what goes through the files is stored once, too."""
    with serving(tmp_path) as daemon:
        tracker = trackd.Tracker(
            daemon.target, source="tests", when_full="spill", spill_directory=tmp_path / "spill",
            buffer_bytes=BUFFER_BYTES, batch_events=200, max_delay_s=0.01,
            backoff=trackd.Backoff(first_s=0.02, max_s=0.2),
        )  # fmt: skip
        with tracker:
            with threads(tracker) as running:
                kill_often(daemon, tracker)
            assert tracker.flush(WAIT_S)
            stats = tracker.stats()
        taken = [user for one in running for user in one.taken]
        assert (stats.tracked, stats.unanswered) == (len(taken), 0)
        assert stats.spilled > 0
        print(f"{len(taken):,} events, {stats.spilled:,} of them through files, {stats.duplicate:,} answered twice")
        stored = stored_users(daemon.target)
        assert set(stored.values()) == {1}
        assert stored.keys() == set(taken)
        assert list((tmp_path / "spill").iterdir()) == []


def application(daemon: DaemonProcess, directory: Path, run: str) -> subprocess.Popen[str]:
    """The application in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.application", daemon.target, str(directory), run]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_once(process: subprocess.Popen[str], *, told: int) -> int:
    """SIGKILL once it has told of so many; the last number that it told of."""
    with process:
        assert process.stdout is not None
        last = next(number for number in map(int, process.stdout) if number >= told)
        process.kill()
        return max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])


def test_what_was_spilled_survives_the_application(tmp_path: Path) -> None:
    """SIGKILL of the application, again and again while the daemon is away, and once while the next one sends."""
    spill = tmp_path / "spill"
    with serving(tmp_path) as daemon:
        daemon.kill()
        chance = random.Random(SEED)
        promised = {}
        for number in range(KILLS):
            run = f"run{number}"
            promised[run] = kill_once(application(daemon, spill, run), told=chance.randrange(500, 1_500))
        daemon.start()
        kill_once(application(daemon, spill, "drain"), told=1)
        with application(daemon, spill, "drain") as last:
            told, _ = last.communicate(timeout=WAIT_S)
        assert told.splitlines()[-1] == "done 0"
        stored = stored_users(daemon.target)
        assert set(stored.values()) == {1}
        for run, count in promised.items():
            assert count >= 500
            found = {int(user.partition("-")[2]) for user in stored if user.startswith(f"{run}-")}
            assert found == set(range(len(found))), "a hole among what was spilled"
            assert len(found) >= count
        assert list(spill.iterdir()) == []


MEMORY = """
import sys, trackd

def peak_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

tracker = trackd.Tracker(sys.argv[1], source="tests", buffer_bytes=4 << 20, exit_timeout_s=0.1)
tracker.track("t")
before_kib = peak_kib()
for number in range(100_000):
    tracker.track("t", description="x" * 1_000)
assert tracker.stats().dropped > 90_000
print(peak_kib() - before_kib)
"""


def test_memory_is_bounded_while_the_daemon_is_away(tmp_path: Path) -> None:
    """100 MB are tracked, 4 MiB buffered: the process grows by little more."""
    code = [sys.executable, "-c", MEMORY, "127.0.0.1:1"]
    grown_kib = int(subprocess.run(code, check=True, capture_output=True, text=True, timeout=60).stdout)
    print(f"grown by {grown_kib:,} KiB")
    assert grown_kib < 16 * 1024
