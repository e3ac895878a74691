"""Getting batches to a daemon so that each event is stored once, whatever happens to the daemon or the connection.

The core that Appender and Tracker share. Threads meet at one condition: whoever hands batches over, the supervisor,
which opens streams and decides when to give up, and one reader a stream. gRPC pulls what to send from the window on a
thread of its own. What to do is decided by trackd.window, trackd.outcomes and trackd.backoff; this module only does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from trackd.backoff import Backoff, Patience
from trackd.channel import Endpoint
from trackd.errors import DeadlineExceeded, GaveUp, Internal, TrackdError, breaks_for_good, from_rpc_error
from trackd.framing import Batch
from trackd.outcomes import BatchResult, TryAgain, judge
from trackd.v1.ingest_pb2 import AppendBatchAnswer, AppendStreamResponse
from trackd.window import Limits, ProtocolViolation, Window

METHOD = "/trackd.v1.IngestService/AppendStream"


@dataclass
class _Stream:
    """One open call. `ended` is set by its reader, once; then `error` tells why, None for a regular end."""

    call: Any = None
    ended: bool = False
    error: TrackdError | None = None
    sending_since_s: float = 0.0


class Delivery:
    """Sends batches over AppendStream, and again what was not answered, until each has its final answer.

    A broken stream, a killed daemon, a refusal "for now": all are waited out with backoff, up to `give_up_after_s`
    seconds in which no batch gets its final answer; None: for ever, whatever happens.

    `on_final(batch, result)` is called for each final answer, in order of answers, and `on_trouble(error)` for whatever
    is waited out; both on threads of the Delivery, which they must not call. What they raise ends it: see `failure`.
    `unacknowledged` is asked how many events are open where that has to be told. Threads and the connection are started
    with the first batch.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        opening: bytes,
        *,
        window: Window,
        on_final: Callable[[Batch, BatchResult], None],
        unacknowledged: Callable[[], int],
        on_trouble: Callable[[TrackdError], None] | None = None,
        give_up_after_s: float | None,
        answer_timeout_s: float,
        backoff: Backoff,
        dormant: bool = False,
    ) -> None:
        """`dormant`: nothing is ever sent, and gRPC is not touched."""
        self._endpoint = endpoint
        self.failure: BaseException | None = None
        """Why it has ended before its time; nothing is sent any more."""
        self.changed = threading.Condition()
        """Notified whenever anything in here has changed."""
        self._opening = opening
        self._window = window
        self._on_final = on_final
        self._unacknowledged = unacknowledged
        self._on_trouble = on_trouble
        self._give_up_after_s = give_up_after_s
        self._answer_timeout_s = answer_timeout_s
        self._backoff = backoff
        self._patience = Patience(give_up_after_s)
        self._dormant = dormant
        self._closing = False
        self._closing_since_s = 0.0
        self._paused_until_s = 0.0
        self._last_error: TrackdError | None = None
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._supervisor: threading.Thread | None = None

    @property
    def connected(self) -> bool:
        """Whether a stream is open: the daemon has answered its opening."""
        return self._window.limits is not None

    @property
    def waiting(self) -> int:
        """Batches that are not sent, for the first time or again."""
        return self._window.waiting

    def add(self, batch: Batch) -> None:
        """Takes over a batch, at once; for a bound see wait_for_room."""
        with self.changed:
            self._window.add(batch)
            self._patience.watch(time.monotonic(), waiting=True)
            if self._supervisor is None and not self._closing and not self._dormant:
                try:
                    self._start()
                except RuntimeError as error:  # no thread can be started, now or (at the interpreter's end) ever
                    self._survive(error)
            self.changed.notify_all()

    def withdraw(self, which: Callable[[Batch], bool]) -> list[Batch]:
        """Takes back batches that wait to be sent, in order. An earlier attempt may have stored them."""
        with self.changed:
            taken = self._window.withdraw(which)
            self._patience.watch(time.monotonic(), waiting=not self._window.empty)
            self.changed.notify_all()
            return taken

    def wait_for_room(self) -> None:
        """Returns once the window has room; raises what has ended it."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self._window.has_room())
            self._raise_failure()

    def wait_until_empty(self) -> None:
        """Returns once everything has its final answer; raises what has ended it."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self._window.empty)
            self._raise_failure()

    def stop(self, *, abort: bool = False) -> None:
        """Ends the stream and all threads: after the last answer or, with `abort`, at once. Twice is fine."""
        with self.changed:
            self._closing = True
            self._closing_since_s = time.monotonic()
            if abort and self.failure is None and not self._window.empty:
                self.failure = GaveUp("aborted", unacknowledged=self._unacknowledged(), cause=None)
            self.changed.notify_all()
            supervisor, channel = self._supervisor, self._channel
        if supervisor is not None:
            supervisor.join()
        if channel is not None:
            channel.close()

    def _start(self) -> None:
        if self._channel is None:
            self._channel = self._endpoint.open()
        self._call = self._channel.stream_stream(
            METHOD, request_serializer=bytes, response_deserializer=AppendStreamResponse.FromString
        )
        supervisor = threading.Thread(target=self._supervise, name="trackd-delivery", daemon=True)
        supervisor.start()
        self._supervisor = supervisor

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    # The supervisor's thread.

    def _supervise(self) -> None:
        try:
            while self._wait_for_work():
                try:
                    self._run_stream()
                except Exception as defect:  # noqa: BLE001 - see _survive
                    self._survive(defect)
                self._wait_out()
        except BaseException as error:  # noqa: BLE001 - whatever it is, who handed the batches over must learn of it
            self._fail(error)

    def _wait_for_work(self) -> bool:
        """Returns whether there is something to send; False once it is closed or has failed."""
        with self.changed:
            self.changed.wait_for(lambda: self._done() or not self._window.empty)
            return not self._done()

    def _done(self) -> bool:
        return self.failure is not None or (self._closing and self._window.empty)

    def _run_stream(self) -> None:
        """Opens one stream and stays until it has ended, by itself or because it must."""
        stream = _Stream(sending_since_s=time.monotonic())
        stream.call = self._call(self._requests(stream))
        reader = threading.Thread(target=self._read, args=(stream,), name="trackd-delivery-reader", daemon=True)
        reader.start()
        with self.changed:
            while not stream.ended and self.failure is None:
                wait_s = self._until_overdue_s(stream)
                if wait_s <= 0:
                    break
                self.changed.wait(wait_s)
        stream.call.cancel()
        reader.join()
        with self.changed:
            self._window.lost()
            self.changed.notify_all()

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
        with self.changed:
            if self._done() or self._window.empty:
                return
            error = self._last_error
            left_s = self._patience.left_s(time.monotonic())
            delay_s = self._backoff.next_delay_s(error.retry_after_ms if error else None)
            if error is not None and breaks_for_good(error):
                if self._give_up_after_s is not None:
                    self._give_up(f"the daemon refuses the stream: {error}")
                delay_s = max(delay_s, self._backoff.max_s)
            if left_s is not None and left_s <= delay_s:
                self.changed.wait_for(self._done, timeout=max(left_s, 0))
                if self._done():
                    return
                told = f"; the last error: {error}" if error else ""
                self._give_up(f"no batch was answered for {self._give_up_after_s:g} s{told}")
            self.changed.wait_for(self._done, timeout=delay_s)

    def _give_up(self, why: str) -> None:
        count = self._unacknowledged()
        raise GaveUp(f"{count:,} events were not acknowledged: {why}", unacknowledged=count, cause=self._last_error)

    def _survive(self, defect: Exception) -> None:
        """What should not happen ends a Delivery that may give up; the other kind takes it for a broken stream."""
        if self._give_up_after_s is not None:
            raise defect
        with self.changed:
            self._window.lost()
            self._troubled(Internal(repr(defect), code="INTERNAL", reason="SENDER_FAILED"))

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            if self.failure is None:
                self.failure = error
            self.changed.notify_all()

    # gRPC's thread that sends.

    def _requests(self, stream: _Stream) -> Iterator[bytes]:
        yield self._opening
        while True:
            with self.changed:
                while True:
                    if stream.ended or self._done():
                        return
                    pause_s = self._paused_until_s - time.monotonic()
                    was_idle = not self._window.awaiting_answer
                    batch = self._window.take() if pause_s <= 0 else None
                    if batch is not None:
                        break
                    self.changed.wait(pause_s if pause_s > 0 else None)
                if was_idle:
                    stream.sending_since_s = time.monotonic()
                    self.changed.notify_all()
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
        except BaseException as defect:  # noqa: BLE001 - on_final may raise anything
            if self._give_up_after_s is not None:
                self._fail(defect)
            error = Internal(repr(defect), code="INTERNAL", reason="SENDER_FAILED")
        finally:
            with self.changed:
                # When we ended the stream ourselves, the reason for it says more than CANCELLED.
                stream.error = stream.error or error
                stream.ended = True
                self._troubled(stream.error)
                self.changed.notify_all()

    def _opened(self, stream: _Stream, response: AppendStreamResponse) -> None:
        with self.changed:
            self._window.opened(Limits.told(response.opened.limits))
            stream.sending_since_s = time.monotonic()
            self.changed.notify_all()

    def _answered(self, stream: _Stream, answer: AppendBatchAnswer) -> None:
        with self.changed:
            batch = self._window.expect(answer.batch_id)
        outcome = judge(batch, answer)
        if isinstance(outcome, BatchResult):
            self._on_final(batch, outcome)
        with self.changed:
            now_s = time.monotonic()
            stream.sending_since_s = now_s
            if isinstance(outcome, TryAgain):
                self._troubled(outcome.error)
                self._window.put_back(defect=outcome.defect)
                self._paused_until_s = now_s + self._backoff.next_delay_s(outcome.error.retry_after_ms)
            else:
                self._window.settle()
                self._backoff.reset()
                self._patience.progress(now_s)
                self._patience.watch(now_s, waiting=not self._window.empty)
            self.changed.notify_all()

    def _troubled(self, error: TrackdError | None) -> None:
        if error is not None:
            self._last_error = error
            if self._on_trouble is not None and not self._done():
                self._on_trouble(error)
