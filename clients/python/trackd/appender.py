"""Sending many events so that each is stored once: batches are made here, trackd.delivery gets them there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from trackd.backoff import Backoff
from trackd.channel import Endpoint, Tls, Token
from trackd.delivery import METHOD, Delivery
from trackd.errors import Invalid
from trackd.events import new_id
from trackd.framing import BATCH_OVERHEAD_BYTES, EVENT_BYTES_MAX, MIB, Batch, encode, join, open_frame
from trackd.outcomes import BatchResult, Totals
from trackd.requests import DurabilityName
from trackd.v1.event_pb2 import Event
from trackd.window import Window

__all__ = ["METHOD", "Appender", "encoded"]


def encoded(event: Event) -> bytes:
    """The event as it is sent; one without an id is given one, in place. Invalid if it has more than 7 MiB."""
    if not event.id:
        event.id = new_id(event.timestamp_ms if event.HasField("timestamp_ms") else None)
    element = encode(event)
    if len(element) > EVENT_BYTES_MAX:
        raise Invalid(f"one event of {len(element):,} bytes; no daemon takes more than {EVENT_BYTES_MAX:,}")
    return element


class Appender:
    """Sends events over AppendStream and sends again what was not answered. A context manager; one thread at a time.

    The daemon must know each event when it comes again, so an event without an id gets one (in place). A broken
    stream, a killed daemon, a refusal "for now": all are waited out with backoff, up to `give_up_after_s` seconds in
    which no batch gets its final answer. Memory is bounded by `window_batches` and `window_bytes`: `send` blocks while
    they are full.

    `on_result` is called for each final answer, in order of answers, on a thread of the Appender. It must not call
    the Appender. What it raises ends the Appender: the next call of send, flush or close raises it.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        source: str,
        token: Token | None = None,
        tls: Tls | bool | None = None,
        durability: DurabilityName = "durable",
        on_result: Callable[[BatchResult], None] | None = None,
        batch_events: int = 1_000,
        batch_bytes: int = MIB,
        window_batches: int = 32,
        window_bytes: int = 16 * MIB,
        give_up_after_s: float = 60.0,
        answer_timeout_s: float = 20.0,
        backoff: Backoff | None = None,
    ) -> None:
        """`answer_timeout_s`: a stream on which the oldest batch waits longer than this for its answer is replaced.

        `token` and `tls` are those of trackd.Client.
        """
        if min(batch_events, batch_bytes, window_batches, window_bytes) < 1:
            raise ValueError("batch_events, batch_bytes, window_batches and window_bytes must be positive")
        endpoint = Endpoint.of(target, token=token, tls=tls)
        self.target = endpoint.target
        self._on_result = on_result
        self._batch_events = batch_events
        self._batch_bytes = min(batch_bytes, EVENT_BYTES_MAX)
        self._guard = threading.Lock()
        self._totals = Totals()
        self._part: list[bytes] = []
        self._part_bytes = BATCH_OVERHEAD_BYTES
        self._handed_over = 0
        self._closed = False
        self._delivery = Delivery(
            endpoint,
            open_frame(source, durability),
            window=Window(window_batches, window_bytes),
            on_final=self._settled,
            unacknowledged=lambda: self.unacknowledged,
            give_up_after_s=give_up_after_s,
            answer_timeout_s=answer_timeout_s,
            backoff=backoff or Backoff(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @property
    def totals(self) -> Totals:
        """The sums over all final answers so far."""
        with self._guard:
            return self._totals

    @property
    def unacknowledged(self) -> int:
        """Events handed over and not finally answered."""
        with self._guard:
            return self._handed_over + len(self._part) - self._totals.answered

    def send(self, events: Iterable[Event]) -> None:
        """Takes over the events, in order; blocks while the window is full.

        Batches go out as they fill; the last, partial one goes with flush or close. Raises GaveUp, what on_result
        raised, or Invalid for an event of more than 7 MiB (those before it are taken over).
        """
        for event in events:
            self._take(encoded(event))

    def send_encoded(self, elements: Iterable[bytes]) -> None:
        """As send, for what `encoded` made of events."""
        for element in elements:
            self._take(element)

    def flush(self) -> Totals:
        """Waits until everything handed over has its final answer; raises like send."""
        self._hand_over()
        self._delivery.wait_until_empty()
        return self.totals

    def close(self) -> Totals:
        """Flushes, ends the stream in order and returns the totals. Raises like send, and is closed even then.

        Closing twice is fine.
        """
        try:
            self.flush()
        finally:
            self._closed = True
            self._delivery.stop()
        return self.totals

    def abort(self) -> None:
        """Ends at once; what is not answered may or may not be stored. See `unacknowledged`."""
        self._closed = True
        self._delivery.stop(abort=True)

    def _take(self, element: bytes) -> None:
        size = len(element)
        if self._part and self._part_bytes + size > self._batch_bytes:
            self._hand_over()
        self._part.append(element)
        self._part_bytes += size
        if len(self._part) >= self._batch_events:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._delivery.failure is not None:
            raise self._delivery.failure
        if not self._part:
            return
        if self._closed:
            raise RuntimeError("the Appender is closed")
        batch = join(self._handed_over, self._part)
        with self._guard:
            self._handed_over += len(self._part)
            self._part, self._part_bytes = [], BATCH_OVERHEAD_BYTES
        self._delivery.wait_for_room()
        self._delivery.add(batch)

    def _settled(self, _batch: Batch, result: BatchResult) -> None:
        if self._on_result is not None:
            self._on_result(result)
        with self._guard:
            self._totals = self._totals.plus(result)
