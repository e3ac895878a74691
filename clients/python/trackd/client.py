"""Asking a daemon, one call at a time. For sending many events see trackd.appender."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import grpc

from trackd import requests
from trackd.backoff import Backoff
from trackd.channel import Endpoint, Tls, Token
from trackd.errors import TrackdError, from_rpc_error
from trackd.health import Health
from trackd.questions import new_question
from trackd.requests import PAGE_SIZE_MAX, Answer, Call, DimensionName, DurabilityName, OrderName, Stubs
from trackd.retention import Retention
from trackd.subscription import Subscription
from trackd.table import Table
from trackd.v1.event_pb2 import Event, StoredEvent
from trackd.v1.event_type_pb2 import EventType, ListEventTypesResponse
from trackd.v1.ingest_pb2 import AppendResult
from trackd.v1.query_pb2 import AggregateRequest, CountEventsResponse, EventFilter, ListEventsResponse, Predicate
from trackd.v1.subscribe_pb2 import SubscribeResponse

__all__ = ["PAGE_SIZE_MAX", "Client", "DimensionName", "DurabilityName", "OrderName"]


class Client:
    """A connection to one daemon. Use it as a context manager, or close it. Threads may share it.

    Every call ends within `timeout_s` seconds or raises DeadlineExceeded. Calls raise TrackdError and nothing else;
    none is repeated by itself. Only `subscribe` lasts.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        token: Token | None = None,
        tls: Tls | bool | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """`token`: a bearer token, or the path of a file with one, which is read anew for each call. `tls`: see Tls.

        What is not given comes from the environment (trackd.channel). ValueError for what cannot be, such as a token
        that would travel in the clear; OSError for files that cannot be read.
        """
        endpoint = Endpoint.of(target, token=token, tls=tls)
        self.target = endpoint.target
        self._timeout_s = timeout_s
        self._channel = endpoint.open()
        self._stubs = Stubs(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. Closing twice is fine."""
        self._channel.close()

    def append(
        self,
        events: Iterable[Event],
        *,
        source: str,
        durability: DurabilityName = "durable",
        atomic: bool = False,
    ) -> AppendResult:
        """Sends one batch and returns what became of each event: read `rejected` and `items`.

        When this raises Unreachable or DeadlineExceeded the outcome is unknown; sending the same events again is safe
        as long as they carry ids (trackd.new_event gives them one).
        """
        return self._call(requests.append(events, source=source, durability=durability, atomic=atomic))

    def list_events(
        self,
        where: EventFilter | None = None,
        *,
        order: OrderName = "time_desc",
        page_size: int = PAGE_SIZE_MAX,
        at_least_position: int | None = None,
    ) -> Iterator[StoredEvent]:
        """All matching events, fetched page by page while they are consumed, all cut at one head."""
        token = ""
        while True:
            page = self.list_events_page(
                where, order=order, page_size=page_size, page_token=token, at_least_position=at_least_position
            )
            yield from page.events
            token = page.next_page_token
            if not token:
                return

    def list_events_page(
        self,
        where: EventFilter | None = None,
        *,
        order: OrderName = "time_desc",
        page_size: int = 100,
        page_token: str = "",
        at_least_position: int | None = None,
    ) -> ListEventsResponse:
        """One page of at most `page_size` (1 to 1,000) events, with the token of the next and the head it is cut at."""
        return self._call(
            requests.list_events_page(
                where, order=order, page_size=page_size, page_token=page_token, at_least_position=at_least_position
            )
        )

    def count_events(
        self,
        where: EventFilter | None = None,
        *,
        by: Sequence[DimensionName] = (),
        at_least_position: int | None = None,
    ) -> CountEventsResponse:
        """Matching events counted in groups; without dimensions one row with the total."""
        return self._call(requests.count_events(where, by=by, at_least_position=at_least_position))

    def aggregate(
        self,
        metrics: str | Sequence[str],
        dimensions: str | Sequence[str] = (),
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        time_zone: str = "",
        filter: Predicate | None = None,
        order_by: str | Sequence[str] = (),
        limit: int = 0,
        totals: bool = False,
        empty_buckets: bool = False,
        compare_previous_period: bool = False,
        at_least_position: int | None = None,
    ) -> Table:
        """A table of metrics by dimensions, in the words of AggregateRequest (protos/trackd/v1/query.proto).

        For example `aggregate(["events", "users", "p95(ms)"], ["time:day", "type"], time_zone="Europe/Berlin")`.
        Filters come from trackd.where. Of a column of `order_by` with "-" in front the largest value comes first.
        """
        return self.ask(
            new_question(
                metrics,
                dimensions,
                start_ms=start_ms,
                end_ms=end_ms,
                time_zone=time_zone,
                filter=filter,
                order_by=order_by,
                limit=limit,
                totals=totals,
                empty_buckets=empty_buckets,
                compare_previous_period=compare_previous_period,
                at_least_position=at_least_position,
            )
        )

    def ask(self, question: AggregateRequest) -> Table:
        """The answer to an aggregate question that is a message already: see trackd.new_question."""
        return self._call(requests.ask(question))

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
        """Follows the daemon: an iterator over matching events, each once and in order, that resumes by itself.

        It begins behind `after_position` (0: with the first event there is), with the first event received at or after
        `received_from_ms`, or, with neither, now. `on_frame` hears of every frame but events (gaps, caught up,
        checkpoints, heartbeats), `on_interruption` of each error that is waited out; both on the thread that iterates.
        """
        return Subscription(
            self._channel,
            where,
            after_position=after_position,
            received_from_ms=received_from_ms,
            on_frame=on_frame,
            on_interruption=on_interruption,
            give_up_after_s=give_up_after_s,
            backoff=backoff,
        )

    def list_event_types(self) -> Iterator[EventType]:
        """All types by name, fetched page by page."""
        token = ""
        while True:
            page = self.list_event_types_page(page_size=PAGE_SIZE_MAX, page_token=token)
            yield from page.event_types
            token = page.next_page_token
            if not token:
                return

    def list_event_types_page(self, *, page_size: int = 100, page_token: str = "") -> ListEventTypesResponse:
        """One page of types, and whether unregistered types are taken."""
        return self._call(requests.list_event_types_page(page_size=page_size, page_token=page_token))

    def describe_event_type(self, name: str) -> EventType:
        """What is known of one type. Raises NotFound (TYPE_UNKNOWN)."""
        return self._call(requests.describe_event_type(name))

    def register_event_type(self, name: str, description: str = "", *, dimensions: Sequence[str] = ()) -> EventType:
        """Registers a type or gives a known one another description and other dimensions; twice is the same as once.

        Dimensions are metadata keys that questions group and filter by, which makes those questions fast.
        """
        return self._call(requests.register_event_type(name, description, dimensions))

    def health(self, service: str = "") -> Health:
        """Whether the daemon, or one service of it, serves. Raises Unreachable, or NotFound for an unknown service."""
        return self._call(requests.health(service))

    @property
    def retention(self) -> Retention:
        """Plans, jobs, holds and evidence: see trackd.retention. Served on the daemon's own Unix socket."""
        return Retention(self._call, self._stubs)

    def _call(self, call: Call[Answer]) -> Answer:
        try:
            return call.read(call.method(self._stubs)(call.request, timeout=self._timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
