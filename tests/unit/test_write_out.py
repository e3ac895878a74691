"""Files that nobody syncs go to the disk a little at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from server import write_out
from server.config import Storage
from server.storage.sqlite.store import SqliteStore
from server.write_out import SLICE_BYTES, WriteOut, written_out
from tests.support.events import append, make_event

Call = tuple[Path, int, int]
"""What file was written from where, and how."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the kernel was asked."""
    asked: list[Call] = []

    def sync_file_range(descriptor: object, start: object, length: object, how: object) -> int:
        values = [getattr(value, "value", None) for value in (descriptor, start, length, how)]
        assert values[2] == SLICE_BYTES
        asked.append((Path(f"/proc/self/fd/{values[0]}").readlink(), int(values[1] or 0), int(values[3] or 0)))
        return 0

    monkeypatch.setattr(write_out, "sync_file_range", sync_file_range)
    return asked


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """A file with a log of some megabytes that somebody has open."""
    path = tmp_path / "open.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("journal_mode", "wal")
        connection.pragma("wal_autocheckpoint", 0)
        connection.execute("CREATE TABLE t (data)")
        for _ in range(3):
            connection.execute("INSERT INTO t VALUES (randomblob(?))", (SLICE_BYTES,))
        yield path


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def until(calls: list[Call], wanted: set[Call]) -> None:
    """Waits for these calls."""
    end = time.monotonic() + 10
    while not wanted <= set(calls):
        assert time.monotonic() < end, (calls, wanted)
        time.sleep(0.005)


def test_every_slice_of_an_open_file_and_of_its_log(calls: list[Call], database: Path) -> None:
    """Begun, not waited for, and again in the next round."""
    log = database.with_name("open.db-wal")
    wanted = {(file, start, 2) for file in (database, log) for start in range(0, file.stat().st_size, SLICE_BYTES)}
    assert len(wanted) > 4
    with WriteOut(lambda: [database], 0.01):
        until(calls, wanted)
        calls.clear()
        until(calls, wanted)
    assert set(calls) == wanted


def test_a_file_that_nobody_has_open_is_left_alone(calls: list[Call], tmp_path: Path) -> None:
    """To open it, and close it again, would take its locks away."""
    lonely = tmp_path / "lonely.db"
    lonely.write_bytes(bytes(10))
    asked = []

    def files() -> list[Path]:
        asked.append(1)
        return [lonely, tmp_path / "missing.db"]

    before = descriptors()
    with WriteOut(files, 0.001):
        end = time.monotonic() + 10
        while len(asked) < 5:
            assert time.monotonic() < end
            time.sleep(0.001)
    assert calls == []
    assert descriptors() == before


def test_it_goes_on_when_it_could_not_look(
    calls: list[Call], database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has no descriptor left may have some again."""
    monkeypatch.setattr(write_out, "_DESCRIPTORS", tmp_path / "missing")
    with WriteOut(lambda: [database], 0.01):
        time.sleep(0.05)
        assert calls == []
        monkeypatch.undo()
        monkeypatch.setattr(write_out, "sync_file_range", lambda *_: calls.append((database, 0, 2)))
        until(calls, {(database, 0, 2)})


def test_it_ends_in_the_middle_of_a_round(calls: list[Call], database: Path) -> None:
    """However long that would take."""
    with WriteOut(lambda: [database], 3_600.0):
        end = time.monotonic() + 10
        while not calls:
            assert time.monotonic() < end
            time.sleep(0.001)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert len(calls) == 1


def test_before_a_sync_one_slice_after_the_other(calls: list[Call], tmp_path: Path) -> None:
    """Each is waited for."""
    path = tmp_path / "whole"
    with path.open("wb") as file:
        file.write(bytes(2 * SLICE_BYTES + 1))
        file.flush()
        written_out(file.fileno())
    assert calls == [(path, start, 7) for start in (0, SLICE_BYTES, 2 * SLICE_BYTES)]


def test_where_there_is_no_such_call_nothing_is_done(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    """No thread either."""
    monkeypatch.setattr(write_out, "sync_file_range", None)
    with WriteOut(lambda: [database], 0.001), database.open("rb") as file:
        written_out(file.fileno())
        assert "trackd-write-out" not in [thread.name for thread in threading.enumerate()]


def test_the_kernel_takes_it(database: Path) -> None:
    """The call itself, with the arguments that it gets here."""
    with database.open("rb") as file:
        place = (0, SLICE_BYTES)
        assert write_out.sync_file_range is not None
        assert write_out.sync_file_range(file.fileno(), *place, 7) == 0


def test_the_daemon_writes_out_its_indexes(calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as they are not synced."""
    monkeypatch.setattr("server.storage.sqlite.index.folder.WRITE_OUT_S", 0.01)
    with closing(SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), months_max=20)) as store:
        append(store, make_event(1, "2025-10"))
        assert store.settle()
        until(calls, {(tmp_path / "months/2025-10/g0001/index-0001.db-wal", 0, 2)})
    assert {path.name for path, _start, how in calls if how == 2} <= {"index-0001.db", "index-0001.db-wal"}
