"""Encoded batches for load: made ahead, so that the client takes as little as possible from the daemon's cores.

A message is encoded once as a template; copies of it get other ids and times by overwriting bytes in place. Every id is
a UUIDv7 that rises with time, every event differs from every other, all are of one month.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trackd.v1 import event_pb2, ingest_pb2

USERS = 50_000
TYPES = 40
EVENTS_PER_MS = 8
TEMPLATES = 64
_MARK = 0x7AAA_AAAA_AAAA
"""A time whose bytes are found again in a template, both as an id and as a varint."""
_ID = struct.Struct(">HIHQ")


class Traffic:
    """Makes events that never repeat. `seed` decides everything but the time of the first event."""

    def __init__(self, seed: int, *, start_ms: int | None = None, events_per_ms: int = EVENTS_PER_MS) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._next = 0
        self._salt = self._random.getrandbits(62)
        # Far enough back that neither the clock's skew nor the end of the month comes near in any run.
        self._start_ms = month_start_ms(time.time()) + 1_000 if start_ms is None else start_ms
        self._events_per_ms = events_per_ms

    def event(self, timestamp_ms: int | None = None) -> event_pb2.Event:
        """One event of about 100 bytes, with metadata that has to be checked."""
        number, at = self.numbers(1).start, timestamp_ms
        if at is None:
            at = self._start_ms + number // self._events_per_ms
        return event_pb2.Event(id=uuid7(at, number, self._salt), timestamp_ms=at, **self.content(self._random))

    def content(self, random: random.Random) -> dict[str, Any]:
        """What an event holds besides its id and time."""
        draw = random.randrange
        return {
            "type": f"type_{draw(TYPES):02d}",
            "user_id": f"user-{draw(USERS):05d}",
            "session_id": f"s{draw(1_000_000):06d}",
            "metadata": f'{{"repo":"curl","pr":{draw(10_000)},"files":{draw(50)}}}',
        }

    def numbers(self, count: int) -> range:
        """The numbers of the next events."""
        first, self._next = self._next, self._next + count
        return range(first, self._next)

    def identities(self, numbers: range) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The ids of the events of these numbers, 16 bytes each, and when they happened."""
        number = np.arange(numbers.start, numbers.stop, dtype=np.int64)
        at = self._start_ms + number // self._events_per_ms
        halves = np.empty((len(number), 2), ">u8")  # as `uuid7` packs them
        halves[:, 0] = at << 16 | 0x7000 | number & 0xFFF
        halves[:, 1] = np.uint64(1 << 63) | ((number ^ self._salt) & (1 << 62) - 1).astype(np.uint64)
        return halves.view(np.uint8).reshape(-1, 16), at

    def requests(self, events: int) -> Iterator[bytes]:
        """Encoded unary AppendRequests with one event each."""
        for _ in range(events):
            yield ingest_pb2.AppendRequest(source="bench", events=[self.event()]).SerializeToString()

    def batches(self, events: int, batch: int) -> list[bytes]:
        """Encoded stream messages with `batch` events each."""
        count = events // batch
        return list(islice(self.endless(batch, templates=min(TEMPLATES, max(1, count))), count))

    def endless(self, batch: int, *, templates: int = TEMPLATES) -> Iterator[bytes]:
        """Encoded stream messages with `batch` events each, made when they are asked for."""
        return (template.copy() for template in cycle([_Template(self, batch) for _ in range(templates)]))


class _Template:
    """An encoded batch and the places of its ids and times."""

    def __init__(self, traffic: Traffic, batch: int) -> None:
        self._traffic = traffic
        request = ingest_pb2.AppendStreamRequest()
        request.batch.events.extend(traffic.event(_MARK) for _ in range(batch))
        encoded = request.SerializeToString()
        id_mark, time_mark = _MARK.to_bytes(6), _varint(_MARK)
        ids = list(_places(encoded, b"\x0a\x10" + id_mark, 2))
        times = list(_places(encoded, b"\x20" + time_mark, 1))
        if not len(ids) == len(times) == batch:
            msg = "the marks of a template are ambiguous"
            raise AssertionError(msg)
        self._bytes = np.frombuffer(encoded, np.uint8)
        self._ids = np.array(ids)[:, np.newaxis] + np.arange(16)
        self._times = np.array(times)[:, np.newaxis] + np.arange(7)

    def copy(self) -> bytes:
        message = self._bytes.copy()
        message[self._ids], at = self._traffic.identities(self._traffic.numbers(len(self._ids)))
        # The mark has one byte more than a time of this century: a redundant continuation fills it.
        message[self._times[:, :6]] = at[:, np.newaxis] >> np.arange(0, 42, 7) & 0x7F | 0x80
        message[self._times[:, 6]] = 0
        return message.tobytes()


def uuid7(at: int, number: int, salt: int) -> bytes:
    """A UUIDv7 (RFC 9562) that is another one for every number."""
    return _ID.pack(at >> 32, at & 0xFFFFFFFF, 0x7000 | number & 0xFFF, 1 << 63 | (number ^ salt) & (1 << 62) - 1)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _places(data: bytes, mark: bytes, skip: int) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at + skip
        at = data.find(mark, at + len(mark))


def month_start_ms(now_s: float) -> int:
    """The first millisecond of the UTC month of a moment."""
    moment = time.gmtime(now_s)
    return int((now_s // 86_400 - (moment.tm_mday - 1)) * 86_400) * 1000
