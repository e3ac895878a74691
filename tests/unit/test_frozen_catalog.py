"""Frozen numbers on disk: tables that any SQLite tool reads, nobody named in them, and a check that finds faults."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from retention.month import Month
from server.config import Storage
from server.frozen import ANY_TYPE, Detail
from server.storage.sqlite import frozen_numbers
from server.storage.sqlite.connection import fetch
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event
from tests.support.retaining import NOW_MS, freeze, rewrite, seal

NOVEMBER = Month(2025, 11)
DAY_MS = 86_400_000
USERS = ("ann-canary", "ben-canary", "")


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """November, of which a type went: three events a day for ten days."""
    store = SqliteStore(tmp_path / "data", Storage(), months_max=12)
    for place, source in enumerate(("reviews", "web")):
        events = (
            make_event(100 * place + n, "2025-11", n // 3 * DAY_MS + 7, type="opened", user_id=USERS[n % 3])
            for n in range(30)
        )
        append(store, *events, source=source)
    append(store, make_event(900, "2025-11", 5 * DAY_MS, type="merged", user_id="eve"))
    seal(store, NOVEMBER)
    freeze(store, NOVEMBER, ["opened"])
    rewrite(store, NOVEMBER, None, ["opened"])
    return store


def catalog(store: SqliteStore, sql: str) -> list[tuple[apsw.SQLiteValue, ...]]:
    """What a tool reads in the catalog of a store that is closed."""
    path = Path(store._layout.catalog)  # noqa: SLF001  # where it is
    store.close()
    connection = apsw.Connection(str(path))
    try:
        return fetch(connection, sql)
    finally:
        connection.close()


def test_days_are_kept_as_daily_metrics(store: SqliteStore) -> None:
    """Date, type, events, distinct users and when that was counted; '' is all types together."""
    rows = catalog(store, "SELECT * FROM daily_metrics ORDER BY metric_date, event_type")
    assert rows[0] == ("2025-11-01", "", 6, 2, NOW_MS)
    assert rows[1] == ("2025-11-01", "opened", 6, 2, NOW_MS)
    assert rows[10:12] == [("2025-11-06", "", 7, 3, NOW_MS), ("2025-11-06", "opened", 6, 2, NOW_MS)]
    assert len(rows) == 20


def test_weeks_and_months_are_kept_beside_them(store: SqliteStore) -> None:
    """Named by when they begin, also before the month, and counted inside of it."""
    sql = "SELECT grain, bucket_ms, event_count, unique_users FROM frozen_cells WHERE event_type = 'opened'"
    week = 1_761_523_200_000
    assert catalog(store, sql) == [
        ("month", NOVEMBER.start_ms, 60, 2),
        ("week", week, 12, 2),
        ("week", week + 7 * DAY_MS, 42, 2),
        ("week", week + 14 * DAY_MS, 6, 2),
    ]


def test_no_user_is_in_any_of_it(store: SqliteStore) -> None:
    """Neither by name nor as a set: the tables of numbers have numbers, types, zones and sources."""
    for dump in ("SELECT * FROM daily_metrics", "SELECT * FROM frozen_cells", "SELECT * FROM frozen_types"):
        found = catalog(store, dump)
        assert found
        assert "canary" not in str(found)
        assert [value for row in found for value in row if isinstance(value, bytes) and len(value) > 100] == []


def test_counts_come_back_as_they_were(store: SqliteStore) -> None:
    """Quarter-hours of the month, sources, events."""
    connection = apsw.Connection(str(store._layout.catalog))  # noqa: SLF001
    counted = frozen_numbers.counts(lambda sql, bindings: fetch(connection, sql, bindings), NOVEMBER, "opened")
    assert counted.sources == ["reviews", "web"]
    assert counted.slot.tolist() == [96 * day for day in range(10) for _ in range(2)]
    assert counted.source.tolist() == [0, 1] * 10
    assert counted.events.tolist() == [3] * 20
    assert frozen_numbers.kept_months(connection)[NOVEMBER].details == dict.fromkeys(
        ("opened", ANY_TYPE), Detail(("UTC",))
    )
    connection.close()
    store.close()


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            "UPDATE daily_metrics SET event_count = 5 WHERE metric_date = '2025-11-01' AND event_type = 'opened'",
            "add up",
        ),
        ("DELETE FROM frozen_cells WHERE grain = 'month' AND event_type = ''", "add up"),
        ("UPDATE frozen_types SET quarters = x'00' WHERE event_type = 'opened'", "cannot be read"),
        ("DELETE FROM losses", "has 0 events of opened; 60 were counted"),
    ],
)
def test_check_finds_numbers_that_do_not_fit(store: SqliteStore, damage: str, finding: str) -> None:
    """Each other, or the rows of a type that has not gone."""
    assert list(store.check()) == []
    catalog(store, damage)
    found = store.check()
    assert len(found) == 1
    assert finding in found[0].problem
