"""Invariant I3: index(watermark, removals) + tail - pending removals == recount of the truth, at every moment.

Random histories in which folding is done step by step, between any two appends, removals, crashes and losses of an
index; after every step the store answers as the reference does, and `check` finds nothing.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retention.month import Month
from server.config import Storage
from server.model import Dimension, EventFilter, Order
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, OneOf, Question
from server.storage.factory import check_data
from server.storage.memory.store import MemoryStore
from server.storage.sqlite.index import building, file, folder, tail
from server.storage.sqlite.store import SqliteStore
from tests.support.answers import rows
from tests.support.events import Sent, append, make_event, pages, read, sent_part

EXAMPLES = int(os.environ.get("TRACKD_MODEL_EXAMPLES", "15"))
MONTHS = ("2025-10", "2025-11", "2026-01")
TYPE, USER, TAG = Field(FieldKind.TYPE), Field(FieldKind.USER), Field(FieldKind.TAG)
KEY = Field(FieldKind.METADATA, "k")
EVENTS, USERS = Metric(MetricKind.EVENTS), Metric(MetricKind.USERS)
QUESTIONS = (
    Question((EVENTS, USERS)),
    Question((EVENTS, USERS), (Bucket(BucketUnit.DAY), TYPE)),
    Question((USERS,), (Bucket(BucketUnit.WEEK),), time_zone="Europe/Berlin"),
    Question((EVENTS, USERS), (Bucket(BucketUnit.DAY),), time_zone="Asia/Kathmandu"),
    Question((EVENTS,), (Bucket(BucketUnit.HOUR), Field(FieldKind.SOURCE)), OneOf(TYPE, ("type-1",))),
    Question((EVENTS, USERS), (TAG,)),
    Question((EVENTS,), (USER,)),
    Question((EVENTS, USERS), (KEY,), OneOf(TYPE, ("type-0",))),
)
FILTERS = (EventFilter(user_ids=("user-1",)), EventFilter(types=("type-0",)), EventFilter(tags=("a",)), EventFilter())

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "late", "again", "remove", "fold", "fold", "crash", "lose"]),
        st.integers(0, 1 << 16),
    ),
    min_size=4,
    max_size=24,
)


@dataclass
class World:
    """The store under test, the reference, and the folder whose thread does not run."""

    root: Path
    folders: list[folder.Folder]
    reference: MemoryStore = field(default_factory=MemoryStore)
    store: SqliteStore = field(init=False)
    crashes: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self.open(self.root / "0")
        for one in (self.store, self.reference):
            one.register_type("type-0", "", 1, dimensions=("k",))

    def open(self, path: Path) -> None:
        """Opens the store at a place."""
        zones = ("Europe/Berlin",)
        self.store = SqliteStore(path, Storage(disk_free_bytes_min=1, reporting_time_zones=zones), months_max=9)
        self.path = path

    def append(self, number: int) -> None:
        """A few new events of any month."""
        rng = random.Random(number)
        events = []
        for _ in range(rng.randrange(1, 12)):
            self.sent += 1
            events.append(self.event(self.sent, rng))
        self.tell(*events)

    def late(self, number: int) -> None:
        """One event of the oldest month."""
        self.sent += 1
        self.tell(make_event(self.sent, MONTHS[0], number * 1_000, type="type-1", user_id="user-1", tags=("a", "b")))

    def again(self, number: int) -> None:
        """Events that are there already, and one new one between them."""
        self.sent += 1
        repeated = [sent_part(event) for event in read(self.reference)[-4:]]
        self.tell(*repeated, self.event(self.sent, random.Random(number)))

    @staticmethod
    def event(number: int, rng: random.Random) -> Sent:
        """One event."""
        return make_event(
            number,
            rng.choice(MONTHS),
            rng.randrange(40) * 3_600_000 * 17,
            type=f"type-{rng.randrange(3)}",
            user_id=rng.choice(["", "user-1", "user-2", f"user-{rng.randrange(50)}"]),
            tags=rng.choice([(), ("a",), ("b", "a", "b")]),
            metadata=rng.choice(["", '{"k": "x"}', '{"k": 7}', '{"j": 1}']),
        )

    def tell(self, *events: Sent) -> None:
        """Appends the same to both, which must say the same."""
        one, other = (append(where, *events) for where in (self.store, self.reference))
        assert (one.accepted, one.duplicate, one.rejected) == (other.accepted, other.duplicate, other.rejected)

    def remove(self, number: int) -> None:
        """Some events of one month."""
        rng = random.Random(number)
        month = Month.parse(rng.choice(MONTHS))
        mine = [event.id for event in read(self.reference) if Month.of(event.timestamp_ms) == month]
        gone = set(rng.sample(mine, min(len(mine), rng.randrange(4))))
        for where in (self.store, self.reference):
            # After a crash the two give out different positions.
            places = [event.position for event in read(where) if event.id in gone]
            assert where.remove(month, places) == len(gone)

    def fold(self, number: int) -> None:
        """Some steps of the folder, and the writer's upkeep behind them."""
        for _ in range(number % 5):
            self.folders[-1].step()
        if number % 2:
            self.store.maintain(idle=True)

    def crash(self, _number: int) -> None:
        """What is on disk now is what the next process finds."""
        self.crashes += 1
        copy = self.root / str(self.crashes)
        shutil.copytree(self.path, copy)
        self.store.close()
        self.open(copy)

    def lose(self, number: int) -> None:
        """An index is gone at the next start."""
        self.crash(number)
        self.store.close()
        found = sorted(self.path.glob("months/*/g0001/index-*.db"))
        if found:
            found[number % len(found)].unlink()
        self.open(self.path)

    def compare(self) -> None:
        """All questions have the same answers."""
        assert self.store.head >= self.reference.head or self.crashes
        one, other = self.store.reader(), self.reference.reader()
        try:
            answers = (reader.aggregate(QUESTIONS).tables for reader in (one, other))
            for question, mine, theirs in zip(QUESTIONS, *answers, strict=True):
                assert rows(mine) == rows(theirs), question
            for where in FILTERS:
                for order in (Order.TIME_DESC, Order.TIME_ASC, Order.POSITION_ASC):
                    lists = [
                        [[event.id for event in page] for page in pages(reader, where, order, 7, as_of=store.head)]
                        for reader, store in ((one, self.store), (other, self.reference))
                    ]
                    assert lists[0] == lists[1], (where, order)
            counts = [
                reader.count_events(EventFilter(), [Dimension.TYPE], as_of=self.store.head) for reader in (one, other)
            ]
            assert list(counts[0]) == list(counts[1])
        finally:
            one.close()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_derived_data_equals_a_recount(
    steps: list[Step], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happened, in whatever state folding is."""
    folders: list[folder.Folder] = []
    monkeypatch.setattr(folder.Folder, "start", lambda self: folders.append(self))  # noqa: PLW0108  # a plain method has no self
    monkeypatch.setattr(folder, "PARTIAL_AFTER_S", 0.0)
    monkeypatch.setattr(folder, "RETRY_S", 0.0)
    monkeypatch.setattr(folder, "MERGE_RUNS", 3)
    monkeypatch.setattr(tail, "BLOCK_ROWS", 8)
    monkeypatch.setattr(file, "CHUNK_ROWS", 4)
    monkeypatch.setattr(file, "LOOKUP_ROWS", 3)
    monkeypatch.setattr(building, "PIECE_ROWS", 10)
    world = World(tmp_path_factory.mktemp("derived"), folders)
    try:
        for name, number in steps:
            act: Callable[[int], None] = getattr(world, name)
            act(number)
            world.compare()
            if name == "fold":
                assert list(check_data(world.path)) == []
        while folders[-1].step():
            pass
        world.compare()
        assert folders[-1].idle
        assert list(check_data(world.path)) == []
    finally:
        world.store.close()
        shutil.rmtree(world.root)
