"""Waiting for the head: nobody sleeps through a commit, and many commits are few rounds."""

from __future__ import annotations

import asyncio
import time

from server.subscribe import head
from server.subscribe.head import HeadWatch

LONG_S = 10.0


class Store:
    """A head that a test moves."""

    def __init__(self) -> None:
        self.head = 0
        self.read = 0

    def look(self) -> int:
        """Counts how often it is asked."""
        self.read += 1
        return self.head


def make() -> tuple[Store, HeadWatch]:
    """A head at 0 and who watches it."""
    store = Store()
    return store, HeadWatch(store.look)


async def test_a_commit_wakes_all_who_wait_with_one_look_at_the_head() -> None:
    """Also those who have not come as far as the others."""
    store, watch = make()
    store.head = 5
    watch.latest(0)
    waiting = [asyncio.create_task(watch.beyond(5, LONG_S)) for _ in range(50)]
    await asyncio.sleep(0.02)
    before = store.read
    store.head = 6
    watch.moved()
    assert all(await asyncio.gather(*waiting))
    assert store.read == before + 1
    assert watch.latest(5) == 6


async def test_a_commit_costs_nothing_while_nobody_waits() -> None:
    """Not even a look at the head."""
    store, watch = make()
    before = store.read
    for number in range(1_000):
        store.head = number
        watch.moved()
    assert store.read == before


async def test_who_comes_after_the_commit_does_not_wait() -> None:
    """The head had moved before anybody waited, and nobody tells of it again."""
    store, watch = make()
    for number in (9, 10):
        store.head = number
        start = time.monotonic()
        assert await watch.beyond(number - 1, LONG_S)
        assert time.monotonic() - start < 1
        assert watch.latest(0) == number


async def test_waiting_ends_after_its_time_and_by_a_wake() -> None:
    """False when nothing moved; True when somebody has something else to say."""
    _store, watch = make()
    assert not await watch.beyond(0, 0.01)
    waiting = asyncio.create_task(watch.beyond(0, LONG_S))
    await asyncio.sleep(0)
    watch.wake()
    assert await asyncio.wait_for(waiting, 1)


async def test_many_commits_are_few_rounds() -> None:
    """While commits come all the time a subscriber is woken every few milliseconds, and misses none of them."""
    store, watch = make()
    rounds = 0

    async def follow() -> None:
        nonlocal rounds
        at = 0
        while at < 400:
            assert await watch.beyond(at, LONG_S)
            assert watch.latest(at) > at
            at = watch.latest(at)
            rounds += 1

    following = asyncio.create_task(follow())
    start = time.monotonic()
    for number in range(1, 401):
        store.head = number
        watch.moved()
        await asyncio.sleep(0.0002)
    await asyncio.wait_for(following, 5)
    assert rounds <= 2 + (time.monotonic() - start) / head.ROUND_S


async def test_the_head_is_never_behind_who_asks() -> None:
    """A position of the store's own is not above the head that is seen, however recent the last look is."""
    store, watch = make()
    for number in range(1, 50):
        store.head = number
        assert watch.latest(number) == number
    assert watch.latest(10) == 49
