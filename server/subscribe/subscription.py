"""One subscription: what its subscriber is told next, asked for frame by frame."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import TypeAlias

from retention.month import Month
from server.model import Event, EventFilter
from server.storage.contract import Reader
from server.subscribe.course import Course
from server.subscribe.frames import CaughtUp, Checkpoint, Confirmed, Events, Frame, Gap, Heartbeat
from server.subscribe.head import HeadWatch
from server.subscribe.missing import Missing
from server.subscribe.turns import Flight, Page, Turns

QUIET_S = 1.0
"""After so long without a frame there is a sign of life, and of how far the reading has come."""
SKIPPED_MAX = 1_000_000
"""A checkpoint comes at once when so many positions were passed without a frame."""

Encode: TypeAlias = Callable[[Sequence[Event], int], tuple[bytes, int]]
"""Events, at least one, and the head -> as many of them, from the first on, as one message takes; how many it took."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber asked for. With `received_ms` its first event is one that was received then or later."""

    where: EventFilter
    after: int
    received_ms: int | None = None


class Subscription:
    """Call `next` until it gives None, `close` in any case. Holds one page at most; unasked nothing is read."""

    def __init__(self, wanted: Wanted, encode: Encode, watch: HeadWatch, turns: Turns, missing: Missing) -> None:
        self._where = wanted.where
        self._received_ms = wanted.received_ms
        self._encode = encode
        self._watch = watch
        self._turns = turns
        self._missing = missing
        self._course = Course(wanted.where, missing)
        self._flight: tuple[object, Flight] | None = None
        """The page that is being read, under its key."""
        self._due: deque[Frame] = deque()
        self._told_missing: set[Month] = set()
        self.position = wanted.after
        """Everything up to here that matches was given out by `next`."""
        self._told = wanted.after
        """The last position that the subscriber can resume at."""
        self._told_s = asyncio.get_running_loop().time()
        self._behind = True
        self._last = wanted.where.up_to_position
        self.draining = False
        """Ended by `drain`: the subscriber should come back."""
        self._ended = False
        self._due.append(Confirmed(wanted.after, watch.latest(wanted.after)))

    async def next(self) -> Frame | None:
        """The next frame, as soon as there is something to tell; None at the end. Raises what reading raises."""
        while not self._due:
            if self.draining or self._ended:
                return None
            head = self._watch.latest(self.position)
            if self._last is not None and self.position >= self._last:
                self._ended = True
                self._due.append(Checkpoint(self.position))
            elif self.position < head:
                await self._read_on(head)
            elif self._behind:
                self._behind = False
                self._due.append(CaughtUp(head))
            elif not await self._watch.beyond(self.position, self._until_sign_s()):
                self._due.append(Heartbeat(self.position))
        return self._tell(self._due.popleft())

    def drain(self) -> None:
        """Ends it: `next` gives None soon."""
        self.draining = True

    def close(self) -> None:
        """Stops what is being read for it. Closing twice is fine."""
        self._ended = True
        self._leave()

    def _tell(self, frame: Frame) -> Frame:
        self._told_s = asyncio.get_running_loop().time()
        match frame:
            case Events(last=position) | Checkpoint(position) | Heartbeat(position):
                self._told = position
            case _:
                pass
        return frame

    def _until_sign_s(self) -> float:
        return max(0.0, self._told_s + QUIET_S - asyncio.get_running_loop().time())

    # Reading

    async def _read_on(self, head: int) -> None:
        """Until the next page is there, or it is time for a sign of life."""
        if self._flight is None:
            end = head if self._last is None else min(head, self._last)
            key = (self._where, self._received_ms, self.position)
            self._flight = key, self._turns.join(key, self._reading(self.position, end, head))
        page = await self._flight[1].wait(self._until_sign_s())
        if page is None:
            self._due.append(Checkpoint(self.position))
            return
        self._leave()
        self._take(page, head)

    def _leave(self) -> None:
        if self._flight:
            self._turns.leave(*self._flight)
            self._flight = None

    def _take(self, page: Page, head: int) -> None:
        self._note_missing()
        self.position = page.through
        if page.events:
            self._received_ms = None
            self._due.append(Events(page.encoded, page.events, page.last))
            self._behind = self._behind or page.through < head
        elif self._until_sign_s() <= 0 or self.position - self._told >= SKIPPED_MAX:
            self._due.append(Checkpoint(self.position))

    def _note_missing(self) -> None:
        """Tells of each month once."""
        for month, reason in self._missing.behind(self.position, self._where):
            if month not in self._told_missing:
                self._told_missing.add(month)
                self._due.append(Gap(month, reason))

    def _reading(self, after: int, end: int, head: int) -> Callable[[Reader], Page]:
        """What is done on the reader's thread."""
        course, encode, received_ms = self._course, self._encode, self._received_ms or 0

        def read(reader: Reader) -> Page:
            stretch = course.read(reader, after, end)
            events = list(dropwhile(lambda event: event.received_ms < received_ms, stretch.events))
            if not events:
                return Page(b"", 0, 0, stretch.through)
            encoded, taken = encode(events, head)
            last = events[taken - 1].position
            return Page(encoded, taken, last, stretch.through if taken == len(events) else last)

        return read
