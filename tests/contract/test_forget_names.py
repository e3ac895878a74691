"""Names of users go with their last event, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from retention.month import Month
from server.model import EventFilter
from server.question import Field, FieldKind, Metric, MetricKind, Question
from server.storage.contract import Store
from server.storage.sqlite import forgetting
from tests.support.answers import rows
from tests.support.events import append, make_event, read
from tests.support.homes import Home
from tests.support.retaining import deed, here, seal

T = TypeVar("T")
OCTOBER = Month(2025, 10)


def now_and_later(home: Home, store: Store) -> Iterator[Store]:
    """The store, and what it is after a restart."""
    yield store
    if home.persists:
        yield home.reopen()


def test_names_go_with_the_last_event(home: Home, store: Store) -> None:
    """Of users who have none any more, also out of the files; whoever comes again is found again, and counted once."""
    append(store, make_event(1, "2025-10", user_id="somebody-who-went"), make_event(2, "2025-10", user_id="ann"))
    append(store, make_event(3, user_id="ann"), make_event(4, user_id="ben"))
    seal(store, OCTOBER)
    store.drop(OCTOBER, {}, deed("drop"))
    assert store.forget_names(here) == (1 if home.persists else 0)
    assert store.forget_names(here) == 0
    append(store, make_event(5, user_id="somebody-who-went"), make_event(6, user_id="ann"))
    users = Question((Metric(MetricKind.USERS),))
    for now in now_and_later(home, store):
        assert len(read(now, EventFilter(user_ids=("somebody-who-went",)))) == 1
        reader = now.reader()
        assert rows(reader.aggregate([users]).tables[0]) == [(3,)]
        reader.close()


def test_many_names_go_a_few_at_a_time(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a dictionary that is read, and forgotten, in many pieces."""
    monkeypatch.setattr(forgetting, "KEYS_AT_ONCE", 3)
    monkeypatch.setattr(forgetting, "AT_ONCE", 2)
    monkeypatch.setattr(forgetting, "PAUSE_S", 0.0)
    append(store, *(make_event(number, "2025-10", user_id=f"user-{number}") for number in range(20)))
    append(store, *(make_event(100 + number, user_id=f"user-{number}") for number in range(0, 20, 3)))
    seal(store, OCTOBER)
    store.drop(OCTOBER, {}, deed("drop"))
    assert store.forget_names(here) == (13 if home.persists else 0)
    users = Question((Metric(MetricKind.EVENTS),), (Field(FieldKind.USER),))
    for now in now_and_later(home, store):
        reader = now.reader()
        assert [name for name, _events in rows(reader.aggregate([users]).tables[0])] == sorted(
            f"user-{number}" for number in range(0, 20, 3)
        )
        reader.close()


def test_forgotten_names_are_in_no_file(lasting_home: Home) -> None:
    """A search for the bytes finds nothing."""
    store = lasting_home.open()
    append(store, make_event(1, "2025-10", user_id="somebody-who-went"), make_event(3, user_id="ann"))
    seal(store, OCTOBER)
    store.drop(OCTOBER, {}, deed("drop"))
    store.forget_names(here)
    store.maintain(idle=True)
    lasting_home.reopen()
    files = [path for path in lasting_home.path.rglob("*") if path.is_file()]
    assert [path for path in files if b"somebody-who-went" in path.read_bytes()] == []


def test_a_name_that_is_used_meanwhile_is_not_forgotten(store: Store) -> None:
    """Events come in while the store looks for names that nobody has."""
    append(store, make_event(1, "2025-10", user_id="ann"), make_event(2, user_id="ben"))
    seal(store, OCTOBER)
    store.drop(OCTOBER, {}, deed("drop"))
    calls = []

    def on_writer(action: Callable[[], T]) -> T:
        calls.append(action)
        result = action()
        if len(calls) == 1:
            append(store, make_event(3, user_id="ann"))
        return result

    assert store.forget_names(on_writer) == 0
    assert len(read(store, EventFilter(user_ids=("ann",)))) == 1
