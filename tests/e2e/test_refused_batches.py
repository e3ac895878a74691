"""Batches, messages and streams that are refused as a whole, with typed statuses; what is good goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from trackd.client import Client
from trackd.v1.event_pb2 import Event
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_REJECTED, AppendRequest, AppendStreamOpen
from trackd.v1.query_pb2 import EventFilter

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import (
    STREAM,
    Refusal,
    Stream,
    append_raw,
    batch_frame,
    channels,
    ended,
    event,
    field,
    now_ms,
    refusal,
    refused,
    unary_frame,
    varint,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
MONTH_MS = 31 * 86_400_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module."""
    with serving(tmp_path_factory.mktemp("batches")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


def stored(daemon: DaemonProcess, session: str) -> int:
    """Events of a session."""
    with Client(daemon.target) as client:
        return client.count_events(EventFilter(session_ids=[session])).events


def too_many() -> list[Event]:
    """One event more than a batch may have."""
    return [Event(type="t", session_id="refused")] * 10_001


def too_large() -> list[Event]:
    """Good events of more than 4 MiB together."""
    return [event(metadata='{"a":"' + "x" * 60_000 + '"}', session_id="refused") for _ in range(71)]


def over_two_months() -> list[Event]:
    """Good events of two months."""
    return [event(timestamp_ms=now_ms() - back * MONTH_MS, session_id="refused") for back in (0, 1)]


BATCHES = {
    "too many events": (too_many, False, Refusal(INVALID, "BATCH_TOO_LARGE", "trackd", "events")),
    "too many bytes": (too_large, False, Refusal(INVALID, "BATCH_TOO_LARGE", "trackd", "events")),
    "atomic over two months": (
        over_two_months, True, Refusal(PRECONDITION, "ATOMIC_SPANS_MONTHS", "trackd", unmet="ATOMIC_SPANS_MONTHS"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_refused_whole_and_the_stream_goes_on(
    served: DaemonProcess, channel: grpc.Channel, name: str
) -> None:
    """In-band on a stream, as the status of a unary call: the same details, nothing of it stored."""
    make, atomic, expected = BATCHES[name]
    with Stream(channel) as stream:
        assert refusal(stream.ask(*make(), atomic=atomic).error) == expected
        stream.takes()
    assert refused(lambda: append_raw(channel, unary_frame("tests", *make(), atomic=atomic))) == expected
    assert stored(served, "refused") == 0


MESSAGES = {
    "undecodable": (b"\xff\xff\xff", Refusal(INVALID, "UNDECODABLE", "trackd")),
    "cut off": (batch_frame(7, event())[:-3], Refusal(INVALID, "UNDECODABLE", "trackd")),
    "an event cut off": (batch_frame(7, event().SerializeToString()[:-3]), Refusal(INVALID, "UNDECODABLE", "trackd")),
    "a group without end": (field(2, varint(2 << 3 | 3)), Refusal(INVALID, "UNDECODABLE", "trackd")),
    "empty": (b"", Refusal(INVALID, "BATCH_EXPECTED", "trackd", "batch")),
    "a second open": (
        field(1, AppendStreamOpen(source="other").SerializeToString()),
        Refusal(INVALID, "BATCH_EXPECTED", "trackd", "batch"),
    ),
    "a second open that is not UTF-8": (
        field(1, field(1, b"\xff")), Refusal(INVALID, "UNDECODABLE", "trackd"),
    ),
    "unknown fields only": (field(99, b"hello"), Refusal(INVALID, "BATCH_EXPECTED", "trackd", "batch")),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_no_batch_gets_one_answer(served: DaemonProcess, channel: grpc.Channel, name: str) -> None:
    """An in-band status without a batch_id, in its place between the answers of its neighbours."""
    frame, expected = MESSAGES[name]
    session = name.replace(" ", "-")
    with Stream(channel, source="first") as stream:
        stream.send(batch_frame(1, event(session_id=session)))
        stream.send(frame)
        stream.send(batch_frame(3, event(session_id=session)))
        before, between, behind = (stream.receive().answer for _ in range(3))
        assert (before.batch_id, before.result.accepted) == (1, 1)
        assert (between.batch_id, refusal(between.error)) == (0, expected)
        assert (behind.batch_id, behind.result.accepted) == (3, 1)
    with Client(served.target) as client:
        found = list(client.list_events(EventFilter(session_ids=[session])))
        assert [one.source for one in found] == ["first", "first"]


UNARY = {
    "undecodable": (b"\xff\xff\xff", Refusal(INVALID, "UNDECODABLE", "trackd")),
    "a source that is not UTF-8": (field(1, b"\xff"), Refusal(INVALID, "UNDECODABLE", "trackd")),
    "no source": (unary_frame("", event()), Refusal(INVALID, "SOURCE_INVALID", "trackd", "source")),
    "an unknown durability": (
        AppendRequest(source="tests", durability=9).SerializeToString(),  # type: ignore[arg-type]
        Refusal(INVALID, "DURABILITY_INVALID", "trackd", "durability"),
    ),
    "level ACCEPTED": (
        AppendRequest(source="tests", durability=2, events=[event()]).SerializeToString(),  # type: ignore[arg-type]
        Refusal(PRECONDITION, "ACCEPTED_NOT_ALLOWED", "trackd", unmet="ACCEPTED_NOT_ALLOWED"),
    ),
}


@pytest.mark.parametrize("name", UNARY)
def test_a_unary_request_is_refused_with_its_status(channel: grpc.Channel, name: str) -> None:
    """The code of the table, and the standard details in the trailers."""
    frame, expected = UNARY[name]
    assert refused(lambda: append_raw(channel, frame)) == expected
    assert append_raw(channel, unary_frame("tests", event())).accepted == 1


def opening(**parts: object) -> bytes:
    """A first message."""
    return field(1, AppendStreamOpen(**parts).SerializeToString())  # type: ignore[arg-type]


NOT_OPENED = Refusal(INVALID, "STREAM_NOT_OPENED", "trackd", "open")
OPENINGS = {
    "a batch": (batch_frame(1, event(session_id="unopened")), NOT_OPENED),
    "nothing": (b"", NOT_OPENED),
    "undecodable": (b"\xff", Refusal(INVALID, "UNDECODABLE", "trackd")),
    "no source": (opening(), Refusal(INVALID, "SOURCE_INVALID", "trackd", "source")),
    "a source with a space": (opening(source="a b"), Refusal(INVALID, "SOURCE_INVALID", "trackd", "source")),
    "a source with NUL": (opening(source="a\0"), Refusal(INVALID, "SOURCE_INVALID", "trackd", "source")),
    "a long source": (opening(source="a" * 129), Refusal(INVALID, "SOURCE_INVALID", "trackd", "source")),
    "a source that is not UTF-8": (field(1, field(1, b"\xff")), Refusal(INVALID, "UNDECODABLE", "trackd")),
    "an unknown durability": (
        opening(source="tests", durability=9),
        Refusal(INVALID, "DURABILITY_INVALID", "trackd", "durability"),
    ),
    "level ACCEPTED": (
        opening(source="tests", durability=2),
        Refusal(PRECONDITION, "ACCEPTED_NOT_ALLOWED", "trackd", unmet="ACCEPTED_NOT_ALLOWED"),
    ),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_a_stream_that_is_opened_wrongly_ends_with_a_typed_status(
    served: DaemonProcess, channel: grpc.Channel, name: str
) -> None:
    """Nothing is taken on it, also not what was sent right behind; another stream on the same connection works."""
    frame, expected = OPENINGS[name]
    stream = Stream(channel, opening=frame)
    stream.send(batch_frame(1, event(session_id="unopened")))
    with pytest.raises(grpc.RpcError):
        stream.receive()
    assert ended(stream.call) == expected
    stream.cancel()
    with Stream(channel) as another:
        another.takes()
    assert stored(served, "unopened") == 0


def test_a_stream_that_ends_before_it_was_opened_is_told_so(channel: grpc.Channel) -> None:
    """STREAM_NOT_OPENED, not an exception of ours."""
    method: Any = channel.stream_stream(STREAM)
    call = method(iter(()), timeout=10)
    with pytest.raises(grpc.RpcError):
        next(call)
    assert ended(call) == Refusal(INVALID, "STREAM_NOT_OPENED", "trackd")


def test_an_atomic_batch_lists_every_event(served: DaemonProcess, channel: grpc.Channel) -> None:
    """Those at fault with their reasons, all others ATOMIC_ABORTED and retryable; without the faults it is stored."""
    good = [event(session_id="atomic") for _ in range(3)]
    broken = event().SerializeToString() + field(3, b"\xff")
    with Stream(channel) as stream:
        result = stream.ask(good[0], event(type="?"), good[1], broken, good[2], atomic=True).result
        assert (result.accepted, result.rejected) == (0, 5)
        assert not result.HasField("first_position")
        aborted, found = "ATOMIC_ABORTED", [(item.index, item.reason, item.retryable) for item in result.items]
        assert found == [
            (0, aborted, True), (1, "TYPE_INVALID", False), (2, aborted, True), (3, "TEXT_NOT_UTF8", False),
            (4, aborted, True),
        ]  # fmt: skip
        assert all(item.outcome == APPEND_OUTCOME_REJECTED for item in result.items)
        assert stored(served, "atomic") == 0
        assert stream.ask(*good, atomic=True).result.accepted == 3
        conflicting = Event.FromString(good[1].SerializeToString())
        conflicting.user_id = "other"
        result = stream.ask(event(session_id="atomic"), conflicting, atomic=True).result
        assert [item.reason for item in result.items] == [aborted, "ID_CONFLICT"]
    assert stored(served, "atomic") == 3


def test_an_empty_batch_is_answered_with_zeros(channel: grpc.Channel) -> None:
    """Nothing to store is no fault."""
    with Stream(channel) as stream:
        for atomic in (False, True):
            result = stream.ask(atomic=atomic).result
            assert (result.accepted, result.duplicate, result.rejected, len(result.items)) == (0, 0, 0, 0)


def test_many_refusals_and_results_keep_their_order(served: DaemonProcess, channel: grpc.Channel) -> None:
    """Sent without waiting, good and bad mixed: exactly one answer each, in the order of sending."""
    frames = [MESSAGES["undecodable"][0], MESSAGES["a second open"][0], batch_frame(5, event(id=b"x"))]
    with Stream(channel) as stream:
        for number in range(1, 201):
            stream.send(frames[number % 4] if number % 4 < 3 else batch_frame(number, event(session_id="mixed")))
        answers = [stream.receive().answer for _ in range(200)]
    kinds = [answer.WhichOneof("outcome") for answer in answers]
    assert kinds == ["error" if number % 4 < 2 else "result" for number in range(1, 201)]
    assert [answer.batch_id for answer in answers] == [(0, 0, 5, number)[number % 4] for number in range(1, 201)]
    assert stored(served, "mixed") == 50
