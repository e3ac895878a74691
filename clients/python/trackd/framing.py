"""Batches as they go over a stream: encoded once when they are made, and sent as these bytes however often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trackd.v1.event_pb2 import Event
from trackd.v1.ingest_pb2 import AppendBatch, AppendStreamOpen, AppendStreamRequest

EVENT_OVERHEAD_BYTES = 6
"""Of one event within a batch: a tag and a length of at most 5 bytes."""
BATCH_OVERHEAD_BYTES = 32
"""Of the batch and of the message around it: batch_id, atomic, tags and lengths."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events that are answered together. `first` is the place of its first event among all that were sent.

    `frame` is the encoded AppendStreamRequest. `defects` counts how often the daemon failed (INTERNAL) over it.
    """

    id: int
    first: int
    events: int
    frame: bytes
    defects: int = 0

    @property
    def size(self) -> int:
        """Bytes on the wire, which is what the daemon counts."""
        return len(self.frame)


def open_frame(source: str, durability: str) -> bytes:
    """The first message of a stream. `durability` is "durable" or "accepted"."""
    opening = AppendStreamOpen(source=source, durability=f"DURABILITY_{durability.upper()}")
    return AppendStreamRequest(open=opening).SerializeToString()


def make_batch(first: int, events: Sequence[Event]) -> Batch:
    """The events as one batch. Its id is the place of its first event plus one: rising, never 0, never used twice.

    (0 is what the daemon answers to a batch whose id it could not read.)
    """
    request = AppendStreamRequest(batch=AppendBatch(batch_id=first + 1, events=events))
    return Batch(id=first + 1, first=first, events=len(events), frame=request.SerializeToString())


def events_of(batch: Batch) -> Sequence[Event]:
    """The events of a batch, decoded anew."""
    return AppendStreamRequest.FromString(batch.frame).batch.events


def encoded_bytes(event: Event) -> int:
    """How much one event adds to a batch."""
    return event.ByteSize() + EVENT_OVERHEAD_BYTES


def cut(first: int, events: Iterable[Event], events_max: int, bytes_max: int) -> Iterable[Batch]:
    """The events, in order, as batches within both limits. An event that is too large on its own travels alone."""
    part: list[Event] = []
    size = BATCH_OVERHEAD_BYTES
    for event in events:
        grown = size + encoded_bytes(event)
        if part and (len(part) >= events_max or grown > bytes_max):
            yield make_batch(first, part)
            first += len(part)
            part, grown = [], BATCH_OVERHEAD_BYTES + encoded_bytes(event)
        part.append(event)
        size = grown
    if part:
        yield make_batch(first, part)
