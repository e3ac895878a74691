"""Batches as they go over a stream: encoded once when they are made, and sent as these bytes however often.

An event is encoded by itself, as the element of a batch that it will be; a batch is its elements one behind the other.
(Protobuf allows that: https://protobuf.dev/programming-guides/encoding, "length-delimited records".)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trackd.v1.event_pb2 import Event
from trackd.v1.ingest_pb2 import AppendBatch, AppendStreamOpen, AppendStreamRequest

MIB = 1024 * 1024
EVENT_BYTES_MAX = 7 * MIB
"""The transport takes messages of 8 MiB; a larger one would end the stream instead of being refused."""
BATCH_OVERHEAD_BYTES = 32
"""Of the batch and of the message around it: batch_id, atomic, tags and lengths."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events that are answered together. `first` is the place of its first event among all that were sent.

    `frame` is the encoded AppendStreamRequest. `defects` counts how often the daemon failed (INTERNAL) over it.
    `payload_bytes` is the size of its events alone: the same sum, however they are batched. `origin` is for whoever
    made it; the parts of a batch that is cut up keep it.
    """

    id: int
    first: int
    events: int
    frame: bytes
    payload_bytes: int
    defects: int = 0
    origin: object = None

    @property
    def size(self) -> int:
        """Bytes on the wire, which is what the daemon counts."""
        return len(self.frame)


def open_frame(source: str, durability: str) -> bytes:
    """The first message of a stream. `durability` is "durable" or "accepted"."""
    opening = AppendStreamOpen(source=source, durability=f"DURABILITY_{durability.upper()}")
    return AppendStreamRequest(open=opening).SerializeToString()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_EVENTS = bytes([AppendBatch.EVENTS_FIELD_NUMBER << 3 | 2])
_BATCH = bytes([AppendStreamRequest.BATCH_FIELD_NUMBER << 3 | 2])
_HEADS = tuple(_EVENTS + _varint(size) for size in range(4_096))
"""The head of an element, by the size of its event; made ahead for those that nearly all events have."""


def encode(event: Event) -> bytes:
    """The event as an element of a batch: `AppendBatch(events=[event])`, in a fifth of the time."""
    encoded = event.SerializeToString()
    size = len(encoded)
    return (_HEADS[size] if size < len(_HEADS) else _EVENTS + _varint(size)) + encoded


def join(first: int, elements: Sequence[bytes], *, origin: object = None, defects: int = 0) -> Batch:
    """Encoded events as one batch. Its id is the place of its first event plus one: rising, never 0, never used twice.

    (0 is what the daemon answers to a batch whose id it could not read.)
    """
    head = AppendBatch(batch_id=first + 1).SerializeToString()
    body = b"".join((head, *elements))
    return Batch(
        id=first + 1,
        first=first,
        events=len(elements),
        frame=_BATCH + _varint(len(body)) + body,
        payload_bytes=len(body) - len(head),
        defects=defects,
        origin=origin,
    )


def make_batch(first: int, events: Iterable[Event]) -> Batch:
    """The events as one batch: see join."""
    return join(first, [encode(event) for event in events])


def events_of(batch: Batch) -> Sequence[Event]:
    """The events of a batch, decoded anew."""
    return AppendStreamRequest.FromString(batch.frame).batch.events


def cut(
    first: int, events: Iterable[Event], events_max: int, bytes_max: int, *, like: Batch | None = None
) -> list[Batch]:
    """The events, in order, as batches within both limits. An event that is too large on its own travels alone.

    They keep `defects` and `origin` of the batch that they are `like`.
    """
    return cut_elements(first, map(encode, events), events_max, bytes_max, like=like)


def cut_elements(
    first: int, elements: Iterable[bytes], events_max: int, bytes_max: int, *, like: Batch | None = None
) -> list[Batch]:
    """The same for events that are encoded already."""
    defects, origin = (like.defects, like.origin) if like else (0, None)
    batches: list[Batch] = []
    part: list[bytes] = []
    size = BATCH_OVERHEAD_BYTES
    for element in elements:
        if part and (len(part) >= events_max or size + len(element) > bytes_max):
            batches.append(join(first, part, origin=origin, defects=defects))
            first += len(part)
            part, size = [], BATCH_OVERHEAD_BYTES
        part.append(element)
        size += len(element)
    if part:
        batches.append(join(first, part, origin=origin, defects=defects))
    return batches
