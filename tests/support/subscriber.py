"""Subscribing over the wire by hand, a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from trackd.v1 import query_pb2, subscribe_pb2

METHOD = "/trackd.v1.SubscribeService/Subscribe"
TIMEOUT_S = 60.0
NEVER = query_pb2.EventFilter(types=["never"])

Frame = subscribe_pb2.SubscribeResponse


class Subscriber:
    """One Subscribe call."""

    def __init__(self, channel: grpc.Channel, request: bytes | None = None, **parts: Any) -> None:
        method: Any = channel.unary_stream(METHOD, response_deserializer=Frame.FromString)
        raw = subscribe_pb2.SubscribeRequest(**parts).SerializeToString() if request is None else request
        self.call: Any = method(raw, timeout=TIMEOUT_S)

    def next(self) -> Frame:
        """The next frame."""
        frame: Frame = next(self.call)
        return frame

    def until(self, kind: str) -> list[Frame]:
        """All frames up to the first of a kind."""
        found = [self.next()]
        while found[-1].WhichOneof("frame") != kind:
            found.append(self.next())
        return found

    def events(self, count: int) -> list[int]:
        """The positions of the next events, at least so many."""
        found: list[int] = []
        while len(found) < count:
            found += positions([self.next()])
        return found

    def cancel(self) -> None:
        """Breaks off."""
        self.call.cancel()


def positions(frames: list[Frame]) -> list[int]:
    """Of all events in frames."""
    return [stored.position for frame in frames for stored in frame.events.events]


def kinds(frames: list[Frame]) -> list[str | None]:
    """What kind each is."""
    return [frame.WhichOneof("frame") for frame in frames]


def rest(call: Any) -> Iterator[Frame]:
    """What still comes of a call, up to its end, however it ends."""
    try:
        yield from call
    except grpc.RpcError:
        return
