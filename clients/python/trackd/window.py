"""What was handed over and is not answered yet: pure state that plans what to send, without network, clock or threads.

A batch is first *waiting*, then *in flight*, then answered and gone. A stream that breaks puts everything in flight
back to what waits, in order; nothing is ever forgotten but by an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from trackd.framing import Batch, cut, events_of
from trackd.v1.ingest_pb2 import IngestLimits


class ProtocolViolation(Exception):
    """The daemon answered something that was not asked."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one stream takes at once, as the handshake told it."""

    batch_events: int
    batch_bytes: int
    in_flight_batches: int
    in_flight_bytes: int

    @classmethod
    def told(cls, limits: IngestLimits) -> Limits:
        """The handshake's limits. What a daemon leaves open (0) is taken as no limit; one batch is always possible."""
        unlimited = 1 << 62
        return cls(
            batch_events=limits.max_batch_events or unlimited,
            batch_bytes=limits.max_batch_bytes or unlimited,
            in_flight_batches=limits.max_in_flight_batches or unlimited,
            in_flight_bytes=limits.max_in_flight_bytes or unlimited,
        )


class Window:
    """Unanswered batches, at most `batches_max` and `bytes_max` of them (a single batch may always enter)."""

    def __init__(self, batches_max: int, bytes_max: int) -> None:
        self._batches_max = batches_max
        self._bytes_max = bytes_max
        self._waiting: deque[Batch] = deque()
        self._in_flight: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._in_flight_bytes = 0
        self._limits: Limits | None = None

    @property
    def empty(self) -> bool:
        """Whether everything was answered."""
        return not self._waiting and not self._in_flight

    @property
    def awaiting_answer(self) -> bool:
        """Whether something was sent and not answered."""
        return bool(self._in_flight)

    @property
    def waiting(self) -> int:
        """Batches that are not in flight."""
        return len(self._waiting)

    @property
    def limits(self) -> Limits | None:
        """What the open stream takes; None while there is none."""
        return self._limits

    def has_room(self) -> bool:
        """Whether one more batch may be added now."""
        return self.empty or (
            len(self._waiting) + len(self._in_flight) < self._batches_max
            and self._waiting_bytes + self._in_flight_bytes < self._bytes_max
        )

    def add(self, batch: Batch) -> None:
        """Takes over a batch; it is the last to be sent. One that the open stream would refuse for its size is cut."""
        for part in self._fitting(batch):
            self._waiting.append(part)
            self._waiting_bytes += part.size

    def opened(self, limits: Limits) -> None:
        """A new stream takes batches within these limits: larger ones, made for another daemon, are cut up."""
        self.lost()
        self._limits = limits
        self._waiting = deque(part for batch in self._waiting for part in self._fitting(batch))
        self._waiting_bytes = sum(batch.size for batch in self._waiting)

    def lost(self) -> None:
        """The stream is gone: everything in flight is to be sent again, in its old order."""
        self._limits = None
        # Sorted and not only put in front: a batch refused for now may wait while younger ones are in flight.
        self._waiting = deque(sorted((*self._in_flight, *self._waiting), key=lambda batch: batch.first))
        self._waiting_bytes += self._in_flight_bytes
        self._in_flight.clear()
        self._in_flight_bytes = 0

    def take(self) -> Batch | None:
        """The next batch to send, now in flight; None while nothing waits or the stream takes no more."""
        if self._limits is None or not self._waiting:
            return None
        batch = self._waiting[0]
        if self._in_flight and (
            len(self._in_flight) >= self._limits.in_flight_batches
            or self._in_flight_bytes + batch.size > self._limits.in_flight_bytes
        ):
            return None
        self._waiting.popleft()
        self._waiting_bytes -= batch.size
        self._in_flight.append(batch)
        self._in_flight_bytes += batch.size
        return batch

    def withdraw(self, which: Callable[[Batch], bool]) -> list[Batch]:
        """Takes out those batches, among all that wait, in order; they are forgotten here."""
        taken = [batch for batch in self._waiting if which(batch)]
        self._waiting = deque(batch for batch in self._waiting if not which(batch))
        self._waiting_bytes -= sum(batch.size for batch in taken)
        return taken

    def expect(self, batch_id: int) -> Batch:
        """The batch that an answer is for: always the oldest in flight. Raises ProtocolViolation for any other."""
        if not self._in_flight:
            raise ProtocolViolation(f"an answer for batch {batch_id}, and none is in flight")
        batch = self._in_flight[0]
        if batch_id not in (0, batch.id):
            raise ProtocolViolation(f"an answer for batch {batch_id}, and the next must be for {batch.id}")
        return batch

    def settle(self) -> None:
        """The oldest batch in flight has its final answer: it is gone."""
        self._in_flight_bytes -= self._in_flight.popleft().size

    def put_back(self, *, defect: bool = False) -> None:
        """The oldest batch in flight was refused for now: it waits again, in its old place among what waits."""
        batch = self._in_flight.popleft()
        self._in_flight_bytes -= batch.size
        if defect:
            batch = replace(batch, defects=batch.defects + 1)
        place = next((at for at, other in enumerate(self._waiting) if other.first > batch.first), len(self._waiting))
        self._waiting.insert(place, batch)
        self._waiting_bytes += batch.size

    def _fitting(self, batch: Batch) -> list[Batch]:
        limits = self._limits
        if limits is None or batch.events == 1:
            return [batch]
        if batch.events <= limits.batch_events and batch.size <= limits.batch_bytes:
            return [batch]
        return cut(batch.first, events_of(batch), limits.batch_events, limits.batch_bytes, like=batch)
