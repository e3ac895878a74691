"""SubscribeService: streams events as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import message
from trackd.v1 import subscribe_pb2

from server.config import MIB
from server.ingest.writer import draining
from server.model import Event
from server.observe import Observer
from server.query.service import judge_filter
from server.rpc import calls, codec
from server.rpc.gzipped import unpacked
from server.subscribe.frames import CaughtUp, Checkpoint, Confirmed, Events, Frame, Gap, GapReason, Heartbeat
from server.subscribe.service import SubscribeService

SERVICE = "trackd.v1.SubscribeService"
METHOD = "Subscribe"

FRAME_BYTES_MAX = 2 * MIB
"""Unless a single event is larger. Go, Java and Node take messages of 4 MiB by default."""
STUCK_S = 1.0
"""When the daemon stops, subscribers that do not even take their last frame are cut off after this."""

_REASONS = {
    GapReason.DAMAGED: subscribe_pb2.GAP_REASON_MONTH_DAMAGED,
    GapReason.DROPPED: subscribe_pb2.GAP_REASON_MONTH_DROPPED,
}


class SubscribeMethods:
    """The methods of SubscribeService."""

    def __init__(self, service: SubscribeService, observer: Observer) -> None:
        self._service = service
        self._observer = observer
        self._streams: set[asyncio.Task[Any]] = set()
        self.cut_off = 0
        """Streams whose handler has ended while gRPC still waits for their subscriber to read."""

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        stream = calls.watched(self._observer, SERVICE, METHOD, calls.SERVER_STREAM, self._subscribe)
        return {METHOD: grpc.unary_stream_rpc_method_handler(stream)}

    def drain(self) -> None:
        """Streams end with UNAVAILABLE; their subscribers come back to the next daemon and go on."""
        self._service.drain()
        asyncio.get_running_loop().call_later(STUCK_S, self._cut_off)

    def _cut_off(self) -> None:
        for stream in self._streams:
            self.cut_off += 1
            stream.cancel()

    @property
    def open_streams(self) -> int:
        """Streams that are not over yet."""
        return len(self._streams)

    async def _subscribe(self, raw: bytes, context: calls.Context) -> None:
        self._observer.message_received(SERVICE, METHOD, calls.SERVER_STREAM)
        stream = asyncio.current_task()
        if stream is not None:
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
        request = _parse(await unpacked(raw))
        where = codec.event_filter(request.filter)
        judge_filter(where)
        begin = request.WhichOneof("from")
        subscription = await self._service.subscribe(
            where,
            encode_events,
            after=request.after_position if begin == "after_position" else None,
            received_ms=request.received_from_ms if begin == "received_from_ms" else None,
        )
        try:
            while frame := await subscription.next():
                await self._send(context, frame)
            if subscription.draining:
                raise draining()
        finally:
            self._service.close(subscription)

    async def _send(self, context: calls.Context, frame: Frame) -> None:
        """Returns once the transport has taken it: while the subscriber does not read, nothing is read for it."""
        if isinstance(frame, Events):
            await context.write(frame.encoded)
            self._observer.events_delivered(frame.events, len(frame.encoded))
        else:
            await context.write(encode_frame(frame))
        self._observer.message_sent(SERVICE, METHOD, calls.SERVER_STREAM)


def _parse(raw: bytes) -> subscribe_pb2.SubscribeRequest:
    try:
        return subscribe_pb2.SubscribeRequest.FromString(raw)
    except message.DecodeError as error:
        raise codec.undecodable("SubscribeRequest") from error


def encode_events(events: Sequence[Event], head: int) -> tuple[bytes, int]:
    """A frame with as many of the events, from the first on, as it may hold, and their number. On a reader's thread."""
    response = subscribe_pb2.SubscribeResponse()
    frame = response.events
    frame.head = head
    add = frame.events.add
    for event in events:
        codec.put_event(add(), event)
    while len(frame.events) > 1 and response.ByteSize() > FRAME_BYTES_MAX:
        del frame.events[len(frame.events) // 2 :]
    return response.SerializeToString(), len(frame.events)


def encode_frame(frame: Confirmed | Gap | Checkpoint | CaughtUp | Heartbeat) -> bytes:
    """Any frame but events."""
    match frame:
        case Confirmed(after, head):
            told = subscribe_pb2.SubscribeConfirmed(after_position=after, head=head)
            response = subscribe_pb2.SubscribeResponse(confirmed=told)
        case Gap(month, reason):
            gap = subscribe_pb2.SubscribeGap(month=str(month), reason=_REASONS[reason])
            response = subscribe_pb2.SubscribeResponse(gap=gap)
        case Checkpoint(position):
            checkpoint = subscribe_pb2.SubscribeCheckpoint(position=position)
            response = subscribe_pb2.SubscribeResponse(checkpoint=checkpoint)
        case CaughtUp(head):
            response = subscribe_pb2.SubscribeResponse(caught_up=subscribe_pb2.SubscribeCaughtUp(head=head))
        case Heartbeat(head):
            response = subscribe_pb2.SubscribeResponse(heartbeat=subscribe_pb2.SubscribeHeartbeat(head=head))
    return response.SerializeToString()
