"""The cut: readers that race with appends, folds, merges and removals see each event exactly once, always."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from retention.month import Month
from server.config import Storage
from server.model import EventFilter, MonthState, Order
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.storage.contract import Reader
from server.storage.sqlite.index import building, file, folder, tail
from server.storage.sqlite.store import SqliteStore
from tests.support.events import Sent, append, append_group, make_batch, make_event, pages

SECONDS = float(os.environ.get("TRACKD_CUT_SECONDS", "4"))
SEED = int(os.environ.get("TRACKD_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
QUIET_MONTH = Month(2025, 8)
"""Takes no events; it is sealed and opened again all the time."""
MONTHS = ("2025-09", "2025-10", "2025-11")
USERS = [f"user-{number}" for number in range(50)]
TYPES = ["pr_opened", "pr_merged", "review_submitted"]

EVENTS, DISTINCT = Metric(MetricKind.EVENTS), Metric(MetricKind.USERS)
QUESTIONS = (
    Question((EVENTS, DISTINCT)),
    Question((EVENTS, DISTINCT), (Bucket(BucketUnit.DAY), Field(FieldKind.TYPE))),
    Question((EVENTS,), (Bucket(BucketUnit.HOUR), Field(FieldKind.SOURCE))),
    Question((EVENTS,), (Field(FieldKind.USER),)),
    Question((EVENTS,), (Field(FieldKind.TAG),)),
)


@dataclass
class History:
    """What the writer has done, for whoever has to judge an answer. Only grows."""

    positions: list[int] = field(default_factory=list)
    """Of stored events, rising."""
    removals: list[list[int]] = field(default_factory=list)
    """The positions that each removal took, in their order; noted before it begins."""
    done: int = 0
    """How many removals have returned."""


def allowed(history: History, as_of: int, before: int, after: int) -> set[int]:
    """What an answer may count that began when `before` removals had ended and ended when `after` had begun."""
    stored = sum(position <= as_of for position in history.positions)
    gone = [sum(position <= as_of for position in removal) for removal in history.removals[:after]]
    return {stored - sum(gone[:number]) for number in range(before, after + 1)}


def watch(reader: Reader, history: History, store: SqliteStore, stop: threading.Event) -> int:
    """Asks until it is told to stop; how often it did."""
    asked = 0
    try:
        while not stop.is_set():
            before = history.done
            known = store.head
            answer = reader.aggregate(QUESTIONS)
            after = len(history.removals)
            while not stop.is_set() and (not history.positions or history.positions[-1] < answer.as_of):
                time.sleep(0.001)  # the writer notes positions after the group
            if stop.is_set():
                return asked
            assert answer.as_of >= known, "an acknowledged event is missing"
            totals = [sum(table.values[0]) for table in answer.tables]  # type: ignore[arg-type]
            assert len(set(totals)) == 1, f"one cut, several totals: {totals}"
            assert totals[0] in allowed(history, answer.as_of, before, after)
            before = history.done
            listed = sum(
                len(page)
                for page in pages(reader, EventFilter(types=("pr_merged",)), Order.TIME_DESC, 300, as_of=known)
            ) + sum(
                len(page)
                for page in pages(
                    reader, EventFilter(types=("pr_opened", "review_submitted")), Order.TIME_ASC, 300, as_of=known
                )
            )
            of_everybody = EventFilter(user_ids=tuple(USERS))
            by_user = sum(len(page) for page in pages(reader, of_everybody, Order.TIME_DESC, 300, as_of=known))
            after = len(history.removals)
            if before == after:
                assert listed in allowed(history, known, before, after)
                assert by_user in allowed(history, known, before, after)
            asked += 1
    finally:
        reader.close()
    return asked


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """A store that folds a few events at a time and merges eagerly."""
    monkeypatch.setattr(tail, "BLOCK_ROWS", 16)
    monkeypatch.setattr(file, "CHUNK_ROWS", 16)
    monkeypatch.setattr(file, "LOOKUP_ROWS", 8)
    monkeypatch.setattr(building, "PIECE_ROWS", 40)
    monkeypatch.setattr(folder, "PARTIAL_AFTER_S", 0.01)
    monkeypatch.setattr(folder, "TICK_S", 0.005)
    monkeypatch.setattr(folder, "MERGE_RUNS", 3)
    opened = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1, tail_events_max=256), months_max=10)
    yield opened
    opened.close()


def some_events(rng: random.Random, number: int) -> Iterator[Sent]:
    """A few events of any month, some with a tag."""
    for place in range(rng.randrange(1, 30)):
        yield make_event(
            number * 100 + place,
            rng.choice(MONTHS),
            rng.randrange(28 * 86_400_000),
            type=rng.choice(TYPES),
            user_id=rng.choice(USERS),
            tags=rng.choice([(), (), ("urgent",)]),
        )


def rotate(store: SqliteStore, writing: threading.Lock, stop: threading.Event) -> int:
    """Seals a month and opens it again, until it is told to stop; how often it did. The writer's calls are locked."""
    turns = 0
    while not stop.is_set():
        with writing:
            store.fence(QUIET_MONTH)
        for state in (MonthState.SEALED, MonthState.OPEN):
            rebuilt = store.rebuild(QUIET_MONTH, state)
            with writing:
                store.adopt(rebuilt)
        turns += 1
    return turns


def test_readers_race_with_everything(store: SqliteStore) -> None:
    """Several questions at one cut agree with each other and with what the writer had done by then."""
    rng = random.Random(SEED)
    history, stop, writing = History(), threading.Event(), threading.Lock()
    live: dict[str, list[int]] = {month: [] for month in MONTHS}
    quiet = append(store, *(make_event(number, str(QUIET_MONTH), number, user_id="user-1") for number in range(40)))
    assert quiet.first_position is not None
    history.positions += range(quiet.first_position, quiet.first_position + 40)
    with ThreadPoolExecutor(4) as pool:
        watchers = [pool.submit(watch, store.reader(), history, store, stop) for _ in range(3)]
        rotating = pool.submit(rotate, store, writing, stop)
        try:
            end = time.monotonic() + SECONDS
            turn = 0
            while time.monotonic() < end and not any(one.done() for one in (*watchers, rotating)):
                turn += 1
                with writing:
                    batches = [make_batch(*some_events(rng, turn * 4 + part)) for part in range(rng.randrange(1, 4))]
                    for batch, appended in zip(batches, append_group(store, *batches), strict=True):
                        assert appended.first_position is not None
                        for row, stamp in enumerate(batch.timestamps_ms):
                            live[str(Month.of(stamp))].append(appended.first_position + row)
                        history.positions += range(appended.first_position, appended.first_position + len(batch))
                    if rng.random() < 0.15:
                        month = rng.choice(MONTHS)
                        gone = rng.sample(live[month], min(len(live[month]), rng.randrange(1, 20)))
                        live[month] = [position for position in live[month] if position not in set(gone)]
                        history.removals.append(gone)
                        assert store.remove(Month.parse(month), gone) == len(gone)
                        history.done += 1
                    store.maintain(idle=False)
        finally:
            stop.set()
        assert rotating.result(), f"seed {SEED}: no month was rotated"
        asked = [watcher.result() for watcher in watchers]
    assert all(asked), f"seed {SEED}: nobody asked anything"
    assert store.settle(), "derived data does not catch up"
    assert list(store.check()) == [], f"seed {SEED}"
