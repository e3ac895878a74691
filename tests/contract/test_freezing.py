"""Counting the numbers of a month tells how far it is, and can be ended."""

from __future__ import annotations

from contextlib import closing

import pytest

from retention.month import Month
from server.storage.contract import Store
from tests.support.events import append, make_event
from tests.support.retaining import seal

OCTOBER = Month(2025, 10)
TYPES = ("merged", "opened")


def test_progress_only_rises(store: Store) -> None:
    """Whoever paces work by it would take less for the begin of something else. What it raises ends the counting."""
    append(store, *(make_event(number, "2025-10", number, type=TYPES[number % 2]) for number in range(30)))
    seal(store, OCTOBER)
    heard: list[int] = []
    with closing(store.reader()) as reader:
        reader.freeze(OCTOBER, [*TYPES, "never"], heard.append)
        assert heard == sorted(heard)
        assert heard[-1] == 30

        def enough(_rows: int) -> None:
            raise KeyError

        with pytest.raises(KeyError):
            reader.freeze(OCTOBER, TYPES, enough)
