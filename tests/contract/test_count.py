"""What counts promise: groups, totals, order and the cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, permutations

import pytest

from retention.month import Month
from server.model import Count, Dimension, Event, EventFilter
from server.storage.contract import Reader, Store
from tests.contract.test_list import FILTERS
from tests.support.events import EVERYTHING, append, make_event
from tests.support.population import populate

GROUPINGS = list(chain.from_iterable(permutations(Dimension, size) for size in range(5)))


def _key(event: Event, by: Sequence[Dimension]) -> tuple[str, ...]:
    parts = {
        Dimension.TYPE: event.type,
        Dimension.MONTH: str(Month.of(event.timestamp_ms)),
        Dimension.SOURCE: event.source,
        Dimension.USER: event.user_id,
    }
    return tuple(parts[dimension] for dimension in by)


def _recount(events: Sequence[Event], by: Sequence[Dimension]) -> list[Count]:
    counts = Counter(_key(event, by) for event in events)
    if not by:
        return [Count((), len(events))]
    return [Count(key, number) for key, number in sorted(counts.items())]


def test_every_grouping(store: Store, reader: Reader) -> None:
    """Each dimension alone, all together, and in every order: the groups that have events, ordered by key."""
    events = populate(store)
    for by in GROUPINGS:
        assert list(reader.count_events(EVERYTHING, by, as_of=store.head)) == _recount(events, by), by


@pytest.mark.parametrize("name", FILTERS)
def test_counts_of_a_filter(store: Store, reader: Reader, name: str) -> None:
    """Only matching events are counted; groups without any are absent."""
    where, matches = FILTERS[name]
    events = [event for event in populate(store) if matches(event)]
    for by in ((), (Dimension.TYPE,), (Dimension.USER, Dimension.MONTH), tuple(Dimension)):
        assert list(reader.count_events(where, by, as_of=store.head)) == _recount(events, by)


def test_counts_are_cut_at_their_position(store: Store, reader: Reader) -> None:
    """With as_of a count is what it was when that was the head, over all months."""
    events = populate(store)
    for cut in (0, events[0].position, events[70].position, events[71].position - 1, store.head, store.head + 9):
        kept = [event for event in events if event.position <= cut]
        for by in ((), (Dimension.MONTH,), (Dimension.SOURCE, Dimension.USER)):
            assert list(reader.count_events(EVERYTHING, by, as_of=cut)) == _recount(kept, by)


def test_positions_bound_a_count(store: Store, reader: Reader) -> None:
    """after_position and up_to_position bound counts as they bound lists."""
    events = populate(store)
    where = EventFilter(after_position=events[20].position, up_to_position=events[60].position)
    for by in ((), (Dimension.MONTH, Dimension.TYPE)):
        assert list(reader.count_events(where, by, as_of=store.head)) == _recount(events[21:61], by)
        assert list(reader.count_events(where, by, as_of=events[40].position)) == _recount(events[21:41], by)


def test_nothing_is_a_total_of_zero_and_no_groups(store: Store, reader: Reader) -> None:
    """Without events the total is a row with 0, and there are no groups: in an empty store and in a full one."""
    nowhere = EventFilter(types=("nothing",))
    for _ in range(2):
        assert list(reader.count_events(nowhere, (), as_of=store.head)) == [Count((), 0)]
        assert list(reader.count_events(EVERYTHING, (), as_of=0)) == [Count((), 0)]
        assert list(reader.count_events(nowhere, (Dimension.TYPE,), as_of=store.head)) == []
        assert list(reader.count_events(EVERYTHING, (Dimension.MONTH, Dimension.USER), as_of=0)) == []
        populate(store)


def test_groups_are_ordered_by_code_point(store: Store, reader: Reader) -> None:
    """Keys are ordered by the code points of their texts, the empty one first, over all months."""
    users = ["b", "a", "", "B", "é", "z", "\uffee", "👩", "aa", "10", "9"]
    append(store, *(make_event(number, f"2025-{number + 1:02d}", user_id=user) for number, user in enumerate(users)))
    rows = reader.count_events(EVERYTHING, (Dimension.USER,), as_of=store.head)
    assert [row.key for row in rows] == [
        (user,) for user in ["", "10", "9", "B", "a", "aa", "b", "z", "é", "\uffee", "👩"]
    ]


def test_a_group_is_summed_over_months(store: Store, reader: Reader) -> None:
    """A user with events in many months is one group, unless the month is asked for."""
    append(store, *(make_event(number, f"2025-{number % 12 + 1:02d}") for number in range(48)))
    assert list(reader.count_events(EVERYTHING, (Dimension.USER,), as_of=store.head)) == [Count(("ann",), 48)]
    by_month = reader.count_events(EVERYTHING, (Dimension.USER, Dimension.MONTH), as_of=store.head)
    assert list(by_month) == [Count(("ann", f"2025-{month:02d}"), 4) for month in range(1, 13)]


def test_duplicates_and_rejected_events_are_not_counted(store: Store, reader: Reader) -> None:
    """Counts are of stored events: neither repeats nor conflicts nor aborted batches show."""
    append(store, make_event(1), make_event(1), make_event(1, user_id="bob"))
    append(store, make_event(2), make_event(1, user_id="eve"), atomic=True)
    assert list(reader.count_events(EVERYTHING, (Dimension.USER,), as_of=store.head)) == [Count(("ann",), 1)]
