"""Derived data may be lost, damaged or old at any time: answers stay right, and it comes back by itself."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest
import structlog

from retention.month import Month
from server.config import Storage
from server.model import EventFilter, Order
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.storage.memory.store import MemoryStore
from server.storage.sqlite.index import boot, folder
from server.storage.sqlite.index.file import IndexFile
from server.storage.sqlite.store import SqliteStore
from tests.support.answers import rows
from tests.support.events import append, make_event, pages, positions
from tests.support.retaining import deed, seal

QUESTIONS = (
    Question((Metric(MetricKind.EVENTS), Metric(MetricKind.USERS)), (Bucket(BucketUnit.DAY), Field(FieldKind.TYPE))),
    Question((Metric(MetricKind.EVENTS),), (Field(FieldKind.USER),)),
    Question((Metric(MetricKind.EVENTS),), (Field(FieldKind.TAG), Bucket(BucketUnit.HOUR))),
)
FILTERS = (EventFilter(user_ids=("user-3",)), EventFilter(types=("type-1",)), EventFilter(tags=("urgent",)))


def populated(root: Path, months: tuple[str, ...] = ("2025-10", "2025-11")) -> MemoryStore:
    """A store of some hundred events whose index is complete; and the reference with the same events."""
    reference = MemoryStore()
    store = open_store(root)
    rng = random.Random(7)
    for turn in range(20):
        events = [
            make_event(
                turn * 100 + place,
                rng.choice(months),
                rng.randrange(20 * 86_400_000),
                type=f"type-{rng.randrange(4)}",
                user_id=f"user-{rng.randrange(20)}",
                tags=rng.choice([(), ("urgent",)]),
            )
            for place in range(40)
        ]
        append(store, *events)
        append(reference, *events)
    assert store.settle()
    store.close()
    return reference


def open_store(root: Path) -> SqliteStore:
    """The store under test."""
    return SqliteStore(root, Storage(disk_free_bytes_min=1), months_max=20)


def assert_same(store: SqliteStore, reference: MemoryStore) -> None:
    """Both give the same answers."""
    one, other = store.reader(), reference.reader()
    try:
        for mine, theirs in zip(one.aggregate(QUESTIONS).tables, other.aggregate(QUESTIONS).tables, strict=True):
            assert rows(mine) == rows(theirs)
        for where in FILTERS:
            for order in (Order.TIME_DESC, Order.POSITION_ASC):
                listed, expected = (
                    [positions(page) for page in pages(reader, where, order, 30, as_of=store.head)]
                    for reader in (one, other)
                )
                assert listed == expected
    finally:
        one.close()


def index_of(root: Path, month: str = "2025-10") -> Path:
    """The newest index of a month."""
    return max(root.glob(f"months/{month}/g0001/index-*.db"))


def removed(index: Path) -> None:
    """Somebody deleted it, and left its log."""
    index.unlink()


def all_removed(index: Path) -> None:
    """Somebody deleted it and what belongs to it."""
    for path in index.parent.glob(f"{index.name}*"):
        path.unlink()


def emptied(index: Path) -> None:
    """It has no bytes any more."""
    index.write_bytes(b"")
    index.with_name(f"{index.name}-wal").unlink(missing_ok=True)


def scribbled(index: Path) -> None:
    """Its first page is noise."""
    index.with_name(f"{index.name}-wal").unlink(missing_ok=True)
    index.write_bytes(b"\xa5" * 16_384 + index.read_bytes()[16_384:])


def cut_in_half(index: Path) -> None:
    """The second half is gone."""
    index.with_name(f"{index.name}-wal").unlink(missing_ok=True)
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2])


def of_another_month(index: Path) -> None:
    """It is the index of another month."""
    other = index_of(index.parents[3], "2025-11")
    for suffix in ("", "-wal"):
        source = other.with_name(other.name + suffix)
        target = index.with_name(index.name + suffix)
        target.unlink(missing_ok=True)
        if source.exists():
            shutil.copy(source, target)


@pytest.mark.parametrize("harm", [removed, all_removed, emptied, scribbled, cut_in_half, of_another_month])
def test_a_harmed_index_is_made_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """At the next start, without a wrong answer in between."""
    reference = populated(tmp_path)
    harm(index_of(tmp_path))
    store = open_store(tmp_path)
    try:
        assert_same(store, reference)
        assert store.settle()
        assert_same(store, reference)
        assert list(store.check()) == []
    finally:
        store.close()


@pytest.mark.parametrize(
    ("before", "closed", "after", "number"),
    [
        ("one", False, "one", 2),  # somebody copied the files one after the other
        ("one", False, "two", 2),
        ("one", True, "one", 1),
        ("one", True, "two", 1),
        ("", False, "", 1),  # a system without such a word syncs as it goes
    ],
)
def test_what_was_not_on_disk_when_the_machine_stopped_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, closed: bool, after: str, number: int
) -> None:
    """However whole it looks, and so is what was copied meanwhile. What a daemon puts on disk at its end stays."""
    monkeypatch.setattr(boot, "boot_id", lambda: before)
    reference = populated(tmp_path / "life")
    store = open_store(tmp_path / "life")
    late = [make_event(9_000 + place, "2025-10", place) for place in range(40)]
    append(store, *late)
    append(reference, *late)
    assert store.settle()
    if closed:
        store.close()
    shutil.copytree(tmp_path / "life", tmp_path / "found")
    store.close()
    monkeypatch.setattr(boot, "boot_id", lambda: after)
    store = open_store(tmp_path / "found")
    try:
        assert_same(store, reference)
        assert store.settle()
        assert_same(store, reference)
        assert list(store.check()) == []
    finally:
        store.close()
    assert index_of(tmp_path / "found").name == f"index-{number:04d}.db"
    assert index_of(tmp_path / "found", "2025-11").name == "index-0001.db"


def test_what_a_killed_daemon_has_indexed_is_used(tmp_path: Path) -> None:
    """As long as the machine runs."""
    code = (
        "import os, signal; from pathlib import Path; from tests.faults.test_index_damage import *\n"
        f"store = open_store(Path({str(tmp_path)!r}))\n"
        "append(store, *(make_event(place, '2025-10', place) for place in range(40)))\n"
        "assert store.settle()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert unsynced(index_of(tmp_path))
    store = open_store(tmp_path)
    try:
        append(store, make_event(99, "2025-10"))
        assert store.settle()
        assert list(store.check()) == []
    finally:
        store.close()
    assert index_of(tmp_path).name == "index-0001.db"
    assert not unsynced(index_of(tmp_path))


def test_an_index_that_is_left_alone_is_put_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an end of the daemon."""
    monkeypatch.setattr(folder, "SYNC_AFTER_S", 0.05)
    store = open_store(tmp_path)
    try:
        append(store, make_event(1, "2025-10"))
        assert store.settle()
        end = time.monotonic() + 10
        while unsynced(index_of(tmp_path)):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        store.close()


def test_nobody_looks_for_the_index_of_a_dropped_month(tmp_path: Path) -> None:
    """It was not on disk yet when it went: that is worth no warning when the daemon ends."""
    with structlog.testing.capture_logs() as logged, closing(open_store(tmp_path)) as store:
        append(store, make_event(1, "2025-10"), make_event(2, "2025-11"))
        assert store.settle()
        seal(store, Month(2025, 10))
        store.drop(Month(2025, 10), {}, deed("drop"))
    assert [entry for entry in logged if entry["log_level"] != "info"] == []


def unsynced(index: Path) -> str:
    """What it says of the start of the machine whose commits may be missing."""
    with closing(apsw.Connection(str(index))) as connection:
        return str(connection.execute("SELECT value FROM about WHERE key = 'unsynced'").get)


def test_any_page_may_be_damaged_while_it_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever page is noise: an answer is right or comes from elsewhere, and the index is replaced."""
    reference = populated(tmp_path / "whole")
    pages_of_index = 0
    for page in range(12):
        root = tmp_path / f"page-{page}"
        shutil.copytree(tmp_path / "whole", root)
        index = index_of(root)
        log = index.with_name(f"{index.name}-wal")
        assert log.exists()
        whole = bytearray(log.read_bytes())
        start = 32 + page * (24 + 16_384)
        if start >= len(whole):
            break
        pages_of_index += 1
        whole[start + 24 + 100 : start + 24 + 8_000] = b"\x5a" * 7_900
        log.write_bytes(whole)  # SQLite does not take frames whose sum is wrong: the log ends here
        store = open_store(root)
        try:
            assert_same(store, reference)
            assert store.settle()
            assert_same(store, reference)
            assert list(store.check()) == []
        finally:
            store.close()
    assert pages_of_index > 3


def test_an_index_that_is_ahead_of_its_month_is_not_believed(tmp_path: Path) -> None:
    """As after a month was put back from an older copy."""
    reference = populated(tmp_path)
    older = tmp_path / "older.db"
    month = tmp_path / "months/2025-10/g0001"
    shutil.copy(month / "events.db", older)
    store = open_store(tmp_path)
    append(store, make_event(50_000, "2025-10", type="type-1"))
    assert store.settle()
    store.close()
    shutil.copy(older, month / "events.db")
    store = open_store(tmp_path)
    try:
        assert_same(store, reference)
        assert store.settle()
        assert list(store.check()) == []
    finally:
        store.close()


def test_an_index_that_is_damaged_while_it_is_closed_loses_nothing(tmp_path: Path) -> None:
    """The folder finds it when it wants to add to it: the new one has what the old one had, and what is new."""
    reference = MemoryStore()
    store = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1, open_months_max=1), months_max=20)
    try:
        for number, month in enumerate(["2025-10", "2025-11", "2025-10"]):
            for place in (store, reference):
                append(place, *(make_event(number * 100 + one, month, one, user_id="user-3") for one in range(30)))
            if number < 2:
                assert store.settle()
            if number == 1:
                index = index_of(tmp_path)
                index.write_bytes(b"\xa5" * 16_384 + index.read_bytes()[16_384:])
        assert store.settle()
        assert_same(store, reference)
        assert list(store.check()) == []
    finally:
        store.close()


def test_an_index_that_cannot_be_written_does_not_hold_up_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its month is read from the events meanwhile, and indexed once that is possible again."""
    reference, store = MemoryStore(), open_store(tmp_path)
    broken = True
    create = IndexFile.create

    def failing(path: Path, month: Month, about: dict[str, object]) -> IndexFile:
        if broken:
            raise OSError(28, "no space left on the index's disk")
        return create(path, month, about)

    monkeypatch.setattr(IndexFile, "create", failing)
    monkeypatch.setattr("server.storage.sqlite.index.folder.RETRY_S", 0.05)
    try:
        for number in range(50):
            for where in (store, reference):
                append(where, make_event(number, "2025-10", number * 1000, type="type-1", user_id="user-3"))
        deadline = time.monotonic() + 10
        while store.tail_events and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not store.tail_events
        assert store.months_unindexed == 1
        assert_same(store, reference)
        broken = False
        assert store.settle()
        assert store.months_unindexed == 0
        assert_same(store, reference)
        assert list(store.check()) == []
    finally:
        store.close()


@pytest.mark.parametrize("harm", [removed, all_removed])
def test_an_index_that_is_lost_while_it_is_served_is_missed_by_nobody(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """What it has is known already, but it was never read: answers come from the events, and a new one is made."""
    reference = populated(tmp_path)
    store = open_store(tmp_path)
    try:
        assert store.settle()
        index = index_of(tmp_path)
        harm(index)
        assert_same(store, reference)
        assert store.settle()
        assert index_of(tmp_path) != index
        assert_same(store, reference)
        assert list(store.check()) == []
    finally:
        store.close()
