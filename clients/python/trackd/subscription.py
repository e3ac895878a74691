"""Following a daemon: events as they are stored, each once and in order, whatever happens to the connection.

No threads: the stream is read by whoever iterates, so what is not asked for stays in the daemon's storage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from trackd.backoff import Backoff, Patience
from trackd.errors import Internal, TrackdError, breaks_for_good, from_rpc_error
from trackd.v1.event_pb2 import StoredEvent
from trackd.v1.query_pb2 import EventFilter
from trackd.v1.subscribe_pb2 import SubscribeGap, SubscribeRequest, SubscribeResponse

METHOD = "/trackd.v1.SubscribeService/Subscribe"


class Subscription(Iterator[StoredEvent]):
    """Matching events behind a position, for as long as somebody iterates; made by `Client.subscribe`.

    A stream that breaks, a daemon that restarts, a refusal "for now": all are waited out with backoff, and the next
    stream goes on behind `position`, so that no event is left out and none comes twice. One thread iterates; any may
    call `close`. A context manager.

    Iterating ends after `close`, after the filter's `up_to_position`, and when the Client is closed. It raises what
    cannot be waited out (OutOfRange for a position above the head), and the last error when nothing was heard of the
    daemon for `give_up_after_s` seconds.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        where: EventFilter | None = None,
        *,
        after_position: int | None = None,
        received_from_ms: int | None = None,
        on_frame: Callable[[SubscribeResponse], None] | None = None,
        on_interruption: Callable[[TrackdError], None] | None = None,
        give_up_after_s: float = 60.0,
        backoff: Backoff | None = None,
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
        self._method = channel.unary_stream(
            METHOD,
            request_serializer=SubscribeRequest.SerializeToString,
            response_deserializer=SubscribeResponse.FromString,
        )
        self._events: Iterator[StoredEvent] = iter(())
        self._call: Any = None
        self._guard = threading.Lock()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> StoredEvent:
        while not self._closed.is_set():
            for stored in self._events:
                if self.position is not None and stored.position <= self.position:
                    message = f"event {stored.position} came behind {self.position}"
                    raise Internal(message, code="INTERNAL", reason="PROTOCOL_VIOLATION")
                self.position = stored.position
                return stored
            try:
                self._take(self._receive())
            except StopIteration:
                self.close()
            except grpc.RpcError as broken:
                if not self._closed.is_set():
                    self._wait_out(from_rpc_error(broken))
        raise StopIteration

    def close(self) -> None:
        """Ends it, also while another thread waits for the next event. Closing twice is fine."""
        with self._guard:
            self._closed.set()
            if self._call is not None:
                self._call.cancel()

    def _receive(self) -> SubscribeResponse:
        """The next frame. StopIteration: the stream is over, in order or because of `close`."""
        with self._guard:
            if self._closed.is_set():
                raise StopIteration
            if self._call is None:
                try:
                    self._call = self._method(self._request())
                except ValueError:  # gRPC's word for a channel that was closed
                    raise StopIteration from None
        try:
            frame: SubscribeResponse = next(self._call)
        except grpc.RpcError:
            self._call = None
            raise
        return frame

    def _request(self) -> SubscribeRequest:
        if self.position is not None:
            return SubscribeRequest(filter=self._where, after_position=self.position)
        if self._received_from_ms is not None:
            return SubscribeRequest(filter=self._where, received_from_ms=self._received_from_ms)
        return SubscribeRequest(filter=self._where)

    def _take(self, frame: SubscribeResponse) -> None:
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

    def _wait_out(self, error: TrackdError) -> None:
        """After a stream has broken: gives up, or waits as long as it is wise before the next one."""
        now_s = time.monotonic()
        self._patience.watch(now_s, waiting=True)
        left_s = self._patience.left_s(now_s)
        delay_s = self._backoff.next_delay_s(error.retry_after_ms)
        if breaks_for_good(error) or (left_s is not None and left_s <= delay_s):
            self.close()
            raise error
        if self._on_interruption is not None:
            self._on_interruption(error)
        self._closed.wait(delay_s)
