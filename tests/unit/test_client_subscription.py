"""The Subscription against a daemon played by the test: real gRPC, scripted frames, streams that break."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
import trackd
from trackd.subscription import METHOD
from trackd.v1.event_pb2 import StoredEvent
from trackd.v1.subscribe_pb2 import (
    GAP_REASON_MONTH_DAMAGED,
    SubscribeCaughtUp,
    SubscribeCheckpoint,
    SubscribeConfirmed,
    SubscribeEvents,
    SubscribeGap,
    SubscribeHeartbeat,
    SubscribeRequest,
    SubscribeResponse,
)

Step = SubscribeResponse | grpc.StatusCode | threading.Event
QUICK = trackd.Backoff(first_s=0.01, max_s=0.05)


class FakeDaemon:
    """Plays one script a stream: frames, a code that ends the stream, or an event to wait for; the last one repeats."""

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.requests: list[SubscribeRequest] = []
        self.port = 0
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listens, on the same port as before after a stop."""
        handler = grpc.unary_stream_rpc_method_handler(
            self._stream,
            request_deserializer=SubscribeRequest.FromString,
            response_serializer=SubscribeResponse.SerializeToString,
        )
        service, _, method = METHOD.lstrip("/").partition("/")
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cuts every connection off, as a killed process would."""
        if self._server:
            self._server.stop(None).wait()

    def _stream(self, request: SubscribeRequest, context: Any) -> Iterator[SubscribeResponse]:
        self.requests.append(request)
        for step in self.scripts[min(len(self.requests), len(self.scripts)) - 1]:
            if isinstance(step, SubscribeResponse):
                yield step
            elif isinstance(step, grpc.StatusCode):
                context.abort(step, "the script says so")
            else:
                step.wait(10)


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    """A daemon that listens."""
    daemon = FakeDaemon()
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def client(fake: FakeDaemon) -> Iterator[trackd.Client]:
    """Connected to it."""
    with trackd.Client(f"127.0.0.1:{fake.port}") as client:
        yield client


def confirmed(after: int, head: int = 100) -> SubscribeResponse:
    """The first frame."""
    return SubscribeResponse(confirmed=SubscribeConfirmed(after_position=after, head=head))


def events(*positions: int) -> SubscribeResponse:
    """A frame of events."""
    stored = [StoredEvent(position=position) for position in positions]
    return SubscribeResponse(events=SubscribeEvents(events=stored, head=100))


def checkpoint(position: int) -> SubscribeResponse:
    """A frame that says how far."""
    return SubscribeResponse(checkpoint=SubscribeCheckpoint(position=position))


def taken(subscription: trackd.Subscription, count: int) -> list[int]:
    """The positions of its next events."""
    return [next(subscription).position for _ in range(count)]


def test_it_goes_on_where_the_stream_broke(fake: FakeDaemon, client: trackd.Client) -> None:
    """Behind the last event or checkpoint, however the stream ended; the filter is asked for again."""
    fake.scripts = [
        [confirmed(0), events(1, 2), events(5), grpc.StatusCode.UNAVAILABLE],
        [confirmed(5), checkpoint(8), grpc.StatusCode.INTERNAL],
        [grpc.StatusCode.CANCELLED],
        [confirmed(8), SubscribeResponse(heartbeat=SubscribeHeartbeat(head=12)), grpc.StatusCode.UNKNOWN],
        [confirmed(12), events(13, 14)],
    ]
    where = trackd.EventFilter(types=["x"])
    interruptions: list[trackd.TrackdError] = []
    subscription = client.subscribe(where, after_position=0, backoff=QUICK, on_interruption=interruptions.append)
    assert [stored.position for stored in subscription] == [1, 2, 5, 13, 14]
    assert [request.after_position for request in fake.requests] == [0, 5, 8, 8, 12]
    assert all(request.filter == where for request in fake.requests)
    assert [error.code for error in interruptions] == ["UNAVAILABLE", "INTERNAL", "CANCELLED", "UNKNOWN"]
    assert subscription.position == 14


def test_it_survives_a_daemon_that_goes_and_comes_back(fake: FakeDaemon, client: trackd.Client) -> None:
    """Nobody listens for a while; then it goes on."""
    hold = threading.Event()
    fake.scripts = [[confirmed(0), events(1), hold], [confirmed(1), events(2)]]
    subscription = client.subscribe(after_position=0, backoff=QUICK)
    assert taken(subscription, 1) == [1]
    fake.stop()
    threading.Timer(0.3, fake.start).start()
    assert taken(subscription, 1) == [2]
    hold.set()


def test_before_it_is_confirmed_it_asks_as_it_was_asked(fake: FakeDaemon, client: trackd.Client) -> None:
    """A beginning "now" or at a time becomes a position once the daemon has said which."""
    fake.scripts = [
        [grpc.StatusCode.UNAVAILABLE],
        [confirmed(7), grpc.StatusCode.UNAVAILABLE],
        [confirmed(7), events(9)],
    ]
    subscription = client.subscribe(received_from_ms=55, backoff=QUICK)
    assert subscription.position is None
    assert taken(subscription, 1) == [9]
    begins = [
        (request.WhichOneof("from"), request.received_from_ms, request.after_position) for request in fake.requests
    ]
    assert begins == [("received_from_ms", 55, 0)] * 2 + [("after_position", 0, 7)]
    fake.requests.clear()
    assert taken(client.subscribe(backoff=QUICK), 1) == [9]
    assert [request.WhichOneof("from") for request in fake.requests] == [None, None, "after_position"]


def test_the_position_is_that_of_what_was_handed_out(fake: FakeDaemon, client: trackd.Client) -> None:
    """Not of what lies in the frame behind it."""
    fake.scripts = [[confirmed(3), events(4, 5, 6)]]
    with client.subscribe() as subscription:
        assert taken(subscription, 2) == [4, 5]
        assert subscription.position == 5
        assert subscription.head == 100
    assert list(subscription) == []
    assert subscription.position == 5


def test_other_frames_can_be_seen(fake: FakeDaemon, client: trackd.Client) -> None:
    """In their place between the events; a gap is kept as well."""
    gap = SubscribeGap(month="2025-11", reason=GAP_REASON_MONTH_DAMAGED)
    caught_up = SubscribeResponse(caught_up=SubscribeCaughtUp(head=5))
    fake.scripts = [[confirmed(0), SubscribeResponse(gap=gap), events(5), caught_up, checkpoint(9)]]
    seen: list[str | int | None] = []
    subscription = client.subscribe(after_position=0, on_frame=lambda frame: seen.append(frame.WhichOneof("frame")))
    while (stored := next(subscription, None)) is not None:
        seen.append(stored.position)
    assert seen == ["confirmed", "gap", 5, "caught_up", "checkpoint"]
    assert subscription.gaps == [gap]
    assert subscription.position == 9


@pytest.mark.parametrize("code", [grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT])
def test_what_cannot_be_waited_out_is_raised(fake: FakeDaemon, client: trackd.Client, code: grpc.StatusCode) -> None:
    """At once, and then it is over."""
    fake.scripts = [[code]]
    subscription = client.subscribe(after_position=999)
    with pytest.raises((trackd.OutOfRange, trackd.Invalid)):
        next(subscription)
    assert list(subscription) == []
    assert len(fake.requests) == 1


def test_it_gives_up_when_nothing_is_heard(fake: FakeDaemon, client: trackd.Client) -> None:
    """The last error is raised; a confirmation alone is nothing."""
    fake.scripts = [[confirmed(3), grpc.StatusCode.UNAVAILABLE]]
    start = time.monotonic()
    with pytest.raises(trackd.Unreachable):
        next(client.subscribe(give_up_after_s=0.3, backoff=QUICK))
    assert 0.1 < time.monotonic() - start < 3
    assert len(fake.requests) > 2


@pytest.mark.parametrize("waiting_for", ["an event", "the daemon", "nothing"])
def test_it_can_be_closed_from_another_thread(fake: FakeDaemon, waiting_for: str) -> None:
    """While an event is waited for, while a new stream is, or before anything."""
    hold = threading.Event()
    fake.scripts = [[confirmed(0), events(1), hold]] if waiting_for == "an event" else [[grpc.StatusCode.UNAVAILABLE]]
    slow = trackd.Backoff(first_s=30, max_s=30)
    with trackd.Client(f"127.0.0.1:{fake.port}") as client:
        subscription = client.subscribe(after_position=0, backoff=slow)
        if waiting_for == "nothing":
            subscription.close()
        else:
            threading.Timer(0.2, subscription.close).start()
        start = time.monotonic()
        assert [stored.position for stored in subscription] == ([1] if waiting_for == "an event" else [])
        assert time.monotonic() - start < 5
        subscription.close()
    hold.set()


def test_it_ends_with_its_client(fake: FakeDaemon) -> None:
    """A channel that was closed is not waited for."""
    hold = threading.Event()
    fake.scripts = [[confirmed(0), events(1), hold]]
    client = trackd.Client(f"127.0.0.1:{fake.port}")
    subscription = client.subscribe(after_position=0, backoff=QUICK)
    threading.Timer(0.2, client.close).start()
    assert [stored.position for stored in subscription] == [1]
    assert list(client.subscribe()) == []
    hold.set()


def test_an_event_that_comes_twice_is_the_daemons_fault(fake: FakeDaemon, client: trackd.Client) -> None:
    """It is not handed out and not passed over in silence."""
    fake.scripts = [[confirmed(0), events(1, 2), events(2)]]
    subscription = client.subscribe(after_position=0)
    assert taken(subscription, 2) == [1, 2]
    with pytest.raises(trackd.Internal) as caught:
        next(subscription)
    assert caught.value.reason == "PROTOCOL_VIOLATION"


def test_two_beginnings_are_none(client: trackd.Client) -> None:
    """A position and a time exclude each other."""
    with pytest.raises(ValueError, match="not both"):
        client.subscribe(after_position=1, received_from_ms=1)
