"""Exports of OpenTelemetry, built by hand: what no SDK would send, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from tests.support.wire import TIMEOUT_S, field

NOTHING: Mapping[str, Any] = {}
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def any_value(value: Any) -> AnyValue:
    """A value as OpenTelemetry has it; None is a value that says nothing."""
    if isinstance(value, AnyValue):
        return value
    if isinstance(value, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=attributes(value)))
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(one) for one in value]))
    kinds: dict[type, str] = {
        bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"
    }  # fmt: skip
    return AnyValue() if value is None else AnyValue(**{kinds[type(value)]: value})


def attributes(pairs: Mapping[str, Any]) -> list[KeyValue]:
    """A list of attributes."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in pairs.items()]


def record(
    name: str = "order.placed", *, body: Any = None, told: Mapping[str, Any] = NOTHING, **parts: Any
) -> LogRecord:
    """A good record of now, but for `parts`; `told` are its attributes."""
    given: dict[str, Any] = {"event_name": name, "time_unix_nano": time.time_ns()} | parts
    made = LogRecord(**given)
    if body is not None:
        made.body.CopyFrom(any_value(body))
    made.attributes.extend(attributes(told))
    return made


def logs(*records: LogRecord, service: str | None = "checkout", **resource: Any) -> ResourceLogs:
    """Records of one service and one scope; `resource` are further attributes of the resource."""
    named = {} if service is None else {"service.name": service}
    made = ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])
    made.resource.attributes.extend(attributes(named | resource))
    return made


def export(*groups: ResourceLogs) -> ExportLogsServiceRequest:
    """The request that carries them."""
    return ExportLogsServiceRequest(resource_logs=groups)


def nested(depth: int) -> bytes:
    """A record, encoded, whose body is so many lists deep: deeper than libraries build one."""
    value = any_value("x").SerializeToString()
    for _ in range(depth):
        value = field(AnyValue.ARRAY_VALUE_FIELD_NUMBER, field(ArrayValue.VALUES_FIELD_NUMBER, value))
    return record().SerializeToString() + field(LogRecord.BODY_FIELD_NUMBER, value)


def raw_export(*records: LogRecord | bytes) -> bytes:
    """A request with records of one service that may be encoded already, also wrongly."""
    encoded = [one if isinstance(one, bytes) else one.SerializeToString() for one in records]
    scope = b"".join(field(ScopeLogs.LOG_RECORDS_FIELD_NUMBER, one) for one in encoded)
    group = logs()
    group.ClearField("scope_logs")
    raw = group.SerializeToString() + field(ResourceLogs.SCOPE_LOGS_FIELD_NUMBER, scope)
    return field(ExportLogsServiceRequest.RESOURCE_LOGS_FIELD_NUMBER, raw)


def sender(channel: grpc.Channel) -> Callable[..., ExportLogsServiceResponse]:
    """Exports requests, or bytes that may be none, over a channel."""
    method: Any = channel.unary_unary(EXPORT, None, ExportLogsServiceResponse.FromString)

    def send(request: ExportLogsServiceRequest | bytes, **options: Any) -> ExportLogsServiceResponse:
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        answer: ExportLogsServiceResponse = method(raw, timeout=TIMEOUT_S, **options)
        return answer

    return send
