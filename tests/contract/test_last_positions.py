"""Where each month ends: what those who follow the head need not ask."""

from __future__ import annotations

from retention.month import Month
from server.model import MonthState
from server.storage.contract import Store
from tests.support.events import append, make_event, read
from tests.support.homes import Home
from tests.support.population import populate


def assert_covers(store: Store) -> None:
    """Every month that can be read is there, and none of its events lies behind its position."""
    head = store.head
    lasts = store.last_positions()
    assert set(lasts) == {info.month for info in store.months() if info.state is not MonthState.DAMAGED}
    for event in read(store, as_of=head):
        assert event.position <= lasts[Month.of(event.timestamp_ms)]


def test_an_empty_store_has_none(store: Store) -> None:
    """No month, no position."""
    assert dict(store.last_positions()) == {}


def test_no_event_lies_behind_its_month(store: Store) -> None:
    """After many batches over several months, after each further one, and after removals."""
    events = populate(store)
    assert_covers(store)
    for number, month in enumerate(("2025-11", "2026-03", "2025-09")):
        append(store, make_event(1_000 + number, month), make_event(2_000 + number, "2025-10"))
        assert_covers(store)
    newest = events[-1]
    store.remove(Month.of(newest.timestamp_ms), [event.position for event in events[-20:]])
    assert_covers(store)


def test_they_are_found_again(lasting_home: Home) -> None:
    """A store that is opened again covers what an earlier one stored, and goes on from there."""
    populate(lasting_home.open())
    store = lasting_home.reopen()
    assert_covers(store)
    append(store, make_event(1_000))
    assert_covers(store)
    assert_covers(lasting_home.crash())


def test_a_damaged_month_has_none(lasting_home: Home) -> None:
    """Nobody can say where it ends; the others are there."""
    append(lasting_home.open(), make_event(1, "2025-10"), make_event(2, "2025-11"))
    lasting_home.close()
    with lasting_home.broken("2025-10"):
        assert set(lasting_home.open().last_positions()) == {Month.parse("2025-11")}
        lasting_home.close()
    lasting_home.open()
