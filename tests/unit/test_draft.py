"""The new file of a month is indexed while it is read back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from server.errors import TrackdError
from server.model import MonthState, Outcome
from server.storage.contract import Store
from server.storage.sqlite import schema
from server.storage.sqlite.draft import Draft
from tests.support.archives import OCTOBER, stored_in, varied
from tests.support.events import append, make_event
from tests.support.retaining import seal

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Store]:
    """A store with a month to be sealed."""
    with stored_in(tmp_path) as store:
        append(store, *varied())
        yield store


def sealed_file(root: Path) -> Path:
    """The newest generation of the month."""
    return max(root.glob("months/2025-10/g*/events.db"))


def test_a_name_that_no_event_brought_is_left_behind(filled: Store, tmp_path: Path) -> None:
    """An event with an id that was there already, of somebody else: only the open file has heard of that name."""
    (item,) = append(filled, make_event(3, "2025-10", user_id="somebody-else-entirely")).items
    assert (item.outcome, item.reason) == (Outcome.REJECTED, "ID_CONFLICT")
    filled.maintain(idle=True)
    open_files = sealed_file(tmp_path).parent.glob("events.db*")
    assert any(b"somebody-else-entirely" in path.read_bytes() for path in open_files)
    seal(filled, OCTOBER)
    path = sealed_file(tmp_path)
    assert b"somebody-else-entirely" not in path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        users = connection.execute("SELECT key FROM users EXCEPT SELECT user FROM events_202510").fetchall()
        assert users == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_sealed_file_is_alone(filled: Store, tmp_path: Path) -> None:
    """The log that it had while it was made is folded back, and it says that it has none."""
    seal(filled, OCTOBER)
    path = sealed_file(tmp_path)
    assert [file.name for file in path.parent.iterdir() if file.name.startswith("events")] == ["events.db"]
    assert path.read_bytes()[18:20] == b"\x01\x01"  # sqlite.org/fileformat2.html: 2 would be a write-ahead log
    with closing(sqlite3.connect(path)) as connection:
        indexes = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")]
        counted = connection.execute("SELECT type, count(*) FROM events_202510 NOT INDEXED GROUP BY 1").fetchall()
        noted = connection.execute("SELECT type, rows FROM stocks ORDER BY 1").fetchall()
    assert {"events_202510_id", "events_202510_user", "events_202510_type"} <= set(indexes)
    assert noted == counted


def test_an_index_that_cannot_be_built(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The month stays as it is, and is sealed another time."""
    filled.fence(OCTOBER)
    monkeypatch.setattr(schema, "sealed_indexes", lambda _month: "CREATE INDEX i ON missing (x)")
    with pytest.raises(TrackdError):
        filled.rebuild(OCTOBER, MonthState.SEALED)
    monkeypatch.undo()
    assert filled.rebuild(OCTOBER, MonthState.SEALED).rows == len(varied())


def test_a_lock_is_waited_for(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads open the file at the same moment, and the first of them locks its log while it has a look."""
    log, timers = Draft.journal, []

    def log_and_lock(draft: Draft, mode: str) -> None:
        log(draft, mode)
        if mode == "wal":
            other = apsw.Connection(str(draft.path))  # locks of another library are not seen in the same process
            other.execute("BEGIN IMMEDIATE")
            timers.append(threading.Timer(0.3, other.close))
            timers[0].start()

    filled.fence(OCTOBER)
    monkeypatch.setattr(Draft, "journal", log_and_lock)
    assert filled.rebuild(OCTOBER, MonthState.SEALED).rows == len(varied())
    timers[0].join()


def test_who_stops_it_does_not_wait_for_the_index(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that would take; and nothing is in the way of the next attempt."""
    filled.fence(OCTOBER)
    monkeypatch.setattr(schema, "sealed_indexes", lambda _month: ENDLESS)

    class Stopped(Exception):
        pass

    def heard(rows: int) -> None:
        if rows == len(varied()):
            raise Stopped

    with pytest.raises(Stopped):
        filled.rebuild(OCTOBER, MonthState.SEALED, heard)
    monkeypatch.undo()
    assert filled.rebuild(OCTOBER, MonthState.SEALED).rows == len(varied())
