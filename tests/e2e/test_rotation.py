"""The daemon seals months by itself: what its users see of that."""

from __future__ import annotations

import time
from pathlib import Path

import apsw
from trackd import Client

from retention.month import Month
from tests.support.serving import serving
from tests.support.wire import event

SETTINGS = "[rotation]\nseal_after_days = 1\nquiet_minutes = 0\n"
OCTOBER = Month(2025, 10)


def test_an_old_month_is_sealed(tmp_path: Path) -> None:
    """Its answers stay, late events are rejected, and any SQLite tool reads its file."""
    events = [event(timestamp_ms=OCTOBER.start_ms + number, user_id=f"user-{number % 3}") for number in range(50)]
    with serving(tmp_path) as daemon, Client(daemon.target) as client:
        client.append(events, source="tests")
        before = list(client.list_events())
    with serving(tmp_path, settings=SETTINGS) as daemon, Client(daemon.target) as client:
        until_s = time.monotonic() + 30
        late = event(timestamp_ms=OCTOBER.start_ms)
        # What is taken before the month is fenced is stored as any other.
        while not (answer := client.append([late], source="tests")).rejected:
            assert time.monotonic() < until_s, daemon.log.read_text("utf-8")
            before = list(client.list_events())
            late = event(timestamp_ms=OCTOBER.start_ms)
        assert [item.reason for item in answer.items] == ["MONTH_SEALED"]
        assert client.append(events, source="tests").duplicate == len(events)
        while "month_sealed" not in daemon.log.read_text("utf-8"):
            assert time.monotonic() < until_s, daemon.log.read_text("utf-8")
            time.sleep(0.05)
        assert list(client.list_events()) == before
    (file,) = tmp_path.rglob("months/2025-10/*/events.db")
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    found = connection.execute("SELECT user_id, count(*) FROM events GROUP BY user_id ORDER BY user_id").fetchall()
    counts: list[int] = [int(str(count)) for _user, count in found]
    assert sum(counts) == len(before)
    assert connection.execute("SELECT value FROM about WHERE key = 'state'").get == "sealed"
    connection.close()
