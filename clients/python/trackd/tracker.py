"""Tracking from within an application: a call that costs microseconds, and everything else behind it.

The event is encoded by the thread that tracks, to the bytes that will be sent. That is the cheapest copy of what the
caller may change afterwards (JSON of five keys takes 1.7 us, a deep copy more), mistakes show where they are made, the
buffer knows its size to the byte, and the thread behind it has so little to do (join bytes) that it hardly ever keeps
the interpreter from the application.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trackd import lifetime
from trackd.backoff import Backoff
from trackd.channel import Endpoint, Tls, Token
from trackd.errors import Invalid
from trackd.events import new_event
from trackd.framing import EVENT_BYTES_MAX, MIB, encode
from trackd.outcomes import Rejection
from trackd.pipeline import Pipeline
from trackd.settings import Settings, Stats, WhenFull
from trackd.span import Span
from trackd.v1.event_pb2 import Change

_log = logging.getLogger("trackd")
_NO_FORK = ("0", "false", "no", "n", "f")
"""What switches gRPC's support for forks off (grpc.github.io/grpc/core/md_doc_fork_support.html)."""

_FORKED = "this process was forked from one that had tracked already, and gRPC's support for forks is switched off"


class Tracker:
    """Takes events from any thread and gets each to the daemon once. Make one, keep it, share it.

        tracker = trackd.Tracker(source="reviews")
        tracker.track("review_submitted", user_id="ann", metadata={"pr": 42})

    `track` never waits for the network. A daemon that is away is waited for, for as long as it takes; meanwhile events
    are buffered, and when the buffer is full `when_full` says what happens:

    - "drop": the newest event is not taken, and counted.
    - "block": `track` waits up to `block_timeout_s` for room; then as with "drop".
    - "spill": events go to files in `spill_directory`, up to `spill_bytes` of them, and survive the process: whoever
      next tracks for the same source with the same directory sends them. Full, or a disk that fails: as with "drop".

    No error of the daemon or the network reaches the application: `stats()` tells, the logger "trackd" warns when
    events begin to wait and when some are dropped, and each event that the daemon refuses for good goes to
    `on_rejected` (on the thread that gets the answers: it should return soon; it may track, but not flush or close). At
    exit everything is flushed, for up to `exit_timeout_s`. Threads and the connection are started by the first `track`
    of a process, so a Tracker can be made before a server forks its
    workers; see trackd.lifetime.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        source: str,
        token: Token | None = None,
        tls: Tls | bool | None = None,
        when_full: WhenFull = "drop",
        block_timeout_s: float = 1.0,
        spill_directory: str | os.PathLike[str] | None = None,
        spill_bytes: int = 1024 * MIB,
        buffer_events: int = 100_000,
        buffer_bytes: int = 64 * MIB,
        batch_events: int = 1_000,
        batch_bytes: int = MIB,
        max_delay_s: float = 0.1,
        on_rejected: Callable[[Rejection], None] | None = None,
        exit_timeout_s: float = 5.0,
        answer_timeout_s: float = 20.0,
        backoff: Backoff | None = None,
    ) -> None:
        """A batch goes out when it has `batch_events` or `batch_bytes`, or its oldest event waits for `max_delay_s`.

        `answer_timeout_s`: a stream on which the oldest batch waits longer than this for its answer is replaced.
        `token` and `tls` are those of trackd.Client. ValueError for settings that cannot be.
        """
        self._settings = Settings(
            endpoint=Endpoint.of(target, token=token, tls=tls),
            source=source,
            when_full=when_full,
            block_timeout_s=block_timeout_s,
            spill_directory=None if spill_directory is None else Path(spill_directory).absolute(),
            spill_bytes=spill_bytes,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
            batch_events=batch_events,
            batch_bytes=batch_bytes,
            max_delay_s=max_delay_s,
            exit_timeout_s=exit_timeout_s,
            answer_timeout_s=answer_timeout_s,
            backoff=backoff or Backoff(),
            on_rejected=on_rejected,
        )
        self._guard = threading.RLock()
        self._pipeline: Pipeline | None = None
        self._closed = False
        self._late = 0
        self._put: Callable[[bytes], bool] = self._first
        self._inherited: list[Pipeline] = []
        lifetime.watch_over(self)

    @property
    def target(self) -> str:
        """HOST:PORT of the daemon."""
        return self._settings.endpoint.target

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def track(
        self,
        type: str,
        *,
        user_id: str = "",
        metadata: Mapping[str, Any] | str | None = None,
        tags: Iterable[str] = (),
        timestamp_ms: int | None = None,
        session_id: str = "",
        client_ip: str = "",
        description: str = "",
        change: Change | None = None,
    ) -> bool:
        """Takes an event over; whether it was taken (see `when_full`). It has its id and its time when this returns.

        Everything is copied: what you gave is yours again. TypeError or ValueError for what cannot be encoded, such as
        a date in the metadata; Invalid for an event of more than 7 MiB. What the daemon thinks of it comes later.
        """
        element = encode(
            new_event(
                type,
                user_id=user_id,
                timestamp_ms=timestamp_ms,
                session_id=session_id,
                client_ip=client_ip,
                description=description,
                tags=tags,
                metadata=metadata,
                change=change,
            )
        )
        if len(element) > EVENT_BYTES_MAX:
            raise Invalid(f"one event of {len(element):,} bytes; no daemon takes more than {EVENT_BYTES_MAX:,}")
        return self._put(element)

    def tracked(
        self,
        type: str,
        *,
        user_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        session_id: str = "",
    ) -> Span:
        """Tracks a call or a block when it ends: how long it took, and how it ended. Decorator and context manager.

            @tracker.tracked("invoice_sent")
            async def send(invoice): ...

            with tracker.tracked("import", user_id="ann") as span:
                span.metadata["rows"] = 3

        The metadata get `duration_ms`, `outcome` ("ok", "error" or "cancelled") and, after an exception, `error` with
        the name of its class; the exception goes on. Works for functions and coroutine functions.
        """
        return Span(self, type, user_id=user_id, metadata=metadata or {}, tags=tuple(tags), session_id=session_id)

    def flush(self, timeout_s: float | None = 30.0) -> bool:
        """Waits until everything tracked before has its final answer; False if that takes longer. None: for ever."""
        pipeline = self._pipeline
        return pipeline is None or pipeline.flush(timeout_s)

    async def aflush(self, timeout_s: float | None = 30.0) -> bool:
        """As `flush`, for asyncio."""
        return await asyncio.to_thread(self.flush, timeout_s)

    def close(self, timeout_s: float | None = None) -> Stats:
        """Flushes, for up to `timeout_s` seconds (None: `exit_timeout_s`), and ends: `track` drops what comes later.

        With "spill" whatever is not answered then is in files; else it is lost, unless the daemon has it: the logger
        says so, and `unanswered` how many. Closing twice is fine.
        """
        return self._close(self._settings.exit_timeout_s if timeout_s is None else timeout_s, threads=True)

    async def aclose(self, timeout_s: float | None = None) -> Stats:
        """As `close`, for asyncio."""
        return await asyncio.to_thread(self.close, timeout_s)

    def stats(self) -> Stats:
        """What became of everything, in this process."""
        pipeline = self._pipeline
        return pipeline.stats() if pipeline is not None else Stats(dropped=self._late)

    def _first(self, element: bytes) -> bool:
        """The first event of a process starts everything; from then on it is the buffer's business."""
        with self._guard:
            if self._closed and self._pipeline is None:
                self._late += 1
                return False
            if self._pipeline is None:
                cut_off = ""
                if self._inherited and os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in _NO_FORK:
                    cut_off = _FORKED
                    _log.warning("%s", cut_off)
                self._pipeline = Pipeline(self._settings, cut_off=cut_off)
                lifetime.keep(self)
            self._put = self._pipeline.intake.put
        return self._put(element)

    def _close(self, timeout_s: float, *, threads: bool) -> Stats:
        with self._guard:
            first, self._closed = not self._closed, True
            pipeline = self._pipeline
        if pipeline is not None and first and not pipeline.finish(timeout_s, threads=threads):
            _log.warning(
                "%d tracked events were not acknowledged: %s", self.stats().unanswered, self.stats().last_error
            )
        lifetime.let_go(self)
        return self.stats()

    def at_exit(self, *, threads: bool) -> None:
        """The interpreter ends: see trackd.lifetime."""
        self._close(self._settings.exit_timeout_s, threads=threads)

    def in_forked_child(self) -> None:
        """This is another process now: see trackd.lifetime."""
        self._guard = threading.RLock()
        if self._pipeline is not None:
            self._pipeline.abandon()
            # Never freed: taking it down would take the parent's connection down.
            self._inherited.append(self._pipeline)
            self._pipeline = None
        self._put = self._first
        self._late = 0
