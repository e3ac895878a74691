"""A consumer group in memory, and a daemon without gRPC: what `trackd pull` stands between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import trackd

from server.cli.pulling.entry import Entry
from server.cli.pulling.ledger import Refusal, Settlement
from server.cli.pulling.puller import Plan, Puller
from server.cli.pulling.streams import Claimed, RedisAway

Key = tuple[str, str]
PATIENCE_S = 20.0


def nothing() -> None:
    """No fault."""


def number(identifier: str) -> tuple[int, int]:
    """The order of entry ids."""
    milliseconds, _, sequence = identifier.partition("-")
    return int(milliseconds), int(sequence or 0)


def says(**fields: str) -> list[bytes]:
    """The content of an entry."""
    return [part.encode() for pair in fields.items() for part in pair]


@dataclass
class Group:
    """What the server knows: entries, who was given which of them when, and what ended up as a dead letter."""

    streams: dict[str, dict[str, list[bytes]]] = field(default_factory=dict)
    given: dict[str, tuple[int, int]] = field(default_factory=dict)
    pending: dict[Key, tuple[str, float]] = field(default_factory=dict)
    dead: list[Refusal] = field(default_factory=list)
    now_s: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, stream: str, *contents: list[bytes]) -> list[Key]:
        """Adds entries, a millisecond apart."""
        with self.changed:
            entries = self.streams.setdefault(stream, {})
            first = 1_764_000_000_000 + len(entries)
            added = [f"{first + place}-0" for place in range(len(contents))]
            entries.update(zip(added, contents, strict=True))
            self.changed.notify_all()
        return [(stream, one) for one in added]

    def trim(self, *keys: Key) -> None:
        """Deletes entries; those that are pending stay so."""
        for stream, identifier in keys:
            del self.streams[stream][identifier]


class FakeStreams:
    """One consumer of the group. `fault` is called before and behind everything; it may raise RedisAway."""

    def __init__(
        self, group: Group, consumer: str = "one", names: Sequence[str] = ("s",), fault: Callable[[], None] = nothing
    ) -> None:
        self.names = names
        self.group = group
        self.consumer = consumer
        self.fault = fault

    def pending(self, stream: str, after: str, count: int) -> list[Entry]:
        """As Redis does."""
        self.fault()
        with self.group.changed:
            mine = [key for key, (owner, _) in self.group.pending.items() if owner == self.consumer]
            behind = sorted(number(one) for name, one in mine if name == stream and number(one) > number(after))
            found = [self._entry(stream, "{}-{}".format(*one)) for one in behind[:count]]
        self.fault()
        return found

    def claim(self, stream: str, cursor: str, idle_ms: int, count: int) -> Claimed:
        """As Redis does, in one step."""
        self.fault()
        claimed = []
        with self.group.changed:
            for key, (_, since_s) in sorted(self.group.pending.items()):
                if key[0] == stream and (self.group.now_s - since_s) * 1_000 >= idle_ms:
                    entry = self._entry(*key)
                    if entry.content:
                        self.group.pending[key] = (self.consumer, self.group.now_s)
                    else:
                        del self.group.pending[key]
                    claimed.append(entry)
        self.fault()
        return Claimed(claimed, None)

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """As Redis does."""
        self.fault()
        with self.group.changed:
            found = self._give(count)
            if not found and block_ms:
                self.group.changed.wait(block_ms / 1_000)
                found = self._give(count)
        self.fault()
        return found

    def settle(self, settlement: Settlement) -> None:
        """As Redis does."""
        self.fault()
        with self.group.changed:
            for entry in settlement.acknowledge:
                self.group.pending.pop(entry.key, None)
            for refusal in settlement.dead:
                if self.group.pending.pop(refusal.entry.key, None):
                    self.group.dead.append(refusal)
        self.fault()

    def _give(self, count: int) -> list[Entry]:
        found = []
        for stream in self.names:
            after = self.group.given.get(stream, (0, 0))
            entries = self.group.streams.get(stream, {})
            fresh = [one for one in entries if number(one) > after][:count]
            for one in fresh:
                self.group.given[stream] = number(one)
                self.group.pending[stream, one] = (self.consumer, self.group.now_s)
                found.append(self._entry(stream, one))
        return found

    def _entry(self, stream: str, identifier: str) -> Entry:
        return Entry(stream, identifier, self.group.streams[stream].get(identifier, []))


@dataclass
class FakeDaemon:
    """Stores by id. Rejects events of type "bad", puts off those of type "later", fails over batches with "broken"."""

    stored: dict[bytes, trackd.Event] = field(default_factory=dict)
    answered: int = 0
    away: threading.Event = field(default_factory=threading.Event)

    def sender(self, answer: Callable[[trackd.BatchResult], None], batch: int = 10) -> FakeSender:
        """A sender whose answers go there."""
        return FakeSender(self, answer, batch)

    def take(self, first: int, events: Sequence[trackd.Event]) -> trackd.BatchResult:
        """What the daemon says to a batch."""
        if any(event.type == "broken" for event in events):
            error = trackd.TrackdError("it fails", code="INTERNAL", reason="INTERNAL")
            rejected = [
                trackd.Rejection(first + place, event, "INTERNAL", "it fails") for place, event in enumerate(events)
            ]
            return trackd.BatchResult(first, len(events), rejected=len(events), rejections=tuple(rejected), error=error)
        accepted = duplicate = 0
        rejections = []
        for place, event in enumerate(events, first):
            if event.type in ("bad", "later"):
                retryable = event.type == "later"
                rejections.append(trackd.Rejection(place, event, "TYPE_INVALID", "a bad one", "type", retryable))
            elif event.id in self.stored:
                assert self.stored[event.id] == event
                duplicate += 1
            else:
                self.stored[event.id] = event
                accepted += 1
        self.answered += len(events)
        return trackd.BatchResult(
            first, len(events), accepted, duplicate, len(rejections), rejections=tuple(rejections)
        )


class FakeSender:
    """Batches like an Appender, and waits like one while the daemon is away."""

    def __init__(self, daemon: FakeDaemon, answer: Callable[[trackd.BatchResult], None], batch: int) -> None:
        self._daemon = daemon
        self._answer = answer
        self._batch = batch
        self._part: list[trackd.Event] = []
        self._sent = 0
        self._aborted = threading.Event()
        self.largest = 0

    def send(self, events: Iterable[trackd.Event]) -> None:
        """Full batches are answered at once."""
        for event in events:
            self._part.append(event)
            if len(self._part) >= self._batch:
                self.flush()

    def flush(self) -> None:
        """Answers what is left."""
        while self._daemon.away.is_set() and not self._aborted.is_set():
            self._aborted.wait(0.005)
        if self._aborted.is_set():
            raise trackd.GaveUp("aborted", unacknowledged=len(self._part), cause=None)
        part, self._part = self._part, []
        if part:
            first, self._sent = self._sent, self._sent + len(part)
            self.largest = max(self.largest, len(part))
            self._answer(self._daemon.take(first, part))

    def close(self) -> None:
        """Flushes."""
        self.flush()

    def abort(self) -> None:
        """Answers nothing more."""
        self._aborted.set()


@dataclass
class Heard:
    """A listener that keeps what it hears."""

    refusals: list[Refusal] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)

    def refused(self, refusal: Refusal) -> None:
        """Kept."""
        self.refusals.append(refusal)

    def redis_away(self, error: RedisAway) -> None:
        """Kept."""
        self.outages.append(str(error))

    def redis_back(self) -> None:
        """Kept."""
        self.outages.append("back")


ONCE = Plan(batch=10, until_idle_s=0.0)


def pulled(streams: FakeStreams, daemon: FakeDaemon, plan: Plan = ONCE, heard: Heard | None = None) -> Puller:
    """A run from its beginning to its end."""
    puller = Puller(streams, lambda answer: daemon.sender(answer, plan.batch), plan, heard or Heard())
    puller.start()
    assert puller.wait(PATIENCE_S)
    return puller
