"""gzip, which any gRPC client can be told to use: every method takes it, and nothing unfolds beyond its bound."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from trackd.v1 import ingest_pb2, query_pb2, subscribe_pb2

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import peak_rss_bytes, serving
from tests.support.wire import (
    APPEND,
    STREAM,
    TIMEOUT_S,
    Refusal,
    append_raw,
    batch_frame,
    channels,
    event,
    field,
    refused,
    unary_frame,
)

MIB = 1024 * 1024
PADDING = "x" * 4_096


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module."""
    with serving(tmp_path_factory.mktemp("compressed")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


def test_batches_of_both_kinds_and_questions_may_be_compressed(channel: grpc.Channel) -> None:
    """Append, AppendStream with its opening, CountEvents and Subscribe, all in gzip."""
    events = [event(session_id="packed", description=PADDING) for _ in range(200)]
    packed: dict[str, Any] = {"compression": grpc.Compression.Gzip, "timeout": TIMEOUT_S}
    assert append_raw(channel, unary_frame("tests", *events[:100]), compression=grpc.Compression.Gzip).accepted == 100
    opening = field(1, ingest_pb2.AppendStreamOpen(source="s" * 128).SerializeToString())
    stream: Any = channel.stream_stream(STREAM, None, ingest_pb2.AppendStreamResponse.FromString)
    opened, answer = stream(iter([opening, batch_frame(7, *events[100:])]), **packed)
    assert opened.opened.limits.max_batch_events
    assert (answer.answer.batch_id, answer.answer.result.accepted) == (7, 100)
    where = query_pb2.EventFilter(session_ids=["packed"], user_ids=["u" * 200], types=["pr_opened"])
    count: Any = channel.unary_unary(
        "/trackd.v1.QueryService/CountEvents", None, query_pb2.CountEventsResponse.FromString
    )
    assert count(query_pb2.CountEventsRequest(filter=where).SerializeToString(), **packed).events == 0
    follow: Any = channel.unary_stream(
        "/trackd.v1.SubscribeService/Subscribe", None, subscribe_pb2.SubscribeResponse.FromString
    )
    request = subscribe_pb2.SubscribeRequest(filter=where, after_position=0).SerializeToString()
    frames = follow(request, **packed)
    assert next(frames).HasField("confirmed")
    frames.cancel()


def test_bombs_are_refused_by_name_and_unfold_no_further_than_a_message(
    served: DaemonProcess, channel: grpc.Channel
) -> None:
    """Sixteen at once, of 64 MiB each in 64 KiB: INVALID_ARGUMENT, in a stream only for that batch."""
    bomb = unary_frame("tests") + field(3, field(9, bytes(64 * MIB)))
    packed = gzip.compress(bomb, 1)
    before = peak_rss_bytes(served)

    def throw(turn: int) -> Refusal:
        if turn:  # packed already: gRPC need not do it again each time
            return refused(lambda: append_raw(channel, packed))
        return refused(lambda: append_raw(channel, bomb, compression=grpc.Compression.Gzip))

    with ThreadPoolExecutor(16) as throwers:
        assert {(told.code, told.reason) for told in throwers.map(throw, range(16))} == {
            (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
        }
    opening = field(1, ingest_pb2.AppendStreamOpen(source="tests").SerializeToString())
    frames = [opening, batch_frame(1) + field(2, field(2, bytes(64 * MIB))), batch_frame(2, event())]
    stream: Any = channel.stream_stream(STREAM, None, ingest_pb2.AppendStreamResponse.FromString)
    _opened, first, second = stream(iter(frames), compression=grpc.Compression.Gzip, timeout=TIMEOUT_S)
    assert first.answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert second.answer.result.accepted == 1
    grown = peak_rss_bytes(served) - before
    print(f"{grown / MIB:.0f} MiB grown")
    assert grown < 64 * MIB


def test_what_only_looks_like_gzip_is_refused(channel: grpc.Channel) -> None:
    """Said to be plain, begins like gzip, and is none: no protobuf message begins so."""
    broken = gzip.compress(unary_frame("tests", event()))[:-4]
    told = refused(lambda: append_raw(channel, broken))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE")


def test_other_compressions_are_refused_by_grpc_itself(channel: grpc.Channel) -> None:
    """UNIMPLEMENTED, as gRPC's compression document wants it."""
    append: Any = channel.unary_unary(APPEND)
    frame = unary_frame("tests", event(description=PADDING))
    told = refused(lambda: append(frame, compression=grpc.Compression.Deflate, timeout=TIMEOUT_S))
    assert told.code is grpc.StatusCode.UNIMPLEMENTED
