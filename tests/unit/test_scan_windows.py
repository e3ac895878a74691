"""A month is scanned in windows bounded in rows and bytes: each becomes one text, and SQLite has a limit for those."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from server.model import Action, Change
from server.storage.digest import digest_of
from server.storage.sqlite import content_digest
from tests.support.archives import OCTOBER, stored_in
from tests.support.events import Sent, make_event
from tests.support.retaining import events_of

BYTES_MAX = 50_000


def events() -> list[Sent]:
    """Small rows, large ones side by side, and large changes."""
    large = f'{{"blob":"{"x" * 9_000}"}}'
    change = Change("rows", "1", Action.UPDATE, large, large)
    return [
        make_event(
            number,
            "2025-10",
            number,
            metadata=large if 40 <= number < 80 else "{}",
            change=change if 100 <= number < 120 else None,
        )
        for number in range(150)
    ]


def test_windows_are_bounded_and_leave_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each position is in exactly one of them; the digest does not depend on where they end."""
    monkeypatch.setattr(content_digest, "WINDOW_BYTES", BYTES_MAX)
    with stored_in(tmp_path, events()) as store:
        stored = events_of(store, OCTOBER)
        path = max(tmp_path.glob("months/2025-10/*/events.db"))
        with content_digest.scanned(path) as connection:
            windows = list(content_digest.windows(connection, OCTOBER, 30, BYTES_MAX))
        digest = content_digest.content_digest(path, OCTOBER).hexdigest()
    sizes = {event.position: _size(event.metadata, event.change) for event in stored}
    inside = [[position for position in sizes if first <= position <= last] for first, last in windows]
    assert [position for window in inside for position in window] == list(sizes)
    assert max(map(len, inside)) <= 30
    assert max(sum(map(sizes.__getitem__, window)) for window in inside) <= BYTES_MAX
    assert len(windows) < 40
    assert digest == digest_of(stored)


def test_a_month_of_large_rows_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although all its rows together are beyond what SQLite puts into one text."""
    monkeypatch.setattr(content_digest, "WINDOW_BYTES", BYTES_MAX)

    def limited(connection: apsw.Connection) -> None:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 4 * BYTES_MAX)

    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, limited])
    with stored_in(tmp_path, events()) as store:
        assert digest_of(events_of(store, OCTOBER))


def _size(metadata: str, change: Change | None) -> int:
    return len(metadata) + (len(change.old_values + change.new_values) if change else 0)
