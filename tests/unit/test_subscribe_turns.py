"""The readers of subscribers: turns, shared pages, and readings that nobody wants any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NoReturn

import pytest

from server.errors import Corrupt, Unavailable
from server.observe import Observer
from server.storage.contract import Reader
from server.storage.memory.reader import MemoryReader
from server.storage.memory.records import MemoryRecords
from server.storage.memory.store import MemoryStore
from server.subscribe import turns as module
from server.subscribe.turns import Page, Turns

LONG_S = 10.0


def _nothing() -> NoReturn:
    raise AssertionError("not expected")


class Interruptible(MemoryReader):
    """A reader whose questions last until they are interrupted."""

    def __init__(self) -> None:
        super().__init__(
            lambda: 0, lambda _as_of: (), list, MemoryRecords(), ("UTC",), lambda _month, _holds: _nothing(), {}
        )
        self.stopped = threading.Event()

    def interrupt(self) -> None:
        """Ends the question that runs."""
        self.stopped.set()


class Store(MemoryStore):
    """Gives out such readers and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Interruptible] = []

    def reader(self) -> MemoryReader:
        """One more."""
        self.readers.append(Interruptible())
        return self.readers[-1]


@pytest.fixture
def store() -> Store:
    """A store whose readers tell what is done to them."""
    return Store()


@pytest.fixture
async def turns(store: Store) -> AsyncIterator[Turns]:
    """Two readers."""
    made = Turns(store, 2, Observer())
    yield made
    await made.close()


def page(number: int) -> Callable[[Reader], Page]:
    """A reading that gives a page at once."""
    return lambda _reader: Page(b"", 0, 0, number)


def endless(reader: Any) -> Page:
    """A reading that is over when it is interrupted."""
    assert reader.stopped.wait(LONG_S)
    raise Unavailable("INTERRUPTED", "stopped")


async def test_who_asks_for_the_same_gets_the_same_page(turns: Turns) -> None:
    """One reading for all of them, also for one who comes a moment later."""
    flights = [turns.join("a", page(number)) for number in range(5)]
    pages = [await flight.wait(LONG_S) for flight in flights]
    assert pages == [Page(b"", 0, 0, 0)] * 5
    for flight in flights:
        turns.leave("a", flight)
    assert await turns.join("a", page(9)).wait(LONG_S) == Page(b"", 0, 0, 0)
    assert await turns.join("b", page(9)).wait(LONG_S) == Page(b"", 0, 0, 9)


async def test_a_page_is_kept_for_a_moment_only(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for long, and not many of them: what is kept is memory, and may be erased meanwhile."""
    monkeypatch.setattr(module, "KEPT_S", 0.01)
    await turns.join("a", page(1)).wait(LONG_S)
    await asyncio.sleep(0.05)
    assert await turns.join("a", page(2)).wait(LONG_S) == Page(b"", 0, 0, 2)
    monkeypatch.setattr(module, "KEPT_S", LONG_S)
    for number in range(module.KEPT_PAGES + 1):
        await turns.join(number, page(number)).wait(LONG_S)
    assert await turns.join(0, page(77)).wait(LONG_S) == Page(b"", 0, 0, 77)
    assert await turns.join(module.KEPT_PAGES, page(77)).wait(LONG_S) == Page(b"", 0, 0, module.KEPT_PAGES)


async def test_a_failure_is_told_to_all_and_is_not_kept(turns: Turns) -> None:
    """Whoever asks next has another try."""

    def fail(_reader: Reader) -> Page:
        raise Corrupt("FILE_DAMAGED", "on purpose")

    flights = [turns.join("a", fail) for _ in range(2)]
    for flight in flights:
        with pytest.raises(Corrupt):
            await flight.wait(LONG_S)
    assert await turns.join("a", page(1)).wait(LONG_S) == Page(b"", 0, 0, 1)


async def test_a_reading_that_lasts_does_not_hold_its_subscriber(turns: Turns) -> None:
    """It can say something meanwhile, and ask again."""
    flight = turns.join("a", endless)
    assert await flight.wait(0.01) is None
    assert await flight.wait(0.01) is None


async def test_what_nobody_wants_is_stopped(turns: Turns, store: Store) -> None:
    """Not while one of two still waits. Its reader is free again afterwards, and the next one reads anew."""
    first, second = turns.join("a", endless), turns.join("a", endless)
    await first.wait(0.02)
    turns.leave("a", first)
    await asyncio.sleep(0.02)
    assert not any(reader.stopped.is_set() for reader in store.readers)
    turns.leave("a", second)
    assert await turns.join("a", page(3)).wait(LONG_S) == Page(b"", 0, 0, 3)
    assert sum(reader.stopped.is_set() for reader in store.readers) == 1
    assert await asyncio.gather(*(turns.run(lambda _reader: 1) for _ in range(6))) == [1] * 6


async def test_turns_are_taken_in_order(turns: Turns) -> None:
    """First come, first served; a cancelled one does not hold up those behind it."""
    busy = [turns.join(name, endless) for name in ("x", "y")]
    await busy[0].wait(0.02)
    order: list[int] = []

    def note(number: int, _reader: Reader) -> None:
        order.append(number)

    waiting = [asyncio.create_task(turns.run(partial(note, number))) for number in range(5)]
    await asyncio.sleep(0.01)
    waiting[2].cancel()
    turns.leave("x", busy[0])
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 3, 4]
