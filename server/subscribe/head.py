"""Waiting for the head: many subscribers wait, and a commit wakes all of them at once.

Rounds, and not commits, move what subscribers see. A round reads the head once and wakes whoever waits, so that those
who follow the head stand at the same position afterwards and share the page that comes next (server.subscribe.turns).
While commits come fast, rounds keep a distance that grows with the number of those who wait: what following costs does
not grow with the number of commits. All of it happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

ROUND_S = 0.005
"""The least time between two rounds. A commit that comes after a pause is seen at once."""
ROUND_PER_WAITER_S = 0.0005
"""Added for each who waits: with 60 of them an event is seen at most 35 ms after its commit."""


class HeadWatch:
    """The head as subscribers see it: at most the store's, at least what it was a round ago."""

    def __init__(self, head: Callable[[], int]) -> None:
        self._read = head
        self._seen = head()
        self._next = asyncio.Event()
        """Set by the next round."""
        self._waiting = 0
        self._round: asyncio.TimerHandle | None = None
        self._last_round_s = 0.0

    def moved(self) -> None:
        """Something was committed. Costs nothing while nobody waits or a round is due anyway."""
        if self._waiting and self._round is None:
            self._schedule()

    def latest(self, position: int) -> int:
        """The head, for one who has come to `position`; not read anew while there is more up to the last one."""
        now_s = asyncio.get_running_loop().time()
        if self._seen < position or (self._seen == position and now_s >= self._last_round_s + ROUND_S):
            self._look(now_s)
        return self._seen

    async def beyond(self, position: int, seconds: float) -> bool:
        """Waits until the head is behind `position`, or somebody calls `wake`; False after so many seconds."""
        self._waiting += 1
        try:
            next_round = self._next
            if self._round is None and self._read() > position:
                self._schedule()
            async with asyncio.timeout(seconds):
                await next_round.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    def wake(self) -> None:
        """Ends all waiting now: the head that is seen, or something else, has changed."""
        self._next.set()
        self._next = asyncio.Event()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = self._last_round_s + ROUND_S + ROUND_PER_WAITER_S * self._waiting
        if due_s <= loop.time():
            self._begin_round()
        else:
            self._round = loop.call_at(due_s, self._begin_round)

    def _begin_round(self) -> None:
        self._round = None
        self._look(asyncio.get_running_loop().time())

    def _look(self, now_s: float) -> None:
        self._last_round_s = now_s
        head = self._read()
        if head > self._seen:
            self._seen = head
            self.wake()
