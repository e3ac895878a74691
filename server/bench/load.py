"""Driving a server: streams of prepared batches, and callers that wait for each answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from trackd.v1 import ingest_pb2

from server.errors import Internal

STREAM = "/trackd.v1.IngestService/AppendStream"
UNARY = "/trackd.v1.IngestService/Append"
IN_FLIGHT = 32
"""Batches that a stream has sent and not got answered."""


@dataclass(frozen=True, slots=True)
class Security:
    """How a server is spoken to: over TLS if there is a certificate to trust, with a token if there is one."""

    ca: bytes | None = None
    token: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self, target: str) -> grpc.Channel:
        """A channel of one's own."""
        return grpc.secure_channel(target, self._credentials()) if self.ca else grpc.insecure_channel(target)

    def channel_aio(self, target: str) -> grpc.aio.Channel:
        """The same for asyncio."""
        return grpc.aio.secure_channel(target, self._credentials()) if self.ca else grpc.aio.insecure_channel(target)

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca)


PLAIN = Security()


@dataclass(slots=True)
class Run:
    """What one run measured."""

    seconds: float = 0.0
    accepted: int = 0
    ack_ms: list[float] = field(default_factory=list)
    """From handing a message to gRPC until its answer, sorted."""
    finished: list[float] = field(default_factory=list)
    """When each message was answered, seconds after the start, sorted."""

    def quantile_ms(self, share: float) -> float:
        """The time within which a share of the messages was answered."""
        return quantile(self.ack_ms, share)

    def close(self, seconds: float) -> Run:
        """Sorts what came in."""
        self.seconds = seconds
        self.ack_ms.sort()
        self.finished.sort()
        return self


def quantile(rising: Sequence[float], share: float) -> float:
    """The value that a share of sorted values does not exceed; 0 if there are none."""
    return rising[min(len(rising) - 1, int(len(rising) * share))] if rising else 0.0


def stream(
    target: str,
    messages: Sequence[bytes],
    *,
    streams: int = 1,
    per_second: float | None = None,
    security: Security = PLAIN,
) -> Run:
    """Sends the messages over some streams at once, as fast as they are answered or so many a second."""
    sent = [("bench", messages[number::streams]) for number in range(streams)]
    return flows(target, sent, per_second=per_second, security=security)


def flows(
    target: str,
    sent: Sequence[tuple[str, Iterable[bytes]]],
    *,
    per_second: float | None = None,
    security: Security = PLAIN,
) -> Run:
    """Sends (source, messages) over a stream each, all at once, as fast as they are answered or so many a second."""
    run = Run()
    lock = threading.Lock()
    failures: list[Exception] = []
    with security.channel(target) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        start = time.perf_counter()

        def one(source: str, messages: Iterable[bytes]) -> None:
            try:
                pace = per_second / len(sent) if per_second else None
                accepted, acks, finished = _one_stream(channel, source, messages, start, pace, security.metadata)
            except (grpc.RpcError, Internal) as error:
                failures.append(error)
                return
            with lock:
                run.accepted += accepted
                run.ack_ms += acks
                run.finished += finished

        threads = [threading.Thread(target=one, args=flow) for flow in sent]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
    if failures:
        raise Internal("BENCH_FAILED", f"a stream failed: {failures[0]}")
    return run.close(seconds)


def _one_stream(
    channel: grpc.Channel,
    source: str,
    messages: Iterable[bytes],
    start: float,
    per_second: float | None,
    metadata: tuple[tuple[str, str], ...],
) -> tuple[int, list[float], list[float]]:
    free = threading.Semaphore(IN_FLIGHT)
    sent: deque[float] = deque()

    def send() -> Iterator[bytes]:
        yield ingest_pb2.AppendStreamRequest(open=ingest_pb2.AppendStreamOpen(source=source)).SerializeToString()
        for number, raw in enumerate(messages):
            if per_second:
                time.sleep(max(0.0, start + number / per_second - time.perf_counter()))
            free.acquire()
            sent.append(time.perf_counter())
            yield raw

    call: Any = channel.stream_stream(STREAM, request_serializer=None, response_deserializer=None)
    replies = iter(call(send(), metadata=metadata))
    next(replies)
    raw_replies, acks, finished = [], [], []
    for reply in replies:
        now = time.perf_counter()
        free.release()
        acks.append((now - sent.popleft()) * 1000)
        finished.append(now - start)
        raw_replies.append(reply)
    accepted = 0
    for reply in raw_replies:
        answer = ingest_pb2.AppendStreamResponse.FromString(reply).answer
        if answer.HasField("error"):
            raise Internal("BENCH_FAILED", f"a batch was refused: {answer.error.message}")
        accepted += answer.result.accepted
    return accepted, acks, finished


def unary(target: str, requests: Sequence[bytes], *, callers: int, security: Security = PLAIN) -> Run:
    """Callers that each send a request, wait for the answer, and send the next."""
    return asyncio.run(_unary(target, requests, callers, security))


async def _unary(target: str, requests: Sequence[bytes], callers: int, security: Security) -> Run:
    run = Run()
    async with security.channel_aio(target) as channel:
        await channel.channel_ready()
        call: Any = channel.unary_unary(UNARY, request_serializer=None, response_deserializer=None)
        await call(requests[0], metadata=security.metadata)  # the first call pays for the connection
        waiting = iter(requests[1:])
        start = time.perf_counter()

        async def caller() -> None:
            for raw in waiting:
                sent = time.perf_counter()
                await call(raw, metadata=security.metadata)
                now = time.perf_counter()
                run.ack_ms.append((now - sent) * 1000)
                run.finished.append(now - start)

        await asyncio.gather(*(caller() for _ in range(callers)))
        run.accepted = len(run.ack_ms)
        return run.close(time.perf_counter() - start)
