"""Following a daemon over gRPC: what comes, in which frames, how it is refused, and that nobody is held up by it."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trackd.channel import open_channel
from trackd.client import Client
from trackd.v1 import query_pb2
from trackd.v1.event_pb2 import Event
from trackd.v1.subscribe_pb2 import GAP_REASON_MONTH_DAMAGED

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.subscriber import NEVER, Subscriber, kinds, positions, rest
from tests.support.wire import Refusal, channels, ended, event, field, now_ms, refused

SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""Of a client that takes nothing beyond what it is asked for: gRPC's own windows grow to tens of megabytes a stream."""
INVALID = grpc.StatusCode.INVALID_ARGUMENT
DAY_MS = 86_400_000
SERVICE = "trackd.v1.SubscribeService"
DRAINING = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", "trackd", retry_after_ms=1_000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module."""
    with serving(tmp_path_factory.mktemp("subscribe")) as daemon:
        yield daemon


@pytest.fixture
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


@pytest.fixture
def client(served: DaemonProcess) -> Iterator[Client]:
    """To send and ask."""
    with Client(served.target) as client:
        yield client


def send(client: Client, *events: Event) -> list[int]:
    """Appends one batch; the positions of its events."""
    answer = client.append(events, source="tests")
    assert answer.accepted == len(events)
    return list(range(answer.first_position, answer.last_position + 1))


def gauge(daemon: DaemonProcess, name: str) -> float:
    """One figure of the daemon's metrics."""
    with urllib.request.urlopen(f"http://{daemon.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def until_gauge(daemon: DaemonProcess, name: str, value: float) -> None:
    """Waits until the figure is this."""
    until_s = time.monotonic() + 10
    while gauge(daemon, name) != value:
        assert time.monotonic() < until_s, gauge(daemon, name)
        time.sleep(0.02)


def resident_mb(daemon: DaemonProcess) -> float:
    """The daemon's memory."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text("ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def test_what_is_there_comes_first_and_then_what_is_new(client: Client, channel: grpc.Channel) -> None:
    """Confirmed, events, caught up; then events as they are acknowledged, whole and also of long ago; a heartbeat."""
    old = send(client, *(event(user_id=f"u{n}") for n in range(3)))
    head = old[-1]
    subscriber = Subscriber(channel, after_position=old[0] - 1)
    history = subscriber.until("caught_up")
    assert (history[0].confirmed.after_position, history[0].confirmed.head) == (old[0] - 1, head)
    assert positions(history) == old
    assert history[-1].caught_up.head == head
    sent = event(timestamp_ms=now_ms() - 3_000 * DAY_MS, tags=["a", "b"], metadata='{"n": 1}', session_id="s")
    (new,) = send(client, sent)
    frame = subscriber.next()
    (stored,) = frame.events.events
    assert (stored.position, stored.source, stored.event) == (new, "tests", sent)
    assert frame.events.head == new
    start = time.monotonic()
    assert subscriber.next().heartbeat.head == new
    assert 0.8 < time.monotonic() - start < 3
    subscriber.cancel()


def test_without_a_beginning_it_begins_now(client: Client, channel: grpc.Channel) -> None:
    """The first event that comes is the first one acknowledged after the confirmation."""
    before = send(client, event())
    subscriber = Subscriber(channel)
    assert subscriber.next().confirmed.after_position == before[0]
    after = send(client, event())
    assert positions(subscriber.until("events")) == after
    subscriber.cancel()


def test_it_begins_with_a_time_of_receipt(client: Client, channel: grpc.Channel) -> None:
    """With the first event that the daemon received then or later; of 0, with the first of all."""
    first = send(client, event())
    time.sleep(0.05)
    received_ms = now_ms()
    time.sleep(0.05)
    second = send(client, event(timestamp_ms=received_ms - 40 * DAY_MS), event())
    subscriber = Subscriber(channel, received_from_ms=received_ms)
    assert subscriber.next().confirmed.after_position == first[-1]
    assert positions(subscriber.until("caught_up")) == second
    subscriber.cancel()
    assert Subscriber(channel, received_from_ms=0).next().confirmed.after_position == 0


def test_a_filter_lets_through_what_matches(client: Client, channel: grpc.Channel) -> None:
    """Each part of it; and its positions bound the stream, which then ends in order."""
    start = send(client, event())[-1]
    wanted = {"type": "special", "user_id": "ann", "session_id": "s7", "tags": ["urgent"]}

    def others() -> list[Event]:
        return [event(**(wanted | {part: [] if part == "tags" else "else"})) for part in wanted]

    send(client, *others())
    match = send(client, event(**wanted))
    last = send(client, *others())[-1]
    chosen = query_pb2.EventFilter(
        types=["special"],
        user_ids=["ann"],
        session_ids=["s7"],
        tags=["urgent"],
        sources=["tests"],
        start_ms=now_ms() - DAY_MS,
        end_ms=now_ms() + DAY_MS,
        after_position=start,
        up_to_position=last,
    )
    subscriber = Subscriber(channel, after_position=0, filter=chosen)
    frames = list(subscriber.call)
    assert positions(frames) == match
    assert frames[-1].checkpoint.position == last
    assert subscriber.call.code() is grpc.StatusCode.OK


def test_frames_end_before_they_are_too_large(client: Client, channel: grpc.Channel) -> None:
    """Large events come in several frames, each below 3 MiB, whatever script their texts are in."""
    start = send(client, event())[-1]
    text = '{"a":"' + "漢" * 20_000 + '"}'
    sent = [position for _ in range(8) for position in send(client, *(event(metadata=text) for _ in range(12)))]
    subscriber = Subscriber(channel, after_position=start)
    frames = subscriber.until("caught_up")
    assert positions(frames) == sent
    assert max(frame.ByteSize() for frame in frames) < 3 * 1024 * 1024
    assert kinds(frames).count("events") > 1
    subscriber.cancel()


@pytest.mark.parametrize(
    ("request_parts", "refusal"),
    [
        ({"after_position": 10**9}, Refusal(grpc.StatusCode.OUT_OF_RANGE, "POSITION_AHEAD", "trackd")),
        ({"after_position": -1}, Refusal(INVALID, "POSITION_INVALID", "trackd", field="after_position")),
        ({"request": field(3, b"\xff")}, Refusal(INVALID, "UNDECODABLE", "trackd")),
        (
            {"filter": query_pb2.EventFilter(types=["x"] * 1_001)},
            Refusal(INVALID, "FILTER_TOO_LARGE", "trackd", field="filter.types"),
        ),
        (
            {"filter": query_pb2.EventFilter(start_ms=5, end_ms=5)},
            Refusal(INVALID, "RANGE_INVALID", "trackd", field="filter.start_ms"),
        ),
    ],
    ids=["ahead", "negative", "bytes", "large", "range"],
)
def test_what_cannot_be_is_refused(
    channel: grpc.Channel, served: DaemonProcess, request_parts: dict[str, Any], refusal: Refusal
) -> None:
    """With a typed status, and nothing of it stays."""
    assert refused(lambda: Subscriber(channel, **request_parts).next()) == refusal
    until_gauge(served, "trackd_subscribers", 0)


def test_health_and_reflection_know_the_service(client: Client, channel: grpc.Channel) -> None:
    """As they know the others."""
    assert client.health(SERVICE) == "serving"
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


def test_many_follow_and_leave_nothing_behind(served: DaemonProcess, client: Client) -> None:
    """Fifty subscribers get the same, in order; when they are gone so is all that they held."""
    before = gauge(served, "trackd_subscribe_events_total")
    with open_channel(served.target) as channel:
        subscribers = [Subscriber(channel, filter=None if n % 2 else query_pb2.EventFilter()) for n in range(50)]
        for subscriber in subscribers:
            subscriber.until("caught_up")
        assert gauge(served, "trackd_subscribers") == 50
        sent = [position for _ in range(20) for position in send(client, *(event() for _ in range(10)))]
        with ThreadPoolExecutor(50) as threads:
            assert list(threads.map(lambda one: one.events(200), subscribers)) == [sent] * 50
        assert gauge(served, "trackd_subscribe_events_total") == before + 50 * 200
        assert gauge(served, "trackd_subscriber_lag_events") == 0
        for subscriber in subscribers[::2]:
            subscriber.cancel()
        until_gauge(served, "trackd_subscribers", 25)
    until_gauge(served, "trackd_subscribers", 0)


def test_a_full_daemon_tells_when_to_come_back(tmp_path: Path) -> None:
    """One subscriber too many gets RESOURCE_EXHAUSTED with RetryInfo; when another has gone it is taken."""
    full = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "SUBSCRIBERS_FULL", "trackd", retry_after_ms=5_000)
    with (
        serving(tmp_path, settings="[subscribe]\nstreams_max = 2") as daemon,
        open_channel(daemon.target) as channel,
    ):
        first, second = Subscriber(channel), Subscriber(channel)
        first.until("caught_up")
        second.until("caught_up")
        assert refused(lambda: Subscriber(channel).next()) == full
        first.cancel()
        until_gauge(daemon, "trackd_subscribers", 1)
        Subscriber(channel).until("caught_up")


def test_who_does_not_read_costs_a_page_and_is_never_cut_off(tmp_path: Path) -> None:
    """Twenty of them beside 100 MB of events: the daemon stays small, goes on, and they find everything later."""
    text = '{"a":"' + "x" * 2_000 + '"}'
    with serving(tmp_path) as daemon, Client(daemon.target) as client:
        send(client, *(event(metadata=text) for _ in range(1_000)))
        before = resident_mb(daemon)
        with grpc.insecure_channel(daemon.target, options=SMALL_WINDOW) as channel:
            deaf = [Subscriber(channel, after_position=0) for _ in range(20)]
            for subscriber in deaf:
                subscriber.next()
            for _ in range(49):
                send(client, *(event(metadata=text) for _ in range(1_000)))
            peak = resident_mb(daemon)
            assert peak < before + 150, f"{before:.0f} MB before, {peak:.0f} MB with 20 who do not read"
            assert gauge(daemon, "trackd_subscriber_lag_events") > 40_000
            quick = Subscriber(channel, after_position=0)
            assert quick.events(50_000) == list(range(1, 50_001))
            assert deaf[7].events(50_000) == list(range(1, 50_001))


def test_a_stop_sends_subscribers_away_and_waits_for_none(tmp_path: Path) -> None:
    """Those who wait and those who read are told DRAINING; one who takes nothing is cut off soon."""
    with serving(tmp_path) as daemon, Client(daemon.target) as client, open_channel(daemon.target) as channel:
        text = '{"a":"' + "x" * 30_000 + '"}'
        for _ in range(10):
            send(client, *(event(metadata=text) for _ in range(100)))
        waiting = [Subscriber(channel), Subscriber(channel, filter=NEVER)]
        for subscriber in waiting:
            subscriber.until("caught_up")
        with open_channel(daemon.target) as other:
            deaf = Subscriber(other, after_position=0)
            deaf.next()
            start = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - start < 6
            for subscriber in waiting:
                list(rest(subscriber.call))
                assert ended(subscriber.call) == DRAINING


@pytest.mark.parametrize("hurt", [1, 2], ids=["a month between", "the newest month"])
def test_a_damaged_month_is_a_gap(tmp_path: Path, hurt: int) -> None:
    """Its subscribers are told so and get all the rest; who had come up to the head goes on there."""
    times = [now_ms() - days * DAY_MS for days in (100, 60, 20)]
    with serving(tmp_path) as daemon:
        with Client(daemon.target) as client:
            sent = [position for _ in range(3) for at in times for position in send(client, event(timestamp_ms=at))]
        daemon.stop()
        month = time.strftime("%Y-%m", time.gmtime(times[hurt] / 1000))
        (file,) = daemon.data.glob(f"months/{month}/*/events.db")
        whole = file.read_bytes()
        file.write_bytes(b"nothing of this is a database " * 100)
        daemon.start()
        with Client(daemon.target) as client, open_channel(daemon.target) as channel:
            subscriber, live = Subscriber(channel, after_position=0), Subscriber(channel, after_position=sent[-1])
            frames = subscriber.until("caught_up")
            (gap,) = [frame.gap for frame in frames if frame.WhichOneof("frame") == "gap"]
            assert (gap.month, gap.reason) == (month, GAP_REASON_MONTH_DAMAGED)
            assert positions(frames) == [position for place, position in enumerate(sent) if place % 3 != hurt]
            live.until("heartbeat")
            new = send(client, event(timestamp_ms=times[0]))
            assert positions(subscriber.until("events")) == positions(live.until("events")) == new
            assert new[0] > sent[-1]
            live.cancel()
            subscriber.cancel()
        daemon.stop()
        file.write_bytes(whole)
        daemon.start()
