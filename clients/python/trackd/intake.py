"""Where events go when they are tracked: a bounded buffer between the application's threads and one worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

DROPS_TOLD_S = 60.0
"""The worker is woken because events were dropped, and not again for so long."""
FIRST_PLACE = 1 << 40
"""Of the first tracked event. Those below are for events that another process left behind."""


class Intake:
    """Encoded events on their way to a worker, bounded together with all that left here and has no final answer yet.

    Any thread may `put`; one worker takes. The lock is reentrant, since a signal handler or a finalizer may track while
    its own thread is in here.
    """

    def __init__(
        self,
        *,
        events_max: int,
        bytes_max: int,
        batch_events: int,
        batch_bytes: int,
        max_delay_s: float,
        block_s: float | None,
        may_block: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`block_s`: how long `put` waits for room; None: not at all. `may_block` is asked which thread may wait."""
        self.dropped = 0
        """Events that were not taken."""
        self.held_events = 0
        self.held_bytes = 0
        """What is in memory and has no final answer, here or behind."""
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._max_delay_s = max_delay_s
        self._block_s = block_s
        self._may_block = may_block
        self._clock = clock
        self._guard = threading.RLock()
        self._arrived = threading.Condition(self._guard)
        self._room = threading.Condition(self._guard)
        self._elements: list[bytes] = []
        self._bytes = 0
        self._next = FIRST_PLACE
        self._since_s: float | None = None
        self._hurry = False
        self._nudged = False
        self._closed = False
        self._dropped_told = 0
        self._drops_due = False
        self._drops_quiet_until_s = float("-inf")

    @property
    def next_place(self) -> int:
        """The place that the next event gets; FIRST_PLACE and one more for each that was taken over, ever."""
        with self._guard:
            return self._next + len(self._elements)

    @property
    def closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    def put(self, element: bytes) -> bool:
        """Takes an event over; False, and counted, if there is no room (in time) or the intake is closed."""
        size = len(element)
        with self._guard:
            if (self._closed or not self._fits(size)) and not self._wait_for_room(size):
                self._drop()
                return False
            self.held_events += 1
            self.held_bytes += size
            self._bytes += size
            elements = self._elements
            elements.append(element)
            # The worker sleeps until there is something, then until there is enough: two calls a batch.
            count, enough = len(elements), self._batch_bytes
            if count in (1, self._batch_events) or self._bytes - size < enough <= self._bytes:
                self._arrived.notify()
        return True

    def _drop(self) -> None:
        self.dropped += 1
        if not self._closed and (now_s := self._clock()) >= self._drops_quiet_until_s:
            self._drops_quiet_until_s = now_s + DROPS_TOLD_S
            self._drops_due = True
            self.nudge()

    def newly_dropped(self, *, at_once: bool) -> int:
        """For the worker: events dropped since it was told so last; 0 if it is not woken for them, unless `at_once`."""
        with self._guard:
            if not (self._drops_due or at_once):
                return 0
            count = self.dropped - self._dropped_told
            self._dropped_told, self._drops_due = self.dropped, False
            return count

    def _fits(self, size: int) -> bool:
        """Whether there is room; an empty buffer has room for anything."""
        return self.held_events == 0 or (
            self.held_events < self._events_max and self.held_bytes + size <= self._bytes_max
        )

    def _wait_for_room(self, size: int) -> bool:
        if self._block_s is None or self._closed or not self._may_block():
            return False
        self._room.wait_for(lambda: self._closed or self._fits(size), timeout=self._block_s)
        return not self._closed and self._fits(size)

    def take(self, *, partial: Callable[[], bool]) -> tuple[int, list[bytes]]:
        """For the worker: the place of the first and all events that are to be batched now; none after a nudge.

        Waits until they fill a batch, or the oldest waits for longer than max_delay_s and `partial` allows a batch that
        is not full, or hurry, nudge or close are called.
        """
        with self._guard:
            while True:
                waiting = len(self._elements)
                if waiting and self._since_s is None:
                    self._since_s = self._clock()
                if waiting >= self._batch_events or self._bytes >= self._batch_bytes:
                    return self._all()
                if waiting and (self._hurry or self._closed):
                    return self._all()
                left_s = None if self._since_s is None else self._since_s + self._max_delay_s - self._clock()
                overdue = left_s is not None and left_s <= 0
                if overdue and partial():
                    return self._all()
                if self._nudged:
                    self._nudged = False
                    return self._next, []
                self._arrived.wait(None if overdue else left_s)

    def drain(self) -> tuple[int, list[bytes]]:
        """The place of the first and all events that are here, at once."""
        with self._guard:
            return self._all()

    def _all(self) -> tuple[int, list[bytes]]:
        first, elements = self._next, self._elements
        self._elements, self._bytes, self._since_s, self._hurry = [], 0, None, False
        self._next += len(elements)
        return first, elements

    def hold(self, events: int, size: int) -> None:
        """So much more is in memory."""
        with self._guard:
            self.held_events += events
            self.held_bytes += size

    def release(self, events: int, size: int) -> None:
        """So much less is in memory: whoever waits for room gets it, and the worker may go on."""
        with self._guard:
            self.held_events -= events
            self.held_bytes -= size
            self._room.notify_all()
            self.nudge()

    def nudge(self) -> None:
        """Lets the worker look around."""
        with self._guard:
            self._nudged = True
            self._arrived.notify()

    def hurry(self) -> int:
        """What is here shall be batched now, full or not. Returns the place of the next event."""
        with self._guard:
            self._hurry = bool(self._elements)
            self._arrived.notify()
            return self.next_place

    def close(self) -> int:
        """Takes no more; the worker gets what is here. Returns the place of the next event."""
        with self._guard:
            self._closed = True
            self._room.notify_all()
            self._arrived.notify()
            return self.next_place
