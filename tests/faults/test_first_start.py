"""A disk that fails while a directory is used for the first time: an error of ours, and the next start succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import StoreFailed
from server.storage.sqlite.store import SqliteStore
from tests.faults.history import SETTINGS
from tests.support.events import append, make_event
from tests.support.faulty_disk import IO_ERRORS, Plan, faulty_disk


@pytest.mark.parametrize("kind", IO_ERRORS)
def test_a_first_start_that_fails_can_be_repeated(tmp_path: Path, kind: str) -> None:
    """Every n-th call of opening an empty directory, and of what comes first in it: StoreFailed or nothing."""
    with faulty_disk() as disk:
        for nth in range(1, 40):
            root = tmp_path / str(nth)
            disk.plan = Plan(kind, nth, error=IO_ERRORS[kind])
            try:
                SqliteStore(root, SETTINGS, months_max=10).close()
            except StoreFailed as failed:
                assert failed.reason == "STORAGE_IO"  # noqa: PT017  # it need not fail
            disk.plan = Plan()
            store = SqliteStore(root, SETTINGS, months_max=10)
            assert append(store, make_event(1)).accepted == 1
            assert list(store.check()) == []
            store.close()
