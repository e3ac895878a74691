"""The client for asyncio: every call of trackd.Client, to be awaited, and an Appender.

    async with trackd.aio.Client("127.0.0.1:7077") as client:
        await client.append([trackd.new_event("review_submitted", user_id="ann")], source="reviews")
        async for stored in client.subscribe(after_position=0): ...

To track from asyncio use trackd.Tracker: `track` does not block (but with when_full="block"), and `aflush` and `aclose`
can be awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from trackd import requests
from trackd.aio_appender import Appender
from trackd.backoff import Backoff
from trackd.channel import Endpoint, Tls, Token
from trackd.errors import TrackdError, Unreachable, from_rpc_error
from trackd.following import METHOD, Following
from trackd.health import Health
from trackd.questions import QuestionWords, new_question
from trackd.requests import PAGE_SIZE_MAX, Answer, Call, DimensionName, DurabilityName, OrderName, Stubs
from trackd.retention import AsyncRetention
from trackd.table import Table
from trackd.v1.event_pb2 import Event, StoredEvent
from trackd.v1.event_type_pb2 import EventType, ListEventTypesResponse
from trackd.v1.ingest_pb2 import AppendResult
from trackd.v1.query_pb2 import AggregateRequest, CountEventsResponse, EventFilter, ListEventsResponse
from trackd.v1.subscribe_pb2 import SubscribeGap, SubscribeRequest, SubscribeResponse

__all__ = ["Appender", "Client", "Subscription"]


class Client:
    """A connection to one daemon, for tasks of one event loop. An asynchronous context manager; or close it.

    What each call promises is written at the call of the same name of trackd.Client. Every call ends within `timeout_s`
    seconds or raises DeadlineExceeded. Calls raise TrackdError and nothing else; none is repeated by itself. Only
    `subscribe` lasts.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        token: Token | None = None,
        tls: Tls | bool | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """Must be called where an event loop runs. The arguments are those of trackd.Client."""
        asyncio.get_running_loop()
        endpoint = Endpoint.of(target, token=token, tls=tls)
        self.target = endpoint.target
        self._timeout_s = timeout_s
        self._channel = endpoint.open_aio()
        self._stubs = Stubs(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection. Closing twice is fine."""
        await self._channel.close()

    async def append(
        self, events: Iterable[Event], *, source: str, durability: DurabilityName = "durable", atomic: bool = False
    ) -> AppendResult:
        """Sends one batch and returns what became of each event: read `rejected` and `items`."""
        return await self._call(requests.append(events, source=source, durability=durability, atomic=atomic))

    async def list_events(
        self,
        where: EventFilter | None = None,
        *,
        order: OrderName = "time_desc",
        page_size: int = PAGE_SIZE_MAX,
        at_least_position: int | None = None,
    ) -> AsyncIterator[StoredEvent]:
        """All matching events, fetched page by page while they are consumed, all cut at one head."""
        token = ""
        while True:
            page = await self.list_events_page(
                where, order=order, page_size=page_size, page_token=token, at_least_position=at_least_position
            )
            for stored in page.events:
                yield stored
            token = page.next_page_token
            if not token:
                return

    async def list_events_page(
        self,
        where: EventFilter | None = None,
        *,
        order: OrderName = "time_desc",
        page_size: int = 100,
        page_token: str = "",
        at_least_position: int | None = None,
    ) -> ListEventsResponse:
        """One page of at most `page_size` (1 to 1,000) events, with the token of the next and the head it is cut at."""
        return await self._call(
            requests.list_events_page(
                where, order=order, page_size=page_size, page_token=page_token, at_least_position=at_least_position
            )
        )

    async def count_events(
        self,
        where: EventFilter | None = None,
        *,
        by: Sequence[DimensionName] = (),
        at_least_position: int | None = None,
    ) -> CountEventsResponse:
        """Matching events counted in groups; without dimensions one row with the total."""
        return await self._call(requests.count_events(where, by=by, at_least_position=at_least_position))

    async def aggregate(
        self, metrics: str | Sequence[str], dimensions: str | Sequence[str] = (), **words: Unpack[QuestionWords]
    ) -> Table:
        """A table of metrics by dimensions, in the words of AggregateRequest (protos/trackd/v1/query.proto)."""
        return await self.ask(new_question(metrics, dimensions, **words))

    async def ask(self, question: AggregateRequest) -> Table:
        """The answer to an aggregate question that is a message already: see trackd.new_question."""
        return await self._call(requests.ask(question))

    def subscribe(
        self,
        where: EventFilter | None = None,
        *,
        after_position: int | None = None,
        received_from_ms: int | None = None,
        on_frame: Callable[[SubscribeResponse], None] | None = None,
        on_interruption: Callable[[TrackdError], None] | None = None,
        give_up_after_s: float = 60.0,
        backoff: Backoff | None = None,
    ) -> Subscription:
        """Follows the daemon: an asynchronous iterator over matching events, each once and in order.

        It resumes by itself, and begins behind `after_position` (0: with the first event there is), with the first
        event received at or after `received_from_ms`, or, with neither, now.
        """
        following = Following(
            where,
            after_position=after_position,
            received_from_ms=received_from_ms,
            on_frame=on_frame,
            on_interruption=on_interruption,
            give_up_after_s=give_up_after_s,
            backoff=backoff,
        )
        return Subscription(self._channel, following)

    async def list_event_types(self) -> AsyncIterator[EventType]:
        """All types by name, fetched page by page."""
        token = ""
        while True:
            page = await self.list_event_types_page(page_size=PAGE_SIZE_MAX, page_token=token)
            for event_type in page.event_types:
                yield event_type
            token = page.next_page_token
            if not token:
                return

    async def list_event_types_page(self, *, page_size: int = 100, page_token: str = "") -> ListEventTypesResponse:
        """One page of types, and whether unregistered types are taken."""
        return await self._call(requests.list_event_types_page(page_size=page_size, page_token=page_token))

    async def describe_event_type(self, name: str) -> EventType:
        """What is known of one type. Raises NotFound (TYPE_UNKNOWN)."""
        return await self._call(requests.describe_event_type(name))

    async def register_event_type(
        self, name: str, description: str = "", *, dimensions: Sequence[str] = ()
    ) -> EventType:
        """Registers a type or gives a known one another description and other dimensions; twice is the same as once."""
        return await self._call(requests.register_event_type(name, description, dimensions))

    async def health(self, service: str = "") -> Health:
        """Whether the daemon, or one service of it, serves. Raises Unreachable, or NotFound for an unknown service."""
        return await self._call(requests.health(service))

    @property
    def retention(self) -> AsyncRetention:
        """Plans, jobs, holds and evidence: see trackd.retention. Served on the daemon's own Unix socket."""
        return AsyncRetention(self._call, self._stubs)

    async def _call(self, call: Call[Answer]) -> Answer:
        try:
            return call.read(await call.method(self._stubs)(call.request, timeout=self._timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            if _cancelled_from_outside():
                raise
            raise Unreachable("the Client was closed", code="CANCELLED", retryable=True) from None


class Subscription(AsyncIterator[StoredEvent]):
    """Matching events behind a position, for as long as somebody iterates; made by `Client.subscribe`.

    It promises what trackd.Subscription promises. One task iterates; any may `close`. An asynchronous context manager.
    """

    def __init__(self, channel: grpc.aio.Channel, following: Following) -> None:
        self._following = following
        self._method: Any = channel.unary_stream(
            METHOD,
            request_serializer=SubscribeRequest.SerializeToString,
            response_deserializer=SubscribeResponse.FromString,
        )
        self._call: Any = None
        self._closed = asyncio.Event()

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __anext__(self) -> StoredEvent:
        while not self._closed.is_set():
            stored = self._following.next_event()
            if stored is not None:
                return stored
            await self._advance()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Ends it, also while another task waits for the next event. Closing twice is fine."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    async def _advance(self) -> None:
        """Takes the next frame, or waits until another stream may be opened; closes itself at the end of it all."""
        try:
            if self._call is None:
                self._call = self._method(self._following.request())
            frame = await self._call.read()
        except grpc.RpcError as broken:
            self._call = None
            if not self._closed.is_set():
                await self._wait_out(from_rpc_error(broken))
        except asyncio.CancelledError:
            # The task that iterates may be cancelled and iterate again; else the call was: by `close`, or the Client's.
            self._call = None
            if _cancelled_from_outside():
                raise
            await self.close()
        except grpc.aio.UsageError:  # gRPC's word for a channel that was closed
            await self.close()
        else:
            if frame is grpc.aio.EOF:
                await self.close()
            else:
                self._following.take(frame)

    async def _wait_out(self, error: TrackdError) -> None:
        try:
            delay_s = self._following.interrupted(error)
        except TrackdError:
            await self.close()
            raise
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), delay_s)


def _cancelled_from_outside() -> bool:
    """Whether somebody cancels the task that runs; else what it awaited was cancelled by itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
