"""Reading forward over months: everything that matches, once, in order, in bounded stretches, on every engine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from retention.month import Month
from server.errors import Corrupt
from server.model import Event, EventFilter, Keyset, Order
from server.storage.contract import Reader, Store
from server.storage.memory.store import MemoryStore
from server.subscribe import course
from server.subscribe.course import Course
from server.subscribe.missing import Missing
from tests.support.events import EVERYTHING, append, make_event, ms, positions, read
from tests.support.homes import HOMES, Home
from tests.support.population import MONTHS, TAGS, TYPES, USERS, populate
from tests.support.readers import Mute

SEEDS = range(12)


@pytest.fixture(params=HOMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each engine."""
    home: Home = request.param(tmp_path / "data")
    yield home.open()
    home.finish()


class Counting(Mute):
    """A reader that notes what it is asked, and finds some months damaged."""

    def __init__(self, reader: Reader, damaged: Sequence[str] = ()) -> None:
        self._reader = reader
        self._damaged = {Month.parse(month) for month in damaged}
        self.asked: list[Month] = []

    def list_events(
        self, where: EventFilter, order: Order, limit: int, *, after: Keyset | None, as_of: int
    ) -> Sequence[Event]:
        """Only ever about one month."""
        assert where.start_ms is not None
        assert where.end_ms is not None
        month = Month.of(where.start_ms)
        assert where.end_ms <= month.end_ms
        self.asked.append(month)
        if month in self._damaged:
            raise Corrupt("FILE_DAMAGED", "damaged on purpose")
        return self._reader.list_events(where, order, limit, after=after, as_of=as_of)


def run(walk: Course, reader: Reader, after: int, head: int) -> list[Event]:
    """Stretch by stretch up to the head; what it must never be fails the test."""
    found: list[Event] = []
    while after < head:
        stretch = walk.read(reader, after, head)
        assert after < stretch.through <= head
        assert all(after < event.position <= stretch.through for event in stretch.events)
        assert len(stretch.events) <= course.EVENTS_MAX
        found += stretch.events
        after = stretch.through
    assert positions(found) == sorted(positions(found))
    return found


def some_filter(chance: random.Random) -> EventFilter:
    """Any of the parts that a filter can have."""
    return EventFilter(
        start_ms=chance.choice((None, None, ms("2025-10"), ms("2025-11", 1))),
        end_ms=chance.choice((None, None, ms("2025-12"), ms("2025-12", 2))),
        types=tuple(chance.sample(TYPES, chance.choice((0, 1, 2)))),
        user_ids=tuple(chance.sample(USERS, chance.choice((0, 0, 1)))),
        tags=tuple(chance.sample(TAGS, chance.choice((0, 0, 1)))),
        after_position=chance.choice((None, 40)),
        up_to_position=chance.choice((None, 110)),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_that_matches_comes_once_and_in_order(
    store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the filter, the sizes of stretches, and how the head moves on meanwhile: what a list of all says."""
    chance = random.Random(seed)
    monkeypatch.setattr(course, "EVENTS_MIN", chance.choice((1, 3, 250)))
    monkeypatch.setattr(course, "EVENTS_MAX", 250)
    monkeypatch.setattr(course, "FETCH_EVENTS", chance.choice((1, 2, 100)))
    monkeypatch.setattr(course, "POSITIONS_MIN", chance.choice((1, 7, 10_000)))
    monkeypatch.setattr(course, "TEXT_MAX", chance.choice((1, 500, 1_000_000)))
    where = some_filter(chance)
    reader, walk = store.reader(), Course(where, Missing(store))
    found: list[Event] = []
    at = 0
    for part in range(4):
        for number in range(chance.choice((1, 20, 40))):
            content = {"type": chance.choice(TYPES), "user_id": chance.choice(USERS), "tags": (chance.choice(TAGS),)}
            event = make_event(1_000 * part + number, chance.choice(MONTHS), chance.choice((0, 5, -1)), **content)
            # The second time it is a duplicate and leaves a gap.
            append(store, *[event] * chance.choice((1, 2)))
        head = chance.randrange(at + 1, store.head + 1) if at < store.head else store.head
        found += run(walk, reader, at, head)
        at = head
    found += run(walk, reader, at, store.head)
    reader.close()
    assert found == read(store, where)


def test_a_stretch_ends_before_it_has_too_much_text(store: Store) -> None:
    """Huge events come in stretches of few, and one that is larger than a stretch may be comes alone."""
    text = '{"a":"' + "x" * (course.TEXT_MAX // 3) + '"}'
    append(store, *(make_event(n, MONTHS[n % 2], n, metadata=text) for n in range(10)))
    append(store, make_event(20, metadata='{"a":"' + "x" * (2 * course.TEXT_MAX) + '"}'), make_event(21))
    walk, reader = Course(EVERYTHING, Missing(store)), store.reader()
    sizes, at = [], 0
    while at < store.head:
        stretch = walk.read(reader, at, store.head)
        sizes.append(len(stretch.events))
        at = stretch.through
    reader.close()
    assert sum(sizes) == 12
    assert max(sizes) == 2
    assert sizes.count(1) >= 1


def test_a_month_is_asked_only_where_it_has_something(store: Store) -> None:
    """Months behind each other are read one by one; at the head only the month that moved is asked."""
    months = [f"{year}-{month:02d}" for year in (2024, 2025) for month in range(1, 13)]
    for number, month in enumerate(months):
        append(store, *(make_event(100 * number + n, month, n) for n in range(20)))
    reader = store.reader()
    counting, walk = Counting(reader), Course(EVERYTHING, Missing(store))
    assert len(run(walk, counting, 0, store.head)) == 480
    assert len(counting.asked) < 4 * len(months)
    head = store.head
    append(store, make_event(9_999, "2024-07"))
    counting.asked.clear()
    assert len(run(walk, counting, head, store.head)) == 1
    assert set(counting.asked) == {Month.parse("2024-07")}
    reader.close()


def test_a_sparse_filter_is_read_in_longer_and_longer_stretches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One match in thousands of positions takes a few stretches, not hundreds."""
    monkeypatch.setattr(course, "POSITIONS_MIN", 10)
    monkeypatch.setattr(course, "TURN_S", 1_000.0)
    append(store, *(make_event(n, user_id="rare" if n == 6_000 else "ann") for n in range(6_001)))
    reader, walk = store.reader(), Course(EventFilter(user_ids=("rare",)), Missing(store))
    at, stretches = 0, 0
    found: list[Event] = []
    while at < store.head:
        stretch = walk.read(reader, at, store.head)
        found += stretch.events
        at = stretch.through
        stretches += 1
    reader.close()
    assert [event.id for event in found] == [make_event(6_000).id]
    assert stretches <= 12


def test_a_month_that_turns_out_to_be_damaged_is_missed_alone() -> None:
    """It is asked twice, noted, and not asked again; the other months come whole."""
    store = MemoryStore()
    events = populate(store)
    missing = Missing(store)
    reader = Counting(store.reader(), damaged=["2025-11"])
    found = run(Course(EVERYTHING, missing), reader, 0, store.head)
    assert found == [event for event in events if Month.of(event.timestamp_ms) != Month.parse("2025-11")]
    assert reader.asked.count(Month.parse("2025-11")) == 2
    assert [str(month) for month, _reason in missing.behind(store.head, EVERYTHING)] == ["2025-11"]
    assert not list(missing.behind(0, EventFilter(end_ms=ms("2025-11"))))
