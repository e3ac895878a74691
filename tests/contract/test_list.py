"""What lists promise: order, pages, filters and the cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from retention.month import Month
from server.model import Event, EventFilter, Keyset, Order
from server.storage.contract import Reader, Store
from server.storage.memory.store import MemoryStore
from tests.support.events import EVERYTHING, append, make_event, ms, pages, positions, read
from tests.support.population import populate

PLACES: dict[Order, Callable[[Event], tuple[int, ...]]] = {
    Order.TIME_ASC: lambda event: (event.timestamp_ms, event.position),
    Order.TIME_DESC: lambda event: (-event.timestamp_ms, -event.position),
    Order.POSITION_ASC: lambda event: (event.position,),
    Order.POSITION_DESC: lambda event: (-event.position,),
}

START, END = ms("2025-10", 1), ms("2025-12", 86_400_000)

FILTERS: dict[str, tuple[EventFilter, Callable[[Event], bool]]] = {
    "everything": (EVERYTHING, lambda event: True),
    "start": (EventFilter(start_ms=START), lambda event: event.timestamp_ms >= START),
    "end": (EventFilter(end_ms=END), lambda event: event.timestamp_ms < END),
    "start and end": (EventFilter(start_ms=START, end_ms=END), lambda event: START <= event.timestamp_ms < END),
    "a month": (
        EventFilter(start_ms=ms("2025-11"), end_ms=ms("2025-12")),
        lambda event: Month.of(event.timestamp_ms) == (2025, 11),
    ),
    "one millisecond": (EventFilter(start_ms=START, end_ms=START + 1), lambda event: event.timestamp_ms == START),
    "no time": (EventFilter(start_ms=START, end_ms=START), lambda event: False),
    "time backwards": (EventFilter(start_ms=END, end_ms=START), lambda event: False),
    "before all": (EventFilter(end_ms=ms("2025-09")), lambda event: False),
    "behind all": (EventFilter(start_ms=ms("2026-02")), lambda event: False),
    "type": (EventFilter(types=("pr_opened",)), lambda event: event.type == "pr_opened"),
    "types": (
        EventFilter(types=("pr_opened", "pr_merged", "pr_opened")),
        lambda event: event.type in ("pr_opened", "pr_merged"),
    ),
    "unknown type": (EventFilter(types=("nothing",)), lambda event: False),
    "known and unknown type": (EventFilter(types=("nothing", "pr_opened")), lambda event: event.type == "pr_opened"),
    "user": (EventFilter(user_ids=("李雷",)), lambda event: event.user_id == "李雷"),
    "users": (EventFilter(user_ids=("ann", "bob", "zoe")), lambda event: event.user_id in ("ann", "bob")),
    "no user": (EventFilter(user_ids=("",)), lambda event: event.user_id == ""),
    "user or none": (EventFilter(user_ids=("", "ann")), lambda event: event.user_id in ("", "ann")),
    "unknown user": (EventFilter(user_ids=("Ann",)), lambda event: False),
    "source": (EventFilter(sources=("ci",)), lambda event: event.source == "ci"),
    "sources": (EventFilter(sources=("ci", "web", "x")), lambda event: event.source in ("ci", "web")),
    "unknown source": (EventFilter(sources=("x",)), lambda event: False),
    "session": (EventFilter(session_ids=("s-1",)), lambda event: event.session_id == "s-1"),
    "no session": (EventFilter(session_ids=("",)), lambda event: event.session_id == ""),
    "sessions": (EventFilter(session_ids=("s-2", "s-1")), lambda event: event.session_id != ""),
    "tag": (EventFilter(tags=("backend",)), lambda event: "backend" in event.tags),
    "tags": (EventFilter(tags=("ui", "auth")), lambda event: not {"ui", "auth"}.isdisjoint(event.tags)),
    "part of a tag": (EventFilter(tags=("end", "%")), lambda event: False),
    "together": (
        EventFilter(START, END, ("pr_opened", "pr_merged"), ("ann", ""), ("ci", "web"), ("", "s-1"), ("auth", "ui")),
        lambda event: (
            START <= event.timestamp_ms < END
            and event.type in ("pr_opened", "pr_merged")
            and event.user_id in ("ann", "")
            and event.source in ("ci", "web")
            and event.session_id in ("", "s-1")
            and not {"auth", "ui"}.isdisjoint(event.tags)
        ),
    ),
}


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize(("where", "matches"), FILTERS.values(), ids=FILTERS)
def test_a_filter_selects(store: Store, order: Order, where: EventFilter, matches: Callable[[Event], bool]) -> None:
    """Exactly the matching events are listed, in the order asked for."""
    events = populate(store)
    expected = sorted(filter(matches, events), key=PLACES[order])
    assert read(store, where, order) == expected


def test_the_filters_select_something() -> None:
    """Every filter above that can match does match some of the events and leaves out others: none is idle."""
    events = populate(MemoryStore())
    idle = {name for name, (_where, matches) in FILTERS.items() if not any(map(matches, events))}
    assert idle == {
        "no time",
        "time backwards",
        "before all",
        "behind all",
        "unknown type",
        "unknown user",
        "unknown source",
        "part of a tag",
    }
    assert [name for name, (_where, matches) in FILTERS.items() if all(map(matches, events))] == ["everything"]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("limit", [1, 7, 149, 150, 10_000])
def test_pages_put_together_are_the_list(store: Store, reader: Reader, order: Order, limit: int) -> None:
    """Pages are full but for the last, and together are the whole list once, also among equal times."""
    events = sorted(populate(store), key=PLACES[order])
    found = list(pages(reader, EVERYTHING, order, limit, as_of=store.head))
    assert [event for page in found for event in page] == events
    assert all(len(page) == limit for page in found[:-1])


@pytest.mark.parametrize("order", Order)
def test_pages_of_a_filter(store: Store, reader: Reader, order: Order) -> None:
    """Paging goes on at the right place where a filter leaves gaps and whole months out."""
    events = populate(store)
    where, matches = FILTERS["together"]
    found = list(pages(reader, where, order, 2, as_of=store.head))
    assert [event for page in found for event in page] == sorted(filter(matches, events), key=PLACES[order])


@pytest.mark.parametrize("order", Order)
def test_a_page_begins_behind_any_place(store: Store, reader: Reader, order: Order) -> None:
    """A keyset need not be that of a listed event: the list goes on strictly behind it, in time and position."""
    events = sorted(populate(store), key=PLACES[order])
    somewhere = events[70]
    places = [
        Keyset(somewhere.timestamp_ms, somewhere.position),
        Keyset(somewhere.timestamp_ms, 0),
        Keyset(somewhere.timestamp_ms, store.head + 5),
        Keyset(somewhere.timestamp_ms - 1, somewhere.position),
        Keyset(ms("2025-11", 700), 40),
        Keyset(0, somewhere.position),
        Keyset(ms("2030-01"), somewhere.position),
    ]
    for after in places:
        sign = -1 if order.descending else 1
        place = (sign * after.timestamp_ms, sign * after.position) if order.by_time else (sign * after.position,)
        expected = [event for event in events if PLACES[order](event) > place]
        assert list(reader.list_events(EVERYTHING, order, 1_000, after=after, as_of=store.head)) == expected


@pytest.mark.parametrize("order", Order)
def test_position_decides_between_equal_times(store: Store, order: Order) -> None:
    """Events of one instant come in commit order, or turned round where the list is descending."""
    append(store, *(make_event(number, "2025-11", 5) for number in (5, 1, 4)))
    append(store, *(make_event(number, "2025-11", 5) for number in (3, 2)))
    numbers = [int.from_bytes(event.id, "big") for event in read(store, order=order)]
    assert numbers == ([2, 3, 4, 1, 5] if order.descending else [5, 1, 4, 3, 2])


@pytest.mark.parametrize("order", Order)
def test_a_list_is_cut_at_its_position(store: Store, reader: Reader, order: Order) -> None:
    """With as_of a list is what it was when that was the head, whatever came later: late events, other months."""
    events = populate(store)
    for cut in (0, events[0].position, events[37].position, events[38].position - 1, store.head, store.head + 100):
        expected = sorted((event for event in events if event.position <= cut), key=PLACES[order])
        assert list(reader.list_events(EVERYTHING, order, 1_000, after=None, as_of=cut)) == expected


def test_pages_do_not_see_what_comes_between_them(store: Store, reader: Reader) -> None:
    """A list whose pages are cut at one position is not disturbed by events that arrive while it is paged through."""
    before = sorted(populate(store), key=PLACES[Order.TIME_DESC])
    cut, found = store.head, []
    for number, page in enumerate(pages(reader, EVERYTHING, Order.TIME_DESC, 20, as_of=cut)):
        found += page
        append(store, make_event(10_000 + number, "2025-09"), make_event(20_000 + number, "2026-01", -1))
    assert found == before


def test_positions_as_filter(store: Store) -> None:
    """after_position is exclusive, up_to_position inclusive; together, with as_of and with time they all hold."""
    events = populate(store)
    places = positions(events)
    low, high = places[40], places[90]
    assert positions(read(store, EventFilter(after_position=low))) == places[41:]
    assert positions(read(store, EventFilter(up_to_position=high))) == places[:91]
    assert positions(read(store, EventFilter(after_position=low, up_to_position=high))) == places[41:91]
    assert positions(read(store, EventFilter(up_to_position=high), as_of=low)) == places[:41]
    assert positions(read(store, EventFilter(after_position=low), as_of=high)) == places[41:91]
    assert read(store, EventFilter(after_position=high, up_to_position=low)) == []
    assert read(store, EventFilter(after_position=store.head)) == []
    both = EventFilter(start_ms=START, end_ms=END, after_position=low, up_to_position=high, types=("pr_opened",))
    assert read(store, both) == [
        event for event in events[41:91] if START <= event.timestamp_ms < END and event.type == "pr_opened"
    ]


def test_a_new_event_is_listed_at_once(store: Store, reader: Reader) -> None:
    """A reader that was opened before an append, and before its month, lists it at the new head."""
    assert list(reader.list_events(EVERYTHING, Order.TIME_DESC, 5, after=None, as_of=store.head)) == []
    for number, month in enumerate(("2025-11", "2025-11", "2025-12", "2024-01")):
        append(store, make_event(number, month, user_id=f"new-{number}", type=f"new-{number}"), source=f"new-{number}")
        where = EventFilter(user_ids=(f"new-{number}",), types=(f"new-{number}",), sources=(f"new-{number}",))
        assert len(reader.list_events(where, Order.TIME_DESC, 5, after=None, as_of=store.head)) == 1


def test_many_values_in_a_filter(store: Store) -> None:
    """A part with a thousand values matches any of them."""
    append(store, *(make_event(number, user_id=f"u{number}", tags=(f"t{number}",)) for number in range(50)))
    users = tuple(f"u{number}" for number in range(25, 1_025))
    tags = tuple(f"t{number}" for number in range(0, 1_000, 2))
    assert len(read(store, EventFilter(user_ids=users))) == 25
    assert len(read(store, EventFilter(user_ids=users, tags=tags))) == 12
