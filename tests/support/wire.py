"""Speaking the wire protocol by hand: broken messages, streams one message at a time, refusals with their details."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from trackd.channel import open_channel
from trackd.v1 import event_pb2, ingest_pb2

TIMEOUT_S = 30.0
STREAM = "/trackd.v1.IngestService/AppendStream"
APPEND = "/trackd.v1.IngestService/Append"
LENGTH_DELIMITED = 2


def varint(number: int) -> bytes:
    """A base-128 varint (protobuf.dev/programming-guides/encoding)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, payload: bytes) -> bytes:
    """One field with a length: bytes, text or a message, whatever the bytes are."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(payload)) + payload


def now_ms() -> int:
    """This moment."""
    return time.time_ns() // 1_000_000


def event(**parts: Any) -> event_pb2.Event:
    """A good event with a fresh id and the time of now, but for `parts`; a part that is None is left out."""
    given: dict[str, Any] = {"id": uuid.uuid4().bytes, "type": "pr_opened", "timestamp_ms": now_ms()} | parts
    return event_pb2.Event(**{name: value for name, value in given.items() if value is not None})


def batch_frame(batch_id: int, *events: event_pb2.Event | bytes, atomic: bool = False) -> bytes:
    """A batch as a message of a stream. Events may be encoded already, also wrongly."""
    head = ingest_pb2.AppendBatch(batch_id=batch_id, atomic=atomic).SerializeToString()
    return field(2, head + b"".join(field(2, encoded(one)) for one in events))


def unary_frame(source: str, *events: event_pb2.Event | bytes, atomic: bool = False) -> bytes:
    """The same batch as a request of Append."""
    head = ingest_pb2.AppendRequest(source=source, atomic=atomic).SerializeToString()
    return head + b"".join(field(3, encoded(one)) for one in events)


def encoded(one: event_pb2.Event | bytes) -> bytes:
    """An event as bytes."""
    return one if isinstance(one, bytes) else one.SerializeToString()


@dataclass(frozen=True)
class Refusal:
    """A google.rpc.Status, with its details taken apart. What is not there is "" or None."""

    code: grpc.StatusCode
    reason: str = ""
    domain: str = ""
    field: str = ""
    unmet: str = ""
    """Type of the precondition that failed."""
    retry_after_ms: int | None = None


def refusal(status: status_pb2.Status) -> Refusal:
    """Takes a status apart."""
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    parts: dict[str, Any] = {}
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        request, unmet = error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure()
        if detail.Unpack(info):
            parts |= {"reason": info.reason, "domain": info.domain}
        elif detail.Unpack(retry):
            parts["retry_after_ms"] = retry.retry_delay.ToMilliseconds()
        elif detail.Unpack(request):
            (violation,) = request.field_violations
            assert violation.description
            parts["field"] = violation.field
        elif detail.Unpack(unmet):
            (failure,) = unmet.violations
            parts["unmet"] = failure.type
    assert status.message
    return Refusal(code, **parts)


def refused(call: Callable[[], object]) -> Refusal:
    """How a call is refused; a call that succeeds fails the test."""
    try:
        call()
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call):
            return ended(error)
        raise
    raise AssertionError("the call was not refused")


def ended(call: grpc.Call) -> Refusal:
    """The refusal in the trailers of a call that has ended; just its code if it has no details."""
    code = call.code()
    assert code is not None
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            told = refusal(status_pb2.Status.FromString(value))
            assert told.code is code
            return told
    return Refusal(code)


class Stream:
    """One AppendStream, a message at a time. As a context manager it ends in order."""

    def __init__(
        self, channel: grpc.Channel, *, source: str = "tests", durability: int = 0, opening: bytes | None = None
    ) -> None:
        self._to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._sent = 0
        method = channel.stream_stream(
            STREAM, request_serializer=bytes, response_deserializer=ingest_pb2.AppendStreamResponse.FromString
        )
        self.call: Any = method(iter(self._to_send.get, None), timeout=TIMEOUT_S)
        opened = ingest_pb2.AppendStreamOpen(source=source, durability=durability)  # type: ignore[arg-type]
        self.send(field(1, opened.SerializeToString()) if opening is None else opening)

    def __enter__(self) -> Self:
        self.opened = self.receive().opened
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self.cancel()
            return
        assert self.finish() == []
        assert self.call.code() is grpc.StatusCode.OK

    def send(self, frame: bytes) -> None:
        """Sends one message."""
        self._to_send.put(frame)

    def receive(self) -> ingest_pb2.AppendStreamResponse:
        """The next message of the daemon."""
        return next(self.call)  # type: ignore[no-any-return]

    def ask(self, *events: event_pb2.Event | bytes, atomic: bool = False) -> ingest_pb2.AppendBatchAnswer:
        """Sends a batch and receives its answer, which must be its answer."""
        self._sent += 1
        self.send(batch_frame(self._sent, *events, atomic=atomic))
        answer = self.receive().answer
        assert answer.batch_id == self._sent
        return answer

    def takes(self, *events: event_pb2.Event) -> None:
        """Whether it still works: these events are stored."""
        wanted = events or (event(),)
        answer = self.ask(*wanted)
        assert (answer.result.accepted, answer.result.rejected) == (len(wanted), 0), answer

    def finish(self) -> list[ingest_pb2.AppendStreamResponse]:
        """Sends no more; whatever still comes until the end."""
        self._to_send.put(None)
        return list(self.call)

    def cancel(self) -> None:
        """Breaks off."""
        self._to_send.put(None)
        self.call.cancel()


class Deaf:
    """A sender that keeps sending the same batch and reads no answer."""

    def __init__(self, channel: grpc.Channel, frame: bytes) -> None:
        self.sent = 0
        self._ended = threading.Event()
        self._frame = frame
        method: Any = channel.stream_stream(STREAM)
        self.call: Any = method(self._frames(), timeout=2 * TIMEOUT_S)

    def _frames(self) -> Iterator[bytes]:
        yield field(1, ingest_pb2.AppendStreamOpen(source="deaf").SerializeToString())
        while not self._ended.is_set():
            self.sent += 1
            yield self._frame

    def until_stuck(self) -> int:
        """Waits until it cannot send any more; how many batches it got rid of."""
        until_s = time.monotonic() + TIMEOUT_S
        sent = -1
        while sent != self.sent:
            assert time.monotonic() < until_s, "it can send without end"
            sent = self.sent
            time.sleep(0.7)
        return sent

    def hear_all(self) -> int:
        """Sends no more and reads to the end; how many answers there were."""
        self._ended.set()
        return sum(1 for _ in self.call) - 1


def append_raw(channel: grpc.Channel, frame: bytes, **options: Any) -> ingest_pb2.AppendResult:
    """A unary Append of these bytes."""
    method = channel.unary_unary(
        APPEND, request_serializer=bytes, response_deserializer=ingest_pb2.AppendResponse.FromString
    )
    return method(frame, timeout=TIMEOUT_S, **options).result


def channels(target: str) -> Iterator[grpc.Channel]:
    """A channel for a fixture."""
    with open_channel(target) as channel:
        yield channel
