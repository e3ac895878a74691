"""Sending many events so that each is stored once, whatever happens to the daemon or the connection in between.

Three threads meet at one condition: the caller's (send, flush, close), the supervisor, which opens streams and decides
when to give up, and one reader a stream. gRPC pulls what to send from the window on a thread of its own. What to do is
decided by trackd.window, trackd.outcomes and trackd.backoff; this module only does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from trackd.backoff import Backoff, Patience
from trackd.channel import default_target, open_channel
from trackd.client import DurabilityName
from trackd.errors import DeadlineExceeded, GaveUp, Internal, Invalid, TrackdError, breaks_for_good, from_rpc_error
from trackd.events import new_id
from trackd.framing import BATCH_OVERHEAD_BYTES, encoded_bytes, make_batch, open_frame
from trackd.outcomes import BatchResult, Totals, TryAgain, judge
from trackd.v1.event_pb2 import Event
from trackd.v1.ingest_pb2 import AppendBatchAnswer, AppendStreamResponse
from trackd.window import Limits, ProtocolViolation, Window

MIB = 1024 * 1024
EVENT_BYTES_MAX = 7 * MIB
"""The transport takes messages of 8 MiB; a larger one would end the stream instead of being refused."""
METHOD = "/trackd.v1.IngestService/AppendStream"


@dataclass
class _Stream:
    """One open call. `ended` is set by its reader, once; then `error` tells why, None for a regular end."""

    call: Any = None
    ended: bool = False
    error: TrackdError | None = None
    sending_since_s: float = field(default=0.0)


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
        """`answer_timeout_s`: a stream on which the oldest batch waits longer than this for its answer is replaced."""
        if min(batch_events, batch_bytes, window_batches, window_bytes) < 1:
            raise ValueError("batch_events, batch_bytes, window_batches and window_bytes must be positive")
        self.target = target or default_target()
        self._opening = open_frame(source, durability)
        self._on_result = on_result
        self._batch_events = batch_events
        self._batch_bytes = min(batch_bytes, EVENT_BYTES_MAX)
        self._answer_timeout_s = answer_timeout_s
        self._give_up_after_s = give_up_after_s
        self._backoff = backoff or Backoff()
        self._patience = Patience(give_up_after_s)
        self._changed = threading.Condition()
        self._window = Window(window_batches, window_bytes)
        self._totals = Totals()
        self._part: list[Event] = []
        self._part_bytes = BATCH_OVERHEAD_BYTES
        self._handed_over = 0
        self._closing = False
        self._closing_since_s = 0.0
        self._paused_until_s = 0.0
        self._last_error: TrackdError | None = None
        self._failure: BaseException | None = None
        self._channel = open_channel(self.target)
        self._call = self._channel.stream_stream(
            METHOD, request_serializer=bytes, response_deserializer=AppendStreamResponse.FromString
        )
        self._supervisor = threading.Thread(target=self._supervise, name="trackd-appender", daemon=True)
        self._supervisor.start()

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
        with self._changed:
            return self._totals

    @property
    def unacknowledged(self) -> int:
        """Events handed over and not finally answered."""
        with self._changed:
            return self._unacknowledged()

    def send(self, events: Iterable[Event]) -> None:
        """Takes over the events, in order; blocks while the window is full. Do not change them afterwards.

        Batches go out as they fill; the last, partial one goes with flush or close. Raises GaveUp, what on_result
        raised, or Invalid for an event of more than 7 MiB (those before it are taken over).
        """
        for event in events:
            if not event.id:
                event.id = new_id(event.timestamp_ms if event.HasField("timestamp_ms") else None)
            size = encoded_bytes(event)
            if size > EVENT_BYTES_MAX:
                raise Invalid(f"one event of {size:,} bytes; no daemon takes more than {EVENT_BYTES_MAX:,}")
            if self._part and self._part_bytes + size > self._batch_bytes:
                self._hand_over()
            self._part.append(event)
            self._part_bytes += size
            if len(self._part) >= self._batch_events:
                self._hand_over()

    def flush(self) -> Totals:
        """Waits until everything handed over has its final answer; raises like send."""
        self._hand_over()
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._window.empty)
            self._raise_failure()
            return self._totals

    def close(self) -> Totals:
        """Flushes, ends the stream in order and returns the totals. Raises like send, and is closed even then.

        Closing twice is fine.
        """
        try:
            self.flush()
        finally:
            self._stop()
        with self._changed:
            self._raise_failure()
            return self._totals

    def abort(self) -> None:
        """Ends at once; what is not answered may or may not be stored. See `unacknowledged`."""
        with self._changed:
            if self._failure is None and not self._window.empty:
                self._failure = GaveUp("aborted", unacknowledged=self._unacknowledged(), cause=None)
        self._stop()

    def _stop(self) -> None:
        with self._changed:
            self._closing = True
            self._closing_since_s = time.monotonic()
            self._changed.notify_all()
        self._supervisor.join()
        self._channel.close()

    def _unacknowledged(self) -> int:
        return self._handed_over + len(self._part) - self._totals.answered

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _hand_over(self) -> None:
        with self._changed:
            self._raise_failure()
            if not self._part:
                return
            if self._closing:
                raise RuntimeError("the Appender is closed")
            part, self._part, self._part_bytes = self._part, [], BATCH_OVERHEAD_BYTES
        batch = make_batch(self._handed_over, part)
        with self._changed:
            self._handed_over += len(part)
            self._changed.wait_for(lambda: self._failure is not None or self._window.has_room())
            self._raise_failure()
            self._window.add(batch)
            self._patience.watch(time.monotonic(), waiting=True)
            self._changed.notify_all()

    # The supervisor's thread.

    def _supervise(self) -> None:
        try:
            while self._wait_for_work():
                self._run_stream()
                self._wait_out()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller's thread must learn of it
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Returns whether there is something to send; False once the Appender is closed or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._done() or not self._window.empty)
            return not self._done()

    def _done(self) -> bool:
        return self._failure is not None or (self._closing and self._window.empty)

    def _run_stream(self) -> None:
        """Opens one stream and stays until it has ended, by itself or because it must."""
        stream = _Stream(sending_since_s=time.monotonic())
        stream.call = self._call(self._requests(stream))
        reader = threading.Thread(target=self._read, args=(stream,), name="trackd-appender-reader", daemon=True)
        reader.start()
        with self._changed:
            while not stream.ended and self._failure is None:
                wait_s = self._until_overdue_s(stream)
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s)
        stream.call.cancel()
        reader.join()
        with self._changed:
            self._window.lost()
            self._changed.notify_all()

    def _until_overdue_s(self, stream: _Stream) -> float:
        """Seconds that this stream may go on without anything happening; at most 0: it must end."""
        now_s = time.monotonic()
        left_s = self._patience.left_s(now_s)
        if self._window.awaiting_answer or self._window.limits is None or self._closing:
            overdue_s = max(stream.sending_since_s, self._closing_since_s) + self._answer_timeout_s - now_s
            if overdue_s <= 0 and stream.error is None:
                stream.error = DeadlineExceeded(
                    f"no answer within {self._answer_timeout_s:g} s", code="DEADLINE_EXCEEDED", retryable=True
                )
            return overdue_s if left_s is None else min(left_s, overdue_s)
        return 3_600.0 if left_s is None else left_s

    def _wait_out(self) -> None:
        """After a stream has ended: gives up, or waits as long as it is wise before the next one."""
        with self._changed:
            if self._done() or self._window.empty:
                return
            error = self._last_error
            left_s = self._patience.left_s(time.monotonic())
            if error is not None and breaks_for_good(error):
                self._give_up(f"the daemon refuses the stream: {error}")
            delay_s = self._backoff.next_delay_s(error.retry_after_ms if error else None)
            if left_s is not None and left_s <= delay_s:
                self._changed.wait_for(self._done, timeout=max(left_s, 0))
                if self._done():
                    return
                told = f"; the last error: {error}" if error else ""
                self._give_up(f"no batch was answered for {self._give_up_after_s:g} s{told}")
            self._changed.wait_for(self._done, timeout=delay_s)

    def _give_up(self, why: str) -> None:
        count = self._unacknowledged()
        raise GaveUp(f"{count:,} events were not acknowledged: {why}", unacknowledged=count, cause=self._last_error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._failure is None:
                self._failure = error
            self._changed.notify_all()

    # gRPC's thread that sends.

    def _requests(self, stream: _Stream) -> Iterator[bytes]:
        yield self._opening
        while True:
            with self._changed:
                while True:
                    if stream.ended or self._done():
                        return
                    pause_s = self._paused_until_s - time.monotonic()
                    was_idle = not self._window.awaiting_answer
                    batch = self._window.take() if pause_s <= 0 else None
                    if batch is not None:
                        break
                    self._changed.wait(pause_s if pause_s > 0 else None)
                if was_idle:
                    stream.sending_since_s = time.monotonic()
                    self._changed.notify_all()
            yield batch.frame

    # The reader's thread.

    def _read(self, stream: _Stream) -> None:
        error: TrackdError | None = None
        try:
            for response in stream.call:
                if response.WhichOneof("message") == "opened":
                    self._opened(stream, response)
                else:
                    self._answered(stream, response.answer)
        except grpc.RpcError as broken:
            error = from_rpc_error(broken)
        except ProtocolViolation as violation:
            error = Internal(str(violation), code="INTERNAL", reason="PROTOCOL_VIOLATION")
        except BaseException as defect:  # noqa: BLE001 - on_result may raise anything; the caller gets it
            self._fail(defect)
        finally:
            with self._changed:
                # When we ended the stream ourselves, the reason for it says more than CANCELLED.
                stream.error = stream.error or error
                self._last_error = stream.error or self._last_error
                stream.ended = True
                self._changed.notify_all()

    def _opened(self, stream: _Stream, response: AppendStreamResponse) -> None:
        with self._changed:
            self._window.opened(Limits.told(response.opened.limits))
            stream.sending_since_s = time.monotonic()
            self._changed.notify_all()

    def _answered(self, stream: _Stream, answer: AppendBatchAnswer) -> None:
        with self._changed:
            batch = self._window.expect(answer.batch_id)
        outcome = judge(batch, answer)
        if isinstance(outcome, BatchResult) and self._on_result is not None:
            self._on_result(outcome)
        with self._changed:
            now_s = time.monotonic()
            stream.sending_since_s = now_s
            if isinstance(outcome, TryAgain):
                self._last_error = outcome.error
                self._window.put_back(defect=outcome.defect)
                self._paused_until_s = now_s + self._backoff.next_delay_s(outcome.error.retry_after_ms)
            else:
                self._totals = self._totals.plus(outcome)
                self._window.settle()
                self._backoff.reset()
                self._patience.progress(now_s)
                self._patience.watch(now_s, waiting=not self._window.empty)
            self._changed.notify_all()
