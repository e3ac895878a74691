"""LogsService of OTLP (OpenTelemetry Protocol 1, docs/specification.md of opentelemetry-proto), over gRPC.

Success is answered once everything is on disk. Records that are rejected are counted in `partial_success`, with the
reasons in its text; duplicates are successes. If nothing but rejections comes of a message, it is refused with
INVALID_ARGUMENT: senders log that, while some of them overlook a partial success. Overload and a daemon that stops are
UNAVAILABLE with RetryInfo, upon which senders send the same again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from server.config import Limits
from server.errors import Invalid
from server.ingest import by_source
from server.ingest.answer import Answer
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.ingest.service import IngestService
from server.model import Item
from server.observe import Observer
from server.rpc import calls, codec, twins
from server.rpc.doors import otlp_records
from server.rpc.ingest import refuse_too_large

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"

GROUPS_MAX = 10_000
"""Resources and scopes of one export; empty ones take two bytes each, and the event loop looks at every one."""

_REASONS_TOLD = 8
"""How many reasons the text of an answer names."""

_lenient_request = twins.twin(ExportLogsServiceRequest)


class LogsMethods:
    """The methods of LogsService."""

    def __init__(self, ingest: IngestService, limits: Limits, plain_type: str, observer: Observer) -> None:
        """`plain_type` is the type of records without an event name; "" rejects them."""
        self._ingest = ingest
        self._limits = limits
        self._mapping = otlp_records.Mapping(plain_type, limits.description_bytes_max)
        self._observer = observer

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        return {"Export": calls.raw_unary(self._observer, SERVICE, "Export", self._export)}

    async def _export(self, raw: bytes) -> bytes:
        start = time.perf_counter()
        records = 0

        def count(found: int) -> None:
            nonlocal records
            records = found
            self._ingest.refuse_too_many(found)

        try:
            refuse_too_large(len(raw), self._limits)
            export = parse(raw, count)
            answer = await by_source.append(self._ingest, export.parts(self._mapping), size_bytes=len(raw))
        except BaseException as error:
            self._ingest.announce_failure(error, records, time.perf_counter() - start)
            raise
        reply = response(answer, records)
        self._ingest.announce(answer, time.perf_counter() - start, len(raw))
        if isinstance(reply, Invalid):
            raise reply
        return reply.SerializeToString()


@dataclass(frozen=True, slots=True)
class Export:
    """A request, parsed but not read yet: that is the writer's work. `faults` are known from parsing, by record."""

    request: ExportLogsServiceRequest
    faults: dict[int, Fault]

    def parts(self, mapping: otlp_records.Mapping) -> list[by_source.Part]:
        """The records of each service, and how to read them."""
        groups: dict[str, list[ResourceLogs]] = {}
        rows: dict[str, list[int]] = {}
        first = 0
        for logs in self.request.resource_logs:
            source = otlp_records.source_of(logs)
            end = first + sum(len(scope.log_records) for scope in logs.scope_logs)
            if end > first:
                groups.setdefault(source, []).append(logs)
                rows.setdefault(source, []).extend(range(first, end))
            first = end
        return [
            by_source.Part(source, rows[source], self._reader(group, rows[source], mapping))
            for source, group in groups.items()
        ]

    def _reader(
        self, group: Sequence[ResourceLogs], rows: Sequence[int], mapping: otlp_records.Mapping
    ) -> Callable[[], tuple[Offered, dict[int, Fault]]]:
        def decode() -> tuple[Offered, dict[int, Fault]]:
            offered, faults = otlp_records.offered(group, mapping)
            if self.faults:
                faults |= {place: self.faults[row] for place, row in enumerate(rows) if row in self.faults}
            return offered, faults

        return decode


def parse(raw: bytes, refuse_too_many: Callable[[int], None]) -> Export:
    """Raises Invalid if it is no request, or of too many records; records with text that is not UTF-8 are faults.

    `refuse_too_many` is told their number before any of them is looked at.
    """
    faults: dict[int, Fault] = {}
    try:
        request = ExportLogsServiceRequest.FromString(raw)
    except message.DecodeError:
        request = _parse_leniently(raw, faults, refuse_too_many)
    refuse_too_many(_count(request))
    return Export(request, faults)


def _count(request: Any) -> int:
    """The records of a request. Raises Invalid if there are too many groups of them to look at each."""
    groups = len(request.resource_logs)
    if groups <= GROUPS_MAX:
        groups += sum(len(logs.scope_logs) for logs in request.resource_logs)
    if groups > GROUPS_MAX:
        raise Invalid(
            "BATCH_TOO_LARGE",
            f"more than {GROUPS_MAX:,} resources and scopes in one export",
            hint="send smaller batches",
            field="resource_logs",
        )
    return sum(len(scope.log_records) for logs in request.resource_logs for scope in logs.scope_logs)


def _parse_leniently(
    raw: bytes, faults: dict[int, Fault], refuse_too_many: Callable[[int], None]
) -> ExportLogsServiceRequest:
    """Parses with the twin, empties what is at fault, and parses the rest as it should be."""
    try:
        twin: Any = _lenient_request.FromString(raw)
        refuse_too_many(_count(twin))
        for row, (field, record) in enumerate(_records_with_bad_text(twin)):
            if field:
                faults[row] = Fault("TEXT_NOT_UTF8", f"{field} is not UTF-8", field)
                record.Clear()
        return ExportLogsServiceRequest.FromString(twin.SerializeToString())
    except message.DecodeError as error:
        raise codec.undecodable("ExportLogsServiceRequest") from error


def _records_with_bad_text(twin: Any) -> Iterator[tuple[str, Any]]:
    """Each record, with the path of the text at fault in it or in what it belongs to, which is emptied."""
    for logs in twin.resource_logs:
        of_resource = _mended(logs, "resource", Resource)
        for scope in logs.scope_logs:
            of_scope = of_resource or _mended(scope, "scope", InstrumentationScope)
            for record in scope.log_records:
                yield of_scope or twins.bad_text(record, LogRecord), record


def _mended(holder: Any, name: str, original: type[message.Message]) -> str:
    """What of a resource or scope is not UTF-8, it or its schema; then both are emptied."""
    found = twins.bad_text(getattr(holder, name), original)
    path = f"{name}.{found}" if found else "" if twins.is_utf8(holder.schema_url) else "schema_url"
    if path:
        holder.ClearField(name)
        holder.ClearField("schema_url")
    return path


def response(answer: Answer, records: int) -> ExportLogsServiceResponse | Invalid:
    """What the sender is told. `partial_success` is unset unless records were rejected, as the specification says."""
    if not answer.rejected:
        return ExportLogsServiceResponse()
    rejected = [item for item in answer.items if item.reason]
    text = f"{answer.rejected:,} of {records:,} log records were rejected and must not be sent again: {_told(rejected)}"
    if answer.rejected == records:
        return Invalid("ALL_REJECTED", text, field=rejected[0].field)
    return ExportLogsServiceResponse(
        partial_success=ExportLogsPartialSuccess(rejected_log_records=answer.rejected, error_message=text)
    )


def _told(rejected: Sequence[Item]) -> str:
    """Each reason with its number and its first record."""
    counts = Counter(item.reason for item in rejected)
    firsts = {item.reason: item for item in reversed(rejected)}
    told = [
        f"{reason} ({count:,} times, first in record {firsts[reason].index}: {firsts[reason].message})"
        for reason, count in counts.most_common(_REASONS_TOLD)
    ]
    return "; ".join(told)
