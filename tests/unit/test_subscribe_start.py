"""Beginning with a time of receipt: where that is, in how many questions, and what a clock that is set back does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from server.model import Event, EventFilter, Keyset, Order
from server.storage.contract import Reader, Store
from server.subscribe.missing import Missing
from server.subscribe.start import before_received
from tests.support.events import append_group, make_batch, make_event, positions, read
from tests.support.following import delivered, following, frames
from tests.support.homes import HOMES, Home
from tests.support.population import MONTHS
from tests.support.readers import Mute

START_MS = 1_764_000_000_000


@pytest.fixture(params=HOMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each engine."""
    home: Home = request.param(tmp_path / "data")
    yield home.open()
    home.finish()


class Counting(Mute):
    """Counts the questions."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.asked = 0

    def list_events(
        self, where: EventFilter, order: Order, limit: int, *, after: Keyset | None, as_of: int
    ) -> Sequence[Event]:
        """One more."""
        self.asked += 1
        return self._reader.list_events(where, order, limit, after=after, as_of=as_of)


def receive(store: Store, received_ms: int, first: int, count: int, chance: random.Random) -> None:
    """Stores events of any month as received at this time."""
    events = [make_event(first + n, chance.choice(MONTHS), n) for n in range(count)]
    append_group(store, make_batch(*events, received_ms=received_ms))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_first_event_received_then_or_later(store: Store, seed: int) -> None:
    """For times before all, after all, of batches and between them, over months that are filled in any order."""
    chance = random.Random(seed)
    for batch in range(40):
        receive(store, START_MS + 10 * batch, 100 * batch, chance.randrange(1, 30), chance)
    events = read(store)
    reader = Counting(store.reader())
    for received_ms in (0, START_MS, START_MS + 55, START_MS + 200, START_MS + 390, START_MS + 391):
        later = [event.position for event in events if event.received_ms >= received_ms]
        before = before_received(reader, Missing(store), received_ms, store.head)
        assert before == (later[0] - 1 if later else store.head)
    assert reader.asked < 6 * (len(MONTHS) + 5 * 12)


def test_after_a_clock_was_set_back_it_is_a_place_where_the_time_is_passed(store: Store) -> None:
    """The event there was received then or later, and what comes in front of it in its month was not."""
    chance = random.Random(1)
    for batch, received_ms in enumerate((0, 100, 200, 50, 150, 250)):
        receive(store, START_MS + received_ms, 100 * batch, 10, chance)
    reader = store.reader()
    before = before_received(reader, Missing(store), START_MS + 120, store.head)
    reader.close()
    found = next(event for event in read(store) if event.position > before)
    assert found.received_ms >= START_MS + 120


async def test_a_time_to_come_begins_with_what_is_received_then(store: Store) -> None:
    """What is received before it does not come, what follows the first one does, whatever the clock says."""
    chance = random.Random(1)
    async with following(store) as made:
        receive(store, START_MS, 0, 5, chance)
        subscription = await made.subscribe(received_ms=START_MS + 100)
        receive(store, START_MS + 50, 100, 5, chance)
        receive(store, START_MS + 100, 200, 5, chance)
        receive(store, START_MS + 60, 300, 5, chance)
        made.service.moved()
        got: list[int] = []
        while len(got) < 10:
            got += delivered(await frames(subscription, lambda _frame: True))
        assert got == positions(read(store))[10:]


async def test_a_time_of_the_past_is_a_position(store: Store) -> None:
    """The confirmation says which; everything behind it comes that matches."""
    chance = random.Random(2)
    for batch in range(10):
        receive(store, START_MS + batch, 100 * batch, 10, chance)
    async with following(store) as made:
        where = EventFilter(start_ms=make_event(0, MONTHS[1]).timestamp_ms)
        subscription = await made.subscribe(where, received_ms=START_MS + 4)
        got = await frames(subscription, lambda frame: type(frame).__name__ == "CaughtUp")
        wanted = [event.position for event in read(store, where) if event.received_ms >= START_MS + 4]
        assert delivered(got) == wanted
