"""From the buffer to the daemon, in one process: a worker that batches, spills and reads back, and what came of it all.

The worker is the only one that touches files. Answers come on threads of the Delivery; they count and nudge.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from trackd.client import Client
from trackd.delivery import Delivery
from trackd.errors import TrackdError, breaks_for_good
from trackd.framing import Batch, cut_elements, encode, events_of, join
from trackd.intake import FIRST_PLACE
from trackd.outcomes import DEFECTS_MAX, BatchResult, Rejection, Totals, of_result
from trackd.progress import Origin, Watermark
from trackd.settings import Settings, Stats
from trackd.spill import Segment, Spill
from trackd.window import ProtocolViolation, Window

_UNBOUNDED = 1 << 62
_WORKER_STOP_S = 5.0
_log = logging.getLogger("trackd")


class Pipeline:
    """One process's way to the daemon. Starts its worker at once; ends with `finish`."""

    def __init__(self, settings: Settings, *, cut_off: str = "") -> None:
        """`cut_off`: why the daemon cannot be reached from this process, ever; "" if it can."""
        self.intake = settings.new_intake(may_block=lambda: not self._inside())
        self._settings = settings
        self._guard = threading.RLock()
        self._progress = threading.Condition(self._guard)
        self._totals = Totals()
        self._watermark = Watermark(FIRST_PLACE)
        self._again: deque[Batch] = deque()
        self._recovered = 0
        self._spilled = 0
        self._last_error = cut_off
        self._cut_off = bool(cut_off)
        self._away = self._cut_off
        self._trouble: TrackdError | None = None
        self._told: set[tuple[str, str]] = set()
        self._ending = False
        self._local = threading.local()
        self._spill: Spill | None = None
        self._delivery = Delivery(
            settings.endpoint,
            settings.opening,
            window=Window(_UNBOUNDED, _UNBOUNDED),
            on_final=self._answered,
            on_trouble=self._troubled,
            unacknowledged=lambda: self.intake.held_events,
            give_up_after_s=None,
            answer_timeout_s=settings.answer_timeout_s,
            backoff=settings.new_backoff(),
            dormant=self._cut_off,
        )
        self._worker = threading.Thread(target=self._work, name="trackd-tracker", daemon=True)
        try:
            self._worker.start()
        except RuntimeError as error:  # the interpreter shuts down: `finish` does what the worker would have done
            self._note(f"no thread can be started any more: {error}")

    def _inside(self) -> bool:
        """Whether this is a thread of the pipeline, which must not wait for itself."""
        return getattr(self._local, "inside", False)

    def stats(self) -> Stats:
        """Everything counted, at about one moment."""
        spill = self._spill
        with self._guard:
            intake, totals = self.intake, self._totals
            tracked = intake.next_place - FIRST_PLACE
            damaged = spill.damaged_events if spill else 0
            return Stats(
                tracked=tracked,
                recovered=self._recovered,
                stored=totals.accepted,
                duplicate=totals.duplicate,
                rejected=totals.rejected,
                unanswered=tracked + self._recovered - damaged - totals.answered,
                buffered=intake.held_events,
                buffered_bytes=intake.held_bytes,
                in_files=spill.unsettled_events if spill else 0,
                file_bytes=spill.size if spill else 0,
                spilled=self._spilled,
                damaged=damaged,
                dropped=intake.dropped,
                connected=self._delivery.connected,
                last_error=self._last_error,
            )

    def flush(self, timeout_s: float | None) -> bool:
        """Whether everything tracked before this call has got its final answer within the time."""
        self._must_be_outside()
        target = self.intake.hurry()
        with self._guard:
            return self._progress.wait_for(lambda: self._watermark.low >= target, timeout_s)

    def _must_be_outside(self) -> None:
        if self._inside():
            raise RuntimeError("on_rejected must not flush or close the Tracker: it would wait for itself")

    # The worker's thread.

    def _work(self) -> None:
        self._local.inside = True
        self._open_files()
        while True:
            first, elements = self.intake.take(partial=self._hungry)
            try:
                self._hand_over(first, elements)
                self._tend_files()
                self._tell_operator()
            except Exception as defect:  # noqa: BLE001 - the application must not notice, the operator must
                _log.exception("the tracker's worker failed")
                self._note(f"the tracker's worker failed: {defect!r}")
            if self._ending:
                return

    def _open_files(self) -> None:
        if self._settings.spill_directory is None:
            return
        try:
            spill = Spill(self._settings.spill_directory, self._settings.source, bytes_max=self._settings.spill_bytes)
            self._recovered = spill.adopt()
        except OSError as error:
            self._note(f"events cannot be spilled: {error}")
            _log.error("events cannot be spilled: %s", error)
        else:
            self._spill = spill

    def _hungry(self) -> bool:
        """Whether a batch that is not full makes sense: not behind others that wait, but files take it at once."""
        return self._delivery.waiting == 0 or (self._spill is not None and self._spill.unread_events > 0)

    def _hand_over(self, first: int, elements: list[bytes]) -> None:
        for batch in self._batches(first, elements):
            if not self._spilled_away(batch):
                self._delivery.add(batch)
        with self._guard:
            again, self._again = self._again, deque()
        for batch in again:
            self._delivery.add(batch)

    def _batches(self, first: int, elements: list[bytes]) -> list[Batch]:
        if not elements:
            return []
        settings = self._settings
        batches = cut_elements(first, elements, settings.batch_events, settings.batch_bytes)
        return [replace(batch, origin=Origin(batch.first, batch.events, batch.events)) for batch in batches]

    def _spilled_away(self, batch: Batch) -> bool:
        """Writes the batch to a file if that is where the next one goes; before it whatever waits in memory.

        Once memory is half full the daemon is too slow or away: from then on all events take the way through the file,
        in order, until it was read to its end.
        """
        if self._spill is None:
            return False
        if not self._spill.unread_events:
            if self.intake.held_events * 2 <= self._settings.buffer_events and (
                self.intake.held_bytes * 2 <= self._settings.buffer_bytes
            ):
                return False
            waiting = self._delivery.withdraw(_whole)
            for number, one in enumerate(waiting):
                if not self._write(one):
                    for left in waiting[number:]:
                        self._delivery.add(left)
                    return False
        return self._write(batch)

    def _write(self, batch: Batch) -> bool:
        if self._spill is None or self._spill.append(batch) is None:
            self._note(self._spill.trouble if self._spill else "")
            return False
        with self._guard:
            self._spilled += batch.events
        self.intake.release(batch.events, batch.payload_bytes)
        return True

    def _tend_files(self) -> None:
        """Reads back while there is room for it, and deletes what is done."""
        spill = self._spill
        if spill is None:
            return
        while spill.unread_events and not self._ending and self._room_to_read():
            batch = spill.read()
            if batch is None:
                break
            self.intake.hold(batch.events, batch.payload_bytes)
            self._delivery.add(batch)
        spill.sweep()
        if spill.trouble:
            self._note(spill.trouble)
            spill.trouble = ""

    def _room_to_read(self) -> bool:
        return (
            self.intake.held_events * 4 <= self._settings.buffer_events
            and self.intake.held_bytes * 4 <= self._settings.buffer_bytes
        )

    def _tell_operator(self) -> None:
        """Logs what has changed: an outage, its end, drops. Here because whoever listens to the log may be slow."""
        with self._guard:
            if not self._away or not self.intake.held_events:  # a stream that ends while nothing waits is no trouble
                self._trouble = None
            trouble, last_error, waiting = self._trouble, self._last_error, self._away
        over = bool(self._told) and not waiting
        if trouble is not None and (trouble.code, trouble.reason) not in self._told:
            self._told.add((trouble.code, trouble.reason))
            _log.warning("events tracked for %s wait: %s", self._settings.source, trouble)
        elif over:
            self._told.clear()
            _log.info("events tracked for %s are taken again", self._settings.source)
        if dropped := self.intake.newly_dropped(at_once=over):
            _log.warning("%d tracked events were dropped for want of room; the last error: %s", dropped, last_error)

    # Threads of the Delivery.

    def _answered(self, batch: Batch, result: BatchResult) -> None:
        origin = cast(Origin, batch.origin)
        again = _to_send_again(batch, result)
        final = batch.events - (again.events if again else 0)
        if again is not None:
            result = replace(result, rejected=result.rejected - again.events)
        # Before it counts: whoever has flushed may rely on having been told.
        self._report([one for one in result.rejections if again is None or not one.retryable])
        with self._guard:
            self._totals = self._totals.plus(result)
            self._away = False
            if again is not None:
                self._again.append(again)
            origin.left -= final
            if origin.place is not None:
                cast(Segment, origin.place).settled += final
            if origin.left == 0 and origin.first >= FIRST_PLACE:
                self._watermark.done(origin.first, origin.events)
            self._progress.notify_all()
        self.intake.release(final, batch.payload_bytes - (again.payload_bytes if again else 0))

    def _troubled(self, error: TrackdError) -> None:
        with self._guard:
            self._away, self._trouble = True, error
            self._last_error = str(error)
            self._progress.notify_all()
        self.intake.nudge()

    def _note(self, trouble: str) -> None:
        with self._guard:
            self._last_error = trouble

    def _report(self, rejections: list[Rejection]) -> None:
        if not rejections:
            return
        told = self._settings.on_rejected
        if told is None:
            one = rejections[0]
            _log.warning(
                "%d tracked events were rejected, the first (type %s) with %s: %s",
                len(rejections), one.event.type, one.reason, one.message,
            )  # fmt: skip
            return
        self._local.inside = True
        try:
            for rejection in rejections:
                self._tell(told, replace(rejection, sequence=rejection.sequence - FIRST_PLACE))
        finally:
            self._local.inside = False

    def _tell(self, told: Callable[[Rejection], None], rejection: Rejection) -> None:
        """One that it fails over keeps no other one from it."""
        try:
            told(rejection)
        except Exception as defect:  # noqa: BLE001 - it is the application's function
            _log.exception("on_rejected failed over an event rejected with %s", rejection.reason)
            self._note(f"on_rejected failed: {defect!r}")

    # The end, on whichever thread closes.

    def finish(self, timeout_s: float, *, threads: bool = True) -> bool:
        """Sends what is here, spills what cannot be sent in time, and ends. Whether nothing is left in memory.

        `threads`: whether new ones can be started; while the interpreter shuts down they cannot, from Python 3.12 on.
        """
        self._must_be_outside()
        until_s = time.monotonic() + timeout_s
        target = self.intake.close()
        with self._guard:
            self._progress.wait_for(lambda: self._watermark.low >= target or self._hopeless(threads=threads), timeout_s)
        self._ending = True
        self.intake.nudge()
        if self._worker.ident is not None:
            self._worker.join(_WORKER_STOP_S)
        else:
            self._open_files()
        self._delivery.stop(abort=True)
        left = self._delivery.withdraw(lambda _batch: True) + list(self._again)
        left += self._batches(*self.intake.drain())
        if left and not threads and not self._cut_off:
            left = self._send_without_threads(left, until_s)
        if self._spill is not None:
            left = [one for one in left if cast(Origin, one.origin).place is None and not self._write(one)]
            self._spill.close()
        return not left

    def _hopeless(self, *, threads: bool) -> bool:
        """Whether waiting for answers makes no sense: files are there for that, or nobody could open a stream."""
        if self._cut_off:
            return True
        return not self._delivery.connected and (not threads or (self._away and self._spill is not None))

    def _send_without_threads(self, batches: list[Batch], until_s: float) -> list[Batch]:
        """Appends batch by batch with unary calls; those that are left when time is up."""
        backoff = self._settings.new_backoff()
        waiting = deque(batches)
        where, timeout_s = self._settings.endpoint, max(0.1, until_s - time.monotonic())
        with Client(where.target, token=where.token or "", tls=where.tls or False, timeout_s=timeout_s) as client:
            while waiting and (left_s := until_s - time.monotonic()) > 0:
                batch = waiting[0]
                try:
                    result = of_result(batch, client.append(events_of(batch), source=self._settings.source))
                except ProtocolViolation as violation:
                    self._note(str(violation))
                    break
                except TrackdError as error:
                    self._troubled(error)
                    if breaks_for_good(error):
                        break
                    time.sleep(min(left_s, backoff.next_delay_s(error.retry_after_ms)))
                else:
                    waiting.popleft()
                    self._answered(batch, result)
        return [*waiting, *self._again]

    def abandon(self) -> None:
        """For a forked child: whatever is here is the parent's, which sends it."""
        if self._spill is not None:
            self._spill.abandon()


def _whole(batch: Batch) -> bool:
    """Whether it is as it was made, and in no file."""
    origin = cast(Origin, batch.origin)
    return origin.place is None and batch.events == origin.events == origin.left


def _to_send_again(batch: Batch, result: BatchResult) -> Batch | None:
    """The events of a batch that were rejected for now, as a batch in the same place; not for ever."""
    events = [one.event for one in result.rejections if one.retryable]
    if not events or batch.defects >= DEFECTS_MAX:
        return None
    return join(batch.first, [encode(event) for event in events], origin=batch.origin, defects=batch.defects + 1)
