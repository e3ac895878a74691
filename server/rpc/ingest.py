"""IngestService: unary and streaming appends."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import status_pb2
from trackd.v1 import ingest_pb2

from server.config import Limits
from server.errors import Invalid, TrackdError, Unavailable, unexpected
from server.ingest.answer import Answer
from server.ingest.service import IngestService, Pending
from server.ingest.writer import draining
from server.model import Durability
from server.observe import Observer
from server.rpc import calls, codec, status
from server.rpc.gzipped import unpacked

SERVICE = "trackd.v1.IngestService"
STREAM = "AppendStream"


class IngestMethods:
    """The methods of IngestService."""

    def __init__(self, ingest: IngestService, limits: Limits, observer: Observer) -> None:
        self._ingest = ingest
        self._limits = limits
        self._observer = observer
        self._streams: set[_Stream] = set()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        stream = calls.watched(self._observer, SERVICE, STREAM, calls.BIDI, self._append_stream)
        return {
            "Append": calls.raw_unary(self._observer, SERVICE, "Append", self._append),
            STREAM: grpc.stream_stream_rpc_method_handler(stream),
        }

    def drain(self) -> None:
        """Streams answer what is in flight and end with UNAVAILABLE; their senders come back to the next daemon."""
        for stream in list(self._streams):
            stream.drain()

    @property
    def open_streams(self) -> int:
        """Streams that are not over yet."""
        return len(self._streams)

    async def _append(self, raw: bytes) -> bytes:
        start = time.perf_counter()
        events = 0
        level = Durability.DURABLE
        try:
            refuse_too_large(len(raw), self._limits)
            source, durability, batch = codec.parse_append(raw)
            events = batch.events
            level = codec.durability(durability)
            self._ingest.introduce(source, level)
            self._ingest.refuse_if_full()
            pending = self._ingest.offer(
                batch.decode,
                events=events,
                size_bytes=len(raw),
                source=source,
                durability=level,
                atomic=batch.atomic,
            )
            answer = await pending.answer()
        except BaseException as error:
            self._ingest.announce_failure(error, events, time.perf_counter() - start, level)
            raise
        reply = ingest_pb2.AppendResponse(result=codec.result(answer)).SerializeToString()
        self._ingest.announce(answer, time.perf_counter() - start, len(raw))
        return reply

    async def _append_stream(self, _requests: object, context: calls.Context) -> None:
        stream = _Stream(self._ingest, self._limits, self._observer, context)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)


def refuse_too_large(size_bytes: int, limits: Limits) -> None:
    """Raises Invalid if a message is larger than a batch may be."""
    if size_bytes > limits.batch_bytes_max:
        raise Invalid(
            "BATCH_TOO_LARGE",
            f"the message has {size_bytes:,} bytes; at most {limits.batch_bytes_max:,} are taken",
            hint="send smaller batches",
            field="events",
        )


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A batch that was read and is to be answered: taken (pending) or refused (error)."""

    batch_id: int
    received: float
    bytes: int
    events: int
    pending: Pending | None = None
    error: TrackdError | None = None


class _Stream:
    """One AppendStream: a task reads and offers, the handler answers in the same order."""

    def __init__(self, ingest: IngestService, limits: Limits, observer: Observer, context: calls.Context) -> None:
        self._ingest = ingest
        self._limits = limits
        self._observer = observer
        self._context = context
        self._source = ""
        self._durability = Durability.DURABLE
        self._in_flight: deque[_InFlight] = deque()
        self._in_flight_bytes = 0
        self._changed = asyncio.Event()
        """Something to answer, or the end of reading."""
        self._answered = asyncio.Event()
        self._reading_ended = False
        self._draining = False

    def drain(self) -> None:
        """Takes no more; answers what is in flight."""
        self._draining = True
        self._changed.set()

    async def run(self) -> None:
        """Serves the stream to its end. Errors that end it are raised as TrackdError."""
        await self._open()
        reader = asyncio.create_task(self._read())
        try:
            await self._answer(reader)
        finally:
            for batch in self._in_flight:
                if batch.pending:
                    self._ingest.announce_abandoned(self._durability, time.perf_counter() - batch.received)
            if not reader.done():
                # Not awaited and no timeout: the read ends with the call (a cancelled read leaks in grpc.aio 1.85).
                self._draining = True
                reader.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _open(self) -> None:
        raw = await self._receive()
        if raw is None:
            raise Invalid("STREAM_NOT_OPENED", "the stream ended before its first message", hint="send `open` first")
        opening = codec.parse_open(await unpacked(raw))
        self._source = opening.source
        self._durability = codec.durability(opening.durability)
        self._ingest.introduce(self._source, self._durability)
        limits = self._limits
        opened = ingest_pb2.AppendStreamOpened(
            limits=ingest_pb2.IngestLimits(
                max_batch_bytes=limits.batch_bytes_max,
                max_batch_events=limits.batch_events_max,
                max_in_flight_batches=limits.in_flight_batches_max,
                max_in_flight_bytes=limits.in_flight_bytes_max,
                oldest_timestamp_ms=limits.oldest_timestamp_ms,
                max_future_skew_ms=limits.future_skew_max_ms,
                max_metadata_bytes=limits.metadata_bytes_max,
            ),
            head=self._ingest.head,
            durability=codec.durability_number(self._durability),
        )
        await self._send(ingest_pb2.AppendStreamResponse(opened=opened))

    # Reading

    async def _read(self) -> None:
        """Reads and offers until the sender closes its side. Stops reading, and so slows the sender, while full."""
        try:
            while (raw := await self._receive()) is not None:
                if self._draining:
                    return
                await self._take(raw)
                await self._until_room()
        finally:
            self._reading_ended = True
            self._changed.set()

    async def _take(self, raw: bytes) -> None:
        received = time.perf_counter()
        batch_id = events = 0
        pending, problem = None, None
        try:
            raw = await unpacked(raw)
            batch = codec.parse_batch(raw)
            batch_id, events = batch.batch_id, batch.events
            refuse_too_large(len(raw), self._limits)
            pending = self._ingest.offer(
                batch.decode,
                events=events,
                size_bytes=len(raw),
                source=self._source,
                durability=self._durability,
                atomic=batch.atomic,
            )
        except TrackdError as error:
            problem = error
        except Exception as error:  # noqa: BLE001  # a defect costs this batch, not the stream
            problem = unexpected(error)
        self._in_flight.append(_InFlight(batch_id, received, len(raw), events, pending, problem))
        self._in_flight_bytes += len(raw)
        self._changed.set()

    async def _until_room(self) -> None:
        limits = self._limits
        while (
            len(self._in_flight) >= limits.in_flight_batches_max or self._in_flight_bytes >= limits.in_flight_bytes_max
        ):
            self._answered.clear()
            await self._answered.wait()
        await self._ingest.room()

    # Answering

    async def _answer(self, reader: asyncio.Task[None]) -> None:
        while True:
            while self._in_flight:
                await self._answer_next(self._in_flight[0])
                done = self._in_flight.popleft()
                self._in_flight_bytes -= done.bytes
                self._answered.set()
            if self._draining:
                raise draining()
            if self._reading_ended:
                await reader
                return
            self._changed.clear()
            await self._changed.wait()

    async def _answer_next(self, batch: _InFlight) -> None:
        answer: Answer | None = None
        problem = batch.error
        if batch.pending:
            try:
                answer = await batch.pending.answer()
            except TrackdError as error:
                problem = error
        if answer:
            reply = ingest_pb2.AppendBatchAnswer(batch_id=batch.batch_id, result=codec.result(answer))
            await self._send(ingest_pb2.AppendStreamResponse(answer=reply))
            self._ingest.announce(answer, time.perf_counter() - batch.received, batch.bytes, streamed=True)
        elif problem:
            if isinstance(problem, Unavailable) and problem.reason == "STORE_FAILED":
                raise problem
            refused: status_pb2.Status = status.status_of(problem)
            reply = ingest_pb2.AppendBatchAnswer(batch_id=batch.batch_id, error=refused)
            await self._send(ingest_pb2.AppendStreamResponse(answer=reply))
            self._ingest.announce_refusal(problem, batch.events, streamed=True)

    # The transport

    async def _receive(self) -> bytes | None:
        raw = await self._context.read()
        if raw is grpc.aio.EOF:
            return None
        self._observer.message_received(SERVICE, STREAM, calls.BIDI)
        return raw  # type: ignore[no-any-return]

    async def _send(self, reply: ingest_pb2.AppendStreamResponse) -> None:
        await self._context.write(reply.SerializeToString())
        self._observer.message_sent(SERVICE, STREAM, calls.BIDI)
