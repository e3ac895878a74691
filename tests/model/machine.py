"""A random history on two stores: an engine, and the reference that says what it should have done.

Absolute positions may differ between engines, since both may leave gaps. What must agree is their order: the machine
keeps, for each event the reference stored, the position the engine gave it, and translates by that.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retention.month import Month
from server.model import Appended, Batch, Count, Dimension, Event, EventFilter, Item, Keyset, Order
from server.question import Question as Table
from server.storage.contract import Reader
from server.storage.memory.store import MemoryStore
from tests.model.histories import (
    MONTHS,
    Question,
    atomic_batches,
    batches,
    declarations,
    questions,
    retold,
)
from tests.model.tables import KEYS, tables
from tests.support.answers import alike, rows
from tests.support.events import Sent, make_batch, positions, read, sent_part
from tests.support.homes import Home

MONTHS_MAX = len(MONTHS) - 1
"""One month of those in use finds no place."""


class EngineBesideReference(RuleBasedStateMachine):
    """The rules. A subclass names the engine by its home."""

    home_type: ClassVar[type[Home]]

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="trackd-model-"))
        self.home = self.home_type(self.place / "data")
        self.store = self.home.open(months_max=MONTHS_MAX)
        self.reference = MemoryStore(months_max=MONTHS_MAX)
        self.history: list[list[Batch]] = []
        """Every group so far, to be sent again."""
        self.place_of: dict[int, int] = {}
        """Position in the reference -> position in the engine."""
        self.readers: tuple[Reader, Reader] = (self.reference.reader(), self.store.reader())

    def teardown(self) -> None:
        """Whatever happened, the engine is sound at the end, also after being closed and opened once more."""
        try:
            self.readers[1].close()
            assert list(self.reference.check()) == []
            self.home.finish()
        finally:
            shutil.rmtree(self.place)

    # Writing

    @initialize(events=batches(least=6))
    def begin(self, events: Sequence[Sent]) -> None:
        """Questions and restarts of an empty store have their own tests: here there is always something in it."""
        self._append([make_batch(*events)])

    @rule(events=batches())
    def append(self, events: Sequence[Sent]) -> None:
        """One batch: months as they come, late ones too."""
        self._append([make_batch(*events)])

    @rule(events=atomic_batches())
    def append_atomic(self, events: Sequence[Sent]) -> None:
        """One atomic batch."""
        self._append([self._atomic(events)])

    @rule(group=st.lists(st.tuples(st.booleans(), batches(size=8), atomic_batches(size=8)), min_size=2, max_size=5))
    def append_group(self, group: Sequence[tuple[bool, Sequence[Sent], Sequence[Sent]]]) -> None:
        """Several batches of several sources in one group, atomic ones among them."""
        self._append(
            [
                replace(self._atomic(events) if atomic else make_batch(*others), source=f"s{number % 3}")
                for number, (atomic, others, events) in enumerate(group)
            ]
        )

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """An earlier group as it was, as after a lost answer."""
        self._append(data.draw(st.sampled_from(self.history), label="group"))

    @precondition(lambda self: self.has_events)
    @rule(data=st.data(), atomic=st.booleans(), received_ms=st.integers(1, 9))
    def send_variants(self, data: st.DataObject, atomic: bool, received_ms: int) -> None:
        """Stored events of a month once more, some told otherwise, by another source: duplicates or conflicts."""
        known = [sent_part(event) for event in self._month(data)]
        events = data.draw(st.lists(st.sampled_from(known).flatmap(retold), min_size=1, max_size=6), label="events")
        self._append([make_batch(*events, source="s1", received_ms=received_ms, atomic=atomic)])

    @rule(declared=declarations, dimensions=st.lists(st.sampled_from(KEYS), unique=True))
    def register_type(self, declared: tuple[str, str, int], dimensions: Sequence[str]) -> None:
        """Declares a type, or another description or other dimensions."""
        expected, entry = (
            store.register_type(*declared, dimensions=dimensions) for store in (self.reference, self.store)
        )
        assert replace(entry, registered_ms=0) == replace(expected, registered_ms=0)

    @precondition(lambda self: self.has_events)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Some events of a month, or all; some that are gone already, or lie in other months, are named too."""
        events = self._month(data)
        some = data.draw(st.lists(st.sampled_from(positions(events)), min_size=1) | st.just(positions(events)))
        gone = [*some, *data.draw(st.lists(st.sampled_from(list(self.place_of)), max_size=3), label="others")]
        month = Month.of(events[0].timestamp_ms)
        removed = self.reference.remove(month, gone)
        assert self.store.remove(month, [self.place_of[position] for position in gone]) == removed > 0
        assert [self._translated(event) for event in read(self.reference)] == read(self.store)

    # Restarting

    @rule()
    def close_and_open(self) -> None:
        """A clean end."""
        self._restart(crash=False)

    @rule()
    def crash_and_open(self) -> None:
        """The directory as it is on disk at this instant is all that is left."""
        self._restart(crash=True)

    @rule(idle=st.booleans())
    def maintain(self, idle: bool) -> None:
        """Upkeep, which nobody may notice."""
        self.store.maintain(idle=idle)

    # Reading

    @rule(question=questions(), limit=st.sampled_from([1, 3, 10, 1_000]))
    def list_events(self, question: Question, limit: int) -> None:
        """In every order, page by page, behind any place, at any cut: the same events."""
        for order in Order:
            after = self._start(question)
            while after:
                pages = [
                    list(reader.list_events(where, order, limit, after=behind, as_of=cut))
                    for reader, where, behind, cut in zip(
                        self.readers, self._filters(question), after, self._cuts(question.cut), strict=True
                    )
                ]
                assert [self._translated(event) for event in pages[0]] == pages[1]
                after = (_place(pages[0][-1]), _place(pages[1][-1])) if pages[0] else ()

    @rule(question=questions(), groupings=st.lists(st.lists(st.sampled_from(Dimension), unique=True), min_size=1))
    def count_events(self, question: Question, groupings: Sequence[Sequence[Dimension]]) -> None:
        """The same groups with the same numbers."""
        for by in groupings:
            expected, counts = (
                list[Count](reader.count_events(where, by, as_of=cut))
                for reader, where, cut in zip(
                    self.readers, self._filters(question), self._cuts(question.cut), strict=True
                )
            )
            assert counts == expected

    @rule(questions=st.lists(tables(), min_size=1, max_size=3))
    def aggregate(self, questions: Sequence[Table]) -> None:
        """The same tables, cut at the same moment."""
        expected, answer = (reader.aggregate(questions) for reader in self.readers)
        assert (expected.as_of, answer.as_of) == (self.reference.head, self.store.head)
        for question, one, other in zip(questions, expected.tables, answer.tables, strict=True):
            assert alike(rows(one), rows(other)), (question, rows(one), rows(other))
            assert one.more == other.more, question

    @invariant()
    def tell_the_same(self) -> None:
        """Head, sources, and the types and months of stored events agree at every step."""
        events = read(self.reference)
        assert self.store.head == self.place_of.get(self.reference.head, 0)
        assert list(self.store.sources()) == list(self.reference.sources())
        # An engine may also know types of rejected events, and keep a home for a month whose events were all aborted.
        types = {entry.name: replace(entry, registered_ms=0) for entry in self.store.event_types()}
        expected = {entry.name: replace(entry, registered_ms=0) for entry in self.reference.event_types()}
        assert {name: types.get(name) for name in expected} == expected
        months = [info.month for info in self.store.months()]
        assert months == sorted(set(months))
        assert {Month.of(event.timestamp_ms) for event in events} <= set(months)

    # How both are asked and compared

    @property
    def has_events(self) -> bool:
        """Whether there is an event that was not removed."""
        return bool(read(self.reference))

    def _month(self, data: st.DataObject) -> list[Event]:
        """All events that the reference has of some month that has any."""
        events = read(self.reference)
        month = data.draw(st.sampled_from(sorted({Month.of(event.timestamp_ms) for event in events})), label="month")
        return [event for event in events if Month.of(event.timestamp_ms) == month]

    def _append(self, group: Sequence[Batch]) -> None:
        old_heads = (self.reference.head, self.store.head)
        expected, answers = self.reference.append(group), self.store.append(group)
        stored, found = (
            read(store, EventFilter(after_position=head))
            for store, head in zip((self.reference, self.store), old_heads, strict=True)
        )
        assert [replace(event, position=0) for event in found] == [replace(event, position=0) for event in stored]
        self.place_of.update(zip((one.position for one in stored), (one.position for one in found), strict=True))
        places = list(self.place_of.values())
        assert places == sorted(set(places)), "positions do not rise"
        assert [_told(answer) for answer in answers] == [_told(self._answer(answer)) for answer in expected]
        self.history.append(list(group))

    def _atomic(self, events: Sequence[Sent]) -> Batch:
        """As a sender would send it; but what repeats an id in a month that is not there yet is left out.

        An engine may keep the empty home of a month whose only batch conflicted with itself, and may not: that would
        leave the two with room for a different number of months.
        """
        known = {info.month for info in self.reference.months()}
        firsts = {event.id: event for event in reversed(events)}
        kept = [event for event in events if Month.of(event.timestamp_ms) in known or firsts[event.id] is event]
        return make_batch(*kept, atomic=True)

    def _restart(self, *, crash: bool) -> None:
        self.readers[1].close()
        self.store = self.home.crash() if crash else self.home.reopen()
        self.readers = (self.reference.reader(), self.store.reader())
        assert [self._translated(event) for event in read(self.reference)] == read(self.store)

    def _translated(self, event: Event) -> Event:
        return replace(event, position=self.place_of[event.position])

    def _answer(self, answer: Any) -> Appended:
        """An answer of the reference with the engine's positions."""
        assert isinstance(answer, Appended)
        return replace(
            answer,
            first_position=self._place(answer.first_position),
            last_position=self._place(answer.last_position),
            items=tuple(replace(item, existing_position=self._place(item.existing_position)) for item in answer.items),
        )

    def _place(self, position: int | None) -> int | None:
        return None if position is None else self.place_of[position]

    def _cuts(self, share: float | None) -> tuple[int, int]:
        """The heads, or where both stood after that share of the events."""
        if share is None:
            return self.reference.head, self.store.head
        pairs = [(0, 0), *self.place_of.items()]
        return pairs[int(share * (len(pairs) - 1))]

    def _filters(self, question: Question) -> tuple[EventFilter, EventFilter]:
        low = (None, None) if question.low is None else self._cuts(question.low)
        high = (None, None) if question.high is None else self._cuts(question.high)
        one, other = (
            replace(question.where, after_position=below, up_to_position=above)
            for below, above in zip(low, high, strict=True)
        )
        return one, other

    def _start(self, question: Question) -> tuple[Keyset | None, ...]:
        if question.behind is None:
            return None, None
        timestamp_ms, share = question.behind
        one, other = self._cuts(share)
        return Keyset(timestamp_ms, one), Keyset(timestamp_ms, other)


def _place(event: Event) -> Keyset:
    return Keyset(event.timestamp_ms, event.position)


def _told(answer: Any) -> tuple[object, ...]:
    """What two engines must agree on in an answer: all but the words for people."""
    assert isinstance(answer, Appended), answer
    items: list[Item] = [replace(item, message="", field="") for item in answer.items]
    return answer.accepted, answer.first_position, answer.last_position, items
