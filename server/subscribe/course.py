"""Reading forward: what matches behind a position, stretch after stretch, month by month, in the order of positions.

A stretch is read on a reader's thread and is bounded in every way: in events, in bytes, in the positions it runs over,
and, by what the last one took, in time. Months are asked one by one, so that one that cannot be read costs its own
events only. A month is not asked if its last position lies before the stretch, or if an earlier look has shown that its
next event lies behind it: of hundreds of months a stretch of live events asks one or two.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from retention.month import Month
from server.errors import Corrupt
from server.model import Event, EventFilter, Keyset, Order
from server.storage.contract import Reader
from server.subscribe.missing import Missing

EVENTS_MIN = 250
EVENTS_MAX = 8_000
"""Events in one stretch. Many cost less each; the first stretch is short, so that the first event comes soon."""
FETCH_EVENTS = 250
"""Asked of a reader at once: so many huge events are in memory before the rest is left for later."""
TEXT_MAX = 1024 * 1024
"""Characters of all texts in one stretch."""
POSITIONS_MIN = 10_000
POSITIONS_MAX = 2_000_000
"""A statement that looks at so many rows takes some tenths of a second; a longer one would hold up the engine's log."""
TURN_S = 0.05
"""A stretch that takes longer is followed by a shorter one, for others wait for the reader; below half by a longer."""
TURN_PER_MONTH_S = 0.005
"""Added for each month that is asked: what that costs (1 ms, if its file is not open) no shorter stretch saves."""

SURPLUS = 1.25
"""So much more than a stretch may hold is kept before it is put in order and cut."""

_POSITION = attrgetter("position")
_DESCRIPTION, _METADATA, _CHANGE = attrgetter("description"), attrgetter("metadata"), attrgetter("change")


@dataclass(frozen=True, slots=True)
class Stretch:
    """All matching events behind where the reading began and up to `through`, in the order of positions."""

    events: list[Event]
    through: int


class Course:
    """One subscriber's way through the months. Not for two threads at a time."""

    def __init__(self, where: EventFilter, missing: Missing) -> None:
        self._where = where
        self._missing = missing
        self._questions: dict[Month, EventFilter | None] = {}
        """The filter narrowed to a month; None for one that it does not touch."""
        self._next: dict[Month, int] = {}
        """Between the last stretch and this position the month has nothing."""
        self._events_max = EVENTS_MIN
        self._positions_max = POSITIONS_MIN

    def read(self, reader: Reader, after: int, head: int) -> Stretch:
        """The next stretch behind `after`, which is below `head`. It is at least one position long.

        `after` must not fall from call to call.
        """
        start_s = time.monotonic()
        found = _Found(min(head, after + self._positions_max), self._events_max)
        allowed_s = TURN_S
        for month in self._months_behind(after):
            if self._next.get(month, 0) <= found.through:
                allowed_s += TURN_PER_MONTH_S
                try:
                    self._read_month(reader, month, after, head, found)
                except Corrupt:
                    self._missing.note_damage(month)
        found.settle()
        self._missing.survey_again()
        self._adapt(len(found.events), found.through - after, (time.monotonic() - start_s) / allowed_s)
        return Stretch(found.events, found.through)

    def _months_behind(self, after: int) -> list[Month]:
        """Months that may hold matching events behind a position, those first that have them soonest."""
        positions = self._missing.survey()
        lost = self._missing.months
        behind = [month for month, last in positions.items() if last > after and month not in lost]
        return sorted(filter(self._question, behind), key=lambda month: (self._next.get(month, 0), month))

    def _question(self, month: Month) -> EventFilter | None:
        if month not in self._questions:
            self._questions[month] = _narrowed(self._where, month) if self._where.touches(month) else None
        return self._questions[month]

    def _read_month(self, reader: Reader, month: Month, after: int, head: int, found: _Found) -> None:
        where = self._question(month) or self._where
        last = after
        while last < found.through:
            through, wanted = found.through, min(FETCH_EVENTS, found.room)
            events = _ask(reader, where, wanted, last, through)
            if last == after:
                self._next[month] = events[0].position if events else _next(reader, month, through, head)
            found.add(events)
            if len(events) < wanted:
                break
            last = events[-1].position
        found.month_done()

    def _adapt(self, events: int, positions: int, took: float) -> None:
        """`took` is what the stretch took, as a share of what it was allowed to."""
        if took > 1:
            self._events_max = max(EVENTS_MIN, self._events_max // 2)
            self._positions_max = max(POSITIONS_MIN, self._positions_max // 2)
        elif took < 1 / 2:
            if events >= self._events_max:
                self._events_max = min(EVENTS_MAX, self._events_max * 2)
            if positions >= self._positions_max:
                self._positions_max = min(POSITIONS_MAX, self._positions_max * 2)


class _Found:
    """The events of a stretch while its months are being read: little more than a stretch may hold."""

    def __init__(self, through: int, events_max: int) -> None:
        self.events: list[Event] = []
        self.through = through
        """Falls when there is more than a stretch may hold: behind it nothing is kept."""
        self._events_max = events_max
        self._text = 0
        self._month_events = self._month_text = 0

    @property
    def room(self) -> int:
        """How many more events of the month that is being read a stretch could hold."""
        return self._events_max - self._month_events

    def add(self, events: Sequence[Event]) -> None:
        """Takes the next events of a month. When they alone are enough nothing behind them is wanted."""
        text = _text_of(events)
        self.events += events
        self._text += text
        self._month_events += len(events)
        self._month_text += text
        if self._month_events >= self._events_max or self._month_text > TEXT_MAX:
            self.settle()
            self.through = min(self.through, events[-1].position)

    def month_done(self) -> None:
        """The next events are those of another month."""
        self._month_events = self._month_text = 0
        if len(self.events) > SURPLUS * self._events_max or self._text > SURPLUS * TEXT_MAX:
            self.settle()

    def settle(self) -> None:
        """Puts all in order and cuts off what is too much; the first event stays, whatever its size."""
        self.events.sort(key=_POSITION)
        if len(self.events) <= self._events_max and self._text <= TEXT_MAX:
            return
        text = 0
        for place, event in enumerate(self.events):
            size = _text_of((event,))
            if place and (place >= self._events_max or text + size > TEXT_MAX):
                del self.events[place:]
                self.through = self.events[-1].position
                break
            text += size
        self._text = text


def _text_of(events: Sequence[Event]) -> int:
    """How long their longest texts are together. The others are short by the limits of admission."""
    length = 100 * len(events) + sum(map(len, map(_DESCRIPTION, events))) + sum(map(len, map(_METADATA, events)))
    for change in filter(None, map(_CHANGE, events)):
        length += len(change.old_values) + len(change.new_values)
    return length


def _narrowed(where: EventFilter, month: Month) -> EventFilter:
    """The filter for one month alone, so that no other is opened."""
    start_ms = month.start_ms if where.start_ms is None else max(where.start_ms, month.start_ms)
    end_ms = month.end_ms if where.end_ms is None else min(where.end_ms, month.end_ms)
    return replace(where, start_ms=start_ms, end_ms=end_ms)


def _next(reader: Reader, month: Month, after: int, head: int) -> int:
    """The position of the month's next event of any kind, or one that is behind the head."""
    if after >= head:
        return head + 1
    found = _ask(reader, EventFilter(month.start_ms, month.end_ms), 1, after, head)
    return found[0].position if found else head + 1


def _ask(reader: Reader, where: EventFilter, limit: int, after: int, through: int) -> Sequence[Event]:
    """A second time if the month cannot be read: it may have got a new file at this very moment."""
    place = Keyset(0, after)
    try:
        return reader.list_events(where, Order.POSITION_ASC, limit, after=place, as_of=through)
    except Corrupt:
        return reader.list_events(where, Order.POSITION_ASC, limit, after=place, as_of=through)
