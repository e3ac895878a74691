"""CloudEventService: batches of CloudEvents."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf import message
from trackd.cloudevents.v1 import publish_pb2
from trackd.cloudevents.v1.cloudevents_pb2 import CloudEvent

from server.config import Limits
from server.ingest import by_source
from server.ingest.rules import Fault
from server.ingest.service import IngestService
from server.observe import Observer
from server.rpc import calls, codec, twins
from server.rpc.doors import cloud_event_records
from server.rpc.ingest import refuse_too_large

SERVICE = "trackd.cloudevents.v1.CloudEventService"

_lenient_request = twins.twin(publish_pb2.PublishRequest)


class CloudEventMethods:
    """The methods of CloudEventService."""

    def __init__(self, ingest: IngestService, limits: Limits, observer: Observer) -> None:
        self._ingest = ingest
        self._limits = limits
        self._observer = observer

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        return {"Publish": calls.raw_unary(self._observer, SERVICE, "Publish", self._publish)}

    async def _publish(self, raw: bytes) -> bytes:
        start = time.perf_counter()
        events = 0

        def count(found: int) -> None:
            nonlocal events
            events = found
            self._ingest.refuse_too_many(found)

        try:
            refuse_too_large(len(raw), self._limits)
            published = parse(raw, count)
            answer = await by_source.append(
                self._ingest, published.parts(), size_bytes=len(raw), faults=published.faults
            )
        except BaseException as error:
            self._ingest.announce_failure(error, events, time.perf_counter() - start)
            raise
        reply = publish_pb2.PublishResponse(result=codec.result(answer)).SerializeToString()
        self._ingest.announce(answer, time.perf_counter() - start, len(raw))
        return reply


@dataclass(frozen=True, slots=True)
class Published:
    """A request, parsed but not read yet: that is the writer's work. `faults` are known from parsing, by event."""

    request: publish_pb2.PublishRequest
    faults: dict[int, Fault]

    def parts(self) -> list[by_source.Part]:
        """The events of each source, and how to read them."""
        named = self.request.source
        events: dict[str, list[CloudEvent]] = {}
        rows: dict[str, list[int]] = {}
        for row, event in enumerate(self.request.batch.events):
            if row in self.faults:
                continue
            source = named or event.source
            events.setdefault(source, []).append(event)
            rows.setdefault(source, []).append(row)
        return [
            by_source.Part(source, rows[source], partial(cloud_event_records.offered, group))
            for source, group in events.items()
        ]


def parse(raw: bytes, refuse_too_many: Callable[[int], None]) -> Published:
    """Raises Invalid if it is no request at all. Events with text that is not UTF-8, and of no source, are faults."""
    faults: dict[int, Fault] = {}
    try:
        request = publish_pb2.PublishRequest.FromString(raw)
    except message.DecodeError:
        request = _parse_leniently(raw, faults, refuse_too_many)
    else:
        refuse_too_many(len(request.batch.events))
    if not request.source:
        for row, event in enumerate(request.batch.events):
            if not event.source:
                faults.setdefault(row, Fault("CLOUD_EVENT_INVALID", "a CloudEvent needs a source", "source"))
    return Published(request, faults)


def _parse_leniently(
    raw: bytes, faults: dict[int, Fault], refuse_too_many: Callable[[int], None]
) -> publish_pb2.PublishRequest:
    """Parses with the twin, empties the events at fault, and parses the rest as it should be."""
    try:
        twin: Any = _lenient_request.FromString(raw)
        refuse_too_many(len(twin.batch.events))
        for row, event in enumerate(twin.batch.events):
            if field := twins.bad_text(event, CloudEvent):
                faults[row] = Fault("TEXT_NOT_UTF8", f"{field} is not UTF-8", field)
                event.Clear()
        return publish_pb2.PublishRequest.FromString(twin.SerializeToString())
    except message.DecodeError as error:
        raise codec.undecodable("PublishRequest") from error
