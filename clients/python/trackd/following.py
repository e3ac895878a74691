"""Where somebody who follows has got to: what to ask for next, and what to make of frames and of broken streams.

Without network and threads, for trackd.subscription and trackd.aio alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from trackd.backoff import Backoff, Patience
from trackd.errors import Internal, TrackdError, breaks_for_good
from trackd.v1.event_pb2 import StoredEvent
from trackd.v1.query_pb2 import EventFilter
from trackd.v1.subscribe_pb2 import SubscribeGap, SubscribeRequest, SubscribeResponse

METHOD = "/trackd.v1.SubscribeService/Subscribe"


class Following:
    """The state of one subscription, over all its streams."""

    def __init__(
        self,
        where: EventFilter | None,
        *,
        after_position: int | None,
        received_from_ms: int | None,
        on_frame: Callable[[SubscribeResponse], None] | None,
        on_interruption: Callable[[TrackdError], None] | None,
        give_up_after_s: float,
        backoff: Backoff | None,
    ) -> None:
        if after_position is not None and received_from_ms is not None:
            raise ValueError("after_position or received_from_ms, not both")
        self.position = after_position
        """Everything up to here was handed out, so resume here once it is handled. None before the first confirmation.
        """
        self.head: int | None = None
        """The daemon's head, as far as it has told."""
        self.gaps: list[SubscribeGap] = []
        """Months of which events may be missing among those that are handed out."""
        self._received_from_ms = received_from_ms
        self._where = where
        self._on_frame = on_frame
        self._on_interruption = on_interruption
        self._backoff = backoff or Backoff()
        self._patience = Patience(give_up_after_s)
        self._events: Iterator[StoredEvent] = iter(())

    def next_event(self) -> StoredEvent | None:
        """The next event of the frames that were taken; None: another frame is needed."""
        for stored in self._events:
            if self.position is not None and stored.position <= self.position:
                message = f"event {stored.position} came behind {self.position}"
                raise Internal(message, code="INTERNAL", reason="PROTOCOL_VIOLATION")
            self.position = stored.position
            return stored
        return None

    def request(self) -> SubscribeRequest:
        """What the next stream is to be asked for."""
        if self.position is not None:
            return SubscribeRequest(filter=self._where, after_position=self.position)
        if self._received_from_ms is not None:
            return SubscribeRequest(filter=self._where, received_from_ms=self._received_from_ms)
        return SubscribeRequest(filter=self._where)

    def take(self, frame: SubscribeResponse) -> None:
        """Takes note of a frame."""
        kind = frame.WhichOneof("frame")
        if kind == "events":
            self.head = frame.events.head
            self._events = iter(frame.events.events)
        elif kind == "confirmed":
            self.position, self.head = frame.confirmed.after_position, frame.confirmed.head
        elif kind == "checkpoint":
            self.position = frame.checkpoint.position
        elif kind == "heartbeat":
            self.position = self.head = frame.heartbeat.head
        elif kind == "caught_up":
            self.head = frame.caught_up.head
        elif kind == "gap" and frame.gap not in self.gaps:
            self.gaps.append(frame.gap)
        if kind != "confirmed":
            self._backoff.reset()
            self._patience.watch(0, waiting=False)
        if kind != "events" and self._on_frame is not None:
            self._on_frame(frame)

    def interrupted(self, error: TrackdError) -> float:
        """After a stream has broken: seconds to wait before the next one. Raises the error where that is no use."""
        now_s = time.monotonic()
        self._patience.watch(now_s, waiting=True)
        left_s = self._patience.left_s(now_s)
        delay_s = self._backoff.next_delay_s(error.retry_after_ms)
        if breaks_for_good(error) or (left_s is not None and left_s <= delay_s):
            raise error
        if self._on_interruption is not None:
            self._on_interruption(error)
        return delay_s
