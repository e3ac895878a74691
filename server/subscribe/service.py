"""Following as the surface sees it: open a subscription, ask it for frames, close it."""

from __future__ import annotations

from server.config import Subscribe
from server.errors import Exhausted, Invalid, PositionOutOfRange
from server.model import EventFilter
from server.observe import Observer
from server.storage.contract import Store
from server.subscribe.head import HeadWatch
from server.subscribe.missing import Missing
from server.subscribe.start import before_received
from server.subscribe.subscription import Encode, Subscription, Wanted
from server.subscribe.turns import Turns

FULL_RETRY_MS = 5_000


class SubscribeService:
    """All subscriptions of the daemon. Lives on the event loop."""

    def __init__(self, store: Store, settings: Subscribe, observer: Observer) -> None:
        self._store = store
        self._settings = settings
        self._watch = HeadWatch(lambda: store.head)
        self._turns = Turns(store, settings.readers, observer)
        self._missing = Missing(store)
        self._open: set[Subscription] = set()
        self._opening = 0
        self._draining = False

    def reconfigure(self, settings: Subscribe) -> None:
        """Takes over another bound of subscribers; those that are connected stay."""
        self._settings = settings

    def moved(self) -> None:
        """To be called once a commit: the head has moved."""
        self._watch.moved()

    async def subscribe(
        self, where: EventFilter, encode: Encode, *, after: int | None = None, received_ms: int | None = None
    ) -> Subscription:
        """A subscription that begins behind `after`, or with what was received from a time on, or, with neither, now.

        It counts as open until it is given to `close`. Raises Exhausted(SUBSCRIBERS_FULL), Invalid(POSITION_INVALID),
        PositionOutOfRange(POSITION_AHEAD).
        """
        if len(self._open) + self._opening >= self._settings.streams_max:
            raise Exhausted(
                "SUBSCRIBERS_FULL",
                f"{self._settings.streams_max} subscribers are connected already",
                hint="come back later, or raise subscribe.streams_max",
                retry_after_ms=FULL_RETRY_MS,
            )
        self._opening += 1
        try:
            wanted = await self._wanted(where, after, received_ms)
        finally:
            self._opening -= 1
        subscription = Subscription(wanted, encode, self._watch, self._turns, self._missing)
        self._open.add(subscription)
        if self._draining:
            subscription.drain()
        return subscription

    async def _wanted(self, where: EventFilter, after: int | None, received_ms: int | None) -> Wanted:
        head = self._store.head
        later_ms = None
        if after is None and received_ms is not None:
            after = await self._turns.run(lambda reader: before_received(reader, self._missing, received_ms, head))
            if after == head:
                later_ms = received_ms
        elif after is None:
            after = head
        if after < 0:
            raise Invalid(
                "POSITION_INVALID",
                f"there is no position {after}",
                hint="0 begins with the first event",
                field="after_position",
            )
        # Beside a damaged month nobody knows how far the head was before: what is stored from now on lies behind it.
        if after > head and not self._missing.damaged:
            raise PositionOutOfRange(
                "POSITION_AHEAD",
                f"position {after} is asked for and the head is {head}",
                hint="resume at a position that this daemon gave",
                field="after_position",
            )
        return Wanted(where, max(after, min(head, where.after_position or 0)), later_ms)

    def close(self, subscription: Subscription) -> None:
        """Lets go of all that it held."""
        self._open.discard(subscription)
        subscription.close()

    def drain(self) -> None:
        """Ends every subscription soon, also those that come now."""
        self._draining = True
        for subscription in self._open:
            subscription.drain()
        self._watch.wake()

    @property
    def streams(self) -> int:
        """How many subscriptions are open."""
        return len(self._open)

    @property
    def lag(self) -> int:
        """By how many positions the slowest subscriber is behind the head; 0 without any. For gauges, on any thread."""
        head = self._store.head
        return max((head - one.position for one in tuple(self._open)), default=0)

    async def stop(self) -> None:
        """Ends the readers; no subscription may be open any more."""
        await self._turns.close()
