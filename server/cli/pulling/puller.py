"""Brings entries to the daemon and acknowledges them in Redis when they are on disk.

Three threads beside that of the command: one reads and sends, one acknowledges, and the Appender's own, on which
answers come. The account of all entries (server.cli.pulling.ledger) is shared under one lock.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import trackd

from server.cli.importing.jsonl import BadLine
from server.cli.pulling.entry import NOT_AN_EVENT, Entry, event_of
from server.cli.pulling.ledger import Counts, Ledger, Refusal, Settlement, Verdict
from server.cli.pulling.streams import RedisAway, Streams

READ_BYTES = 4 * 1024 * 1024
"""About as much is read at once, as far as the size of entries before tells."""
FIRST_READ = 64
UNDER_WAY_BATCHES = 16
"""So many full batches may be on their way between Redis and its acknowledgement; then nothing more is read."""
BLOCK_MS = 500
"""How long a read waits for entries, and so about the longest until a wish to stop is noticed."""


class Sender(Protocol):
    """What is needed of trackd.Appender."""

    def send(self, events: Iterable[trackd.Event]) -> None:
        """Takes over events; blocks while too many are unanswered."""

    def flush(self) -> object:
        """Returns when all are answered."""

    def close(self) -> object:
        """Flushes, and ends."""

    def abort(self) -> None:
        """Ends at once."""


class Listener(Protocol):
    """Hears of what is worth a line, on any thread."""

    def refused(self, refusal: Refusal) -> None:
        """An entry is not stored."""

    def redis_away(self, error: RedisAway) -> None:
        """Once an outage."""

    def redis_back(self) -> None:
        """It goes on."""


class TooManyRefused(Exception):
    """So many entries were refused and stay pending that something must be wrong with all of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to go about it.

    `batch` is how many events go to the daemon at once, and how many entries are read of a stream at once. Entries that
    any consumer has had for `claim_idle_s` without acknowledging them are taken over. With `until_idle_s` it ends when
    nothing new has come for so long, with 0 as soon as there is nothing. Without a dead-letter stream it fails with
    TooManyRefused once more than `refused_max` entries stay pending. `give_up_after_s`: how long Redis may be away.
    """

    batch: int = 1_000
    claim_idle_s: float = 60.0
    until_idle_s: float | None = None
    dead_letters: bool = False
    refused_max: int = 1_000
    origin: str = ""
    give_up_after_s: float = threading.TIMEOUT_MAX


class Puller:
    """One run: `start`, `stop` when it shall end, `wait`. Then `failure` is what ended it early, None for nothing."""

    def __init__(
        self,
        streams: Streams,
        open_sender: Callable[[Callable[[trackd.BatchResult], None]], Sender],
        plan: Plan,
        listener: Listener,
    ) -> None:
        """`open_sender` gets what is to be called with each final answer."""
        self.failure: BaseException | None = None
        self._streams = streams
        self._plan = plan
        self._listener = listener
        self._changed = threading.Condition()
        self._ledger = Ledger(dead_letters=plan.dead_letters)
        self._settlements: queue.SimpleQueue[Settlement | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._aborted = threading.Event()
        self._count = min(FIRST_READ, plan.batch)
        self._unflushed = False
        self._ahead: tuple[int, Future[list[Entry]]] | None = None
        self._sender = open_sender(self._answered)
        self._threads = [
            threading.Thread(target=act, name=f"trackd-pull-{name}", daemon=True)
            for name, act in (("feed", self._feed), ("settle", self._settle))
        ]

    @property
    def stopping(self) -> bool:
        """Whether it was told to end, or has failed."""
        return self._stopping.is_set()

    @property
    def counts(self) -> Counts:
        """What became of entries so far."""
        with self._changed:
            counts = self._ledger.counts
            return replace(counts, refused=counts.refused.copy())

    @property
    def under_way(self) -> int:
        """Entries that are read and neither acknowledged nor left pending."""
        with self._changed:
            return self._ledger.under_way

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Reads nothing more; what is under way goes on to its end. May be called from a signal handler."""
        self._stopping.set()

    def abort(self) -> None:
        """Ends without waiting for answers: what is under way stays pending."""
        self._stopping.set()
        self._aborted.set()
        with self._changed:
            self._changed.notify_all()
        self._sender.abort()

    def wait(self, timeout_s: float) -> bool:
        """Whether all has ended, within this time."""
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _fail(self, error: BaseException) -> None:
        self._stopping.set()
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()

    # The thread that reads and sends.

    def _feed(self) -> None:
        try:
            with ThreadPoolExecutor(1, "trackd-pull-ahead") as self._reader:
                self._pull()
                if self._ahead:
                    self._send(self._last_read())
            self._flush()
            self._sender.close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the command must learn of it
            self._fail(error)
            self._sender.abort()
        finally:
            self._settlements.put(None)

    def _pull(self) -> None:
        claim_at_s = 0.0
        idle_since_s = time.monotonic()
        outage = _Outage(self._plan.give_up_after_s, self._stopping, self._listener)
        recover = True
        while not self._stopping.is_set():
            try:
                if recover:
                    self._take_up_pending()
                    recover = False
                if time.monotonic() >= claim_at_s:
                    self._claim()
                    claim_at_s = time.monotonic() + self._plan.claim_idle_s / 2
                entries, more = self._read()
                outage.over()
            except RedisAway as away:
                # An answer may have been lost on its way, with entries that are ours now.
                recover = True
                outage.wait(away)
                continue
            if entries:
                self._count = _next_count(entries, self._count, self._plan.batch)
                if more:
                    # While this is made into events.
                    self._ahead = self._count, self._reader.submit(self._streams.read, self._count, 0)
                self._send(entries, more=more)
                idle_since_s = time.monotonic()
            elif self._unflushed:
                self._flush()
            elif self._idle_for(time.monotonic() - idle_since_s):
                return

    def _read(self) -> tuple[list[Entry], bool]:
        """New entries, those that were read ahead or what there is now; and whether there are more, most likely."""
        if self._ahead:
            (asked, ahead), self._ahead = self._ahead, None
            entries = ahead.result()
        else:
            asked = self._count
            entries = self._streams.read(asked, self._block_ms())
        return entries, len(entries) >= asked

    def _last_read(self) -> list[Entry]:
        """What was read ahead when the end came. An answer that was lost stays pending."""
        try:
            return self._read()[0]
        except RedisAway:
            return []

    def _block_ms(self) -> int:
        if self._unflushed or self._plan.until_idle_s == 0:
            return 0
        if self._plan.until_idle_s is None:
            return BLOCK_MS
        return max(1, min(BLOCK_MS, int(self._plan.until_idle_s * 1_000)))

    def _idle_for(self, seconds: float) -> bool:
        return self._plan.until_idle_s is not None and seconds >= self._plan.until_idle_s

    def _take_up_pending(self) -> None:
        """What was given to this consumer, in a run before this one or in an answer that never arrived."""
        for stream in self._streams.names:
            after = "0"
            while not self._stopping.is_set():
                entries = self._streams.pending(stream, after, self._count)
                if not entries:
                    break
                after = entries[-1].id
                self._send(entries, more=True)

    def _claim(self) -> None:
        """What other consumers left behind."""
        for stream in self._streams.names:
            cursor: str | None = "0-0"
            while cursor is not None and not self._stopping.is_set():
                claimed = self._streams.claim(stream, cursor, int(self._plan.claim_idle_s * 1_000), self._count)
                cursor = claimed.cursor
                self._send(claimed.entries, claimed=True)

    def _send(self, entries: Sequence[Entry], *, claimed: bool = False, more: bool = False) -> None:
        """Hands entries to the sender. Unless there are more, waits for the answers; the next ones gather meanwhile."""
        with self._changed:
            fresh, settlement = self._ledger.take(entries, claimed=claimed)
        self._put(settlement)
        events, good, bad = self._convert(fresh)
        if bad:
            with self._changed:
                verdict = self._ledger.refuse(bad)
            self._tell(verdict)
        with self._changed:
            self._ledger.sending(good)
        self._unflushed = self._unflushed or bool(good)
        self._sender.send(events)
        if not more or self._ledger.suspicious:
            self._flush()
        self._wait_for_room()

    def _convert(self, entries: Iterable[Entry]) -> tuple[list[trackd.Event], list[Entry], list[Refusal]]:
        events, good, bad = [], [], []
        origin = self._plan.origin
        for entry in entries:
            try:
                events.append(event_of(entry, origin))
            except BadLine as line:
                bad.append(Refusal(entry, NOT_AN_EVENT, str(line), line.why))
            else:
                good.append(entry)
        return events, good, bad

    def _flush(self) -> None:
        """Waits for all answers; what the daemon could not take as a whole batch goes to it event by event."""
        if not self._unflushed:
            return
        self._sender.flush()
        while suspects := self._suspects():
            for entry in suspects:
                with self._changed:
                    self._ledger.sending([entry])
                self._sender.send([event_of(entry, self._plan.origin)])
                self._sender.flush()
        self._unflushed = False

    def _suspects(self) -> list[Entry]:
        with self._changed:
            return self._ledger.suspects()

    def _wait_for_room(self) -> None:
        most = UNDER_WAY_BATCHES * self._plan.batch
        with self._changed:
            if self._ledger.under_way < most:
                return
        # With partial batches all may wait for a flush.
        self._flush()
        with self._changed:
            self._changed.wait_for(lambda: self._ledger.under_way < most or self._stopping.is_set())

    # Threads of the sender, and the one above.

    def _answered(self, result: trackd.BatchResult) -> None:
        with self._changed:
            verdict = self._ledger.answered(result)
        self._tell(verdict)

    def _tell(self, verdict: Verdict) -> None:
        self._put(verdict.settlement)
        for refusal in verdict.refused:
            self._listener.refused(refusal)
        if self._ledger.counts.parked > self._plan.refused_max:
            raise TooManyRefused(
                f"more than {self._plan.refused_max:,} entries were refused and stay pending; see the reasons, and "
                "keep such entries with --dead-letter, or allow more with --refused-max"
            )

    def _put(self, settlement: Settlement) -> None:
        if settlement.acknowledge or settlement.dead:
            self._settlements.put(settlement)

    # The thread that acknowledges.

    def _settle(self) -> None:
        outage = _Outage(self._plan.give_up_after_s, self._aborted)
        try:
            while settlement := self._settlements.get():
                while not self._settled(settlement, outage):
                    if self._aborted.is_set():
                        return
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _settled(self, settlement: Settlement, outage: _Outage) -> bool:
        try:
            self._streams.settle(settlement)
        except RedisAway as away:
            outage.wait(away)
            return False
        outage.over()
        with self._changed:
            self._ledger.done(settlement)
            self._changed.notify_all()
        return True


class _Outage:
    """Waits while Redis is away, with backoff, and gives up in the end."""

    def __init__(self, give_up_after_s: float, ending: threading.Event, listener: Listener | None = None) -> None:
        self._give_up_after_s = give_up_after_s
        self._ending = ending
        self._listener = listener
        self._backoff = trackd.Backoff(first_s=0.05, max_s=2.0)
        self._since_s: float | None = None

    def wait(self, away: RedisAway) -> None:
        """Returns when it is time to try again, or to end. Raises `away` when it has been too long."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
            if self._listener:
                self._listener.redis_away(away)
        if now_s - self._since_s >= self._give_up_after_s:
            raise away
        self._ending.wait(self._backoff.next_delay_s())

    def over(self) -> None:
        """Redis has answered."""
        if self._since_s is not None:
            if self._listener:
                self._listener.redis_back()
            self._since_s = None
            self._backoff.reset()


def _next_count(entries: Sequence[Entry], count: int, most: int) -> int:
    """How many entries to read at once next: about READ_BYTES of such as these; at most twice as many as this time."""
    size = sum(sum(map(len, entry.content)) for entry in entries)
    fitting = READ_BYTES * len(entries) // max(size, 1)
    return max(1, min(most, count * 2, fitting))
