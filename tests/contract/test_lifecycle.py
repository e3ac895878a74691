"""Readers beside the writer, interrupts, and the ends of readers and stores."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.errors import TrackdError, Unavailable
from server.model import Dimension, EventFilter, Order
from server.storage.contract import Reader, Store
from tests.support.events import EVERYTHING, append, append_group, make_batch, make_event, read
from tests.support.homes import Home
from tests.support.population import populate

PATIENCE_S = 30


def _total(reader: Reader, as_of: int) -> int:
    (row,) = reader.count_events(EVERYTHING, (), as_of=as_of)
    return row.events


def test_an_interrupt_without_a_question_is_harmless(store: Store, reader: Reader) -> None:
    """Interrupting an idle reader, before its first question and between two, does nothing to later ones."""
    events = populate(store)
    for _ in range(3):
        reader.interrupt()
        assert _total(reader, store.head) == len(events)
        reader.interrupt()
        assert len(reader.list_events(EVERYTHING, Order.TIME_DESC, 9, after=None, as_of=store.head)) == 9


def test_an_interrupt_stops_the_question_that_runs(store: Store) -> None:
    """The running question raises INTERRUPTED soon; the reader, and others beside it, go on answering."""
    append(store, *(make_event(number, user_id=f"u{number}", tags=("a", "b")) for number in range(20_000)))
    reader, other, head = store.reader(), store.reader(), store.head
    stopped: list[TrackdError] = []

    def ask() -> None:
        until = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < until:
                reader.count_events(EventFilter(tags=("b",)), (Dimension.USER, Dimension.TYPE), as_of=head)
        except TrackdError as error:
            stopped.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        reader.interrupt()
        asking.join(0.002)
    (error,) = stopped
    assert isinstance(error, Unavailable)
    assert error.reason == "INTERRUPTED"
    assert _total(reader, head) == _total(other, head) == 20_000
    reader.close()
    other.close()


def test_readers_beside_the_writer_see_whole_groups(store: Store) -> None:
    """While groups are written, what a reader sees at a head is what was stored up to it, then and for ever."""
    done = threading.Event()
    seen: list[tuple[int, int, int]] = []

    def watch() -> None:
        reader = store.reader()
        try:
            while not done.is_set():
                head = store.head
                listed = reader.list_events(EVERYTHING, Order.TIME_ASC, 10_000, after=None, as_of=head)
                seen.append((head, _total(reader, head), len(listed)))
        finally:
            reader.close()

    with ThreadPoolExecutor(2) as pool:
        watchers = [pool.submit(watch) for _ in range(2)]
        try:
            for turn in range(1_000):
                months = ("2025-10", "2025-11", "2025-12")
                events = [make_event(turn * 9 + number, months[number % 3]) for number in range(9)]
                append_group(store, *(make_batch(*events[start : start + 3]) for start in (0, 3, 6)))
                if turn > 30 and len({head for head, _total, _listed in seen}) > 10:
                    break  # enough was watched
        finally:
            done.set()
        for watcher in watchers:
            watcher.result()
    stored_up_to = {0: 0} | {event.position: number + 1 for number, event in enumerate(read(store))}
    assert all(total == listed == stored_up_to[head] for head, total, listed in seen)
    assert all(total % 9 == 0 for _head, total, _listed in seen), "part of a group was seen"


def test_the_head_never_falls(store: Store) -> None:
    """Whatever is appended, the head stays or rises."""
    heads = [store.head]
    for number in range(20):
        append(store, make_event(number % 7, f"2025-{number % 3 + 1:02d}", user_id=f"u{number % 2}"))
        heads.append(store.head)
    assert heads == sorted(heads)
    assert len(set(heads)) > 7


def test_readers_can_be_many_and_close_twice(store: Store) -> None:
    """Several readers answer alike; closing one, once and again, leaves the others alone."""
    events = populate(store)
    readers = [store.reader() for _ in range(4)]
    for number, reader in enumerate(readers):
        assert [_total(one, store.head) for one in readers[number:]] == [len(events)] * (4 - number)
        reader.close()
        reader.close()


def test_a_reader_may_move_to_the_thread_that_uses_it(store: Store) -> None:
    """A reader that was made on one thread answers on another one that has it to itself."""
    events = populate(store)
    reader = store.reader()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_total, reader, store.head).result() == len(events)
        pool.submit(reader.close).result()


def test_a_store_closes_twice(home: Home) -> None:
    """Closing a store a second time does nothing, with events and without."""
    store = home.open()
    append(store, make_event(1))
    store.close()
    store.close()
    home.store = None
    if home.persists:
        assert len(read(home.open())) == 1


def test_a_batch_over_more_months_than_files_may_be_open(store: Store) -> None:
    """One sender with wild timestamps cannot use up the process's files: the batch is stored, and can be read."""
    events = [make_event(number, f"{2010 + number // 12}-{number % 12 + 1:02d}") for number in range(120)]
    with _few_more_files(80):
        assert append(store, *events).accepted == 120
        assert append(store, *events).duplicate == 120
        assert len(read(store)) == 120


@contextmanager
def _few_more_files(number: int) -> Iterator[None]:
    """Lets this process open so many files more than it has open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("idle", [True, False])
def test_upkeep_of_an_empty_store(store: Store, idle: bool) -> None:
    """Maintenance may come at any time, also before the first event and many times over."""
    for _ in range(3):
        store.maintain(idle=idle)
    append(store, make_event(1))
    for _ in range(3):
        store.maintain(idle=idle)
    assert len(read(store)) == 1


def test_check_beside_open_readers(store: Store, reader: Reader) -> None:
    """A store with readers open is looked over and found sound."""
    populate(store)
    assert _total(reader, store.head) == 150
    assert list(store.check()) == []
