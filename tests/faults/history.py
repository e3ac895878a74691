"""A short life of a store on a disk that may fail, and what must be true of it afterwards."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from retention.month import Month
from server.config import Storage
from server.errors import StoreFailed, TrackdError, Unavailable
from server.model import Appended, Batch
from server.storage.sqlite.store import SqliteStore
from tests.support.events import Sent, make_batch, make_event, read, sent_part

SETTINGS = Storage(disk_free_bytes_min=1, open_months_max=1, wal_bytes_max=30_000)
"""One open month and a short log, so that little work brings many openings, checkpoints and truncations."""
ATTEMPTS = 4

Group = list[tuple[str, list[Sent], bool]]
"""Batches: source, events, atomic."""


def groups() -> list[Group]:
    """Over two months: new types, users and sources, large events, changes of months, an atomic batch, a repetition."""
    early, late = "2025-10", "2025-11"

    def some(first: int, month: str, count: int = 3, **content: object) -> list[Sent]:
        return [make_event(first + n, month, first + n, user_id=f"u{first + n}", **content) for n in range(count)]

    return [
        [("a", some(0, early), False), ("b", some(10, late), False)],
        [("a", [*some(20, early, type="other"), *some(30, late)], False)],
        [("c", some(40, late, 12, metadata='{"a":"' + "x" * 2_000 + '"}'), False), ("a", some(60, late), True)],
        [("b", [*some(0, early), *some(70, early)], False), ("b", some(80, late, tags=("x",)), False)],
        [("a", [*some(90, late, 12, description="y" * 3_000), *some(110, early)], False)],
    ]


def batches(group: Group) -> list[Batch]:
    """As the store takes them."""
    return [make_batch(*events, source=source, atomic=atomic) for source, events, atomic in group]


class Life:
    """Opens, appends and closes until it is told that everything is stored, or the disk does not get better.

    Any exception that is no TrackdError fails the test by itself: it is not caught.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.acknowledged: list[Sent] = []
        self.pending = groups()
        self.errors: list[TrackdError] = []
        self._store: SqliteStore | None = None

    def run(self) -> bool:
        """Whether everything was acknowledged."""
        for _attempt in range(ATTEMPTS):
            try:
                self._store = SqliteStore(self.root, SETTINGS, months_max=10)
                self._append_all(self._store)
            except TrackdError as error:
                self.errors.append(error)
            self._close()
            if not self.pending:
                return True
        return False

    def _append_all(self, store: SqliteStore) -> None:
        refusals = 0
        while self.pending:
            try:
                answers = store.append(batches(self.pending[0]))
            except StoreFailed:
                raise
            except Unavailable as error:
                self.errors.append(error)
                refusals += 1
                if refusals > ATTEMPTS:
                    return
                continue
            self._note(self.pending.pop(0), answers)
            store.maintain(idle=True)

    def _note(self, group: Group, answers: Sequence[Appended | TrackdError]) -> None:
        again: Group = []
        for (source, events, atomic), answer in zip(group, answers, strict=True):
            if isinstance(answer, TrackdError):
                self.errors.append(answer)
                again.append((source, events, atomic))
            else:
                assert answer.rejected == 0, answer
                self.acknowledged += events
        if again:
            self.pending.insert(0, again)

    def abandon(self) -> None:
        """Ends after an exception that `run` does not expect."""
        self._close()

    def _close(self) -> None:
        if self._store:
            with suppress(TrackdError):
                self._store.close()
        self._store = None
        # Connections of stores that failed while they were opened end here, on the disk that they were opened on.
        gc.collect()


def assert_kept(root: Path, acknowledged: Sequence[Sent]) -> None:
    """Opened on a good disk: what was acknowledged is there once, the rest whole or absent; a resend completes it."""
    store = SqliteStore(root, SETTINGS, months_max=10)
    try:
        found = Counter(sent_part(event) for event in read(store))
        assert set(found.values()) <= {1}, "an event is stored twice"
        assert set(acknowledged) <= found.keys(), "an acknowledged event is lost"
        for _source, events, _atomic in (batch for group in groups() for batch in group):
            for part in by_month(events):
                stored = [event in found for event in part if event.id not in _REPEATED]
                assert len(set(stored)) <= 1, "an unacknowledged batch is stored in part"
        assert list(store.check()) == []
        before = store.head
        for group in groups():
            for answer in store.append(batches(group)):
                assert isinstance(answer, Appended)
                assert answer.rejected == 0
                assert answer.first_position is None or answer.first_position > before
        everything = {event for group in groups() for _source, events, _atomic in group for event in events}
        assert Counter(sent_part(event) for event in read(store)) == Counter(everything)
        assert list(store.check()) == []
    finally:
        store.close()


_REPEATED = {event.id for event in groups()[0][0][1]}
"""Sent in two batches: one of them may be stored without the other."""


def by_month(events: Sequence[Sent]) -> Iterator[list[Sent]]:
    """The part of a batch that belongs to each month."""
    for month in sorted({Month.of(event.timestamp_ms) for event in events}):
        yield [event for event in events if Month.of(event.timestamp_ms) == month]
