"""Following a store without gRPC: a service over it, and what a subscriber gets told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from server.config import Subscribe
from server.model import Event, EventFilter
from server.observe import Observer, PageRead
from server.storage.contract import Store
from server.subscribe.frames import Events, Frame
from server.subscribe.service import SubscribeService
from server.subscribe.subscription import Subscription
from tests.support.events import EVERYTHING

PATIENCE_S = 20.0


def encode(events: Sequence[Event], _head: int) -> tuple[bytes, int]:
    """Stands in for the wire: the positions of at most five events."""
    taken = [event.position for event in events[:5]]
    return orjson.dumps(taken), len(taken)


def decoded(frame: Events) -> list[int]:
    """The positions in a frame of events."""
    positions: list[int] = orjson.loads(frame.encoded)
    assert len(positions) == frame.events
    assert positions[-1] == frame.last
    return positions


class Pages(Observer):
    """Counts the pages that were read."""

    def __init__(self) -> None:
        self.read = 0

    def page_read(self, page: PageRead) -> None:
        """One more."""
        self.read += 1


@dataclass
class Following:
    """A service, and the subscriptions that a test opened."""

    store: Store
    service: SubscribeService
    pages: Pages
    opened: list[Subscription] = field(default_factory=list)

    async def subscribe(
        self, where: EventFilter = EVERYTHING, *, after: int | None = None, received_ms: int | None = None
    ) -> Subscription:
        """One more subscription."""
        opened = await self.service.subscribe(where, encode, after=after, received_ms=received_ms)
        self.opened.append(opened)
        return opened


@asynccontextmanager
async def following(store: Store, *, streams_max: int = 64, readers: int = 2) -> AsyncIterator[Following]:
    """A service over a store; at the end every subscription is closed."""
    pages = Pages()
    service = SubscribeService(store, Subscribe(streams_max=streams_max, readers=readers), pages)
    made = Following(store, service, pages)
    try:
        yield made
    finally:
        for subscription in made.opened:
            service.close(subscription)
        await service.stop()


async def frames(subscription: Subscription, enough: Callable[[Frame], bool]) -> list[Frame]:
    """What it tells, up to the first frame that is enough, or up to its end."""
    told: list[Frame] = []
    async with asyncio.timeout(PATIENCE_S):
        while frame := await subscription.next():
            told.append(frame)
            if enough(frame):
                break
    return told


def kinds(told: Sequence[Frame]) -> list[str]:
    """The names of frames."""
    return [type(frame).__name__ for frame in told]


def delivered(told: Sequence[Frame]) -> list[int]:
    """The positions of all events in frames."""
    return [position for frame in told if isinstance(frame, Events) for position in decoded(frame)]
