"""Which months the daemon seals, and when; and what happens when that fails or the daemon stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from retention.month import Month
from server.config import Rotation as Settings
from server.errors import Corrupt
from server.model import MonthState, Rebuilt
from server.rotation import DAY_MS, RETRY_S, Rotation
from server.storage.memory.store import MemoryStore
from tests.support.events import append, make_event

OCTOBER, NOVEMBER = Month(2025, 10), Month(2025, 11)


class Clock:
    """Two clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.now_ms = NOVEMBER.start_ms
        self.seconds = 1_000.0


def rotation(store: MemoryStore, clock: Clock, days: int = 3, quiet: int = 60) -> Rotation:
    """What is tested, with a writer that does everything at once."""

    async def on_writer(action: Callable[[], Any]) -> Any:
        return action()

    settings = Settings(seal_after_days=days, quiet_minutes=quiet)
    return Rotation(store, on_writer, settings, now_ms=lambda: clock.now_ms, monotonic=lambda: clock.seconds)


def populated() -> MemoryStore:
    """Two months."""
    store = MemoryStore()
    append(store, make_event(1, "2025-10"), make_event(2, "2025-11"))
    return store


def states(store: MemoryStore) -> list[str]:
    """Of both months."""
    return [info.state.value for info in store.months()]


async def test_a_month_is_sealed_days_after_its_end() -> None:
    """And once it was quiet for long enough, as far as this run has seen; the month after it is not touched."""
    store, clock = populated(), Clock()
    sealing = rotation(store, clock)
    clock.now_ms = OCTOBER.end_ms + 3 * DAY_MS
    assert sealing.due() == []
    clock.seconds += 3_599
    assert sealing.due() == []
    clock.seconds += 1
    assert [info.month for info in sealing.due()] == [OCTOBER]
    clock.now_ms -= 1
    assert sealing.due() == []
    clock.now_ms += 1
    await sealing.look()
    assert states(store) == ["sealed", "open"]
    assert sealing.due() == []
    await sealing.stop()


async def test_an_import_is_not_cut_off() -> None:
    """Each event for a month begins its quiet time anew."""
    store, clock = populated(), Clock()
    sealing = rotation(store, clock)
    clock.now_ms = NOVEMBER.end_ms
    sealing.due()
    for number in range(3, 6):
        clock.seconds += 3_000
        append(store, make_event(number, "2025-10"))
        assert sealing.due() == []
    clock.seconds += 3_000
    assert sealing.due() == []
    clock.seconds += 600
    assert [info.month for info in sealing.due()] == [OCTOBER]
    await sealing.stop()


async def test_it_can_be_switched_off() -> None:
    """0 days: never; `run` returns."""
    store, clock = populated(), Clock()
    sealing = rotation(store, clock, days=0, quiet=0)
    clock.now_ms = NOVEMBER.end_ms + 10_000 * DAY_MS
    await asyncio.wait_for(sealing.run(), 5)
    assert states(store) == ["open", "open"]
    await sealing.stop()


async def test_what_was_begun_goes_on() -> None:
    """A month that is SEALING is sealed whatever its age."""
    store, clock = populated(), Clock()
    store.fence(NOVEMBER)
    sealing = rotation(store, clock)
    await sealing.look()
    assert states(store) == ["open", "sealed"]
    await sealing.stop()


async def test_a_failure_is_tried_again_later() -> None:
    """And does not keep other months from being sealed."""

    class Failing(MemoryStore):
        broken = True

        def rebuild(self, month: Month, state: MonthState, heard: Callable[[int], None] | None = None) -> Rebuilt:
            if self.broken and month == OCTOBER:
                raise Corrupt("FILE_DAMAGED", "the copy differs")
            return super().rebuild(month, state, heard)

    store, clock = Failing(), Clock()
    append(store, make_event(1, "2025-10"), make_event(2, "2025-11"))
    sealing = rotation(store, clock, quiet=0)
    clock.now_ms = NOVEMBER.end_ms + 3 * DAY_MS
    await sealing.look()
    assert states(store) == ["sealing", "sealed"]
    store.broken = False
    await sealing.look()
    assert states(store) == ["sealing", "sealed"]
    clock.seconds += RETRY_S
    await sealing.look()
    assert states(store) == ["sealed", "sealed"]
    await sealing.stop()
