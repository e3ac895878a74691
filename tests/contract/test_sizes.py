"""How much is in the months, for gauges: of a moment ago, and true once everything is at rest."""

from __future__ import annotations

from retention.month import Month
from server.model import MonthState
from server.storage.contract import Store
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event, read
from tests.support.homes import Home
from tests.support.population import populate


def settle(store: Store) -> None:
    """Waits for derived data, where there is some."""
    if isinstance(store, SqliteStore):
        assert store.settle()


def test_an_empty_store_has_no_states(store: Store) -> None:
    """Nothing is in any."""
    assert dict(store.sizes()) == {}


def test_rows_are_the_events_that_are_stored(store: Store) -> None:
    """Once they are indexed; before as well, because the tail is counted. What is removed is not."""
    events = populate(store)
    settle(store)
    assert store.sizes()[MonthState.OPEN].rows == len(events)
    append(store, make_event(1_000, "2025-11"))
    assert store.sizes()[MonthState.OPEN].rows == len(events) + 1
    month = Month.of(events[0].timestamp_ms)
    store.remove(month, [events[0].position])
    settle(store)
    assert store.sizes()[MonthState.OPEN].rows == len(events) == len(read(store))


def test_they_are_known_again_after_a_start(lasting_home: Home) -> None:
    """Without anything being written meanwhile."""
    store = lasting_home.open()
    events = populate(store)
    settle(store)
    before = store.sizes()
    again = lasting_home.reopen()
    settle(again)
    assert again.sizes()[MonthState.OPEN].rows == len(events) == before[MonthState.OPEN].rows
    assert again.sizes()[MonthState.OPEN].bytes > 0


def test_a_damaged_month_is_counted_apart(lasting_home: Home) -> None:
    """Its rows are not known; its file has a length still."""
    store = lasting_home.open()
    append(store, make_event(1, "2025-10"))
    append(store, make_event(2, "2025-11"))
    settle(store)
    lasting_home.close()
    with lasting_home.broken("2025-10"):
        again = lasting_home.open()
        settle(again)
        sizes = again.sizes()
        assert sizes[MonthState.OPEN].rows == 1
        assert sizes[MonthState.DAMAGED].bytes > 0
        lasting_home.close()
