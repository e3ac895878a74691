"""What only the embedded engine does: scans in windows, checkpoints that wait for nobody, a bounded user cache."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from server.config import Storage
from server.model import Count, Dimension, EventFilter
from server.storage.sqlite import numbers, reader
from server.storage.sqlite.store import SqliteStore
from tests.support.events import EVERYTHING, Sent, make_batch, make_event

MONTHS = ("2025-09", "2025-10", "2025-11")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An open store with the smallest limit of its log; sound at the end of the test."""
    opened = SqliteStore(tmp_path / "data", Storage(disk_free_bytes_min=1, wal_bytes_max=1), months_max=100)
    yield opened
    assert opened.check() == []
    opened.close()


def fill(store: SqliteStore, batches: int, size: int = 10) -> list[Sent]:
    """Events of several months and users, the months taking turns within each batch."""
    events = [
        make_event(number, MONTHS[number % 3], user_id=f"user-{number % 7}", type=f"type_{number % 4}")
        for number in range(batches * size)
    ]
    for start in range(0, len(events), size):
        store.append([make_batch(*events[start : start + size])])
    return events


@pytest.mark.parametrize("window", [1, 3, 7, 1_000])
def test_counts_are_the_same_in_windows_of_any_size(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """However a scan is cut into statements, every event is counted once, also at the edges that were asked for."""
    monkeypatch.setattr(reader, "WINDOW_POSITIONS", window)
    events = fill(store, batches=8)
    asking = store.reader()
    for where, expected in (
        (EVERYTHING, events),
        (EventFilter(after_position=7, up_to_position=61), events[7:61]),
        (EventFilter(after_position=10_000), []),
        (EventFilter(up_to_position=0), []),
    ):
        by_user = asking.count_events(where, [Dimension.USER], as_of=store.head)
        users = sorted({event.user_id for event in expected})
        assert by_user == [Count((user,), sum(event.user_id == user for event in expected)) for user in users]
        assert asking.count_events(where, [], as_of=store.head) == [Count((), len(expected))]
    asking.close()


def test_a_reader_that_is_stuck_does_not_hold_up_the_writer(store: SqliteStore) -> None:
    """The log cannot start over while somebody reads an old snapshot; the writer notices that and goes on at once."""
    fill(store, batches=2)
    file = max(store._layout.months.glob("2025-09/*/events.db"))  # noqa: SLF001  # a reader that nobody bounded
    stuck = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    stuck.execute("BEGIN")
    stuck.execute("SELECT count(*) FROM events_202509").fetchall()
    start = time.monotonic()
    for number in range(1_000, 1_020):
        store.append([make_batch(make_event(number, "2025-09"))])
        store.maintain(idle=False)
    assert time.monotonic() - start < 4.0, "the writer waited for the reader"
    stuck.close()


def test_users_beyond_the_cache_keep_their_keys(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that fell out of the cache is found again in the catalog: one key, one group in a count."""
    monkeypatch.setattr(numbers, "CACHED_USERS_MAX", 5)
    monkeypatch.setattr(numbers, "PENDING_USERS_MAX", 3)
    for round_number in range(3):
        for user in range(12):
            event = make_event(round_number * 100 + user, user_id=f"user-{user}")
            assert store.append([make_batch(event)])[0].accepted == 1  # type: ignore[union-attr]
    asking = store.reader()
    counts = asking.count_events(EVERYTHING, [Dimension.USER], as_of=store.head)
    assert counts == [Count((f"user-{user}",), 3) for user in sorted(range(12), key=str)]
    asking.close()


def test_the_log_of_the_catalog_stays_bounded(store: SqliteStore) -> None:
    """Millions of new users pass through it in the life of a daemon; its log is folded back all the same."""
    for start in range(0, 60_000, 500):
        events = [make_event(start + row, user_id=f"{(start + row) * 7_919 % 60_013:x}") for row in range(500)]
        store.append([make_batch(*events)])
        store._users.flush()  # noqa: SLF001  # as if many more had come together
    log = store._layout.catalog.with_name("catalog.db-wal")  # noqa: SLF001
    assert log.stat().st_size < 16 * 1024 * 1024
