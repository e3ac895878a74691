"""Following a daemon: events as they are stored, each once and in order, whatever happens to the connection.

No threads: the stream is read by whoever iterates, so what is not asked for stays in the daemon's storage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from trackd.backoff import Backoff
from trackd.errors import TrackdError, from_rpc_error
from trackd.following import METHOD, Following
from trackd.v1.event_pb2 import StoredEvent
from trackd.v1.query_pb2 import EventFilter
from trackd.v1.subscribe_pb2 import SubscribeGap, SubscribeRequest, SubscribeResponse

__all__ = ["METHOD", "Subscription"]


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
        self._following = Following(
            where,
            after_position=after_position,
            received_from_ms=received_from_ms,
            on_frame=on_frame,
            on_interruption=on_interruption,
            give_up_after_s=give_up_after_s,
            backoff=backoff,
        )
        self._method = channel.unary_stream(
            METHOD,
            request_serializer=SubscribeRequest.SerializeToString,
            response_deserializer=SubscribeResponse.FromString,
        )
        self._call: Any = None
        self._guard = threading.Lock()
        self._closed = threading.Event()

    @property
    def position(self) -> int | None:
        """Everything up to here was handed out: resume here once it is handled. None before the first confirmation."""
        return self._following.position

    @property
    def head(self) -> int | None:
        """The daemon's head, as far as it has told."""
        return self._following.head

    @property
    def gaps(self) -> Sequence[SubscribeGap]:
        """Months of which events may be missing among those that are handed out."""
        return self._following.gaps

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> StoredEvent:
        while not self._closed.is_set():
            stored = self._following.next_event()
            if stored is not None:
                return stored
            try:
                self._following.take(self._receive())
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
                    self._call = self._method(self._following.request())
                except ValueError:  # gRPC's word for a channel that was closed
                    raise StopIteration from None
        try:
            frame: SubscribeResponse = next(self._call)
        except grpc.RpcError:
            self._call = None
            raise
        return frame

    def _wait_out(self, error: TrackdError) -> None:
        try:
            delay_s = self._following.interrupted(error)
        except TrackdError:
            self.close()
            raise
        self._closed.wait(delay_s)
