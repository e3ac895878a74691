"""A daemon that a test plays: real gRPC, scripted answers, streams that break."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from trackd.delivery import METHOD
from trackd.v1.ingest_pb2 import (
    AppendBatch,
    AppendBatchAnswer,
    AppendRequest,
    AppendResponse,
    AppendResult,
    AppendStreamOpened,
    AppendStreamRequest,
    AppendStreamResponse,
    IngestLimits,
)

Answer = AppendResult | Status | grpc.StatusCode | None


def status(code: int, reason: str, retry_ms: int | None = None) -> Status:
    """A refusal as the daemon words it."""
    details = [AnyMessage(), AnyMessage()]
    details[0].Pack(ErrorInfo(reason=reason, domain="trackd", metadata={"hint": "wait"}))
    if retry_ms is None:
        del details[1]
    else:
        delay = Duration()
        delay.FromMilliseconds(retry_ms)
        details[1].Pack(RetryInfo(retry_delay=delay))
    return Status(code=code, message="refused", details=details)


class FakeDaemon:
    """Answers batches as a script says: a result, a refusal, None (no answer), or a code that ends the stream.

    Without a script it stores, as it does with unary calls. `stored` holds ids as they come, `streams` counts the
    streams opened.
    """

    def __init__(self, script: Callable[[int, AppendBatch], Answer] | None = None) -> None:
        self.script = script
        self.limits = IngestLimits(max_batch_events=100, max_in_flight_batches=4)
        self.stored: dict[bytes, str] = {}
        self.batches: list[list[str]] = []
        self.streams = 0
        self.opened = threading.Event()
        self.port = 0
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listens, on the same port as before after a stop."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=AppendStreamRequest.FromString,
            response_serializer=AppendStreamResponse.SerializeToString,
        )
        unary = grpc.unary_unary_rpc_method_handler(
            lambda request, _context: AppendResponse(result=self.store(AppendBatch(events=request.events))),
            request_deserializer=AppendRequest.FromString,
            response_serializer=AppendResponse.SerializeToString,
        )
        service, _, method = METHOD.lstrip("/").partition("/")
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {method: handler, "Append": unary}
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cuts every connection off, as a killed process would."""
        if self._server:
            self._server.stop(None).wait()

    def _stream(self, requests: Iterator[AppendStreamRequest], context: Any) -> Iterator[AppendStreamResponse]:
        opening = next(requests)
        assert opening.open.source == "tests"
        self.streams += 1
        self.opened.set()
        yield AppendStreamResponse(opened=AppendStreamOpened(limits=self.limits))
        for request in requests:
            batch = request.batch
            self.batches.append([event.user_id for event in batch.events])
            answer = self.script(len(self.batches), batch) if self.script else self.store(batch)
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, "the script says so")
            elif isinstance(answer, AppendResult):
                yield AppendStreamResponse(answer=AppendBatchAnswer(batch_id=batch.batch_id, result=answer))
            elif answer is not None:
                yield AppendStreamResponse(answer=AppendBatchAnswer(batch_id=batch.batch_id, error=answer))

    def store(self, batch: AppendBatch) -> AppendResult:
        """Keeps each id once."""
        before = len(self.stored)
        self.stored.update({event.id: event.user_id for event in batch.events})
        accepted = len(self.stored) - before
        return AppendResult(accepted=accepted, duplicate=len(batch.events) - accepted)
