"""What engines that persist find again: after a clean end and after a crash."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.errors import TrackdError, Unavailable
from server.model import Appended, EventFilter, Outcome
from server.storage.contract import Store
from tests.support.events import (
    append,
    append_group,
    make_batch,
    make_event,
    make_id,
    ms,
    only_item,
    outcomes,
    positions,
    read,
    stored,
)
from tests.support.homes import Home, contents

Restart = Callable[[Home], Store]

restarts = pytest.mark.parametrize("restart", [Home.reopen, Home.crash], ids=["closed", "crashed"])


def _history(store: Store) -> None:
    """Some of everything: months, sources, types, users, changes, an aborted batch, repeated events."""
    store.register_type("declared", "known before", 4)
    append(
        store, *(make_event(number, f"2025-{number % 7 + 1:02d}", number, user_id=f"u{number}") for number in range(60))
    )
    append_group(
        store,
        make_batch(make_event(100, type="other", tags=("a", "b"), metadata='{"a": 1}'), source="ci"),
        make_batch(make_event(100, user_id="bob"), make_event(101), atomic=True),
        make_batch(make_event(102), make_event(100, type="other", tags=("a", "b"), metadata='{"a":1}')),
    )
    store.register_type("other", "declared later", 9)


@restarts
def test_all_that_was_acknowledged_is_found_again(lasting_home: Home, restart: Restart) -> None:
    """Events, head, types, sources and months are what they were."""
    store = lasting_home.open()
    _history(store)
    before = contents(store)
    assert contents(restart(lasting_home)) == before


@restarts
def test_an_empty_store_stays_empty(lasting_home: Home, restart: Restart) -> None:
    """Opening and ending without an event leaves a store without events."""
    store = lasting_home.open()
    before = contents(store)
    store = restart(lasting_home)
    assert contents(store) == before
    assert store.head == 0


@restarts
def test_positions_go_on_above_all_that_were_given(lasting_home: Home, restart: Restart) -> None:
    """Over several restarts positions rise strictly and none is given twice, also with months that rest in between."""
    store = lasting_home.open()
    numbers = iter(range(1_000))
    for month in ("2025-11", "2025-10", "2025-12", "2025-10"):
        append(store, *(make_event(next(numbers), month) for _ in range(3)))
        head = store.head
        store = restart(lasting_home) if month != "2025-12" else lasting_home.reopen()
        assert store.head == head
        assert (append(store, make_event(next(numbers), "2025-11")).first_position or 0) > head
    found = positions(read(store))
    assert found == sorted(set(found))
    assert [int.from_bytes(event.id, "big") for event in read(store)] == list(range(16))


@restarts
def test_events_are_recognised_afterwards(lasting_home: Home, restart: Restart) -> None:
    """Duplicates and conflicts with events of before are found, with the positions of before."""
    store = lasting_home.open()
    append(store, make_event(1), make_event(2, "2025-12"))
    first, second = positions(read(store))
    store = restart(lasting_home)
    answer = append(store, make_event(2, "2025-12"), make_event(1, user_id="bob"), make_event(1), make_event(3))
    assert [item.existing_position for item in answer.items] == [second, first, first]
    assert [item.reason for item in answer.items] == ["", "ID_CONFLICT", ""]
    assert answer.accepted == 1


@restarts
def test_an_aborted_batch_does_not_come_back(lasting_home: Home, restart: Restart) -> None:
    """What an atomic batch gave up is not stored by a restart either, and can be stored afterwards."""
    store = lasting_home.open()
    append(store, make_event(1))
    append(store, make_event(2), make_event(1, user_id="bob"), atomic=True)
    store = restart(lasting_home)
    assert stored(store) == [make_event(1)]
    assert append(store, make_event(2), atomic=True).accepted == 1


@restarts
def test_users_types_and_sources_keep_their_names(lasting_home: Home, restart: Restart) -> None:
    """New users, types and sources on both sides of a restart are not mixed up."""
    store = lasting_home.open()
    for turn in range(3):
        for month in ("2025-11", "2025-12"):
            sent = [
                make_event(turn * 100 + number, month, user_id=f"u{turn}-{number % 5}", type=f"t{turn}-{number % 2}")
                for number in range(10)
            ]
            append(store, *sent, source=f"s{turn}")
        store = restart(lasting_home)
    told = {(event.id, event.user_id, event.type, event.source) for event in read(store)}
    assert told == {
        (make_id(turn * 100 + number), f"u{turn}-{number % 5}", f"t{turn}-{number % 2}", f"s{turn}")
        for turn in range(3)
        for number in range(10)
    }
    assert list(store.sources()) == ["s0", "s1", "s2"]


@restarts
def test_the_month_limit_counts_months_of_before(lasting_home: Home, restart: Restart) -> None:
    """Months that were opened before a restart count, and go on taking events."""
    store = lasting_home.open(months_max=2)
    append(store, make_event(1, "2025-10"), make_event(2, "2025-11"))
    store = restart(lasting_home)
    answer = append(store, make_event(3, "2025-12"), make_event(4, "2025-10"))
    assert only_item(answer).reason == "MONTH_LIMIT"
    assert answer.accepted == 1


def test_a_lower_limit_keeps_the_months_there_are(lasting_home: Home) -> None:
    """A store that holds more months than a new limit allows keeps them all, takes their events, and opens no other."""
    append(lasting_home.open(), make_event(1, "2025-10"), make_event(2, "2025-11"), make_event(3, "2025-12"))
    lasting_home.close()
    store = lasting_home.open(months_max=1)
    answer = append(store, make_event(4, "2025-10"), make_event(5, "2026-01"), make_event(3, "2025-12"))
    assert [item.reason for item in answer.items] == ["MONTH_LIMIT", ""]
    assert len(read(store)) == 4


def test_upkeep_changes_nothing_that_is_told(lasting_home: Home) -> None:
    """Maintenance, busy and idle, between appends and before a crash, loses and invents nothing."""
    store = lasting_home.open()
    for turn in range(8):
        append(store, *(make_event(turn * 10 + number, f"2025-{turn + 1:02d}") for number in range(5)))
        before = contents(store)
        store.maintain(idle=bool(turn % 2))
        assert contents(store) == before
    store.maintain(idle=True)
    before = contents(store)
    assert contents(lasting_home.crash()) == before


def test_a_crash_between_two_opens_of_a_crashed_store(lasting_home: Home) -> None:
    """A store that crashed again right after it was found again is the same."""
    _history(lasting_home.open())
    assert lasting_home.store
    before = contents(lasting_home.store)
    lasting_home.crash()
    store = lasting_home.crash()
    assert contents(store) == before
    assert outcomes(append(store, make_event(102))) == outcomes(append(store, make_event(102)))


def test_without_room_nothing_is_taken_and_everything_answers(lasting_home: Home) -> None:
    """DISK_FULL is raised for the whole group, questions go on, and with room again the same group is taken."""
    append(lasting_home.open(), make_event(1))
    lasting_home.fill()
    store = lasting_home.reopen()
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            store.append([make_batch(make_event(1)), make_batch(make_event(2), make_event(3, "2025-12"))])
        assert refused.value.reason == "DISK_FULL"
        assert refused.value.retry_after_ms
    assert stored(store) == [make_event(1)]
    lasting_home.fill(full=False)
    answer = append(lasting_home.reopen(), make_event(1), make_event(2), make_event(3, "2025-12"))
    assert (answer.accepted, answer.duplicate) == (2, 1)


def test_a_batch_that_fails_by_itself_leaves_the_others_alone(lasting_home: Home) -> None:
    """It has its error in its place; the others of the group are stored, seen at the head and told as accepted."""
    append(lasting_home.open(), make_event(1, "2025-10"), make_event(2, "2025-12"))
    store = lasting_home.reopen()
    with lasting_home.broken("2025-12"):
        before, failed, behind = store.append(
            [
                make_batch(make_event(3, "2025-10")),
                make_batch(make_event(4, "2025-12")),
                make_batch(make_event(5, "2025-10"), make_event(3, "2025-10")),
            ]
        )
        assert isinstance(failed, TrackdError)
        assert isinstance(before, Appended)
        assert isinstance(behind, Appended)
        assert (before.accepted, behind.accepted, outcomes(behind)) == (1, 1, [(1, Outcome.DUPLICATE, "")])
        found = read(store, EventFilter(end_ms=ms("2025-11")))
        assert [event.id for event in found] == [make_id(1), make_id(3), make_id(5)]
        assert store.head == positions(found)[-1]
    store = lasting_home.reopen()
    assert append(store, make_event(4, "2025-12")).accepted == 1


def test_whatever_is_told_as_duplicate_is_seen_at_the_head(lasting_home: Home) -> None:
    """Sent again after a group that failed half way, an event is stored already or not: it is visible either way."""
    append(lasting_home.open(), make_event(1, "2025-10"), make_event(2, "2025-12"))
    store = lasting_home.reopen()
    both = make_batch(make_event(3, "2025-10"), make_event(4, "2025-12"))
    with lasting_home.broken("2025-12"):
        assert isinstance(store.append([both])[0], TrackdError)
        append(store, make_event(3, "2025-10"))
        assert [event.id for event in read(store, EventFilter(end_ms=ms("2025-11")))] == [make_id(1), make_id(3)]
