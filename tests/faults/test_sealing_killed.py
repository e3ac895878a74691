"""kill -9 at every step of sealing, under ingest: nothing is lost or half done, and a rerun ends the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.config import Storage
from server.model import MonthState
from server.storage.sqlite.steps import SEALING
from server.storage.sqlite.store import SqliteStore
from tests.faults.sealing import OCTOBER
from tests.support.events import append, make_event, read

EVENTS = 500


def populate(directory: Path) -> SqliteStore:
    """A store with a month to seal; the same every time."""
    store = SqliteStore(directory, Storage(disk_free_bytes_min=1), months_max=10)
    rng = random.Random(5)
    for turn in range(5):
        append(
            store,
            *(
                make_event(
                    turn * 100 + place,
                    "2025-10",
                    rng.randrange(30 * 86_400_000),
                    user_id=f"user-{rng.randrange(20)}",
                    metadata=f'{{"n":{place}}}',
                )
                for place in range(EVENTS // 5)
            ),
        )
    return store


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the sealed month says of its content when nobody disturbs."""
    store = populate(tmp_path_factory.mktemp("undisturbed"))
    store.fence(OCTOBER)
    rebuilt = store.rebuild(OCTOBER, MonthState.SEALED)
    store.close()
    return rebuilt.digest


@pytest.mark.parametrize("step", [*SEALING, "told"])
def test_killed_at(step: str, tmp_path: Path, digest: str) -> None:
    """The next start finds a month as it was or sealed, with every acknowledged event; sealing it goes on."""
    populate(tmp_path).close()
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.sealing", str(tmp_path), step, "1"],
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, f"the step {step} was never reached"
    acknowledged = [int(line) for line in run.stdout.split(b"\n")[:-1]]
    store = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), months_max=10)
    try:
        stored = {event.position: event for event in read(store)}
        assert set(acknowledged) <= stored.keys()
        assert sum(position <= EVENTS for position in stored) == EVENTS
        state = store.fence(OCTOBER).state
        assert (state is MonthState.SEALED) == (step in ("adopted", "retired"))
        if state is MonthState.SEALING:
            store.adopt(store.rebuild(OCTOBER, MonthState.SEALED))
        assert {event.position: event for event in read(store)} == stored
        assert list(store.check()) == []
        while store.retired:
            store.maintain(idle=True)
    finally:
        store.close()
    (file,) = tmp_path.glob("months/2025-10/*/events.db")
    again = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), months_max=10)
    try:
        assert sealed_digest(file) == digest
        assert list(again.check()) == []
    finally:
        again.close()


def test_the_process_that_does_the_work_is_killed(tmp_path: Path, digest: str) -> None:
    """It is an error by name, nothing is half done, and the next attempt ends as ever."""
    populate(tmp_path).close()
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.sealing", str(tmp_path), "kill it", "1"],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert run.stdout.splitlines().count(b"WORK_ENDED") == 1
    (file,) = tmp_path.glob("months/2025-10/*/events.db")
    assert sealed_digest(file) == digest


def sealed_digest(file: Path) -> str:
    """What a sealed file says of itself."""
    import apsw

    connection = apsw.Connection(f"{file.as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        assert connection.execute("SELECT count(*) FROM events").get == EVENTS
        assert connection.execute("PRAGMA journal_mode").get != "wal"
        return str(connection.execute("SELECT value FROM about WHERE key = 'digest'").get)
    finally:
        connection.close()
