"""What a subscriber is told, frame by frame, over a store that a test writes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from retention.month import Month
from server.errors import Exhausted, Invalid, PositionOutOfRange, TrackdError
from server.model import EventFilter, MonthInfo, MonthState
from server.storage.memory.store import MemoryStore
from server.subscribe import subscription as module
from server.subscribe.frames import CaughtUp, Checkpoint, Confirmed, Events, Frame, Gap, GapReason, Heartbeat
from server.subscribe.subscription import Subscription
from tests.support.events import append, append_group, make_batch, make_event, positions, read
from tests.support.following import Following, delivered, following, frames, kinds
from tests.support.population import MONTHS, TYPES, populate


class Losing(MemoryStore):
    """A store that can lose months: a month is damaged, or dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.damaged: set[Month] = set()
        self.dropped: set[Month] = set()

    def months(self) -> Sequence[MonthInfo]:
        """Without those that were dropped."""
        return [
            MonthInfo(info.month, 1, MonthState.DAMAGED if info.month in self.damaged else MonthState.OPEN)
            for info in super().months()
            if info.month not in self.dropped
        ]

    def last_positions(self) -> Mapping[Month, int]:
        """Only of those that can be read."""
        return {
            month: last for month, last in super().last_positions().items() if month not in self.damaged | self.dropped
        }


def caught_up(frame: Frame) -> bool:
    """The end of what was there."""
    return isinstance(frame, CaughtUp)


def commit(made: Following, *numbers: int, month: str = "2025-11", **content: Any) -> list[int]:
    """Appends events in one group, as the writer does, and tells of it; their positions."""
    (answer,) = append_group(made.store, make_batch(*(make_event(n, month, **content) for n in numbers)))
    made.service.moved()
    assert answer.first_position is not None
    return list(range(answer.first_position, answer.first_position + len(numbers)))


async def told(subscription: Subscription, count: int) -> list[Frame]:
    """Its next frames."""
    async with asyncio.timeout(20):
        return [frame for _ in range(count) if (frame := await subscription.next())]


async def test_from_the_beginning_everything_comes_and_then_what_is_new() -> None:
    """Confirmed, events in frames, caught up; later events in the order of their commits, over all months."""
    store = MemoryStore()
    events = populate(store)
    async with following(store) as made:
        subscription = await made.subscribe(after=0)
        history = await frames(subscription, caught_up)
        assert history[0] == Confirmed(0, store.head)
        assert history[-1] == CaughtUp(store.head)
        assert delivered(history) == positions(events)
        late = commit(made, 9_001, month="2003-01") + commit(made, 9_002, 9_003, month="2025-11")
        assert delivered(await told(subscription, 1)) == late
        assert subscription.position == store.head


async def test_without_a_position_only_what_is_acknowledged_later_comes() -> None:
    """Nothing of what was there, and the first event behind the confirmation."""
    store = MemoryStore()
    populate(store)
    async with following(store) as made:
        subscription = await made.subscribe()
        assert await told(subscription, 2) == [Confirmed(store.head, store.head), CaughtUp(store.head)]
        new = commit(made, 9_001)
        assert delivered(await told(subscription, 1)) == new


@pytest.mark.parametrize("seed", range(8))
async def test_resuming_anywhere_loses_nothing_and_repeats_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off after any frame and resumed at what it told, while events go on coming: each that matches, once."""
    monkeypatch.setattr(module, "QUIET_S", 0.01)
    chance = random.Random(seed)
    store = MemoryStore()
    where = EventFilter(types=tuple(chance.sample(TYPES, chance.choice((0, 1, 2)))))
    number = 0
    got: list[int] = []
    async with following(store) as made:
        at = 0
        for _ in range(30):
            for _ in range(chance.randrange(3)):
                commit(made, *range(number, number + 4), type=chance.choice(TYPES), month=chance.choice(MONTHS))
                number += 4
            subscription = await made.subscribe(where, after=at)
            for frame in await told(subscription, chance.randrange(1, 7)):
                got += delivered([frame])
                match frame:
                    case Events(last=position) | Checkpoint(position) | Heartbeat(position):
                        assert position >= at
                        at = position
            made.service.close(subscription)
        rest = await frames(await made.subscribe(where, after=at), caught_up)
    assert got + delivered(rest) == positions(read(store, where))


async def test_silence_is_broken_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a heartbeat that says how far everything was sent, also if nothing of what was stored matches."""
    monkeypatch.setattr(module, "QUIET_S", 0.05)
    async with following(MemoryStore()) as made:
        subscription = await made.subscribe(EventFilter(types=("never",)))
        assert await told(subscription, 3) == [Confirmed(0, 0), CaughtUp(0), Heartbeat(0)]
        commit(made, 1, 2, 3)
        assert await told(subscription, 1) in ([Heartbeat(3)], [Checkpoint(3)])
        assert await told(subscription, 1) == [Heartbeat(3)]


async def test_a_filtered_stream_tells_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after many positions without a match, and one at least every second while commits go on."""
    monkeypatch.setattr(module, "SKIPPED_MAX", 100)
    store = MemoryStore()
    append(store, *(make_event(n) for n in range(250)))
    async with following(store) as made:
        subscription = await made.subscribe(EventFilter(types=("never",)), after=0)
        assert kinds(await told(subscription, 3)) == ["Confirmed", "Checkpoint", "CaughtUp"]
        monkeypatch.setattr(module, "QUIET_S", 0.05)

        async def keep_committing() -> None:
            for number in range(1_000, 2_000):
                commit(made, number)
                await asyncio.sleep(0.002)

        committing = asyncio.create_task(keep_committing())
        checkpoints = [frame for frame in await told(subscription, 5) if isinstance(frame, Checkpoint | Heartbeat)]
        committing.cancel()
        assert len(checkpoints) == 5


async def test_a_reading_that_lasts_shows_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first page is still being looked for: a checkpoint at the same position."""
    monkeypatch.setattr(module, "QUIET_S", 0.02)
    store = MemoryStore()
    append(store, make_event(1))
    async with following(store, readers=1) as made:
        subscription = await made.subscribe(after=0)
        reader = await made.service._turns._free.get()  # noqa: SLF001  # as if somebody else had it
        assert await told(subscription, 3) == [Confirmed(0, 1), Checkpoint(0), Checkpoint(0)]
        made.service._turns._free.put_nowait(reader)  # noqa: SLF001
        assert kinds(await told(subscription, 2)) == ["Events", "CaughtUp"]


async def test_it_ends_behind_its_last_position() -> None:
    """A filter with up_to_position is a bounded stream: it waits for what is still to come, then it is over."""
    store = MemoryStore()
    append(store, *(make_event(n) for n in range(10)))
    async with following(store) as made:
        ended = await frames(await made.subscribe(EventFilter(up_to_position=7), after=2), lambda _frame: False)
        assert delivered(ended) == [3, 4, 5, 6, 7]
        assert ended[-1] == Checkpoint(7)
        open_end = await made.subscribe(EventFilter(up_to_position=12), after=9)
        assert kinds(await frames(open_end, caught_up)) == ["Confirmed", "Events", "CaughtUp"]
        commit(made, 100, 101, 102)
        rest = await frames(open_end, lambda _frame: False)
        assert delivered(rest) == [11, 12]
        assert rest[-1] == Checkpoint(12)
        assert await open_end.next() is None


async def test_the_filter_may_say_where_to_begin() -> None:
    """after_position of the filter moves the beginning up, never down, and never above the head."""
    store = MemoryStore()
    append(store, *(make_event(n) for n in range(10)))
    async with following(store) as made:
        first = await frames(await made.subscribe(EventFilter(after_position=6), after=2), caught_up)
        assert (first[0], delivered(first)) == (Confirmed(6, 10), [7, 8, 9, 10])
        ahead = await made.subscribe(EventFilter(after_position=11))
        assert await told(ahead, 2) == [Confirmed(10, 10), CaughtUp(10)]
        commit(made, 100, 101)
        assert delivered(await told(ahead, 1)) == [12]


@pytest.mark.parametrize(
    ("after", "kind", "reason", "field"),
    [(11, PositionOutOfRange, "POSITION_AHEAD", "after_position"), (-1, Invalid, "POSITION_INVALID", "after_position")],
)
async def test_a_position_that_cannot_be_is_refused(
    after: int, kind: type[TrackdError], reason: str, field: str
) -> None:
    """Above the head, or below nothing; the head itself is fine."""
    store = MemoryStore()
    append(store, *(make_event(n) for n in range(10)))
    async with following(store) as made:
        with pytest.raises(kind) as caught:
            await made.subscribe(after=after)
        assert (caught.value.reason, caught.value.field) == (reason, field)
        assert caught.value.hint
        assert made.service.streams == 0
        await made.subscribe(after=10)


async def test_the_number_of_subscribers_is_bounded() -> None:
    """One more is told to come back later; when one goes there is room again."""
    async with following(MemoryStore(), streams_max=2) as made:
        first, _second = await made.subscribe(), await made.subscribe()
        with pytest.raises(Exhausted) as caught:
            await made.subscribe()
        assert caught.value.reason == "SUBSCRIBERS_FULL"
        assert caught.value.retry_after_ms
        assert "subscribe.streams_max" in caught.value.hint
        made.service.close(first)
        made.service.close(first)
        await made.subscribe()
        assert made.service.streams == 2


async def test_what_many_want_is_read_once() -> None:
    """Those who follow the head with one filter cost one page a commit; those with another filter one more."""
    store = MemoryStore()
    async with following(store) as made:
        everything = [await made.subscribe() for _ in range(20)]
        others = [await made.subscribe(EventFilter(types=("pr_opened",))) for _ in range(20)]
        for subscription in everything + others:
            await told(subscription, 2)
        for number in range(10):
            new = commit(made, number)
            got = await asyncio.gather(*(told(subscription, 1) for subscription in everything + others))
            assert [delivered(each) for each in got] == [new] * 40
        assert 20 <= made.pages.read <= 24


async def test_a_month_that_was_damaged_before_is_named_once() -> None:
    """To those who read on from before it went missing; the events of the other months all come."""
    store = Losing()
    events = populate(store)
    store.damaged = {Month.parse("2025-11")}
    rest = [event for event in events if Month.of(event.timestamp_ms) not in store.damaged]
    async with following(store) as made:
        got = await frames(await made.subscribe(after=0), caught_up)
        assert got[1] == Gap(Month.parse("2025-11"), GapReason.DAMAGED)
        assert kinds(got).count("Gap") == 1
        assert delivered(got) == positions(rest)
        assert kinds(await frames(await made.subscribe(), caught_up)) == ["Confirmed", "CaughtUp"]
        elsewhere = EventFilter(start_ms=Month.parse("2025-12").start_ms)
        assert "Gap" not in kinds(await frames(await made.subscribe(elsewhere, after=0), caught_up))


@pytest.mark.parametrize("reason", GapReason)
async def test_a_month_that_goes_meanwhile_is_named(reason: GapReason) -> None:
    """Dropped or damaged while somebody is on the way through it, who is told of it; who is past it is not."""
    store = Losing()
    populate(store, events=600)
    month = Month.parse("2025-11")
    async with following(store) as made:
        subscription, live = await made.subscribe(after=0), await made.subscribe()
        await told(live, 2)
        begun = await told(subscription, 3)
        (store.damaged if reason is GapReason.DAMAGED else store.dropped).add(month)
        rest = await frames(subscription, caught_up)
        assert [frame for frame in rest if isinstance(frame, Gap)] == [Gap(month, reason)]
        others = [event.position for event in read(store) if Month.of(event.timestamp_ms) != month]
        assert set(others) <= set(delivered(begun + rest))
        commit(made, 9_001, month="2025-12")
        assert kinds(await told(live, 1)) == ["Events"]


async def test_draining_ends_all_soon() -> None:
    """Those who wait and those who read: `next` gives None, and says why."""
    store = MemoryStore()
    populate(store)
    async with following(store) as made:
        waiting, reading = await made.subscribe(), await made.subscribe(after=0)
        await told(waiting, 2)
        last = asyncio.create_task(told(waiting, 1))
        await asyncio.sleep(0.01)
        made.service.drain()
        assert await asyncio.wait_for(last, 0.5) == []
        assert waiting.draining
        await frames(reading, lambda _frame: False)
        assert reading.draining
        late = await made.subscribe(after=0)
        assert kinds(await frames(late, lambda _frame: False)) == ["Confirmed"]
        assert late.draining
        for subscription in (waiting, reading, late):
            made.service.close(subscription)
        assert made.service.streams == 0


async def test_the_lag_is_that_of_the_slowest() -> None:
    """0 without subscribers; what one does not take stays in the store."""
    store = MemoryStore()
    append(store, *(make_event(n) for n in range(50)))
    async with following(store) as made:
        assert made.service.lag == 0
        slow, quick = await made.subscribe(after=10), await made.subscribe(after=10)
        await frames(quick, caught_up)
        assert made.service.lag == 40
        await frames(slow, caught_up)
        assert made.service.lag == 0


async def test_a_subscriber_that_does_not_ask_costs_nothing() -> None:
    """While it does not call for the next frame nothing is read for it, however much is stored."""
    store = MemoryStore()
    async with following(store) as made:
        subscription = await made.subscribe()
        await told(subscription, 2)
        for number in range(100):
            commit(made, number)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert made.pages.read == 0
        assert delivered(await told(subscription, 20)) == list(range(1, 101))
