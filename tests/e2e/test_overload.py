"""Senders that send too much, too large, or never read: the daemon stays small, and others are served."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from trackd.channel import open_channel
from trackd.client import Client
from trackd.v1.event_pb2 import Event
from trackd.v1.ingest_pb2 import AppendRequest
from trackd.v1.query_pb2 import EventFilter

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import peak_rss_bytes, serving
from tests.support.wire import Deaf, Stream, append_raw, batch_frame, event, refused, unary_frame

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module."""
    with serving(tmp_path_factory.mktemp("overload")) as daemon:
        yield daemon


def assert_serves(daemon: DaemonProcess, session: str) -> None:
    """A new sender is served: unary, streaming, and asking."""
    with open_channel(daemon.target) as channel, Client(daemon.target) as client:
        assert append_raw(channel, unary_frame("tests", event(session_id=session))).accepted == 1
        with Stream(channel) as stream:
            stream.takes(event(session_id=session))
        assert client.count_events(EventFilter(session_ids=[session])).events == 2


def test_a_message_that_is_too_large_for_the_transport_ends_only_its_call(served: DaemonProcess) -> None:
    """RESOURCE_EXHAUSTED by gRPC itself above 8 MiB; another stream on the same connection does not notice."""
    large = event(description="x" * 9 * MIB)
    with open_channel(served.target) as channel:
        with Stream(channel) as other:
            other.takes(event(session_id="beside"))
            call = refused(lambda: append_raw(channel, unary_frame("tests", large)))
            assert call.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            stream = Stream(channel)
            stream.receive()
            stream.takes(event(session_id="beside"))
            stream.send(batch_frame(1, large))
            assert refused(stream.receive).code is grpc.StatusCode.RESOURCE_EXHAUSTED
            stream.cancel()
            other.takes(event(session_id="beside"))
        with Client(served.target) as client:
            assert client.count_events(EventFilter(session_ids=["beside"])).events == 3
    assert_serves(served, "behind a large one")


def test_idle_streams_hold_nobody_up(served: DaemonProcess) -> None:
    """Beside 200 open and silent streams others are answered at once, and each silent one still works."""
    with ExitStack() as stack:
        channels = [stack.enter_context(open_channel(served.target)) for _ in range(2)]
        idle = [Stream(channels[number % 2]) for number in range(200)]
        for stream in idle:
            assert stream.receive().opened.limits.max_batch_events
        start = time.monotonic()
        for turn in range(20):
            assert_serves(served, f"beside idle ones {turn}")
        assert time.monotonic() - start < 10
        for stream in idle:
            stream.takes(event(session_id="awake"))
            assert stream.finish() == []
    with Client(served.target) as client:
        assert client.count_events(EventFilter(session_ids=["awake"])).events == 200


def test_a_sender_that_never_reads_is_slowed_down(tmp_path: Path) -> None:
    """Answers larger than their batches pile up unread: memory stays bounded, others are served, none is left out."""
    frame = batch_frame(1, *[Event(id=b"x")] * 2_000, Event(id=bytes(100_000)))
    with serving(tmp_path) as daemon:
        before = peak_rss_bytes(daemon)
        with ExitStack() as stack:
            deaf = [Deaf(stack.enter_context(open_channel(daemon.target)), frame) for _ in range(2)]
            sent = [sender.until_stuck() for sender in deaf]
            grown = peak_rss_bytes(daemon) - before
            print(f"{sent} messages sent, {grown / MIB:.0f} MiB grown")
            assert max(sent) < 2_000
            assert grown < 200 * MIB
            assert_serves(daemon, "beside the deaf")
            for sender in deaf:
                assert sender.hear_all() == sender.sent


def test_what_a_sender_breaks_off_is_stored_once_when_it_comes_again(served: DaemonProcess) -> None:
    """Streams cancelled and calls timed out at random moments, everything sent again: each event is there once."""
    rng = random.Random(11)
    total = 0
    with open_channel(served.target) as channel:
        for turn in range(30):
            events = [event(session_id="broken off") for _ in range(100)]
            total += len(events)
            if turn % 2:
                stream = Stream(channel)
                for number in range(4):
                    stream.send(batch_frame(number, *events[number * 25 : number * 25 + 25]))
                time.sleep(rng.uniform(0, 0.01))
                stream.cancel()
            else:
                request = AppendRequest(source="tests", events=events).SerializeToString()
                method: Any = channel.unary_unary("/trackd.v1.IngestService/Append")
                call = method.future(request, timeout=30)
                time.sleep(rng.uniform(0, 0.01))
                call.cancel()
            with Stream(channel) as again:
                result = again.ask(*events).result
                assert (result.accepted + result.duplicate, result.rejected) == (100, 0)
        with Client(served.target) as client:
            found = [bytes(one.event.id) for one in client.list_events(EventFilter(session_ids=["broken off"]))]
    assert len(found) == len(set(found)) == total
