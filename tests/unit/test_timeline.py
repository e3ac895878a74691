"""The events of few users over many months: few steps, whatever was known of the files before."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from retention.month import Month
from server.config import Storage
from server.errors import StoreFailed
from server.model import EventFilter, MonthState, Order
from server.storage.memory.store import MemoryStore
from server.storage.sqlite.answers import timeline
from server.storage.sqlite.answers.lists import List
from server.storage.sqlite.answers.together import Together
from server.storage.sqlite.index import file, tail
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event, pages, positions

MONTHS = [f"2025-{number:02d}" for number in range(1, 13)]
USERS = [f"user-{number}" for number in range(30)]
ANN = EventFilter(user_ids=("user-3",))
FILTERS = (
    ANN,
    EventFilter(user_ids=("user-3", "user-4", "nobody")),
    EventFilter(user_ids=("user-5",), types=("type-1", "type-2"), sources=("tests",)),
    EventFilter(user_ids=("user-6",), start_ms=Month.parse("2025-03").start_ms + 5 * 86_400_000),
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteStore, MemoryStore]]:
    """Twelve months of events, all of them folded; and the reference with the same. Tests add to both alike."""
    root = tmp_path_factory.mktemp("timeline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "LOOKUP_ROWS", 16)
        store, reference = SqliteStore(root, Storage(disk_free_bytes_min=1), months_max=20), MemoryStore()
        rng = random.Random(5)
        for turn, month in enumerate(MONTHS):
            fill(rng, turn, month, store, reference)
        assert store.settle()
        yield store, reference
        store.close()


def fill(rng: random.Random, turn: int, month: str, *stores: SqliteStore | MemoryStore) -> None:
    """Some hundred events of a month for each store."""
    events = [
        make_event(
            turn * 1_000 + number,
            month,
            rng.randrange(20 * 86_400_000),
            type=f"type-{rng.randrange(4)}",
            user_id=rng.choice(USERS),
        )
        for number in range(150)
    ]
    for store in stores:
        append(store, *events)


def listed(
    store: SqliteStore | MemoryStore, where: EventFilter, order: Order, limit: int, *, as_of: int
) -> list[list[int]]:
    """The positions on the pages of a list."""
    reader = store.reader()
    try:
        return [positions(page) for page in pages(reader, where, order, limit, as_of=as_of)]
    finally:
        reader.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that this thread's connections, opened from now on, begin."""
    seen: list[str] = []
    mine = threading.get_ident()

    def trace(_cursor: apsw.Cursor, sql: str, _bindings: object) -> bool:
        if threading.get_ident() == mine:
            seen.append(sql)
        return True

    def hook(connection: apsw.Connection) -> None:
        connection.exec_trace = trace

    apsw.connection_hooks.append(hook)
    try:
        yield seen
    finally:
        apsw.connection_hooks.remove(hook)


def test_a_page_over_twelve_months_takes_two_statements(stores: tuple[SqliteStore, MemoryStore]) -> None:
    """One for the indexes and one for the events; each is a wait for the interpreter lock beside a busy writer."""
    store, _reference = stores
    with statements() as seen:
        reader = store.reader()
        reader.list_events(ANN, Order.TIME_DESC, 50, after=None, as_of=store.head)  # opens the files
        seen.clear()
        events = reader.list_events(ANN, Order.TIME_DESC, 50, after=None, as_of=store.head)
        reader.close()
    assert len({event.timestamp_ms // (31 * 86_400_000) for event in events}) > 6
    assert len(seen) == 2


def test_whoever_is_asked_about_the_statements_are_the_same_few(stores: tuple[SqliteStore, MemoryStore]) -> None:
    """To compile one over twelve months takes longer than to run it, and the driver keeps a hundred."""
    store, _reference = stores
    with statements() as seen:
        reader = store.reader()
        pages = [
            reader.list_events(EventFilter(user_ids=(user,)), Order.TIME_DESC, 50, after=None, as_of=store.head)
            for user in USERS
        ]
        reader.close()
    asked = [sql for sql in seen if "json_group_array(json_array(e.position" in sql or "(SELECT data FROM i" in sql]
    assert all(pages)
    assert len(asked) >= 2 * len(USERS)
    assert len(set(asked)) <= 8


@pytest.mark.parametrize("order", [Order.TIME_DESC, Order.TIME_ASC])
@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("limit", [7, 50, 1_000])
def test_a_list_is_that_of_the_reference(
    stores: tuple[SqliteStore, MemoryStore], where: EventFilter, order: Order, limit: int
) -> None:
    """Page after page, in both directions, cut anywhere."""
    store, reference = stores
    for as_of in (store.head, store.head // 2):
        assert listed(store, where, order, limit, as_of=as_of) == listed(reference, where, order, limit, as_of=as_of)


def test_a_reader_that_knew_the_files_sees_what_became_of_them(stores: tuple[SqliteStore, MemoryStore]) -> None:
    """New events, merged runs, removals, another generation, another index: what it has attached is never stale."""
    store, reference = stores
    reader = store.reader()
    rng = random.Random(6)

    def assert_same() -> None:
        expected = reference.reader().list_events(ANN, Order.TIME_DESC, 1_000, after=None, as_of=reference.head)
        found = reader.list_events(ANN, Order.TIME_DESC, 1_000, after=None, as_of=store.head)
        assert positions(found) == positions(expected)

    assert_same()
    fill(rng, 20, "2025-06", store, reference)
    assert_same()
    assert store.settle()
    assert_same()
    mine = reader.list_events(ANN, Order.TIME_DESC, 1_000, after=None, as_of=store.head)
    gone = [event.position for event in mine if event.timestamp_ms < Month.parse("2025-07").start_ms][:5]
    for position in gone:
        month = next(Month.of(event.timestamp_ms) for event in mine if event.position == position)
        for place in (store, reference):
            assert place.remove(month, [position]) == 1
        assert_same()
    assert store.settle()
    assert_same()
    for state in (MonthState.SEALED, MonthState.OPEN):
        store.fence(Month.parse("2025-02"))
        store.adopt(store.rebuild(Month.parse("2025-02"), state))
        assert_same()
    fill(rng, 30, "2025-02", store, reference)
    assert_same()
    assert store.settle()
    assert_same()
    store._derived.indexes.distrust(Month.parse("2025-09"), ValueError("a test"))  # noqa: SLF001  # as a page that is damaged does
    assert_same()
    assert store.settle()
    assert_same()
    reader.close()


def test_a_user_with_very_many_events_is_read_on_and_on(
    stores: tuple[SqliteStore, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a bound of chunks a page does not look at all of them at once; it is the same page."""
    store, reference = stores
    monkeypatch.setattr(timeline, "CHUNKS_MAX", 2)
    head = store.head
    assert listed(store, ANN, Order.TIME_DESC, 20, as_of=head) == listed(
        reference, ANN, Order.TIME_DESC, 20, as_of=head
    )


def by_month(*_arguments: object) -> None:
    """In place of the way month by month, for lists that must not need it."""
    pytest.fail("a list was made month by month")


@pytest.mark.parametrize(
    "small",
    [{"EVENTS": (2,)}, {"CHUNKS_MAX": 40}, {"MONTHS": (1, 2), "MONTHS_MAX": 2}, {"PROMISE": 0}, {"FEW_CHUNKS": 0}],
)
def test_a_page_is_the_same_however_little_fits_a_statement(
    stores: tuple[SqliteStore, MemoryStore], monkeypatch: pytest.MonkeyPatch, small: dict[str, object]
) -> None:
    """More events of a month than there is room for, more room than chunks may have, months one by one."""
    store, reference = stores
    for name, value in small.items():
        monkeypatch.setattr(timeline, name, value)
    head = store.head
    for user in USERS:
        where = EventFilter(user_ids=(user,))
        expected = listed(reference, where, Order.TIME_DESC, 40, as_of=head)
        with monkeypatch.context() as patch:
            patch.setattr(List, "month", by_month)
            assert listed(store, where, Order.TIME_DESC, 40, as_of=head) == expected


def test_events_that_are_not_folded_are_found_by_their_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several blocks and months, above the watermark of each."""
    monkeypatch.setattr(tail, "BLOCK_ROWS", 64)
    store, reference = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), months_max=20), MemoryStore()
    rng = random.Random(8)
    assert store.settle()
    for turn in range(12):
        fill(rng, turn, MONTHS[turn % 3], store, reference)
        for where in FILTERS[:3]:
            found = listed(store, where, Order.TIME_ASC, 10, as_of=store.head)
            assert found == listed(reference, where, Order.TIME_ASC, 10, as_of=store.head)
    store.close()


def made(path: Path) -> Path:
    """A file with one row."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (name TEXT)")
    connection.execute("INSERT INTO t VALUES (?)", (path.name,))
    connection.close()
    return path


def test_no_more_files_are_attached_than_allowed(tmp_path: Path) -> None:
    """Those asked last stay; a name that means another file now is attached anew."""
    files = [made(tmp_path / f"{number}.db") for number in range(5)]
    together = Together(files_max=3, cache_bytes=1 << 20)

    def names() -> list[str]:
        found = together.connection.execute("PRAGMA database_list").fetchall()
        return sorted({str(name) for _number, name, _path in found} - {"main", "temp"})

    together.having({f"f{number}": (files[number], False) for number in (0, 1, 2)})
    together.having({"f1": (files[1], False), "f3": (files[3], False)})
    assert names() == ["f1", "f2", "f3"]
    connection = together.having({"f1": (files[4], True), "f2": (files[2], False)})
    assert connection.execute("SELECT name FROM f1.t").get == "4.db"
    assert names() == ["f1", "f2", "f3"]
    with pytest.raises(apsw.ReadOnlyError):
        connection.execute("DELETE FROM f2.t")
    with pytest.raises(ValueError, match="4 files at once; at most 3"):
        together.having({f"f{number}": (files[number], False) for number in range(4)})
    together.connection.close()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """An index that was removed a moment ago must not come back empty."""
    together = Together(files_max=3, cache_bytes=1 << 20)
    for immutable in (False, True):
        with pytest.raises(StoreFailed, match="unable to open"):
            together.having({"f": (tmp_path / "gone.db", immutable)})
    assert list(tmp_path.iterdir()) == []
    together.connection.close()
