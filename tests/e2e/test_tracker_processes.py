"""Trackers in processes that end and fork: everything tracked is stored once, by whichever process tracked it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trackd

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving

TIMEOUT_S = 60.0

BEGIN = """
import os, sys, trackd
target, directory = sys.argv[1:]
def new_tracker(**options):
    patient = {"exit_timeout_s": 30.0} | options
    return trackd.Tracker(target, source="tests", backoff=trackd.Backoff(first_s=0.02, max_s=0.2), **patient)
"""
PRE_FORK = """
tracker = new_tracker()
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        for number in range(200):
            tracker.track("t", user_id=f"child{child}-{number}")
        sys.exit(0)  # as a worker ends that is told to
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert tracker.stats() == trackd.Stats()
"""
FORK_WHILE_TRACKING = """
tracker = new_tracker(OPTIONS)
tracker.track("t", user_id="parent-0")
FLUSH
tracker.track("t", user_id="parent-1")
pid = os.fork()
if pid == 0:
    assert tracker.stats().tracked == 0
    for number in range(200):
        tracker.track("t", user_id=f"child-{number}")
    assert tracker.stats().tracked == 200
    sys.exit(0)
tracker.track("t", user_id="parent-2")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
tracker.track("t", user_id="parent-3")
assert tracker.close(30).stored == 4, tracker.stats()
"""

MULTIPROCESSING = """
import multiprocessing
def work(child):
    for number in range(50):
        tracker.track("t", user_id=f"child{child}-{number}")
tracker = new_tracker()
if __name__ == "__main__":
    tracker.track("t", user_id="parent-0")
    context = multiprocessing.get_context(METHOD)
    children = [context.Process(target=work, args=(child,)) for child in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
OLD_UUID_UTILS = """
import os
register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
import uuid_utils
os.register_at_fork = register
"""
FORKED_IDS = """
import trackd
trackd.new_id()
tails = []
for child in range(2):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, trackd.new_id(0)[-4:])
        os._exit(0)
    tails.append(os.read(reading, 4))
assert len(set(tails)) == 2, tails
"""
"""Compares the last bits, which are nothing but random: all others count or tell the time."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One for all: each test has users of its own."""
    with serving(tmp_path_factory.mktemp("daemon")) as served:
        yield served


@pytest.fixture
def seen(daemon: DaemonProcess) -> Iterator[Counter[str]]:
    """Filled by `look`: users whose events came in during the test, and how often."""
    with trackd.Client(daemon.target) as client:
        before = client.list_events_page(page_size=1).as_of_position
        yield Counter({"": before})


def script(
    target: str, directory: Path, code: str, *, command: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs it, or another command of Python, to its end.

    Of gRPC it has the defaults: those of the daemon, once imported, are in the environment.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    return subprocess.run(
        [sys.executable, *(command or ("-c", BEGIN + code)), target, str(directory)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=own | environment,
    )


def came_in(target: str, seen: Counter[str]) -> Counter[str]:
    """The users of all events since, and how often."""
    with trackd.Client(target) as client:
        where = trackd.EventFilter(after_position=seen[""])
        return Counter(one.event.user_id for one in client.list_events(where, order="position_asc"))


def users(name: str, count: int) -> list[str]:
    """The users of that many numbered events."""
    return [f"{name}-{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("tracker.flush()\n", 0), ("sys.exit(3)\n", 3), ("raise LookupError\n", 1)],
    ids=["falls off", "flushed", "exits", "raises"],
)
def test_a_process_that_ends_flushes(
    daemon: DaemonProcess, seen: Counter[str], tmp_path: Path, end: str, code: int
) -> None:
    """Without a word of the application, also right behind its first event."""
    done = script(daemon.target, tmp_path, 'tracker = new_tracker()\ntracker.track("t", user_id="end-0")\n' + end)
    assert done.returncode == code, done.stderr
    assert came_in(daemon.target, seen) == Counter(users("end", 1))


def test_a_process_ends_in_time_though_the_daemon_is_away(tmp_path: Path) -> None:
    """After exit_timeout_s, with a warning that says how many events are lost."""
    done = script("127.0.0.1:1", tmp_path, 'new_tracker(exit_timeout_s=0.2).track("t")\n')
    assert done.returncode == 0
    assert "1 tracked events were not acknowledged" in done.stderr


def test_a_server_that_forks_its_workers_first_may_share_one_tracker(
    daemon: DaemonProcess, seen: Counter[str], tmp_path: Path
) -> None:
    """Made before the fork, used behind it: each worker has its own connection, buffer and ids."""
    done = script(daemon.target, tmp_path, PRE_FORK)
    assert (done.returncode, done.stderr) == (0, "")
    assert came_in(daemon.target, seen) == Counter(name for child in range(3) for name in users(f"child{child}", 200))


@pytest.mark.parametrize("flush", ["", "assert tracker.flush()"], ids=["nothing sent", "connected"])
def test_a_process_may_fork_while_it_tracks(
    daemon: DaemonProcess, seen: Counter[str], tmp_path: Path, flush: str
) -> None:
    """What it has not sent yet is sent by it alone, and both go on (with gRPC's support for forks, the default)."""
    done = script(daemon.target, tmp_path, FORK_WHILE_TRACKING.replace("OPTIONS", "").replace("FLUSH", flush))
    assert done.returncode == 0, done.stderr
    assert came_in(daemon.target, seen) == Counter(users("parent", 4) + users("child", 200)), done.stderr


def test_tracking_imports_nothing_while_a_process_may_fork(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A child that is forked while another thread imports has half a module, for ever."""
    code = """
before = set(sys.modules)
tracker = new_tracker(when_full="spill", spill_directory=directory, on_rejected=str)
tracker.track("imports")
tracker.track("no spaces, please")
assert tracker.flush(30)
assert sys.modules.keys() - before == set()
"""
    done = script(daemon.target, tmp_path, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_flush_when_they_end(
    daemon: DaemonProcess, seen: Counter[str], tmp_path: Path, method: str
) -> None:
    """Though they run no exit handlers."""
    program = tmp_path / "program.py"
    program.write_text(BEGIN + MULTIPROCESSING.replace("METHOD", repr(method)), "utf-8")
    done = script(daemon.target, tmp_path, "", command=[str(program)])
    assert done.returncode == 0, done.stderr
    assert came_in(daemon.target, seen) == Counter(users("parent", 1) + users("child0", 50) + users("child1", 50))


def test_forked_children_have_ids_of_their_own() -> None:
    """Also with versions of uuid-utils that go on with the random numbers of the parent."""
    done = subprocess.run(
        [sys.executable, "-c", OLD_UUID_UTILS + FORKED_IDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_where_a_forked_child_cannot_send_its_events_wait_in_files(
    daemon: DaemonProcess, seen: Counter[str], tmp_path: Path
) -> None:
    """GRPC's support for forks is switched off: the child says so, spills, and the next process sends."""
    spill = 'when_full="spill", spill_directory=directory'
    code = FORK_WHILE_TRACKING.replace("OPTIONS", spill).replace("FLUSH", "assert tracker.flush()")
    done = script(daemon.target, tmp_path, code, GRPC_ENABLE_FORK_SUPPORT="0")
    assert done.returncode == 0, done.stderr
    assert "support for forks is switched off" in done.stderr
    assert came_in(daemon.target, seen) == Counter(users("parent", 4))
    wait = """
import time
tracker = new_tracker(when_full="spill", spill_directory=directory)
tracker.track("t", user_id="next-0")
while tracker.stats().stored < 201: time.sleep(0.01)
"""
    done = script(daemon.target, tmp_path, wait)
    assert done.returncode == 0, done.stderr
    assert came_in(daemon.target, seen) == Counter(users("parent", 4) + users("child", 200) + users("next", 1))
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_executed_has_nothing_of_its_parent(
    daemon: DaemonProcess, seen: Counter[str], tmp_path: Path
) -> None:
    """Fork and exec, as subprocess does: neither events nor descriptors of spill files are inherited."""
    code = """
import subprocess
tracker = new_tracker(when_full="spill", spill_directory=directory)
tracker.track("t", user_id="parent-0")
subprocess.run([sys.executable, "-c", "import os; assert not any('spill' in os.readlink(f'/proc/self/fd/{n}')"
                " for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}'))"], check=True)
"""
    done = script(daemon.target, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert came_in(daemon.target, seen) == Counter(users("parent", 1))
