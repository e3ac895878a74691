"""The OpenTelemetry SDK as an application uses it, and what stands between it and the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from trackd.channel import open_channel

Emit = Callable[..., None]


@contextmanager
def telemetry(
    target: str, *, service: str = "checkout", compression: grpc.Compression | None = None, timeout_s: float = 60.0
) -> Iterator[Emit]:
    """Emits events through the batch processor and the gRPC exporter; at the end everything was sent or given up.

    `timeout_s` is how long the exporter goes on with one batch.
    """
    exporter = OTLPLogExporter(endpoint=target, insecure=True, compression=compression, timeout=timeout_s)
    provider = LoggerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=50))
    logger = provider.get_logger("tests", "1.0")

    def emit(name: str, **parts: Any) -> None:
        logger.emit(LogRecord(event_name=name, **parts))

    try:
        yield emit
        assert provider.force_flush(int(timeout_s * 1_000))
    finally:
        provider.shutdown()


class Gate(grpc.GenericRpcHandler):
    """Stands before a daemon and passes bytes on. The first so many answers are lost behind it."""

    def __init__(self, target: str, lost: int) -> None:
        self._target = target
        self.lost = lost
        self.passed = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Every method, as bytes."""
        method = handler_call_details.method

        def call(raw: bytes, context: grpc.ServicerContext) -> bytes:
            with open_channel(self._target) as channel:
                onward: Any = channel.unary_unary(method)
                answer: bytes = onward(raw, timeout=30)
            self.passed += 1
            if self.passed <= self.lost:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke behind the commit")
            return answer

        return grpc.unary_unary_rpc_method_handler(call)


@contextmanager
def gate(target: str, lost: int) -> Iterator[tuple[str, Gate]]:
    """A gate and its address."""
    handler = Gate(target, lost)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", handler
    finally:
        server.stop(None).wait()
